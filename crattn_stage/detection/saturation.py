"""Saturated stars, which are given to the network as bad pixels, and the level of saturation where no header has it."""

import numpy as np
from scipy.ndimage import binary_propagation, distance_transform_edt, label, maximum, uniform_filter

#: Only what is this many times the noise above the sky can be a pile-up.
HIGH = 50.0
#: Width of a pile-up, as a fraction of its height above the sky, and fewest pixels: equal values, and similar ones.
PILE_UPS = ((0.0, 4), (0.04, 16))
#: A pile-up has this many times the pixels of the range below it, which is `BELOW` wide, and of all that is above.
STEEP, BELOW = 4, 0.04


def saturated_stars(image, level):
    """Find saturated stars: regions at or above a level that somewhere hold a square of 3x3 pixels.

    A saturated cosmic ray is narrower and is left to the network.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, in the unit of `level`.
    level : float or None
        At which the detector saturates; None if it is not known: nothing is found then.

    Returns
    -------
    `numpy.ndarray` of bool
        The shape of the image, True on saturated stars with their bleed trails.

    Examples
    --------
    >>> image = np.zeros((7, 9))
    >>> image[1:4, 1:4] = image[3, 4:8] = 65535  # a star with a bleed trail
    >>> image[6, 2:8] = 65535  # a cosmic ray
    >>> saturated_stars(image, 60000).sum(axis=1)
    array([0, 3, 3, 7, 0, 0, 0])
    """
    if level is None:
        return np.zeros(image.shape, bool)
    high = image >= level
    if not high.any():
        return high
    cores = np.zeros_like(high)
    # An erosion by 3x3.  With `binary_erosion` it takes ten times as long.
    rows = high[:-2] & high[1:-1] & high[2:]
    cores[1:-1, 1:-1] = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return binary_propagation(cores, mask=high) if cores.any() else cores


def pile_up(image, bad):
    """Measure where the detector saturates: pixels pile up at the top of the histogram.

    Stars are the fewer the brighter they are, and so are their pixels, up to the level that no pixel can exceed.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, of one amplifier.
    bad : `numpy.ndarray` of bool
        True on pixels that do not count.

    Returns
    -------
    float or None
        The lowest value of the pile-up, in the unit of the image; None without one: nothing is saturated then.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, x = np.mgrid[:200, :200]
    >>> star = 2e5 * np.exp(-((x - 90) ** 2 + (y - 80) ** 2) / 18)
    >>> image = np.rint(rng.normal(300, 10, star.shape) + star)
    >>> bad = np.zeros(star.shape, bool)
    >>> pile_up(image, bad) is None
    True
    >>> float(pile_up(np.minimum(image, 65535), bad))
    65535.0
    """
    good = ~bad & np.isfinite(image)
    sample = image[good][:: max(1, np.count_nonzero(good) // 200_000)].astype(np.float64)
    if not sample.size:
        return None
    sky = np.median(sample)
    sigma = 1.4826 * np.median(np.abs(sample - sky))
    top = np.sort(image[good & (image > sky + HIGH * max(sigma, 1e-6))].astype(np.float64))
    levels = np.unique(top)
    begin = np.searchsorted(top, levels)
    below = begin - np.searchsorted(top, levels - BELOW * (levels - sky))
    for width, fewest in PILE_UPS:
        end = np.searchsorted(top, levels + width * (levels - sky), side="right")
        within, above = end - begin, len(top) - end
        piled = (within >= fewest) & (within > STEEP * below) & (within > STEEP * above)
        if not piled.any():
            continue
        level = levels[np.argmax(np.where(piled, within, 0))]
        # Equal values are none by chance; similar ones are saturated if they lie side by side.
        there = good & (image >= level)
        if not width or 2 * (uniform_filter(there.astype(np.float32), 3)[there] > 1.5 / 9).sum() > there.sum():
            return float(level)
    return None


def surroundings(stars):
    """Return saturated stars with their surroundings, where bleeding, wings and spikes are: the wider, the larger.

    Parameters
    ----------
    stars : `numpy.ndarray` of bool
        From `saturated_stars`.

    Returns
    -------
    `numpy.ndarray` of bool
        Likewise, grown by 3 pixels and half the least width of each.
    """
    if not stars.any():
        return stars
    numbers, found = label(stars, np.ones((3, 3)))
    radii = np.zeros(found + 1)
    radii[1:] = maximum(distance_transform_edt(stars), numbers, np.arange(1, found + 1))
    distance, (rows, columns) = distance_transform_edt(~stars, return_indices=True)
    return distance <= 3 + radii[numbers[rows, columns]]
