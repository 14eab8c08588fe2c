"""The rate of false alarms of change points, and how soon a change is found."""

import numpy as np
import pytest

from crattn_stage.quality.change_points import AMPLIFIER_RATE, FEWEST, SERIES_RATE, change_points


def fraction_with_changes(draw, nights, series, rate):
    return np.mean([bool(change_points(draw(nights), rate)) for _ in range(series)])


@pytest.mark.parametrize("nights", [FEWEST, 20, 31, 75, 365])
@pytest.mark.parametrize("noise", ["normal", "lognormal", "standard_cauchy"])
def test_noise_has_false_alarms_at_the_stated_rate(nights, noise):
    draw = getattr(np.random.default_rng(nights), noise)
    found = fraction_with_changes(lambda n: draw(size=n), nights, 2000, SERIES_RATE)
    # Four standard deviations of 2000 series; between the nights of the table the limit is interpolated.
    assert SERIES_RATE / 2.5 < found < SERIES_RATE + 4 * (SERIES_RATE / 2000) ** 0.5


def test_an_amplifier_has_fewer_false_alarms():
    draw = np.random.default_rng(1).normal
    assert fraction_with_changes(lambda n: draw(size=n), 90, 5000, AMPLIFIER_RATE) < 1e-3


@pytest.mark.parametrize(("sigmas", "nights", "fraction"), [(3, 5, 0.95), (2, 10, 0.95), (1, 40, 0.8)])
def test_a_shift_is_found_within_some_nights(sigmas, nights, fraction):
    random, found, near = np.random.default_rng(sigmas), 0, 0
    for _ in range(300):
        values = random.normal(size=90) + sigmas * (np.arange(90) >= 90 - nights)
        places = change_points(values)
        found += bool(places)
        near += any(abs(place - (90 - nights)) <= 9 / sigmas for place in places)
    assert found >= fraction * 300 and near >= 0.8 * found


def test_two_shifts_are_found_where_they_are_and_gaps_do_not_count():
    values = np.random.default_rng(3).normal(size=200)
    values[60:] += 5
    values[140:] -= 8
    values[100:120] = np.nan
    assert change_points(values) == [60, 140]


def test_an_outlier_is_no_change_and_neither_are_equal_values():
    values = np.random.default_rng(4).normal(size=60)
    values[[20, 21]] = 1e6
    assert change_points(values) == []
    assert change_points(np.ones(60)) == change_points(np.full(60, np.nan)) == change_points([]) == []
    # Most stars are never masked.
    assert change_points([0.0] * 30 + [0.1] + [0.0] * 29) == []


def test_few_nights_are_not_searched():
    assert change_points([0.0] * 5 + [9.0] * 6) == []
