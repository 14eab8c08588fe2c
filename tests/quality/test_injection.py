import numpy as np
import pytest
from conftest import sky_image
from scipy.stats import binom

from crattn_stage import load_model
from crattn_stage.detection.preprocessing import Sky, measure_sky
from crattn_stage.quality import injection
from crattn_stage.quality.summary import Injected, binomial_interval

SHAPE, SIGMA, GAIN = (512, 640), 8.0, 4.0
WHOLE = [np.s_[0:512, 0:640]]


class Cut:
    """A model that masks what is so many times the noise above the sky."""

    def __init__(self, level):
        self.level = level

    def detect(self, image, bad, threshold, sections, sky, conditions):
        mask = np.zeros(image.shape, bool)
        for section, own in zip(sections, sky, strict=True):
            mask[section] = image[section] > own.level + self.level * own.sigma
        return mask & ~bad


def measured(model, image, searched=None, found=None, gain=GAIN, count=128):
    searched = np.ones(image.shape, bool) if searched is None else searched
    found = np.zeros(image.shape, bool) if found is None else found
    sky = measure_sky(image, ~searched, WHOLE)
    return injection.measure(model, image, searched, found, WHOLE, sky, [gain], None, count)


def test_a_model_is_measured_for_what_it_finds():
    image = sky_image(SHAPE, sigma=SIGMA)
    nothing, bright_only, all_of_it = (measured(Cut(level), image) for level in (1e9, 11.5, 2.0))
    assert nothing.faint > 20 and nothing.bright > 20
    assert nothing.faint_found == nothing.bright_found == nothing.pixels_found == nothing.mirrored_objects == 0
    # A peak of 10 lies on noise of its own.
    assert bright_only.faint_found <= 0.1 * bright_only.faint and bright_only.bright_found >= 0.9 * bright_only.bright
    assert all_of_it.faint_found == all_of_it.faint and all_of_it.bright_found == all_of_it.bright
    assert 0 < all_of_it.pixels_found <= all_of_it.pixels and all_of_it.mirrored_objects > 100


def test_it_is_the_same_each_time_and_leaves_the_image_alone():
    image = sky_image(SHAPE)
    before = image.copy()
    assert measured(Cut(5), image) == measured(Cut(5), image)
    assert np.array_equal(image, before)


def test_without_a_gain_all_hits_are_scaled_half_of_them_to_bright_ones():
    found = measured(Cut(5), sky_image(SHAPE), gain=None)
    assert found.faint > 30 and found.bright > 30


def test_nothing_is_added_to_bad_pixels_and_hits():
    image = sky_image(SHAPE)
    flagged = np.zeros(SHAPE, bool)
    flagged[::3] = True
    for where in ({"searched": ~flagged}, {"found": flagged}):
        result = measured(Cut(5), image, **where)
        # Only hits of two rows fit.
        assert result.faint + result.bright < 30
    dead = np.zeros(SHAPE, bool)
    assert measured(Cut(5), image, searched=dead) == Injected()
    small = np.s_[0:60, 0:60]
    sky = [Sky(300.0, 8.0)]
    args = image[small], ~flagged[small], flagged[small], [small], sky, [GAIN]
    assert injection.measure(Cut(5), *args) == Injected()


def test_shipped_model_finds_bright_hits_and_noise_is_told_from_hits():
    model = load_model("fast", engine="openvino")
    gaussian = measured(model, sky_image(SHAPE))
    assert gaussian.bright_found >= 0.97 * gaussian.bright and gaussian.mirrored_objects <= 1
    tails = 300 + 8 * np.random.default_rng(0).standard_t(3, SHAPE).astype(np.float32)
    assert measured(model, tails).mirrored_objects > 10


@pytest.mark.parametrize("tried", [10, 30, 100])
def test_intervals_hold_the_truth(tried):
    intervals = [binomial_interval(found, tried) for found in range(tried + 1)]
    for truth in (0.5, 0.7, 0.85, 0.9, 0.95, 0.98, 0.9976, 0.999):
        held = sum(
            binom.pmf(found, tried, truth) for found, (low, high) in enumerate(intervals) if low <= truth <= high
        )
        assert held > 0.93, truth


def test_interval():
    low, high = Injected(faint=50, faint_found=45).interval("faint")
    assert 0.78 < low < 0.81 and 0.95 < high < 0.97
    assert Injected().interval("faint") == (0, 1)
    assert Injected(bright=50, bright_found=50).interval("bright")[1] == pytest.approx(1)


def test_more_hits_are_added_where_few_say_that_some_are_missed():
    image = sky_image(SHAPE, sigma=SIGMA)
    few, missed, noisy = (measured(Cut(level), image, count=None) for level in (4.5, 25.0, 3.5))
    assert few.faint + few.bright <= 32 and few.bright_found == few.bright
    assert missed.faint + missed.bright > 50 and missed.bright_found < missed.bright
    assert noisy.faint + noisy.bright > 50 and noisy.mirrored_objects
    # The first are the same.
    assert measured(Cut(4.5), image, count=32) == few
