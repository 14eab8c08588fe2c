"""Model cards and weights: find, verify, load, import.

A model is two files side by side: ``NAME.safetensors`` and its card,
``NAME.json``.  Shipped models lie in `WEIGHTS`.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.numpy

from crattn_stage import __version__
from crattn_stage.detection.preprocessing import SCALINGS
from crattn_stage.detection.tiling import centres
from crattn_stage.errors import ModelError
from crattn_stage.fits.atomic import replacing
from crattn_stage.models.architectures import ARCHITECTURES, tensor_shapes

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "fast"
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
        See `crattn_stage.detection.preprocessing.scale`.
    threshold : float
        Default probability above which a pixel is a cosmic ray.
    false_positive_rate : float or None
        The rate on clean pixels that the threshold was set for.
    tile, halo : int
        Tile side and halo in pixels.
    receptive_radius : int
        Measured by `crattn_stage.models.networks.receptive_radius`, pixels.
    channels : int
        At full resolution, as for `crattn_stage.models.networks.build`.
    input_ranges : dict
        Convolution -> lowest and highest value of each of its inputs, on validation
        patches: an engine may calculate those in 8-bit integers.
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
    input_ranges: dict = field(default_factory=dict)
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
        if not all(low < high for limits in card.input_ranges.values() for low, high in limits):
            raise ValueError("input ranges")
        return card
    except (OSError, ValueError, TypeError, AttributeError) as error:
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
    tensors : dict of str to `numpy.ndarray`
        As `crattn_stage.models.architectures.tensor_shapes` says.

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
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: not weights of {card.architecture}: {error}") from error
    check_tensors(tensors, card.architecture, card.channels, path)
    return card, tensors


def check_tensors(tensors, architecture, channels, path):
    """Refuse tensors that are not those of an architecture.

    Parameters
    ----------
    tensors : dict of str to `numpy.ndarray`
    architecture, channels
        As for `crattn_stage.models.architectures.tensor_shapes`.
    path : path-like
        Where they come from.

    Raises
    ------
    ModelError
        If one is missing, is of another shape or is not real, or there is one too many.
    """
    expected = tensor_shapes(architecture, channels)
    found = {name: array.shape for name, array in tensors.items() if array.dtype.kind in "fi"}
    wrong = sorted(name for name in expected.keys() | tensors.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise ModelError(f"{path}: not weights of {architecture} with {channels} channels: {wrong[0]}")


def save(tensors, card, folder):
    """Write a model's weights and card.

    Parameters
    ----------
    tensors : dict of str to `numpy.ndarray`
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
    content = safetensors.numpy.save(tensors)
    card = ModelCard(sha256=hashlib.sha256(content).hexdigest(), **card)
    text = (json.dumps(asdict(card), indent=2) + "\n").encode()
    with replacing([folder / f"{card.name}{suffix}" for suffix in (".safetensors", ".json")], overwrite=True) as files:
        for stream, data in zip(files, (content, text), strict=True):
            stream.write(data)
    return card
