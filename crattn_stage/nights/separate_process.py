"""Mask a file in a process of its own, so that a frame that crashes its process crashes no worker.

``python -m crattn_stage.nights.separate_process`` speaks JSON, one message a line.  It
reads the job; before it renames its files into place it writes {"before_rename": ...}
and waits for leave; at the end it writes {"record": ...}.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from datetime import datetime

from calibration_dbs.provenance import Record
from crattn_stage.errors import CrattnError, FrameError
from crattn_stage.process import Outcome, mask_file, stage_of
from crattn_stage.products.settings import from_json


def mask_in_subprocess(path, target, context, digest, record, known, before_rename, **options):
    """Do as `crattn_stage.process.mask_file` in a process of its own.

    Parameters
    ----------
    path, target : str
    context : dict
        Of `crattn_stage.stage.RuntimeContext`.
    digest : str
        Sha256 of the model's weights.
    record : `calibration_dbs.provenance.Record`
    known, before_rename
        As for `crattn_stage.process.mask_file`.
    **options
        Of `crattn_stage.process.mask_file`.

    Returns
    -------
    `crattn_stage.process.Outcome`

    Raises
    ------
    FrameError
        If the frame cannot be masked, or crashes the process.
    """
    context = {**context, "masks": asdict(context["masks"])}
    job = {"context": context, "digest": digest, "known": sorted(known), "options": options}
    # -P: the working directory may be a folder of data, and Python takes no module from it.
    command = [sys.executable, "-P", "-m", "crattn_stage.nights.separate_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            _say({"path": path, "target": target, **job}, child.stdin)
            answer = None
            for line in child.stdout:
                answer = json.loads(line)
                if "before_rename" in answer:
                    before_rename(answer["before_rename"])
                    _say({}, child.stdin)
            status = child.wait()
        except BaseException:
            child.kill()
            raise
    if status < 0:
        raise FrameError(f"crashed the worker (signal {signal.Signals(-status).name})")
    if status or "record" not in (answer or {}):
        raise FrameError(f"crashed the worker (exit status {status})")
    for name, value in answer["record"].items():
        setattr(record, name, value)
    if observed := record.frame.get("observed"):
        record.frame["observed"] = datetime.fromisoformat(observed)
    if "error" in answer:
        raise FrameError(answer["error"]) from (OSError(answer["errno"], "") if answer["errno"] else None)
    return Outcome(**answer["outcome"])


def _say(message, stream):
    # Of a record, JSON cannot hold the time of the observation.
    stream.write(f"{json.dumps(message, default=datetime.isoformat)}\n")
    stream.flush()


def _main():
    # What libraries print, those in C among them, must not get among the messages.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    job = json.loads(sys.stdin.readline())
    allowed = threading.Event()
    threading.Thread(target=_listen, args=(allowed,), daemon=True).start()

    def ask_parent(outputs):
        _say({"before_rename": outputs}, answers)
        allowed.wait()

    record = Record()
    known = {tuple(item) for item in job["known"]}
    try:
        stage = stage_of(job["digest"], **{**job["context"], "masks": from_json(job["context"]["masks"])})
        options = {"known": known, "before_rename": ask_parent, **job["options"]}
        outcome = mask_file(job["path"], job["target"], stage, record, **options)
        answer = {"outcome": {**vars(outcome), "outputs": [str(path) for path in outcome.outputs]}}
    except (CrattnError, OSError) as error:
        answer = {"error": str(error), "errno": getattr(error, "errno", getattr(error.__cause__, "errno", None))}
    _say({"record": asdict(record), **answer}, answers)


def _listen(allowed):
    """Take the leave to go on; at the end of the input the parent is gone, and this process ends, too."""
    for _ in sys.stdin:
        allowed.set()
    os._exit(1)


if __name__ == "__main__":
    _main()
