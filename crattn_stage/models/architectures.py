"""The networks as data: the blocks they are built of, and what follows from these without torch.

Bhavanam et al. (2022, arXiv:2207.10411), Sec. 3 and Fig. 2-3: a U-Net of three levels.  Normalisation
and attention tell the four apart.  Tensor shapes, torch's module (`crattn_stage.models.networks`) and
OpenVINO's graph (`crattn_stage.detection.engines.openvino_graph`) all follow from `blocks`.

Trainable parameters with 32 channels: deepcr 467,233, cosmic-conn 465,953 and att-cosmic-conn 471,219,
as in the paper's Table 3; att-deepcr 472,695, as in the checkpoint the authors released, 192 fewer than
the table says.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Architecture(NamedTuple):
    """What tells the networks of the paper apart.

    Attributes
    ----------
    normalisation : {"batch", "group"}
        See `NORMALISATIONS`.
    attention : {"", "additive"}
        The gate on each skip connection (Oktay et al. 2018, arXiv:1804.03999), or none.
    """

    normalisation: str
    attention: str


#: By name; the names are the product's contract.
ARCHITECTURES = {
    "deepcr": Architecture("batch", ""),
    "att-deepcr": Architecture("batch", "additive"),
    "cosmic-conn": Architecture("group", ""),
    "att-cosmic-conn": Architecture("group", "additive"),
}
#: Kind of normalisation -> its tensors of one value for each channel, and of a single value.
NORMALISATIONS = {
    "batch": (("weight", "bias", "running_mean", "running_var"), ("num_batches_tracked",)),
    "group": ((), ()),
}
ATTENTIONS = ("", "additive")
#: The ways in which a model can want its input, see `crattn_stage.detection.preprocessing.scale`.
SCALINGS = ("asinh", "none")
#: Height and width fed to a network must be multiples of this (two 2x2 poolings).
STRIDE = 4
#: Name of a network's input among the inputs of `Block`.
IMAGE = "image"


@dataclass(frozen=True)
class Convolution:
    """A convolution, its normalisation and its activation.

    Attributes
    ----------
    name : str
        Of its tensors: ``name.weight`` and ``name.bias``.
    inputs : tuple of int
        Channels of each map that it reads; several are concatenated.
    outputs : int
        Channels.
    side : int
        Of the kernel, pixels.
    normalisation : {"", "batch", "group"}
        Before the activation.
    activation : {"", "relu", "sigmoid"}
    """

    name: str
    inputs: tuple
    outputs: int
    side: int
    normalisation: str = ""
    activation: str = ""

    @property
    def norm(self):
        """Name of the tensors of its normalisation, which follows it in its block."""
        block, _, index = self.name.rpartition(".")
        return f"{block}.{int(index) + 1}"


@dataclass(frozen=True)
class Block:
    """A step of a network: the maps it reads, and what it makes of them.

    Attributes
    ----------
    name : str
        Of the map it makes.
    operation : {"convolve", "upsample", "pool", "add", "multiply"}
        "convolve" applies its convolutions one after the other, "upsample" is a transposed
        convolution of stride 2, "pool" takes the maximum of 2x2 pixels, "add" is rectified.
    inputs : tuple of str
        Names of earlier blocks, or `IMAGE`.
    channels : int
        Of the map it makes.
    convolutions : tuple of `Convolution`
    """

    name: str
    operation: str
    inputs: tuple
    channels: int
    convolutions: tuple = ()


def blocks(architecture, channels=32):
    """Return the description of a network.

    Parameters
    ----------
    architecture : str or `Architecture`
        One of `ARCHITECTURES`, or a normalisation and an attention.
    channels : int
        At full resolution: 32 in the paper, fewer in a faster network.

    Returns
    -------
    tuple of `Block`
        In the order in which they run; the last one makes the logits.

    Raises
    ------
    ValueError
        If the architecture, the normalisation or the attention is unknown, or
        the channels cannot be divided as they ask for.

    Examples
    --------
    >>> for block in blocks("deepcr")[:3]:
    ...     print(block.name, block.operation, block.inputs, block.channels)
    encoder1 convolve ('image',) 32
    pool1 pool ('encoder1',) 32
    encoder2 convolve ('pool1',) 64
    """
    if isinstance(architecture, str):
        if architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
        architecture = ARCHITECTURES[architecture]
    normalisation, attention = architecture
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"unknown normalisation {normalisation!r}; known: {', '.join(NORMALISATIONS)}")
    if attention not in ATTENTIONS:
        raise ValueError(f"unknown attention {attention!r}; known: {', '.join(map(repr, ATTENTIONS))}")
    if channels < 1 or (attention and channels % 2):
        raise ValueError(f"{channels} channels cannot be halved")
    result, sizes = [], {IMAGE: 1}

    def add(name, operation, inputs, outputs, convolutions=()):
        result.append(Block(name, operation, inputs, outputs, convolutions))
        sizes[name] = outputs
        return name

    def convolve(name, inputs, outputs, side, *activations):
        """Add convolutions that are all normalised; their modules are numbered as in the authors' code."""
        read, convolutions = tuple(sizes[n] for n in inputs), []
        for index, activation in enumerate(activations):
            if normalisation == "group" and outputs % groups(outputs):
                raise ValueError(f"{outputs} channels cannot be divided into {groups(outputs)} groups")
            convolutions.append(Convolution(f"{name}.{3 * index}", read, outputs, side, normalisation, activation))
            read = (outputs,)
        return add(name, "convolve", inputs, outputs, tuple(convolutions))

    below = IMAGE
    for level in (1, 2, 3):
        if level > 1:
            below = add(f"pool{level - 1}", "pool", (below,), sizes[below])
        below = convolve(f"encoder{level}", (below,), channels * 2 ** (level - 1), 3, "relu", "relu")
    for level in (2, 1):
        skip, own = f"encoder{level}", channels * level
        name = f"up{level}.upsample"
        deep = add(name, "upsample", (below,), own, (Convolution(name, (sizes[below],), own, 2),))
        if attention:
            gate = f"up{level}.attention"
            both = (
                convolve(f"{gate}.gate", (deep,), own // 2, 1, ""),
                convolve(f"{gate}.skip", (skip,), own // 2, 1, ""),
            )
            both = add(f"{gate}.sum", "add", both, own // 2)
            alpha = convolve(f"{gate}.alpha", (both,), 1, 1, "sigmoid")
            skip = add(f"{gate}.product", "multiply", (skip, alpha), own)
        below = convolve(f"up{level}.convolutions", (skip, deep), own, 3, "relu", "relu")
    add("head", "convolve", (below,), 1, (Convolution("head", (channels,), 1, 1),))
    return tuple(result)


def groups(channels):
    """Return the number of groups of a group normalisation: 8 (paper, Sec. 3), or one for each channel.

    Parameters
    ----------
    channels : int

    Returns
    -------
    int
    """
    return min(8, channels)


def tensor_shapes(architecture, channels=32):
    """Return the tensors of a network.

    Parameters
    ----------
    architecture, channels
        As for `blocks`.

    Returns
    -------
    dict of str to tuple of int
        Name -> shape, in the order of torch's state dict.

    Raises
    ------
    ValueError
        As `blocks`.

    Examples
    --------
    >>> import math
    >>> shapes = tensor_shapes("cosmic-conn")
    >>> shapes["encoder1.0.weight"]
    (32, 1, 3, 3)
    >>> sum(math.prod(shape) for shape in shapes.values())
    465953
    """
    shapes = {}
    for block in blocks(architecture, channels):
        for convolution in block.convolutions:
            kernel = (convolution.outputs, sum(convolution.inputs))
            # A transposed convolution has its inputs first.
            kernel = kernel[::-1] if block.operation == "upsample" else kernel
            shapes[f"{convolution.name}.weight"] = (*kernel, convolution.side, convolution.side)
            shapes[f"{convolution.name}.bias"] = (convolution.outputs,)
            if convolution.normalisation:
                of_channels, single = NORMALISATIONS[convolution.normalisation]
                shapes |= {f"{convolution.norm}.{name}": (convolution.outputs,) for name in of_channels}
                shapes |= {f"{convolution.norm}.{name}": () for name in single}
    return shapes


def needed_borders(architecture):
    """Return how many pixels around a square of the output each block has to know, at its own resolution.

    Parameters
    ----------
    architecture : str or `Architecture`
        As for `blocks`.

    Returns
    -------
    dict of str to int
        By name of the block, for a square whose corners lie on multiples of `STRIDE`; `IMAGE` for the input.

    Examples
    --------
    >>> borders = needed_borders("deepcr")
    >>> borders["up1.upsample"], borders["encoder3"], borders["image"]
    (2, 2, 22)
    """
    return {name: -low for name, (low, _) in _seen(architecture, 0, STRIDE - 1).items()}


def receptive_radius(architecture):
    """Return how far, in pixels, an output pixel of a network sees.

    Group normalisation, which sees the whole tile, is left out of it.

    Parameters
    ----------
    architecture : str or `Architecture`
        As for `blocks`.

    Returns
    -------
    int

    Examples
    --------
    >>> receptive_radius("att-deepcr")
    23
    """
    radius = 0
    for pixel in range(STRIDE):
        low, high = _seen(architecture, pixel, pixel)[IMAGE]
        radius = max(radius, pixel - low, high - pixel)
    return radius


def _seen(architecture, low, high):
    """Return the first and last row of each block on which a range of rows of the output depends."""
    described = blocks(architecture)
    rows = {described[-1].name: (low, high)}
    for block in reversed(described):
        low, high = rows[block.name]
        if block.operation == "pool":
            low, high = 2 * low, 2 * high + 1
        elif block.operation == "upsample":
            low, high = low // 2, high // 2
        else:
            reach = sum(convolution.side // 2 for convolution in block.convolutions)
            low, high = low - reach, high + reach
        for name in block.inputs:
            first, last = rows.get(name, (low, high))
            rows[name] = min(first, low), max(last, high)
    return rows


def tile_steps(tile, halo):
    """Return the pixels from one tile to the next.

    Parameters
    ----------
    tile : int or tuple of int
        Side of a tile, or its height and width, multiples of `STRIDE`.
    halo : int
        Width of the border that is computed but not kept, likewise.

    Returns
    -------
    tuple of int
        Along rows and columns.

    Raises
    ------
    ValueError
        If tile and halo do not fit together.
    """
    sides = (tile, tile) if isinstance(tile, int) else tile
    steps = tuple(side - 2 * halo for side in sides)
    if min(steps) <= 0 or any(n % STRIDE for n in (*sides, halo)):
        raise ValueError(f"tile {tile} and halo {halo} do not fit together")
    return steps
