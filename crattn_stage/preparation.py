"""Pixels to network input: sky statistics, filled bad pixels, scaling.

How the input is scaled belongs to the model and is written on its card.
"""

import numpy as np
from scipy.ndimage import uniform_filter

#: The ways in which a model can want its input, see `scale`.
SCALINGS = ("asinh", "none")
#: Pixels looked at for sky statistics; more would not change the third digit.
SAMPLE = 500_000
#: Counts that differ by this much or less may be one step of a coarse converter.
COARSE = 2.0
#: Boxes, in pixels, from which a bad pixel is filled: the first with a good pixel in it.
FILL_BOXES = (5, 11, 33)


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
                # Most of it has one value, far from the rest: padding.  The sky is what is left.
                sample = others
                continue
            # Counts so coarse that most are alike: their scatter, not its median, is the noise.
            near = sample[np.abs(sample - level) <= 3 * COARSE]
            sigma = max(near.std(), 0.3) if others.size else 0.0
        kept = sample[np.abs(sample - level) <= 3 * sigma]
        if sigma == 0 or kept.size == sample.size:
            break
        sample = kept
    return float(level), float(max(sigma, 1e-6 * abs(level), 1e-6))


def levelled(image, sections, good=None):
    """Return a detector with the sky of each amplifier at 0.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    sections : list of tuple of `slice`
        Of its amplifiers.
    good : `numpy.ndarray` of bool, optional
        As for `sky_statistics`.

    Returns
    -------
    `numpy.ndarray`
        Float32, in the unit of the image; NaN outside the amplifiers and in
        one without a good pixel.
    """
    good = np.isfinite(image) if good is None else good
    result = np.full(image.shape, np.nan, np.float32)
    for section in sections:
        if good[section].any():
            with np.errstate(over="ignore"):
                result[section] = image[section]
            result[section] -= sky_statistics(image[section], good[section])[0]
    return result


def scale(image, level, sigma, scaling):
    """Scale an amplifier for the network.

    Parameters
    ----------
    image : `numpy.ndarray`
        ADU or electron.
    level, sigma : float
        From `sky_statistics`.
    scaling : {"asinh", "none"}
        "asinh" is arcsinh((image - level) / (3 sigma)): linear in the noise,
        logarithmic in the hits, the same for every gain.  "none" feeds raw
        counts, as the networks the paper's authors released expect.

    Returns
    -------
    `numpy.ndarray`
        Float32.
    """
    if scaling == "none":
        return image.astype(np.float32)
    if scaling == "asinh":
        return np.arcsinh((image.astype(np.float32) - np.float32(level)) / np.float32(3 * sigma))
    raise ValueError(f"unknown input scaling {scaling!r}")


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
    """
    if not bad.any():
        return plane
    rows, columns = bad.any(1).nonzero()[0], bad.any(0).nonzero()[0]
    margin = FILL_BOXES[-1]
    window = tuple(slice(max(0, x[0] - margin), x[-1] + margin + 1) for x in (rows, columns))
    view, todo = plane[window], bad[window].copy()
    good = (~todo).astype(np.float32)
    view[todo] = 0
    source = view.copy()
    for box in FILL_BOXES:
        weight = uniform_filter(good, box, mode="constant")
        near = todo & (weight > 0.5 / box**2)
        view[near] = uniform_filter(source, box, mode="constant")[near] / weight[near]
        todo &= ~near
        if not todo.any():
            return plane
    view[todo] = level
    return plane
