"""The four networks of the paper, from one U-Net.

Normalisation and attention are arguments; an architecture is a line in
`ARCHITECTURES`.  Bhavanam et al. (2022, arXiv:2207.10411), Sec. 3 and Fig. 2-3;
attention gate after Oktay et al. (2018, arXiv:1804.03999).

Trainable parameters: deepcr 467,233, cosmic-conn 465,953 and att-cosmic-conn
471,219, as in the paper's Table 3; att-deepcr 472,695, as in the checkpoint
the authors released, 192 fewer than the table says.
"""

import torch
from torch import nn

from crattn_stage.models.architectures import ARCHITECTURES, STRIDE, groups


def build(name, channels=32):
    """Return an untrained network.

    Parameters
    ----------
    name : {"deepcr", "att-deepcr", "cosmic-conn", "att-cosmic-conn"}
    channels : int
        Channels at full resolution; 32 in the paper.  A multiple of 16.

    Returns
    -------
    `torch.nn.Module`
        Maps (N, 1, H, W) float32 to (N, 1, H, W) **logits**; H and W are
        multiples of `STRIDE`.

    Raises
    ------
    ValueError
        If the name is not one of the four.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {name!r}; known: {', '.join(ARCHITECTURES)}")
    normalisation, attention = ARCHITECTURES[name]
    return UNet(normalisation, attention, channels)


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
        If the kind is group and 8 groups do not divide the channels.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels, momentum=0.005)
    return nn.GroupNorm(groups(channels), channels, affine=False)


class DoubleConvolution(nn.Sequential):
    """Two 3x3 convolutions, each normalised and rectified.

    Parameters
    ----------
    kind : {"batch", "group"}
        As for `normalise`.
    inputs, outputs : int
        Channels.  Maps (N, inputs, H, W) to (N, outputs, H, W).
    """

    def __init__(self, kind, inputs, outputs):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            normalise(kind, outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            normalise(kind, outputs),
            nn.ReLU(inplace=True),
        )


class AttentionGate(nn.Module):
    """Additive attention on a skip connection: skip * alpha(skip, gate).

    Oktay et al. (2018, arXiv:1804.03999).

    Parameters
    ----------
    kind : {"batch", "group"}
        As for `normalise`.
    channels : int
        Of skip and gate, both (N, channels, H, W), and of the result.
    """

    def __init__(self, kind, channels):
        super().__init__()
        inner = channels // 2
        self.gate = nn.Sequential(nn.Conv2d(channels, inner, 1), normalise(kind, inner))
        self.skip = nn.Sequential(nn.Conv2d(channels, inner, 1), normalise(kind, inner))
        self.alpha = nn.Sequential(nn.Conv2d(inner, 1, 1), normalise(kind, 1), nn.Sigmoid())

    def forward(self, skip, gate):
        return skip * self.alpha(torch.relu(self.gate(gate) + self.skip(skip)))


class Up(nn.Module):
    """Upsample, gate the skip connection if asked, concatenate (skip first), convolve.

    Parameters
    ----------
    kind : {"batch", "group"}
        As for `normalise`.
    attention : bool
    channels : int
        Of the skip connection, (N, channels, H, W), and of the result.  The
        deeper level is (N, 2 channels, H / 2, W / 2).
    """

    def __init__(self, kind, attention, channels):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.attention = AttentionGate(kind, channels) if attention else None
        self.convolutions = DoubleConvolution(kind, 2 * channels, channels)

    def forward(self, deep, skip):
        deep = self.upsample(deep)
        if self.attention is not None:
            skip = self.attention(skip, deep)
        return self.convolutions(torch.cat([skip, deep], dim=1))


class UNet(nn.Module):
    """U-Net-3: three levels of `channels`, 2x and 4x `channels`, and a 1x1 head.

    Maps as described for `build`.

    Parameters
    ----------
    normalisation : {"batch", "group"}
        As for `normalise`.
    attention : bool
    channels : int
        As for `build`.
    """

    def __init__(self, normalisation, attention, channels=32):
        super().__init__()
        self.encoder1 = DoubleConvolution(normalisation, 1, channels)
        self.encoder2 = DoubleConvolution(normalisation, channels, 2 * channels)
        self.encoder3 = DoubleConvolution(normalisation, 2 * channels, 4 * channels)
        self.up2 = Up(normalisation, attention, 2 * channels)
        self.up1 = Up(normalisation, attention, channels)
        self.head = nn.Conv2d(channels, 1, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image):
        fine = self.encoder1(image)
        middle = self.encoder2(self.pool(fine))
        coarse = self.encoder3(self.pool(middle))
        return self.head(self.up1(self.up2(coarse, middle), fine))


def receptive_radius(name="deepcr"):
    """Return how far, in pixels, an output pixel of a network can see.

    Measured, not guessed: the gradient of each output pixel of one pooling
    cell is followed back to the input, through a network whose weights are all
    positive and whose normalisation is the identity.  Group normalisation,
    which sees the whole tile, is left out of it.

    Parameters
    ----------
    name : str
        One of `ARCHITECTURES`.

    Returns
    -------
    int

    Raises
    ------
    KeyError
        If the name is not one of the four.
    """
    _, attention = ARCHITECTURES[name]
    network = UNet("batch", attention, channels=8).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    size, centre, radius = 96, 48, 0
    for offset in range(STRIDE):
        # A ramp, so that each maximum is taken by a known corner; both ramps are needed.
        for sign in (1, -1):
            ramp = torch.arange(size, dtype=torch.float32).mul(sign).add(size)
            image = (ramp[:, None] + ramp[None, :])[None, None].requires_grad_()
            row = centre + offset
            network(image)[0, 0, row, row].backward()
            seen = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
            radius = max(radius, row - int(seen.min()), int(seen.max()) - row)
    return radius
