"""The verdicts of a night, from rows as runs leave them."""

import base64
import io
import json
import re

import numpy as np
import pytest
from astropy.io import fits
from browser import Browser, chromium
from click.testing import CliRunner
from conftest import need, sky_image, with_track
from matplotlib import image as pictures
from sqlalchemy.orm import Session

from calibration_dbs.database import get_or_add, open_database
from calibration_dbs.provenance import recorded_run
from calibration_dbs.tables import Frame, Model
from crattn_stage.cli import main
from crattn_stage.products.preview import layers
from crattn_stage.quality import night_page
from crattn_stage.quality.night_page import report_html
from crattn_stage.quality.night_report import judge_night, ranked

MODEL = {"name": "m", "architecture": "deepcr", "sha256": "ab" * 32}
AREA, SECONDS, USUAL = 4.0, 60.0, 25


@pytest.fixture
def database(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'night.sqlite'}")
    yield database
    database.dispose()


def amplifier(name, hits, border_pixels=None):
    return {
        "extension": "SCI",
        "name": name,
        "pixels": 10 * hits,
        "searched": 10**6,
        "hits": hits,
        "border_pixels": hits // 5 if border_pixels is None else border_pixels,
        "border_searched": 20_000,
    }


def record(database, number, night, hits=100, amplifiers=None, seconds=SECONDS, digest=None, **columns):
    amplifiers = amplifiers or [amplifier("A", hits // 2), amplifier("B", hits - hits // 2)]
    path = f"/data/{night}/{number}.fits"
    with recorded_run(database, path, MODEL, threshold=0.5, engine="float32", version="0") as run:
        run.frame.update(night=night, camera="fa15", site="lsc", exposure_time=seconds)
        pixels = sum(a["pixels"] for a in amplifiers)
        run.run.update(hits=hits, pixels=pixels, fraction=pixels / 2e6, area=AREA, verdict="PASS", reason="")
        run.run.update(rate=hits / AREA / (seconds / 60), input_sha256=digest, **columns)
        run.amplifiers = amplifiers


@pytest.fixture
def history(database):
    """Eleven nights with a usual rate."""
    for night in range(11):
        record(database, 1, f"201301{night + 10}", 4 * USUAL + night - 5)
    return database


def reasons(database, night="20130105"):
    return {frame.path[-6:-5]: (frame.verdict, frame.reasons) for frame in judge_night(database, night).frames}


def test_a_usual_frame_passes(history):
    record(history, 1, "20130105", 100)
    assert reasons(history) == {"1": ("PASS", [])}


@pytest.mark.parametrize("hits", [0, 500])
def test_an_unusual_rate_is_a_warning(history, hits):
    record(history, 1, "20130105", hits)
    assert reasons(history) == {"1": ("WARN", [f"{hits} hits where 100 are usual"])}


def test_few_hits_prove_nothing(history):
    # 1.7 are expected: 6 are many, and yet no proof.
    record(history, 1, "20130105", 6, seconds=1.0)
    assert reasons(history)["1"][0] == "PASS"


def test_without_a_history_the_night_is_its_own(database):
    for number in range(4):
        record(database, number, "20130105", 100)
    record(database, 9, "20130105", 900)
    assert {verdict for verdict, _ in reasons(database).values()} == {"PASS"}
    for number in range(4, 9):
        record(database, number, "20130105", 100)
    assert reasons(database)["9"][0] == "WARN" and reasons(database)["1"][0] == "PASS"


def test_another_camera_is_no_history(history):
    for number in range(3):
        record(history, number, "20130105", 900)
    with Session(history) as session, session.begin():
        for number in range(3):
            get_or_add(session, Frame, {"path": f"/data/20130105/{number}.fits"}).camera = "fa99"
    assert {verdict for verdict, _ in reasons(history).values()} == {"PASS"}


def test_an_odd_amplifier_is_named(history):
    record(history, 1, "20130105", 100, [amplifier("A", 96), amplifier("B", 4)])
    verdict, why = reasons(history)["1"]
    assert verdict == "WARN" and why == ["4 hits in SCI B, 50 expected for its area"]


def test_masked_borders_are_noticed(history):
    record(history, 1, "20130105", 100, [amplifier("A", 50, border_pixels=300), amplifier("B", 50)])
    verdict, why = reasons(history)["1"]
    assert verdict == "WARN" and "310 pixels masked at amplifier borders" in why[0]


def test_a_frames_own_verdict_stands_and_bad_models_fail(history):
    record(history, 1, "20130105", 100, verdict="WARN", reason="masked 3.0% of star cores")
    assert reasons(history)["1"] == ("WARN", ["masked 3.0% of star cores"])
    with Session(history) as session, session.begin():
        get_or_add(session, Model, {"sha256": MODEL["sha256"]}).is_bad = True
    assert reasons(history)["1"][0] == "FAIL"


def test_the_last_run_counts(history):
    record(history, 1, "20130105", 900)
    record(history, 1, "20130105", 100)
    report = judge_night(history, "20130105")
    assert len(report.frames) == 1 and report.counts == {"PASS": 1, "WARN": 0, "FAIL": 0}


def test_what_a_header_says_does_not_run_in_the_page(history):
    record(history, 1, "20130105", 100, verdict="WARN", reason="<script>alert(1)</script>")
    page = report_html(judge_night(history, "20130105"))
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_frames_are_linked_to_the_pages_that_there_are(history, tmp_path):
    folder = tmp_path / "with <b> & space"
    folder.mkdir()
    for name in ("1", "2"):
        record(history, name, "20130105", 100, output_path=str(folder / f"{name}.fits"))
    (folder / "2.html").touch()
    page = report_html(judge_night(history, "20130105"), tmp_path)
    # In the table, and under its picture.
    assert re.findall("<a href.*?</a>", page) == ['<a href="with%20%3Cb%3E%20%26%20space/2.html">2.fits</a>'] * 2


def test_control_characters_reach_neither_page_nor_terminal(history):
    # A header's text may hold anything; so may a file's name.
    record(history, 1, "20130105", 100, verdict="WARN", reason="one\x1b[2Jtwo\u202ethree\nPASS forged.fits")
    page = report_html(judge_night(history, "20130105"))
    assert "\x1b" not in page and "\u202e" not in page and r"one\x1b[2Jtwo\u202ethree\nPASS" in page
    url = history.url.render_as_string(hide_password=False)
    shown = CliRunner().invoke(main, ["qa", "--night", "20130105", "--db", url])
    assert shown.exit_code == 0 and "\x1b" not in shown.stdout and "\u202e" not in shown.stdout
    # A heading, a line for the frame, and the sum.
    assert len(shown.stdout.splitlines()) == 3


def test_an_exposure_masked_from_two_folders_is_shown_once(history):
    for folder, hits in (("20130105", 900), ("20130105/copy", 100)):
        record(history, 1, folder, hits, digest="cd" * 32)
    with Session(history) as session, session.begin():
        get_or_add(session, Frame, {"path": "/data/20130105/copy/1.fits"}).night = "20130105"
    (frame,) = judge_night(history, "20130105").frames
    assert frame.path == "/data/20130105/copy/1.fits" and frame.verdict == "PASS"


def test_the_best_comes_first(history):
    record(history, 1, "20130105", 100, bright_completeness=0.99, output_path="/1")
    record(history, 2, "20130105", 100, bright_completeness=0.90, output_path="/2")
    record(history, 3, "20130105", 100, output_path="/3")
    record(history, 4, "20130105", 100, bright_completeness=1.0, output_path="/4", verdict="WARN", reason="why")
    record(history, 5, "20130105", 100, bright_completeness=1.0)
    frames = judge_night(history, "20130105").frames
    assert [frame.output for frame in ranked(frames)] == ["/1", "/2", "/3", "/4"]


def test_the_detector_that_is_masked_most_is_known(history):
    other = {**amplifier("A", 30), "extension": "N2", "searched": 10**5}
    record(history, 1, "20130105", 100, [amplifier("A", 50), amplifier("B", 50), other])
    (frame,) = judge_night(history, "20130105").frames
    assert frame.most_masked == "N2"


def test_cameras_have_plots_of_their_own(history):
    for number, camera in enumerate(("fa15", "fa16", "fa15", None)):
        record(history, number, "20130105", 100)
        with Session(history) as session, session.begin():
            get_or_add(session, Frame, {"path": f"/data/20130105/{number}.fits"}).camera = camera
    page = report_html(judge_night(history, "20130105"))
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["lsc fa15", "lsc fa16", "lsc unknown camera", "All frames"]
    assert page.count('alt="hits per cm² per minute"') == page.count("In the order of the frames") == 3


@pytest.fixture
def masked(frame_file, tmp_path, monkeypatch):
    """Mask three frames, one of them with a worse verdict; return the folder and what judges their night."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 3):
        moment = {"DATE-OBS": f"2013-01-06T0{number}:30:00", "DAY-OBS": "20130105", "FILTER": "rp", "SITEID": "lsc"}
        frame_file(f"{number}.fits", INSTRUME="fa15", OBSTYPE="EXPOSE", **moment)
    options = ("--model", "fast", "--engine", "torch")
    assert CliRunner().invoke(main, ["run", "1.fits", "2.fits", "3.fits", *options]).exit_code == 0

    def judge():
        shown = CliRunner().invoke(main, ["qa", "--night", "20130105", "--html", "night.html", "--json", "night.json"])
        assert shown.exit_code == 0, shown.output
        return (tmp_path / "night.html").read_text(), json.loads((tmp_path / "night.json").read_text())["frames"]

    return tmp_path, judge


def test_image_and_mask_are_laid_over_each_other(masked):
    folder, judge = masked
    page, frames = judge()
    assert [(frame["filter"], frame["observed"]) for frame in frames] == [
        ("rp", f"2013-01-06 0{number}:30:00") for number in (1, 2, 3)
    ]
    assert "In the order of the frames" not in page and page.count('class="layers"') >= 3
    drawn = re.search(r'<div class="layers"><img.*?base64,(.*?)"><img.*?base64,(.*?)"></div>', page).groups()
    image, mask = (pictures.imread(io.BytesIO(base64.b64decode(layer))) for layer in drawn)
    database = open_database(f"sqlite:///{folder / 'provenance.sqlite'}")
    best = ranked(judge_night(database, "20130105").frames)[0]
    database.dispose()
    # Row 0 of a picture is on top.
    assert np.array_equal(mask[::-1, :, 3] > 0, fits.getdata(best.output, "MASK") > 0)
    assert image.shape == mask.shape and image[mask[:, :, 3] > 0, 0].mean() > image[:, :, 0].mean() + 0.2
    (folder / "2-crmask.fits").unlink()
    (folder / "1-crmask.fits").write_bytes(b"")
    page, _ = judge()
    assert "no picture: the masked file is no longer there" in page and "no picture: empty" in page


def test_masks_blink_in_a_browser(history, tmp_path, monkeypatch):
    need(chromium(), "needs Chromium or Chrome; CRATTN_CHROMIUM names it")
    drawn = layers(*with_track(sky_image()))
    monkeypatch.setattr(night_page, "thumbnail", lambda path, name: drawn)
    record(history, 1, "20130105", 100, output_path="/1.fits")
    (tmp_path / "night.html").write_text(report_html(judge_night(history, "20130105")))
    visible = "getComputedStyle(document.querySelector('.mask')).visibility"
    with Browser(800, 800) as browser:
        browser.open(tmp_path / "night.html")
        browser.wait("document.readyState === 'complete' && document.querySelector('footer') !== null")
        assert browser.evaluate(visible) == "visible"
        browser.click("button[data-does=mask]")
        assert browser.evaluate(visible) == "hidden"
        browser.click("button[data-does=blink]")
        for state in ("visible", "hidden", "visible"):
            browser.wait(f"{visible} === '{state}'")
        assert not browser.errors and {request.split(":")[0] for request in browser.requests} <= {"file", "data"}
