"""What the queue, the database and the checksums cost beside the masking.

``python -m benchmarks.machinery`` masks simulated 2048x4096 frames plainly and
through the machinery of whole nights, in turn, and sends runs that are over
through a real broker and worker.  Prints JSON.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from astropy.io import fits

from calibration_dbs.database import open_database
from calibration_dbs.runs import Over
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.nights.execute import execute
from crattn_stage.nights.headers import read_frame_info
from crattn_stage.nights.plan import plan, submit
from crattn_stage.stage import AttentionCRStage, RuntimeContext

SHAPE = (4096, 2048)
NIGHT = "20130105"


def write_frame(path, seed):
    """Write a simulated raw-like frame of integers."""
    rng = np.random.default_rng(seed)
    hdu = fits.PrimaryHDU(rng.normal(300, 9, SHAPE).round().astype(np.int16))
    hdu.header.update({"DAY-OBS": NIGHT, "EXPTIME": 60.0, "OBSTYPE": "EXPOSE", "INSTRUME": "simulated"})
    hdu.writeto(path)


def plainly(stage, path, target):
    """Read, mask and write a frame, with nothing around it; return the seconds."""
    began = time.perf_counter()
    with ObservationFrame(path) as frame:
        stage.do_stage(frame)
        frame.write(target)
    return time.perf_counter() - began


def by_machinery(database, path, folder):
    """Plan, queue and execute a run as `reprocess` does; return the seconds."""
    began = time.perf_counter()
    steps = plan(database, [read_frame_info(path)], root=path.parent, output_root=folder, force=True)
    (run,) = submit(database, steps, NIGHT)
    execute(database, run)
    return time.perf_counter() - began, run


def by_queue(url, run, path, broker, count=200):
    """Send a run that is over through the broker; return the seconds for each message."""
    os.environ.update(CRATTN_DB=url, CRATTN_BROKER=broker, CRATTN_QUEUE=f"crattn-benchmark-{os.getpid()}")
    command = [sys.executable, "-m", "crattn_stage.cli", "worker", "--concurrency", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as worker:
        from crattn_stage.nights import tasks

        try:
            _send(tasks, run, path)
            _wait_for(worker, 1)
            began = time.perf_counter()
            for _ in range(count):
                _send(tasks, run, path)
            _wait_for(worker, count)
            return (time.perf_counter() - began) / count
        finally:
            worker.terminate()


def _send(tasks, run, path):
    tasks.mask.apply_async((run, str(path)), queue=tasks.QUEUE)


def _wait_for(worker, count):
    for line in worker.stdout:
        # The task says so of each.
        count -= "is over" in line
        if not count:
            return


@click.command()
@click.option("--count", default=3, show_default=True, help="Frames.")
@click.option("--broker", default="amqp://guest:guest@127.0.0.1:5672//", show_default=True)
def main(count, broker):
    """Measure the machinery against the masking, in one run."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        url = f"sqlite:///{folder / 'night.sqlite'}"
        database = open_database(url)
        stage = AttentionCRStage(RuntimeContext())
        plain, full = [], []
        for number in range(count + 1):
            path = folder / f"frame-{number:02}.fits"
            write_frame(path, number)
            seconds = plainly(stage, path, folder / f"plain-{number:02}.fits")
            through, run = by_machinery(database, path, folder / "out")
            # The first of each loads and warms up.
            if number:
                plain.append(seconds)
                full.append(through)
        try:
            execute(database, run)
        except Over:
            message = by_queue(url, run, path, broker)
    masking, machinery = statistics.median(plain), statistics.median(full)
    result = {
        "frame": list(SHAPE),
        "masking_s": round(masking, 3),
        "with_database_and_checksums_s": round(machinery, 3),
        "queue_s_per_message": round(message, 4),
        "overhead": round((machinery - masking + message) / masking, 4),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
