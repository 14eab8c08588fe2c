"""A network as an OpenVINO graph, from its description in `crattn_stage.models.architectures`."""

import sys

import numpy as np

# OpenVINO reports its import to its makers, from a forked process at that; without the client it cannot.
sys.modules.setdefault("openvino_telemetry", None)

from openvino import Model  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

from crattn_stage.models.architectures import (  # noqa: E402
    IMAGE,
    NORMALISATIONS,
    blocks,
    groups,
    needed_borders,
)

#: Added to a variance, as torch does.
EPSILON = 1e-5
_ACTIVATIONS = {"": lambda x: x, "relu": ops.relu, "sigmoid": ops.sigmoid}


def write_graph(card, tensors, ranges, margin):
    """Write a network as an OpenVINO graph, with batch normalisation folded into the convolutions.

    Convolutions with input ranges are marked for 8-bit integers: one scale for each input, which need not
    be positive, and one for each output of the kernel (Jacob et al. 2018, arXiv:1712.05877).

    Parameters
    ----------
    card, tensors
        From `crattn_stage.models.cards.load`.
    ranges : dict
        As `crattn_stage.models.cards.ModelCard.input_ranges`; empty for float arithmetic.
    margin : int
        By how much the result is smaller than its input on each side, pixels: the decoder is not
        calculated in the halo, which is discarded anyway.

    Returns
    -------
    `openvino.Model`
        Maps (N, H, W) float32 to probabilities.
    """
    image = ops.parameter([-1, -1, -1], np.float32)
    described = blocks(card.architecture, card.channels)
    borders = needed_borders(card.architecture)
    maps, margins, depths = {IMAGE: ops.unsqueeze(image, 1)}, {IMAGE: margin}, {IMAGE: 0}

    def crop(name, border):
        if margins[name] > border:
            maps[name], margins[name] = _cropped(maps[name], margins[name] - border), border

    for block in described:
        first = block.inputs[0]
        margins[block.name], depths[block.name] = margins[first], depths[first]
        if block.operation == "pool":
            reader = next(other for other in described if block.name in other.inputs).convolutions[0].name
            if reader in ranges:
                # The skip connection and the level below share one quantised map: a quarter of the traffic.
                maps[first] = _quantised(maps[first], *ranges[reader][0], 256)
            maps[block.name] = ops.max_pool(maps[first], [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
            margins[block.name], depths[block.name] = margins[first] // 2, depths[first] + 1
        elif block.operation == "upsample":
            crop(first, borders[first])
            maps[block.name] = _upsampled(block.convolutions[0], maps[first], tensors, ranges)
            margins[block.name], depths[block.name] = 2 * margins[first], depths[first] - 1
            # What it is joined with at this resolution is cut to the same size.
            for other, depth in depths.items():
                if depth == depths[block.name]:
                    crop(other, margins[block.name])
        elif block.operation == "convolve":
            inputs = [maps[name] for name in block.inputs]
            for convolution in block.convolutions:
                inputs = [_convolved(convolution, inputs, tensors, ranges)]
            (maps[block.name],) = inputs
        elif block.operation == "add":
            maps[block.name] = ops.relu(ops.add(*(maps[name] for name in block.inputs)))
        else:
            maps[block.name] = ops.multiply(*(maps[name] for name in block.inputs))
    crop(block.name, 0)
    return Model([ops.squeeze(ops.sigmoid(maps[block.name]), 1)], [image])


def _constant(array):
    return ops.constant(np.asarray(array, np.float32))


def _quantised(x, low, high, levels):
    low, high = _constant(low), _constant(high)
    return ops.fake_quantize(x, low, high, low, high, levels)


def _operands(x, kernel, limits, axis):
    """Return an input and a kernel whose outputs lie along an axis, for 8-bit integers where limits are known."""
    if limits is None:
        return x, _constant(kernel)
    lowest, highest = limits
    if lowest < 0:
        # Zero, with which the borders are padded, must be a whole step.
        highest = max(highest, -lowest)
        lowest = -highest * 128 / 127
    most = np.abs(kernel).max(tuple({0, 1, 2, 3} - {axis}), keepdims=True) + np.float32(1e-12)
    return _quantised(x, lowest, highest, 256), _quantised(_constant(kernel), -most, most, 255)


def _biased(x, bias):
    return ops.add(x, _constant(bias[:, None, None]))


def _upsampled(convolution, x, tensors, ranges):
    """Return a map at twice the resolution."""
    (limits,) = ranges.get(convolution.name, [None])
    operands = _operands(x, tensors[f"{convolution.name}.weight"], limits, 1)
    return _biased(ops.convolution_backprop_data(*operands, [2, 2]), tensors[f"{convolution.name}.bias"])


def _convolved(convolution, inputs, tensors, ranges):
    """Return the convolution of inputs laid one after the other, normalised and activated."""
    name, norm = convolution.name, convolution.normalisation
    kernel, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    if norm == "batch":
        scale, shift, mean, variance = (tensors[f"{convolution.norm}.{t}"] for t in NORMALISATIONS["batch"][0])
        factor = scale / np.sqrt(variance + EPSILON)
        bias = (bias - mean) * factor + shift
        kernel = kernel * factor[:, None, None, None]
    pad, result = [convolution.side // 2] * 2, None
    # Each input with its part of the kernel, which saves copying them together.
    limits = ranges.get(name, [None] * len(inputs))
    for x, part, limit in zip(inputs, np.split(kernel, len(inputs), axis=1), limits, strict=True):
        part = ops.convolution(*_operands(x, part, limit, 0), [1, 1], pad, pad, [1, 1])
        result = part if result is None else ops.add(result, part)
    result = _biased(result, bias)
    if norm == "group":
        result = _group_normalised(result, convolution.outputs)
    return _ACTIVATIONS[convolution.activation](result)


def _group_normalised(x, channels):
    x = ops.subtract(x, _group_means(x, channels))
    variance = _group_means(ops.multiply(x, x), channels)
    return ops.divide(x, ops.sqrt(ops.add(variance, _constant(EPSILON))))


def _group_means(x, channels):
    """Return for each channel the mean over its group.

    The means of the channels come first: `mvn`, which has no groups, changes the layout in memory
    twice, which takes as long as the convolutions.
    """
    count = groups(channels)
    means = ops.reshape(ops.reduce_mean(x, [2, 3], True), [1, count, -1], False)
    means = ops.tile(ops.reduce_mean(means, [2], True), [1, 1, channels // count])
    return ops.reshape(means, [1, -1, 1, 1], False)


def _cropped(x, pixels):
    return ops.slice(x, [pixels] * 2, [-pixels] * 2, [1, 1], [2, 3])
