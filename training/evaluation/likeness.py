"""How alike simulated hits are to the real ones of a sensor: whether a classifier can tell them apart."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects, label

from crattn_stage.products.hits import shape_of
from crattn_stage.simulation.hits import Sensor
from training.data.hits import footprints_of
from training.data.library import FOOTPRINTS, THIN_FOOTPRINTS

#: Folds of the cross-validation, and sets of simulated hits it is done with.
FOLDS, SETS = 5, 5
#: What is compared.
FEATURES = ("charge", "pixels", "length", "width", "straightness", "peak", "spot", "track")
_AROUND = np.ones((3, 3))


@dataclass(frozen=True)
class Cut:
    """How footprints were cut from darks.

    Attributes
    ----------
    noise : float
        Of a dark, electrons.
    threshold : float
        Electrons above the level, of all pixels.
    peak : float
        Of the brightest pixel at least.
    pixels : int
        Fewest.
    later : float
        Noise of the values over that of what was cut, electrons: another master was subtracted.
    """

    noise: float
    threshold: float
    peak: float
    pixels: int
    later: float = 0.0

    def footprint(self, stamp, rng):
        """Record a hit with noise, and cut it as the footprints were.

        Parameters
        ----------
        stamp : `numpy.ndarray`
            Charge, electrons.
        rng : `numpy.random.Generator`

        Returns
        -------
        `numpy.ndarray` or None
            The object with most charge; None if the cut leaves nothing.
        """
        image = np.pad(stamp, 2)
        image = image + np.float32(self.noise) * rng.standard_normal(image.shape, np.float32)
        numbers, count = label(image > self.threshold, _AROUND)
        if not count:
            return None
        number = 1 + np.argmax(np.bincount(numbers.ravel(), image.ravel())[1:])
        box = find_objects(numbers)[number - 1]
        inside = numbers[box] == number
        if inside.sum() < self.pixels or image[box][inside].max() < self.peak:
            return None
        values = image[box] + np.float32(self.later) * rng.standard_normal(inside.shape, np.float32)
        return np.where(inside, np.maximum(values, 1), 0)


#: Sensor, as in `crattn_stage.simulation.hits.SENSORS` -> catalogue of its real hits, how they were cut, and its
#: silicon as it was simulated before it was tuned.
CATALOGUES = {
    "ITL": (FOOTPRINTS, Cut(7.0, 49.0, 49.0, 2), Sensor(100.0, 10.0, 5.5)),
    "KAF-3200ME": (THIN_FOOTPRINTS[0], Cut(6.0, 21.0, 150.0, 3, 9.0), Sensor(20.0, 13.6, 4.0)),
    "KAF-0402ME": (THIN_FOOTPRINTS[1], Cut(18.0, 62.0, 190.0, 3, 22.0), Sensor(20.0, 9.0, 4.0)),
    "KAF-1001E": (THIN_FOOTPRINTS[2], Cut(24.0, 84.0, 400.0, 3, 18.0), Sensor(20.0, 24.0, 4.0)),
}


def real_hits(folder, name):
    """Read the real hits of a sensor that were not used to tune its simulation: every other one.

    Parameters
    ----------
    folder : path-like
        As for `training.data.library.Sources.find`.
    name : str
        A key of `CATALOGUES`.

    Returns
    -------
    list of `numpy.ndarray`
        (h, w) float32 stamps, electrons.
    """
    file, cut, _ = CATALOGUES[name]
    stamps = [stamp for stamp in footprints_of(Path(folder) / file) if np.count_nonzero(stamp) >= cut.pixels]
    return stamps[1::2]


def simulated_footprints(sensor, cut, count, seed=0):
    """Simulate hits of a sensor, with noise, cut as real ones were.

    Parameters
    ----------
    sensor : `crattn_stage.simulation.hits.Sensor`
    cut : `Cut`
    count, seed : int

    Returns
    -------
    list of `numpy.ndarray`
        Stamps, electrons.
    """
    rng, stamps = np.random.default_rng(seed), []
    while len(stamps) < count:
        stamp = cut.footprint(sensor.hit(rng, faintest=0.0), rng)
        if stamp is not None:
            stamps.append(stamp)
    return stamps


def features(stamps):
    """Measure stamps as `crattn_stage.products.hits.measure_hits` measures hits.

    Parameters
    ----------
    stamps : list of `numpy.ndarray`

    Returns
    -------
    `numpy.ndarray`
        (n, 8): `FEATURES`; charge, pixels and length as decimal logarithms, the peak as fraction of the charge.
    """
    rows = []
    for stamp in stamps:
        *_, shape = shape_of(stamp, stamp > 0)
        straightness = 1.0 if np.isnan(shape["straightness"]) else shape["straightness"]
        row = [np.log10(stamp.sum()), np.log10(np.count_nonzero(stamp)), np.log10(1 + shape["length"])]
        row += [shape["width"], straightness, stamp.max() / stamp.sum()]
        rows.append([*row, shape["class"] == "spot", shape["class"] == "track"])
    return np.array(rows, float)


def told_apart(real, simulated):
    """Return how often boosted trees tell a real hit from a simulated one when they have seen neither.

    Parameters
    ----------
    real, simulated : `numpy.ndarray`
        As many of both, from `features`.

    Returns
    -------
    float
        Fraction, by cross-validation: 0.5 if they are alike.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    values = np.concatenate([real, simulated])
    truth = np.repeat([1, 0], [len(real), len(simulated)])
    trees = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, learning_rate=0.1, random_state=0)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return float(cross_val_score(trees, values, truth, cv=folds).mean())


def compare(folder, name, sensor):
    """Compare the real hits of a sensor with `SETS` sets of as many simulated ones.

    Parameters
    ----------
    folder, name
        As for `real_hits`.
    sensor : `crattn_stage.simulation.hits.Sensor`

    Returns
    -------
    real, simulated : `numpy.ndarray`
        From `features`; all sets of the simulated ones together.
    accuracy : float
        Mean of `told_apart`.
    error : float
        Its standard error, from the number of real hits.
    """
    cut, real = CATALOGUES[name][1], features(real_hits(folder, name))
    sets = [features(simulated_footprints(sensor, cut, len(real), seed)) for seed in range(SETS)]
    accuracy = float(np.mean([told_apart(real, one) for one in sets]))
    return real, np.concatenate(sets), accuracy, float(np.sqrt(accuracy * (1 - accuracy) / len(real)))
