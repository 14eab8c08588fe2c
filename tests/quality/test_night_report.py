"""The verdicts of a night, from rows as runs leave them."""

import pytest
from click.testing import CliRunner
from sqlalchemy.orm import Session

from calibration_dbs.database import get_or_add, open_database
from calibration_dbs.provenance import recorded_run
from calibration_dbs.tables import Frame, Model
from crattn_stage.cli import main
from crattn_stage.quality.night_page import report_html
from crattn_stage.quality.night_report import judge_night

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
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_frames_are_linked_to_the_pages_that_there_are(history, tmp_path):
    folder = tmp_path / "with <b> & space"
    folder.mkdir()
    for name in ("1", "2"):
        record(history, name, "20130105", 100, output_path=str(folder / f"{name}.fits"))
    (folder / "2.html").touch()
    page = report_html(judge_night(history, "20130105"), tmp_path)
    assert page.count("<a href") == 1 and '<a href="with%20%3Cb%3E%20%26%20space/2.html">2.fits</a>' in page


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
