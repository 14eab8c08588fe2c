import runpy
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from crattn_stage.simulation.hits import KEV_PER_PAIR, SENSORS, Sensor
from training.evaluation import likeness
from training.evaluation.likeness import CATALOGUES, FEATURES, Cut, features, simulated_footprints, told_apart

THIN = Sensor(8.0, 9.0, 3.0, beneath=15.0, diffusion_length=10.0)


def test_a_hit_is_cut_as_footprints_are():
    cut, rng = Cut(10.0, 35.0, 200.0, 3), np.random.default_rng(1)
    stamp = np.zeros((5, 9), np.float32)
    stamp[2, 1:6] = 20, 300, 500, 300, 120
    found = [cut.footprint(stamp, rng) for _ in range(40)]
    assert all(one.shape[0] >= 1 and one[one > 0].min() >= 1 and one.max() > 400 for one in found)
    # The pixel of 20 electrons is mostly cut away, the one of 120 is not.
    assert np.mean([np.count_nonzero(one) for one in found]) == pytest.approx(4.2, abs=0.5)
    assert cut.footprint(np.full((1, 2), 900, np.float32), rng) is None, "too few pixels"
    assert cut.footprint(np.full((3, 3), 100, np.float32), rng) is None, "too faint a peak"
    assert cut.footprint(np.zeros((3, 3), np.float32), rng) is None


def test_trees_tell_hits_of_another_sensor_apart_and_not_those_of_the_same():
    cut = Cut(10.0, 35.0, 150.0, 3)
    same = [features(simulated_footprints(THIN, cut, 150, seed)) for seed in (1, 2)]
    other = features(simulated_footprints(replace(THIN, pixel=24.0), cut, 150, 3))
    assert same[0].shape == (150, len(FEATURES)) and np.isfinite(same[0]).all()
    assert told_apart(*same) < 0.6 < 0.7 < told_apart(same[0], other)


def test_charge_from_beneath_the_field_is_wider_and_less():
    rng, deep = np.random.default_rng(2), np.full(20000, 6.0)
    way, part = THIN._diffuse(rng, deep)
    # Half of the flux through a plane from a point at a distance is within sqrt(3) times that of its foot.
    assert np.median(np.hypot(*way.T)) == pytest.approx(6 * np.sqrt(3), rel=0.05)
    # Of what starts a length deep all but exp(-1) is lost, as in one dimension.
    assert THIN._diffuse(rng, np.full(20000, 10.0))[1].mean() == pytest.approx(np.exp(-1), rel=0.03)
    assert part.max() <= 1 and THIN._diffuse(rng, np.zeros(5))[1] == pytest.approx(1)


def test_muons_lose_more_in_hard_collisions_and_are_aslant_on_an_upright_sensor():
    rng, plain = np.random.default_rng(3), Sensor(100.0, 10.0, 5.0)
    flat, upright = (np.array([replace(plain, tilt=tilt)._tangent(rng) for _ in range(1500)]) for tilt in (1.0, 90.0))
    # cos^3 of the zenith on a flat one: a median of the cosine of 0.5**0.25.
    assert np.median(1 / np.sqrt(1 + flat**2)) == pytest.approx(0.5**0.25, abs=0.02)
    assert np.median(upright) > 2 * np.median(flat)
    pairs = replace(plain, collisions=1.0)._collided(rng, 20000)
    assert pairs.mean() / 5 == pytest.approx(0.0178 * np.log(60) / KEV_PER_PAIR, rel=0.15)


def test_tuned_sensors_are_those_of_the_catalogues_and_alike(data):
    assert SENSORS.keys() == CATALOGUES.keys()
    for name, (*_, cut, old) in CATALOGUES.items():
        assert SENSORS[name].pixel == old.pixel and cut.pixels >= 2
    real, simulated, tuned, error = likeness.compare(data, "KAF-1001E", SENSORS["KAF-1001E"])
    before = likeness.compare(data, "KAF-1001E", CATALOGUES["KAF-1001E"][2])[2]
    assert len(simulated) == likeness.SETS * len(real) and 0.02 < error < 0.06
    assert tuned < before and tuned < 0.72


def test_the_figure_is_drawn_and_the_table_written(data, tmp_path, monkeypatch):
    script = runpy.run_path(str(ROOT / "docs" / "figures" / "hits.py"))
    monkeypatch.setattr(likeness, "SETS", 1)
    monkeypatch.setattr(likeness, "CATALOGUES", {"KAF-1001E": CATALOGUES["KAF-1001E"]})
    monkeypatch.setitem(script["main"].__globals__, "CATALOGUES", likeness.CATALOGUES)
    script["main"](data, tmp_path)
    header, line = (tmp_path / "hits.csv").read_text().splitlines()
    assert header.startswith("sensor,real hits,") and line.startswith("KAF-1001E,115,")
    assert (tmp_path / "hits.png").read_bytes().startswith(b"\x89PNG")
