import numpy as np
import pytest
from conftest import sky_image
from hypothesis import given
from hypothesis import strategies as st

from crattn_stage.detection.preprocessing import fill, scale, sky_statistics


def test_statistics_see_the_sky_below_stars_and_hits():
    image = sky_image((300, 300), 500, 9)
    image[:60] += np.random.default_rng(1).exponential(3000, (60, 300))
    level, sigma = sky_statistics(image)
    assert level == pytest.approx(500, abs=1) and sigma == pytest.approx(9, rel=0.1)


def test_statistics_leave_bad_pixels_out_and_need_a_good_one():
    image = sky_image((50, 50))
    image[:, ::2] = np.nan
    assert sky_statistics(image)[0] == pytest.approx(300, abs=2)
    with pytest.raises(ValueError, match="no good pixel"):
        sky_statistics(np.full((5, 5), np.nan))
    assert sky_statistics(np.full((5, 5), 7.0))[1] > 0


@given(gain=st.floats(0.1, 100), bias=st.floats(-1e3, 1e4))
def test_scaled_input_is_the_same_for_every_gain_and_bias(gain, bias):
    image = sky_image((64, 64)).astype(float)
    image[10, 10:30] += 500
    first = scale(image, *sky_statistics(image), "asinh")
    other = image * gain + bias
    assert np.allclose(first, scale(other, *sky_statistics(other), "asinh"), atol=2e-2)


def test_what_is_no_pixel_value_scales_to_something_finite():
    image = np.array([[1e30, -1e30, 3.0]], np.float32)
    with np.errstate(all="raise"):
        result = scale(image, 0.0, 1.0, "asinh")
    assert np.isfinite(result).all() and result[0, 0] == -result[0, 1] > 30


def test_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match="unknown input scaling"):
        scale(np.zeros((2, 2)), 0, 1, "log")


def test_filled_pixels_are_like_their_neighbours_and_others_stay():
    plane = sky_image((80, 90), 50, 0.1)
    before = plane.copy()
    bad = np.zeros(plane.shape, bool)
    bad[:, 30:33] = True
    bad[10:50, 50:89] = True
    plane[bad] = 1e6
    fill(plane, bad, level=50.0)
    assert np.array_equal(plane[~bad], before[~bad])
    assert np.allclose(plane[bad], 50, atol=0.5)


def test_a_plane_without_a_good_pixel_is_filled_with_the_level():
    assert (fill(np.full((9, 9), 3.0, np.float32), np.ones((9, 9), bool), 7.0) == 7).all()


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8])
def test_padding_is_not_the_sky(share):
    image = sky_image((200, 200), 500, 9)
    image[: int(200 * share)] = 0
    level, sigma = sky_statistics(image)
    assert level == pytest.approx(500, abs=1) and sigma == pytest.approx(9, rel=0.1)


@pytest.mark.parametrize("sigma", [0.35, 0.5, 1.0, 3.0])
def test_coarse_counts_have_a_noise(sigma):
    image = np.rint(sky_image((200, 200), 50, sigma)).astype(np.int16)
    assert sky_statistics(image)[1] == pytest.approx(np.hypot(sigma, 0.29), rel=0.45)


def test_fill_takes_the_smallest_box_with_a_good_pixel():
    rng = np.random.default_rng(6)
    image, bad = rng.normal(50, 9, (600, 90)).astype(np.float32), rng.random((600, 90)) < 0.03
    # Over an edge of the bands in which it works; wider than all boxes; at a corner.
    bad[250:262, 20:29] = bad[400:480, 30:80] = bad[:4, :6] = True
    image[bad] = np.nan
    result = fill(image.copy(), bad, -7.0)
    assert np.array_equal(result[~bad], image[~bad])
    for row, column in zip(*bad.nonzero(), strict=True):
        expected = -7.0
        for half in (2, 5, 16):
            box = image[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
            if np.isfinite(box).any():
                expected = np.nanmean(box.astype(float))
                break
        assert result[row, column] == pytest.approx(expected, rel=1e-5)
    assert (result[bad] == -7).any()
