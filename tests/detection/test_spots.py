"""Round hits that are sharper than the stars of their frame."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, uniform_filter

from crattn_stage.detection.preprocessing import measure_sky
from crattn_stage.detection.spots import mask_spots
from crattn_stage.detection.stars import measure_stars
from crattn_stage.simulation.skies import moffat_psf, simulate_sky

SHAPE, NOISE = (400, 400), 10.0
SPOTS = np.argwhere(np.ones((9, 9))) * 40 + 37


def field(fwhm, beta=np.inf, width=1.5, spots=SPOTS):
    """A field of stars, with round spots, 15 to 150 times the noise high, some 40 pixels apart where it is dark."""
    rng = np.random.default_rng(3)
    light, _ = simulate_sky(SHAPE, rng, fwhm=fwhm, stars=300, galaxies=100, faintest=2000, beta=beta)
    places = []
    for row, column in spots:
        window = uniform_filter(light, 9)[row - 15 : row + 16, column - 15 : column + 16]
        place = np.unravel_index(np.argmin(window), window.shape)
        places.append((place[0] + row - 15, place[1] + column - 15))
    for number, (row, column) in enumerate(places):
        spot = moffat_psf(width, np.inf, 5)[tuple(rng.integers(0, 5, 2))]
        height = NOISE * 15 * 10 ** (number / len(places))
        light[row - 5 : row + 6, column - 5 : column + 6] += spot / spot.max() * height
    noise = np.sqrt(NOISE**2 + light) * rng.standard_normal(SHAPE)
    return np.float32(300 + light + noise), np.array(places)


def sharpest_star(fwhm, beta=np.inf):
    image, nothing = field(fwhm, beta, spots=())[0], np.zeros(SHAPE, bool)
    return measure_stars(image, nothing, nothing)[1]


def masked(image, sharpest, suspects=None, bad=None, sections=None):
    """What is added to an empty mask, all pixels being suspect unless given."""
    found, nothing = np.zeros((2, *SHAPE), bool)
    bad, sections = nothing if bad is None else bad, sections or [np.s_[:, :]]
    suspects = ~nothing if suspects is None else suspects
    mask_spots(image, found, suspects, bad, sections, measure_sky(image, bad, sections), sharpest)
    return found


def near(mask, places):
    """Whether a pixel of a mask is within 2 of each place."""
    return maximum_filter(mask, 5)[tuple(np.transpose(places))]


@pytest.mark.parametrize(("fwhm", "beta"), [(2.6, np.inf), (3.0, 3.0), (4.0, np.inf), (4.0, 3.0), (7.0, np.inf)])
def test_spots_are_masked_and_no_star_or_galaxy(fwhm, beta):
    image, spots = field(fwhm, beta)
    mask, there = masked(image, sharpest_star(fwhm, beta)), np.zeros(SHAPE, bool)
    there[tuple(spots.T)] = True
    assert near(mask, spots).mean() > 0.9 and not mask[~maximum_filter(there, 5)].any()
    assert not masked(field(fwhm, beta, spots=())[0], sharpest_star(fwhm, beta)).any()


def test_only_spots_that_the_network_suspects_are_masked():
    image, spots = field(4.0)
    every = near(masked(image, 0.15), spots)
    # A rim is enough.
    rims = np.zeros(SHAPE, bool)
    rims[tuple(spots[::2].T + 2)] = True
    some = near(masked(image, 0.15, rims), spots)
    assert np.array_equal(some[::2], every[::2]) and every.all() and not some[1::2].any()
    assert not masked(image, 0.15, np.zeros(SHAPE, bool)).any()


def test_where_stars_are_few_or_as_wide_as_spots_none_is_masked():
    assert not masked(field(2.6, width=2.4)[0], sharpest_star(2.6)).any()
    nothing = np.zeros(SHAPE, bool)
    empty = np.random.default_rng(0).normal(300, NOISE, SHAPE).astype(np.float32)
    assert measure_stars(empty, nothing, nothing) == (False, np.inf)
    assert not masked(field(4.0)[0], np.inf).any()


def test_a_few_hits_among_the_stars_do_not_count():
    nothing = np.zeros(SHAPE, bool)
    image, spots = field(4.0, spots=SPOTS[::16])
    assert measure_stars(image, nothing, nothing)[1] < 0.2
    assert near(masked(image, measure_stars(image, nothing, nothing)[1]), spots).all()


def test_hot_pixels_columns_and_what_is_beside_bad_pixels_are_left():
    image, spots = field(4.0, spots=SPOTS)
    image[:] = np.random.default_rng(1).normal(300, NOISE, SHAPE)
    hot, columns, others = np.split(spots, 3)
    image[tuple(hot.T)] += 100 * NOISE
    rng = np.random.default_rng(2)
    more = rng.integers(8, np.array(SHAPE) - 8, (40, 2))
    more = more[~near(maximum_filter(image > 350, 9), more)]
    image[tuple(more.T)] += 100 * NOISE
    for row, column in columns:
        image[row - 9 : row + 10, column] += 40 * NOISE
    bad = np.zeros(SHAPE, bool)
    for row, column in others:
        image[row - 1 : row + 2, column - 1 : column + 2] += np.float32([[9, 20, 9], [20, 50, 20], [9, 20, 9]]) * NOISE
        bad[row, column + 3] = True
    assert not masked(image, 0.15, bad=bad).any()
    assert np.array_equal(near(masked(image, 0.15), spots), np.arange(len(spots)) >= len(spots) - len(others))
    # As many as there are other hits, they are hits.
    image[tuple(more.T)] -= 100 * NOISE
    assert np.array_equal(near(masked(image, 0.15), spots), np.repeat([True, False, True], len(others)))


@pytest.mark.parametrize("fwhm", [1.2, 1.5, 2.0])
def test_among_narrow_stars_single_pixels_are_hits_and_no_star_is(fwhm):
    image, spots = field(fwhm, width=0.5)
    nothing = np.zeros(SHAPE, bool)
    sharpest = sharpest_star(fwhm)
    longer = nothing.copy()
    longer[2:6:2, 5:-5:8] = longer[2:6:2, 6:-5:8] = longer[2:6:2, 7:-5:8] = True
    found = longer.copy()
    mask_spots(image, found, ~nothing, nothing, [np.s_[:, :]], measure_sky(image, nothing, [np.s_[:, :]]), sharpest)
    there = nothing.copy()
    there[tuple(spots.T)] = True
    assert near(found, spots).mean() > (0.5 if fwhm < 1.5 else 0.9)
    assert not (found & ~longer & ~maximum_filter(there, 5)).any()
    # On its side of a dip, a star is not sharper than elsewhere.
    ramp = np.where(np.arange(SHAPE[1]) < 200, -6 * NOISE, 0).astype(np.float32)
    found = longer.copy()
    stars = field(fwhm, spots=())[0] + ramp
    mask_spots(stars, found, ~nothing, nothing, [np.s_[:, :]], measure_sky(image, nothing, [np.s_[:, :]]), sharpest)
    assert np.array_equal(found, longer)


def test_each_amplifier_has_its_own_sky_and_a_dead_one_none():
    image, spots = field(4.0)
    halves, nothing = [np.s_[:, :200], np.s_[:, 200:]], np.zeros(SHAPE, bool)
    # Spots at the border of an amplifier are left.
    inside = spots[np.abs(spots[:, 1] - 199.5) > 6]
    image[:, 200:] += 5000
    sky = [measure_sky(image, nothing, halves)[0], None]
    assert near(masked(image, 0.15, sections=halves), inside).all()
    mask_spots(image, nothing, ~nothing, np.zeros(SHAPE, bool), halves, sky, 0.15)
    assert np.array_equal(near(nothing, inside), inside[:, 1] < 200)


def test_damaged_values_are_no_spots():
    image, spots = field(4.0)
    image[tuple(spots[0])], image[tuple(spots[1])], image[tuple(spots[2] + 2)] = 3e38, np.nan, -np.inf
    assert not near(masked(image, 0.15, bad=~np.isfinite(image)), spots[1:3]).any()
    assert near(masked(image, 0.15), spots[3:]).all()
    # Heights that overflow.
    image = image / 1000
    image[tuple(spots[:3].T)] = 3e38
    with warnings.catch_warnings(action="error"):
        assert near(masked(image, 0.15, bad=~np.isfinite(image)), spots[3:]).all()
