"""Astro-SCRAPPY behind the interface of a model."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import sky_image, with_track

from crattn_stage import detect_cosmics, load_model
from crattn_stage.cli import main
from crattn_stage.errors import EngineError
from crattn_stage.models.cards import read_card


@pytest.fixture(scope="module")
def model():
    return load_model("astroscrappy")


def test_a_track_is_found_and_sky_is_not(model):
    image, hit = with_track(sky_image())
    found = model.detect(image)
    assert found.dtype == bool and found[hit].mean() > 0.95 and found.sum() < 5 * hit.sum()
    probability = model.predict(image)
    assert probability.dtype == np.float32 and np.array_equal(probability > 0.5, found)
    assert not model.detect(image, threshold=1).any()


def test_amplifiers_and_bad_pixels_count(model):
    image, hit = with_track(sky_image((120, 120)), start=70)
    split, bad = image.copy(), np.zeros(image.shape, bool)
    split[:, 60:] = (split[:, 60:] - 300) * 1.7 + 2400
    split[:, 5] = np.nan
    bad[:, 110] = True
    split[:, 110] = 65535
    halves = [np.s_[:, :60], np.s_[:, 60:]]
    found = model.detect(split, bad, amplifiers=halves)
    assert found[hit].mean() > 0.95 and found.sum() < 5 * hit.sum()
    assert not found[:, 5].any() and not found[:, 110].any()
    # An amplifier that is not named is not searched, a dead one neither.
    assert not model.detect(split, bad, amplifiers=halves[:1])[:, 60:].any()
    split[:, 60:] = np.nan
    assert not model.detect(split, bad, amplifiers=halves)[:, 60:].any()
    with pytest.raises(ValueError, match="no good pixel"):
        model.detect(np.full((9, 9), np.nan))


def test_it_has_no_engine_to_choose():
    with pytest.raises(EngineError, match="astroscrappy is a baseline without a network"):
        load_model("astroscrappy", engine="openvino")


def test_detect_cosmics_takes_it(model):
    image, _ = with_track(sky_image())
    assert np.array_equal(detect_cosmics(image, "astroscrappy"), model.detect(image))


def test_run_records_its_identity(frame_file, tmp_path):
    result = CliRunner().invoke(
        main, ["run", str(frame_file()), "--output-dir", str(tmp_path / "out"), "--model", "astroscrappy"]
    )
    assert result.exit_code == 0, result.output
    header = fits.getheader(tmp_path / "out" / "frame.fits")
    card = read_card("astroscrappy")
    assert header["L1IDCR"] == "astroscrappy" and header["CRMODSHA"] == card.sha256[:16]
    assert header["CRENGINE"] == f"astroscrappy {card.code_version}" and header["CRNHIT"] == 1


def test_a_night_is_reprocessed_with_it(frame_file, tmp_path):
    frame_file("20260101.fits", **{"DATE-OBS": "2026-01-01T03:00:00", "OBSTYPE": "OBJECT"})
    where = ["--root", str(tmp_path), "--pattern", "*.fits", "--output-root", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["reprocess", *where, "--night", "20260101", "--model", "astroscrappy"])
    assert result.exit_code == 0, result.output
    assert "1 succeeded" in result.output


def test_the_list_of_models_marks_it():
    listed = CliRunner().invoke(main, ["models", "list"]).output
    (line,) = [line for line in listed.splitlines() if line.startswith("astroscrappy")]
    assert "baseline without weights" in line


def test_it_imports_no_network():
    code = (
        "import sys, numpy; from crattn_stage import load_model; "
        "load_model('astroscrappy').detect(numpy.random.default_rng(0).normal(9, 1, (64, 64))); "
        "print(sorted({'torch', 'openvino'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


FORKING = """
import os, sys
import numpy as np
from crattn_stage import load_model
image = np.random.default_rng(0).normal(300, 8, (400, 400))
image[50, 20:40] += 900
model = load_model("astroscrappy")
here = model.detect(image)
child = os.fork()
if child == 0:
    os._exit(7 if np.array_equal(model.detect(image), here) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_does_not_hang(monkeypatch):
    # With two threads or more, whose pool is the parent's.
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    out = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "7"
