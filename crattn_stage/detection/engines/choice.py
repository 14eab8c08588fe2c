"""Which engine is the fastest on this machine."""

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from crattn_stage import __version__
from crattn_stage.detection.engines import ENGINES, REFERENCE, start
from crattn_stage.detection.engines.base import thread_count
from crattn_stage.errors import EngineError
from crattn_stage.fits.atomic import replacing
from crattn_stage.models.architectures import ARCHITECTURES

logger = logging.getLogger(__name__)

#: The engines that are compared.
CANDIDATES = tuple(name for name in ENGINES if name != REFERENCE)


def fastest_engine(path, sha256, threads=None):
    """Return the fastest engine for a model on this machine.

    Measure it once for each machine, number of threads, model and version, in a
    process of its own, and remember the result in the user's cache folder.

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
        One of `CANDIDATES`.
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
        if name in CANDIDATES:
            logger.info("engine %s, as measured before (%s)", name, file)
            return name
    except (OSError, ValueError, KeyError, TypeError):
        # Not measured yet, or the cached file is damaged.
        pass
    try:
        seconds = _measured(path, thread_count(threads))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        logger.info("engine %s; the engines could not be measured: %s", likely, error)
        return likely
    name = min(seconds, key=seconds.get)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing([file], overwrite=True) as (stream,):
            stream.write(json.dumps({"engine": name, "seconds_per_megapixel": seconds, "key": key}, indent=2).encode())
    except OSError as error:
        logger.info("the choice of engine cannot be cached: %s", error)
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
    """Print as JSON the seconds per million pixels of each engine that runs here.

    Each is given one tile for each of its streams, of the size that it runs.

    Parameters
    ----------
    path : path-like
        Of the weights.
    threads : int or str
    rounds : int
        Of which the fastest counts; the engines take turns, as others may be using the machine.
    """
    from crattn_stage.models.cards import load

    card, tensors = load(path)
    engines = {}
    for name in CANDIDATES:
        try:
            engines[name] = start(name, card, tensors, int(threads))
        except EngineError:
            # It cannot run here.
            continue
    rng = np.random.default_rng(0)
    tiles = {name: rng.standard_normal(_tiles_shape(card, engine), np.float32) for name, engine in engines.items()}
    seconds = dict.fromkeys(engines, np.inf)
    for name, engine in engines.items():
        engine.run(tiles[name])
    for _ in range(rounds):
        for name, engine in engines.items():
            began = time.perf_counter()
            engine.run(tiles[name])
            seconds[name] = min(seconds[name], (time.perf_counter() - began) / tiles[name].size * 1e6)
    print(json.dumps(seconds))


def _tiles_shape(card, engine):
    """Return the shape of the tiles that an engine is measured with."""
    # Group normalisation depends on the tile, so its size is on the card.
    free = ARCHITECTURES[card.architecture].normalisation == "batch"
    side = engine.tile if free else card.tile
    return engine.streams, side, side
