"""Nights by Celery, with real brokers, real databases, and workers killed with SIGKILL."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import need
from night import NIGHT, copy_real_frames, folder_of, write_bad_frames, write_frame
from services import (
    AMQP,
    REDIS,
    PrivatePostgres,
    PrivateRabbit,
    PrivateRedis,
    broker_answers,
    installed,
    wait_for,
)
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from calibration_dbs.database import connect, open_database, upgrade
from calibration_dbs.tables import Frame, Run
from crattn_stage.cli import main

#: Seconds without a sign of life after which the tests take a worker for dead.
LEASE = 3


@pytest.fixture
def rabbit(folder):
    if broker_answers(AMQP):
        yield AMQP
        return
    need(installed("rabbitmq-server"), "needs RabbitMQ: CRATTN_TEST_AMQP, or rabbitmq-server to start one")
    server = PrivateRabbit(folder)
    yield server.url
    server.stop()


@pytest.fixture
def redis(folder):
    if broker_answers(REDIS):
        yield REDIS
        return
    need(installed("redis-server"), "needs Redis: CRATTN_TEST_REDIS, or redis-server to start one")
    server = PrivateRedis(folder)
    yield server.url
    server.stop()


class Observatory:
    """Workers, and what they are told: a broker, a database, a queue of their own."""

    def __init__(self, broker, url, root, log):
        self.root, self.url, self.log, self.processes = root, url, log, []
        self.environment = {
            **os.environ,
            "CRATTN_BROKER": broker,
            "CRATTN_DB": url,
            "CRATTN_LEASE": str(LEASE),
            "CRATTN_QUEUE": f"crattn-test-{os.getpid()}-{time.monotonic_ns()}",
        }
        self.database = connect(url)
        upgrade(self.database)

    def command(self, *arguments):
        return [sys.executable, "-m", "crattn_stage.cli", *map(str, arguments)]

    def start_worker(self, concurrency=1, **environment):
        name = f"--hostname=crattn{os.getpid()}-{time.monotonic_ns()}@%h"
        with open(self.log, "ab") as log:
            worker = subprocess.Popen(
                self.command("worker", "--concurrency", concurrency, "--large", "--", name),
                env={**self.environment, **environment},
                stdout=log,
                stderr=log,
                # Its children are its group, to be killed with it.
                start_new_session=True,
            )
        self.processes.append(worker)
        return worker

    def kill(self, worker, number=signal.SIGKILL):
        # One that was killed before may have left no child.
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, number)
        worker.wait()
        self.processes.remove(worker)

    def reprocess(self, *arguments):
        command = self.command("reprocess", "--night", NIGHT, "--root", self.root, *arguments)
        with open(self.log, "ab") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def runs(self, **columns):
        with Session(self.database, expire_on_commit=False) as session:
            return session.scalars(select(Run).filter_by(**columns).order_by(Run.id)).all()

    def count(self, *statuses):
        with Session(self.database) as session:
            return session.scalar(select(func.count()).select_from(Run).where(Run.status.in_(statuses)))

    def close(self):
        for worker in list(self.processes):
            self.kill(worker)
        self.database.dispose()


@pytest.fixture
def observatory(tmp_path):
    made = []

    def make(broker, url=None):
        url = url or f"sqlite:///{tmp_path / 'night.sqlite'}"
        made.append(Observatory(broker, url, tmp_path / "data", tmp_path / "log"))
        return made[-1]

    yield make
    for one in made:
        one.close()
    if made:
        # What a failure is looked into with.
        print((tmp_path / "log").read_text()[-8000:])


@pytest.fixture
def deadly(tmp_path):
    """An environment in which some frames kill or hold up their workers, by their names."""
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("killer.py"), folder / "sitecustomize.py")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "CRATTN_TEST_KILLER": "-0002-"}


def masked(root):
    return {p.name: p.read_bytes() for p in folder_of(root).glob("*-crmask.fits*")}


def check(night, good, bad):
    """Every good frame done once, every bad one recorded with its cause, nothing half-written."""
    with Session(night.database) as session:
        done = session.execute(
            select(Frame.path, func.count(Run.id)).join(Run.frame).where(Run.status == "succeeded").group_by(Frame.path)
        ).all()
        failed = dict(
            session.execute(select(Frame.path, Run.error).join(Run.frame).where(Run.status == "failed")).all()
        )
        assert not session.scalars(select(Frame).where(Frame.locked_by.is_not(None))).all()
    assert sorted(done) == sorted((str(path), 1) for path in good)
    assert failed.keys() == {str(path) for path in bad}
    assert all(cause in failed[str(path)] for path, cause in bad.items())
    assert len(masked(night.root)) == len(good)
    assert not list(folder_of(night.root).glob(".*part*"))


def test_a_night_survives_twenty_kills(data, tmp_path, rabbit, postgresql, observatory):
    """40 frames through 2 workers on RabbitMQ and PostgreSQL; then the same night undisturbed."""
    night = observatory(rabbit, postgresql)
    good = copy_real_frames(data, night.root, 14)
    good += [write_frame(night.root, number, shape=(500, 400)) for number in range(20)]
    bad = write_bad_frames(night.root)
    assert len(good) + len(bad) == 40
    workers = [night.start_worker(), night.start_worker()]
    command = night.reprocess("--celery")
    chance = random.Random(20130105)
    for kill in range(20):
        wait_for(lambda: night.count("running") and night.count("queued", "running"), 120, 0.02)
        time.sleep(chance.uniform(0, 0.5))
        victim = chance.randrange(2)
        if kill % 4 == 3:
            night.kill(workers[victim])
            workers[victim] = night.start_worker()
            continue
        # The child that masks; Celery replaces it.
        children = Path(f"/proc/{workers[victim].pid}/task/{workers[victim].pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    assert command.wait(300) == 1
    check(night, good, bad)
    assert sum(run.losses for run in night.runs()) > 0
    disturbed = masked(night.root)
    for worker in workers:
        night.kill(worker, signal.SIGTERM)

    undisturbed = CliRunner().invoke(
        main, ["reprocess", "--night", NIGHT, "--root", str(night.root), "--force", "--db", postgresql]
    )
    assert undisturbed.exit_code == 1 and f"{len(good)} succeeded, 6 failed" in undisturbed.stdout
    assert masked(night.root) == disturbed
    page = tmp_path / "night.html"
    report = CliRunner().invoke(main, ["qa", "--night", NIGHT, "--html", str(page), "--db", postgresql])
    assert report.exit_code == 1 and "6 FAIL" in report.stdout and page.exists()


def test_a_killer_is_set_aside_and_the_night_goes_on(redis, observatory, deadly):
    night = observatory(redis)
    good = [write_frame(night.root, number) for number in (1, 3)]
    killer = write_frame(night.root, 2)
    night.start_worker(**deadly)
    assert night.reprocess("--celery").wait(120) == 1
    check(night, good, {killer: "crashed the worker (signal SIGKILL)"})
    assert "2 succeeded, 1 failed" in night.log.read_text()


def test_a_frame_asked_for_twice_is_done_once(tmp_path, redis, observatory):
    night = observatory(redis)
    good = [write_frame(night.root, number, shape=(400, 400)) for number in range(3)]
    first, second = night.reprocess("--celery"), night.reprocess("--celery")
    wait_for(lambda: "frames sent" in night.log.read_text())
    night.start_worker(concurrency=2)
    assert first.wait(120) == 0 and second.wait(120) == 0
    check(night, good, {})


def test_products_are_made_by_workers(tmp_path, redis, observatory):
    night = observatory(redis)
    path, arc = write_frame(night.root, 1), write_frame(night.root, 2, OBSTYPE="ARC")
    night.start_worker()
    options = ("--celery", "--clean", "--hits", "--hits-format", "ecsv", "--regions", "--probability", "--grow", "1")
    assert night.reprocess(*options, "--arcs").wait(timeout=120) == 0
    assert fits.getheader(folder_of(night.root) / f"{arc.stem}-crmask.fits")["CRSPEC"]
    made = {p.name.removeprefix(path.stem) for p in folder_of(night.root).glob(f"{path.stem}*")} - {".fits"}
    assert made == {"-crmask.fits", "-crmask-clean.fits", "-crmask-hits.ecsv", "-crmask.reg"}
    with fits.open(folder_of(night.root) / f"{path.stem}-crmask.fits") as masked:
        assert masked[0].header["CRGROW"] == 1 and "CRPROB" in [hdu.name for hdu in masked]


def test_the_time_limits(redis, observatory, deadly):
    """One frame takes too long and hears of it; another one hears nothing, and is killed."""
    night = observatory(redis)
    paths = [write_frame(night.root, number) for number in (1, 3, 4)]
    slow, deaf = (
        path.rename(path.with_name(f"{path.stem}-{name}.fits"))
        for path, name in zip(paths, ("slow", "deaf"), strict=False)
    )
    night.start_worker(concurrency=2, CRATTN_TIME_LIMIT="30", **deadly)
    assert night.reprocess("--celery").wait(240) == 1
    check(night, paths[2:], {slow: "took longer than the time limit", deaf: "took longer than 30 s and was killed"})


def survives(night, server, seconds):
    """Stop a server in the middle of a night, and see that all is done when it is back."""
    good = [write_frame(night.root, number, shape=(400, 400)) for number in range(6)]
    night.start_worker()
    command = night.reprocess("--celery")
    wait_for(lambda: night.count("succeeded"))
    server.stop()
    time.sleep(seconds)
    server.start()
    assert command.wait(240) == 0
    check(night, good, {})


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_the_broker_is_restarted(kind, folder, observatory):
    program = f"{kind}-server"
    need(installed(program), f"needs {program}, to start one of its own")
    server = (PrivateRedis if kind == "redis" else PrivateRabbit)(folder)
    try:
        survives(observatory(server.url), server, 2)
    finally:
        server.stop()


def test_the_database_is_stopped_for_twenty_seconds(folder, redis, observatory):
    need(installed("initdb"), "needs initdb, to make a PostgreSQL cluster of its own")
    server = PrivatePostgres(folder / "postgres")
    try:
        survives(observatory(redis, server.url), server, 20)
    finally:
        server.stop()


def test_the_disk_fills(tmp_path, redis, observatory):
    need(os.getuid() == 0, "needs the right to mount a small disk")
    night = observatory(redis)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        need(False, "needs the right to mount a small disk")
    try:
        good = [write_frame(night.root, number, shape=(300, 300)) for number in range(4)]
        ballast = disk / "ballast"
        night.start_worker()
        command = night.reprocess("--celery", "--output-root", disk)
        # 4 outputs of 0.5 MB do not fit on 1 MB.
        wait_for(lambda: any(run.error and "No space left" in run.error for run in night.runs(status="queued")), 90)
        assert not list(disk.rglob(".*part*")) and not ballast.exists()
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        assert command.wait(120) == 0
        assert len(list(disk.rglob("*.fits"))) == len(good) == night.count("succeeded")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_migrations_on_postgresql(postgresql):
    """From an old revision with rows in it, beside the tables of another program."""
    from alembic import command
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import text

    from calibration_dbs.database import _alembic
    from calibration_dbs.tables import VERSION_TABLE, Base

    database = connect(postgresql)
    config = _alembic()
    with database.begin() as connection:
        connection.execute(text("create table calimages (id integer primary key)"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("insert into models values (1, 'm', 'deepcr', 'ab', now())"))
        connection.execute(text("insert into frames (id, path) values (1, '/a.fits')"))
        command.upgrade(config, "0003")
        columns = "id, frame_id, model_id, status, threshold, engine, version, started, options"
        for number, (status, added) in enumerate((("queued", "true"), ("succeeded", "true"), ("queued", "false")), 1):
            options = f'{{"overwrite": true, "mask_extension": {added}}}'
            row = f"{number}, 1, 1, '{status}', 0.5, 'e', '1', now(), '{options}'"
            connection.execute(text(f"insert into runs ({columns}) values ({row})".replace(":", r"\:")))
    with pytest.raises(RuntimeError, match="db upgrade"):
        open_database(postgresql)
    upgraded = CliRunner().invoke(main, ["db", "upgrade", "--db", postgresql])
    assert upgraded.exit_code == 0, upgraded.output
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert [d for d in compare_metadata(context, Base.metadata) if d[0] != "remove_table"] == []
        assert connection.scalar(text("select is_bad from models")) is False
        (queued, done, plain) = connection.execute(text("select options, settings from runs order by id")).all()
        assert queued.options == {"overwrite": True, "masks": {"mask_extension": True}}
        assert queued.settings == done.settings == {"products": ["CRMASK"]} and plain.settings is None
        assert connection.scalar(text("select count(*) from calimages")) == 0
    database.dispose()


def test_two_commands_at_once_ask_for_each_frame_once(postgresql):
    from concurrent.futures import ThreadPoolExecutor

    from calibration_dbs.runs import Request, queue_runs

    database = connect(postgresql)
    upgrade(database)
    model = {"name": "m", "architecture": "deepcr", "sha256": "ab" * 32, "path": "m"}

    def ask(number):
        path = f"/night/{number // 4}.fits"
        columns = {"threshold": 0.5, "engine": "float32", "version": "0", "options": {}}
        return queue_runs(database, [Request(path, f"{path}.out", model, columns)], NIGHT)[0]

    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(ask, range(80)))
    assert len(set(runs)) == 20
    database.dispose()


@pytest.mark.parametrize("broker", [AMQP, REDIS])
def test_brokers_give_urgent_runs_first(broker):
    need(broker_answers(broker), f"needs a broker at {broker}")
    script = """
from pathlib import Path
from crattn_stage.nights import tasks
from crattn_stage.nights.headers import FrameInfo
from crattn_stage.nights.plan import PlannedRun
step = PlannedRun(FrameInfo(Path("/x.fits")), True, "", Path("/y.fits"))
for run, priority in enumerate([0, 5, 9, 5]):
    tasks.send({run: step}, priority)
with tasks.app.connection_for_read() as connection:
    queue = tasks.app.amqp.queues[tasks.QUEUE](connection.default_channel)
    print([queue.get(no_ack=True).decode()[0][0] for _ in range(4)])
    queue.delete()
"""
    environment = {**os.environ, "CRATTN_BROKER": broker, "CRATTN_QUEUE": f"crattn-test-{time.monotonic_ns()}"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[2, 1, 3, 0]\n", done.stderr
