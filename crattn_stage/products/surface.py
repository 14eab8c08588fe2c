"""A local surface through the good pixels around holes: ordinary kriging, which needs no point spread function."""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

#: Good pixels from which each pixel of a hole is predicted: the nearest ones, within `REACH` pixels.
NEIGHBOURS, REACH = 32, 16.0
#: Correlation lengths of the Matern covariance (index 3/2) among which a frame chooses, pixels, and the one in between.
LENGTHS, LENGTH = (2.0, 4.0, 8.0), 4.0
#: Neighbours that scatter by more than this beyond the noise (in their variance) hold structure.
STRUCTURE = 1 + np.sqrt(2 / NEIGHBOURS)
#: Rows of a frame, and pixels of holes, that are worked on at a time.
BAND, PORTION = 512, 1000


def neighbours(plane, holes, good) -> Iterator[tuple]:
    """Find the good pixels around those of holes, a portion of them at a time, in the order of the array.

    Parameters
    ----------
    plane : `numpy.ndarray`
        2-D.
    holes, good : `numpy.ndarray` of bool
        The shape of the plane.

    Yields
    ------
    offsets : `numpy.ndarray`
        (n, `NEIGHBOURS`, 2) float: rows and columns from the pixel to each neighbour, the nearest first.
    values : `numpy.ndarray`
        (n, `NEIGHBOURS`) float; NaN where there are not so many within `REACH`.
    """
    margin = int(REACH)
    for start in range(0, len(plane), BAND):
        pixels = np.argwhere(holes[start : start + BAND])
        if not len(pixels):
            continue
        first = max(0, start - margin)
        cut = np.s_[first : start + BAND + margin]
        pixels[:, 0] += start - first
        near = np.argwhere(maximum_filter(holes[cut], 2 * margin + 1) & good[cut])
        # At least one, of which all are out of reach.
        tree = cKDTree(near if len(near) else [[-1e6, -1e6]])
        found = np.append(plane[cut][tuple(near.T)].astype(float), [np.nan] * (2 - min(len(near), 1)))
        places = np.concatenate([near, np.zeros((2 - min(len(near), 1), 2), int)])
        for some in range(0, len(pixels), PORTION):
            centre = pixels[some : some + PORTION]
            _, index = tree.query(centre, NEIGHBOURS, distance_upper_bound=REACH)
            yield (places[index] - centre[:, None]).astype(float), found[index]


def predict(offsets, values, noise, length=LENGTH):
    """Predict pixels from their neighbours.

    The covariance is a Matern one of index 3/2.  Its variance is what the neighbours scatter beyond the noise; where
    they do not, the prediction is their mean.

    Parameters
    ----------
    offsets, values
        From `neighbours`.
    noise : `numpy.ndarray`
        (n,), variance of the noise of each pixel.
    length : float
        Correlation length, pixels: the longer, the smoother.

    Returns
    -------
    `numpy.ndarray`
        (n,) float; NaN for a pixel without neighbours.
    """
    there = np.isfinite(values)
    count = there.sum(1)
    with np.errstate(invalid="ignore"):
        predicted = np.where(there, values, 0).sum(1) / count
    structure = scatter(values) - STRUCTURE * noise
    chosen = np.flatnonzero((structure > 0) & (count == values.shape[1]))
    if not chosen.size:
        return predicted
    offsets, values, noise = offsets[chosen], values[chosen], noise[chosen]
    variance = structure[chosen]
    number = values.shape[1]
    distance = np.linalg.norm(offsets[:, :, None] - offsets[:, None], axis=-1)
    # The last row and column make the weights add up to 1: the mean is not known.
    system = np.ones((len(chosen), number + 1, number + 1))
    system[:, :number, :number] = variance[:, None, None] * _matern(distance, length)
    system[:, range(number), range(number)] += noise[:, None]
    system[:, number, number] = 0
    # In units of the variance, so that the last row is no smaller than the others.
    system[:, :number, :number] /= variance[:, None, None]
    right = np.ones((len(chosen), number + 1, 1))
    right[:, :number, 0] = _matern(np.linalg.norm(offsets, axis=-1), length)
    weights = np.linalg.solve(system, right)[:, :number, 0]
    predicted[chosen] = (weights * values).sum(1)
    return predicted


def scatter(values):
    """Return the variance of the neighbours of each pixel about their mean, 0 without two of them.

    Parameters
    ----------
    values : `numpy.ndarray`
        From `neighbours`.

    Returns
    -------
    `numpy.ndarray`
        (n,) float.
    """
    there = np.isfinite(values)
    count = np.maximum(there.sum(1), 1)
    mean = np.where(there, values, 0).sum(1) / count
    return np.where(there, (values - mean[:, None]) ** 2, 0).sum(1) / np.maximum(count - 1, 1)


def _matern(distance, length):
    scaled = np.sqrt(3) * distance / length
    return (1 + scaled) * np.exp(-scaled)
