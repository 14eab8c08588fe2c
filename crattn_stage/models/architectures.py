"""The four networks by name, and the tensors of each: what can be known of them without torch."""

#: name -> (normalisation, attention).  The names are the product's contract.
ARCHITECTURES = {
    "deepcr": ("batch", False),
    "att-deepcr": ("batch", True),
    "cosmic-conn": ("group", False),
    "att-cosmic-conn": ("group", True),
}
#: Height and width fed to a network must be multiples of this (two 2x2 poolings).
STRIDE = 4


def groups(channels):
    """Return into how many groups a group normalisation parts its channels: 8 (paper, Sec. 3), or each alone.

    Parameters
    ----------
    channels : int

    Returns
    -------
    int
    """
    return min(8, channels)


def tensor_shapes(architecture, channels=32):
    """Return what a weights file of an architecture holds.

    Parameters
    ----------
    architecture : str
        One of `ARCHITECTURES`.
    channels : int
        At full resolution.

    Returns
    -------
    dict of str to tuple of int
        Names as in `crattn_stage.models.networks.UNet`.

    Raises
    ------
    KeyError
        If the architecture is not one of the four.
    """
    normalisation, attention = ARCHITECTURES[architecture]
    shapes = {}

    def convolution(name, outputs, *kernel):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = kernel, (outputs,)

    def normalised(block, index, outputs, inputs, side):
        convolution(f"{block}.{index}", outputs, outputs, inputs, side, side)
        if normalisation == "batch":
            names = ("weight", "bias", "running_mean", "running_var")
            shapes.update({f"{block}.{index + 1}.{name}": (outputs,) for name in names})
            shapes[f"{block}.{index + 1}.num_batches_tracked"] = ()

    def double(block, outputs, inputs):
        normalised(block, 0, outputs, inputs, 3)
        normalised(block, 3, outputs, outputs, 3)

    for level, (outputs, inputs) in enumerate([(1, 0), (2, 1), (4, 2)], 1):
        double(f"encoder{level}", outputs * channels, inputs * channels or 1)
    for level in (2, 1):
        own = level * channels
        convolution(f"up{level}.upsample", own, 2 * own, own, 2, 2)
        if attention:
            normalised(f"up{level}.attention.gate", 0, own // 2, own, 1)
            normalised(f"up{level}.attention.skip", 0, own // 2, own, 1)
            normalised(f"up{level}.attention.alpha", 0, 1, own // 2, 1)
        double(f"up{level}.convolutions", own, 2 * own)
    convolution("head", 1, 1, channels, 1, 1)
    return shapes
