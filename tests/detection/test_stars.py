import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_propagation, maximum_filter

from crattn_stage.detection.preprocessing import measure_sky
from crattn_stage.detection.stars import CERTAIN, _parts, measure_stars, spare_stars
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky


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


def test_of_what_the_network_is_certain_less_is_spared():
    image, hit, star = masked_stars_and_hits(1.5)
    image += np.random.default_rng(9).normal(0, 60, image.shape).astype(np.float32)
    kept = []
    for level in range(2, 3 + len(CERTAIN)):
        mask = hit | star
        spare_stars(image, mask, np.zeros(mask.shape, bool), certainty=np.where(mask, np.uint8(level), np.uint8(0)))
        assert not kept or (mask >= kept[-1]).all()
        kept.append(mask)
    without = hit | star
    spare_stars(image, without, np.zeros(mask.shape, bool))
    assert np.array_equal(kept[0], without)
    assert kept[-1][hit].sum() > kept[0][hit].sum()
    assert kept[-1][star].mean() < 0.3


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


def test_a_few_hits_that_were_missed_among_many_stars_do_not_save_their_like():
    image, _, _ = masked_stars_and_hits(1.2, stars=6000)
    rows = np.arange(30, 480, 90)
    hits = np.zeros(image.shape, bool)
    for row in rows:
        image[row - 3 : row + 4, 97:104] = np.median(image)
        # Two pixels across a corner: no star.
        image[[row, row + 1], [100, 101]] += 2000
        hits[[row, row + 1], [100, 101]] = True
    mask = hits & (np.arange(len(image)) < 100)[:, None]
    seen = mask.copy()
    spare_stars(image, seen, np.zeros(mask.shape, bool))
    assert np.array_equal(seen, mask)


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


def test_remnants_of_a_spared_star_go_with_it():
    # As on ZTF frames: single masked pixels two or three pixels beside a star that is spared.
    image, hit, star = masked_stars_and_hits(1.5)
    near_hit = binary_dilation(hit, np.ones((15, 15)))
    quiet = image < np.median(image) + 25
    around = binary_dilation(star, np.ones((3, 3)), iterations=2)
    remnant = np.zeros(star.shape, bool)
    remnant[::3, ::3] = True
    remnant &= around & ~binary_dilation(star, np.ones((3, 3))) & quiet & ~near_hit
    mask = hit | star | remnant
    spare_stars(image, mask, np.zeros(mask.shape, bool))
    # Stars that are not recognised keep theirs.
    kept = binary_dilation(mask & star, np.ones((11, 11)))
    assert (remnant & ~kept).sum() > 50 and not mask[remnant & ~kept].any()
    assert mask[hit].mean() > 0.97


def test_a_sky_that_is_known_gives_the_same():
    image, hit, star = masked_stars_and_hits(1.5)
    image[:, 250:] += 400
    halves, bad = [np.s_[:, :250], np.s_[:, 250:]], np.zeros(hit.shape, bool)
    one, two = hit | star, hit | star
    spare_stars(image, one, bad, halves)
    spare_stars(image, two, bad, halves, measure_sky(image, bad, halves))
    assert np.array_equal(one, two) and one.sum() < (hit | star).sum()


def test_where_hits_outnumber_stars_by_far_unmasked_hits_are_not_taken_for_stars():
    image, hit, _ = masked_stars_and_hits(1.4)
    nothing = np.zeros(hit.shape, bool)
    assert measure_stars(image, hit, nothing)[0]
    many = np.zeros(hit.shape, bool)
    many[::4, ::4] = True
    many &= image < np.percentile(image, 80)
    assert not measure_stars(image, many, nothing)[0]
