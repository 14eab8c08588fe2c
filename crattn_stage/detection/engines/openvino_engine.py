"""Networks run by OpenVINO, which needs no torch: it starts faster, and in less memory."""

import ctypes
import os
import sys
import weakref

import numpy as np

from crattn_stage.detection.engines.base import Engine, thread_count
from crattn_stage.errors import EngineError
from crattn_stage.models.architectures import ARCHITECTURES, groups

#: More would hold more tiles in memory than they gain.
MOST_STREAMS = 4
#: Shapes of tiles for which a compiled model is kept.
MOST_SHAPES = 4
#: Side of a tile: larger ones gain 5% of time, and take 100 MB more.
TILE = 624
#: Added to a variance, as torch does.
EPSILON = 1e-5
#: Models that have threads.
_threaded = weakref.WeakSet()


def openvino(card, tensors, threads):
    """Return the folded network, in low precision where the input is scaled.

    That is 8-bit integers in the convolutions whose input the card knows the range of, which are
    faster on any processor, and bfloat16 elsewhere if the processor has it.

    Parameters
    ----------
    card, tensors
        From `crattn_stage.models.cards.load`.
    threads : int or None

    Returns
    -------
    `crattn_stage.detection.engines.base.Engine`

    Raises
    ------
    crattn_stage.errors.EngineError
        If OpenVINO is not installed.
    """
    # Its import reports to its makers, from a forked process at that; without the client it does not.
    sys.modules.setdefault("openvino_telemetry", None)
    try:
        from openvino import Core
    except ImportError as error:
        raise EngineError("engine 'openvino': it is not installed") from error
    scaled = card.scaling != "none"
    low = scaled and "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    ranges = card.input_ranges if scaled else {}
    graph, margin = _graph(card, tensors, ranges)
    compiled, maker = {}, os.getpid()

    def model_for(shape):
        # Its threads do not survive a fork; and a fixed shape takes less memory and time.
        key = os.getpid(), shape
        model = compiled.get(key)
        if model is None:
            count = thread_count(threads, maker)
            settings = {
                "INFERENCE_PRECISION_HINT": "bf16" if low else "f32",
                "INFERENCE_NUM_THREADS": count,
                # Or each of several processes takes the first cores for itself.
                "ENABLE_CPU_PINNING": False,
                # Each stream runs a tile of its own: two cores on two tiles wait less than both on one.
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


def _graph(card, tensors, ranges):
    """Write `crattn_stage.models.networks.UNet` in OpenVINO's operations, with batch normalisation folded in.

    Convolutions with input ranges are marked for 8-bit integers: one scale for each input, which need not
    be positive, and one for each output of the kernel (Jacob et al. 2018, arXiv:1712.05877).

    Returns the graph, and by how much its result is smaller than its input on each side: what is in
    the halo is not wanted, and the way up is not calculated there, unless normalisation by group sees it.
    """
    from openvino import Model, opset13

    normalisation, attention = ARCHITECTURES[card.architecture]
    margin = card.halo if normalisation == "batch" else 0

    def constant(array):
        return opset13.constant(np.asarray(array, np.float32))

    def quantised(x, low, high, levels):
        low, high = constant(low), constant(high)
        return opset13.fake_quantize(x, low, high, low, high, levels)

    def operands(x, kernel, limits, axis):
        """An input, and its kernel, whose outputs are along an axis; 8-bit integers where limits are known."""
        if limits is None:
            return x, constant(kernel)
        lowest, highest = limits
        if lowest < 0:
            # Zero, with which the borders are padded, has to be an integer.
            highest = max(highest, -lowest)
            lowest = -highest * 128 / 127
        most = np.abs(kernel).max(tuple({0, 1, 2, 3} - {axis}), keepdims=True) + np.float32(1e-12)
        return quantised(x, lowest, highest, 256), quantised(constant(kernel), -most, most, 255)

    def biased(x, bias):
        return opset13.add(x, constant(bias[:, None, None]))

    def group_means(x, channels):
        """For each channel the mean over its group.

        Channel by channel first: normalising by `mvn`, which has no groups, takes two changes of the
        layout in memory, and as long as the convolutions.
        """
        count = groups(channels)
        means = opset13.reshape(opset13.reduce_mean(x, [2, 3], True), [1, count, -1], False)
        means = opset13.tile(opset13.reduce_mean(means, [2], True), [1, 1, channels // count])
        return opset13.reshape(means, [1, -1, 1, 1], False)

    def convolve(name, *inputs):
        """A convolution of inputs laid one after the other, and its normalisation."""
        block, _, index = name.rpartition(".")
        kernel, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        if normalisation == "batch" and block:
            norm = f"{block}.{int(index) + 1}"
            factor = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + EPSILON)
            bias = (bias - tensors[f"{norm}.running_mean"]) * factor + tensors[f"{norm}.bias"]
            kernel = kernel * factor[:, None, None, None]
        pad, result = [kernel.shape[-1] // 2] * 2, None
        # Each input with its part of the kernel, which saves copying them together.
        limits = ranges.get(name, [None] * len(inputs))
        for x, part, limit in zip(inputs, np.split(kernel, len(inputs), axis=1), limits, strict=True):
            part = opset13.convolution(*operands(x, part, limit, 0), [1, 1], pad, pad, [1, 1])
            result = part if result is None else opset13.add(result, part)
        result = biased(result, bias)
        if normalisation == "group" and block:
            result = opset13.subtract(result, group_means(result, len(bias)))
            variance = group_means(opset13.multiply(result, result), len(bias))
            result = opset13.divide(result, opset13.sqrt(opset13.add(variance, constant(EPSILON))))
        return result

    def double(block, *inputs):
        x = opset13.relu(convolve(f"{block}.0", *inputs))
        return opset13.relu(convolve(f"{block}.3", x))

    def cropped(x, pixels):
        return opset13.slice(x, [pixels] * 2, [-pixels] * 2, [1, 1], [2, 3]) if margin else x

    def up(level, deep, skip):
        upsample, gate = f"{level}.upsample", f"{level}.attention"
        (limits,) = ranges.get(upsample, [None])
        kernel = tensors[f"{upsample}.weight"]
        deep = opset13.convolution_backprop_data(*operands(deep, kernel, limits, 1), [2, 2])
        deep = biased(deep, tensors[f"{upsample}.bias"])
        if attention:
            both = opset13.relu(opset13.add(convolve(f"{gate}.gate.0", deep), convolve(f"{gate}.skip.0", skip)))
            skip = opset13.multiply(skip, opset13.sigmoid(convolve(f"{gate}.alpha.0", both)))
        return double(f"{level}.convolutions", skip, deep)

    def pool(x):
        return opset13.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)

    def shared(x, below):
        """What skip connection and the level below both take, quantised once: that is a quarter of the traffic."""
        return quantised(x, *ranges[below][0], 256) if below in ranges else x

    image = opset13.parameter([-1, -1, -1], np.float32)
    fine = shared(double("encoder1", opset13.unsqueeze(image, 1)), "encoder2.0")
    middle = shared(double("encoder2", pool(fine)), "encoder3.0")
    coarse = double("encoder3", pool(middle))
    # The two convolutions of a level see 2 pixels around; up2's are cut on whole pixels of the level below.
    deep = up("up2", cropped(coarse, margin // 4 - 2), cropped(middle, margin // 2 - 4))
    fine = up("up1", cropped(deep, 3), cropped(fine, margin - 2))
    logits = cropped(convolve("head", fine), 2)
    return Model([opset13.squeeze(opset13.sigmoid(logits), 1)], [image]), margin


def _keep_forever():
    """Keep a forked child from ending the models of its parent, whose threads it would wait for in vain."""
    for model in _threaded:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(model))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_forever)
