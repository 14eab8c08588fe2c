"""Repeated exposures of a field, ready to be compared: levelled, on the same pixels, combined."""

from dataclasses import dataclass

import numpy as np
import sep
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates, minimum_filter, spline_filter

from crattn_stage.detection.preprocessing import sky_statistics, sky_subtracted
from crattn_stage.detection.saturation import surroundings
from crattn_stage.detection.sources import inside, stamps
from crattn_stage.quality.registration import Stars

#: Side of the boxes in which the background of an exposure is measured, pixels.
BOX = 64
#: Rows that are resampled at a time.
BAND = 256
#: What is so many times the noise above the middle of the others, and the fraction of it, is only in one of them.
UNLIKE, AGREE = 5.0, 0.3
#: Pixels at the edge that are not judged, and most rows or columns there that may be no sky, such as overscan.
EDGE, NO_SKY = 4, 48
#: Most stars by which it is measured how much those of two exposures differ.
COMPARED = 50


@dataclass
class Repeat:
    """One exposure of a detector, ready to be compared with others.

    Attributes
    ----------
    name : str
    image : `numpy.ndarray`
        2-D float32, background subtracted; 0 where bad.
    bad : `numpy.ndarray` of bool
    noise : `numpy.ndarray`
        Float32, the noise of the sky in each pixel.
    gain : `numpy.ndarray` or None
        Float32, electrons per unit of the image.
    window : tuple of `slice`
        Rows and columns without the rim, which is not judged.
    saturated : `numpy.ndarray` of bool
        Pixels that hold no more light.
    stars : `crattn_stage.quality.registration.Stars`
    wcs : `astropy.wcs.WCS` or None
    fwhm : float or None
        Of its stars, pixels.
    """

    name: str
    image: np.ndarray
    bad: np.ndarray
    noise: np.ndarray
    gain: np.ndarray | None
    window: tuple
    saturated: np.ndarray
    stars: Stars | None = None
    wcs: object = None
    fwhm: float | None = None


def prepare(name, image, bad, sections, gains, saturated=None):
    """Subtract the background of an exposure, and measure its noise.

    Parameters
    ----------
    name : str
    image : `numpy.ndarray`
        2-D, ADU or electron.
    bad : `numpy.ndarray` of bool
        True on pixels that are no use.
    sections : list of tuple of `slice`
        Of the amplifiers.
    gains : list of float or None
        Of the amplifiers, electrons per unit of the image.
    saturated : `numpy.ndarray` of bool, optional
        Pixels that hold no more light; none by default.

    Returns
    -------
    `Repeat`
        Without stars.
    """
    saturated = np.zeros(image.shape, bool) if saturated is None else saturated
    level = sky_subtracted(image, sections, ~bad)
    bad = bad | ~np.isfinite(level)
    level[bad] = 0
    level = np.ascontiguousarray(level)
    level -= background(level, bad, BOX)
    level[bad] = 0
    window = _window(level, bad)
    # Columns and rows that are offset: bad ones, and amplifiers that the header does not tell.
    for axis in (0, 1):
        _level_lines(level, bad, axis)
    noise = np.ones(image.shape, np.float32)
    gain = np.zeros(image.shape, np.float32)
    for section, own in zip(sections, gains, strict=True):
        good = ~bad[section]
        if good.any():
            sky, sigma = sky_statistics(level[section], good)
            noise[section] = sigma
            raw = float(np.median(image[section][good][:: max(1, good.sum() // 100_000)]))
            # Unknown, it is at least what makes all the noise that of the sky.
            gain[section] = own or max(raw - sky, 0) / sigma**2
    return Repeat(name, level, bad, noise, gain if (gain > 0).any() else None, window, saturated)


def _window(level, bad):
    """Return the rows and columns that are judged: those of the sky, without a rim."""
    known = np.where(bad, np.nan, level)
    sigma = 1.4826 * float(np.nanmedian(np.abs(known))) if (~bad).any() else 0.0
    window = []
    for axis in (1, 0):
        used = np.flatnonzero(2 * bad.sum(axis) < bad.shape[axis])
        if not used.size:
            return slice(0, 0), slice(0, 0)
        first, last = int(used[0]), int(used[-1]) + 1
        lines = known if axis == 1 else known.T
        # Overscan that was left, and lines that are read out first, have another level than the sky.
        near, far = (np.where(used)[0] for used in (used < first + NO_SKY, used >= last - NO_SKY))
        off = np.abs(np.nanmedian(lines[used], 1)) > sigma
        first += _run(off[near])
        last -= _run(off[far][::-1])
        window.append(slice(first + EDGE, max(first + EDGE, last - EDGE)))
    return tuple(window)


def _run(flags):
    """Return how many flags are true before the first that is not."""
    return int(np.argmin(flags)) if not flags.all() else len(flags)


def background(image, bad, box):
    """Return the background of an image.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D float32, contiguous.
    bad : `numpy.ndarray` of bool
        Pixels that are left out.
    box : int
        Side of the boxes in which it is measured, pixels.

    Returns
    -------
    `numpy.ndarray`
        Float32; 0 where it cannot be measured.
    """
    try:
        return sep.Background(image, mask=bad, bw=box, bh=box).back()
    except Exception as error:
        # A bare Exception is how sep reports what it cannot do.
        if type(error) is not Exception:
            raise
        return np.zeros_like(image)


def _level_lines(image, bad, axis):
    """Subtract the median of each column or row, where it is off by more than it can be by chance."""
    known = np.where(bad, np.nan, image)
    count = (~bad).sum(axis)
    used = count >= 64
    if not used.any():
        return
    view = known if axis == 0 else known.T
    middle = np.zeros(view.shape[1], np.float32)
    middle[used] = np.nanmedian(view[:, used], 0)
    sigma = 1.4826 * np.median(np.abs(image[~bad] - np.median(image[~bad])))
    middle[np.abs(middle) < 4 * 1.2533 * sigma / np.sqrt(np.maximum(count, 1))] = 0
    image -= middle[None, :] if axis == 0 else middle[:, None]
    image[bad] = 0


def resample(repeat, mapping, shape, blur=0.0):
    """Return an exposure on the pixels of another.

    Parameters
    ----------
    repeat : `Repeat`
        The exposure to resample.
    mapping : `crattn_stage.quality.registration.Mapping`
        From the pixels of the other to its own.
    shape : tuple of int
        Of the other.
    blur : float
        Standard deviation of a Gaussian by which it is smoothed first, pixels.

    Returns
    -------
    image : `numpy.ndarray`
        Float32, by cubic splines, but not below the lowest of the four pixels around: a hit makes no ring.  NaN where
        it has no good pixel, infinite in and around saturated pixels.
    """
    image = gaussian_filter(repeat.image, blur) if blur else repeat.image
    splines = spline_filter(image, output=np.float32)
    lowest = minimum_filter(image, 2, origin=-1)
    bad, full = binary_dilation(repeat.bad, np.ones((3, 3))), surroundings(repeat.saturated)
    result = np.full(shape, np.nan, np.float32)
    rows, columns = repeat.window
    for start in range(0, shape[0], BAND):
        stop = min(start + BAND, shape[0])
        x, y = mapping.rows(start, stop)
        there = (x >= columns.start) & (y >= rows.start) & (x <= columns.stop - 1) & (y <= rows.stop - 1)
        if not there.any():
            continue
        x, y = x[there], y[there]
        value = map_coordinates(splines, (y, x), prefilter=False)
        corner = np.floor(y).astype(int), np.floor(x).astype(int)
        value = np.maximum(value, lowest[corner])
        place = np.round(y).astype(int), np.round(x).astype(int)
        value[bad[place]] = np.nan
        value[full[place]] = np.inf
        result[start:stop][there] = value
    return result


def combine(planes, noises):
    """Combine what the other exposures say, without what only some of them have.

    Parameters
    ----------
    planes : list of `numpy.ndarray`
        Float32, on the same pixels and to the same scale, from `resample`.
    noises : list of float
        Their noise.

    Returns
    -------
    others : `numpy.ndarray`
        Float32; of two that disagree, the lower; NaN without any, and where one of them is saturated.
    count : `numpy.ndarray` of int
        How many exposures have a good pixel.
    """
    if len(planes) == 1:
        return np.where(np.isinf(planes[0]), np.nan, planes[0]), np.isfinite(planes[0]).astype(np.int8)
    others, number = np.full(planes[0].shape, np.nan, np.float32), np.zeros(planes[0].shape, np.int8)
    sigma = float(np.sqrt(2) * np.median(noises))
    for start in range(0, len(others), BAND):
        rows = slice(start, start + BAND)
        stack = np.sort(np.stack([plane[rows] for plane in planes]), axis=0)
        count = np.isfinite(stack).sum(0)
        # The median, of two the lower; NaN sorts last.
        middle = np.take_along_axis(stack, np.maximum(count - 1, 0)[None] // 2, 0)[0]
        limit = middle + UNLIKE * sigma + AGREE * np.maximum(middle, 0)
        with np.errstate(invalid="ignore"):
            use = np.isfinite(stack) & (stack <= limit)
        total, used = np.where(use, stack, 0).sum(0), use.sum(0)
        known = (used > 0) & ~np.isinf(stack).any(0)
        others[rows] = np.where(known, total / np.maximum(used, 1), np.nan)
        number[rows] = count
    return others, number


def star_difference(own, plane, places, fwhm):
    """Return by how much the stars of two exposures differ, as a fraction of their light.

    Parameters
    ----------
    own : `Repeat`
    plane : `numpy.ndarray`
        Float32, another exposure on its pixels and to its scale, from `resample`.
    places : `numpy.ndarray`
        (stars, 2), x and y of the stars in common, the brightest first.
    fwhm : float
        Of the stars, pixels.

    Returns
    -------
    float or None
        Of the median star, the difference summed over its pixels, up to 2; None without stars.
    """
    radius = max(2, round(1.5 * fwhm))
    columns, rows = np.round(places).astype(int).T
    use = inside(plane.shape, rows, columns, radius)
    mine, theirs = (
        stamps(image, rows[use][:COMPARED], columns[use][:COMPARED], radius) for image in (own.image, plane)
    )
    good = np.isfinite(theirs).all(1) & (mine.sum(1) > 0) & (theirs.sum(1) > 0)
    if not good.any():
        return None
    apart = np.abs(mine[good] - theirs[good]).sum(1) / (mine[good] + theirs[good]).sum(1)
    return float(2 * np.median(apart))
