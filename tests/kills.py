"""The campaign of kills: a night whose workers and command are killed, some while they write a file.

``python tests/kills.py --broker URL --db URL --kills 20 --writing 5`` masks a night by Celery, or by
local workers without ``--broker``, and then once more undisturbed: no frame may be lost or done
twice, no part of a file may be left, and the masks must be the same, byte for byte.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from night import NIGHT, folder_of, write_frame
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from test_celery import Observatory

from calibration_dbs.tables import Frame, Run

#: Names of the files that are not finished yet.
PARTS = ".*part*"


def _writer(folder, hit):
    """Return a process that has an unfinished file open, or None; each frame once, since the third loss is its own."""
    parts = {str(path): path.name.rsplit(".", 2)[0] for path in folder.glob(PARTS)}
    parts = {path: name for path, name in parts.items() if name not in hit}
    for process in Path("/proc").glob("[0-9]*") if parts else ():
        # It may end meanwhile.
        with suppress(OSError):
            for part in parts.keys() & {os.readlink(link) for link in os.scandir(process / "fd")}:
                hit.add(parts[part])
                return int(process.name)
    return None


def _descendants(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with suppress(OSError):
        for child in map(int, children.read_text().split()):
            yield child
            yield from _descendants(child)


def _kill(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def campaign(folder, url=None, broker=None, frames=30, kills=20, writing=5, seconds=600, seed=1):
    """Mask a night under fire, and once more in peace.

    Parameters
    ----------
    folder : path-like
        Empty.
    url, broker : str, optional
        A SQLite file and local workers without them.
    frames : int
    kills, writing : int
        How often a process is killed, and how many of these times while it writes a file.
    seconds : float
        After which it is over in any case.
    seed : int

    Returns
    -------
    `collections.Counter`
        Kills by what was killed, frames, and what went wrong: "unfinished", "lost", "twice", "parts" left and
        "changed" masks.
    """
    folder, chance, counter = Path(folder), random.Random(seed), Counter(frames=frames)
    night = Observatory(broker or "memory://", url or f"sqlite:///{folder / 'night.sqlite'}", folder, folder / "log")
    for number in range(frames):
        path = write_frame(folder, number, shape=(700, 600))
        # Which takes a while to write.
        subprocess.run(["gzip", "-n", path], check=True)
    place, hit, end = folder_of(folder), set(), time.monotonic() + seconds
    workers = [night.start_worker() for _ in range(2)] if broker else []
    arguments = ["--celery"] if broker else ["--jobs", "2"]
    command = night.reprocess(*arguments)
    try:
        while time.monotonic() < end:
            if command.poll() is not None:
                if night.count("queued", "running") == 0 and night.count("succeeded"):
                    break
                # Killed; started again, it goes on.
                command = night.reprocess(*arguments)
            workers = [w if w.poll() is None else night.start_worker() for w in workers]
            left, done = kills - counter["killed"], counter["while writing"]
            if left and done < writing and (victim := _writer(place, hit)):
                if _kill(victim):
                    counter.update(["killed", "while writing"])
                    time.sleep(0.5)
            elif left > max(0, writing - done) and night.count("running"):
                time.sleep(chance.uniform(0, 1))
                victims = [command.pid, *(w.pid for w in workers)]
                victims += [child for pid in victims for child in _descendants(pid)]
                if night.count("running") and _kill(chance.choice(victims)):
                    counter.update(["killed"])
            time.sleep(0.01 if done < writing else 0.1)
        counter["unfinished"] = night.count("queued", "running")
        with Session(night.database) as session:
            query = select(Frame.path, func.count(Run.id)).join(Run.frame).where(Run.status == "succeeded")
            done = dict(session.execute(query.group_by(Frame.path)).all())
        inputs = [str(path) for path in place.glob("*-e91.fits.gz")]
        counter["lost"] = sum(path not in done for path in inputs)
        counter["twice"] = sum(number > 1 for number in done.values())
        counter["parts"] = len(list(place.glob(PARTS)))
        disturbed = {path.name.replace("-crmask", ""): path.read_bytes() for path in place.glob("*-crmask*")}
        again = night.command("reprocess", "--night", NIGHT, "--root", folder, "--output-root", folder / "o")
        environment = {**night.environment, "CRATTN_DB": f"sqlite:///{folder}/again.sqlite"}
        subprocess.run(again, env=environment, stdout=subprocess.DEVNULL, check=True)
        quiet = {path.name: path.read_bytes() for path in (folder / "o").rglob("*.fits.gz")}
        counter["changed"] = sum(disturbed.get(name) != content for name, content in quiet.items())
        counter["changed"] += len(quiet) != frames
        return counter
    finally:
        for pid in [*_descendants(command.pid), command.pid]:
            _kill(pid)
        command.wait()
        night.close()


def main():
    """Run a campaign as the command line says, and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", help="of its own and empty; a SQLite file by default")
    parser.add_argument("--broker", help="local workers without it")
    for name, default in (("frames", 30), ("kills", 20), ("writing", 5), ("seconds", 600), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    folder = tempfile.mkdtemp()
    counter = campaign(
        folder, options.db, options.broker, options.frames, options.kills, options.writing, options.seconds,
        options.seed,
    )  # fmt: skip
    print(json.dumps(counter))
    if any(counter[what] for what in ("unfinished", "lost", "twice", "parts", "changed")):
        raise SystemExit(f"see {folder}/log")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
