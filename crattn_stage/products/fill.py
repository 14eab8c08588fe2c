"""Fill cosmic-ray pixels from the good ones around them, and say how far off that is.

How far is measured on the frame itself: its holes, moved to good pixels nearby, are filled, too, and compared with
what is there.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, find_objects, label

from crattn_stage.detection.preprocessing import measure_sky, sky_subtracted
from crattn_stage.errors import CrattnError
from crattn_stage.products import surface

#: Ways to fill.
FILLS = ("surface", "median", "maskfill", "none")
#: Rows and columns by which holes are moved to good pixels, in turn, until `ENOUGH` pixels were tried.
MOVES = [(r * (7 + 4 * n), c * (7 + 4 * n)) for n in range(8) for r, c in ((1, 0), (0, 1), (-1, 0), (0, -1), (1, -1))]
ENOUGH = 4000
#: Scatter of the neighbours, in units of the noise, that divides sky from structure; and structure into classes.
CLASSES = (np.sqrt(2), 2.0, 4.0, 16.0)
#: Fewest pixels that are tried in a class; a class of fewer takes the factor of the one below it.
FEWEST = 30
#: Errors beyond so many times their typical size are objects that nobody masked, and count as this.
OUTLYING = 5.0


class Filled(NamedTuple):
    """What belongs into the pixels of holes, in the order of the array.

    Attributes
    ----------
    values : `numpy.ndarray`
        (n,) float64, in the unit of the image; NaN by "none".
    variance : `numpy.ndarray`
        (n,) float64, in its square: the expected square of the difference between the value and what the pixel
        would have shown without the hit, its own noise included.  Infinite by "none".
    inflation : `numpy.ndarray`
        (n,) float64: the variance, in units of that of the sky's noise.
    """

    values: np.ndarray
    variance: np.ndarray
    inflation: np.ndarray


def check_fill(fill):
    """Return the name of a fill if it is one that can run here.

    Parameters
    ----------
    fill : str

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there is no such fill.
    crattn_stage.errors.CrattnError
        If the package maskfill is not installed.
    """
    if fill not in FILLS:
        raise ValueError(f"unknown fill {fill!r}; known: {', '.join(FILLS)}")
    if fill == "maskfill":
        _maskfill()
    return fill


def fill_holes(image, holes, bad=None, fill="surface", sections=None, sky=None):
    """Fill the holes of an image.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron, of any real dtype.
    holes : `numpy.ndarray` of bool
        Pixels to fill.
    bad : `numpy.ndarray` of bool, optional
        True on further pixels that are no use; those that are not finite are bad in any case.
    fill : {"surface", "median", "maskfill", "none"}
        "surface" is ordinary kriging from the 32 nearest good pixels (`crattn_stage.products.surface`), the most
        accurate on all that was tried; "median" is their median; "maskfill" is the algorithm of van Dokkum & Pasha
        (2024) by their package; "none" is NaN.
    sections : list of tuple of `slice`, optional
        Of the amplifiers, whose sky levels may differ; the whole image if None.
    sky : list of `crattn_stage.detection.preprocessing.Sky`, optional
        Of the amplifiers; measured if None.

    Returns
    -------
    `Filled`
        A pixel outside the amplifiers, or without a good one within 16 pixels, is filled with the sky of its
        amplifier, or of the first one.

    Raises
    ------
    ValueError
        If there is no such fill, or no good pixel.
    crattn_stage.errors.CrattnError
        If the package maskfill is not installed.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(300, 8, (200, 200))
    >>> holes = np.zeros(image.shape, bool)
    >>> holes[50:53, 20:60] = True
    >>> filled = fill_holes(np.where(holes, 5000, image), holes)
    >>> bool(abs(filled.values.mean() - 300) < 2), bool(7.5 < np.sqrt(filled.variance.mean()) < 9)
    (True, True)
    """
    check_fill(fill)
    count = np.count_nonzero(holes)
    if fill == "none" or not count:
        return Filled(np.full(count, np.nan), *np.full((2, count), np.inf))
    bad = holes | (False if bad is None else bad)
    sections = sections or [np.s_[:, :]]
    sky = measure_sky(image, bad, sections) if sky is None else sky
    if not any(sky):
        raise ValueError("no good pixel")
    plane = sky_subtracted(image, sections, sky=sky)
    good = np.isfinite(plane) & ~bad
    level, noise = _sky_planes(image.shape, holes, sections, sky)
    moved = _moved(holes, good)
    _, moved_noise = _sky_planes(image.shape, moved, sections, sky)
    length = _length(plane, moved, good, moved_noise) if fill == "surface" else None
    tried, tried_scatter = _estimates(plane, moved, good & ~moved, moved_noise, fill, length)
    factors = _factors(tried - plane[moved], tried_scatter, moved_noise)
    values, scatter = _estimates(plane, holes, good, noise, fill, length)
    variance = factors[_classes(scatter, noise)] * _base(scatter, noise)
    return Filled(values + level, variance, variance / noise)


def _sky_planes(shape, where, sections, sky):
    """Return the sky level and the variance of its noise at some pixels."""
    first = next(own for own in sky if own)
    level, noise = np.full(shape, first.level, np.float32), np.full(shape, first.sigma**2, np.float32)
    for section, own in zip(sections, sky, strict=True):
        if own:
            level[section], noise[section] = own.level, own.sigma**2
    return level[where].astype(float), noise[where].astype(float)


def _moved(holes, good):
    """Return holes of the same shapes as those of a frame, on good pixels nearby."""
    numbers, count = label(holes, np.ones((3, 3)))
    # Not even beside a hole, where the light of a hit may be left.
    free = good & ~binary_dilation(holes, np.ones((3, 3)))
    moved = np.zeros(holes.shape, bool)
    for rows, columns in MOVES:
        there = np.zeros_like(numbers)
        source = tuple(slice(max(0, -s), min(n, n - s)) for s, n in zip((rows, columns), holes.shape, strict=True))
        target = tuple(slice(max(0, s), min(n, n + s)) for s, n in zip((rows, columns), holes.shape, strict=True))
        if any(s.start >= s.stop for s in source):
            continue
        there[target] = numbers[source]
        usable = np.ones(count + 1, bool)
        usable[0] = False
        usable[there[~free]] = False
        moved |= usable[there]
        free &= ~binary_dilation(moved, np.ones((3, 3)))
        if np.count_nonzero(moved) > ENOUGH:
            break
    return moved


def _length(plane, moved, good, noise):
    """Return the correlation length that fills moved holes on structure best."""
    errors, left = np.zeros(len(surface.LENGTHS)), np.zeros(len(surface.LENGTHS), int)
    start, truth = 0, plane[moved]
    for offsets, values in surface.neighbours(plane, moved, good & ~moved):
        here = slice(start, start + len(values))
        start = here.stop
        scatter = surface.scatter(values)
        some = scatter > CLASSES[1] ** 2 * noise[here]
        for number, length in enumerate(surface.LENGTHS):
            predicted = surface.predict(offsets[some], values[some], noise[here][some], length)
            error = np.abs(predicted - truth[here][some]) / np.sqrt(scatter[some])
            errors[number] += np.nansum(error)
            left[number] += error.size
    return surface.LENGTHS[int(np.argmin(errors))] if left[0] >= FEWEST else surface.LENGTH


def _estimates(plane, holes, good, noise, fill, length):
    """Return the values of holes above the sky, and the variance of the good pixels around each."""
    values, scatter, start = np.zeros(noise.size), np.zeros(noise.size), 0
    for offsets, near in surface.neighbours(plane, holes, good):
        here = slice(start, start + len(near))
        start = here.stop
        scatter[here] = surface.scatter(near)
        if fill == "surface":
            values[here] = surface.predict(offsets, near, noise[here], length)
        elif fill == "median":
            some = np.isfinite(near).any(1)
            values[here][some] = np.nanmedian(near[some], axis=1)
    if fill == "maskfill":
        values = _by_maskfill(plane, holes, good)
    # No good pixel within reach: the sky.
    return np.nan_to_num(values), scatter


def _maskfill():
    try:
        from maskfill import maskfill
    except ImportError:
        raise CrattnError(
            "the fill maskfill needs the package maskfill: pip install 'crattn-stage[maskfill]'"
        ) from None
    return maskfill


def _by_maskfill(plane, holes, good):
    """Fill each hole by itself: what the package makes of a hole depends on the pixels around it alone."""
    fill, result = _maskfill(), np.zeros(plane.shape, np.float32)
    for box in find_objects(label(holes, np.ones((3, 3)))[0]):
        cut = tuple(slice(max(0, s.start - 4), s.stop + 4) for s in box)
        if good[cut].any():
            # Its mask is what it smooths; what is NaN is filled, too.
            piece = np.where(good[cut], plane[cut], np.nan).astype(float)
            result[cut] = np.where(holes[cut], fill(piece, ~good[cut])[0], result[cut])
    return result[holes].astype(float)


def _classes(scatter, noise):
    """Return the class of each pixel by the scatter around it."""
    return np.digitize(np.sqrt(scatter / noise), CLASSES)


def _base(scatter, noise):
    """Return the variance that the factors are of: of the sky its noise, elsewhere that of the neighbours."""
    return np.where(_classes(scatter, noise) > 0, scatter, noise)


def _factors(errors, scatter, noise):
    """Return, for each class, the mean square of the errors in units of the base variance."""
    classes, squares = _classes(scatter, noise), errors**2 / _base(scatter, noise)
    factors = np.ones(len(CLASSES) + 1)
    for number in range(len(factors)):
        own = squares[classes == number]
        if own.size >= FEWEST:
            # The median square of a normal distribution is 0.4549 times its variance.
            typical = np.median(own) / 0.4549
            factors[number] = np.minimum(own, OUTLYING**2 * typical).mean()
        elif number:
            factors[number] = factors[number - 1]
        else:
            # Nothing could be tried: the mean of as many neighbours.
            factors[number] = 1 + 1 / surface.NEIGHBOURS
    return factors
