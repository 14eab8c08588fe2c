"""Mask a file in a process of its own, so that a frame that kills its process kills no worker.

``python -m crattn_stage.isolation`` reads the job as JSON from its standard
input, and prints the record as JSON.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict

from calibration_dbs.records import Record
from crattn_stage.errors import CrattnError, FrameError
from crattn_stage.process import Outcome, mask_file


def mask_apart(path, target, context, record, **options):
    """Do as `crattn_stage.process.mask_file` in a process of its own.

    Parameters
    ----------
    path, target : str
    context : dict
        Of `crattn_stage.stage.RuntimeContext`.
    record : `calibration_dbs.records.Record`
    **options
        Of `crattn_stage.process.mask_file`.

    Returns
    -------
    `crattn_stage.process.Outcome`

    Raises
    ------
    FrameError
        If the frame cannot be masked, or has killed the process.
    """
    job = json.dumps({"path": path, "target": target, "context": context, "options": options})
    # Its input stays open as long as this process lives; when it closes, the child goes, too.
    with subprocess.Popen(
        [sys.executable, "-m", "crattn_stage.isolation"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            child.stdin.write(f"{job}\n")
            child.stdin.flush()
            answer = child.stdout.read()
            status = child.wait()
        except BaseException:
            child.kill()
            raise
    if status < 0:
        raise FrameError(f"kills whoever masks it: signal {signal.Signals(-status).name}")
    if status:
        raise FrameError(f"kills whoever masks it: exit status {status}")
    answer = json.loads(answer)
    for name, value in answer["record"].items():
        setattr(record, name, value)
    if "error" in answer:
        raise FrameError(answer["error"]) from (OSError(answer["errno"], "") if answer["errno"] else None)
    return Outcome(**answer["outcome"])


def _main():
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_go_with_parent, daemon=True).start()
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    record = Record()
    try:
        stage = AttentionCRStage(RuntimeContext(**job["context"]))
        outcome = mask_file(job["path"], job["target"], stage, record, **job["options"])
        answer = {"outcome": {"message": outcome.message, "outputs": [str(path) for path in outcome.outputs]}}
    except CrattnError as error:
        answer = {"error": str(error), "errno": getattr(error.__cause__, "errno", None)}
    print(json.dumps({"record": asdict(record), **answer}))


def _go_with_parent():
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    _main()
