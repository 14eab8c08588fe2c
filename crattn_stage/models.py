"""Model cards and weights: find, verify, load, import.

A model is two files side by side: ``NAME.safetensors`` and its card,
``NAME.json``.  Shipped models lie in `WEIGHTS`.
"""

import hashlib
import json
import os
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from crattn_stage import __version__
from crattn_stage.atomic import replacing
from crattn_stage.errors import ModelError
from crattn_stage.networks import ARCHITECTURES, build
from crattn_stage.preparation import SCALINGS
from crattn_stage.tiling import centres

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "att-deepcr"
#: How the four networks are tiled: the halo covers the 23 pixels that one can see.
TILING = {"tile": 256, "halo": 24, "receptive_radius": 23}


@dataclass(frozen=True)
class ModelCard:
    """What a model is and how to feed it.

    Attributes
    ----------
    name, architecture : str
    sha256 : str
        Of the weights file, hexadecimal.
    scaling : {"asinh", "none"}
        See `crattn_stage.preparation.scale`.
    threshold : float
        Default probability above which a pixel is a cosmic ray.
    false_positive_rate : float or None
        The rate on clean pixels that the threshold was set for.
    tile, halo : int
        Tile side and halo in pixels.
    receptive_radius : int
        Measured by `crattn_stage.networks.receptive_radius`, pixels.
    channels : int
        At full resolution, as for `crattn_stage.networks.build`.
    trained_on, training, metrics : str, dict, dict
        Data, configuration, and figures with the command that made them.
    code_version, date, licence : str
    """

    name: str
    architecture: str
    sha256: str
    scaling: str
    threshold: float
    tile: int
    halo: int
    receptive_radius: int
    channels: int = 32
    false_positive_rate: float | None = None
    trained_on: str = ""
    training: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    code_version: str = __version__
    date: str = ""
    licence: str = ""


def shipped():
    """Return the names of the models in the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.json"))


def find(model=None):
    """Return the path of a model's weights.

    Parameters
    ----------
    model : str or path-like, optional
        A shipped name, the path of a weights file, or None for `DEFAULT`.

    Returns
    -------
    `pathlib.Path`

    Raises
    ------
    ModelError
        If there is no such model.
    """
    name = os.fspath(model or DEFAULT)
    path = WEIGHTS / f"{name}.safetensors" if name in shipped() else Path(name)
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelError(f"unknown model {name!r}: neither shipped ({', '.join(shipped())}) nor a .safetensors file")
    return path


def read_card(model=None):
    """Read the card of a model without touching its weights.

    Parameters
    ----------
    model : str or path-like, optional
        As for `find`.

    Returns
    -------
    `ModelCard`

    Raises
    ------
    ModelError
        If the model is unknown or its card is missing or malformed.
    """
    path = find(model).with_suffix(".json")
    try:
        card = ModelCard(**json.loads(path.read_text()))
        centres((1, 1), card.tile, card.halo)
        if card.scaling not in SCALINGS or card.architecture not in ARCHITECTURES:
            raise ValueError(f"scaling {card.scaling!r}, architecture {card.architecture!r}")
        return card
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: no valid model card: {error}") from error


def load(model=None):
    """Load a model and verify its weights against the card.

    Parameters
    ----------
    model : str or path-like, optional
        As for `find`.

    Returns
    -------
    card : `ModelCard`
    network : `torch.nn.Module`
        In evaluation mode.

    Raises
    ------
    ModelError
        If the model is unknown, its sha256 differs from the card's, or the
        file holds anything but the tensors of its architecture.
    """
    path, card = find(model), read_card(model)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise ModelError(f"{path}: sha256 is {found[:16]}..., its card says {card.sha256[:16]}...")
    try:
        network = build(card.architecture, card.channels)
        network.load_state_dict(safetensors.torch.load(content))
    except (safetensors.SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: not weights of {card.architecture}: {_first_line(error)}") from error
    return card, network.eval()


def save(network, card, folder):
    """Write a model's weights and card.

    Parameters
    ----------
    network : `torch.nn.Module`
    card : dict
        Fields of `ModelCard` but the sha256, which is computed.
    folder : path-like

    Returns
    -------
    `ModelCard`

    Raises
    ------
    TypeError
        If the card lacks a field of `ModelCard` or has one too many.
    OSError
        If they cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    content = safetensors.torch.save(tensors)
    card = ModelCard(sha256=hashlib.sha256(content).hexdigest(), **card)
    text = (json.dumps(asdict(card), indent=2) + "\n").encode()
    with replacing([folder / f"{card.name}{suffix}" for suffix in (".safetensors", ".json")], overwrite=True) as files:
        for stream, data in zip(files, (content, text), strict=True):
            stream.write(data)
    return card


#: Module names in the checkpoints the paper's authors released -> ours.
RELEASED_NAMES = {
    "inc.conv.conv.": "encoder1.",
    "down1.down_cov.1.conv.": "encoder2.",
    "down2.down_cov.1.conv.": "encoder3.",
    "up2.up_conv.": "up2.upsample.",
    "up2.conv.conv.": "up2.convolutions.",
    "up2.attention.W_gate.": "up2.attention.gate.",
    "up2.attention.W_x.": "up2.attention.skip.",
    "up2.attention.psi.": "up2.attention.alpha.",
    "up1.up_conv.": "up1.upsample.",
    "up1.conv.conv.": "up1.convolutions.",
    "up1.attention.W_gate.": "up1.attention.gate.",
    "up1.attention.W_x.": "up1.attention.skip.",
    "up1.attention.psi.": "up1.attention.alpha.",
    "outc.conv.": "head.",
}


def import_released(path, architecture):
    """Read a checkpoint the paper's authors released.

    In their batch-norm networks one module serves twice in a block; its two
    entries hold the same tensors, so separate modules give the same outputs.

    Parameters
    ----------
    path : path-like
        A state dict written by `torch.save`; read with ``weights_only=True``.
    architecture : str
        One of `crattn_stage.networks.ARCHITECTURES`.

    Returns
    -------
    `torch.nn.Module`
        In evaluation mode; expects raw counts (ADU, sky included).

    Raises
    ------
    ModelError
        If the file is no such checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, IndexError) as error:
        raise ModelError(f"{path}: not a checkpoint of tensors alone") from error
    network = build(architecture)
    try:
        network.load_state_dict({_renamed(name): tensor for name, tensor in state.items()})
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ModelError(f"{path}: not a released checkpoint of {architecture}; are all its tensors there?") from error
    return network.eval()


def _renamed(name):
    name = name.removeprefix("module.")
    for theirs, ours in RELEASED_NAMES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    raise KeyError(f"unexpected tensor {name!r}")


def _first_line(error):
    # torch puts the list of tensors, or advice on how to load unsafely, on further lines.
    return " ".join(str(error).split("\n", 2)[:2]).strip()[:200]
