"""What other exposures of a field say of an exposure's mask: what differs between them beyond noise is a hit."""

from dataclasses import dataclass, field

import numpy as np
import sep
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import (
    binary_dilation,
    find_objects,
    gaussian_filter,
    label,
    map_coordinates,
    maximum,
    maximum_filter,
    maximum_position,
    minimum_filter,
    spline_filter,
)
from scipy.special import ndtr
from scipy.stats import binom

from crattn_stage.detection.preprocessing import sky_statistics, sky_subtracted
from crattn_stage.detection.saturation import surroundings
from crattn_stage.detection.sources import inside, stamps
from crattn_stage.quality.registration import Stars
from crattn_stage.quality.summary import Sums, binomial_interval

#: Side of the boxes in which the background is measured, of an exposure and of the difference of two; pixels.
BOX, DIFFERENCE_BOX = 64, 32
#: Rows that are resampled at a time.
BAND = 256
#: A hit has a pixel above the first, and reaches down to the second; in units of the noise of the difference.
STRONG, WEAK = 5.0, 3.0
#: A hit may have this peak if pixels around it together are above the first.
PEAK = 4.25
#: Pieces of a hit may be twice this many pixels apart.
GAP = 2
#: A masked object with a pixel above the first, in it or as near as the second, may be a hit too faint to be seen by
#: itself.  No more of them are than there are hits with a peak of `FAINT` to the last: noise looks like that, too.
DOUBTFUL, RIM, LIKE_THEM = 3.2, 2, 7.0
#: From the first peak on, in units of the exposure's own noise, a hit counts, and from the second on it is bright.
FAINT, BRIGHT = 5.0, 10.0
#: Noise hides so many hits with a true peak above `FAINT` for each one with a peak of up to 1 above it: the integral of
#: the normal distribution up to 0.
HIDDEN = 1 / np.sqrt(2 * np.pi)
#: Least peak of a hit that is an example for training, in units of the exposure's own noise.
EXEMPLARY = 8.0
#: What is allowed for another seeing, as a fraction of the brightest pixel nearby: least, most, and without stars.
ALLOWED = (0.1, 0.8, 0.4)
#: Two exposures agree on a source within this fraction of it, and the noise.
AGREE = 0.3
#: The light of the others, smoothed, is a source above this many times its noise.
SOURCE = 3.0
#: What is allowed for a source is many times the noise: nothing can be said beside it.
TOO_BRIGHT = 10.0
#: A trail is longer than a hit can be, or longer than the second and as wide as a star; pixels.
TRAIL, WIDE_TRAIL = 150, 50
#: Fewest pixels by which a place of the detector moves on the sky for its bad pixels to be told from the sky's sources.
DITHERED = 2.0
#: A bad pixel is within this factor as bright in most of the other exposures, or brighter than the sky explains in one.
ALIKE = 5.0
#: What the same place of the sky has of the light of a pixel elsewhere on the detector, if it explains it.
EXPLAINED = 0.2
#: Pixels at the edge that are not judged, and most rows or columns there that may be no sky, such as overscan.
EDGE, NO_SKY = 4, 48
#: Hits know nothing of sources: as many lie on them as by their area, but for a coincidence of this probability.  They
#: are sources where what is allowed is so many times the noise.
COINCIDENCE, SOURCES = 1e-3, (1.0, 10.0, 100.0)
#: Fraction of their light by which the stars of two exposures may differ, and most stars by which it is measured.
DIFFER, COMPARED = 0.4, 50
#: A set that did not move is not graded if more of its bright hits are single pixels, of which there are at least so
#: many, and more than this fraction flickers, or none can be seen to.
SINGLE, SINGLES, FLICKERING = 0.5, 10, 0.05
#: Fewest stars in common for a mask with as many objects.
STARS = 20
#: Above this S/N an object in one exposure only can be told from a star, if the stars are at least this wide, pixels.
SHAPED, STAR_FWHM = 12.0, 2.5
#: Most reference stars, and largest difference of shape from one of them, in units of the length of the stamp.
REFERENCES, SAME_SHAPE = 200, 0.22

_AROUND = np.ones((3, 3))


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
    level -= _background(level, bad, BOX)
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


def _background(image, bad, box):
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
    bad, full = binary_dilation(repeat.bad, _AROUND), surroundings(repeat.saturated)
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
        limit = middle + STRONG * sigma + AGREE * np.maximum(middle, 0)
        with np.errstate(invalid="ignore"):
            use = np.isfinite(stack) & (stack <= limit)
        total, used = np.where(use, stack, 0).sum(0), use.sum(0)
        known = (used > 0) & ~np.isinf(stack).any(0)
        others[rows] = np.where(known, total / np.maximum(used, 1), np.nan)
        number[rows] = count
    return others, number


@dataclass
class Truth:
    """What the other exposures say of one.

    Attributes
    ----------
    excess : `numpy.ndarray`
        Float32, what is above the others, in the unit of the image; 0 where nothing is known.
    others : `numpy.ndarray`
        Float32, what the others have there.
    allowed : `numpy.ndarray`
        Float32, what another seeing may add.
    noise : `numpy.ndarray`
        Float32, of the excess.
    own_noise : `numpy.ndarray`
        Float32, of the exposure.
    judged : `numpy.ndarray` of bool
        Pixels of which something can be said.
    objects : `numpy.ndarray` of int
        Numbers of the hits, 0 elsewhere.
    peaks : `numpy.ndarray`
        S/N of the hits, in order.
    fixed : `numpy.ndarray` of bool
        Bad pixels: they stay where they are while the sky moves.
    astray : tuple of (int, int, float) or None
        If more sources seem to be hit than can be: the hits on them, all hits, and those on them by their area.  They
        are left out.
    doubted : `numpy.ndarray` of bool or None
        These sources.
    """

    excess: np.ndarray
    others: np.ndarray
    allowed: np.ndarray
    noise: np.ndarray
    own_noise: np.ndarray
    judged: np.ndarray
    objects: np.ndarray = None
    peaks: np.ndarray = None
    fixed: np.ndarray = None
    astray: tuple | None = None
    doubted: np.ndarray | None = None

    @property
    def strong(self):
        """The pixels of hits that are significant by themselves."""
        return (self.objects > 0) & (self.excess > STRONG * self.noise + self.allowed)


def find_hits(own, others, count, fwhm, neighbours=()):
    """Find the pixels of an exposure that are above what others have there.

    Parameters
    ----------
    own : `Repeat`
    others : `numpy.ndarray`
        From `combine`, in the unit of the exposure.
    count : `numpy.ndarray` of int
        Likewise.
    fwhm : float
        Of the stars, pixels.
    neighbours : iterable of (`Repeat`, `crattn_stage.quality.registration.Mapping`, `Mapping` or None)
        Other exposures of the same detector, whose bad pixels are at the same places, with the mapping to their pixels
        and from them.

    Returns
    -------
    `Truth`
    """
    judged = np.zeros(own.bad.shape, bool)
    judged[own.window] = True
    judged &= (count > 0) & ~own.bad & np.isfinite(others)
    others = np.where(judged, others, 0).astype(np.float32)
    others = _denoised(others, judged, fwhm)
    # Below zero it is noise.
    others = np.maximum(others, -own.noise / 2)
    excess = np.where(judged, own.image - others, 0).astype(np.float32)
    reach = 2 * round(fwhm / 2) + 1
    near = maximum_filter(np.maximum(others, 0), max(3, reach))
    # What is bright is no background.
    with_source = near > 10 * own.noise
    excess -= _background(np.ascontiguousarray(excess), ~judged | with_source, DIFFERENCE_BOX)
    excess[~judged] = 0
    photons = np.zeros_like(near)
    if own.gain is not None:
        photons = np.divide(np.maximum(others, 0), own.gain, out=photons, where=own.gain > 0)
    own_noise = np.sqrt(own.noise**2 + photons)
    noise = np.sqrt((own.noise * _noise_factor(excess / own.noise, count, judged & ~with_source)) ** 2 + 1.5 * photons)
    allowed = _allowance(excess, others, near, own, noise, judged, fwhm) * near
    truth = Truth(excess, others, allowed, noise, own_noise, judged)
    # A star that is narrow and saturated, but no hit that is.
    judged &= ~binary_dilation(own.saturated & with_source, _AROUND, iterations=max(2, round(fwhm)))
    trails = _trails(truth, fwhm)
    judged &= ~trails
    above = judged & (excess > WEAK * noise + allowed)
    numbers, found = label(above, _AROUND)
    strong = _significant(np.where(judged, (excess - allowed) / noise, 0))
    keep = np.zeros(found + 1, bool)
    keep[np.unique(numbers[strong])] = True
    keep[0] = False
    truth.fixed = _fixed(own, truth, strong, neighbours)
    _drop_fixed(keep, numbers, strong, truth.fixed)
    _drop_stars(keep, numbers, truth, own, fwhm)
    gone = ~keep[numbers] & (numbers > 0) & strong
    gone = np.isin(numbers, np.unique(numbers[gone])) & (numbers > 0)
    # What differs and is no hit says nothing of a mask.
    judged &= ~binary_dilation(gone & ~truth.fixed, np.ones((5, 5)))
    hits = keep[numbers]
    # Pieces of a track are one hit.
    joined, kept = label(binary_dilation(hits, np.ones((2 * GAP + 1,) * 2)), _AROUND)
    truth.objects = np.where(hits, joined, 0)
    _drop_sources(truth, kept)
    truth.objects, kept = _numbered(truth.objects)
    truth.peaks = np.atleast_1d(maximum(excess / own_noise, truth.objects, np.arange(1, kept + 1))) if kept else []
    return truth


def _numbered(objects):
    """Number objects without gaps; return them and how many there are."""
    known, numbers = np.unique(objects, return_inverse=True)
    return numbers.reshape(objects.shape) + (known[0] > 0), int((known > 0).sum())


def _drop_sources(truth, found):
    """Leave out what lies on sources, if that is more than hits can be: it is a difference of the stars."""
    if not found:
        return
    places = tuple(np.transpose(maximum_position(truth.excess, truth.objects, np.arange(1, found + 1))))
    source = truth.allowed / truth.noise
    for level in SOURCES:
        lie = source[places] > level
        chance = float((truth.judged & (source > level)).sum() / max(truth.judged.sum(), 1))
        if binom.sf(lie.sum() - 1, found, chance) > COINCIDENCE:
            continue
        truth.astray, truth.doubted = (int(lie.sum()), found, found * chance), source > level
        gone = np.isin(truth.objects, 1 + np.flatnonzero(lie)) & (truth.objects > 0)
        truth.objects[gone] = 0
        truth.judged &= ~binary_dilation(gone, np.ones((5, 5)))
        return


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


def single_pixels(truth):
    """Return how many of the bright hits are single pixels, how many there are, and how many pixels flicker.

    Parameters
    ----------
    truth : `Truth`
        Of exposures that did not move.

    Returns
    -------
    single, bright, flickering : int
    """
    sizes = np.bincount(truth.objects.ravel(), minlength=len(truth.peaks) + 1)[1:]
    bright = np.asarray(truth.peaks) > BRIGHT
    return int((bright & (sizes == 1)).sum()), int(bright.sum()), label(truth.fixed, _AROUND)[1]


def _denoised(others, judged, fwhm):
    """Smooth what the others have where it is only noise, so that it adds none."""
    smooth = gaussian_filter(others, max(0.8, fwhm / 2.355))
    level, sigma = sky_statistics(smooth, judged) if judged.any() else (0.0, 1.0)
    source = binary_dilation(smooth - level > SOURCE * sigma, _AROUND, iterations=max(1, round(fwhm / 2)))
    return np.where(source, others, smooth)


def _noise_factor(significance, count, blank):
    """Return the noise of the difference in units of the exposure's own, by how many others there are."""
    factor = np.ones(count.shape, np.float32)
    for number in np.unique(count[blank]):
        these = blank & (count == number)
        values = significance[these]
        if values.size >= 1000:
            values = values[:: max(1, values.size // 200_000)]
            factor[count == number] = max(1.0, 1.4826 * np.median(np.abs(values - np.median(values))))
    return factor


def _allowance(excess, others, near, own, noise, judged, fwhm):
    """Return which fraction of a source another seeing may add beside it, measured on the stars."""
    size = 2 * round(fwhm) + 1
    peaks = judged & (others > 30 * noise) & (others == near) & (maximum_filter(others, size) == others)
    rows, columns = np.nonzero(peaks)
    if len(rows) < 10:
        return ALLOWED[2]
    ratio = np.where(judged & (near > 0), (excess - 2 * noise) / np.maximum(near, 1e-30), 0)
    worst = maximum_filter(ratio, size)[rows, columns]
    # Of few stars, one that is hit must not decide.
    return float(np.clip(1.25 * np.percentile(worst, 98 if len(rows) >= 100 else 90), *ALLOWED[:2]))


def _significant(excess):
    """Return the pixels above `STRONG`, and those above `PEAK` that are with those beside them."""
    strong = excess > STRONG
    rows, columns = np.nonzero((excess > PEAK) & ~strong)
    squares = _stamps(excess, rows, columns, 2).reshape(-1, 5, 5)
    best = np.zeros(len(rows))
    for height, width in ((1, 2), (2, 1), (2, 2), (3, 3)):
        sums = sliding_window_view(squares, (height, width), (1, 2)).sum((3, 4)) / np.sqrt(height * width)
        # The windows that hold the pixel.
        mine = sums[:, 3 - height : 3, 3 - width : 3]
        best = np.maximum(best, mine.max((1, 2), initial=0))
    strong[rows, columns] = best > STRONG
    return strong


def _trails(truth, fwhm):
    """Return the trails of satellites and meteors, with a rim."""
    smooth = gaussian_filter(truth.excess / truth.noise, max(0.8, fwhm / 2.355))
    values = smooth[truth.judged]
    trails = np.zeros(smooth.shape, bool)
    if not values.size:
        return trails
    sigma = 1.4826 * np.median(np.abs(values[:: max(1, values.size // 200_000)]))
    above = truth.judged & (smooth > 4 * max(sigma, 1e-3)) & (truth.excess > truth.allowed / 2)
    numbers, _ = label(above, _AROUND)
    for number, box in enumerate(find_objects(numbers), 1):
        length = np.hypot(*(s.stop - s.start for s in box))
        if length < WIDE_TRAIL:
            continue
        pixels = numbers[box] == number
        # At half the typical height, of the unsmoothed difference.
        width = np.count_nonzero(pixels & (truth.excess[box] > np.median(truth.excess[box][pixels]) / 2)) / length
        if length > TRAIL or (fwhm >= STAR_FWHM and width > fwhm and pixels.sum() > length * fwhm):
            trails[box] |= pixels
    return binary_dilation(trails, np.ones((5, 5)), iterations=2) if trails.any() else trails


def _contrast(image, rows, columns):
    """Return by how much pixels exceed the median of the 5x5 around them; NaN at the border."""
    inner = inside(image.shape, rows, columns, 2)
    result = np.full(len(rows), np.nan)
    r, c = rows[inner], columns[inner]
    result[inner] = image[r, c] - np.median(stamps(image, r, c, 2), axis=1)
    return result


def _fixed(own, truth, strong, neighbours):
    """Return the bright pixels that are bright at the same place of the detector in other exposures.

    They are as bright in most of them, or in one, where the sky does not explain it: a pixel that flickers.  Where
    nothing has moved, those that are bright in most are sources of the sky.
    """
    fixed = np.zeros(strong.shape, bool)
    rows, columns = np.nonzero(strong)
    mine = _contrast(own.image, rows, columns)
    votes, voters, clear = (np.zeros(len(rows), int) for _ in range(3))
    on_source = (truth.allowed > truth.noise)[rows, columns]
    for other, mapping, back in neighbours:
        if other.image.shape != own.image.shape:
            continue
        x, y = mapping.at(columns, rows)
        moved = np.hypot(x - columns, y - rows) > DITHERED
        theirs = _contrast(other.image, rows, columns)
        # Bad pixels that the other frame marks are not seen there.
        seen = ~other.bad[rows, columns] & np.isfinite(theirs)
        voters += seen & moved
        noise = other.noise[rows, columns]
        with np.errstate(invalid="ignore"):
            votes += seen & moved & (theirs > WEAK * noise) & (theirs > mine / ALIKE) & (theirs < mine * ALIKE)
            bright = seen & (theirs > STRONG * noise)
        clear += bright & ~moved & ~on_source
        if back is not None:
            clear += bright & moved & ~_explained(own, back, rows, columns, theirs)
    fixed[rows, columns] = ((voters > 0) & (votes > voters / 2)) | (clear > 0)
    return fixed


def _explained(own, back, rows, columns, bright):
    """Return whether an exposure has light where pixels of another lie, or cannot tell."""
    x, y = (np.round(places).astype(int) for places in back.at(columns, rows))
    known = inside(own.image.shape, y, x, 1)
    light = _stamps(own.image, np.where(known, y, 1), np.where(known, x, 1), 1).max(1)
    return ~known | (light > np.maximum(EXPLAINED * bright, WEAK * own.noise[rows, columns]))


def _drop_fixed(keep, numbers, strong, fixed):
    """Leave out the objects most of whose bright pixels are bad pixels."""
    size = len(keep)
    bright = np.bincount(numbers[strong], minlength=size)
    bad = np.bincount(numbers[fixed], minlength=size)
    keep &= 2 * bad < np.maximum(bright, 1)


def _drop_stars(keep, numbers, truth, own, fwhm):
    """Leave out what looks like the exposure's stars: something that moves or varies."""
    if fwhm < STAR_FWHM or own.stars is None:
        return
    radius = int(np.ceil(fwhm))
    references = _stamps(own.image, np.round(own.stars.y).astype(int), np.round(own.stars.x).astype(int), radius)
    # A hit is no star: those that the others have, too.
    there = _stamps(truth.others, np.round(own.stars.y).astype(int), np.round(own.stars.x).astype(int), radius)
    middle = references.shape[1] // 2
    real = (there[:, middle] > 0.3 * references[:, middle]) & (references[:, middle] > 0)
    references = references[real][:REFERENCES]
    if len(references) < 10:
        return
    references /= np.linalg.norm(references, axis=1)[:, None]
    for number, box in enumerate(find_objects(numbers), 1):
        if not keep[number] or max(s.stop - s.start for s in box) > 2 * radius + 3:
            continue
        pixels = np.where(numbers[box] == number, truth.excess[box], -np.inf)
        row, column = (p + s.start for p, s in zip(np.unravel_index(np.argmax(pixels), pixels.shape), box, strict=True))
        if truth.excess[row, column] < SHAPED * truth.noise[row, column]:
            continue
        stamp = _stamps(truth.excess, np.array([row]), np.array([column]), radius)[0]
        length = np.linalg.norm(stamp)
        spread = truth.noise[row, column] * np.sqrt(stamp.size) / max(length, 1e-30)
        distance = np.sqrt(max(0.0, 2 - 2 * float((references @ (stamp / max(length, 1e-30))).max())))
        if distance < np.hypot(SAME_SHAPE, min(spread, 0.3)):
            keep[number] = False


def _stamps(image, rows, columns, radius):
    side = np.arange(-radius, radius + 1)
    rows = np.clip(rows[:, None, None] + side[:, None], 0, image.shape[0] - 1)
    columns = np.clip(columns[:, None, None] + side, 0, image.shape[1] - 1)
    return image[rows, columns].reshape(len(rows), side.size**2).astype(np.float64)


def footprints(own, truth):
    """Return the charge of the hits that are good examples: bright, whole, and on nothing but sky.

    Parameters
    ----------
    own : `Repeat`
        Of known gain.
    truth : `Truth`
        From `find_hits`.

    Returns
    -------
    list of `numpy.ndarray`
        Float32 stamps, electrons above what the other exposures have there; 0 outside of the hit.
    """
    unclear = ~truth.judged | (truth.allowed > truth.noise)
    stamps = []
    for number, (box, peak) in enumerate(zip(find_objects(truth.objects), truth.peaks, strict=True), 1):
        around = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
        rim = binary_dilation(truth.objects[around] == number, _AROUND)
        is_whole = all(s.start > 0 and s.stop < n for s, n in zip(box, own.image.shape, strict=True))
        if peak > EXEMPLARY and is_whole and not (unclear[around] & rim).any():
            mine = truth.objects[box] == number
            stamps.append(np.where(mine, truth.excess[box] * own.gain[box], 0).astype(np.float32))
    return stamps


@dataclass
class Grade(Sums):
    """What a mask found and made up, as other exposures of the field say.

    Attributes
    ----------
    faint, faint_found : float
        Hits with a peak of 5 to 10 times the noise, and those of them with a masked pixel.  Each counts with the
        probability that its peak would be there without noise.
    bright, bright_found : float
        Hits with a higher peak, likewise.
    pixels, pixels_found : int
        Their pixels above 5 times the noise, and those masked.
    objects : int
        Masked objects.
    hit, false, fixed, unjudged : int
        Those that are hits; that the other exposures show as well, or where there is nothing; that are bad pixels of
        the detector; and those of which nothing can be said.
    judged : int
        Pixels of which something can be said.
    searched : int
        Good pixels.
    """

    faint: float = 0.0
    faint_found: float = 0.0
    bright: float = 0.0
    bright_found: float = 0.0
    pixels: int = 0
    pixels_found: int = 0
    objects: int = 0
    hit: int = 0
    false: int = 0
    fixed: int = 0
    unjudged: int = 0
    judged: int = 0
    searched: int = 0

    def completeness(self, kind):
        """Return the fraction that was found, and its 95% interval.

        Parameters
        ----------
        kind : {"faint", "bright", "pixels"}

        Returns
        -------
        fraction, low, high : float
            None, 0 and 1 if there were none.
        """
        tried = getattr(self, kind)
        # Those that noise hides are estimated, and may be more.
        found = min(tried, getattr(self, f"{kind}_found"))
        return (found / tried if tried else None, *binomial_interval(found, tried))

    @property
    def false_rate(self):
        """False objects per million pixels, and the 95% interval; None, 0 and a million if nothing was judged."""
        rate = self.false / self.judged * 1e6 if self.judged else None
        return (rate, *(1e6 * end for end in binomial_interval(self.false, self.judged)))


@dataclass
class Marked:
    """Objects of a mask, and what was made of them.

    Attributes
    ----------
    grade : `Grade`
    missed, false : list of (float, int, int)
        S/N, row and column of hits without a masked pixel, and of masked objects that are none.
    """

    grade: Grade = field(default_factory=Grade)
    missed: list = field(default_factory=list)
    false: list = field(default_factory=list)


def grade_mask(own, truth, mask):
    """Compare a mask with what the other exposures say.

    Parameters
    ----------
    own : `Repeat`
    truth : `Truth`
        From `find_hits`.
    mask : `numpy.ndarray` of bool
        Cosmic rays.

    Returns
    -------
    `Marked`

    Notes
    -----
    Near a limit, noise makes as many hits brighter as fainter, but fewer of those that were fainter are found.  So a
    hit with the peak m counts as one above the limit s with the probability that it is, the normal distribution up to
    m - s: whether it is found depends on its pixels as they are, noise and all, not on what they would be without.
    """
    result, grade = Marked(), Grade()
    grade.searched, grade.judged = int((~own.bad).sum()), int(truth.judged.sum())
    strong = truth.strong
    grade.pixels, grade.pixels_found = int(strong.sum()), int((strong & mask).sum())
    found = np.zeros(len(truth.peaks) + 1, bool)
    found[np.unique(truth.objects[mask])] = True
    peaks, found = np.asarray(truth.peaks, float), found[1:]
    faint, bright = ndtr(peaks - FAINT) - ndtr(peaks - BRIGHT), ndtr(peaks - BRIGHT)
    grade.faint = float(faint[peaks >= FAINT].sum() + HIDDEN * _between(peaks, FAINT, FAINT + 1))
    grade.faint_found, grade.bright = float(faint[found].sum()), float(bright.sum())
    grade.bright_found = float(bright[found].sum())
    for box, peak, is_found in zip(find_objects(truth.objects), peaks, found, strict=True):
        if not is_found and peak >= FAINT:
            result.missed.append((float(peak), *_middle(box)))
    numbers, grade.objects = label(mask & ~own.bad, _AROUND)
    boxes, near_hit = find_objects(numbers), binary_dilation(truth.objects > 0, _AROUND)
    kinds = [_kind(truth, box, numbers[box] == number, near_hit) for number, box in enumerate(boxes, 1)]
    # The brightest are hits.
    doubtful = sorted((above, number) for number, (kind, above) in enumerate(kinds, 1) if kind == "doubtful")[::-1]
    hits = {number for _, number in doubtful[: _between(peaks, FAINT, LIKE_THEM)]}
    for number, (box, (kind, _)) in enumerate(zip(boxes, kinds, strict=True), 1):
        pixels = numbers[box] == number
        if kind == "doubtful":
            kind = "fainter" if number in hits else "false"
        if kind == "fainter":
            peak = float((truth.excess[box] / truth.own_noise[box])[pixels].max())
            grade.faint_found += float(ndtr(peak - FAINT)) if peak < FAINT else 0.0
            kind = "hit"
        setattr(grade, kind, getattr(grade, kind) + 1)
        if kind == "false":
            peak = float((own.image[box] / truth.own_noise[box])[pixels].max())
            result.false.append((peak, *_middle(box)))
    result.grade = grade
    return result


def _between(peaks, low, high):
    return int(((peaks >= low) & (peaks < high)).sum())


def _middle(box):
    return tuple((s.start + s.stop - 1) // 2 for s in box)


def _kind(truth, box, pixels, near_hit):
    """Return what a masked object is, one of "hit", "fainter", "doubtful", "false", "fixed" and "unjudged".

    With it, how many times the noise its brightest pixel, or one beside it, exceeds what the others may have.
    """
    around = tuple(slice(max(0, s.start - RIM), s.stop + RIM) for s in box)
    above = float(((truth.excess - truth.allowed) / truth.noise)[around].max())
    if (near_hit[box] & pixels).any():
        return "hit", above
    if (truth.fixed[box] & pixels).any():
        return "fixed", above
    use = pixels & truth.judged[box]
    if 2 * use.sum() <= pixels.sum():
        return "unjudged", above
    excess, allowed, noise = (plane[box][use] for plane in (truth.excess, truth.allowed, truth.noise))
    error = np.sqrt((noise**2).sum())
    if excess.sum() > STRONG * error + allowed.sum():
        # Too faint to be a hit by its peak.
        return ("fainter" if truth.doubted is None or not truth.doubted[box][use].any() else "unjudged"), above
    peak = np.argmax(excess - allowed)
    if allowed[peak] > TOO_BRIGHT * noise[peak] and excess.max() > STRONG * noise[peak] + allowed[peak] / 2:
        return "unjudged", above
    # Something fainter than a hit, or beside one: networks mask a rim, too.
    return "doubtful" if above > DOUBTFUL else "false", above
