"""Model cards and weights: find, verify, load, save.

A model is two files side by side: ``NAME.safetensors`` and its card,
``NAME.json``.  Shipped models lie in `WEIGHTS`.
"""

import hashlib
import json
import math
import os
import re
from dataclasses import MISSING, asdict, dataclass, field, fields
from numbers import Real
from pathlib import Path

import safetensors
import safetensors.numpy

from crattn_stage import __version__
from crattn_stage.errors import ModelError
from crattn_stage.fits.atomic import replacing
from crattn_stage.models.architectures import (
    ARCHITECTURES,
    SCALINGS,
    blocks,
    receptive_radius,
    tensor_shapes,
    tile_steps,
)
from crattn_stage.models.baselines import BASELINES, identity

WEIGHTS = Path(__file__).parent / "weights"
#: Before the names of the tensors of the second weights, for frames whose stars are as narrow as hits.
NARROW = "narrow."
DEFAULT = "fast"
#: How the networks are tiled: the halo covers what an output pixel sees.
TILING = {"tile": 256, "halo": 24, "receptive_radius": receptive_radius("deepcr")}


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
        How far an output pixel sees, as from
        `crattn_stage.models.architectures.receptive_radius`; pixels.
    channels : int
        At full resolution, as for `crattn_stage.models.networks.build`.
    input_ranges : dict
        Convolution -> lowest and highest value of each of its inputs on validation
        patches; an engine may calculate those in 8-bit integers.
    narrow : dict
        Of the second weights, for frames whose stars are as narrow as hits: "input_ranges", "training" and "metrics",
        as for the first ones; empty if there are none.
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
    narrow: dict = field(default_factory=dict)
    trained_on: str = ""
    training: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    code_version: str = __version__
    date: str = ""
    licence: str = ""


def shipped():
    """Return the names of the models in the package; baselines, which have no weights, are not among them.

    Examples
    --------
    >>> shipped()
    ['att-cosmic-conn', 'att-deepcr', 'cosmic-conn', 'deepcr', 'fast']
    """
    return sorted(path.stem for path in WEIGHTS.glob("*.json"))


def find(model=None):
    """Return the path of a model's weights.

    Parameters
    ----------
    model : str or path-like, optional
        A shipped name, the path of a weights file, or `DEFAULT` if None.

    Returns
    -------
    `pathlib.Path`

    Raises
    ------
    ModelError
        If there is no such model, or it is a baseline, which has no weights.
    """
    name = os.fspath(model or DEFAULT)
    if name in BASELINES:
        raise ModelError(f"{name} is a baseline without weights")
    path = WEIGHTS / f"{name}.safetensors" if name in shipped() else Path(name)
    if path.suffix != ".safetensors" or not path.is_file():
        known = ", ".join([*shipped(), *BASELINES])
        raise ModelError(f"unknown model {name!r}: neither shipped ({known}) nor a .safetensors file")
    return path


def read_card(model=None):
    """Read the card of a model without touching its weights.

    Parameters
    ----------
    model : str or path-like, optional
        As for `find`, or the name of a baseline.

    Returns
    -------
    `ModelCard`

    Raises
    ------
    ModelError
        If the model is unknown, or its card is missing or has a field that is wrong:
        the message names the file and the field.

    Examples
    --------
    >>> card = read_card("fast")
    >>> card.architecture, card.channels, card.scaling
    ('att-deepcr', 16, 'asinh')
    """
    if model in BASELINES:
        return _baseline_card(model)
    path = find(model).with_suffix(".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: not a valid model card: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path}: not a valid model card: not JSON: {error}") from error
    try:
        return _checked_card(content)
    except ValueError as error:
        raise ModelError(f"{path}: not a valid model card: {error}") from error


def _baseline_card(name):
    version, sha256 = identity(name)
    return ModelCard(
        name=name,
        architecture=name,
        sha256=sha256,
        scaling="none",
        threshold=0.5,
        tile=0,
        halo=0,
        receptive_radius=0,
        trained_on="nothing: a baseline without weights",
        training={"settings": BASELINES[name]},
        code_version=version,
    )


def _number(low, high):
    def check(value):
        return isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high

    return check, f"a number from {low:g} to {high:g}"


def _whole(low):
    def check(value):
        return isinstance(value, int) and not isinstance(value, bool) and value >= low

    return check, f"a whole number of at least {low}"


def _text(pattern=r".*"):
    # What a card says is printed and goes into headers: no control characters.
    return lambda value: isinstance(value, str) and value.isprintable() and bool(re.fullmatch(pattern, value))


_OBJECT = (lambda value: isinstance(value, dict), "an object")
_LINE = (_text(), "a line of printable text")
#: Field of a card -> a function that accepts its value, and what that must be.
_FIELDS = {
    "name": (_text(r"[ -.0-~]{1,64}"), "1 to 64 printable ASCII characters without a slash"),
    "architecture": (lambda value: value in list(ARCHITECTURES), f"one of {', '.join(ARCHITECTURES)}"),
    "sha256": (_text("[0-9a-f]{64}"), "64 hexadecimal digits"),
    "scaling": (lambda value: value in SCALINGS, f"one of {', '.join(SCALINGS)}"),
    "threshold": _number(0, 1),
    "tile": _whole(4),
    "halo": _whole(0),
    "receptive_radius": _whole(0),
    "channels": _whole(1),
    "false_positive_rate": (lambda value: value is None or _number(0, 1)[0](value), "null or a number from 0 to 1"),
    "input_ranges": _OBJECT,
    "narrow": _OBJECT,
    "trained_on": _LINE,
    "training": _OBJECT,
    "metrics": _OBJECT,
    "code_version": _LINE,
    "date": _LINE,
    "licence": _LINE,
}


def _checked_card(content):
    """Return the card that a JSON document holds, or raise ValueError with the field that is wrong."""
    if not isinstance(content, dict):
        raise ValueError("not an object of fields")
    for name in content:
        if name not in _FIELDS:
            raise ValueError(f"{name!r}: unknown field")
    for given in fields(ModelCard):
        if given.name in content:
            accepts, wanted = _FIELDS[given.name]
            if not accepts(content[given.name]):
                raise ValueError(f"{given.name}: {_shown(content[given.name])} is not {wanted}")
        elif given.default is MISSING and given.default_factory is MISSING:
            raise ValueError(f"{given.name}: missing")
    card = ModelCard(**content)
    try:
        described = blocks(card.architecture, card.channels)
    except ValueError as error:
        raise ValueError(f"channels: {error}") from error
    radius = max(card.receptive_radius, receptive_radius(card.architecture))
    if card.halo < radius:
        raise ValueError(f"halo: {card.halo} pixels are fewer than the {radius} that an output pixel sees")
    try:
        tile_steps(card.tile, card.halo)
    except ValueError as error:
        raise ValueError(f"tile: {error}") from error
    _check_ranges(card.input_ranges, described)
    if card.narrow:
        for name in ("input_ranges", "training", "metrics"):
            if not _OBJECT[0](card.narrow.get(name)):
                raise ValueError(f"narrow: no object {name} in it")
        _check_ranges(card.narrow["input_ranges"], described)
    return card


def _check_ranges(ranges, described):
    inputs = {convolution.name: len(convolution.inputs) for block in described for convolution in block.convolutions}
    finite = _number(-math.inf, math.inf)[0]
    for name, limits in ranges.items():
        if name not in inputs:
            raise ValueError(f"input_ranges: {_shown(name)} is not a convolution of the network")
        if not isinstance(limits, list) or len(limits) != inputs[name]:
            raise ValueError(f"input_ranges: {name}: not a list of {inputs[name]} ranges")
        for pair in limits:
            if not (
                isinstance(pair, list)
                and len(pair) == 2
                and all(finite(x) and math.isfinite(x) for x in pair)
                and pair[0] < pair[1]
            ):
                raise ValueError(f"input_ranges: {name}: {_shown(pair)} is not a lower and a higher number")


def _shown(value):
    """Return a value of a card for a message: escaped, and not longer than a line."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def load(model=None, narrow=False):
    """Load the first weights of a model, or the second ones, as `load_both` does.

    Parameters
    ----------
    model : str or path-like, optional
        As for `find`.
    narrow : bool
        The second weights, for frames whose stars are as narrow as hits, if the model has any.

    Returns
    -------
    card : `ModelCard`
    tensors : dict of str to `numpy.ndarray`
        As `crattn_stage.models.architectures.tensor_shapes` says.

    Raises
    ------
    ModelError
        As `load_both`.
    """
    card, tensors, second = load_both(model)
    return card, (narrow and second) or tensors


def load_both(model=None):
    """Load a model and verify its weights against the card.

    Parameters
    ----------
    model : str or path-like, optional
        As for `find`.

    Returns
    -------
    card : `ModelCard`
    tensors, narrow : dict of str to `numpy.ndarray`
        As `crattn_stage.models.architectures.tensor_shapes` says.  The second ones, for frames whose stars are as
        narrow as hits, are empty if the model has none.

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
        every = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: not weights of {card.architecture}: {error}") from error
    narrow = {name.removeprefix(NARROW): array for name, array in every.items() if name.startswith(NARROW)}
    tensors = {name: array for name, array in every.items() if not name.startswith(NARROW)}
    if bool(card.narrow) != bool(narrow):
        raise ModelError(f"{path}: second weights in {'the card' if card.narrow else 'the file'} alone")
    for some in (tensors, narrow) if narrow else (tensors,):
        check_tensors(some, card.architecture, card.channels, path)
    return card, tensors, narrow


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


def save(tensors, card, folder, narrow=None):
    """Write a model's weights and card.

    Parameters
    ----------
    tensors : dict of str to `numpy.ndarray`
    card : dict
        Fields of `ModelCard` but the sha256, which is computed.
    folder : path-like
    narrow : dict of str to `numpy.ndarray`, optional
        Second weights, for frames whose stars are as narrow as hits.

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
    content = safetensors.numpy.save(tensors | {NARROW + name: array for name, array in (narrow or {}).items()})
    card = ModelCard(sha256=hashlib.sha256(content).hexdigest(), **card)
    fields_of_card = asdict(card)
    if not card.narrow:
        # A version that does not know it can read the card, too.
        del fields_of_card["narrow"]
    text = (json.dumps(fields_of_card, indent=2) + "\n").encode()
    with replacing([folder / f"{card.name}{suffix}" for suffix in (".safetensors", ".json")], overwrite=True) as files:
        for stream, data in zip(files, (content, text), strict=True):
            stream.write(data)
    return card
