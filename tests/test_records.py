import multiprocessing
import sqlite3
from contextlib import suppress

import pytest
from sqlalchemy import create_engine, func, inspect, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from calibration_dbs.database import connect, open_database, reading, revision, upgrade
from calibration_dbs.provenance import recorded_run
from calibration_dbs.runs import Request, Transient, begin_output, claimed, queue_runs
from calibration_dbs.tables import VERSION_TABLE, Base, Frame, Model, Run

MODEL = {"name": "m", "architecture": "deepcr", "sha256": "ab" * 32}
SETTINGS = {"threshold": 0.4, "engine": "float32", "version": "0"}


@pytest.fixture
def database(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'new' / 'folder' / 'p.sqlite'}")
    yield database
    database.dispose()


def test_migrations_make_what_the_tables_say(database):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
    assert revision(database)[0] == revision(database)[1] is not None


def test_another_pipelines_tables_are_left_alone(tmp_path):
    path = tmp_path / "banzai.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table calimages (id integer primary key, filename text)")
        connection.execute("create table alembic_version (version_num text)")
        connection.execute("insert into alembic_version values ('e1a2b3')")
        connection.execute("insert into calimages values (1, 'bpm.fits')")
    connection.close()
    engine = connect(f"sqlite:///{path}")
    upgrade(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("select filename from calimages")) == "bpm.fits"
        assert connection.scalar(text("select version_num from alembic_version")) == "e1a2b3"
    assert {"calimages", "models", "frames", "runs", "amplifiers", VERSION_TABLE} <= set(
        inspect(engine).get_table_names()
    )
    engine.dispose()


def test_a_database_of_the_future_is_refused(database):
    with database.begin() as connection:
        connection.execute(text(f"update {VERSION_TABLE} set version_num = '9999'"))
    with pytest.raises(RuntimeError, match="another version"):
        open_database(database.url)


def test_a_run_is_recorded_with_all_it_says(database):
    with recorded_run(database, "/night/a.fits", MODEL, **SETTINGS) as record:
        with Session(database) as session:
            assert session.scalars(select(Run)).one().status == "running"
        record.frame.update(night="20130104", instrument="decam")
        record.run.update(pixels=5, hits=1)
        record.amplifiers = [{"extension": "N4", "name": "A", "pixels": 5, "searched": 100, "hits": 1}]
    with Session(database) as session:
        run = session.scalars(select(Run)).one()
        assert (run.status, run.pixels, run.frame.night, run.model.sha256) == ("succeeded", 5, "20130104", "ab" * 32)
        assert run.finished >= run.started and run.amplifiers[0].name == "A"


def test_a_failure_is_recorded_and_raised(database):
    with pytest.raises(OSError, match="gone"), recorded_run(database, "/night/a.fits", MODEL, **SETTINGS):
        raise OSError("gone")
    with Session(database) as session:
        run = session.scalars(select(Run)).one()
        assert (run.status, run.error) == ("failed", "gone")


def test_runs_share_frame_and_model(database):
    for path in ("/a.fits", "/a.fits", "/b.fits"):
        with recorded_run(database, path, MODEL, **SETTINGS):
            pass
    with Session(database) as session:
        assert len(session.scalars(select(Run)).all()) == 3
        assert len(session.scalars(select(Frame)).all()) == 2
        assert len(session.scalars(select(Model)).all()) == 1


def test_a_server_is_not_upgraded_unasked(tmp_path, monkeypatch):
    # A server's dialect without a server: the name is all that is looked at.
    engine = create_engine(f"sqlite:///{tmp_path / 'x.sqlite'}")
    monkeypatch.setattr(engine.dialect, "name", "postgresql")
    monkeypatch.setattr("calibration_dbs.database.connect", lambda url: engine)
    with pytest.raises(RuntimeError, match="db upgrade"):
        open_database("postgresql://somewhere/else")


def _open(url, barrier, queue):
    barrier.wait()
    try:
        open_database(url).dispose()
        queue.put("opened")
    except Exception as error:
        queue.put(repr(error))


def test_processes_may_open_a_new_database_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(4), context.Queue()
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    children = [context.Process(target=_open, args=(url, barrier, queue)) for _ in range(4)]
    for child in children:
        child.start()
    assert [queue.get(timeout=90) for _ in children] == ["opened"] * 4
    for child in children:
        child.join()


def test_a_connection_lost_while_nobody_used_it_is_replaced(postgresql, monkeypatch):
    database, other = connect(postgresql), connect(postgresql)
    own = select(func.pg_backend_pid())

    def lose():
        with database.connect() as connection:
            number = connection.scalar(own)
        with other.connect() as connection:
            assert connection.scalar(select(func.pg_terminate_backend(number, 10_000)))
        return number

    lose()
    with pytest.raises(OperationalError), database.connect() as connection:
        connection.scalar(own)
    lost = lose()
    monkeypatch.setattr("calibration_dbs.database.IDLE", -1.0)
    with database.connect() as connection:
        assert connection.scalar(own) != lost
    database.dispose()
    other.dispose()


@pytest.mark.parametrize("attempts", [1, 2])
def test_what_an_earlier_attempt_has_left_is_replaced(either_url, attempts):
    database = connect(either_url)
    request = Request("/a.fits", "/b.fits", MODEL | {"path": "m"}, {**SETTINGS, "options": {}})
    (number,) = queue_runs(database, [request], "20130104")
    for attempt in range(attempts):
        with suppress(Transient), claimed(database, number) as job:
            assert job.attempts == attempt + 1
            begin_output(database, job, {"/b.fits": "cd" * 32})
            job.record.frame.update(night="20130104", camera="fa15")
            job.record.run.update(hits=7, input_sha256="ef" * 32)
            job.record.amplifiers = [
                {"extension": "N4", "name": n, "pixels": 5, "searched": 9, "hits": 1} for n in "AB"
            ]
            if attempt + 1 < attempts:
                raise Transient("the disk is full")
    with reading(database) as session:
        run = session.scalars(select(Run)).one()
        assert (run.status, run.hits, run.error, run.attempts) == ("succeeded", 7, None, attempts)
        assert run.finished >= run.started and run.outputs == {"/b.fits": "cd" * 32}
        assert [amplifier.name for amplifier in run.amplifiers] == ["A", "B"]
        frame = run.frame
        assert (frame.night, frame.camera, frame.locked_by, frame.locked_until) == ("20130104", "fa15", None, None)
    database.dispose()
