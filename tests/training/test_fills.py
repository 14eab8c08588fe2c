"""The evaluation of fills: what it measures is so."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from training.commands import main
from training.evaluation import fills, scene_sets
from training.evaluation.peer_runner import FILLERS, start


def test_errors_are_in_units_of_the_noise():
    errors = fills.Errors(np.random.default_rng(0).normal(0.5, 2, 20000), np.random.default_rng(1).normal(0, 1, 20000))
    assert errors.bias == pytest.approx(0.5, abs=0.1) and errors.scatter == pytest.approx(2, rel=0.05)
    assert errors.ratio == pytest.approx(1, rel=0.05) and np.isnan(fills.Errors(errors.errors).ratio)


@pytest.mark.parametrize("name", ["astro-scrappy-medmask", "astro-scrappy-meanmask", "astro-scrappy-idw"])
def test_astro_scrappy_fills_the_holes_it_is_given(name):
    image, holes = np.random.default_rng(0).normal(300, 8, (80, 80)).astype(np.float32), np.zeros((80, 80), bool)
    holes[20:24, 30:36] = holes[50, 10:30] = True
    filled = start(name)[0](np.where(holes, 5000, image).astype(np.float32), holes, 2.0, 5.0)
    assert np.array_equal(filled[~holes], image[~holes])
    assert np.isfinite(filled[holes]).mean() > 0.9 and np.nanmax(np.abs(filled[holes] - 300)) < 60


def test_the_command_writes_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(scene_sets, "SIDE", 100)
    monkeypatch.setattr(fills, "SCENES", {"sky:300": "sky", "stars:4": "stars"})
    for name in FILLERS:
        monkeypatch.setitem(FILLERS, name, (name, lambda: lambda image, holes, *_: np.full(image.shape, 300.0), False))
    monkeypatch.setattr("training.evaluation.peers.shipped", lambda _: [])
    hits = [np.full((2, 9), 800, np.float32), np.full((4, 4), 3000, np.float32)]
    monkeypatch.setattr("training.data.library.Skies", lambda *_, **__: SimpleNamespace(hits=hits))
    done = CliRunner().invoke(main, ["evaluate", "--fill", "--count", "1", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "fill.csv").read_text().splitlines()))
    ours = next(row for row in rows if row["scenes"] == "sky:300" and row["method"] == "surface")
    assert abs(float(ours["bias"])) < 0.3 and 0.8 < float(ours["scatter / stated"]) < 1.2
    assert next(row for row in rows if row["method"] in FILLERS)["scatter / stated"] == ""
    assert (tmp_path / "fill.txt").read_text() in done.output


def test_deepcr_is_asked_for_with_fill_only(tmp_path, monkeypatch):
    monkeypatch.setattr("training.evaluation.peers.shipped", lambda _: [])
    done = CliRunner().invoke(main, ["evaluate", "--deepcr", str(tmp_path)])
    assert done.exit_code == 2 and "--deepcr needs --fill" in done.output
