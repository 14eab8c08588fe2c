"""Engines: ways to run a network.  All give the masks of plain float32; they differ in speed.

Batch normalisation is folded into the convolutions first.  Where the input of the
network is scaled, arithmetic is int8 in OpenVINO's convolutions, and bfloat16 elsewhere if the
processor has it in hardware; raw counts, whose third digit matters, stay float32.
"""

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from crattn_stage import __version__
from crattn_stage.errors import EngineError
from crattn_stage.fits.atomic import replacing
from crattn_stage.processors import available_cpus

logger = logging.getLogger(__name__)

#: What `load_model` can be asked for.
ENGINES = ("auto", "float32", "torch", "openvino", "cuda")
_process = os.getpid()


@dataclass(frozen=True)
class Engine:
    """A network ready to run.

    Attributes
    ----------
    name : str
        Of the engine and its arithmetic; what ``CRENGINE`` says.
    run : callable
        (N, H, W) float32 to probabilities of the same shape; thread-safe.  Those in
        the halo of the model's card need not be calculated, and may be 0.
    tile : int
        Largest side of a tile that it runs well, where any tile is exact.
    batch : int
        Tiles to give it at a time.
    streams : int
        Tiles that it runs side by side.
    """

    name: str
    run: Callable
    tile: int
    batch: int
    streams: int = 1


def forked():
    """Tell whether this process was forked after this module was imported, as a pool's workers are.

    Returns
    -------
    bool
    """
    return os.getpid() != _process


def thread_count(threads=None, maker=None):
    """Return how many CPU threads run a network.

    Parameters
    ----------
    threads : int, optional
        As asked for.
    maker : int, optional
        Number of the process that made the engine; this one without it.

    Returns
    -------
    int
        1 in a forked child of the maker: the maker's threads do not survive a fork.  Without
        being asked for, 1 in any forked child, which has siblings, and elsewhere
        ``OMP_NUM_THREADS``, or all cores that the process may use.
    """
    if maker not in (None, os.getpid()) or (threads is None and forked()):
        return 1
    if threads is None and os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = int(os.environ["OMP_NUM_THREADS"])
    return threads or available_cpus()


def start(engine, card, tensors, threads=None):
    """Make a network ready to run.

    Parameters
    ----------
    engine : str
        One of `ENGINES` but "auto".
    card, tensors
        From `crattn_stage.models.cards.load`.
    threads : int, optional
        CPU threads.

    Returns
    -------
    `Engine`

    Raises
    ------
    crattn_stage.errors.EngineError
        If the engine is unknown or cannot run here.
    """
    # Imported where they are wanted: torch alone takes seconds and 180 MB.
    if engine == "openvino":
        from crattn_stage.detection.engines.openvino_engine import openvino

        return openvino(card, tensors, threads)
    if engine in ENGINES[1:]:
        from crattn_stage.detection.engines.torch_engines import torch_engine

        return torch_engine(engine, card, tensors, threads)
    raise EngineError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")


def choose(path, sha256, threads=None):
    """Return the fastest engine for a model on this machine.

    It is measured once for each machine, number of threads, model and version,
    in a process of its own, and remembered in the user's cache folder.

    Parameters
    ----------
    path : path-like
        Of the weights.
    sha256 : str
        Of the weights.
    threads : int, optional
        CPU threads.

    Returns
    -------
    str
        One of `ENGINES`.
    """
    devices = sorted(str(device) for device in Path("/dev").glob("nvidia[0-9]*"))
    likely = "openvino" if _installed("openvino") else "torch"
    if likely == "torch" and not devices:
        return likely
    versions = {name: _installed(name) for name in ("torch", "openvino")}
    devices.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
    machine = [platform.node(), platform.machine(), thread_count(threads), devices]
    key = json.dumps([__version__, versions, machine, sha256])
    file = _cache_folder() / f"engine-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    try:
        name = json.loads(file.read_text())["engine"]
        if name in ENGINES[1:]:
            logger.info("engine %s, as measured before (%s)", name, file)
            return name
    except (OSError, ValueError, KeyError, TypeError):
        # Not measured yet, or the note of it is damaged.
        pass
    try:
        seconds = _measured(path, thread_count(threads))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        logger.info("engine %s; which is the fastest could not be measured: %s", likely, error)
        return likely
    name = min(seconds, key=seconds.get)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing([file], overwrite=True) as (stream,):
            stream.write(json.dumps({"engine": name, "seconds_per_megapixel": seconds, "key": key}, indent=2).encode())
    except OSError as error:
        logger.info("the choice of the engine cannot be kept: %s", error)
    told = ", ".join(f"{name} {s:.3f}" for name, s in seconds.items())
    logger.info("engine %s, the fastest here (seconds per megapixel: %s)", name, told)
    return name


def _installed(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cache_folder():
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "crattn-stage"


def _measured(path, threads):
    """Return engine -> seconds per million pixels, measured in a process of its own."""
    code = f"import sys; sys.path[:] = {sys.path}; from {__name__} import measure; measure(*sys.argv[1:])"
    command = [sys.executable, "-c", code, os.fspath(path), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return json.loads(done.stdout.splitlines()[-1])


def measure(path, threads, rounds=3):
    """Print as JSON what each engine that runs here takes for a model, seconds per million pixels.

    Parameters
    ----------
    path : path-like
        Of the weights.
    threads : int or str
    rounds : int
        Of which the best counts; the engines take turns, as others may be using the machine.
    """
    from crattn_stage.models.cards import load

    card, tensors = load(path)
    engines = {}
    for name in ENGINES[2:]:
        try:
            engines[name] = start(name, card, tensors, int(threads))
        except EngineError:
            # It cannot run here.
            continue
    seconds = dict.fromkeys(engines, np.inf)
    tiles = np.random.default_rng(0).standard_normal((4, card.tile, card.tile)).astype(np.float32)
    for engine in engines.values():
        engine.run(tiles)
    for _ in range(rounds):
        for name, engine in engines.items():
            began = time.perf_counter()
            engine.run(tiles)
            seconds[name] = min(seconds[name], (time.perf_counter() - began) / tiles.size * 1e6)
    print(json.dumps(seconds))
