"""How well the shipped models do on real sky with known truth, beside their peers."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import label, maximum

from crattn_stage import load_model
from crattn_stage.models import cards as models
from crattn_stage.models.networks import restore
from crattn_stage.quality.star_cores import star_cores
from crattn_stage.simulation.skies import expose, simulate_sky
from training import checkpoints
from training.configuration import Configuration
from training.data.hits import simulated_hits
from training.data.library import Skies
from training.evaluation import peers, real, tables
from training.evaluation.measure import measure
from training.evaluation.metrics import at_setting, interval
from training.evaluation.scene_sets import make_scenes
from training.export import export


@pytest.fixture(scope="module")
def scenes(data):
    """Held-out footprints on the held-out rows of a real DECam CCD."""
    return make_scenes(Skies("test", data), "r", 1)


@pytest.mark.parametrize("name", ["att-cosmic-conn", "att-deepcr"])
def test_shipped_models_on_real_decam_sky(name, scenes, data, capsys):
    folder = data / "reference_checkpoints"
    contenders = [
        *peers.shipped([name]),
        *peers.released(folder, [name]),
        *peers.method("astro-scrappy", settings=[5.0], levels=()),
    ]
    results = [measure("r", scenes, peer) for peer in contenders]
    with capsys.disabled():
        print("", *tables.accuracy("r", "DECam r", results), sep="\n")
    ours, theirs, scrappy = (result.row for result in results)
    assert ours["f1"] >= 0.85 and ours["fpr"] <= 2e-4
    assert ours["f1"] > theirs["f1"] > 0.8
    assert ours["f1"] > scrappy["f1"] > 0.7
    low, high = interval(results[0].samples["f1"])
    assert low <= ours["f1"] <= high


@pytest.mark.parametrize("name", models.shipped())
def test_community_pipeline_hits_are_found(name, data, monkeypatch):
    """Objects that the Community Pipeline flagged (DQ 5) with two pixels above 3 sigma."""
    monkeypatch.setattr("training.evaluation.real.FRAMES", {"LCO 1 m": real.FRAMES["LCO 1 m 300 s, crowded"]})
    report = real.look(*peers.shipped([name]), data)
    assert report.expected >= 4 and report.missed == []
    # A crowded field: hits are few, and no star is one.
    assert 0 < report.masked["LCO 1 m"] < 2e-3 and report.stars["LCO 1 m"][0] == 0
    assert name in str(real.describe({name: report}, name)[0])


@pytest.mark.parametrize("name", models.shipped())
def test_undersampled_stars_are_left_alone(name, data):
    with fits.open(data / "other" / "ztf_zr_30s_starfield.fits.fz") as hdus:
        image = hdus["SCI"].data[:768, :768].astype(np.float32)
    found = load_model(name).detect(image)
    stars, flagged = star_cores(image, found)
    assert stars > 100 and flagged <= 0.01 * stars
    # Nor are faint ones and rims masked.
    assert 0 < found.mean() < 1e-3


@pytest.mark.parametrize("name", models.shipped())
def test_undersampled_sky_keeps_the_false_positive_rate(name, data):
    scenes = make_scenes(Skies("test", data), "stars:1.5", 1)
    row = measure("stars:1.5", scenes, *peers.shipped([name]), replicates=0).row
    assert row["fpr"] < 3e-4 and row["f1"] > 0.8


@pytest.mark.parametrize("name", models.shipped())
@pytest.mark.parametrize("kind", ["thin:2.5", "thin:4", "galaxies"])
def test_clear_hits_on_well_sampled_sky_are_found(name, kind, data):
    (scene,) = make_scenes(Skies("test", data), kind, 1, density=150)
    found = load_model(name).detect(scene.image, scene.sky.bad)
    numbers, count = label(scene.truth, np.ones((3, 3)))
    every = np.arange(1, count + 1)
    peak = maximum((scene.image - scene.sky.image) / scene.sky.sigma, numbers, every)
    assert (peak > 10).sum() > 80 and maximum(found, numbers, every)[peak > 10].mean() > 0.98
    masked, count = label(found, np.ones((3, 3)))
    assert count - np.count_nonzero(np.unique(masked[scene.truth])) <= 8


@pytest.mark.parametrize("name", [models.DEFAULT, "att-deepcr"])
def test_hits_beside_an_edge_are_found_as_those_elsewhere(name):
    """What lies beyond an edge is mirrored, so that a hit beside it looks like a close pair."""
    rng, size, hits = np.random.default_rng(6), 512, simulated_hits(120, 5)
    plane, _ = simulate_sky((size, size), rng)
    charge = np.zeros((size, size), np.float32)
    for number, hit in enumerate(hit for hit in hits if max(hit.shape) < 100):
        row, column = (rng.integers(0, size - n + 1) for n in hit.shape)
        charge[row : row + len(hit), column : column + hit.shape[1]] += hit
        # Half of them with their first row or column within 4 pixels of an edge.
        if number % 2:
            off, along = rng.integers(4), rng.integers(0, size - max(hit.shape) + 1)
            place = charge if rng.random() < 0.5 else charge.T
            place[off : off + len(hit), along : along + hit.shape[1]] += hit
    level, gain, read_noise = 300.0, 4.0, 7.0
    image = expose(plane + charge, level * gain, read_noise, gain, rng)
    bright = charge / gain > 3 * np.sqrt(level * gain + read_noise**2) / gain
    found, inside = load_model(name).detect(image), np.zeros(image.shape, bool)
    inside[4:-4, 4:-4] = True
    assert (bright & ~inside).sum() > 150
    assert found[bright & ~inside].mean() > found[bright & inside].mean() - 0.03 > 0.93


def test_an_exported_model_is_what_was_calibrated(tmp_path, data, monkeypatch):
    """The way from a checkpoint to a card, at one sky level and on one realisation."""
    monkeypatch.setattr("training.evaluation.measure.LEVELS", ())
    monkeypatch.setattr("training.evaluation.report.DEFAULT_SETS", ("r",))
    run = tmp_path / "run"
    run.mkdir()
    network = restore(*models.load("deepcr"))
    checkpoints.save(run, Configuration("deepcr", steps=1), {"step": 1, "mean": network.state_dict()})
    (run / "training.json").write_text('{"trained_on": "real skies"}')
    card = export(run, tmp_path / "models", {"data": data}, count=1)
    # It is measured by the reference engine; the others give its masks but for a few pixels.
    loaded = load_model(tmp_path / "models" / "deepcr.safetensors", "float32")
    assert loaded.card == card and card.sha256 == models.read_card("deepcr").sha256
    (scene,) = make_scenes(Skies("test", data), "r", 1)
    found = loaded.detect(scene.image, scene.sky.bad)
    good = ~scene.sky.bad
    assert at_setting(found[good], scene.truth[good])["f1"] == pytest.approx(card.metrics["r"]["f1"], abs=1e-5)
    assert 0.2e-4 < card.metrics["r"]["fpr"] < 2e-4
