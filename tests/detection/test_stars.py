import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_propagation, maximum_filter

from crattn_stage.detection.saturation import saturated_stars
from crattn_stage.detection.stars import _parts, spare_stars
from crattn_stage.quality.star_cores import star_cores
from crattn_stage.simulation.simulate import expose, scatter_hits, simulate_hit, simulate_sky


def star_field(fwhm):
    rng = np.random.default_rng(3)
    scene, stars = simulate_sky((300, 300), rng, fwhm=fwhm, stars=1500, galaxies=0, faintest=4000)
    return expose(scene, 1100, 7, 4, rng), stars


@pytest.mark.parametrize("fwhm", [1.8, 3.0, 5.0])
def test_star_cores_are_found_and_masked_ones_counted(fwhm):
    image, stars = star_field(fwhm)
    nothing = np.zeros(image.shape, bool)
    found, flagged = star_cores(image, nothing)
    assert found > 40 and flagged == 0
    cores = nothing.copy()
    rows, columns = np.round(stars[:, :2]).astype(int).clip(0, 299).T
    half = np.arange(len(rows)) % 2 == 0
    for row, column in zip(rows[half], columns[half], strict=True):
        cores[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    found, flagged = star_cores(image, cores)
    assert 0.3 < flagged / found < 0.7


def test_a_hit_as_wide_as_the_stars_is_no_star():
    image, _ = star_field(1.2)
    nothing = np.zeros(image.shape, bool)
    found, _ = star_cores(image, nothing)
    hits = nothing.copy()
    empty = maximum_filter(image, 15) < np.median(image) + 60
    for row, column in np.argwhere(empty[20:-20, 20:-20])[::500][:8] + 20:
        # As round and peaked as a star, but for a side where it ends at once.
        image[row : row + 3, column : column + 2] += np.array([[120, 80], [600, 560], [300, 250]], np.float32)
        hits[row : row + 3, column : column + 2] = True
    assert hits.sum() == 48
    now, flagged = star_cores(image, hits)
    assert flagged == 0 and abs(now - found) < 0.03 * found


def test_an_empty_or_constant_image_has_no_stars():
    nothing = np.zeros((64, 64), bool)
    assert star_cores(np.random.default_rng(0).normal(size=(64, 64)), nothing) == (0, 0)
    assert star_cores(np.zeros((64, 64)), nothing) == (0, 0)


def test_wide_saturation_is_a_star_and_narrow_is_not():
    image = np.zeros((50, 50))
    image[10:15, 10:15] = image[5:30, 12] = 7e4
    image[40, 5:40] = image[41, 5:40] = 7e4
    stars = saturated_stars(image, 6e4)
    assert stars[10:15, 10:15].all() and stars[5:30, 12].all()
    assert not stars[40:42].any()
    assert not saturated_stars(image, None).any()


def masked_stars_and_hits(fwhm, stars=3000):
    """A field, a mask of a tenth of its bright stars and of hits, and which of its pixels are of which."""
    rng = np.random.default_rng(8)
    scene, found = simulate_sky((500, 500), rng, fwhm=fwhm, stars=stars, galaxies=0, faintest=2000)
    charge, hit = scatter_hits(scene.shape, [simulate_hit(rng) for _ in range(60)], rng)
    star = np.zeros(scene.shape, bool)
    bright = found[(found[:, 2] > 10_000) & (found[:, :2] > 4).all(1) & (found[:, :2] < 495).all(1)]
    star[tuple(np.rint(bright[::10, :2]).astype(int).T)] = True
    around = np.ones((3, 3))
    hit = binary_dilation(hit, around)
    star = binary_dilation(star, around, iterations=2)
    # A star that touches a hit is an object with it.
    star &= ~binary_propagation(binary_dilation(hit, around) & star, mask=star)
    return expose(scene + charge, 1100, 7, 4, rng), hit, star


@pytest.mark.parametrize("fwhm", [1.2, 1.7])
def test_where_stars_are_narrow_those_that_were_masked_are_spared(fwhm):
    image, hit, star = masked_stars_and_hits(fwhm)
    mask = hit | star
    spare_stars(image, mask, np.zeros(mask.shape, bool))
    assert mask[star].mean() < 0.3
    assert mask[hit].mean() > 0.97
    assert not mask[~(hit | star)].any()


def test_rims_of_stars_are_spared_and_faint_hits_elsewhere_are_not():
    image, hit, star = masked_stars_and_hits(1.5)
    core = binary_dilation(star & (image == maximum_filter(image, 3)), np.ones((3, 3)))
    rim = star & ~core & ~binary_dilation(hit, np.ones((3, 3)))
    mask = hit | rim
    # Of no more than noise, and not beside a star.
    faint = np.zeros(mask.shape, bool)
    faint[::20, ::20] = True
    faint &= ~binary_dilation(image > np.median(image) + 100, np.ones((11, 11)))
    faint &= ~binary_dilation(mask, np.ones((5, 5)))
    mask |= faint
    spared = mask.copy()
    spare_stars(image, spared, np.zeros(mask.shape, bool))
    assert rim.sum() > 300 and spared[rim].mean() < 0.2
    assert spared[hit].mean() > 0.97
    assert faint.sum() > 50 and spared[faint].mean() > 0.98


def test_objects_of_a_large_detector_are_told_apart():
    # Their number times the pixels is beyond 32 bits.
    numbers = np.zeros((3000, 3000), np.int32)
    numbers[::50, ::50] = np.arange(1, 3601).reshape(60, 60)
    row, column = np.nonzero(numbers)
    parts = _parts(numbers, np.column_stack([row, column])[::2])
    assert np.array_equal(parts[row, column][::2], np.arange(1, 1801)) and not parts[row, column][1::2].any()


def test_one_hit_that_was_missed_does_not_save_its_like():
    image, _, _ = masked_stars_and_hits(1.5)
    mask = np.zeros(image.shape, bool)
    places = [(r, c) for r in range(12, 490, 40) for c in range(12, 490, 40)]
    for row, column in places:
        image[row - 3 : row + 4, column - 3 : column + 4] = np.median(image)
        image[row, column] += 2000
    for row, column in places[1:]:
        mask[row - 1 : row + 2, column - 1 : column + 2] = True
    before = mask.copy()
    spare_stars(image, mask, np.zeros(mask.shape, bool))
    assert np.array_equal(mask, before)


def test_of_two_close_stars_in_one_object_each_is_looked_at():
    rng = np.random.default_rng(2)
    stars = rng.uniform(10, 490, (600, 2))
    # Each has a neighbour, of which the next star is 3 pixels away, to the side or across.
    pairs = stars[::10] + rng.choice([[0, 3], [3, 0], [3, 3]], 60)
    row, column = np.mgrid[:500, :500]
    image = rng.normal(0, 5, (500, 500))
    for y, x in [*stars, *pairs]:
        image += 2000 * np.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * 0.7**2))
    mask = np.zeros(image.shape, bool)
    mask[tuple(np.rint(np.concatenate([stars[::10], pairs])).astype(int).T)] = True
    mask = binary_dilation(mask, np.ones((3, 3)), iterations=2)
    spared = mask.copy()
    spare_stars(image.astype(np.float32), spared, np.zeros(mask.shape, bool))
    assert spared.sum() < 0.3 * mask.sum()


def test_steps_between_amplifiers_and_overscan_hide_no_star():
    image, hit, star = (np.pad(plane, ((0, 0), (32, 0))) for plane in masked_stars_and_hits(1.5))
    image[:, 282:] += 400
    mask = hit | star
    spare_stars(image, mask, np.zeros(mask.shape, bool), [np.s_[:, 32:282], np.s_[:, 282:]])
    assert mask[star].mean() < 0.2
    assert mask[hit].mean() > 0.97


def test_an_empty_mask_stays_empty():
    image, hit, _ = masked_stars_and_hits(1.5)
    mask = np.zeros(hit.shape, bool)
    spare_stars(image, mask, mask.copy())
    assert not mask.any()


@pytest.mark.parametrize("fwhm, stars", [(3.5, 3000), (1.2, 30)])
def test_where_stars_are_wide_or_few_the_mask_stays(fwhm, stars):
    image, hit, star = masked_stars_and_hits(fwhm, stars)
    mask = hit | star
    spare_stars(image, mask, np.zeros(mask.shape, bool))
    np.testing.assert_array_equal(mask, hit | star)


def test_stars_are_never_looked_for_among_bad_pixels():
    image, hit, star = masked_stars_and_hits(1.2)
    image[:] = np.nan
    mask = hit | star
    spare_stars(image, mask, np.ones(mask.shape, bool))
    np.testing.assert_array_equal(mask, hit | star)
