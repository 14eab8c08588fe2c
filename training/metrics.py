"""Scores of a detector, pixel by pixel, on scenes with exact truth (paper, Sec. 4).

The true positive rate (TPR) is the share of cosmic-ray pixels that are
detected, the false positive rate (FPR) that of clean pixels; purity is the share of
detected pixels that are cosmic rays.
"""

import numpy as np


def operating_points(score, truth):
    """Return FPR, TPR, purity and threshold as the threshold falls.

    Parameters
    ----------
    score : `numpy.ndarray`
        1-D; higher is more likely a cosmic ray.
    truth : `numpy.ndarray` of bool
        1-D.

    Returns
    -------
    fpr, tpr, purity, threshold : `numpy.ndarray`
        One point for each distinct score: what ``score >= threshold`` gives.
    """
    order = np.argsort(-score, kind="stable")
    score, truth = score[order], truth[order]
    last = np.flatnonzero(np.append(np.diff(score) != 0, True))
    true = np.cumsum(truth)[last]
    false = last + 1 - true
    return false / max((~truth).sum(), 1), true / max(truth.sum(), 1), true / (last + 1), score[last]


def tpr_at(points, fpr):
    """Return the TPR at the last operating point whose FPR does not exceed the given one."""
    within = points[0] <= fpr
    return float(points[1][within][-1]) if within.any() else 0.0


def threshold_at(points, fpr):
    """Return the lowest threshold whose FPR does not exceed the given one."""
    within = points[0] <= fpr
    return float(points[3][within][-1]) if within.any() else 1.0


def purity_at(points, tpr):
    """Return the purity at the first operating point that reaches the given TPR, or NaN."""
    reached = points[1] >= tpr
    return float(points[2][reached][0]) if reached.any() else float("nan")


def at_setting(found, truth):
    """Return TPR, FPR, F1, IOU and FDR of a mask.

    Parameters
    ----------
    found, truth : `numpy.ndarray` of bool

    Returns
    -------
    dict of str to float
    """
    true = int((found & truth).sum())
    false, missed = int(found.sum()) - true, int(truth.sum()) - true
    return {
        "tpr": true / max(true + missed, 1),
        "fpr": false / max(int((~truth).sum()), 1),
        "f1": 2 * true / max(2 * true + false + missed, 1),
        "iou": true / max(true + false + missed, 1),
        "fdr": false / max(true + false, 1),
    }
