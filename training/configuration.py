"""How a network is trained: one frozen set of values, read from a TOML file."""

import os
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files

from crattn_stage.models.architectures import ARCHITECTURES

#: Patch side (pixels) and patches per step, by normalisation.  A group-norm network is trained
#: at the tile size it will run at, because its output depends on it.
SHAPES = {"batch": (128, 16), "group": (256, 4)}
OPTIMISERS = ("AdamW", "Adam")


@dataclass(frozen=True)
class Configuration:
    """How a network is trained.

    Attributes
    ----------
    architecture : str
        One of `crattn_stage.models.architectures.ARCHITECTURES`.
    channels : int
        At full resolution; a multiple of 16.  16 is a quarter of the arithmetic of 32.
    seed : int
        Of the first weights and of all patches.
    steps : int
    peak : float
        Highest learning rate.
    optimiser : {"AdamW", "Adam"}
    scaling : {"asinh", "none"}
        Of the input, see `crattn_stage.detection.preprocessing.scale`.
    contamination : {"electrons", "paper"}
        How hits are added, see `training.data.patches.CONTAMINATIONS`.
    patch, batch : int
        Side of a patch in pixels, and patches per step; 0 for those of `SHAPES`.
    cool_down : float
        Fraction of the steps, the last, in which batch-norm statistics are frozen.
    epochs : int
        Number of epochs the run is divided into.  After each the validation loss is measured,
        and the rate divided by 10 when the loss has not fallen by 0.1% for four of them.  With
        0 the rate warms up, stays, and falls to zero in the cool-down.
    average : float
        Decay per step of a running mean of the weights, which is then the result; 0 for none.
    hard : float
        Fraction of the patches on `training.data.hard_skies`; 0 for none.
    narrow : bool
        Whether all skies are undersampled, with stars of less than 2.2 pixels FWHM.
    minutes : float
        Time for the training: the rate falls with the time that is left, and the run ends when
        none is, or after `steps`.  0 for no limit.
    start_from : str
        A model of ours, as for `crattn_stage.models.cards.find`, whose tensors are the first
        guess of those of the same name, its second ones, if any, if `narrow`; from scratch if empty.
    """

    architecture: str = "att-deepcr"
    channels: int = 32
    seed: int = 0
    steps: int = 4300
    peak: float = 3e-3
    optimiser: str = "AdamW"
    scaling: str = "asinh"
    contamination: str = "electrons"
    patch: int = 0
    batch: int = 0
    cool_down: float = 0.4
    epochs: int = 0
    average: float = 0.0
    hard: float = 0.0
    narrow: bool = False
    minutes: float = 0.0
    start_from: str = ""

    def __post_init__(self):
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {self.architecture!r}; known: {', '.join(ARCHITECTURES)}")
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"unknown optimiser {self.optimiser!r}; known: {', '.join(OPTIMISERS)}")
        if not 0 <= self.hard <= 1 or not 0 <= self.minutes < float("inf"):
            raise ValueError(f"hard = {self.hard} is not from 0 to 1, or minutes = {self.minutes} not 0 or more")
        side, count = SHAPES[ARCHITECTURES[self.architecture][0]]
        object.__setattr__(self, "patch", self.patch or side)
        object.__setattr__(self, "batch", self.batch or count)

    def same_run(self, other):
        """Return whether a run may go on with another configuration: they differ in `steps` and `minutes` at most."""
        return replace(self, steps=other.steps, minutes=other.minutes) == other

    def as_dict(self):
        """Return the values as plain data."""
        return asdict(self)


def shipped_recipes():
    """Return the names of the recipes in the package.

    >>> shipped_recipes()
    ['adapt', 'fine-tune-att-cosmic-conn', 'fine-tune-att-deepcr', 'fine-tune-cosmic-conn', 'fine-tune-deepcr',
     'fine-tune-fast', 'fine-tune-narrow', 'ours', 'paper']
    """
    return sorted(
        entry.name[:-5] for entry in files("training").joinpath("recipes").iterdir() if entry.name.endswith(".toml")
    )


def read_configuration(recipe="ours", **changes):
    """Read a configuration.

    Parameters
    ----------
    recipe : str or path-like
        Name of a shipped recipe, or path of a TOML file with fields of `Configuration`.
    **changes
        Fields that differ from the file's; None for no difference.

    Returns
    -------
    `Configuration`

    Raises
    ------
    ValueError
        If there is no such recipe, or the file has a field that `Configuration` has not.

    Examples
    --------
    >>> read_configuration("paper", architecture="deepcr", steps=100).optimiser
    'Adam'
    """
    recipe = os.fspath(recipe)
    if recipe in shipped_recipes():
        text = files("training").joinpath("recipes", f"{recipe}.toml").read_text()
    else:
        try:
            with open(recipe, encoding="utf-8") as stream:
                text = stream.read()
        except OSError as error:
            raise ValueError(
                f"{recipe}: neither a shipped recipe ({', '.join(shipped_recipes())}) nor a file: {error.strerror}"
            ) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{recipe}: {error}") from error
    unknown = sorted(values.keys() - {field.name for field in fields(Configuration)})
    if unknown:
        raise ValueError(f"{recipe}: unknown field {unknown[0]!r}")
    return Configuration(**values | {key: value for key, value in changes.items() if value is not None})
