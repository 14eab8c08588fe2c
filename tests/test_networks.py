import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crattn_stage.models.architectures import ARCHITECTURES, tensor_shapes
from crattn_stage.models.cards import TILING, ModelCard
from crattn_stage.models.networks import build, receptive_radius, restore
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


@pytest.mark.parametrize("name", ["deepcr", "att-deepcr"])
def test_receptive_radius_is_what_a_far_pixel_confirms(name):
    radius = receptive_radius(name)
    assert radius == 23
    network = build(name).eval()
    image = torch.zeros(1, 1, 96, 96)
    with torch.no_grad():
        before = network(image)
        image[0, 0, 47, 47] = 5.0
        changed = (network(image) != before)[0, 0].nonzero()
    assert (changed - 47).abs().max() <= radius


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
