import numpy as np
import pytest
from conftest import sky_image
from hypothesis import given
from hypothesis import strategies as st

from crattn_stage.detection.edges import unexposed
from crattn_stage.detection.lines import drop_lines

WHOLE = [np.s_[0:400, 0:500]]


def scene(seed=0):
    """A sky that slopes, with a few bright stars."""
    rng = np.random.default_rng(seed)
    image = sky_image((400, 500), 800, 12, seed) + np.linspace(0, 60, 500, dtype=np.float32)
    y, x = np.mgrid[:400, :500]
    for _ in range(12):
        row, column = rng.integers(0, 400), rng.integers(0, 500)
        image += 3e4 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8).astype(np.float32)
    return image


def found_in(image):
    found, notes = unexposed(image, np.zeros(image.shape, bool), WHOLE)
    return (np.zeros(image.shape, bool) if found is None else found), notes


@given(seed=st.integers(0, 10_000))
def test_a_sky_has_no_borders(seed):
    found, notes = found_in(scene(seed))
    assert not found.any() and not notes


@pytest.mark.parametrize(
    ("where", "level", "sigma", "said"),
    [
        (np.s_[:, -32:], 200, 3, "32 columns at the right"),
        (np.s_[:, :24], 200, 3, "24 columns at the left"),
        (np.s_[:1, :], 30_000, 9000, "1 row at the bottom"),
        (np.s_[-6:, :], 0, 0, "6 rows at the top"),
        (np.s_[:2, :], 800, 300, "2 rows at the bottom"),
    ],
)
def test_overscan_time_stamps_and_garbage_rows_are_found(where, level, sigma, said):
    image = scene(3)
    image[where] = np.random.default_rng(1).normal(level, sigma, image[where].shape)
    expected = np.zeros(image.shape, bool)
    expected[where] = True
    found, notes = found_in(image)
    assert np.array_equal(found, expected) and [said in note for note in notes] == [True]


@given(seed=st.integers(0, 1000), size=st.floats(40, 90), level=st.sampled_from([1, 20, 800]))
def test_beside_a_large_galaxy_the_border_is_sky(seed, size, level):
    y, x = np.mgrid[:400, :500]
    light = 100 * level * np.exp(-np.hypot(y - 200, (x - 260) / 1.3) / size)
    image = np.random.default_rng(seed).poisson(level + light).astype(np.float32)
    found, notes = found_in(image)
    assert not found.any() and not notes


def test_what_is_not_finite_hides_no_border():
    image = scene(3) - 830
    image[:20] = np.random.default_rng(1).normal(-600, 3, (20, 500))
    image[21], image[60], image[70, ::3] = np.nan, np.inf, -np.inf
    found, notes = unexposed(image, ~np.isfinite(image), WHOLE)
    assert found[:20].all() and "20 rows at the bottom" in notes[0]


def test_vignetted_corners_are_found():
    image = scene(4)
    y, x = np.mgrid[:400, :500]
    dark = np.hypot(y - 200, x - 250) > 265
    image[dark] = np.random.default_rng(2).normal(200, 3, dark.sum())
    found, notes = found_in(image)
    assert "vignetted corners" in notes[0]
    assert found[dark].mean() > 0.5 and found[~dark].mean() < 0.02


@pytest.mark.parametrize("axis", [0, 1])
def test_a_bad_column_and_the_edge_of_a_chip_are_no_cosmic_rays_and_a_track_is_one(axis):
    image = sky_image((400, 500), 300, 8)
    found = np.zeros(image.shape, bool)
    # A hot column in pieces, a line along the border, and a track that is nearly straight.
    image[:, 100] += 60
    found[20:35, 100] = found[90:120, 100] = True
    found[150:180, 498] = True
    track = [(200 + i, 300 + i // 6) for i in range(30)]
    for row, column in track:
        image[row, column] += 500
        found[row, column] = True
    short = np.s_[50:58, 400]
    image[short] += 400
    found[short] = True
    bad = np.zeros(image.shape, bool)
    if axis:
        image, found, bad = (np.ascontiguousarray(a.T) for a in (image, found, bad))
    before = np.count_nonzero(found)
    drop_lines(image, found, bad, [np.s_[0 : image.shape[0], 0 : image.shape[1]]])
    left = found.T if axis else found
    assert before - np.count_nonzero(found) == 15 + 30 + 30
    assert all(left[row, column] for row, column in track) and left[short].all()


def test_a_track_across_a_long_line_stays():
    image = sky_image((400, 500), 300, 8)
    found = np.zeros(image.shape, bool)
    found[100:200, 250] = True
    found[150:152, 240:262] = True
    drop_lines(image, found, np.zeros(image.shape, bool), WHOLE)
    assert found[150:152, 240:262].all() and found[100:148, 250].sum() == 0
