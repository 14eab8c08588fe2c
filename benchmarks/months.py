"""The pages of a year of a camera: how long they take.

``python -m benchmarks.months --url URL`` fills an empty PostgreSQL database with a simulated year
of a mosaic, and times the pages of a month, of the year and of a night, and their tables.  An
amplifier fails and a light leaks in that year, and the model changes.  Prints JSON.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from sqlalchemy import text

from benchmarks.scale import DATABASE, server_seconds
from calibration_dbs.database import connect, upgrade

#: CCDs with two amplifiers each.
CCDS, FIRST_NIGHT = 62, "2013-01-01"
#: Nights, from 0: the model changes, an amplifier fails, a light begins to leak.
NEW_MODEL, FAILING, LEAKING = 150, 200, 260
#: Hits that are kept of one amplifier and frame; of one frame of each night.
KEPT = 4

_FRAMES = """
insert into frames (id, path, instrument, camera, site, night, observed, filter, observation_type, exposure_time)
select n * :frames + k + 1, '/masked/' || night || '/c4d_' || night || '_' || lpad(k::text, 3, '0') || '.fits.fz',
    'decam', 'DECam', 'ct4m', night, date::timestamp at time zone 'UTC' + interval '23:40' + k * interval '9 minutes',
    (array['g', 'r', 'i', 'z', 'Y'])[1 + (n + k / 12) % 5], 'object', (array[60, 90, 120, 200])[1 + k % 4]
from generate_series(0, :nights - 1) n, generate_series(0, :frames - 1) k,
    lateral (select date(:first) + n as date) d, lateral (select to_char(date, 'YYYYMMDD') as night) t
"""
# Hits per cm2 and minute scatter from night to night and from frame to frame; there is no completeness of old runs.
_RUNS = """
insert into runs (id, frame_id, model_id, status, threshold, engine, version, started, finished, input_sha256,
    output_path, hits, rate, fraction, pixels, star_fraction, faint_completeness, bright_completeness, noise_objects,
    verdict, reason, megapixels, area)
select id, id, case when n < :new_model then 1 else 2 end, case when failed then 'failed' else 'succeeded' end, 0.5,
    'openvino', '1.0', observed + interval '2 hours', observed + interval '2 hours' + seconds * interval '1 second',
    md5(id::text) || md5((-id)::text), replace(path, '.fits', '-crmask.fits'), hits, hits / area * 60 / exposure_time,
    hits * 9.0 / 520e6, hits * 9, star, case when n >= 40 then faint end, case when n >= 40 then bright end, noise,
    case when failed then null when star > 0.012 then 'WARN' else 'PASS' end,
    case when star > 0.012 then 'masked ' || round(star::numeric * 100, 1) || '% of star cores' end, 520, area
from frames,
    lateral (select (id - 1) / :frames as n, 1170.0 as area, id % 997 = 5 as failed, random() as a, random() as b,
        random() as c, random() as d, random() as e) r,
    lateral (select round(area * exposure_time / 60 * (1.9 + 0.04 * sin(n * n * 1.7) + 0.2 * (a - 0.5)
        + case when n >= :leaking then 0.5 else 0 end)) as hits, 0.004 + 0.009 * b * b as star,
        0.80 + 0.08 * (c - 0.5) + case when n >= :new_model then 0.07 else 0 end as faint,
        0.965 + 0.02 * (d - 0.5) + case when n >= :new_model then 0.012 else 0 end as bright,
        0.3 + 0.4 * e as noise, 58 + 9 * e + case when n >= :new_model then -8 else 0 end as seconds) v
"""
_AMPLIFIERS = """
insert into amplifiers (run_id, extension, name, pixels, searched, hits, border_pixels, border_searched)
select runs.id, ccd, side, found * 9, 4190000, found, found / 3, 130000
from runs, generate_series(1, :ccds) number, unnest(array['A', 'B']) side,
    lateral (select case when number <= :ccds / 2 then 'N' || number else 'S' || number - :ccds / 2 end as ccd) c,
    lateral (select floor(hits / (2.0 * :ccds) * case
        when ccd = 'S7' and side = 'B' and runs.id > :failing * :frames then 0.3
        when ccd = 'N4' and runs.id > :leaking * :frames then 1.7 else 1 end * (0.9 + 0.2 * random()))::int as found) f
where status = 'succeeded'
"""
_HITS = """
insert into hits (run_id, detector, amplifier, x, y, charge, counts, pixels, angle, class, near_star, near_edge)
select run_id, extension, name, 2048 * random(), 1024 * random(), charge, charge / 4, 9, 180 * random(),
    case when random() < 0.4 then 'spot' when random() < 0.5 then 'track' else 'worm' end, false, false
from amplifiers, generate_series(1, :kept),
    lateral (select exp(7.6 + 1.1 * (random() + random() + random() - 1.5) * 2) *
        case when extension = 'S7' and name = 'B' and run_id > :failing * :frames then 0.4 else 1 end as charge) c
where run_id % :frames = 0
"""


def fill(database, nights, frames):
    """Fill a database with the runs of a mosaic: a row for each frame, and for each amplifier of it.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
        Of an upgraded, empty PostgreSQL database.
    nights, frames : int
        Frames of each night.
    """
    values = {"nights": nights, "frames": frames, "first": FIRST_NIGHT, "ccds": CCDS, "kept": KEPT}
    values |= {"new_model": NEW_MODEL, "failing": FAILING, "leaking": LEAKING}
    with database.begin() as connection:
        connection.execute(text("select setseed(0.4)"))
        for number, (name, digit) in enumerate((("fast", "a"), ("att-deepcr", "b")), 1):
            row = f"({number}, '{name}', 'deepcr', '{digit * 64}', now())"
            connection.execute(text(f"insert into models (id, name, architecture, sha256, first_used) values {row}"))
        for statement in (_FRAMES, _RUNS, _AMPLIFIERS, _HITS):
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), used)
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze"))


def measure(url, folder, frames):
    """Return what commands take from their start to their end, Python's imports and all.

    Parameters
    ----------
    url : str
    folder : `pathlib.Path`
        Where the pages go.
    frames : int
        Of a night.

    Returns
    -------
    dict
        Seconds on the clock, and of CPU time of the command and of all servers of PostgreSQL here.
    """
    commands = {
        "month, table": ("--from", "20130801", "--until", "20130831"),
        "month, pages": ("--from", "20130801", "--until", "20130831", "--html", folder / "month"),
        "year, table": ("--from", "20130101", "--until", "20131231"),
        "year, pages": ("--from", "20130101", "--until", "20131231", "--html", folder / "year"),
        f"night of {frames} frames, page": ("--night", "20130901", "--html", folder / "night.html"),
        "python -m crattn_stage.cli qa --help": ("--help",),
    }
    seconds = {}
    for name, options in commands.items():
        began, used, served = time.perf_counter(), _children_seconds(), server_seconds(DATABASE)
        done = subprocess.run(
            [sys.executable, "-m", "crattn_stage.cli", "qa", "--db", url, *map(str, options)],
            capture_output=True,
            text=True,
        )
        seconds[name] = {
            "clock": round(time.perf_counter() - began, 2),
            "command": round(_children_seconds() - used, 2),
            "database": round(server_seconds(DATABASE) - served, 2),
        }
        # 1 where a frame failed, as some did.
        if done.returncode not in (0, 1) or done.stderr:
            raise RuntimeError(f"{name}: {done.stderr}")
    return seconds


def _children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@click.command()
@click.option("--url", required=True, help="An empty PostgreSQL database, or one that was filled by this command.")
@click.option("--nights", default=365, show_default=True)
@click.option("--frames", default=60, show_default=True, help="Of a night.")
@click.option("--output", type=click.Path(file_okay=False), help="Keep the pages in this folder.")
def main(url, nights, frames, output):
    """Time the pages of a simulated year."""
    database = connect(url)
    upgrade(database)
    with database.connect() as connection:
        is_empty = connection.scalar(text("select count(*) from frames")) == 0
    began = time.perf_counter()
    if is_empty:
        fill(database, nights, frames)
    filled = time.perf_counter() - began
    with database.connect() as connection:
        rows = {
            table: connection.scalar(text(f"select count(*) from {table}"))
            for table in ("frames", "runs", "amplifiers", "hits")
        }
    database.dispose()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(output or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        seconds = measure(url, folder, frames)
        year = [path for path in (folder / "year").rglob("*") if path.is_file()]
        pages = {"files of the year": len(year), "megabytes": round(sum(p.stat().st_size for p in year) / 1e6, 1)}
    click.echo(json.dumps({"fill_s": round(filled, 1), "rows": rows, "seconds": seconds, **pages}, indent=2))


if __name__ == "__main__":
    main()
