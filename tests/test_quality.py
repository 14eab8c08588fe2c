import numpy as np
import pytest

from crattn_stage.quality import Summary, count_hits, header_cards, star_cores, total
from crattn_stage.simulate import expose, simulate_sky
from crattn_stage.stage import saturated_stars


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


def test_an_empty_or_constant_image_has_no_stars():
    nothing = np.zeros((64, 64), bool)
    assert star_cores(np.random.default_rng(0).normal(size=(64, 64)), nothing) == (0, 0)
    assert star_cores(np.zeros((64, 64)), nothing) == (0, 0)


def test_touching_pixels_are_one_hit():
    mask = np.zeros((20, 20), bool)
    mask[2, 2] = mask[3, 3] = mask[10, 10] = True
    assert count_hits(mask) == 2


def test_rates_fractions_and_totals():
    one = Summary(pixels=50, searched=10_000, hits=6, area=0.02, stars=10, stars_flagged=1)
    both = total([one, Summary(pixels=0, searched=10_000, hits=0, area=0.02)])
    assert one.fraction == 0.005 and one.star_fraction == 0.1
    assert one.rate(60) == pytest.approx(300) and both.rate(120) == pytest.approx(75)
    assert one.rate(None) is None
    assert total([one, Summary(area=None)]).area is None


@pytest.mark.parametrize(
    ("summary", "verdict"),
    [
        (Summary(pixels=10, searched=10_000), ("PASS", "")),
        (Summary(pixels=200, searched=10_000), ("WARN", "masked 2.0% of pixels")),
        (Summary(pixels=900, searched=10_000), ("FAIL", "masked 9.0% of pixels")),
        (Summary(searched=10, stars=100, stars_flagged=5), ("WARN", "masked 5.0% of star cores")),
        (Summary(searched=10, stars=100, stars_flagged=30), ("FAIL", "masked 30.0% of star cores")),
        (Summary(searched=10, stars=5, stars_flagged=5), ("PASS", "")),
        (Summary(), ("FAIL", "no good pixel")),
    ],
)
def test_verdicts(summary, verdict):
    assert summary.verdict() == verdict


def test_cards_fit_a_header():
    provenance = {"model": "m", "sha256": "ab" * 32, "threshold": 0.4, "engine": "float32", "version": "1"}
    cards = header_cards(Summary(pixels=1, searched=1000, hits=1), None, provenance)
    assert cards["CRMODSHA"][0] == "ab" * 8 and cards["CRRATE"][0] is None and cards["CRSTAR"][0] is None
    assert header_cards(Summary(), 1, provenance)["L1STATCR"][0] == 0
    from astropy.io import fits

    header = fits.Header()
    header.update(cards)
    assert len(header) == len(cards) and all(len(str(card)) == 80 for card in header.cards)


def test_wide_saturation_is_a_star_and_narrow_is_not():
    image = np.zeros((50, 50))
    image[10:15, 10:15] = image[5:30, 12] = 7e4
    image[40, 5:40] = image[41, 5:40] = 7e4
    stars = saturated_stars(image, 6e4)
    assert stars[10:15, 10:15].all() and stars[5:30, 12].all()
    assert not stars[40:42].any()
    assert not saturated_stars(image, None).any()
