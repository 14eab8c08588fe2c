"""Nights at which a quantity changed: a CUSUM of ranks with a stated rate of false alarms.

Values are replaced by the normal scores of their ranks, so neither an outlier nor a skewed distribution counts for more
than its place in the order.  For each night, the sum of the scores up to it is compared with what noise without memory
would give; the night with the largest deviation is a change if noise exceeds that in no more than a stated fraction of
series.  Its place is where two medians fit best; the parts before and after are then searched in the same way.
"""

from functools import lru_cache
from statistics import NormalDist

import numpy as np

#: Fraction of series of noise in which a change is found: of a quantity of a camera, and of one amplifier of many.
SERIES_RATE, AMPLIFIER_RATE = 1e-2, 1e-4
#: Nights that a level must last, and fewest of a series.
SHORTEST, FEWEST = 3, 12
#: Nights by which a change may be placed better by its values than by their ranks.
NEAR = 5
#: Of series of so many nights, the deviations that noise exceeds at these rates, from 100,000 or more shuffled series.
_NIGHTS = (12, 16, 22, 31, 45, 62, 90, 130, 180, 365, 730, 1500)
_LIMITS = {
    SERIES_RATE: (2.740, 2.903, 3.054, 3.183, 3.288, 3.375, 3.444, 3.515, 3.564, 3.655, 3.723, 3.756),
    AMPLIFIER_RATE: (2.850, 3.270, 3.680, 3.899, 4.111, 4.277, 4.354, 4.521, 4.625, 4.650, 4.807, 4.876),
}


def change_points(values, rate=SERIES_RATE):
    """Return where the level of a series changes.

    Parameters
    ----------
    values : array-like of float
        In the order of time; NaN where there is none.  Fewer than `FEWEST` are not searched.
    rate : {`SERIES_RATE`, `AMPLIFIER_RATE`}
        Fraction of series of noise without memory in which a change is found.  A level that wanders, such as with
        the Moon, is found changed more often.

    Returns
    -------
    list of int
        Index of the first value of each new level, in order.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(1).normal(size=60)
    >>> change_points(noise), change_points(noise + 3 * (np.arange(60) >= 50))
    ([], [50])
    """
    values = np.asarray(values, np.float64)
    there = np.flatnonzero(~np.isnan(values))
    return [int(there[index]) for index in _search(values[there], 0, rate)]


def _search(values, start, rate):
    """Return the indices of changes, counted from `start`."""
    if len(values) < FEWEST:
        return []
    found, deviation = largest_deviation(normal_scores(values))
    if deviation <= np.interp(np.log(len(values)), np.log(_NIGHTS), _LIMITS[rate]):
        return []
    found = _nearest(values, found)
    before, after = _search(values[:found], start, rate), _search(values[found:], start + found, rate)
    return [*before, start + found, *after]


def _nearest(values, found):
    """Return the split near one of ranks, whose values count for little, by which two medians fit best."""

    def misfit(split):
        return sum(np.abs(part - np.median(part)).sum() for part in (values[:split], values[split:]))

    splits = range(max(SHORTEST, found - NEAR), min(len(values) - SHORTEST, found + NEAR) + 1)
    return min(splits, key=misfit)


def normal_scores(values):
    """Return the values that ranks have in a normal distribution; equal values share the mean of their ranks.

    Parameters
    ----------
    values : `numpy.ndarray`

    Returns
    -------
    `numpy.ndarray`
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return _half_ranks(len(values))[(2 * last - count)[place] - 1]


@lru_cache(maxsize=1000)
def _half_ranks(count):
    """Return the normal scores of the ranks 0.5, 1, 1.5... of so many values, counted from 0 to `count`."""
    return np.array([NormalDist().inv_cdf(half / (2 * count)) for half in range(1, 2 * count)])


def largest_deviation(scores):
    """Return the split of a series at which the sum of its scores deviates most from that of noise.

    Parameters
    ----------
    scores : `numpy.ndarray`, shape (..., n)

    Returns
    -------
    index : int or `numpy.ndarray` of int
        The number of values before the split.
    deviation : float or `numpy.ndarray`
        In standard deviations of noise; 0 where all scores are the same.
    """
    n = scores.shape[-1]
    centred = scores - scores.mean(-1, keepdims=True)
    before = np.arange(SHORTEST, n - SHORTEST + 1)
    sums = np.abs(np.cumsum(centred, -1)[..., before - 1]) / np.sqrt(before * (n - before) / n)
    found = sums.argmax(-1)
    sigma = centred.std(-1)
    largest = np.take_along_axis(sums, found[..., None], -1)[..., 0]
    deviation = np.divide(largest, sigma, out=np.zeros_like(largest), where=sigma > 1e-9)
    return before[found], deviation
