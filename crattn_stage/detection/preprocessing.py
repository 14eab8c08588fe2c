"""From pixels to network input: sky statistics, filled bad pixels, scaling.

The scaling belongs to the model and is on its card.
"""

from typing import NamedTuple

import numpy as np

from crattn_stage.models.architectures import SCALINGS

#: Pixels sampled for sky statistics: the level is known to half a percent of the noise.
SAMPLE = 100_000
#: Least noise: the square of less is not kept in float32.
SMALLEST = 1e-18
#: Limit of `bounded_heights`: damaged files hold values that overflow.
HIGHEST = np.float32(1e6)
#: Counts that differ by no more than this may be one step of a coarse converter.
COARSE = 2.0
#: Sides of the boxes from which a bad pixel is filled, pixels: the first with a good pixel in it.
FILL_BOXES = (5, 11, 33)
#: Scaled pixels are at most this before arcsinh.
LARGEST = 1e18
#: Rows that are scaled and filled at a time.
BAND = 256


def sky_statistics(image, good=None):
    """Return sky level and noise of an amplifier.

    Median and 1.4826 times the median absolute deviation of a regular sample
    of the good pixels, clipped at 3 sigma until they settle.

    Parameters
    ----------
    image : `numpy.ndarray`
        ADU or electron.
    good : `numpy.ndarray` of bool, optional
        True on pixels to use; finite pixels by default.

    Returns
    -------
    level, sigma : float
        In the unit of the image.  Sigma is at least a millionth of the level,
        so that a constant image does not divide by zero.

    Raises
    ------
    ValueError
        If there is no good pixel.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(300, 8, (200, 200))
    >>> image[50:60, 20:90] = 5000
    >>> level, sigma = sky_statistics(image)
    >>> round(level), round(sigma)
    (300, 8)
    """
    # An odd step walks through all columns whatever the width.
    step = max(1, image.size // SAMPLE) | 1
    good = np.isfinite(image) if good is None else good
    sample = image.ravel()[::step][good.ravel()[::step]]
    if not sample.size:
        sample = image[good]
    if not sample.size:
        raise ValueError("no good pixel")
    for _ in range(5):
        level = np.median(sample)
        sigma = 1.4826 * np.median(np.abs(sample - level))
        if sigma == 0:
            others = sample[sample != level]
            if others.size and np.median(np.abs(others - level)) > COARSE:
                # Most pixels have one value, far from the rest: padding.  The sky is what is left.
                sample = others
                continue
            # Counts so coarse that most are equal: the noise is their standard deviation.
            near = sample[np.abs(sample - level) <= 3 * COARSE]
            sigma = max(near.std(), 0.3) if others.size else 0.0
        kept = sample[np.abs(sample - level) <= 3 * sigma]
        if sigma == 0 or kept.size == sample.size:
            break
        sample = kept
    return float(level), float(max(sigma, 1e-6 * abs(level), SMALLEST))


class Sky(NamedTuple):
    """Sky of an amplifier, in the unit of the image.

    Attributes
    ----------
    level, sigma : float
        As from `sky_statistics`.
    """

    level: float
    sigma: float


def measure_sky(image, bad, sections):
    """Measure the sky of each amplifier.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron, of any real dtype.
    bad : `numpy.ndarray` of bool
        True on bad pixels; those that are not finite are bad in any case.
    sections : list of tuple of `slice`
        Rows and columns of each amplifier.

    Returns
    -------
    list of `Sky`
        None for an amplifier without a good pixel.
    """
    result = []
    for section in sections:
        # In float32, as the network sees it; a value beyond that is a bad pixel.
        with np.errstate(over="ignore", invalid="ignore"):
            pixels = image[section].astype(np.float32, copy=False)
        good = ~bad[section] & np.isfinite(pixels)
        result.append(Sky(*sky_statistics(pixels, good)) if good.any() else None)
    return result


def sky_subtracted(image, sections, good=None, sky=None):
    """Return a detector with the sky of each amplifier at 0.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    sections : list of tuple of `slice`
        Of its amplifiers.
    good : `numpy.ndarray` of bool, optional
        As for `sky_statistics`.
    sky : list of `Sky`, optional
        From `measure_sky`; measured on the good pixels if None.

    Returns
    -------
    `numpy.ndarray`
        Float32, in the unit of the image; NaN outside the amplifiers and in
        one without a good pixel.
    """
    if sky is None:
        good = np.isfinite(image) if good is None else good
        sky = measure_sky(image, ~good, sections)
    result = np.full(image.shape, np.nan, np.float32)
    for section, own in zip(sections, sky, strict=True):
        if own is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                result[section] = image[section]
                result[section] -= own.level
    return result


def heights(pixels, sky):
    """Return how far pixels of an amplifier lie above its sky, in units of its noise.

    Parameters
    ----------
    pixels : `numpy.ndarray`
        ADU or electron, of any shape.
    sky : `Sky`

    Returns
    -------
    `numpy.ndarray`
        Float32, the shape of the pixels; as damaged as they are.

    Examples
    --------
    >>> heights(np.array([300.0, 324.0]), Sky(300.0, 8.0)).tolist()
    [0.0, 3.0]
    """
    # Damaged files hold values that overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        return (pixels.astype(np.float32) - sky.level) / sky.sigma


def bounded_heights(pixels, sky):
    """Return `heights` within `HIGHEST`, so that their sums do not overflow; NaN stays NaN.

    Parameters
    ----------
    pixels, sky
        As for `heights`.

    Returns
    -------
    `numpy.ndarray`
        Float32, the shape of the pixels.

    Examples
    --------
    >>> bounded_heights(np.array([324.0, np.inf]), Sky(300.0, 8.0)).tolist()
    [3.0, 1000000.0]
    """
    return np.clip(heights(pixels, sky), -HIGHEST, HIGHEST)


def significance(image, sections, sky):
    """Return how far pixels lie above the sky of their amplifiers, in units of its noise.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    sections : list of tuple of `slice`
        Of its amplifiers.
    sky : list of `Sky`
        From `measure_sky`.

    Returns
    -------
    `numpy.ndarray`
        Float32, finite; 0 for NaN, outside the amplifiers and in one without a good pixel.
    """
    result = np.zeros(image.shape, np.float32)
    for section, own in zip(sections, sky, strict=True):
        if own is not None:
            result[section] = heights(image[section], own)
    return np.nan_to_num(result, nan=0.0)


def scale(image, level, sigma, scaling, out=None):
    """Scale an amplifier for the network.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    level, sigma : float
        From `sky_statistics`.
    scaling : {"asinh", "none"}
        "asinh" is arcsinh((image - level) / (3 sigma)): linear in the noise,
        logarithmic in the hits, the same for every gain.  "none" feeds raw
        counts, as the networks the paper's authors released expect.
    out : `numpy.ndarray`, optional
        Float32, the shape of the image: where to write.

    Returns
    -------
    `numpy.ndarray`
        Float32, the shape of the image.

    Raises
    ------
    ValueError
        If the scaling is unknown.

    Examples
    --------
    >>> scaled = scale(np.array([[300.0, 324.0, 2700.0]]), 300, 8, "asinh")
    >>> [f"{value:.2f}" for value in scaled[0]]
    ['0.00', '0.88', '5.30']
    """
    if scaling not in SCALINGS:
        raise ValueError(f"unknown input scaling {scaling!r}")
    out = np.empty(image.shape, np.float32) if out is None else out
    for start in range(0, len(image), BAND):
        rows = slice(start, start + BAND)
        if scaling == "none":
            out[rows] = image[rows]
            continue
        band = image[rows].astype(np.float32)
        with np.errstate(over="ignore"):
            # Pixels of a damaged file.
            band -= np.float32(level)
            band /= np.float32(3 * sigma)
        # Four times as fast as numpy's arcsinh, and within 1e-6 of it.
        size = np.abs(band)
        # The square of an absurd value would overflow, and the network would see infinity.
        np.minimum(size, LARGEST, out=size)
        root = size * size
        root += 1
        np.sqrt(root, out=root)
        root += size
        np.copysign(np.log(root, out=root), band, out=out[rows])
    return out


def fill(plane, bad, level):
    """Fill bad pixels with the mean of the good ones around them, in place.

    Parameters
    ----------
    plane : `numpy.ndarray`
        Float32.
    bad : `numpy.ndarray` of bool
    level : float
        For pixels with no good one in the largest of `FILL_BOXES`.

    Returns
    -------
    `numpy.ndarray`
        `plane`.

    Examples
    --------
    >>> plane = np.full((5, 5), 7, np.float32)
    >>> plane[2, 2] = 65535
    >>> float(fill(plane, plane > 60000, level=0)[2, 2])
    7.0
    """
    width, margin = plane.shape[1], max(FILL_BOXES) // 2
    small = min(FILL_BOXES)
    # Band by band: sums stay small, and are made only where something is bad.
    for start in range(0, len(plane), BAND):
        row, column = np.divmod(np.flatnonzero(bad[start : start + BAND]), width)
        if not row.size:
            continue
        row += start
        values = np.full(row.size, level, np.float32)
        todo = np.ones(row.size, bool)
        if row.size * small**2 < BAND * width:
            # A few: look up the pixels around each one.
            total, count = np.zeros((2, row.size))
            for shift in np.ndindex(small, small):
                r, c = row + shift[0] - small // 2, column + shift[1] - small // 2
                use = (r >= 0) & (r < len(plane)) & (c >= 0) & (c < width)
                use[use] = ~bad[r[use], c[use]]
                total[use] += plane[r[use], c[use]]
                count += use
            todo = count == 0
            values[~todo] = total[~todo] / count[~todo]
        if todo.any():
            first = max(0, start - margin)
            good = ~bad[first : start + BAND + margin]
            known = np.where(good, plane[first : start + BAND + margin], np.float32(0))
            values[todo] = _box_means(known, good, row[todo] - first, column[todo], level)
        plane[row, column] = values
    return plane


def _box_means(known, good, row, column, level):
    """Return the mean of the good pixels in the smallest of `FILL_BOXES` around each place that has one."""
    sums, counts = _corner_sums(known), _corner_sums(good)
    values = np.full(row.size, level, np.float32)
    # The smallest box comes last and wins.
    for box in sorted(FILL_BOXES, reverse=True):
        top, left = (np.maximum(x - box // 2, 0) for x in (row, column))
        bottom, right = (np.minimum(x + box // 2 + 1, n) for x, n in zip((row, column), good.shape, strict=True))
        corners = (bottom, right), (top, right), (bottom, left), (top, left)
        total, count = (s[corners[0]] - s[corners[1]] - s[corners[2]] + s[corners[3]] for s in (sums, counts))
        near = count > 0
        values[near] = total[near] / count[near]
    return values


def _corner_sums(plane):
    """Return the sums of all that is above and left of each corner between pixels."""
    sums = np.zeros([n + 1 for n in plane.shape])
    plane.cumsum(0, out=sums[1:, 1:])
    sums.cumsum(1, out=sums)
    return sums
