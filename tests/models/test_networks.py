import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crattn_stage.models.architectures import (
    ARCHITECTURES,
    STRIDE,
    Architecture,
    blocks,
    needed_borders,
    receptive_radius,
    tensor_shapes,
)
from crattn_stage.models.cards import TILING, ModelCard
from crattn_stage.models.networks import UNet, build, normalise, restore
from crattn_stage.models.released import import_released

#: Paper, Table 3; att-deepcr as its authors released it.
PARAMETERS = {"deepcr": 467_233, "att-deepcr": 472_695, "cosmic-conn": 465_953, "att-cosmic-conn": 471_219}
RELEASED = {
    "deepcr": "deepCR.pth",
    "att-deepcr": "Att_deepCR.pth",
    "cosmic-conn": "Coasmic_CoNN.pth",
    "att-cosmic-conn": "Att_Coasmic_CoNN.pth",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameter_counts_are_those_of_the_paper(name):
    assert sum(p.numel() for p in build(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_output_is_logits_of_the_input_shape(name):
    network = build(name).eval()
    torch.nn.init.constant_(network.head.bias, -5.0)
    with torch.no_grad():
        logits = network(torch.randn(2, 1, 32, 48) * 10)
    assert logits.shape == (2, 1, 32, 48) and logits.dtype == torch.float32
    assert logits.min() < 0  # a sigmoid would forbid it


def test_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="unknown architecture 'unet'"):
        build("unet")


def measured_radius(attention):
    """Follow the gradient of each pixel of a pooling cell back to the input, through positive weights alone."""
    network = UNet(blocks(Architecture("batch", attention), 8)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    size, centre, radius = 96, 48, 0
    for row in range(centre, centre + STRIDE):
        # A ramp, so that each maximum is taken by a known corner; both ramps are needed.
        for sign in (1, -1):
            ramp = torch.arange(size, dtype=torch.float32).mul(sign).add(size)
            image = (ramp[:, None] + ramp[None, :])[None, None].requires_grad_()
            network(image)[0, 0, row, row].backward()
            seen = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
            radius = max(radius, row - int(seen.min()), int(seen.max()) - row)
    return radius


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_receptive_radius_is_what_the_gradient_measures(name):
    assert receptive_radius(name) == measured_radius(ARCHITECTURES[name].attention) == 23


def test_a_square_of_the_output_needs_a_border_of_each_map():
    borders = needed_borders("att-deepcr")
    assert [borders[f"encoder{level}"] for level in (3, 2, 1)] == [2, 8, 20]
    assert borders["head"] == 0 and borders["image"] == 22


@pytest.mark.parametrize(
    ("architecture", "channels", "cause"),
    [
        ("unet", 32, "unknown architecture 'unet'"),
        (Architecture("layer", ""), 32, "unknown normalisation 'layer'"),
        (Architecture("batch", "self"), 32, "unknown attention 'self'"),
        ("att-deepcr", 33, "33 channels cannot be halved"),
        ("cosmic-conn", 12, "12 channels cannot be divided into 8 groups"),
        ("deepcr", 0, "0 channels"),
    ],
)
@pytest.mark.parametrize("use", [blocks, tensor_shapes, lambda *what: UNet(blocks(*what))])
def test_what_is_unknown_is_refused_everywhere(use, architecture, channels, cause):
    with pytest.raises(ValueError, match=cause):
        use(architecture, channels)


def test_an_unknown_normalisation_makes_no_layer():
    with pytest.raises(ValueError, match="unknown normalisation 'layer'"):
        normalise("layer", 8)


def evaluate_independently(state, image):
    """Evaluate a released state dict with functional calls alone, after the paper's Fig. 2-3."""
    state = {name.removeprefix("module."): tensor.double() for name, tensor in state.items()}

    def normalise(x, name, groups):
        if f"{name}.running_mean" in state:
            mean, var, w, b = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
            return F.batch_norm(x, mean, var, w, b, eps=1e-5)
        return F.group_norm(x, groups)

    def convolve(x, name, **options):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def double(x, name):
        for first, second in ((0, 1), (3, 4)):
            x = F.relu(normalise(convolve(x, f"{name}.{first}", padding=1), f"{name}.{second}", 8))
        return x

    def up(deep, skip, name):
        deep = F.conv_transpose2d(deep, state[f"{name}.up_conv.weight"], state[f"{name}.up_conv.bias"], stride=2)
        if f"{name}.attention.psi.0.weight" in state:
            gate = normalise(convolve(deep, f"{name}.attention.W_gate.0"), f"{name}.attention.W_gate.1", 8)
            own = normalise(convolve(skip, f"{name}.attention.W_x.0"), f"{name}.attention.W_x.1", 8)
            psi = convolve(F.relu(gate + own), f"{name}.attention.psi.0")
            skip = skip * torch.sigmoid(normalise(psi, f"{name}.attention.psi.1", 1))
        return double(torch.cat([skip, deep], 1), f"{name}.conv.conv")

    fine = double(image.double(), "inc.conv.conv")
    middle = double(F.max_pool2d(fine, 2), "down1.down_cov.1.conv")
    coarse = double(F.max_pool2d(middle, 2), "down2.down_cov.1.conv")
    return torch.sigmoid(convolve(up(up(coarse, middle, "up2"), fine, "up1"), "outc.conv"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_released_checkpoints_evaluate_as_independently(name, data):
    path = data / "reference_checkpoints" / RELEASED[name]
    state = torch.load(path, weights_only=True, map_location="cpu")
    rng = np.random.default_rng(3)
    image = rng.normal(300, 9, (2, 1, 64, 64))
    image[:, :, 20:24, 10:40] += 400
    image = torch.from_numpy(image.astype(np.float32))
    with torch.no_grad():
        card = ModelCard("", name, "", "none", 0.5, **TILING)
        ours = torch.sigmoid(restore(card, import_released(path, name))(image))
        theirs = evaluate_independently(state, image)
    assert (ours - theirs).abs().max() < 1e-5
    assert ours.max() > 0.5 > ours.min()


@pytest.mark.parametrize("channels", [16, 32])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_tensors_are_those_that_are_promised(name, channels):
    shapes = {key: tuple(tensor.shape) for key, tensor in build(name, channels).state_dict().items()}
    assert tensor_shapes(name, channels) == shapes
