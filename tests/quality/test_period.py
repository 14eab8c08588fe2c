"""The masks of many nights: their table, and the pages from months to frames."""

import json
import re
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta

import pytest
from browser import Browser, chromium
from click.testing import CliRunner
from conftest import need
from sqlalchemy import select
from sqlalchemy.orm import Session

from calibration_dbs import statistics
from calibration_dbs.database import open_database, reading
from calibration_dbs.provenance import recorded_run
from calibration_dbs.tables import Model, Run
from crattn_stage.cli import main
from crattn_stage.errors import CrattnError
from crattn_stage.quality import period_report
from crattn_stage.quality.night_report import judge_night
from crattn_stage.quality.period_report import judge_period
from crattn_stage.quality.period_site import write_site

MODEL = {"name": "fast", "architecture": "deepcr", "sha256": "ab" * 32}
OTHER = {"name": "other", "architecture": "deepcr", "sha256": "cd" * 32}
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>\"'&\x1b[2J"


@pytest.fixture
def database(either_url):
    database = open_database(either_url)
    yield database
    database.dispose()


def record(database, path, night, model=MODEL, camera="fa15", hits=100, balance=(1, 1), kept=(), **columns):
    """Record a run of a frame with two amplifiers of 1 cm2 each, in a minute."""
    frame = {"site": "lsc", "filter": "rp", "exposure_time": 60.0, "observed": None}
    frame |= {name: columns.pop(name) for name in list(columns) if name in frame}
    with recorded_run(database, path, model, threshold=0.5, engine="float32", version="0") as run:
        run.status = columns.pop("status", "succeeded")
        run.frame.update(night=night, camera=camera, **frame)
        if run.status != "succeeded":
            run.run.update(columns)
        else:
            values = {"hits": hits, "pixels": 10 * hits, "fraction": 1e-5 * hits, "megapixels": 2.0, "area": 2.0}
            run.run.update(values | {"rate": hits / 2, "verdict": "PASS", "reason": ""} | columns)
            run.amplifiers = [
                {
                    "extension": "SCI",
                    "name": name,
                    "pixels": 5 * hits,
                    "searched": 10**6,
                    "hits": round(part * hits / 2),
                }
                for name, part in zip("AB", balance, strict=True)
            ]
            run.hits = [
                {"detector": "SCI", "amplifier": "A", "x": 1.0, "y": 2.0, "pixels": 5, "class": kind}
                | {"charge": charge, "angle": angle, "near_star": False, "near_edge": False}
                for charge, angle, kind in kept
            ]


def nights(count, first=datetime(2013, 1, 1)):
    return [f"{first + timedelta(days=number):%Y%m%d}" for number in range(count)]


def page_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.S)[1])


def qa(*options):
    return CliRunner().invoke(main, ["qa", *map(str, options)])


def test_a_night_adds_up_as_its_frames_do(database):
    record(database, "/1.fits", "20130105", hits=100, bright_completeness=0.9)
    record(database, "/2.fits", "20130105", hits=400, exposure_time=120.0, rate=100.0, verdict="WARN", reason="why")
    record(database, "/3.fits", "20130105", status="failed", error="truncated")
    record(database, "/4.fits", "20130105", status="skipped")
    # The last run of a frame counts, and that of an exposure which was masked from two folders.
    record(database, "/5.fits", "20130105", hits=9999)
    record(database, "/5.fits", "20130105", hits=100, input_sha256="ee" * 32)
    record(database, "/copy/5.fits", "20130105", hits=100, input_sha256="ee" * 32)
    # Runs that found nothing to do say nothing of the masks.
    record(database, "/2.fits", "20130105", status="already done", exposure_time=120.0)
    record(database, "/6.fits", "20130105", filter="gp", exposure_time=None)
    green, red = judge_period(database, "20130101", "20130131").rows
    assert (red["frames"], red["warnings"], red["failures"], red["filter"]) == (4, 1, 1, "rp")
    # 600 hits in 2 cm2 for 1 + 2 + 1 minutes; what only one frame has is a mean of that one.
    assert red["rate"] == pytest.approx(600 / 8) and red["fraction"] == pytest.approx(6000 / 6e6)
    assert red["bright_completeness"] == pytest.approx(0.9) and red["faint_completeness"] is None
    assert 0 <= red["seconds"] < 60 and (green["frames"], green["rate"]) == (1, None)
    assert (
        judge_period(database, "20130101", "20130131").counts["FAIL"]
        == judge_night(database, "20130105").counts["FAIL"]
    )
    with reading(database) as session:
        frames = {row.path: row for row in statistics.frames_of(session, "20130101", "20130131")}
        (both,) = statistics.totals(session, "20130101", "20130131", by_month=True, by_filter=False)
    assert set(frames) == {"/1.fits", "/2.fits", "/3.fits", "/copy/5.fits", "/6.fits"}
    assert (frames["/3.fits"].verdict, frames["/3.fits"].why) == ("FAIL", "truncated")
    assert (both.period, both.filter, both.frames) == ("201301", None, 5)


def test_runs_of_a_bad_model_fail_and_those_that_go_on_are_a_warning(database):
    record(database, "/1.fits", "20130105")
    record(database, "/2.fits", "20130105", status="queued")
    with Session(database) as session, session.begin():
        session.scalars(select(Model)).one().is_bad = True
        session.scalars(select(Run).where(Run.status == "queued")).one().verdict = None
    (row,) = judge_period(database, "20130105", "20130105").rows
    assert (row["frames"], row["warnings"], row["failures"]) == (2, 0, 2)
    assert judge_night(database, "20130105").counts["FAIL"] >= 1


def test_cameras_stay_apart(database, tmp_path):
    for camera, site, hits in (("fa15", "lsc", 100), ("fa15", "cpt", 300), ("fa 15", "lsc", 500), (None, None, 700)):
        record(database, f"/{site}/{camera}.fits", "20130105", camera=camera, site=site, hits=hits)
    rows = judge_period(database, "20130105", "20130105").rows
    assert [(row["site"], row["camera"], row["rate"]) for row in rows] == [
        (None, None, 350), ("cpt", "fa15", 150), ("lsc", "fa 15", 250), ("lsc", "fa15", 50)
    ]  # fmt: skip
    assert write_site(database, "20130105", "20130105", tmp_path) == 1 + 4 * 3
    rates = {path.parent.name: page_of(path)["series"]["rate"] for path in tmp_path.glob("*/index.html")}
    assert rates == {"cpt-fa15": [[150]], "lsc-fa-15": [[250]], "lsc-fa15": [[50]], "unknown-camera": [[350]]}


def test_the_folder_of_a_camera_does_not_depend_on_which_others_are_shown(database, tmp_path):
    for camera, night in (("fa 15", "20130105"), ("fa-15", "20130205"), ("fa16", "20130105")):
        record(database, f"/{camera}.fits", night, camera=camera, hits=100 if camera == "fa 15" else 300)
    for first, last in (("20130101", "20130131"), ("20130201", "20130228")):
        write_site(database, first, last, tmp_path)
    names = sorted(path.parent.name for path in tmp_path.glob("*/index.html"))
    assert len(names) == 3 and names[2] == "lsc-fa16" and all(name.startswith("lsc-fa-15-") for name in names[:2])
    shown = {page_of(path)["rows"][0][0]["text"] for path in tmp_path.glob("lsc-fa-15-*/index.html")}
    assert shown == {"2013-01", "2013-02"}


def test_the_table_is_by_night_and_of_many_nights_by_month(database, monkeypatch):
    for night in nights(3):
        record(database, f"/{night}.fits", night, faint_completeness=0.5)
    shown = qa("--from", "2013-01-01", "--until", "2013-03-31")
    head, first, *_, last = shown.output.splitlines()
    assert shown.exit_code == 0 and head.split()[:5] == ["camera", "night", "filter", "frames", "WARN"]
    assert re.sub(" +", " ", first).startswith("lsc fa15 20130101 rp 1 0 0 50.00 0.0500% - - 50% - ")
    assert last == "nights 20130101 to 20130331: 3 PASS, 0 WARN, 0 FAIL"
    monkeypatch.setattr(period_report, "MOST_NIGHTS", 4)
    record(database, "/a.fits", "20130201")
    record(database, "/bad.fits", "20130301", status="failed", error="truncated")
    shown = qa("--from", "20130101", "--until", "20130331")
    head, *lines, last = shown.output.splitlines()
    assert shown.exit_code == 1 and head.split()[1] == "month"
    months = [tuple(line.split()[2:5]) for line in lines]
    assert months == [("201301", "rp", "3"), ("201302", "rp", "1"), ("201303", "rp", "1")]
    assert last.endswith("4 PASS, 0 WARN, 1 FAIL")


def test_json_has_the_rows(database, tmp_path):
    record(database, "/1.fits", "20130105")
    assert qa("--from", "20130101", "--until", "20130131", "--json", tmp_path / "a.json").exit_code == 0
    said = json.loads((tmp_path / "a.json").read_text())
    assert said["nights"][0]["rate"] == 50 and said["nights"][0]["bright_completeness"] is None
    assert said["counts"] == {"PASS": 1, "WARN": 0, "FAIL": 0}


def test_a_range_without_frames_says_what_there_is(database, tmp_path):
    options = "--from", "20130101", "--until", "20130131", "--html", tmp_path / "site"
    assert qa(*options).output == (
        "the database knows no frames of nights 20130101 to 20130131; it knows none at all\n"
    )
    record(database, "/1.fits", "20120105")
    record(database, "/2.fits", "20140105")
    record(database, "/3.fits", "20150105", status="skipped")
    shown = qa(*options)
    assert shown.exit_code == 1 and not (tmp_path / "site").exists()
    assert shown.output.endswith("20130101 to 20130131; it knows 2 nights, 20120105 to 20140105\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "20130101"], "go together"),
        (["--from", "20130201", "--until", "20130101"], "later"),
        (["--from", "20130101", "--until", "20130201", "--night", "20130101"], "give either"),
        (["--from", "20130101", "--until", "20130201", "--html", __file__], "not a folder"),
        (["--night", "20130101", "--html", "/tmp"], "a folder"),
        (["--from", "00020101", "--until", "00010101"], "--from 00020101 is later than --until 00010101"),
    ],
)
def test_what_cannot_be_asked(options, said):
    shown = qa(*options)
    assert shown.exit_code == 2 and said in shown.output


def test_without_plotly_one_line_says_how_to_get_it(database, tmp_path, monkeypatch):
    import sys

    record(database, "/1.fits", "20130105")
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(CrattnError, match=r"pip install 'crattn-stage\[report\]'"):
        write_site(database, "20130105", "20130105", tmp_path)


def test_gaps_models_changes_amplifiers_and_hits(database, tmp_path):
    kept = [(200.0, 1.0, "track"), (5000.0, 91.0, "worm"), (5000.0, None, "spot")] * 10
    for number, night in enumerate(nights(40)):
        if number == 20:
            continue
        model, balance = (MODEL if number < 30 else OTHER), ((1, 1) if number < 25 else (1.5, 0.5))
        bright = None if number < 10 else 0.9 + 0.0001 * (number % 7) + 0.05 * (number >= 30)
        record(
            database, f"/{night}.fits", night, model, hits=100 + number % 5, balance=balance,
            bright_completeness=bright, kept=kept if night == "20130105" else (),
        )  # fmt: skip
    tmp_path = tmp_path / "site"
    assert write_site(database, "20130101", "20130228", tmp_path) == 1 + 1 + 2 + 39
    page = page_of(tmp_path / "lsc-fa15" / "index.html")
    assert len(page["days"]) == 59 and page["counts"]["frames"].count(None) == 20
    (bright,) = page["series"]["bright_completeness"]
    assert bright[:11] == [None] * 10 + [0.9003] and page["series"]["rate"][0][20] is None
    assert [(model["day"], model["model"]) for model in page["models"]] == [
        ("2013-01-01", "fast"), ("2013-01-31", "other")
    ]  # fmt: skip
    # How long a run of this test takes may change, too.
    (change,) = [change for change in page["changes"] if change["quantity"] != "seconds"]
    assert (change["quantity"], change["day"], change["withModel"]) == ("bright_completeness", "2013-01-31", True)
    assert change["before"] == pytest.approx(0.9, abs=1e-3) and change["after"] == pytest.approx(0.95, abs=1e-3)
    balance = page["balance"]
    assert balance["names"] == ["SCI A", "SCI B"] and balance["ratio"][0][20] is None
    assert [(c["amplifier"], c["day"], c["after"] > 1) for c in balance["changes"]] == [
        ("SCI A", "2013-01-26", True), ("SCI B", "2013-01-26", False)
    ]  # fmt: skip
    hits = page["hits"]
    assert (hits["months"], hits["names"], hits["count"]) == (["2013-01"], ["SCI A"], [[30]])
    assert hits["spots"] == [[pytest.approx(1 / 3, rel=1e-3)]] and hits["rows"] == hits["columns"] == [[0.5]]
    assert sum(hits["charges"][0]) == 30 and 3160 < hits["charge"][0][0] < 5630
    january, february = (page_of(tmp_path / "lsc-fa15" / f"2013-{month}.html") for month in ("01", "02"))
    assert len(january["days"]) == 31 and change in january["changes"] and len(january["models"]) == 2
    assert all(change["quantity"] == "seconds" for change in february["changes"])
    assert [model["model"] for model in february["models"]] == ["other"]
    assert february["hits"] is None and february["balance"]["ratio"][0][0] == pytest.approx(1.5, rel=0.02)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.html", "lsc-fa15", "period.js", "plotly.min.js"]


def test_a_night_that_is_no_date_is_named(database, tmp_path):
    record(database, "/1.fits", "20130105")
    for night in ("20130199", "20131305"):
        record(database, f"/{night}.fits", night, kept=[(500.0, 30.0, "track")])
    assert write_site(database, "20130101", "20140201", tmp_path) == 4
    index = page_of(tmp_path / "index.html")
    assert index["undated"] == ["20130199", "20131305"]
    # Neither is counted in a month.
    camera = page_of(tmp_path / "lsc-fa15" / "index.html")
    assert [row[:2] for row in camera["rows"]] == [[{"text": "2013-01", "link": "2013-01.html"}, 1]]
    assert camera["hits"] is None
    with reading(database) as session:
        rows = statistics.totals(session, "20130101", "20140201", by_month=True)
    assert [(row.period, row.frames) for row in rows] == [("201301", 1), ("20130199", 1), ("20131305", 1)]


def test_a_browser_leads_from_months_to_frames(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'months.sqlite'}")
    need(chromium(), "needs Chromium or Chrome; CRATTN_CHROMIUM names it")
    for number, night in enumerate(nights(35)):
        for frame in range(2):
            output = tmp_path / "out" / f"{night}-{frame}.fits"
            moment = datetime.strptime(night, "%Y%m%d").replace(tzinfo=UTC) + timedelta(hours=23, minutes=9 * frame)
            record(
                database, f"/{HOSTILE}/{night}-{frame}{HOSTILE}.fits", night, MODEL if number < 20 else OTHER,
                camera=HOSTILE[:50], filter=HOSTILE[8:50], hits=100 + number % 7, observed=moment,
                output_path=str(output), verdict="WARN", reason=HOSTILE,
                kept=[(500.0, 30.0, "track")] if number == 3 else (),
            )  # fmt: skip
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "20130105-1.html").write_text("<title>the frame</title>")
    write_site(database, "20130101", "20130204", tmp_path / "site")
    database.dispose()
    with Browser(1100, 800) as browser:

        def ready(kind):
            browser.wait(f"document.body && document.body.dataset.ready === '{kind}'")
            assert browser.evaluate("window.hacked") is None and not browser.errors
            assert "<script>window.hacked=1</script>" in browser.evaluate("document.body.innerText")

        def point(plot, index):
            """Return where a point of a plot is in the window."""
            browser.evaluate(f"document.querySelectorAll('.plot')[{plot}].scrollIntoView({{block: 'center'}})")
            return browser.evaluate(
                f"(() => {{ const gd = document.querySelectorAll('.plot')[{plot}], b = gd.getBoundingClientRect(),"
                f" own = gd._fullData[0], xa = gd._fullLayout.xaxis, ya = gd._fullLayout.yaxis;"
                f" return [b.x + xa._offset + xa.d2p(own.x[{index}]), b.y + ya._offset + ya.d2p(own.y[{index}])]; }})()"
            )

        def follow(plot, index, reached):
            """Click a point of a plot, a second time if a busy machine lost the first, and wait for where it leads."""
            hovered = f"document.querySelectorAll('.plot')[{plot}].querySelector('.hovertext')"
            for attempt in range(2):
                x, y = point(plot, index)
                # The mouse still is where it was on the page before.
                browser.mouse("mouseMoved", 1, 1)
                browser.wait(f"{hovered} === null")
                browser.mouse("mouseMoved", x - 1, y)
                browser.mouse("mouseMoved", x, y)
                browser.wait(f"{hovered} !== null")
                for kind in ("mousePressed", "mouseReleased"):
                    browser.mouse(kind, x, y, button="left", clickCount=1)
                with nullcontext() if attempt else suppress(TimeoutError):
                    return reached()

        browser.open(tmp_path / "site" / "index.html")
        ready("index")
        follow(0, 4, lambda: ready("camera"))
        assert "other cdcdcdcd since 2013-01-21" in browser.evaluate("document.body.innerText")
        # A zoom of one plot is that of the others.
        browser.evaluate(
            "Plotly.relayout(document.querySelector('.plot'),"
            " {'xaxis.range[0]': '2013-01-03', 'xaxis.range[1]': '2013-01-09'}).then(() => 0)"
        )
        browser.wait("document.querySelectorAll('.plot')[1].layout.xaxis.range[0].startsWith('2013-01-03')")
        browser.open(tmp_path / "site" / "lsc-script-script-window-hacked-1-script-img-src" / "index.html")
        ready("camera")
        follow(1, 4, lambda: ready("month"))
        follow(1, 4, lambda: ready("night"))
        assert browser.evaluate("location.pathname").endswith("/20130105.html")
        follow(0, 1, lambda: browser.wait("document.title === 'the frame'"))
        assert {request.split(":")[0] for request in browser.requests} <= {"file", "data", "blob"}
