import numpy as np
import pytest
from scipy.ndimage import label

from crattn_stage.cameras.profile import LIMITED
from crattn_stage.quality import rules
from crattn_stage.quality.cards import header_cards
from crattn_stage.quality.summary import Injected, Summary, count_hits, total


def test_touching_pixels_are_one_hit():
    mask = np.zeros((20, 20), bool)
    mask[2, 2] = mask[3, 3] = mask[10, 10] = True
    assert count_hits(mask) == 2


@pytest.mark.parametrize("fraction", [0.0, 0.005, 0.015, 0.3])
@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (50, 70)])
def test_hits_are_counted_as_scipy_labels_them(shape, fraction):
    for seed in range(5):
        mask = np.random.default_rng(seed).random(shape) < fraction
        for one in (mask, mask.T, mask[::2, ::-1]):
            assert count_hits(one) == label(one, np.ones((3, 3)))[1]


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
        # Of ten, one may be hit; of 14, not seven.
        (Summary(searched=10, stars=10, stars_flagged=1), ("PASS", "")),
        (Summary(searched=10, stars=14, stars_flagged=7), ("FAIL", "masked 50.0% of star cores")),
        # Of ten, one may be hit; of fifty, 14 were not.
        (Summary(searched=10, galaxies=10, galaxies_flagged=1), ("PASS", "")),
        (Summary(searched=10, galaxies=50, galaxies_flagged=14), ("WARN", "masked 28.0% of galaxy nuclei")),
        (Summary(searched=10, galaxies=50, galaxies_flagged=20), ("FAIL", "masked 40.0% of galaxy nuclei")),
        (Summary(), ("FAIL", "no usable pixel")),
    ],
)
def test_verdicts(summary, verdict):
    assert rules.verdict(summary) == verdict


def test_a_camera_has_limits_of_its_own():
    summary = Summary(pixels=200, searched=10_000)
    assert rules.verdict(summary, limits={"CRFRAC": [0.03, 0.1]}) == ("PASS", "")
    assert rules.verdict(summary, limits={"CRFRAC": [0.001, 0.01]}) == ("FAIL", "masked 2.0% of pixels")
    provenance = {"model": "m", "sha256": "ab" * 32, "threshold": 0.4, "engine": "float32", "version": "1"}
    assert header_cards(summary, None, {**provenance, "limits": {"CRFRAC": [0.03, 0.1]}})["CRQC"][0] == "PASS"
    assert {rule.keyword for rule in rules.RULES} == set(LIMITED)


def test_a_rate_fails_only_beyond_its_noise():
    few, many = (Summary(searched=10, hits=hits, area=0.5) for hits in (16, 400))
    assert rules.verdict(few, 60) == ("PASS", "")
    assert rules.verdict(many, 60) == ("FAIL", "masked 800 hits per cm2 per minute")


def test_a_rate_is_judged_without_a_pixel_size_if_no_pixel_explains_it():
    hot, hits = (Summary(searched=1_000_000, hits=hits) for hits in (5000, 300))
    assert hot.rate(60) is None
    assert rules.verdict(hot, 60) == ("WARN", "masked 35 or more hits per cm2 per minute")
    assert rules.verdict(hits, 60) == ("PASS", "")


def test_faint_hits_are_judged_where_no_bright_ones_were_added():
    few, why = Injected(faint=20, faint_found=4), "masked only 20% of faint hits that were added"
    assert rules.verdict(Summary(searched=10, injected=few)) == ("WARN", why)
    assert rules.verdict(Summary(searched=10, injected=few + Injected(bright=9, bright_found=9)))[0] == "PASS"


def test_cards_fit_a_header():
    provenance = {"model": "m", "sha256": "ab" * 32, "threshold": 0.4, "engine": "float32", "version": "1"}
    cards = header_cards(Summary(pixels=1, searched=1000, hits=1), None, provenance)
    assert cards["CRMODSHA"][0] == "ab" * 8 and cards["CRRATE"][0] is None and cards["CRSTAR"][0] is None
    assert header_cards(Summary(), 1, provenance)["L1STATCR"][0] == 0
    from astropy.io import fits

    header = fits.Header()
    header.update(cards)
    assert len(header) == len(cards) and all(len(str(card)) == 80 for card in header.cards)
