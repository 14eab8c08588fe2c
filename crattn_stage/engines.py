"""Engines: ways to run a network.  All give the masks of plain float32; they differ in speed.

Batch normalisation is folded into the convolutions first.  Arithmetic is
bfloat16 where the processor has it in hardware and the input of the network is
scaled; raw counts, whose third digit matters, stay float32.
"""

import copy
import ctypes
import hashlib
import json
import logging
import os
import platform
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crattn_stage import __version__
from crattn_stage.atomic import replacing

logger = logging.getLogger(__name__)

#: What `load_detector` can be asked for.
ENGINES = ("auto", "float32", "torch", "openvino", "cuda")
#: More would hold more tiles in memory than they gain.
MOST_STREAMS = 4
#: Shapes of tiles for which OpenVINO's model is kept.
MOST_SHAPES = 4


@dataclass(frozen=True)
class Engine:
    """A network ready to run.

    Attributes
    ----------
    name : str
        Of the engine and its arithmetic; what ``CRENGINE`` says.
    run : callable
        (N, H, W) float32 to probabilities of the same shape; thread-safe.
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


def folded(network):
    """Return a copy of a network with batch normalisation folded into the convolutions before it.

    Parameters
    ----------
    network : `torch.nn.Module`
        In evaluation mode.

    Returns
    -------
    `torch.nn.Module`
        Equal but for rounding; one with group normalisation as it was.
    """
    network = copy.deepcopy(network)
    for sequence in network.modules():
        if isinstance(sequence, nn.Sequential):
            for i in range(len(sequence) - 1):
                if isinstance(sequence[i], nn.Conv2d) and isinstance(sequence[i + 1], nn.BatchNorm2d):
                    sequence[i], sequence[i + 1] = fuse_conv_bn_eval(sequence[i], sequence[i + 1]), nn.Identity()
    return network


def _torch(network, dtype, device="cpu", tile=448, batch=1):
    network = network.to(device, dtype, memory_format=torch.channels_last)

    def run(tiles):
        image = torch.from_numpy(tiles)[:, None].to(device, dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            return torch.sigmoid(network(image).float())[:, 0].cpu().numpy()

    name = "float32" if dtype == torch.float32 else "bfloat16"
    return Engine(f"{'torch' if device == 'cpu' else device} {name}", run, tile, batch)


def _float32(network, scaled):
    """The reference: the network as it was trained."""
    return _torch(network, torch.float32)


def bfloat16_in_hardware():
    """Tell whether torch calculates in bfloat16 faster than in float32 on this processor.

    Without instructions of its own it is many times slower.

    Returns
    -------
    bool
        False where an older torch does not tell: float32 is safe.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _torch_cpu(network, scaled):
    return _torch(folded(network), torch.bfloat16 if scaled and bfloat16_in_hardware() else torch.float32)


def _cuda(network, scaled):
    if not torch.cuda.is_available():
        raise ValueError("engine 'cuda': no CUDA device")
    # Not float16: its range is that of 16-bit counts.
    low = scaled and torch.cuda.is_bf16_supported()
    return _torch(folded(network), torch.bfloat16 if low else torch.float32, "cuda", tile=1072, batch=4)


def _openvino(network, scaled):
    # Its import reports to its makers, from a forked process at that; without the client it does not.
    sys.modules.setdefault("openvino_telemetry", None)
    try:
        import openvino
    except ImportError as error:
        raise ValueError("engine 'openvino': it is not installed") from error
    low = scaled and "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    graph = _openvino_graph(folded(network))
    compiled = {}

    def model_for(shape):
        # Its threads do not survive a fork; and a fixed shape takes less memory and time.
        key = os.getpid(), shape
        model = compiled.get(key)
        if model is None:
            threads = torch.get_num_threads()
            settings = {
                "INFERENCE_PRECISION_HINT": "bf16" if low else "f32",
                "INFERENCE_NUM_THREADS": threads,
                # Each stream runs a tile of its own: two cores on two tiles wait less than both on one.
                "NUM_STREAMS": min(threads, MOST_STREAMS),
            }
            fixed = graph.clone()
            fixed.reshape([1, *shape])
            model = openvino.Core().compile_model(fixed, "CPU", settings)
            _threaded.add(model)
            if len(compiled) >= MOST_SHAPES:
                compiled.clear()
            compiled[key] = model
        return model

    def run(tiles):
        model = model_for(tiles.shape[1:])
        result = np.empty_like(tiles)
        # Not its AsyncInferQueue: callbacks into Python can lock up with the model's end.
        streams = model.get_property("NUM_STREAMS")
        requests = [model.create_infer_request() for _ in range(min(streams, len(tiles)))]
        for i in range(len(tiles) + len(requests)):
            request, before = requests[i % len(requests)], i - len(requests)
            if before >= 0:
                request.wait()
                result[before] = request.get_output_tensor().data[0]
            if i < len(tiles):
                request.start_async({0: tiles[i : i + 1]})
        return result

    streams = min(torch.get_num_threads(), MOST_STREAMS)
    return Engine(f"openvino {'bfloat16' if low else 'float32'}", run, 432, 4 * streams, streams)


def _openvino_graph(network):
    """Write a folded `crattn_stage.networks.UNet` in OpenVINO's operations.

    Its converter from torch would do, but traces the network, which takes
    longer than masking a small frame.
    """
    from openvino import Model, opset13

    def constant(tensor):
        return opset13.constant(tensor.detach().numpy(), np.float32)

    def convolve(x, layer, inputs=slice(None)):
        pad = list(layer.padding)
        return opset13.convolution(x, constant(layer.weight[:, inputs]), [1, 1], pad, pad, [1, 1])

    def biased(x, layer):
        return opset13.add(x, constant(layer.bias[:, None, None]))

    def normalised(x, layer):
        # Each group as one row of its own: MVN has no groups.
        rows = opset13.reshape(x, [0, layer.num_groups, -1], True)
        rows = opset13.mvn(rows, [2], True, layer.eps, "inside_sqrt")
        return opset13.reshape(rows, opset13.shape_of(x), False)

    kinds = {
        nn.Conv2d: lambda x, layer: biased(convolve(x, layer), layer),
        nn.GroupNorm: normalised,
        nn.ReLU: lambda x, layer: opset13.relu(x),
        nn.Sigmoid: lambda x, layer: opset13.sigmoid(x),
        nn.Identity: lambda x, layer: x,
    }

    def apply(x, layers):
        for layer in layers:
            x = kinds[type(layer)](x, layer)
        return x

    def up(deep, skip, level):
        layer, gate = level.upsample, level.attention
        deep = biased(opset13.convolution_backprop_data(deep, constant(layer.weight), [2, 2]), layer)
        if gate is not None:
            both = opset13.relu(opset13.add(apply(deep, gate.gate), apply(skip, gate.skip)))
            skip = opset13.multiply(skip, apply(both, gate.alpha))
        # The convolution of the two halves apart, which saves copying them together.
        first, *others = level.convolutions
        half = first.in_channels // 2
        both = opset13.add(convolve(skip, first, slice(half)), convolve(deep, first, slice(half, None)))
        return apply(biased(both, first), others)

    def pool(x):
        return opset13.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)

    image = opset13.parameter([-1, -1, -1], np.float32)
    fine = apply(opset13.unsqueeze(image, 1), network.encoder1)
    middle = apply(pool(fine), network.encoder2)
    coarse = apply(pool(middle), network.encoder3)
    logits = apply(up(up(coarse, middle, network.up2), fine, network.up1), [network.head])
    return Model([opset13.squeeze(opset13.sigmoid(logits), 1)], [image])


#: Models that have threads.
_threaded = weakref.WeakSet()


def _keep_forever():
    """Keep a forked child from ending the models of its parent, whose threads it would wait for in vain."""
    for model in _threaded:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(model))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_forever)

_MAKERS = {"float32": _float32, "torch": _torch_cpu, "openvino": _openvino, "cuda": _cuda}


def start(engine, network, card):
    """Make a network ready to run.

    Parameters
    ----------
    engine : str
        One of `ENGINES`; "auto" is the fastest here, as `choose` finds.
    network : `torch.nn.Module`
        In evaluation mode, without gradients.
    card : `crattn_stage.models.ModelCard`

    Returns
    -------
    `Engine`

    Raises
    ------
    ValueError
        If the engine is unknown or cannot run here.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    if engine == "auto":
        return choose(network, card)
    return _MAKERS[engine](network, card.scaling != "none")


def choose(network, card):
    """Return the fastest engine for a network on this machine.

    It is measured once for each machine, number of threads, model and version,
    and remembered in the user's cache folder.

    Parameters
    ----------
    network, card
        As for `start`.

    Returns
    -------
    `Engine`
    """
    names = [
        "torch",
        *(["openvino"] if _installed("openvino") else []),
        *(["cuda"] if torch.cuda.is_available() else []),
    ]
    if len(names) == 1:
        return start("torch", network, card)
    versions = {name: _installed(name) for name in ("torch", "openvino")}
    machine = [platform.node(), platform.machine(), torch.get_num_threads(), torch.cuda.device_count()]
    key = json.dumps([__version__, versions, machine, card.sha256])
    file = _cache_folder() / f"engine-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    try:
        name = json.loads(file.read_text())["engine"]
        engine = start(name if name in names else "?", network, card)
        logger.info("engine %s, as measured before (%s)", engine.name, file)
        return engine
    except (OSError, ValueError, KeyError, TypeError):
        # Not measured yet, or the note of it is damaged.
        pass
    engines = {name: start(name, network, card) for name in names}
    seconds = {name: _seconds(engine, card.tile) for name, engine in engines.items()}
    name = min(seconds, key=seconds.get)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing([file], overwrite=True) as (stream,):
            stream.write(json.dumps({"engine": name, "seconds_per_megapixel": seconds, "key": key}, indent=2).encode())
    except OSError as error:
        logger.info("the choice of the engine cannot be kept: %s", error)
    told = ", ".join(f"{engines[n].name} {s:.3f}" for n, s in seconds.items())
    logger.info("engine %s, the fastest here (seconds per megapixel: %s)", engines[name].name, told)
    return engines[name]


def _installed(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cache_folder():
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "crattn-stage"


def _seconds(engine, tile):
    """Measure an engine: seconds per million pixels, at its best of three."""
    tiles = np.random.default_rng(0).standard_normal((engine.batch, tile, tile)).astype(np.float32)
    engine.run(tiles)
    best = np.inf
    for _ in range(3):
        began = time.perf_counter()
        engine.run(tiles)
        best = min(best, time.perf_counter() - began)
    return best / tiles.size * 1e6
