"""The benchmark runs, on images small enough for a test; what it measures is not judged here."""

import json

import numpy as np
import pytest
from astropy.io import fits

from benchmarks import inputs
from benchmarks.sections import _end_to_end, _timed
from crattn_stage import load_model

OPTIONS = {"threads": 1, "repeats": 2}


def test_a_detector_in_a_process_of_its_own_scores_as_here():
    images = [inputs.frame((128, 160), seed) for seed in (0, 1)]
    report, (score,) = _timed(OPTIONS, images, "crattn", model="att-deepcr", engine="torch")
    assert report["engine"].startswith("torch") and len(report["seconds"]) == 2
    assert report["megapixels_per_second"] == pytest.approx(128 * 160 / 1e6 / report["median"])
    assert report["peak_megabytes"] > 100
    here = load_model("att-deepcr", "torch").predict(*images[1][:2])
    assert np.allclose(score, here, atol=0.02) and (score > 0.5).any()


def test_a_filter_gives_a_mask():
    report, (score,) = _timed(OPTIONS, [inputs.frame((128, 160))] * 2, "astro-scrappy")
    # At the last of its settings alone.
    assert set(np.unique(score)) == {0, 5} and report["median"] > 0 and 4.9 < report["threshold"] < 5


def test_a_peer_that_is_not_installed_is_left_out_by_name():
    report, scores = _timed(OPTIONS, [inputs.frame((64, 64))], "maximask")
    assert "maximask" in report["left_out"] and scores == []


def test_a_packed_exposure_is_masked_end_to_end(tmp_path, monkeypatch, capsys):
    small = inputs.ccd
    monkeypatch.setattr(inputs, "ccd", lambda seed: small((256, 192), seed))
    path, target = tmp_path / "in.fits.fz", tmp_path / "out.fits.fz"
    inputs.packed_exposure(path, 4, distinct=2)
    _end_to_end("att-deepcr", path, target, 1, "0")
    report = json.loads(capsys.readouterr().out)
    phases = {"read", "mask", "lines", "judge", "pack", "write", "sha256"}
    assert set(report["phases"]) == set(report["cpu"]["phases"]) == phases
    assert 0 < report["cpu"]["in_memory"] < report["cpu"]["seconds"][0]
    with fits.open(path, checksum=True) as before, fits.open(target, checksum=True) as after:
        assert [h.name for h in after] == ["PRIMARY", "N1", "DQ", "N2", "DQ", "N3", "DQ", "N4", "DQ"]
        for number in range(1, 5):
            assert np.array_equal(before[f"N{number}"].data, after[f"N{number}"].data)
            assert ((after["DQ", number].data == 5).sum() > 20) and not (before["DQ", number].data == 5).any()
            assert ((after["DQ", number].data == 1) == (before["DQ", number].data == 1)).all()


def test_an_archive_is_filled_and_measured(tmp_path, monkeypatch):
    """Doubled by the database: each run, path and checksum once."""
    from sqlalchemy import func, select

    from benchmarks import archive
    from calibration_dbs.database import open_database, reading
    from calibration_dbs.tables import Amplifier, Frame, Run

    empty, full = (open_database(f"sqlite:///{tmp_path / name}.sqlite") for name in ("empty", "full"))
    monkeypatch.setattr(archive, "PAGE", 500)
    archive.fill(full, 4 * archive.PAGE - 7)
    with reading(full) as session:
        counts = [session.scalar(select(func.count()).select_from(table)) for table in (Frame, Run, Amplifier)]
        sums = session.scalar(select(func.count(Run.output_sha256.distinct())))
    assert counts == [4 * archive.PAGE - 4] * 3 and sums == counts[0]
    table = archive.compare(empty, full, archive.CLAIMS, 1)
    assert set(table) == {"plan", "submit", "claim and finish", "follow", "trace", "qa"}
    assert all(row["ratio"] > 0 for row in table.values())
    empty.dispose()
    full.dispose()


def test_a_thousand_workers_wait_for_the_slowest_server():
    """What is served one by one is a limit; below it workers do not hinder each other."""
    from benchmarks.scale import simulate

    service = {"broker": 0.001, "database": 0.002, "disk": 0.05}
    alone, _ = simulate(1, 200, service, 10.0)
    ten, busy = simulate(10, 2000, service, 10.0)
    assert abs(ten / alone - 1) < 0.02 and busy["workers"] > 0.97
    many, busy = simulate(1000, 20000, service, 10.0)
    # Twice 0.05 s each: reading and writing.
    assert busy["disk"] > 0.97 and 20000 * 0.1 < many < 20000 * 0.1 + 100
