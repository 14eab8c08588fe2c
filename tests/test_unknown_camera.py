"""A camera that nobody has heard of: from nothing to a night, with a TOML file and no Python."""

import json

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import sky_image, with_track

from crattn_stage.cli import main

PROFILE = """title = "Toy camera of nowhere"
references = ["this test"]

[[recognise]]
APPARATU = "Toycam.*"

[[refuse]]
MODE = "drift"
why = "a drift scan: its columns were exposed one after the other"

[[calibration]]
KIND = "shutter closed"
kind = "bias"

[[calibration]]
KIND = "shutter closed, long"
kind = "dark"

[[calibration]]
KIND = "screen"
kind = "flat"

[[hdus]]
role = "science"
HDU = 0

[amplifiers]
data = ["ACTIVE"]

[keywords]
type = ["KIND"]
camera = ["APPARATU"]
gain = ["ELPERCNT"]
exposure = ["OPENMS [ms]"]
date = ["WHEN"]
saturation = ["FULL"]

[values]
longitude = -17.88
pixel_size = 9.0

[settings]
bad_pixels = "toycam-bad.fits"
"""
SHAPE = (160, 208)
COLUMN = 60


def write_frame(path, kind, image, **cards):
    hdu = fits.PrimaryHDU(image.astype(np.uint16))
    hdu.header.update(APPARATU="Toycam 1", KIND=kind, ELPERCNT=1.8, OPENMS=90000, FULL=60000.0, ACTIVE="[1:192,1:160]")
    hdu.header.update(WHEN="2013-01-06T01:30:00", **cards)
    hdu.writeto(path)


def crattn(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Twelve frames of one night, one of them corrupt, and a profile with a bad-pixel file."""
    cameras, folder = tmp_path / "cameras", tmp_path / "data" / "2013-01-05"
    cameras.mkdir()
    folder.mkdir(parents=True)
    (cameras / "toycam.toml").write_text(PROFILE)
    bad = np.zeros(SHAPE, np.uint8)
    bad[:, COLUMN] = 1
    fits.PrimaryHDU(bad).writeto(cameras / "toycam-bad.fits")
    for number in range(7):
        image, _ = with_track(sky_image(SHAPE, 900, 20, seed=number), 2000)
        image[:, COLUMN] += 500
        # Overscan, without a word in the header but ACTIVE.
        image[:, 192:] = sky_image((160, 16), 300, 3, seed=number)
        write_frame(folder / f"toy{number:03}.fits", "sky", image)
    for number, kind in enumerate(("shutter closed", "shutter closed, long", "screen", "screen"), 7):
        write_frame(folder / f"toy{number:03}.fits", kind, sky_image(SHAPE, 300, 3, seed=number))
    whole = (folder / "toy000.fits").read_bytes()
    (folder / "toy011.fits").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setenv("CRATTN_CAMERAS", str(cameras))
    return tmp_path


def test_from_inspect_to_the_verdicts_of_a_night(night):
    frames = sorted((night / "data" / "2013-01-05").iterdir())
    said = json.loads(crattn("inspect", "--json", *frames).stdout)
    assert [one["verdict"] for one in said] == ["mask"] * 7 + ["skip"] * 4 + ["refuse"]
    assert said[0]["camera"]["profile"] == "toycam" and said[0]["exposure"]["night"] == "20130105"
    assert said[0]["exposure"]["seconds"] == 90
    (detector,) = said[0]["detectors"]
    assert detector["amplifiers"][0]["section"] == "[1:192,1:160]" and detector["amplifiers"][0]["gain"] == 1.8
    assert detector["saturation"] == 60000 and "toycam-bad.fits" in detector["bad pixels"]["from"]
    result = crattn(
        *("reprocess", "--night", "20130105", "--root", night / "data", "--pattern", "**/*.fits"),
        *("--output-root", night / "masked", "--model", "att-deepcr", "--engine", "float32", "--jobs", "1"),
    )
    assert result.exit_code == 1, result.output
    assert "toy011.fits: truncated" in result.output
    masked = sorted((night / "masked" / "2013-01-05").iterdir())
    assert [path.name for path in masked] == [f"toy{number:03}.fits" for number in range(7)]
    for path in masked:
        with fits.open(path) as hdus:
            found = hdus["MASK"].data == 8
            _, hit = with_track(sky_image(SHAPE))
            assert found[hit].mean() > 0.9
            # Neither the bad column nor the overscan is a cosmic ray.
            assert not found[:, COLUMN].any() and not found[:, 192:].any()
            assert hdus[0].header["CRQC"] == "PASS" and hdus[0].header["CRRATE"] > 0
    result = crattn("qa", "--night", "20130105")
    assert "night 20130105: 7 PASS, 0 WARN, 1 FAIL" in result.stdout, result.output


def test_what_the_profile_refuses_is_refused_by_its_sentence(night):
    path = night / "drift.fits"
    write_frame(path, "sky", sky_image(SHAPE), MODE="drift")
    result = crattn("inspect", path)
    assert result.exit_code == 1 and "refuses it: a drift scan: its columns" in result.output
