"""How well cosmic rays are filled: bias and scatter of our fills and others', where the truth is known."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from crattn_stage.products.fill import FILLS, fill_holes
from training.data.contamination import contaminate
from training.evaluation.peer_process import run_isolated
from training.evaluation.peer_runner import FILLERS
from training.evaluation.scene_sets import clean_skies
from training.evaluation.tables import Table, write_report

#: Kind of scenes -> what is looked at in them.
SCENES = {"sky:300": "sky", "stars:2.2": "stars", "stars:4": "stars", "galaxies": "galaxies"}
#: Hits per million pixels, so that many fall on stars.
DENSITY = 700
#: Light, averaged over 5x5 pixels, below which a pixel is of the sky, and above which of an object; noise of the sky.
DARK, BRIGHT = 0.6, 2.0
#: Text file and table in the output folder.
TEXT = "fill.txt"


@dataclass
class Errors:
    """What a method makes of the pixels of hits.

    Attributes
    ----------
    errors : `numpy.ndarray`
        Filled minus true pixels, in units of the noise of the true ones.
    stated : `numpy.ndarray` or None
        The same in units of the standard deviation that is stated; None where none is.
    """

    errors: np.ndarray
    stated: np.ndarray | None = None

    @property
    def bias(self):
        """Median error."""
        return float(np.median(self.errors))

    @property
    def scatter(self):
        """Half of the range that holds the middle 68%."""
        return _half_range(self.errors)

    @property
    def largest(self):
        """What 95% of the errors are below."""
        return float(np.percentile(np.abs(self.errors), 95))

    @property
    def ratio(self):
        """Scatter divided by what is stated; NaN where nothing is."""
        return float("nan") if self.stated is None else _half_range(self.stated)


def _half_range(values):
    return float(np.subtract(*np.percentile(values, [84.135, 15.865])) / 2)


def fill_errors(skies, name, count, deepcr=None):
    """Fill hits on scenes by all methods.

    Parameters
    ----------
    skies : `training.data.library.Skies`
        Of the test split.
    name : str
        One of `SCENES`.
    count : int
        Realisations.
    deepcr : path-like, optional
        A Python that has deepCR.

    Returns
    -------
    dict of str to `Errors`
        By method, of the pixels that `SCENES` says; a method that cannot run is left out.
    """
    found = {}
    for realisation in range(count):
        rng = np.random.default_rng([realisation, 20261])
        for sky in clean_skies(skies, name, rng):
            number = round(DENSITY * sky.image.size / 1e6)
            scene = contaminate(sky, [skies.hits[i] for i in rng.integers(0, len(skies.hits), number)], rng, spread=0)
            holes = scene.truth & ~sky.bad
            light = uniform_filter(sky.image - np.float32(sky.level), 5)
            chosen = (light < DARK * sky.sigma if SCENES[name] == "sky" else light > BRIGHT * sky.sigma)[holes]
            noise = np.sqrt(sky.sigma**2 + np.maximum(light, 0)[holes] / sky.gain)[chosen]
            for method, (values, variance) in _filled(scene, holes, deepcr).items():
                error = (values - sky.image[holes])[chosen]
                parts = found.setdefault(method, ([], []))
                usable = np.isfinite(error)
                parts[0].append((error / noise)[usable])
                if variance is not None:
                    parts[1].append(error / np.sqrt(variance[chosen]))
    return {
        method: Errors(np.concatenate(errors), np.concatenate(stated) if stated else None)
        for method, (errors, stated) in found.items()
    }


def _filled(scene, holes, deepcr):
    """Return, by method, values of the holes of a scene, and their variances where they are stated."""
    results = {}
    for fill in FILLS:
        if fill != "none":
            filled = fill_holes(scene.image, holes, scene.sky.bad, fill)
            results[fill] = filled.values, filled.variance
    image = np.where(np.isfinite(scene.image), scene.image, np.float32(scene.sky.level))
    arguments = image, holes, scene.sky.gain, scene.sky.read_noise
    for name, (title, load, own_python) in FILLERS.items():
        if not own_python:
            results[title] = load()(*arguments)[holes], None
        elif deepcr:
            report, planes = run_isolated(name, [arguments], deepcr)
            if "left_out" in report:
                raise ValueError(f"{name}: {deepcr} failed: {report['left_out']}")
            results[title] = planes[0][holes], None
    return results


def measure_fills(skies, count=2, deepcr=None, output=None):
    """Measure all fills on all scenes.

    Parameters
    ----------
    skies, count, deepcr
        As for `fill_errors`.
    output : path-like, optional
        Folder for `TEXT` and the table as CSV.

    Returns
    -------
    str
        A table.
    """
    rows, pixels = [], []
    for name, what in SCENES.items():
        found = fill_errors(skies, name, count, deepcr)
        rows += [
            [name, method, *(f"{v:.{d}f}".replace("nan", "") for v, d in zip(_figures(e), (3, 2, 1, 2), strict=True))]
            for method, e in found.items()
        ]
        pixels.append(f"{name}, {len(next(iter(found.values())).errors)} of {what}")
    title = f"Errors of filled pixels, in units of their noise ({'; '.join(pixels)})"
    columns = ["scenes", "method", "bias", "scatter", "95%", "scatter / stated"]
    return write_report([Table("fill", title, columns, rows)], output, TEXT)


def _figures(errors):
    return errors.bias, errors.scatter, errors.largest, errors.ratio
