"""Networks run by OpenVINO, which needs no torch: it starts faster and takes less memory."""

import ctypes
import os
import weakref

import numpy as np

from crattn_stage.detection.engines.base import Engine, thread_count
from crattn_stage.errors import EngineError
from crattn_stage.models.architectures import ARCHITECTURES

#: Most tiles side by side; more would take memory and gain little.
MOST_STREAMS = 4
#: Most tile shapes for which a compiled model is kept.
MOST_SHAPES = 4
#: Side of a tile, pixels; larger ones save 5% of the time and take 100 MB more.
TILE = 624
#: Compiled models, which have threads.
_threaded = weakref.WeakSet()


def openvino(card, tensors, threads):
    """Return a network run by OpenVINO, with batch normalisation folded into the convolutions.

    Where the input is scaled, the convolutions whose input ranges are on the card run in 8-bit integers, and
    the rest in bfloat16 if the processor has it in hardware.  Raw counts stay float32.

    Parameters
    ----------
    card, tensors
        From `crattn_stage.models.cards.load`.
    threads : int or None
        CPU threads, as for `crattn_stage.detection.engines.base.thread_count`.

    Returns
    -------
    `crattn_stage.detection.engines.base.Engine`

    Raises
    ------
    crattn_stage.errors.EngineError
        If OpenVINO cannot be imported.
    """
    try:
        # First, as it keeps openvino from reporting its import.
        from crattn_stage.detection.engines.openvino_graph import write_graph

        from openvino import Core  # isort: skip
    except ImportError as error:
        raise EngineError(f"engine 'openvino' cannot be imported: {error}") from error
    scaled = card.scaling != "none"
    low = scaled and "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    ranges = card.input_ranges if scaled else {}
    # Group normalisation sees the halo, too.
    margin = card.halo if ARCHITECTURES[card.architecture].normalisation == "batch" else 0
    graph = write_graph(card, tensors, ranges, margin)
    compiled, maker = {}, os.getpid()

    def model_for(shape):
        # Threads do not survive a fork, and a fixed shape takes less memory and time.
        key = os.getpid(), shape
        model = compiled.get(key)
        if model is None:
            count = thread_count(threads, maker)
            settings = {
                "INFERENCE_PRECISION_HINT": "bf16" if low else "f32",
                "INFERENCE_NUM_THREADS": count,
                # Pinned, several processes would all take the first cores.
                "ENABLE_CPU_PINNING": False,
                # A tile for each stream: two cores on two tiles wait less than both on one.
                "NUM_STREAMS": min(count, MOST_STREAMS),
            }
            fixed = graph.clone()
            fixed.reshape([1, *shape])
            model = Core().compile_model(fixed, "CPU", settings)
            _threaded.add(model)
            if len(compiled) >= MOST_SHAPES:
                compiled.clear()
            compiled[key] = model
        return model

    def run(tiles):
        model = model_for(tiles.shape[1:])
        result = np.zeros_like(tiles)
        inner = result[:, margin : tiles.shape[1] - margin, margin : tiles.shape[2] - margin]
        # Not its AsyncInferQueue: callbacks into Python can lock up with the model's end.
        streams = model.get_property("NUM_STREAMS")
        requests = [model.create_infer_request() for _ in range(min(streams, len(tiles)))]
        for i in range(len(tiles) + len(requests)):
            request, before = requests[i % len(requests)], i - len(requests)
            if before >= 0:
                request.wait()
                inner[before] = request.get_output_tensor().data[0]
            if i < len(tiles):
                request.start_async({0: tiles[i : i + 1]})
        return result

    streams = min(thread_count(threads), MOST_STREAMS)
    arithmetic = "int8" if ranges else "bfloat16" if low else "float32"
    return Engine(f"openvino {arithmetic}", run, TILE, 4 * streams, streams)


def _keep_forever():
    """Keep a forked child from destroying its parent's models: it would wait for threads that it does not have."""
    for model in _threaded:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(model))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_forever)
