"""How the time of a night grows with its frames.

``python -m benchmarks.growth`` masks nights of more and more frames of 64x64 pixels by
``crattn-stage reprocess``, each in a database of its own.  It prints, as JSON, the CPU time of the
command, of the processes that read headers and of the workers, what the machinery costs each
frame beyond masking it plainly, and the slopes of the logarithms.  With ``--no-masking`` a
statement takes the place of the workers, which leaves the command.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from astropy.io import fits

from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.stage import AttentionCRStage, RuntimeContext

NIGHT, SIDE = "20130105", 64
#: Runs that end between two looks of the command where none is masked, and Linux's number of what makes a process the
#: parent of its orphaned descendants, so that their CPU time is its children's.
AT_ONCE, SUBREAPER = 200, 36
#: Runs the command with a statement in place of its workers.
WITHOUT_MASKING = f"""
from sqlalchemy import func, update
from calibration_dbs.database import writing
from calibration_dbs.tables import Run
from crattn_stage.cli import main, nights

def here(url, database, runs, tally, jobs):
    waiting = sorted(runs)
    def idle(left):
        some, waiting[:] = waiting[:{AT_ONCE}], waiting[{AT_ONCE}:]
        with writing(database) as session:
            ended = dict(status="succeeded", finished=func.current_timestamp(), verdict="PASS", megapixels=0.004)
            session.execute(update(Run).where(Run.id.in_(some)).values(**ended))
        return False
    return nights._show(database, runs, tally, idle)

nights._here = here
main()
"""


def write_night(folder, count):
    """Write frames with the same pixels but headers of their own."""
    image = np.random.default_rng(0).normal(300, 9, (SIDE, SIDE)).astype(np.float32)
    image[30, 10:40] += 900
    folder.mkdir(parents=True)
    for number in range(count):
        hdu = fits.PrimaryHDU(image)
        hdu.header.update({"DAY-OBS": NIGHT, "EXPTIME": 60.0, "OBSTYPE": "EXPOSE", "FRAMENUM": number})
        hdu.writeto(folder / f"frame-{number:06}.fits")


def plainly(model, folder, frames=150):
    """Return the CPU seconds for each frame that is read, masked and written with nothing around it."""
    stage = AttentionCRStage(RuntimeContext(model))
    # The first one warms up.
    for number, path in enumerate(sorted(folder.iterdir())[: frames + 1]):
        if number == 1:
            began = time.process_time()
        with ObservationFrame(path) as frame:
            stage.do_stage(frame)
            frame.write(folder.parent / "plain.fits", overwrite=True)
    return (time.process_time() - began) / number


def by_command(start, model, root):
    """Mask the night by the command; return seconds, CPU seconds of the command, and those of its processes."""
    command = [*start, "reprocess", "--night", NIGHT, "--pattern", "night/*.fits", "--root", root, "--model", model]
    command += ["--db", f"sqlite:///{root}/night.sqlite", "--output-root", f"{root}/out"]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(os.devnull, "w") as nothing:
        process = subprocess.Popen([sys.executable, *command], stdout=nothing)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - began
    # It has ended but is still there to be asked.
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    if process.wait():
        raise RuntimeError(f"reprocess failed with {process.returncode}")
    try:
        while True:
            # The server of the processes that read headers.
            os.wait()
    except ChildProcessError:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, own, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime - own


@click.command()
@click.option("--count", "counts", multiple=True, default=[150, 600, 2400, 5000], show_default=True, help="Frames.")
@click.option("--model", default="fast", show_default=True)
@click.option("--masking/--no-masking", default=True)
def main(counts, model, masking):
    """Mask nights of more and more small frames."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1)
    start = ["-m", "crattn_stage.cli"] if masking else ["-c", WITHOUT_MASKING]
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as root:
            write_night(Path(root, "night"), count)
            seconds, own, others = by_command(start, model, root)
            row = {"frames": count, "seconds": seconds, "command_cpu_s": own, "processes_cpu_s": others}
            if masking:
                row["plain_cpu_ms"] = 1e3 * plainly(model, Path(root, "night"))
        rows.append({name: round(value, 2) for name, value in row.items()})
        click.echo(json.dumps(rows[-1]), err=True)
    result = {"rows": rows}
    for name in ("seconds", "command_cpu_s", "processes_cpu_s"):
        values = [row[name] for row in rows]
        # The starts of processes do not grow: each frame more costs this.
        result[f"ms_per_frame_{name}"] = 1e3 * float(np.polyfit(counts, values, 1)[0])
        result[f"slope_{name}"] = float(np.polyfit(np.log(counts), np.log(values), 1)[0])
    if masking:
        cpu = result["ms_per_frame_command_cpu_s"] + result["ms_per_frame_processes_cpu_s"]
        result["overhead_ms_per_frame"] = cpu - float(np.median([row["plain_cpu_ms"] for row in rows]))
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
