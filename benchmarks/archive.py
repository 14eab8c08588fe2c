"""What the database costs in an archive of a million runs.

``python -m benchmarks.archive`` times planning, queueing, claiming, ``trace``,
``qa`` and ``models frames`` in an empty database and in one filled with runs,
by the real code.  Prints JSON.
"""

import json
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from sqlalchemy import insert, text

from calibration_dbs import provenance, runs
from calibration_dbs.database import connect, upgrade, writing
from calibration_dbs.tables import Amplifier, Frame, Run
from crattn_stage.nights.headers import FrameInfo
from crattn_stage.nights.plan import describe_model, plan, submit
from crattn_stage.quality.night_report import judge_night

#: Frames of a night, and rows written at once.
NIGHTLY, PAGE = 150, 5000
FIRST_NIGHT = datetime(2013, 1, 1, tzinfo=UTC)


def fill(database, count):
    """Fill a database with succeeded runs of four cameras, by nights of `NIGHTLY` frames."""
    with writing(database) as session:
        model = provenance.model_row(session, describe_model()).id
    for start in range(0, count, PAGE):
        numbers = range(start + 1, min(start + PAGE, count) + 1)
        with writing(database) as session:
            session.execute(insert(Frame), [_frame(n) for n in numbers])
            session.execute(insert(Run), [_run(n, model) for n in numbers])
            amplifiers = {"extension": "SCI", "name": "", "pixels": 900, "searched": 10**6, "hits": 100}
            session.execute(insert(Amplifier), [{"run_id": n, **amplifiers} for n in numbers])
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("frames", "runs"):
            if database.dialect.name == "postgresql":
                last = f"greatest((select max(id) from {table}), 1)"
                connection.execute(text(f"select setval(pg_get_serial_sequence('{table}', 'id'), {last})"))
        connection.execute(text("analyze"))


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


def measure(database, frames):
    """Return the seconds of each operation on a new night of so many frames, and on one of the archive."""

    def timed(action, repeat=3):
        seconds = []
        for _ in range(repeat):
            began = time.perf_counter()
            value = action()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds), value

    columns = {"instrument": "generic", "camera": "cam0", "site": "lsc", "night": "20990101"}
    new = [FrameInfo(Path(f"/data/new/{n}.fits"), dict(columns), megapixels=4.0) for n in range(frames)]
    result = {}
    result["plan"], steps = timed(lambda: plan(database, new))
    result["submit"], numbers = timed(lambda: submit(database, steps, "20990101"), 1)
    ids = runs.RunIds(numbers)

    def claim():
        for _ in range(50):
            run, _ = runs.next_run(database, ids)
            with runs.claimed(database, run) as job:
                job.record.run.update(hits=100, verdict="PASS", rate=25.0, area=4.0)

    result["claim and finish"] = timed(claim)[0] / 50
    result["follow"] = timed(lambda: runs.ended_runs(database, ids, datetime.now(UTC) - timedelta(seconds=5)))[0]
    result["trace"] = timed(lambda: provenance.makers(database, f"{1234:064x}"))[0]
    result["qa of an old night"] = timed(lambda: judge_night(database, "20130301"))[0]
    result["qa of the new night"] = timed(lambda: judge_night(database, "20990101"))[0]
    return {name: round(seconds, 4) for name, seconds in result.items()}


@click.command()
@click.option("--runs", "count", default=1_000_000, show_default=True)
@click.option("--frames", default=500, show_default=True, help="Frames of the new night.")
@click.option("--url", help="An empty database; a temporary SQLite file without it.")
def main(count, frames, url):
    """Time operations on an archive; compare with --runs of one night for what an empty one costs."""
    with tempfile.TemporaryDirectory() as folder:
        database = connect(url or f"sqlite:///{folder}/archive.sqlite")
        upgrade(database)
        began = time.perf_counter()
        fill(database, count)
        filled = time.perf_counter() - began
        result = {"database": database.dialect.name, "runs": count, "fill_s": round(filled, 1)}
        result["seconds"] = measure(database, frames)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        listed = sum(1 for _ in provenance.masked_with(database, describe_model()["name"]))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        result["models frames"] = {
            "rows": listed,
            "seconds": round(time.perf_counter() - began, 1),
            "grown_mib": round(grown),
        }
        database.dispose()
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
