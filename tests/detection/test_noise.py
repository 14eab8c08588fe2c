"""Objects that are noise are taken out of a mask, hits stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from crattn_stage.api import load_model
from crattn_stage.detection.noise import drop_noise, noise_floors
from crattn_stage.detection.preprocessing import Sky, measure_sky

SHAPE = 512, 512
WHOLE = [np.s_[0:512, 0:512]]


def find(image, bad, sections, sky):
    """Return what is above 6 times the noise, in place of a network."""
    return (image > sky[0].level + 6 * sky[0].sigma) & ~bad


def dropped(image, bad=None):
    """Return the mask of `find`, and the same without noise."""
    bad = np.zeros(image.shape, bool) if bad is None else bad
    sky = measure_sky(image, bad, WHOLE)
    mask = find(image, bad, WHOLE, sky)
    left = mask.copy()
    drop_noise(image, left, bad, WHOLE, sky, find)
    return mask, left


def objects(mask):
    return label(mask, np.ones((3, 3)))[1]


def test_lone_pixels_of_heavy_tails_are_dropped_and_tracks_stay():
    noise = np.random.default_rng(0).standard_t(5, SHAPE)
    image = (300 + 8 * noise).astype(np.float32)
    image[100, 50:58] += 150
    mask, left = dropped(image)
    assert objects(mask) > 50
    assert objects(left) <= 5
    assert left[100, 50:58].sum() >= 6


def test_lone_hits_on_gaussian_noise_stay():
    image = np.random.default_rng(0).normal(300, 8, SHAPE).astype(np.float32)
    image[50:450:40, 100] += 80
    mask, left = dropped(image)
    assert objects(mask) == 10
    np.testing.assert_array_equal(left, mask)


def test_dead_and_unresponsive_pixels_are_no_noise():
    rng = np.random.default_rng(0)
    image = rng.normal(300, 8, SHAPE).astype(np.float32)
    image[rng.random(SHAPE) < 1e-3] -= 200
    low = rng.random(SHAPE) < 2e-3
    image[low] -= rng.exponential(30, low.sum())
    image[50:450:40, 100] = 380
    mask, left = dropped(image)
    np.testing.assert_array_equal(left, mask)


def test_what_cannot_be_seen_is_dropped():
    image = np.random.default_rng(0).normal(300, 8, SHAPE).astype(np.float32)
    image[100, 100] = 400
    image[200:203, 200:203] = 300
    mask = np.zeros(SHAPE, bool)
    mask[99:102, 99:102] = mask[201, 201] = True
    bad = np.zeros(SHAPE, bool)
    drop_noise(image, mask, bad, WHOLE, measure_sky(image, bad, WHOLE), find)
    assert mask.sum() == 9 and mask[100, 100]


def test_hits_below_the_sky_level_of_a_dark_corner_stay():
    image = np.random.default_rng(0).normal(300, 8, SHAPE).astype(np.float32)
    image[:80, :80] -= 100
    image[40, 40] += 80
    mask = np.zeros(SHAPE, bool)
    mask[40, 40] = True
    bad = np.zeros(SHAPE, bool)
    drop_noise(image, mask, bad, WHOLE, measure_sky(image, bad, WHOLE), find)
    assert mask[40, 40]


def test_amplifiers_dead_ones_and_damaged_values():
    image = np.random.default_rng(0).normal(300, 8, SHAPE).astype(np.float32)
    image[:, 256:] += 1000
    image[60, 60], image[60, 300], image[5, 5], image[300, 300] = 400, 1400, np.inf, 3e38
    image[200:400, :256] = 300 + 8 * np.random.default_rng(1).standard_t(3, (200, 256))
    bad = ~np.isfinite(image)
    bad[:, 400:] = True
    sections = [np.s_[0:512, 0:256], np.s_[0:512, 256:400], np.s_[0:512, 400:512]]
    sky = measure_sky(image, bad, sections)
    assert sky[2] is None
    mask = np.zeros(SHAPE, bool)
    mask[60, [60, 300, 100]] = True
    drop_noise(image, mask, bad, sections, sky, find)
    assert np.flatnonzero(mask[60]).tolist() == [60, 300]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 4, 10, 100]), st.floats(0, 0.02))
def test_a_mask_never_grows_and_objects_go_whole(seed, freedom, fraction):
    rng = np.random.default_rng(seed)
    image = rng.standard_t(freedom, (96, 96)).astype(np.float32)
    mask, bad = rng.random((96, 96)) < fraction, rng.random((96, 96)) < 0.01
    before = mask & ~bad
    after = before.copy()
    drop_noise(image, after, bad, [np.s_[0:96, 0:96]], [Sky(0.0, 1.0)], lambda image, bad, *_: (image > 5) & ~bad)
    assert not (after & ~before).any()
    numbers, _ = label(before, np.ones((3, 3)))
    assert not set(numbers[after]) & set(numbers[before & ~after])


@pytest.mark.parametrize("name", ["fast", "att-cosmic-conn"])
def test_shipped_networks_mask_little_of_the_noise_of_students_t(name):
    model = load_model(name)
    image = (300 + 8 * np.random.default_rng(1).standard_t(5, (1024, 1024))).astype(np.float32)
    every = objects(model.predict(image) > model.card.threshold)
    # The fewer a network masks by itself, the smaller the part of them that can be told to be noise.
    assert objects(model.detect(image)) <= min(10, 0.3 * every)


def test_floors_do_not_depend_on_the_unit_of_the_image():
    image = (300 + 8 * np.random.default_rng(0).standard_t(4, SHAPE)).astype(np.float32)
    bad = np.zeros(SHAPE, bool)

    def floors(image):
        (sky,) = measure_sky(image, bad, WHOLE)
        return noise_floors(image, bad, bad, sky, find)

    whole = floors(image)
    assert whole.min() > 5
    np.testing.assert_allclose(floors(image * 4), whole, rtol=1e-3)


def test_a_noisy_amplifier_costs_the_other_no_hit():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(SHAPE)
    noise[:, 256:] = rng.standard_t(5, (512, 256))
    image = (300 + 8 * noise).astype(np.float32)
    image[50:450:40, 100] = 400
    bad = np.zeros(SHAPE, bool)
    sections = [np.s_[0:512, 0:256], np.s_[0:512, 256:512]]
    sky = measure_sky(image, bad, sections)
    mask = (image > 350) & ~bad
    left = mask.copy()
    floors = drop_noise(image, left, bad, sections, sky, find)
    assert not floors[0].any() and floors[1].max() > 5
    np.testing.assert_array_equal(left[:, :255], mask[:, :255])
    assert objects(left[:, 256:]) < 0.2 * objects(mask[:, 256:])
    # With floors that are known nothing is measured.
    again = mask.copy()
    assert drop_noise(image, again, bad, sections, sky, None, floors) is floors
    np.testing.assert_array_equal(again, left)


@pytest.mark.parametrize("seed", range(3))
def test_cold_and_hot_pixels_are_no_tail_of_the_noise(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(300, 8, SHAPE).astype(np.float32)
    image[rng.random(SHAPE) < 1e-3] -= 200
    for sign in (-1, 1):
        some = rng.random(SHAPE) < 5e-4
        image[some] += sign * rng.exponential(30, some.sum())
    image[50:450:40, 20:500:12] = 460
    mask, left = dropped(image)
    np.testing.assert_array_equal(left, mask)
