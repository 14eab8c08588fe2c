"""Frames unlike those on which the models were measured get a warning that says why."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter, shift

from crattn_stage.quality.cards import header_cards
from crattn_stage.quality.domain import unlike
from crattn_stage.quality.rules import verdict
from crattn_stage.quality.star_cores import judge_sources
from crattn_stage.quality.summary import Appearance, Summary, total
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky
from crattn_stage.simulation.spectra import simulate_spectrum


def field(fwhm, stars=1500, **psf):
    rng = np.random.default_rng(3)
    scene, _ = simulate_sky((400, 400), rng, fwhm=fwhm, stars=stars, galaxies=0, faintest=4000, **psf)
    return scene, expose(scene, 1100, 7, 4, rng)


def look(image, mask=None):
    return judge_sources(image, np.zeros(image.shape, bool) if mask is None else mask).appearance


@pytest.mark.parametrize("fwhm", [1.5, 2.5, 4.5, 7.0])
def test_ordinary_seeing_is_no_reason(fwhm):
    found = look(field(fwhm)[1])
    assert found.stars > 30 and unlike(found) == []
    assert found.fwhm == pytest.approx(fwhm, rel=0.25)


def test_undersampled_stars():
    (reason,) = unlike(look(field(1.1, beta=np.inf)[1]))
    assert "undersampled" in reason


def test_hits_are_not_taken_for_stars_that_are_masked():
    rng = np.random.default_rng(3)
    charge, hit = scatter_hits((600, 600), [simulate_hit(rng) for _ in range(150)], rng)
    found = judge_sources(expose(charge, 300, 6, 2, rng), binary_dilation(hit))
    assert found.stars == found.stars_flagged == 0
    (reason,) = unlike(found.appearance)
    assert "as sharp as hits" in reason
    # A camera whose stars are always undersampled, and says so.
    assert verdict(Summary(searched=10, appearance=found.appearance), limits={"CRDOMAIN": [1, 9]})[0] != "PASS"
    # Stars that are a little wider are known even where all are masked.
    scene, image = field(1.3, beta=np.inf)
    found = judge_sources(image, binary_dilation(scene > 300))
    assert found.stars == found.stars_flagged > 30 and not found.appearance.sharp


def test_stars_out_of_focus():
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = tuple((8 * np.sin(t), 8 * np.cos(t)) for t in turns)
    (reason,) = unlike(look(field(1.5, stars=1000, motion=ring)[1]))
    assert "hollow" in reason


@pytest.mark.parametrize("order", [1, 3])
def test_a_resampled_coadd(order):
    rng = np.random.default_rng(1)
    scene, _ = field(4)
    exposures = [shift(expose(scene, 1100, 7, 4, rng), rng.uniform(-0.5, 0.5, 2), order=order) for _ in range(5)]
    (reason,) = unlike(look(np.mean(exposures, 0)))
    assert "correlated" in reason


@pytest.mark.parametrize("kind", ["long-slit", "arc"])
@pytest.mark.parametrize("seed", [1, 2, 5, 6])
def test_a_spectrum_that_nobody_calls_one(kind, seed):
    rng = np.random.default_rng(seed)
    image = expose(simulate_spectrum((400, 400), rng, kind).electrons, 300, 7, 4, rng)
    (reason,) = (one for one in unlike(look(image)) if "lines" in one)
    assert "[[spectrum]]" in reason


ROW, COLUMN = np.mgrid[:800, :800]


@pytest.mark.parametrize(
    "light",
    [
        5.0 * ROW,
        8000 * np.exp(-(np.hypot(ROW - 400, COLUMN - 400) ** 2) / 2 / 500**2),
        3000 * np.exp(-((ROW - 200) ** 2) / 2 / 8**2),
        100 * np.exp(-((COLUMN - 500) ** 2) / 2 / 4**2),
        np.zeros((800, 800)),
    ],
    ids=["twilight", "flat", "one trace", "a faint trace", "dark sky"],
)
def test_light_without_a_star_is_no_pass(light):
    found = look(expose(light, 300, 7, 4, np.random.default_rng(2)))
    (reason,) = unlike(found)
    assert "spectr" in reason if light.any() else reason == "no star is in it that is not masked"
    assert verdict(Summary(searched=10, appearance=found))[0] == "WARN"


def test_few_pixels_of_flat_sky_need_no_star():
    assert unlike(look(expose(np.zeros((400, 400)), 300, 7, 4, np.random.default_rng(2)))) == []


@pytest.mark.parametrize("slope", [2, 10])
def test_stars_on_uneven_light(slope):
    rng = np.random.default_rng(5)
    scene, _ = simulate_sky(ROW.shape, rng, fwhm=3, stars=400, galaxies=100, faintest=4000)
    found = look(expose(scene + slope * ROW, 300, 7, 4, rng))
    assert found.stars > 20 and unlike(found) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_dense_cluster_is_no_spectrum(seed):
    rng = np.random.default_rng(seed)
    places = np.rint(256 + 60 * rng.standard_t(2, (8000, 2))).astype(int)
    light = np.zeros((512, 512))
    inside = ((places >= 0) & (places < 512)).all(1)
    np.add.at(light, tuple(places[inside].T), np.minimum(300 * rng.pareto(1.2, inside.sum()), 50_000) * 15)
    assert not look(rng.poisson(200 + gaussian_filter(light, 1.7)).astype(np.float32)).striped


def test_bad_columns_and_bleed_trails_are_no_lines_of_a_spectrum():
    image = field(2.5)[1]
    image[:, 20::60] += 500
    image[:, [100, 101, 102, 300, 301]] += 3000
    assert not look(image).striped


def test_hot_pixels_are_told_from_hits():
    rng = np.random.default_rng(4)
    _, image = field(2.5)
    hot = np.zeros(image.shape, bool)
    hot[10::40, 10::40] = True
    image = image + np.where(hot, rng.uniform(800, 5000, image.shape), 0)
    (reason,) = unlike(look(image, binary_dilation(hot, np.ones((3, 3)))))
    assert "single pixels" in reason
    few = hot & (np.arange(len(image)) < 40)[:, None] & (np.arange(image.shape[1]) < 240)
    assert look(image, few).peaks == 6 and reason not in unlike(look(image, few))
    # On two detectors together there are enough.
    assert reason in unlike(total([Summary(appearance=look(image, few))] * 2).appearance)


@pytest.mark.parametrize("thickness", [15, 100, 250])
def test_hits_are_no_hot_pixels(thickness):
    rng = np.random.default_rng(6)
    scene, _ = field(2.5)
    charge, truth = scatter_hits(scene.shape, [simulate_hit(rng, thickness=thickness) for _ in range(80)], rng)
    found = look(expose(scene + charge, 1100, 7, 4, rng), truth)
    assert found.peaks > 60 and found.alone < 0.3 * found.peaks


def test_no_sky_and_too_little_to_tell():
    assert unlike(Appearance(good=100_000, sky=5_000)) == ["sources nearly everywhere"]
    # Noise is not measured on so little, and the nucleus of a galaxy that fills the frame may be masked.
    assert unlike(Appearance(good=40_000, sky=15_000)) == ["too little sky to measure, 15000 pixels"]
    assert unlike(Appearance(good=40_000, sky=25_000)) == []
    assert unlike(Appearance()) == []


def test_a_cut_out_too_small_to_measure_is_no_pass():
    # 100 x 100 pixels: no hits can be added, and neither stars nor noise tell.
    small = look(field(2.5)[1][:100, :100])
    assert small.good < 10_001 and unlike(small) == [f"too small to measure, {small.good} good pixels"]
    level, why = verdict(Summary(pixels=36, searched=10_000, hits=4, appearance=small), seconds=60)
    assert level == "WARN" and "too small to measure" in why


def test_a_header_that_says_nothing_is_no_pass():
    blank = Appearance(good=100_000, sky=90_000, undescribed=1)
    (reason,) = unlike(blank)
    assert "no EXPTIME, DATE-OBS, INSTRUME or IMAGETYP" in reason
    assert verdict(Summary(searched=100_000, appearance=blank))[0] == "WARN"
    assert verdict(Summary(searched=100_000, appearance=Appearance(good=100_000, sky=90_000))) == ("PASS", "")


def test_the_verdict_warns_and_keeps_what_is_worse():
    spectrum = Summary(pixels=10, searched=10_000, appearance=Appearance(spectra=1))
    why = "unlike what the models were measured on: a two-dimensional spectrum"
    assert verdict(spectrum) == ("WARN", why)
    both = total([spectrum, Summary(pixels=1990, searched=10_000)])
    assert verdict(both) == ("FAIL", f"masked 10.0% of pixels; {why}")
    provenance = {"model": "m", "sha256": "ab" * 32, "threshold": 0.5, "engine": "e", "version": "0"}
    assert header_cards(both, None, provenance)["CRDOMAIN"][0] == "a two-dimensional spectrum"


def test_masked_objects_and_no_star_beside_them_are_no_pass():
    rng = np.random.default_rng(4)
    charge, truth = scatter_hits((400, 400), [simulate_hit(rng, kind="track") for _ in range(15)], rng)
    found = look(expose(charge, 300, 7, 4, rng), truth)
    assert found.peaks >= 20 and "no star is in it that is not masked" in unlike(found)
