"""Holes are filled without bias, and what is said of the error is true."""

import sys

import numpy as np
import pytest
from conftest import sky_image

from crattn_stage.detection.preprocessing import Sky
from crattn_stage.errors import CrattnError
from crattn_stage.products import surface
from crattn_stage.products.fill import FILLS, fill_holes
from crattn_stage.simulation.skies import simulate_sky


def tracks(shape, count, seed=1):
    """Return tracks three pixels wide, at random."""
    rng, holes = np.random.default_rng(seed), np.zeros(shape, bool)
    for _ in range(count):
        row, column, length = *(rng.integers(8, n - 30) for n in shape), rng.integers(1, 20)
        for step in range(length):
            holes[row + step // 2 : row + step // 2 + 3, column + step : column + step + 3] = True
    return holes


SHAPE = (400, 380)
HOLES = tracks(SHAPE, 90)


@pytest.mark.parametrize(("fill", "level"), [("surface", 50.0), ("surface", 2e4), ("median", 50.0), ("maskfill", 50.0)])
def test_sky_is_filled_without_bias_and_scatters_as_stated(fill, level):
    image = sky_image(SHAPE, level=level, sigma=8.0)
    filled = fill_holes(np.where(HOLES, np.float32(65535), image), HOLES, fill=fill)
    error = filled.values - image[HOLES]
    assert abs(np.median(error)) < 0.1 * 8
    assert np.mean(error**2 / filled.variance) == pytest.approx(1, abs=0.1)
    # The noise of the pixel itself is in it.
    assert (filled.variance > 0.9 * 64).all()


def test_the_surface_follows_stars_better_than_the_others_and_says_how_well():
    rng = np.random.default_rng(3)
    plane, _ = simulate_sky((260, 240), rng, fwhm=4.0, stars=4000, galaxies=0, faintest=4000)
    image, holes = (plane + rng.normal(300, 8, plane.shape)).astype(np.float32), tracks(plane.shape, 50)
    stars, sky, error = plane[holes] > 20, plane[holes] < 5, {}
    for fill in ("surface", "median", "maskfill"):
        filled = fill_holes(np.where(holes, 9e4, image), holes, fill=fill)
        error[fill] = np.median(np.abs(filled.values - image[holes])[stars])
        assert np.median(filled.variance[stars]) > 2 * np.median(filled.variance[sky])
    assert error["surface"] < 0.9 * min(error["median"], error["maskfill"])


def test_a_fill_is_the_same_each_time_and_leaves_its_input():
    image, before = sky_image(SHAPE), sky_image(SHAPE)
    first, second = (fill_holes(image, HOLES) for _ in range(2))
    assert np.array_equal(first.values, second.values) and np.array_equal(first.variance, second.variance)
    assert np.array_equal(image, before)


def test_amplifiers_are_filled_at_their_own_levels():
    image = sky_image(SHAPE, level=0.0)
    sections = [np.s_[:, :190], np.s_[:, 190:]]
    image[:, 190:] = 4 * image[:, 190:] + 1000
    filled = fill_holes(image, HOLES, sections=sections)
    columns = HOLES.nonzero()[1]
    assert abs(filled.values[columns < 188].mean()) < 3 and abs(filled.values[columns > 192].mean() - 1000) < 12
    assert np.median(filled.variance[columns > 192]) > 10 * np.median(filled.variance[columns < 188])


@pytest.mark.parametrize("fill", FILLS[:3])
def test_bad_pixels_are_not_filled_from(fill):
    image, bad = sky_image((90, 80)), np.zeros((90, 80), bool)
    holes = np.zeros_like(bad)
    bad[30:60, 20:50] = holes[44:46, 34:36] = True
    bad[44:46, 34:36] = False
    image[bad] = 30000
    image[10, 10] = np.nan
    filled = fill_holes(image, holes, bad, fill)
    assert np.abs(filled.values - 300).max() < 30 and np.isfinite(filled.variance).all()


@pytest.mark.parametrize("fill", FILLS[:3])
def test_a_hole_out_of_reach_is_filled_with_the_sky(fill):
    image, holes = sky_image((80, 80)), np.zeros((80, 80), bool)
    holes[5:75, 5:75] = True
    filled = fill_holes(image, holes, fill=fill, sky=[Sky(300.0, 8.0)])
    values = np.zeros(holes.shape)
    values[holes] = filled.values
    assert abs(values[40, 40] - 300) < 12 and np.isfinite(filled.values).all() and (filled.variance > 0).all()


def test_nothing_is_made_up_by_none():
    filled = fill_holes(sky_image(SHAPE), HOLES, fill="none")
    assert np.isnan(filled.values).all() and np.isinf(filled.variance).all()


def test_an_image_without_holes_has_no_values():
    filled = fill_holes(sky_image((40, 40)), np.zeros((40, 40), bool))
    assert filled.values.shape == filled.variance.shape == (0,)


def test_neighbours_come_in_the_order_of_the_pixels(monkeypatch):
    monkeypatch.setattr(surface, "BAND", 64)
    monkeypatch.setattr(surface, "PORTION", 17)
    row = np.broadcast_to(np.arange(SHAPE[0], dtype=float)[:, None], SHAPE)
    found = np.concatenate([values[:, 0] for _, values in surface.neighbours(row, HOLES, ~HOLES)])
    assert np.abs(found - HOLES.nonzero()[0]).max() < 8


def test_an_unknown_fill_is_refused():
    with pytest.raises(ValueError, match="unknown fill 'mean'; known: surface, median, maskfill, none"):
        fill_holes(sky_image((40, 40)), np.eye(40, dtype=bool), fill="mean")
    with pytest.raises(ValueError, match="no good pixel"):
        fill_holes(sky_image((40, 40)), np.ones((40, 40), bool))


def test_without_its_package_maskfill_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "maskfill", None)
    with pytest.raises(CrattnError, match=r"pip install 'crattn-stage\[maskfill\]'"):
        fill_holes(sky_image((40, 40)), np.eye(40, dtype=bool), fill="maskfill")
