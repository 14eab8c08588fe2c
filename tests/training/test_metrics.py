import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.evaluation.metrics import (
    at_rates,
    at_setting,
    bootstrap,
    interval,
    operating_points,
    precision_at,
    threshold_at,
    tpr_at,
)


def test_scores_of_a_known_answer():
    score = np.array([0.9, 0.8, 0.8, 0.5, 0.2, 0.1])
    truth = np.array([True, True, False, True, False, False])
    fpr, tpr, precision, threshold = points = operating_points(score, truth)
    assert threshold.tolist() == [0.9, 0.8, 0.5, 0.2, 0.1]
    assert np.allclose(tpr, [1 / 3, 2 / 3, 1, 1, 1]) and np.allclose(fpr, [0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert np.allclose(precision, [1, 2 / 3, 3 / 4, 3 / 5, 1 / 2])
    # On the lines between the points (0, 1/3), (1/3, 2/3) and (1/3, 1).
    assert tpr_at(points, 1 / 6) == pytest.approx(1 / 2) and tpr_at(points, 0.34) == 1
    assert threshold_at(points, 0.34) == 0.5 and precision_at(points, 0.95) == 0.75
    row = at_setting(score > 0.6, truth)
    assert row == pytest.approx({"tpr": 2 / 3, "fpr": 1 / 3, "f1": 2 / 3, "iou": 0.5, "fdr": 1 / 3})


def test_intervals_hold_the_value_and_shrink_with_more_hits():
    def width(hits):
        rng = np.random.default_rng(hits)
        # Ten pixels a hit, of which all or none are found; clean pixels in regions of a hundred.
        found = np.repeat(rng.random(hits) < 0.8, 10)
        score = np.concatenate([np.where(found, 0.9, 0.1), rng.random(20000) * 0.6]).astype(np.float32)
        truth = np.arange(len(score)) < 10 * hits
        unit = np.concatenate([np.repeat(np.arange(hits), 10), np.arange(20000) // 100])
        samples = bootstrap(score, truth, unit, 0.5)
        row = at_setting(score > 0.5, truth) | at_rates(operating_points(score, truth))
        for key in ("tpr", "f1", "iou", "fdr", "fpr", "tpr_1e-4"):
            low, high = interval(samples[key])
            assert low <= row[key] <= high
        return np.ptp(interval(samples["tpr"]))

    few, many = width(50), width(800)
    # Of independent hits, not pixels: sqrt(0.8 * 0.2 / hits).
    assert few == pytest.approx(4 * np.sqrt(0.16 / 50), rel=0.3) and many < few / 2.5


@given(truth=arrays(bool, 50), score=arrays(np.float32, 50, elements=st.floats(2**-7, 1, width=32)))
def test_operating_points_agree_with_masks(truth, score):
    fpr, tpr, precision, threshold = operating_points(score, truth)
    middle = len(threshold) // 2
    row = at_setting(score >= threshold[middle], truth)
    assert row["tpr"] == pytest.approx(tpr[middle]) and row["fpr"] == pytest.approx(fpr[middle])
    assert row["fdr"] == pytest.approx(1 - precision[middle])
