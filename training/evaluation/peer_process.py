"""Run a method in a process, and maybe an interpreter, of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from training.evaluation import peer_runner

ROOT = Path(__file__).resolve().parents[2]


def run_isolated(name, images, python=sys.executable, **options):
    """Run a method in a process of its own.

    Parameters
    ----------
    name : str
        One of `training.evaluation.peer_runner.METHODS`, or `training.evaluation.peer_runner.OURS`.
    images : list of tuple
        Image (2-D, ADU), bad pixels, gain (electrons per ADU) and read noise (electrons) of each.
    python : path-like
        Interpreter that has it installed; this one by default.
    **options
        Arguments of `training.evaluation.peer_runner.start`; and ``repeats``: times the first
        image is timed, which then is not scored.

    Returns
    -------
    report : dict
        ``seconds`` (list), ``peak_megabytes``, ``engine``, ``threshold``, ``loading``; or only
        ``left_out``, the reason why it could not run.
    scores : list of `numpy.ndarray`
        Float32 planes.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        arrays = {}
        for i, parts in enumerate(images):
            arrays |= {
                f"{key}{i}": value for key, value in zip(("image", "bad", "gain", "read_noise"), parts, strict=True)
            }
        np.savez(source, **arrays)
        environment = dict(os.environ)
        # Another interpreter must not find our packages in place of its own.
        environment.pop("PYTHONPATH", None)
        if os.fspath(python) == sys.executable:
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        if options.get("threads"):
            environment["OMP_NUM_THREADS"] = str(options["threads"])
        arguments = [f"--{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
        done = subprocess.run(
            [python, peer_runner.__file__, source, target, name, *arguments],
            capture_output=True,
            text=True,
            env=environment,
        )
        if done.returncode:
            return {"left_out": (done.stderr.strip().splitlines() or ["no message"])[-1]}, []
        report = json.loads(done.stdout.strip().splitlines()[-1])
        return report, [] if "left_out" in report else [plane for _, plane in sorted(_numbered(np.load(target)))]


def _numbered(arrays):
    return [(int(key.removeprefix("score")), arrays[key]) for key in arrays.files]
