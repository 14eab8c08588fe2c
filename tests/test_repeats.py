"""Repeated exposures of a night: which are of one field, and what ``qa --repeats`` says of them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

from benchmarks.grade import DITHERS, FIELDS, GAIN, exposure
from calibration_dbs.database import open_database
from calibration_dbs.provenance import recorded_run
from crattn_stage.cli import main
from crattn_stage.nights.repeats import read_pointing, repeated

SIDE, PIXEL = 320, 1e-4
MODEL = {"name": "m", "architecture": "deepcr", "sha256": "ab" * 32}


def sky(ra, dec=2.0, dither=(0, 0)):
    """Return the cards of a frame's coordinates; a dither is rows and columns."""
    place = {"CRVAL1": ra, "CRVAL2": dec, "CRPIX1": SIDE / 2 - dither[1], "CRPIX2": SIDE / 2 - dither[0]}
    return {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", **place, "CD1_1": -PIXEL, "CD2_2": PIXEL}


def written(path, image=None, mask=None, **cards):
    """Write a masked frame; return what a report of its night knows of it."""
    image = np.zeros((SIDE, SIDE), np.float32) if image is None else image
    header = fits.Header({"GAIN": GAIN, "FILTER": "r", "EXPTIME": 60.0, **cards})
    mask = np.zeros(image.shape, bool) if mask is None else mask
    hdus = [fits.PrimaryHDU(image, header), fits.ImageHDU(mask.astype(np.uint8) * 8, name="MASK")]
    fits.HDUList(hdus).writeto(path)
    known = {"site": None, "camera": "c", "filter": header["FILTER"], "status": "succeeded"}
    return SimpleNamespace(path=path.name, output=str(path), **known)


def test_repeats_are_of_one_field_filter_and_time(tmp_path):
    frames = [
        written(tmp_path / f"{name}.fits", **cards)
        for name, cards in {
            "first": sky(150.0),
            "same place": sky(150.0),
            "other filter": {**sky(150.0, dither=(9, 9)), "FILTER": "g"},
            "long": {**sky(150.0, dither=(9, 9)), "EXPTIME": 600.0},
            "elsewhere": sky(150.0 + SIDE * PIXEL),
            "dithered": {**sky(150.0, dither=(9, 9)), "EXPTIME": 61.0},
            "turned": {**sky(150.0, dither=(-20, 9)), "CD1_1": PIXEL},
            "nowhere": {},
        }.items()
    ]
    frames.append(SimpleNamespace(**{**vars(frames[0]), "path": "gone", "output": str(tmp_path / "gone.fits")}))
    frames.append(SimpleNamespace(**{**vars(frames[0]), "path": "failed", "status": "failed"}))
    # What is dithered comes before what is not.
    assert [[frame.path for frame, _ in group] for group in repeated(frames)] == [
        ["first.fits", "dithered.fits", "turned.fits"]
    ]
    # Over the whole sky, and its poles.
    near = [written(tmp_path / f"{n}.fits", **sky(ra, 89.9999)) for n, ra in enumerate((10.0, 100.0))]
    assert len(repeated(near)) == 1


def test_without_a_wcs_the_target_and_its_coordinates_count(tmp_path):
    def groups(*cards):
        own = [written(tmp_path / f"{len(list(tmp_path.iterdir()))}.fits", **one) for one in cards]
        return len(repeated(own))

    there = {"OBJECT": "M 33", "RA": "01:33:51.0", "DEC": "+30:39:37"}
    degrees = {"OBJECT": "M 33", "RA": 23.4625, "DEC": 30.6603}
    assert groups(there, degrees) == 1
    assert groups(there, {**degrees, "OBJECT": "M 31"}) == groups(there, {**degrees, "RA": 24.0}) == 0
    assert groups(there, {**there, "DEC": "+95:00:00"}) == groups(there, {"OBJECT": "M 33"}) == 0
    path = tmp_path / "southern.fits"
    written(path, OBJECT="x", RA="06:00:00", DEC="-00:30:00")
    assert read_pointing(path).place == pytest.approx((0, np.cos(np.deg2rad(0.5)), -np.sin(np.deg2rad(0.5))))


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Return the URL of a database with a night of three repeated exposures; half the hits of the last are missed."""
    folder = tmp_path_factory.mktemp("night")
    url = f"sqlite:///{folder / 'night.sqlite'}"
    database = open_database(url)
    for number in range(3):
        image, hits, *_ = exposure(FIELDS["trail"], number, SIDE, 11)
        mask = np.zeros(image.shape, bool)
        for rank, (peak, pixels) in enumerate(hits):
            if peak > 4.5 and (number < 2 or rank % 2):
                mask.ravel()[pixels] = True
        path = folder / f"{number}.fits"
        written(path, image, mask, OBJECT="M <33>", **sky(150.0, dither=DITHERS[number]))
        with recorded_run(database, path, MODEL, threshold=0.5, engine="float32", version="0") as run:
            run.frame.update(night="20130105", camera="fa15", site="lsc", filter="r")
            run.run.update(verdict="PASS", reason="", output_path=str(path))
    database.dispose()
    return url, folder


def qa(url, *options):
    return CliRunner().invoke(main, ["qa", "--night", "20130105", "--db", url, *map(str, options)])


def test_a_night_grades_its_repeats(night):
    url, folder = night
    shown = qa(url, "--repeats", 1, "--json", folder / "night.json", "--html", folder / "night.html")
    assert shown.exit_code == 0, shown.output
    assert "graded by 3 exposures of M <33>, lsc fa15 r" in shown.output
    assert shown.output.count("hits, S/N above 10; ") == 3 and "2 PASS, 1 WARN" in shown.output
    report = json.loads((folder / "night.json").read_text())
    (found,) = report["repeats"]
    found, fractions = found["grades"], [grade["bright_completeness"] for grade in found["grades"]]
    assert fractions[0] > 0.97 and fractions[1] > 0.97 and 0.3 < fractions[2] < 0.7
    assert all(grade["false"] <= 8 and grade["judged"] > 0.85 * SIDE**2 for grade in found)
    assert [frame["verdict"] for frame in report["frames"]] == ["PASS", "PASS", "WARN"]
    assert "by repeated exposures, only" in report["frames"][2]["reasons"][0]
    page = (folder / "night.html").read_text()
    assert "Graded by 3 exposures of M &lt;33&gt;, lsc fa15 r" in page and f"{fractions[2]:.1%} (" in page


def test_repeats_are_graded_only_when_asked_for(night):
    url, _ = night
    shown = qa(url)
    assert shown.exit_code == 0 and "graded by" not in shown.output and "3 PASS" in shown.output
    assert CliRunner().invoke(main, ["qa", "x.fits", "--repeats", "1"]).exit_code == 2


def test_what_cannot_be_graded_is_said(night, tmp_path):
    url, folder = night
    kept = {number: (folder / f"{number}.fits").read_bytes() for number in (1, 2)}
    for number in kept:
        (folder / f"{number}.fits").unlink()
    assert "none can be graded" in qa(url, "--repeats", 1).output
    # By its coordinates it is the same field, by its stars it is not.
    cards = sky(150.0, dither=DITHERS[1])
    written(folder / "1.fits", exposure(FIELDS["trail"], 1, SIDE, 99)[0], **cards)
    shown = qa(url, "--repeats", 1, "--html", tmp_path / "night.html")
    assert shown.exit_code == 0 and shown.output.count("cannot be graded: ") == 2
    assert "too few are in common" in (tmp_path / "night.html").read_text()
    for number, content in kept.items():
        (folder / f"{number}.fits").write_bytes(content)
