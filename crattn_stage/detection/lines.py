"""Straight lines along columns and rows are the detector's, not cosmic rays'."""

import numpy as np

#: A run of masked pixels in one column or row of at least this length is no cosmic ray: a track as straight would lie
#: within a degree of the axis.
LONG = 40
#: A shorter run is also rejected if its column is offset elsewhere, or if it lies along a border.
SHORT = 10
#: Pixels of a column, before and behind a run, that say whether it is odd; columns beside it that it is compared with.
REACH, BESIDE = 256, (3, 4, 5, 6)
#: The column's median is off by this many standard errors, and by this fraction of the noise.
ODD, ODD_NOISE = 6.0, 0.3
#: Pixels from a border within which a line along it is the border's.
BORDER = 3


def drop_lines(image, found, bad, sections):
    """Take straight lines along columns and rows out of a mask.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    found : `numpy.ndarray` of bool
        Cosmic rays; changed in place.
    bad : `numpy.ndarray` of bool
        Pixels that are no use.
    sections : list of tuple of `slice`
        The amplifiers.
    """
    for section in sections:
        piece, mask, unusable = image[section], found[section], bad[section]
        # Both are told from the mask as it was.
        lines = [
            (mask, _lines(piece, mask, unusable)),
            (mask.T, _lines(piece.T, mask.T, unusable.T)),
        ]
        for view, runs in lines:
            for column, start, stop in runs:
                view[start:stop, max(0, column - 1) : column + 2] &= ~_beside(view, column, start, stop)


def _beside(mask, column, start, stop):
    """Return which pixels of a line and the columns at its sides go with it: all but those of hits that cross it."""
    window = mask[start:stop, max(0, column - 1) : column + 2].copy()
    left, right = max(0, column - 2), min(mask.shape[1], column + 3)
    crossing = np.zeros(stop - start, bool)
    if column - 2 >= 0 and column + 2 < mask.shape[1]:
        crossing = mask[start:stop, left] | mask[start:stop, right - 1]
    window[crossing] = False
    return window


def _lines(image, mask, bad):
    """Return (column, start, stop) of the runs in the columns of a mask that are no cosmic rays."""
    columns = np.flatnonzero(_runs_begin(mask).any(0))
    padded = np.pad(mask[:, columns].T, ((0, 0), (1, 1)))
    which, edges = np.nonzero(padded[:, 1:] != padded[:, :-1])
    runs = []
    for column, start, stop in zip(columns[which[::2]], edges[::2], edges[1::2], strict=True):
        length = stop - start
        if length < SHORT:
            continue
        along_border = min(column, mask.shape[1] - 1 - column) < BORDER
        if length >= LONG or along_border or _is_odd(image, mask, bad, column, start, stop):
            runs.append((column, start, stop))
    return runs


def _runs_begin(mask):
    """Return where a run of `SHORT` masked pixels in a column begins."""
    runs, length = mask, 1
    while length < SHORT:
        step = min(length, SHORT - length)
        runs = runs[:-step] & runs[step:]
        length += step
    return runs


def _is_odd(image, mask, bad, column, start, stop):
    """Whether the pixels of a column around a run are off, compared with the columns beside it."""
    top, first = max(0, start - REACH), max(0, column - max(BESIDE))
    near = np.s_[top : stop + REACH, first : column + max(BESIDE) + 1]
    unusable = mask[near] | bad[near]
    # Often a view across the rows of an image, which is dear to read: once.
    values = np.where(unusable, np.nan, image[near]).astype(np.float64)
    own = column - first
    usable = ~unusable[:, own]
    usable[max(0, start - top - 2) : stop - top + 2] = False
    others = [c for step in BESIDE for c in (own - step, own + step) if 0 <= c < values.shape[1]]
    level = values[:, others]
    count = np.isfinite(level).sum(1)
    usable &= count >= 3
    if np.count_nonzero(usable) < 32:
        return False
    # The median without NaN, which sort behind all else; numpy's takes ten times as long.
    level, count = np.sort(level[usable], axis=1), count[usable]
    row = np.arange(len(level))
    middle = (level[row, (count - 1) // 2] + level[row, count // 2]) / 2
    differences = values[usable, own] - middle
    excess = _median(differences)
    noise = 1.4826 * _median(np.abs(differences - excess))
    error = 1.2533 * noise / np.sqrt(differences.size)
    return bool(abs(excess) > max(ODD * error, ODD_NOISE * noise))


def _median(values):
    """Return what `numpy.median` does, which takes several times as long for so few values."""
    middle = (len(values) - 1) // 2, len(values) // 2
    low, high = np.partition(values, middle)[[*middle]]
    return (low + high) / 2
