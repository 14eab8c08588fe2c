"""Engines, the ways to run a network, by name.

To add one, write a function (card, tensors, threads) -> `crattn_stage.detection.engines.base.Engine`
that raises `crattn_stage.errors.EngineError` where it cannot run, and enter it in `ENGINES`.
"""

from pkgutil import resolve_name

from crattn_stage.errors import EngineError

#: The network as it was trained, by which the others are judged.
REFERENCE = "float32"
#: Name -> "module:function" that makes the engine, imported when it is asked for: torch alone takes seconds and 180 MB.
ENGINES = {
    REFERENCE: "crattn_stage.detection.engines.torch_engines:reference",
    "torch": "crattn_stage.detection.engines.torch_engines:folded_on_cpu",
    "openvino": "crattn_stage.detection.engines.openvino_engine:openvino",
    "cuda": "crattn_stage.detection.engines.torch_engines:folded_on_cuda",
}


def start(engine, card, tensors, threads=None):
    """Make a network ready to run.

    Parameters
    ----------
    engine : str
        One of `ENGINES`.
    card, tensors
        From `crattn_stage.models.cards.load`.
    threads : int, optional
        CPU threads, as for `crattn_stage.detection.engines.base.thread_count`.

    Returns
    -------
    `crattn_stage.detection.engines.base.Engine`

    Raises
    ------
    crattn_stage.errors.EngineError
        If the engine is unknown or cannot run here.
    """
    if engine not in ENGINES:
        raise EngineError(f"unknown engine {engine!r}; known: auto, {', '.join(ENGINES)}")
    return resolve_name(ENGINES[engine])(card, tensors, threads)
