"""Rates of a method, pixel by pixel, on scenes with exact truth (paper, Sec. 4).

The true positive rate (TPR) is the fraction of cosmic-ray pixels that are detected, the false
positive rate (FPR) that of clean pixels; precision is the fraction of detected pixels that are
cosmic rays.  Curves are scikit-learn's (extra ``train``).
"""

import numpy as np


def operating_points(score, truth):
    """Return FPR, TPR, precision and threshold as the threshold falls.

    Parameters
    ----------
    score : `numpy.ndarray`
        1-D; higher is more likely a cosmic ray, 0 is not looked at or not found.
    truth : `numpy.ndarray` of bool
        1-D.

    Returns
    -------
    fpr, tpr, precision, threshold : `numpy.ndarray`
        One point for each distinct score above 0: what ``score >= threshold`` gives.
    """
    from sklearn.metrics import roc_curve

    hit = int(truth.sum())
    clean = truth.size - hit
    if not hit or not clean:
        # One class alone has one rate alone; scikit-learn would give NaN.
        threshold, count = (a[::-1] for a in np.unique(score[score > 0], return_counts=True))
        fraction = np.cumsum(count) / max(truth.size, 1)
        none = np.zeros(len(threshold))
        return (none, fraction, none + 1, threshold) if hit else (fraction, none, none, threshold)
    fpr, tpr, threshold = (a[1:] for a in roc_curve(truth, score, drop_intermediate=False))
    fpr, tpr, threshold = (a[threshold > 0] for a in (fpr, tpr, threshold))
    return fpr, tpr, tpr * hit / (tpr * hit + fpr * clean), threshold


def tpr_at(points, fpr):
    """Return the TPR at an FPR, on the straight line between operating points."""
    return float(np.interp(fpr, np.append(0.0, points[0]), np.append(0.0, points[1])))


def threshold_at(points, fpr):
    """Return the lowest threshold whose FPR does not exceed the given one."""
    within = points[0] <= fpr
    return float(points[3][within][-1]) if within.any() else 1.0


def precision_at(points, tpr):
    """Return the precision at the first operating point that reaches the given TPR, or NaN."""
    reached = points[1] >= tpr
    return float(points[2][reached][0]) if reached.any() else float("nan")


def rates(true, false, hit, clean):
    """Return TPR, FPR, F1, IOU and FDR from counts of pixels.

    Parameters
    ----------
    true, false : int or `numpy.ndarray`
        Detected pixels that are cosmic rays and that are not.
    hit, clean : int or `numpy.ndarray`
        All pixels that are cosmic rays and all that are not.

    Returns
    -------
    dict of str to float or `numpy.ndarray`
    """
    return {
        "tpr": true / np.maximum(hit, 1),
        "fpr": false / np.maximum(clean, 1),
        "f1": 2 * true / np.maximum(true + false + hit, 1),
        "iou": true / np.maximum(false + hit, 1),
        "fdr": false / np.maximum(true + false, 1),
    }


def at_setting(found, truth):
    """Return TPR, FPR, F1, IOU and FDR of a mask.

    Parameters
    ----------
    found, truth : `numpy.ndarray` of bool

    Returns
    -------
    dict of str to float
    """
    true, hit = int((found & truth).sum()), int(truth.sum())
    return {k: float(v) for k, v in rates(true, int(found.sum()) - true, hit, truth.size - hit).items()}


def at_rates(points):
    """Return what the paper's Table 1 shows: TPR at FPR 1e-4 and 1e-3, precision at a TPR of 95%.

    Parameters
    ----------
    points : tuple
        From `operating_points`.

    Returns
    -------
    dict of str to float
    """
    return {
        "tpr_1e-4": tpr_at(points, 1e-4),
        "tpr_1e-3": tpr_at(points, 1e-3),
        "precision_95": precision_at(points, 0.95),
    }


def bootstrap(score, truth, unit, threshold, replicates=200, seed=0):
    """Return all rates of hits and regions that are drawn anew, again and again.

    Pixels of one hit, or of one star, are not independent; hits and regions are.
    Detectors on the same scenes get the same draws, so the difference of two of
    them can be taken draw by draw.

    Parameters
    ----------
    score, truth : `numpy.ndarray`
        1-D, as for `operating_points`.
    unit : `numpy.ndarray` of int
        1-D: for a cosmic-ray pixel the number of its hit, else that of its region.
    threshold : float
        Where F1, IOU, FDR, TPR and FPR are taken.
    replicates, seed : int

    Returns
    -------
    dict of str to `numpy.ndarray`
        (replicates,); a precision that is never reached is NaN.
    """
    rng = np.random.default_rng(seed)
    hits, clean = score[truth], score[~truth]
    above = np.nextafter(score.dtype.type(threshold), score.dtype.type(np.inf))
    # The bins resolve the curve where it is read: most clean pixels are far below.
    fprs = np.concatenate([np.geomspace(1e-6, 0.1, 300), [1e-4, 1e-3]])
    edges = np.unique(
        np.concatenate([np.quantile(hits, np.linspace(0, 1, 401)), np.quantile(clean, 1 - fprs), [above]]).astype(
            score.dtype
        )
    )
    edges = edges[edges > 0]

    def counts(values, units):
        """Draw units with replacement; (replicates, thresholds) pixels above each edge, and all of them."""
        total = np.bincount(units)
        binned = np.searchsorted(edges, values, "right")
        seen = binned > 0
        table = np.bincount(units[seen] * len(edges) + binned[seen] - 1, minlength=len(total) * len(edges))
        present = total > 0
        table, total = table.reshape(len(total), -1)[present], total[present]
        weight = rng.multinomial(len(total), np.full(len(total), 1 / len(total)), replicates)
        return np.cumsum((weight @ table.astype(float))[:, ::-1], 1), (weight @ total)[:, None]

    (true, hit), (false, all_clean) = counts(hits, unit[truth]), counts(clean, unit[~truth])
    tpr, fpr, precision = true / hit, false / all_clean, true / np.maximum(true + false, 1)
    rows = [at_rates((f, t, p, None)) for f, t, p in zip(fpr, tpr, precision, strict=True)]
    samples = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    here = len(edges) - 1 - np.searchsorted(edges, above)
    return samples | rates(true[:, here], false[:, here], hit[:, 0], all_clean[:, 0])


def interval(samples):
    """Return the 95% interval of draws from `bootstrap`, or None if all are NaN.

    Parameters
    ----------
    samples : `numpy.ndarray`

    Returns
    -------
    (float, float) or None
    """
    return tuple(map(float, np.nanpercentile(samples, [2.5, 97.5]))) if np.isfinite(samples).any() else None
