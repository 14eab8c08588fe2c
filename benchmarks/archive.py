"""What the database costs in an archive of a million runs.

``python -m benchmarks.archive`` times planning, queueing, claiming, ``trace`` and
``qa`` of a night in an empty database and, in turn, in one filled with runs, by
the real code; and ``models frames``, which lists all of them.  Prints JSON.
"""

import json
import math
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from sqlalchemy import Integer, String, cast, func, insert, literal, select, text

from calibration_dbs import provenance, runs
from calibration_dbs.database import connect, upgrade, writing
from calibration_dbs.tables import Amplifier, Frame, Run
from crattn_stage.nights.headers import FrameInfo
from crattn_stage.nights.plan import describe_model, plan, submit
from crattn_stage.quality.night_report import judge_night

#: Frames of a night, runs that are made one by one, and frames that are claimed in a round.
NIGHTLY, PAGE, CLAIMS = 150, 5000, 50
FIRST_NIGHT = datetime(2013, 1, 1, tzinfo=UTC)


def fill(database, count):
    """Fill a database with at least so many succeeded runs of four cameras, by nights of `NIGHTLY` frames.

    The first ones are made here, and then doubled by the database, with years, paths and sums of their own.
    """
    with writing(database) as session:
        model = provenance.model_row(session, describe_model()).id
    doublings = max(0, math.ceil(math.log2(count / PAGE)))
    size = -(-count // 2**doublings)
    numbers = range(1, size + 1)
    with writing(database) as session:
        session.execute(insert(Frame), [_frame(n) for n in numbers])
        session.execute(insert(Run), [_run(n, model) for n in numbers])
        amplifiers = {"extension": "SCI", "name": "", "pixels": 900, "searched": 10**6, "hits": 100}
        session.execute(insert(Amplifier), [{"run_id": n, **amplifiers} for n in numbers])
    for step in range(doublings):
        mark, years = literal("ghijklmnopqrstuvwxyz"[step]), 10000 * 2**step
        night = cast(cast(Frame.night, Integer) + years, String)
        sums = {
            name: func.substr(getattr(Run, name), 1, step) + mark + func.substr(getattr(Run, name), step + 2)
            for name in ("input_sha256", "output_sha256")
        }
        paths = {name: getattr(Run, name) + mark for name in ("target", "output_path")}
        with writing(database) as session:
            _double(session, Frame, Frame.id <= size, id=Frame.id + size, path=Frame.path + mark, night=night)
            _double(session, Run, Run.id <= size, id=Run.id + size, frame_id=Run.frame_id + size, **sums, **paths)
            _double(session, Amplifier, Amplifier.run_id <= size, id=None, run_id=Amplifier.run_id + size)
        size *= 2
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("frames", "runs"):
            if database.dialect.name == "postgresql":
                last = f"greatest((select max(id) from {table}), 1)"
                connection.execute(text(f"select setval(pg_get_serial_sequence('{table}', 'id'), {last})"))
        connection.execute(text("analyze"))


def _double(session, table, which, **changes):
    columns = {column.name: changes.get(column.name, column) for column in table.__table__.columns}
    columns = {name: column for name, column in columns.items() if column is not None}
    session.execute(insert(table).from_select(list(columns), select(*columns.values()).where(which)))


def _night(number):
    return f"{FIRST_NIGHT + timedelta(days=number // NIGHTLY):%Y%m%d}"


def _frame(number):
    camera = f"cam{number % 4}"
    columns = {"instrument": "generic", "camera": camera, "site": "lsc", "night": _night(number)}
    return {"id": number, "path": f"/data/{_night(number)}/{number:07}.fits", "exposure_time": 60.0, **columns}


def _run(number, model):
    began = FIRST_NIGHT + timedelta(seconds=60 * number)
    output, digest = f"/data/{_night(number)}/{number:07}-crmask.fits", f"{number:064x}"
    return {
        "id": number, "frame_id": number, "model_id": model, "status": "succeeded", "threshold": 0.5, "attempts": 1,
        "losses": 0, "engine": "float32", "version": "0", "started": began, "finished": began + timedelta(seconds=9),
        "input_sha256": digest, "target": output, "output_path": output, "outputs": {output: digest},
        "output_sha256": digest, "pixels": 900, "hits": 100, "fraction": 1e-3, "rate": 25.0 + number % 7,
        "star_fraction": 0.0, "verdict": "PASS", "reason": "", "megapixels": 4.0, "area": 4.0,
    }  # fmt: skip


def measure(database, frames, day):
    """Return the seconds of each operation on a new night of so many frames."""
    seconds, night = {}, f"2099{day:04}"

    def timed(name, action):
        began = time.perf_counter()
        value = action()
        seconds[name] = time.perf_counter() - began
        return value

    columns = {"instrument": "generic", "camera": "cam0", "site": "lsc", "night": night}
    new = [FrameInfo(Path(f"/data/{night}/{n}.fits"), dict(columns), megapixels=4.0) for n in range(frames)]
    steps = timed("plan", lambda: plan(database, new))
    ids = runs.RunIds(timed("submit", lambda: submit(database, steps, night)))

    def work():
        for number in range(CLAIMS):
            run, _ = runs.next_run(database, ids)
            with runs.claimed(database, run) as job:
                job.record.run.update(hits=100, verdict="PASS", rate=25.0, area=4.0)
                job.record.run["output_sha256"] = f"{night}{number:056x}"

    timed("claim and finish", work)
    timed("follow", lambda: runs.ended_runs(database, ids, datetime.now(UTC) - timedelta(seconds=5)))
    timed("trace", lambda: provenance.makers(database, f"{night}{0:056x}"))
    timed("qa", lambda: judge_night(database, night))
    return seconds


def compare(empty, full, frames, rounds):
    """Return what each operation takes in two databases, one after the other in each round: the fastest of each."""
    rows = [[measure(database, frames, day) for database in (empty, full)] for day in range(rounds)]
    table = {}
    for name in rows[0][0]:
        before, after = (min(pair[which][name] for pair in rows) for which in (0, 1))
        table[name] = {"empty_s": round(before, 4), "full_s": round(after, 4), "ratio": round(after / before, 2)}
    return table


@click.command()
@click.option("--runs", "count", default=1_000_000, show_default=True)
@click.option("--frames", default=500, show_default=True, help="Frames of each new night.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--url", "urls", nargs=2, help="Two empty databases; temporary SQLite files without it.")
def main(count, frames, rounds, urls):
    """Time operations in an archive and in an empty database."""
    with tempfile.TemporaryDirectory() as folder:
        urls = urls or [f"sqlite:///{folder}/{name}.sqlite" for name in ("empty", "full")]
        empty, database = (connect(url) for url in urls)
        for one in (empty, database):
            upgrade(one)
        began = time.perf_counter()
        fill(database, count)
        filled = time.perf_counter() - began
        result = {"database": database.dialect.name, "runs": count, "fill_s": round(filled, 1)}
        result["operations"] = compare(empty, database, frames, rounds)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        listed = sum(1 for _ in provenance.masked_with(database, describe_model()["name"]))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        result["models frames"] = {
            "rows": listed,
            "seconds": round(time.perf_counter() - began, 1),
            "grown_mib": round(grown),
        }
        empty.dispose()
        database.dispose()
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
