"""Nights on this machine: what is out of date, which worker does it, and what happens when one is killed."""

import hashlib
import io
import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import sky_image, with_track
from night import NIGHT, folder_of, write_bad_frames, write_frame
from services import wait_for
from sqlalchemy import func, select, update
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from calibration_dbs import provenance, registry, runs
from calibration_dbs.database import connect, open_database, reading, upgrade, without_password, writing
from calibration_dbs.tables import Amplifier, Batch, Frame, Run
from crattn_stage import __version__
from crattn_stage.cli import main
from crattn_stage.cli import nights as cli_nights
from crattn_stage.errors import FrameError, PrintableFormatter
from crattn_stage.fits.atomic import check_targets, sha256
from crattn_stage.models.cards import DEFAULT
from crattn_stage.nights import follow as follow_module
from crattn_stage.nights.execute import execute
from crattn_stage.nights.find import find_frames
from crattn_stage.nights.follow import Tally, follow
from crattn_stage.nights.plan import describe_model, plan, submit

OTHER = "att-cosmic-conn"
UNCOMPARED = ("--without-comparison", "a test")


def crattn(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def reprocess(root, *arguments):
    return crattn("reprocess", "--night", NIGHT, "--root", root, *arguments)


@pytest.fixture
def url(tmp_path):
    return os.environ["CRATTN_DB"]


@pytest.fixture
def database(url):
    database = open_database(url)
    yield database
    database.dispose()


def runs_of(database, **columns):
    with Session(database, expire_on_commit=False) as session:
        return session.scalars(select(Run).filter_by(**columns).order_by(Run.id)).all()


def outputs(root):
    return {path.name: path.read_bytes() for path in folder_of(root).glob("*-crmask.fits*")}


def test_a_night_is_done_once(tmp_path, database):
    for number in range(3):
        write_frame(tmp_path, number)
    write_frame(tmp_path, 50, OBSTYPE="BIAS")
    write_frame(tmp_path, 60, night="20130104", **{"DATE-OBS": "2013-01-05T03:00:00"})
    bad = write_bad_frames(tmp_path)

    table = reprocess(tmp_path, "--dry-run")
    assert table.exit_code == 0 and "9 of 10 frames are out of date" in table.stdout
    assert "-0060-e91.fits: of night 20130104, not of 20130105" in table.stderr
    assert not runs_of(database) and not outputs(tmp_path)

    first = reprocess(tmp_path, "--jobs", 2)
    assert first.exit_code == 1
    assert "3 succeeded, 6 failed" in first.stdout and "skipped, bias frame" in first.stdout
    for path, cause in bad.items():
        assert re.search(f"{re.escape(str(path))}: .*{cause}", first.stderr)
        (run,) = [r for r in runs_of(database, status="failed") if r.target.startswith(str(path)[:-5])]
        assert cause in run.error
    written = outputs(tmp_path)
    assert len(written) == 3

    again = reprocess(tmp_path)
    assert again.stdout.count("skipped, done") == 3
    assert outputs(tmp_path) == written and len(runs_of(database, status="succeeded")) == 3
    for path in bad:
        path.unlink()
    rest = reprocess(tmp_path)
    assert rest.exit_code == 0 and "nothing is out of date" in rest.stdout


def test_what_makes_a_frame_out_of_date(tmp_path, database):
    path = write_frame(tmp_path, 1)
    assert reprocess(tmp_path).exit_code == 0
    (output,) = folder_of(tmp_path).glob("*-crmask.fits")
    before, frame = output.read_bytes(), path.read_bytes()

    def reason(*arguments):
        return reprocess(tmp_path, "--dry-run", *arguments).stdout

    assert "done" in reason()
    assert "forced" in reason("--force")
    assert f"masked by {DEFAULT}" in reason("--model", OTHER)
    assert "another threshold" in reason("--threshold", 0.9)
    assert "another output" in reason("--output-root", tmp_path / "out")
    with Session(database) as session, session.begin():
        session.execute(update(Run).values(version="77.1"))
    assert "masked by version 77.1" in reason()
    with Session(database) as session, session.begin():
        session.execute(update(Run).values(version="0.0.1"))
    fits.setval(path, "OBJECT", value="changed")
    assert "the frame has changed" in reason()
    path.write_bytes(frame)
    with Session(database) as session, session.begin():
        session.execute(update(Run).values(version=__version__))
    assert "done" in reason()
    output.write_bytes(before[:-1] + b"x")
    assert "its output is not as it was written" in reason()


def test_files_of_others_are_kept(tmp_path, database):
    path = write_frame(tmp_path, 1)
    target = path.with_name(f"{path.stem}-crmask.fits")
    target.write_bytes(b"precious")
    kept = reprocess(tmp_path)
    assert kept.exit_code == 1 and "exists; overwrite=True (--overwrite) replaces it" in kept.stderr
    assert target.read_bytes() == b"precious"
    assert reprocess(tmp_path, "--overwrite").exit_code == 0
    assert target.read_bytes() != b"precious"
    # An output of its own is its to replace, until someone has touched it.
    assert reprocess(tmp_path, "--force").exit_code == 0
    fits.setval(target, "OBJECT", value="mine now")
    touched = target.read_bytes()
    assert reprocess(tmp_path).exit_code == 1
    assert target.read_bytes() == touched


def test_any_checksum_of_a_target_that_was_recorded_is_ours(tmp_path):
    target = tmp_path / "x.fits"
    target.write_bytes(b"second")
    known = {(str(target), hashlib.sha256(content).hexdigest()) for content in (b"first", b"second", b"third")}
    check_targets([target], known=known)
    target.write_bytes(b"changed")
    with pytest.raises(FrameError, match="is not as it was written"):
        check_targets([target], known=known)


def test_models_are_chosen_by_rule(tmp_path, database):
    write_frame(tmp_path, 1)
    write_frame(tmp_path, 2, INSTRUME="fa99")
    assert reprocess(tmp_path).exit_code == 0
    old = outputs(tmp_path)
    assert crattn("models", "register", OTHER, "--instrument", "FA15", "--from", "20130101", *UNCOMPARED).exit_code == 0

    due = reprocess(tmp_path, "--dry-run").stdout
    assert "1 of 2 frames are out of date" in due and re.search(rf"-0001-e91.fits +mask +{OTHER}", due)
    assert reprocess(tmp_path).exit_code == 0
    new = outputs(tmp_path)
    assert [name for name in new if new[name] != old[name]] == [f"lsc1m005-fa15-{NIGHT}-0001-e91-crmask.fits"]
    assert "-0001-e91.fits" in crattn("models", "frames", OTHER).stdout

    assert crattn("models", "retire", OTHER, "--bad", "--reason", "masks stars").exit_code == 0
    assert crattn("qa", "--night", NIGHT).exit_code == 1
    back = reprocess(tmp_path)
    assert back.exit_code == 0, back.output
    assert outputs(tmp_path) == old
    history = crattn("models", "history").stdout
    assert "fa15" in history and "20130101-..." in history and "masks stars, bad" in history
    assert crattn("models", "retire", "nonesuch").exit_code == 1


@pytest.mark.parametrize(
    ("instruments", "night", "expected"),
    [
        (("lco", "fa15"), "20130105", "for-fa15"),
        (("lco", "fa15"), "20120101", "newest-any"),
        (("lco", "fa16"), "20130105", "newest-any"),
        (("lco", "fa15"), None, "newest-any"),
        (("decam", "DECam"), "20130105", "for-decam"),
    ],
)
def test_the_rule(database, instruments, night, expected):
    def register(name, **validity):
        model = {"name": name, "architecture": "deepcr", "sha256": hashlib.sha256(name.encode()).hexdigest()}
        registry.register(database, {**model, "path": name}, **validity)

    register("old-any")
    register("newest-any")
    register("for-fa15", instrument="fa15", first_night="20130101", last_night="20131231")
    register("old-decam", instrument="decam")
    register("bad-decam", instrument="decam")
    register("for-decam", instrument="decam", supersedes="old-decam")
    register("newer-decam", instrument="decam", last_night="20130101")
    registry.retire(database, "bad-decam", is_bad=True)
    assert registry.registered_model(database, instruments, night).name == expected
    registry.retire(database, "for-decam")
    assert registry.registered_model(database, ("decam",), None).name == "old-decam"


def test_nights_by_pattern(tmp_path):
    root = tmp_path / "data"
    inside = write_frame(root, 1)
    label_wins = write_frame(root, 2, **{"DATE-OBS": "2013-01-05T23:00:00"})
    neighbour = write_frame(root, 3, night="20130104", **{"DATE-OBS": "2013-01-05T02:00:00"})
    broken = inside.with_name("broken.fits")
    broken.write_bytes(b"")
    other = folder_of(root, "20130303") / "broken.fits"
    other.write_bytes(b"")
    (inside.with_name(f"{inside.stem}-crmask.fits")).write_bytes(b"")
    for pattern in (None, "**/*.fits"):
        found, mentioned, _ = find_frames(root, NIGHT, pattern=pattern)
        assert {frame.path for frame in found} == {inside, label_wins, broken}
        assert [frame.path for frame in mentioned] == [neighbour]
    assert not find_frames(root, NIGHT, instruments=["fa16"], pattern="**/*0001*.fits")[0]
    assert not find_frames(root, NIGHT, site="coj")[0]


def test_the_nights_of_real_decam(data, tmp_path):
    """The frame of the mission's night: its UT date is 20130105, its night is 20130104."""
    pattern = "c4d_1301*.fits.fz"
    frames, mentioned, _ = find_frames(data / "decam", NIGHT, pattern=pattern)
    assert frames == [] and [frame.night for frame in mentioned] == ["20130104"]
    assert len(find_frames(data / "decam", "20130104", pattern=pattern)[0]) == 1


def queued(database, root):
    frames, *_ = find_frames(root, NIGHT)
    return submit(database, plan(database, frames), NIGHT)


def test_a_frame_is_locked_and_its_lock_expires(tmp_path, database):
    write_frame(tmp_path, 1)
    (run,) = queued(database, tmp_path)
    # A worker that is killed gives no more sign of life.
    runs._claim(database, run, lease=60)
    with pytest.raises(runs.Locked, match="is being masked by"):
        execute(database, run)
    with Session(database) as session, session.begin():
        session.execute(update(Frame).values(locked_until=datetime.now(UTC)))
    execute(database, run)
    (row,) = runs_of(database)
    assert (row.status, row.losses) == ("succeeded", 1)
    with pytest.raises(runs.Over):
        execute(database, run)


def test_a_worker_that_was_taken_for_dead_records_nothing(tmp_path, database):
    write_frame(tmp_path, 1)
    (run,) = queued(database, tmp_path)
    with pytest.raises(runs.Locked, match="taken over"), runs.claimed(database, run, lease=1000) as job:
        with Session(database) as session, session.begin():
            session.execute(update(Frame).values(locked_by="another"))
        job.record.run["hits"] = 77
    (row,) = runs_of(database)
    assert (row.status, row.hits) == ("running", None)


def test_a_sign_of_life_keeps_the_lock(tmp_path, database):
    write_frame(tmp_path, 1)
    (run,) = queued(database, tmp_path)
    with runs.claimed(database, run, lease=0.4):
        time.sleep(1.0)
        with pytest.raises(runs.Locked):
            execute(database, run)


def test_what_a_lost_worker_left_is_ours(tmp_path, database):
    """Killed between the file and the record: the file is there, and nobody has said so."""
    path = write_frame(tmp_path, 1)
    (run,) = queued(database, tmp_path)
    job = runs._claim(database, run, lease=0.0)
    target = Path(job.target)
    target.write_bytes(b"whole, but never recorded")
    runs.begin_output(database, job, {str(target): sha256(target)})
    part = target.with_name(f".{target.name}.0123456789abcdef.part")
    part.write_bytes(b"half")
    time.sleep(0.01)
    execute(database, run)
    assert not part.exists() and fits.getval(target, "L1STATCR") == 1
    assert (str(target), sha256(target)) in provenance.known_digests(database, str(target))
    assert path.exists()


def test_frames_asked_for_twice_are_one_batch_which_closes(tmp_path, database):
    write_frame(tmp_path, 1)
    first, same = queued(database, tmp_path), queued(database, tmp_path)
    assert list(first) == list(same)
    assert runs.close_batches(database, first) == []
    execute(database, *first)
    (batch,) = runs.close_batches(database, first)
    assert runs.close_batches(database, first) == []
    with Session(database) as session:
        assert [b.id for b in session.scalars(select(Batch).where(Batch.finished.is_not(None)))] == [batch]
        assert session.scalar(select(func.count()).select_from(Batch)) == 1


@pytest.fixture
def killer(tmp_path, monkeypatch):
    """Make a frame named in the environment kill the process that masks it."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(Path(__file__).with_name("killer.py").read_text())
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return lambda name: monkeypatch.setenv("CRATTN_TEST_KILLER", name)


def test_a_frame_that_kills_its_worker_is_set_aside(tmp_path, database, killer):
    for number in range(3):
        write_frame(tmp_path, number)
    killer("-0001-")
    result = reprocess(tmp_path)
    assert result.exit_code == 1 and "2 succeeded, 1 failed" in result.stdout
    (run,) = runs_of(database, status="failed")
    assert run.losses == 2 and "crashed the worker (signal SIGKILL)" in run.error
    assert not list(folder_of(tmp_path).glob(".*part*"))
    killer("nothing")
    assert reprocess(tmp_path).exit_code == 0


def _command(root, *arguments):
    command = [sys.executable, "-m", "crattn_stage.cli", "reprocess", "--night", NIGHT, "--root", str(root)]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_finishes_the_frame_in_work(tmp_path, database):
    for number in range(20):
        write_frame(tmp_path, number, shape=(600, 600))
    process = _command(tmp_path)
    wait_for(lambda: runs_of(database, status="succeeded"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "finishing the frames being masked" in err and "are left" in err, out + err
    assert not runs_of(database, status="running")
    with Session(database) as session:
        assert not session.scalars(select(Frame).where(Frame.locked_by.is_not(None))).all()
    done = len(runs_of(database, status="succeeded"))
    assert 0 < done == len(outputs(tmp_path)) < 20
    assert reprocess(tmp_path).exit_code == 0
    assert len(runs_of(database, status="succeeded")) == len(outputs(tmp_path)) == 20


def test_killed_half_way_and_started_again(tmp_path, database, monkeypatch):
    monkeypatch.setenv("CRATTN_LEASE", "2")
    for number in range(3):
        write_frame(tmp_path, number, shape=(400, 400))
    process = _command(tmp_path)
    wait_for(lambda: runs_of(database, status="running"))
    # The parent dies; its worker finishes the frame it has and goes.
    process.kill()
    process.communicate()
    again = _command(tmp_path, "--jobs", "2")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, out + err
    assert len(runs_of(database, status="succeeded")) == 3
    assert not list(folder_of(tmp_path).glob(".*part*"))


def _write_records(url, number, queue):
    database = connect(url)
    model = {"name": "m", "architecture": "deepcr", "sha256": "ab" * 32}
    try:
        for i in range(8):
            path = f"/night/{number}-{i}.fits"
            columns = {"threshold": 0.5, "engine": "float32", "version": "0", "options": {}}
            (run,) = runs.queue_runs(database, [runs.Request(path, f"{path}.out", model, columns)], NIGHT)
            with runs.claimed(database, run) as job:
                job.record.run["hits"] = i
            with provenance.recorded_run(database, path, model, threshold=0.5, engine="float32", version="0") as record:
                record.run["hits"] = i
        queue.put("done")
    except Exception as error:
        queue.put(repr(error))


def test_eight_processes_write_to_sqlite_at_once(url, database):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=_write_records, args=(url, number, queue)) for number in range(8)]
    for child in children:
        child.start()
    assert [queue.get(timeout=120) for _ in children] == ["done"] * 8
    for child in children:
        child.join()
    written = runs_of(database)
    assert len(written) == 8 * 8 * 2 and {run.status for run in written} == {"succeeded"}


def test_usage_errors(tmp_path):
    assert reprocess(tmp_path / "missing").exit_code == 2
    assert crattn("reprocess", "--night", "20131345", "--root", tmp_path).exit_code == 2
    assert "no frames of night" in reprocess(tmp_path).stderr
    assert crattn("qa").exit_code == 2


def test_an_unknown_model_is_one_line(tmp_path):
    write_frame(tmp_path, 1)
    result = reprocess(tmp_path, "--model", "nonesuch")
    assert result.exit_code == 1 and "unknown model" in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_registered_model_that_has_changed_is_refused(tmp_path, database):
    write_frame(tmp_path, 1)
    model = describe_model()
    registry.register(database, {**model, "sha256": "0" * 64})
    result = reprocess(tmp_path)
    assert result.exit_code == 1 and "another sha256" in result.stderr


def test_reports(tmp_path, database):
    for number in range(4):
        write_frame(tmp_path, number)
    write_bad_frames(tmp_path)
    reprocess(tmp_path)
    page, numbers = tmp_path / "night.html", tmp_path / "night.json"
    result = crattn("qa", "--night", NIGHT, "--html", page, "--json", numbers)
    assert result.exit_code == 1 and "4 PASS, 0 WARN, 6 FAIL" in result.stdout
    report = json.loads(numbers.read_text())
    assert report["counts"] == {"PASS": 4, "WARN": 0, "FAIL": 6}
    assert all(frame["reasons"] for frame in report["frames"] if frame["verdict"] == "FAIL")
    text = page.read_text()
    assert "data:image/png;base64," in text and 'src="http' not in text and "no usable pixel" in text


def test_files_are_checked_against_themselves_and_the_database(tmp_path, database):
    path = write_frame(tmp_path, 1)
    assert crattn("qa", path).exit_code == 1
    reprocess(tmp_path)
    (output,) = folder_of(tmp_path).glob("*-crmask.fits")
    assert crattn("qa", output).exit_code == 0
    assert str(path) in crattn("trace", output).stdout
    with fits.open(output, mode="update") as hdus:
        hdus["BPM"].data[0, 0] |= 8
    changed = crattn("qa", "--headers-only", output)
    assert changed.exit_code == 1 and "its mask has" in changed.stdout
    with fits.open(output, mode="update") as hdus:
        hdus["BPM"].data[0, 0] &= 0xF7
        hdus[0].header["OBJECT"] = "touched"
    assert crattn("qa", "--headers-only", output).exit_code == 0
    assert "no run in this database wrote this file" in crattn("qa", output).stdout
    assert crattn("trace", output).exit_code == 1


def test_a_relative_root_is_the_same_place(tmp_path, database, monkeypatch):
    write_frame(tmp_path / "data", 1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert reprocess("../data").exit_code == 0
    assert "nothing is out of date" in reprocess("../data").stdout
    assert "nothing is out of date" in reprocess(tmp_path / "data").stdout


def test_an_output_never_replaces_its_frame(tmp_path, database):
    path = write_frame(tmp_path, 1)
    before = path.read_bytes()
    result = reprocess(tmp_path, "--output-root", tmp_path, "--overwrite")
    assert result.exit_code == 1 and "no frames" in result.stderr
    (tmp_path / "link").symlink_to(tmp_path)
    linked = reprocess(tmp_path, "--output-root", tmp_path / "link", "--overwrite")
    assert linked.exit_code == 1 and "would overwrite the input" in linked.stderr
    assert path.read_bytes() == before


def test_outputs_below_the_root_are_no_frames(tmp_path, database):
    write_frame(tmp_path, 1)
    arguments = ("--pattern", "**/*.fits", "--output-root", tmp_path / "masked")
    assert reprocess(tmp_path, *arguments).exit_code == 0
    assert "nothing is out of date" in reprocess(tmp_path, *arguments).stdout
    assert len(list((tmp_path / "masked").rglob("*.fits"))) == 1


def test_a_default_that_was_retired_as_bad_is_not_used(tmp_path, database):
    write_frame(tmp_path, 1)
    assert reprocess(tmp_path).exit_code == 0
    assert crattn("models", "retire", DEFAULT, "--bad", "--reason", "a mistake").exit_code == 0
    refused = reprocess(tmp_path)
    assert refused.exit_code == 1 and "was retired as bad" in refused.stderr
    assert "a mistake, bad" in crattn("models", "history").stdout


def test_an_older_request_does_not_follow_a_newer_one(tmp_path, database):
    """Model A is asked for, then B is used, then A again: what A was asked for first is off."""
    write_frame(tmp_path, 1)
    (first,) = queued(database, tmp_path)
    assert reprocess(tmp_path, "--model", OTHER).exit_code == 0
    with pytest.raises(runs.Over):
        execute(database, first)
    assert reprocess(tmp_path).exit_code == 0
    assert [run.status for run in runs_of(database)] == ["superseded", "succeeded", "succeeded"]
    assert crattn("qa", "--night", NIGHT).exit_code == 0


def test_a_worker_that_woke_too_late_writes_nothing(tmp_path, database):
    write_frame(tmp_path, 1)
    (run,) = queued(database, tmp_path)
    with pytest.raises(runs.Locked), runs.claimed(database, run, lease=1000) as job:
        with Session(database) as session, session.begin():
            session.execute(update(Frame).values(locked_by="another"))
        runs.begin_output(database, job, {"x": "y"})
    assert runs_of(database)[0].outputs is None


def test_runs_of_another_database_are_told_apart(tmp_path, database):
    write_frame(tmp_path, 1)
    (run,) = queued(database, tmp_path)
    for number, path in ((run, "/another/frame.fits"), (4711, None)):
        with pytest.raises(runs.UnknownRun, match="in this database"):
            execute(database, number, path=path)


def test_the_night_of_any_header_and_path_is_submitted(tmp_path, either_url):
    """Long types, long paths: cut, stored or refused, and the other frames are done."""
    database = open_database(either_url)
    write_frame(tmp_path, 1)
    write_frame(tmp_path, 2, OBSTYPE="a type of observation that is longer than sixty characters")
    deep = folder_of(tmp_path)
    for _ in range(5):
        deep /= "d" * 230
    deep.mkdir(parents=True)
    far = deep / "far.fits"
    shutil.copy(write_frame(tmp_path, 3), far)
    for _ in range(5):
        deep /= "e" * 230
    deep.mkdir(parents=True)
    too_far = deep / "too-far.fits"
    shutil.copy(far, too_far)
    result = reprocess(tmp_path, "--pattern", "**/*.fits", "--output-root", tmp_path / "out")
    assert result.exit_code == 1 and "4 succeeded, 0 failed" in result.stdout, result.output
    assert f"{too_far}: its path has" in result.stderr and "Traceback" not in result.output
    with Session(database) as session:
        types = set(session.scalars(select(Frame.observation_type)))
        assert str(far) in session.scalars(select(Frame.path)).all()
    assert types == {"EXPOSE", "a type of observation that is longer than sixty cha"[:50]}
    database.dispose()


def test_long_names_of_extensions_are_stored(either_url):
    database = open_database(either_url)
    model = {"name": "m" * 200, "architecture": "deepcr", "sha256": "ab" * 32}
    rows = [
        {"extension": "E" * 300 + end, "name": "amplifier " * 5, "pixels": 1, "searched": 2, "hits": 1} for end in "AB"
    ]
    with provenance.recorded_run(
        database, "/x\udcff\0.fits", model, threshold=0.5, engine="x" * 99, version="0"
    ) as record:
        record.amplifiers = rows
        record.run["reason"] = "a\0b"
    (run,) = runs_of(database)
    assert run.status == "succeeded" and run.reason == "a\\x00b"
    database.dispose()


def test_a_frame_that_the_database_refuses_costs_no_other(tmp_path, database, monkeypatch):
    for number in range(4):
        write_frame(tmp_path, number)
    original = runs.queue_runs

    def refuse(database, requests, night):
        if any("-0002-" in request.path for request in requests):
            raise DataError("insert", {}, ValueError("value too long"))
        return original(database, requests, night)

    monkeypatch.setattr("crattn_stage.nights.plan.runs.queue_runs", refuse)
    result = reprocess(tmp_path)
    assert result.exit_code == 1 and "3 succeeded" in result.stdout
    assert "-0002-e91.fits: the database refuses it: value too long" in result.stderr


def test_a_changed_companion_mask_makes_its_frame_out_of_date(tmp_path, database):
    image, _ = with_track(sky_image())
    primary = fits.PrimaryHDU()
    primary.header.update(
        INSTRUME="DECam", OBSTYPE="object", PRODTYPE="image", PROCTYPE="InstCal", DTCALDAT="2013-01-05"
    )
    fits.HDUList([primary, fits.CompImageHDU(image, name="N4")]).writeto(folder_of(tmp_path) / "c4d_ooi_r.fits.fz")
    companion = folder_of(tmp_path) / "c4d_ood_r.fits.fz"
    primary.header["PRODTYPE"] = "dqmask"

    def write_mask(value):
        plane = np.zeros(image.shape, np.int16)
        plane[3, 3] = value
        fits.HDUList([primary, fits.CompImageHDU(plane, name="N4")]).writeto(companion, overwrite=True)

    write_mask(0)
    arguments = ("--output-root", tmp_path / "out")
    assert reprocess(tmp_path, *arguments).exit_code == 0
    assert "nothing is out of date" in reprocess(tmp_path, *arguments).stdout
    write_mask(1)
    assert "the frame or its mask file has changed" in reprocess(tmp_path, *arguments, "--dry-run").stdout
    assert reprocess(tmp_path, *arguments).exit_code == 0
    assert "nothing is out of date" in reprocess(tmp_path, *arguments).stdout


def test_no_runs_are_no_error(database):
    assert runs.open_runs(database, []) == [] and not runs.any_held(database, runs.RunIds())
    assert runs.next_run(database, runs.RunIds()) == (None, False)
    assert runs.ended_runs(database, runs.RunIds())[0] == []


def test_the_summary_counts_what_was_skipped(tmp_path, database):
    write_frame(tmp_path, 1)
    assert "1 succeeded, 0 failed;" in reprocess(tmp_path).stdout
    write_frame(tmp_path, 2)
    write_frame(tmp_path, 3, OBSTYPE="BIAS")
    assert "1 succeeded, 0 failed, 2 skipped" in reprocess(tmp_path).stdout
    assert "nothing is out of date; 3 skipped" in reprocess(tmp_path).stdout


def test_a_run_that_ends_between_plan_and_submit_is_not_repeated(tmp_path, either_url):
    """Another command masks the frame after this one found it out of date."""
    database = open_database(either_url)
    write_frame(tmp_path, 1)
    frames, *_ = find_frames(tmp_path, NIGHT)
    steps = plan(database, frames)
    assert reprocess(tmp_path).exit_code == 0
    (output,) = folder_of(tmp_path).glob("*-crmask.fits")
    before = output.stat().st_mtime_ns
    (run,) = submit(database, steps, NIGHT)
    assert execute(database, run).message == "already done"
    assert output.stat().st_mtime_ns == before
    assert [r.status for r in runs_of(database)] == ["succeeded", "already done"]
    assert Tally().summary() == "0 succeeded, 0 failed"
    assert runs.close_batches(database, [run]) == [2]
    database.dispose()


def test_two_models_at_once_and_the_first_command_says_so(tmp_path, either_url):
    """The frames of the first command are asked for again with another model: it fails, and its batch ends."""
    database = open_database(either_url)
    for number in range(2):
        write_frame(tmp_path, number)
    frames, *_ = find_frames(tmp_path, NIGHT)
    first = submit(database, plan(database, frames), NIGHT)
    second = submit(database, plan(database, frames, OTHER), NIGHT)
    assert not set(first) & set(second)
    tally = Tally()
    for run in follow(database, first, lambda left: True):
        tally.add(run)
    assert tally.replaced == 2 and tally.summary() == "0 succeeded, 0 failed, 2 superseded by another command"
    with Session(database) as session:
        assert [batch.finished is not None for batch in session.scalars(select(Batch).order_by(Batch.id))] == [
            True,
            False,
        ]
    database.dispose()


def test_a_command_whose_frames_were_taken_over_exits_with_1(tmp_path, database, monkeypatch):
    write_frame(tmp_path, 1)
    original = cli_nights._here

    def late(url, database, wanted, tally, jobs):
        frames, *_ = find_frames(tmp_path, NIGHT)
        submit(database, plan(database, frames, OTHER), NIGHT)
        return original(url, database, wanted, tally, jobs)

    monkeypatch.setattr(cli_nights, "_here", late)
    result = reprocess(tmp_path)
    assert result.exit_code == 1 and "1 superseded by another command" in result.stdout
    assert "superseded, another command asked for this frame with another model" in result.stdout


def test_a_worker_whose_clock_is_fast_takes_over_nothing(tmp_path, postgresql, monkeypatch):
    database = connect(postgresql)
    upgrade(database)
    write_frame(tmp_path, 1)
    (run,) = queued(database, tmp_path)
    with runs.claimed(database, run, lease=60):

        class Fast(datetime):
            @classmethod
            def now(cls, tz=None):
                return super().now(tz) + timedelta(hours=1)

        for module in ("database", "tables"):
            monkeypatch.setattr(f"calibration_dbs.{module}.datetime", Fast)
        assert runs.next_run(database, runs.RunIds([run])) == (None, True)
        with pytest.raises(runs.Locked):
            execute(database, run)
    database.dispose()


def test_a_read_only_output_is_one_line_for_each_frame(tmp_path, database):
    write_frame(tmp_path, 1)
    (tmp_path / "file").write_bytes(b"")
    result = _command(tmp_path, "--output-root", str(tmp_path / "file" / "deeper"))
    _, err = result.communicate(timeout=120)
    assert result.returncode == 1
    (line,) = [line for line in err.splitlines() if "frame" in line or "Error" in line or "fits" in line]
    assert line.endswith("Not a directory"), err
    assert "Traceback" not in err


def test_control_characters_never_reach_the_terminal(tmp_path, database):
    write_frame(tmp_path, 1)
    (folder_of(tmp_path) / "a\x1b[31mred.fits").write_bytes(b"")
    (folder_of(tmp_path) / os.fsdecode(b"not-\xff-utf8.fits")).write_bytes(b"")
    result = reprocess(tmp_path)
    assert result.exit_code == 1 and "1 succeeded, 1 failed" in result.stdout
    assert "\x1b" not in result.output and r"a\x1b[31mred.fits: empty file" in result.stderr
    assert r"not-\udcff-utf8.fits: file name is not valid UTF-8" in result.stderr
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(PrintableFormatter(logging.Formatter("%(message)s")))
    logger = logging.Logger("x")
    logger.addHandler(handler)
    logger.warning("%s", "a\x1b[31m\x9b\u202eb")
    assert log.getvalue() == "a\\x1b[31m\\x9b\\u202eb\n"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql+psycopg://host/db?user=me&password=secret", "postgresql+psycopg://host/db?***"),
        ("postgresql+psycopg://me:sec@ret@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql+psycopg://host/db?password=sec@ret", "postgresql+psycopg://***"),
        ("amqp://me:sec@ret@host//", "amqp://me:***@host//"),
        ("redis://:secret@host/0;redis://:secret@other/0", "redis://:***@host/0;redis://:***@other/0"),
        ("sqlite:////home/me@here/x.sqlite", "sqlite:////home/me@here/x.sqlite"),
        ("secret", "***"),
    ],
)
def test_passwords_are_never_printed(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:secret@nowhere@127.0.0.1:1/db",
        "postgresql+psycopg://127.0.0.1:1/db?password=secret",
        "secret",
        "x://me:secret@host:port/db",
    ],
)
def test_errors_of_a_database_do_not_quote_its_password(tmp_path, url):
    write_frame(tmp_path, 1)
    result = reprocess(tmp_path, "--db", url)
    assert result.exit_code == 1 and "secret" not in result.output and len(result.stderr.splitlines()) == 1


def test_a_broker_that_is_down_is_named_without_its_password(tmp_path):
    write_frame(tmp_path, 1)
    environment = {**os.environ, "CRATTN_BROKER": "amqp://me:secret@127.0.0.1:1//"}
    process = subprocess.run(
        [sys.executable, "-m", "crattn_stage.cli", "reprocess", "--night", NIGHT, "--root", tmp_path, "--celery"],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert process.returncode == 1 and "secret" not in process.stderr
    (line,) = process.stderr.splitlines()
    assert "the broker amqp://me:***@127.0.0.1:1//: " in line and "same command resumes" in line


def test_no_module_is_taken_from_the_working_directory(tmp_path, database, monkeypatch):
    """A folder of data may hold a file that is named as a module."""
    write_frame(tmp_path / "data", 1)
    for name in ("json", "multiprocessing", "astropy", "sqlalchemy", "crattn_stage"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
        )
    monkeypatch.chdir(tmp_path)
    queued(database, tmp_path / "data")
    with Session(database) as session, session.begin():
        session.execute(update(Run).values(losses=2))
    assert reprocess(tmp_path / "data").exit_code == 0
    assert not (tmp_path / "ran").exists()
    assert runs_of(database)[0].losses == 2


def test_nothing_found_says_where_it_was_looked_for(tmp_path):
    result = reprocess(tmp_path, "--site", "lsc")
    assert f"{tmp_path}/lsc/*/NIGHT/processed/*.fits*" in result.stderr and "--pattern" in result.stderr
    assert "among" in reprocess(tmp_path, "--pattern", "**/*.fz").stderr


def test_a_range_of_nights_a_list_and_instruments(tmp_path, database):
    nights = ["20130104", "20130105", "20130107"]
    paths = [
        write_frame(tmp_path, i, night=night, **{"DATE-OBS": f"{night[:4]}-{night[4:6]}-{night[6:]}T03:00:00"})
        for i, night in enumerate(nights)
    ]
    command = ("reprocess", "--root", tmp_path, "--from", "20130104", "--until", "2013-01-06")
    assert "2 of 2 frames are out of date" in crattn(*command, "--dry-run").stdout
    assert "2 succeeded" in crattn(*command).stdout
    with Session(database) as session:
        assert [batch.night for batch in session.scalars(select(Batch).order_by(Batch.id))] == nights[:2]
    names = tmp_path / "names"
    names.write_text("".join(f"{path}\n" for path in paths))
    everything = (
        "reprocess",
        "--root",
        tmp_path,
        "--from",
        "20130101",
        "--until",
        "20131231",
        "--list",
        names,
        "--dry-run",
    )
    plan_of_all = crattn(*everything)
    assert "1 of 3 frames are out of date; 1 CCDs, 0 megapixels, about 0.0 h on 1 worker at " in plan_of_all.stdout
    assert "no frames" in crattn(*everything, "--instrument", "decam").stderr
    assert "1 of 3" in crattn(*everything, "--instrument", "decam", "--instrument", "fa15").stdout
    assert crattn("reprocess", "--root", tmp_path, "--from", "20130104").exit_code == 2
    assert crattn("reprocess", "--root", tmp_path, "--from", "20130104", "--until", "20130101").exit_code == 2
    assert "give either" in crattn("reprocess", "--root", tmp_path, "--night", NIGHT, "--from", "20130104").stderr


def test_following_reads_only_what_is_new(tmp_path, database, monkeypatch):
    """Each run is loaded once, and between news the runs that ended before are not read again."""
    for number in range(6):
        write_frame(tmp_path, number, shape=(60, 60))
    wanted, read = queued(database, tmp_path), []
    original = runs.ended_runs

    def counting(*arguments):
        ended, now = original(*arguments)
        read.append(len(ended))
        return ended, now

    monkeypatch.setattr(follow_module.queue, "ended_runs", counting)
    monkeypatch.setattr(follow_module, "LOOK", 0)
    monkeypatch.setattr(follow_module, "MARGIN", timedelta(0))
    waiting, seen = list(wanted), []

    def idle(left):
        assert left == len(wanted) - len(seen)
        execute(database, waiting.pop(0))

    for run in follow(database, wanted, idle):
        seen.append(run.id)
    assert sorted(seen) == sorted(wanted) and sum(read) == len(wanted)


def test_reading_takes_no_write_lock(database):
    with reading(database) as session:
        assert session.scalar(select(func.count()).select_from(Run)) == 0
        # Another connection writes meanwhile.
        with writing(database) as other:
            other.add(Frame(path="/written/meanwhile.fits"))
    with reading(database) as session:
        assert session.scalar(select(func.count()).select_from(Frame)) == 1


def test_workers_of_one_machine_have_names_of_their_own(database, monkeypatch):
    called = []
    monkeypatch.setattr("crattn_stage.nights.tasks.app.worker_main", called.append)
    for _ in range(2):
        assert crattn("worker").exit_code == 0
    assert crattn("worker", "--", "--hostname=mine@%h").exit_code == 0
    one, two, mine = ([a for a in arguments if a.startswith("--hostname")] for arguments in called)
    assert len(one) == len(two) == 1 and one != two and mine == ["--hostname=mine@%h"]


def test_a_worker_uses_the_processors_it_may(database, monkeypatch):
    called = []
    monkeypatch.setattr("crattn_stage.nights.tasks.app.worker_main", called.append)
    for name in ("CRATTN_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "?")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert crattn("worker").exit_code == 0
    assert "--concurrency=3" in called[0] and os.environ["CRATTN_THREADS"] == "2"


def _model(name, digit="ab"):
    return {"name": name, "architecture": "deepcr", "sha256": digit * 32, "path": name}


@pytest.mark.parametrize("name", ["%", "_", "", "a%", "%%%", "__" * 32])
def test_wildcards_name_no_model(database, name):
    registry.register(database, _model("mine"))
    with pytest.raises(registry.UnknownModel):
        registry.retire(database, name)
    assert registry.retire(database, "ab") == "mine"


def test_an_ambiguous_prefix_names_no_model_and_an_exact_name_does(database):
    for model in (_model("mine"), _model("abc", "ac"), _model("other", "ad")):
        registry.register(database, model)
    with pytest.raises(registry.UnknownModel, match="more than one"):
        registry.retire(database, "a")
    assert registry.retire(database, "abc") == "abc" and registry.retire(database, "AD") == "other"


def test_the_history_of_a_model_is_kept(database):
    registry.register(database, _model("mine"), reason="fewer stars")
    registry.retire(database, "mine", is_bad=True, reason="masks stars")
    ((validity, _),) = registry.history(database)
    assert (validity.reason, validity.retired_reason) == ("fewer stars", "masks stars")
    with pytest.raises(ValueError, match="retired as bad"):
        registry.register(database, _model("mine"))
    assert registry.is_bad(database, "ab" * 32)
    # The same weights under another name.
    assert registry.register(database, _model("copy"), clear_bad=True) == "mine"
    assert not registry.is_bad(database, "ab" * 32)
    assert [model.name for _, model in registry.history(database)] == ["mine", "mine"]


def test_unknown_instruments_are_refused(tmp_path, database):
    refused = crattn("models", "register", OTHER, "--instrument", "fa51", *UNCOMPARED)
    assert refused.exit_code == 1 and "unknown instrument 'fa51'" in refused.stderr
    assert crattn("models", "register", OTHER, "--instrument", "DECam", *UNCOMPARED).exit_code == 0
    assert crattn("models", "register", OTHER, "--instrument", "fa51", "--new-instrument", *UNCOMPARED).exit_code == 0
    write_frame(tmp_path, 1)
    assert reprocess(tmp_path).exit_code == 0
    assert registry.known_instruments(database) == {"fa15"}
    assert crattn("models", "register", OTHER, "--instrument", "FA15", *UNCOMPARED).exit_code == 0


def test_an_exposure_in_two_folders_is_judged_once(tmp_path, database):
    path = write_frame(tmp_path, 1)
    copy = folder_of(tmp_path / "copy") / path.name
    shutil.copy(path, copy)
    assert reprocess(tmp_path, "--pattern", "**/*.fits").exit_code == 0
    assert len(runs_of(database, status="succeeded")) == 2
    assert "1 PASS, 0 WARN, 0 FAIL" in crattn("qa", "--night", NIGHT).stdout


def test_pruning_keeps_what_is_asked_for(tmp_path, either_url):
    database = open_database(either_url)
    path = write_frame(tmp_path, 1)
    for _ in range(3):
        assert reprocess(tmp_path, "--force").exit_code == 0
    assert not queued(database, tmp_path)
    write_bad_frames(tmp_path)
    assert reprocess(tmp_path).exit_code == 1
    (output,) = folder_of(tmp_path).glob("*-crmask.fits")
    before = {run.id for run in runs_of(database)}
    assert "2 runs" in crattn("db", "prune", "--days", 0, "--dry-run").stdout
    assert {run.id for run in runs_of(database)} == before
    assert crattn("db", "prune", "--days", 1).exit_code == 0
    assert {run.id for run in runs_of(database)} == before
    assert crattn("db", "prune", "--days", 0).exit_code == 0
    assert len(before) - len(runs_of(database)) == 2
    assert len(runs_of(database, status="failed")) == 6
    with Session(database) as session:
        assert session.scalar(select(func.count()).select_from(Amplifier)) == 0
    assert str(path) in crattn("trace", output).stdout
    assert crattn("reprocess", "--night", NIGHT, "--root", tmp_path, "--dry-run").stdout.count(" done ") == 1
    database.dispose()


def test_urgent_runs_go_first(tmp_path, either_url, monkeypatch):
    """Tonight before the archive; a frame that both ask for is as urgent as the more urgent of them."""
    database = open_database(either_url)
    for number in range(4):
        write_frame(tmp_path, number, shape=(40, 40))
    frames, *_ = find_frames(tmp_path, NIGHT)
    archive = list(submit(database, plan(database, frames[:3]), NIGHT))
    tonight = list(submit(database, plan(database, frames[2:]), NIGHT, priority=5))
    assert tonight[0] == archive[2] and len(tonight) == 2
    assert list(submit(database, plan(database, frames[:3]), NIGHT)) == archive
    ids, order = runs.RunIds([*archive, *tonight]), []
    # Pages of one, so that each look ends within a priority.
    monkeypatch.setattr(runs, "PAGE", 10)
    while (run := runs.next_run(database, ids, order)[0]) is not None:
        order.append(run)
    assert order == [*tonight, *archive[:2]]
    assert runs.next_run(database, ids, order) == (None, True)
    database.dispose()


def test_a_list_of_anything(tmp_path, database):
    """Control characters, bytes that are no UTF-8, long names, pipes and folders: named, and the rest is masked."""
    path = write_frame(tmp_path, 1, shape=(60, 60))
    pipe, folder = tmp_path / "pipe.fits", tmp_path / "folder.fits"
    os.mkfifo(pipe)
    folder.mkdir()
    lines = [path, pipe, folder, "a\x1b[31m\0b.fits", b"\xff\xfe.fits", "x" * 5000 + ".fits", "", "  "]
    names = tmp_path / "names"
    names.write_bytes(b"\n".join(os.fsencode(line) for line in lines))
    result = reprocess(tmp_path, "--list", names)
    assert result.exit_code == 1 and "1 succeeded, 0 failed" in result.stdout
    assert result.stderr.count(": no such file") == 5 and r"a\x1b[31m\x00b.fits: no" in result.stderr
    assert result.stderr.isascii() and "\x1b" not in result.stderr


def test_a_listed_frame_outside_the_root_does_not_stop_the_night(tmp_path, database):
    path = write_frame(tmp_path / "data", 1, shape=(60, 60))
    outside = shutil.copy(path, tmp_path / "outside.fits")
    names = tmp_path / "names"
    names.write_text(f"{outside}\n{path}\n")
    result = reprocess(tmp_path / "data", "--list", names, "--output-root", tmp_path / "masked")
    assert result.exit_code == 1 and "1 succeeded, 0 failed, 1 refused" in result.stdout
    assert f"{outside}: lies outside {tmp_path / 'data'}" in result.stderr
    assert len([*(tmp_path / "masked").rglob("*.fits")]) == 1


@pytest.mark.parametrize(
    "body",
    [
        ([1, "/a.fits"], {"evil": 1}, {}),
        ([None, {}], {}, {}),
        (["1", "/a.fits"], {}, {}),
        ([True, "/a.fits"], {}, {}),
        ([2**70, "/a.fits"], {}, {}),
        ([[1], ["/a.fits"]], {}, {}),
        ([1], {}, {}),
        ({"a": 1},),
        7,
    ],
)
def test_foreign_messages_are_discarded(body):
    """Celery's own answer to some was to end the worker, and then the next one that was given the message."""
    from celery.exceptions import InvalidTaskError
    from kombu.transport.base import Message

    from crattn_stage.nights import tasks

    def request(body):
        message = Message(delivery_tag=1, delivery_info={})
        headers = {"task": "crattn.mask", "id": "1"}
        return tasks.mask.Request(message, app=tasks.app, task=tasks.mask, body=body, headers=headers, decoded=True)

    assert request(([1, "/a.fits"], {}, {})).args == [1, "/a.fits"]
    with pytest.raises(InvalidTaskError):
        request(body)
