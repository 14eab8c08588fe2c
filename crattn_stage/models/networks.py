"""The networks as torch modules, built from their description in `crattn_stage.models.architectures`."""

import torch
from torch import nn

from crattn_stage.models.architectures import IMAGE, blocks, groups


def build(name, channels=32):
    """Return an untrained network.

    Parameters
    ----------
    name : {"deepcr", "att-deepcr", "cosmic-conn", "att-cosmic-conn"}
    channels : int
        At full resolution: 32 in the paper, fewer in a faster network.

    Returns
    -------
    `UNet`
        Maps (N, 1, H, W) float32 to (N, 1, H, W) **logits**; H and W are
        multiples of `crattn_stage.models.architectures.STRIDE`.

    Raises
    ------
    ValueError
        If the name is not one of the four.

    Examples
    --------
    >>> network = build("att-deepcr")
    >>> sum(parameter.numel() for parameter in network.parameters())
    472695
    """
    return UNet(blocks(name, channels))


def restore(card, tensors):
    """Return the network of a model.

    Parameters
    ----------
    card, tensors
        From `crattn_stage.models.cards.load`.

    Returns
    -------
    `torch.nn.Module`
        In evaluation mode, without gradients.
    """
    network = build(card.architecture, card.channels)
    # Copied: the arrays may be read-only views of a file's content.
    network.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
    return network.eval().requires_grad_(False)


def tensors_of(network):
    """Return the tensors of a network as `crattn_stage.models.cards.load` does.

    Parameters
    ----------
    network : `torch.nn.Module`

    Returns
    -------
    dict of str to `numpy.ndarray`
    """
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in network.state_dict().items()}


def normalise(kind, channels):
    """Return the normalisation layer of a family: batch (deepCR) or group (Cosmic-CoNN).

    Zhang & Bloom (2020, arXiv:1907.09500); Xu et al. (2021, arXiv:2106.14922).

    Parameters
    ----------
    kind : {"batch", "group"}
    channels : int
        Of its input, (N, channels, H, W), whose shape it keeps.

    Returns
    -------
    `torch.nn.Module`

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels, momentum=0.005)
    if kind == "group":
        return nn.GroupNorm(groups(channels), channels, affine=False)
    raise ValueError(f"unknown normalisation {kind!r}")


#: Activation -> its module.
_ACTIVATIONS = {"relu": lambda: nn.ReLU(inplace=True), "sigmoid": nn.Sigmoid}


class UNet(nn.Module):
    """A network that runs the blocks of a description.

    Each block with convolutions is a submodule of its name, so the tensors are those of
    `crattn_stage.models.architectures.tensor_shapes`.

    Parameters
    ----------
    described : tuple of `crattn_stage.models.architectures.Block`
    """

    def __init__(self, described):
        super().__init__()
        self.blocks = described
        for block in described:
            if block.convolutions:
                self._place(block.name, _module(block))
        # After which block a map is not read again, so that its memory can be freed.
        last = {name: block.name for block in described for name in block.inputs}
        self._done = {block.name: [name for name, end in last.items() if end == block.name] for block in described}

    def _place(self, path, module):
        *parents, name = path.split(".")
        place = self
        for parent in parents:
            if parent not in place._modules:
                place.add_module(parent, nn.Module())
            place = place.get_submodule(parent)
        place.add_module(name, module)

    def forward(self, image):
        """Return the logits of images.

        Parameters
        ----------
        image : `torch.Tensor`
            (N, 1, H, W) float32.

        Returns
        -------
        `torch.Tensor`
            (N, 1, H, W) float32.
        """
        maps = {IMAGE: image}
        for block in self.blocks:
            inputs = [maps[name] for name in block.inputs]
            maps[block.name] = self._run(block, inputs)
            for name in self._done[block.name]:
                del maps[name]
        return maps[block.name]

    def _run(self, block, inputs):
        if block.convolutions:
            together = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
            return self.get_submodule(block.name)(together)
        if block.operation == "pool":
            return nn.functional.max_pool2d(inputs[0], 2)
        if block.operation == "add":
            return torch.relu(inputs[0] + inputs[1])
        return inputs[0] * inputs[1]


def _module(block):
    """Return the convolutions of a block as a torch module."""
    if block.operation == "upsample":
        (only,) = block.convolutions
        return nn.ConvTranspose2d(sum(only.inputs), only.outputs, only.side, stride=2)
    modules = []
    for convolution in block.convolutions:
        inputs, side = sum(convolution.inputs), convolution.side
        modules.append(nn.Conv2d(inputs, convolution.outputs, side, padding=side // 2))
        if convolution.normalisation:
            modules.append(normalise(convolution.normalisation, convolution.outputs))
        if convolution.activation:
            modules.append(_ACTIVATIONS[convolution.activation]())
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)
