"""Cosmic rays on two-dimensional spectra: lines and traces are taken off before the network looks again.

On its own, a network for images takes narrow sky lines and traces for tracks, and misses hits beside them.  Here it
looks twice: at the spectrum as it is, and at what is left of it when a model of its lines and traces is subtracted, in
units of its noise.  A cosmic ray stands out both times.
"""

import numpy as np
from scipy.ndimage import (
    gaussian_filter,
    map_coordinates,
    maximum_filter,
    minimum_filter,
    sobel,
    spline_filter,
    uniform_filter,
)

from crattn_stage.detection.inputs import as_float32, check_sections
from crattn_stage.detection.preprocessing import Sky, fill, sky_statistics

#: Distances from a pixel at which lines and traces are followed, to either side.  A hit is seldom wider than the gap.
NEAR, FAR = 2, 7
#: Lines are followed if they leave a row by this within `FAR`, pixels; up to this slope; measured over this (sigma).
STRAIGHT, STEEPEST, REGION = 0.3, 0.7, 16.0
#: Noise added where the model is steep, as a fraction of its range over the 3x3 pixels around.
STEEPNESS = 0.1
#: Bins of brightness in which the noise is measured, and the least pixels of one.
BINS, LEAST = 30, 200
#: The fraction of the residuals that noise is measured by, and the same of a Gaussian of sigma 1.
QUANTILE, QUANTILE_OF_GAUSSIAN = 0.3, 0.38532
#: Residuals, in units of the noise, that no line or trace leaves.
BRIGHT = 8
#: In units of the noise of the sky: the least noise, which a constant image would have, and the brightest pixel.
LEAST_NOISE, LARGEST = 0.1, 1e6
_BAND = 128
#: Odds are limited to this either way.
_MOST = 14.0


def probability(model, image, bad, sections, sky):
    """Return the probability that each pixel of a spectrum was hit by a cosmic ray.

    Parameters
    ----------
    model : `crattn_stage.detection.model.CosmicRayModel`
        Of images.
    image : `numpy.ndarray`
        2-D, ADU or electron.  The dispersion runs along rows or columns, or nearly so.
    bad : `numpy.ndarray` of bool
        True on bad pixels.
    sections : list of tuple of `slice`
        Rows and columns of each amplifier.
    sky : list of `crattn_stage.detection.preprocessing.Sky`
        Of the amplifiers; None for one without a good pixel.

    Returns
    -------
    `numpy.ndarray`
        Float32, the shape of the image: by the geometric mean of the odds of both looks, or by the first alone where
        it is higher and a residual above `BRIGHT` is no more than a pixel away.
    """
    left = residuals(image, bad, sections)
    flat = [own and Sky(0.0, 1.0) for own in sky]
    as_it_is = model.predict(image, bad, sections, sky, narrow=False)
    odds = _log_odds(model.predict(left, bad, sections, flat, narrow=False))
    odds += _log_odds(as_it_is)
    odds /= -2
    both = 1 / (1 + np.exp(odds, out=odds))
    bright = maximum_filter(left, 3) > BRIGHT
    np.maximum(both, as_it_is, out=both, where=bright)
    both[bad] = 0
    return both


def _log_odds(probability):
    with np.errstate(divide="ignore"):
        return np.clip(np.log(probability) - np.log1p(-probability), -_MOST, _MOST)


def residuals(image, bad, sections=None):
    """Return what is left of a spectrum without its lines and traces, in units of the noise.

    The model is a sum of what is constant along columns and what is constant along rows, by running medians that leave
    out the pixel and its neighbours.  The noise is measured on the residuals themselves, as a function of brightness.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    bad : `numpy.ndarray` of bool
    sections : list of tuple of `slice`, optional
        Rows and columns of each amplifier; the whole image if None.

    Returns
    -------
    `numpy.ndarray`
        Float32, the shape of the image; 0 on bad pixels and outside the amplifiers.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(100, 5, (64, 64))
    >>> image[:, 30:33] += 5000  # a sky line
    >>> image[20, 10] += 200  # a cosmic ray
    >>> left = residuals(image, np.zeros(image.shape, bool))
    >>> bool(abs(left[:, 31]).max() < 8), bool(left[20, 10] > 20)
    (True, True)
    """
    result = np.zeros(image.shape, np.float32)
    for section in check_sections(sections, image.shape):
        good = ~bad[section]
        if good.any():
            level, sigma = sky_statistics(as_float32(image[section]), good)
            # In units of the noise of the sky, so that no value is too large to be squared.
            with np.errstate(over="ignore"):
                pixels = (np.where(good, as_float32(image[section]), np.float32(level)) - level) / sigma
            pixels = np.clip(pixels, -LARGEST, LARGEST).astype(np.float32)
            result[section] = _residuals(fill(pixels, ~good, 0.0), good) * good
    return result


def _residuals(pixels, good):
    traces = np.zeros_like(pixels)
    lines = _running_median(pixels, 0)
    traces = _running_median(pixels - lines, 1)
    lines = _followed(pixels - traces, 0)
    traces = _followed(pixels - lines, 1)
    model = lines + traces
    steep = maximum_filter(model, 3) - minimum_filter(model, 3)
    left = pixels - model
    # Above the darkest pixels: a bias level has no noise.
    bright = np.maximum(model - np.quantile(model[good], 0.01), 0)
    fixed, photon = _noise(bright, left, steep, good)
    return left / np.sqrt(fixed + photon * bright + (STEEPNESS * steep) ** 2)


def _followed(plane, axis):
    """Return the median of pixels along lines near an axis, which are followed where they are tilted."""
    if axis == 0:
        return np.ascontiguousarray(_followed(np.ascontiguousarray(plane.T), 1).T)
    result, slope = _running_median(plane, 1), _slopes(plane)
    # Elsewhere there is nothing to follow.
    tilted = (np.abs(slope) * FAR > STRAIGHT) & (maximum_filter(uniform_filter(plane, 3), 5) > 2)
    if not tilted.any():
        return result
    spline = spline_filter(plane, 3, np.float32, mode="mirror")
    slope, (row, column) = slope[tilted], (where.astype(np.float32) for where in np.nonzero(tilted))
    around = [
        map_coordinates(spline, (row + slope * o, column + o), np.float32, 3, mode="mirror", prefilter=False)
        for o in _offsets(plane.shape[1])
    ]
    result[tilted] = np.median(np.stack(around), axis=0)
    return result


def _slopes(plane):
    """Return the local slope of lines along rows, in rows per column, from the gradients of a plane."""
    soft = np.arcsinh(plane / 3)
    down, right = sobel(soft, 0), sobel(soft, 1)
    both, across = gaussian_filter(down * right, REGION), gaussian_filter(down * down, REGION)
    return np.clip(-both / np.maximum(across, np.float32(1e-6)), -STEEPEST, STEEPEST)


def _offsets(width):
    reach = min(FAR, width - 1)
    return [o for distance in range(min(NEAR, reach), reach + 1) for o in (-distance, distance)]


def _running_median(plane, axis):
    """Return the median of the pixels at distances from `NEAR` to `FAR` along an axis."""
    if axis == 0:
        return np.ascontiguousarray(_running_median(np.ascontiguousarray(plane.T), 1).T)
    width, offsets = plane.shape[1], _offsets(plane.shape[1])
    reach = max(offsets)
    padded = np.pad(plane, ((0, 0), (reach, reach)), mode="reflect")
    result = np.empty_like(plane)
    for start in range(0, len(plane), _BAND):
        rows = slice(start, start + _BAND)
        around = np.stack([padded[rows, reach + o : reach + o + width] for o in offsets])
        around.partition((len(offsets) // 2 - 1, len(offsets) // 2), axis=0)
        result[rows] = around[len(offsets) // 2 - 1 : len(offsets) // 2 + 1].mean(0)
    return result


def _noise(bright, left, steep, good):
    """Return the noise as a variance that does not depend on brightness, and one for each unit of it."""
    from scipy.optimize import nnls

    level, size, steep = bright[good], np.abs(left[good]), steep[good]
    order = np.argsort(level)
    levels, noises = [], []
    for part in np.array_split(order, min(BINS, max(1, order.size // LEAST))):
        # Where the model is least steep, it is least wrong.
        calm = part[steep[part] <= np.quantile(steep[part], 0.3)]
        noise = np.quantile(size[calm], QUANTILE) / QUANTILE_OF_GAUSSIAN
        levels.append(np.median(level[calm]))
        noises.append(max(noise, LEAST_NOISE))
    weight = 1 / np.square(noises, dtype=np.float64)
    fixed, photon = nnls(np.stack([weight, levels * weight], 1), np.ones(len(noises)))[0]
    return np.float32(max(fixed, LEAST_NOISE**2)), np.float32(photon)
