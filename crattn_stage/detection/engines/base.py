"""What an engine is, and how many CPU threads it gets.

An engine is a way to run a network.  All give the masks of plain float32; they differ in speed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from crattn_stage.processors import available_cpus

_process = os.getpid()


@dataclass(frozen=True)
class Engine:
    """A network ready to run.

    Attributes
    ----------
    name : str
        Of the engine and its arithmetic; the value of ``CRENGINE``.
    run : callable
        (N, H, W) float32 to probabilities of the same shape; thread-safe.  Those in
        the halo of the model's card need not be calculated, and may be 0.
    tile : int
        Longest side of a tile that it runs well, where any tile is exact; pixels.
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
        Number of the process that made the engine; this one if None.

    Returns
    -------
    int
        1 in a forked child of the maker: the maker's threads do not survive a fork.  If `threads`
        is None, 1 in any forked child, which has siblings, and elsewhere ``OMP_NUM_THREADS`` or
        `crattn_stage.processors.available_cpus`.
    """
    if maker not in (None, os.getpid()) or (threads is None and forked()):
        return 1
    if threads is None and os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = int(os.environ["OMP_NUM_THREADS"])
    return threads or available_cpus()
