"""Score peers on scenes with exact truth, pixel by pixel and hit by hit."""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label, maximum, maximum_filter, sum_labels

from training.evaluation.metrics import at_rates, at_setting, bootstrap, operating_points, threshold_at
from training.evaluation.scene_sets import lacking, make_scenes

#: Sky levels of the validation scenes on which thresholds are set, ADU.
LEVELS = (30, 100, 300, 1000, 2000, 4000)
#: Side of the regions that are drawn anew for the intervals, pixels.
REGION = 128
#: Bins of the completeness by object: charge in electrons, length in pixels, and peak in units of the sky's noise.
CHARGES, LENGTHS = (0, 500, 1000, 3000, 10000, np.inf), (0, 4, 8, 16, np.inf)
PEAKS = (0, 3, 5, 10, np.inf)
#: Charges in units of the sky noise, and the least S/N of a hit, from which something can be seen.
MULTIPLES, FAINTEST = (1, 2, 3), 5
_AROUND = np.ones((3, 3))


@dataclass
class Objects:
    """The hits of scenes: numbered planes, charge in electrons, length in pixels, peak in units of the noise."""

    numbers: list
    charge: np.ndarray
    length: np.ndarray
    peak: np.ndarray

    @classmethod
    def of(cls, scenes):
        """Find the connected objects of the truth of scenes, numbered from 1 on through all of them."""
        numbers, charges, lengths, peaks, first = [], [], [], [], 0
        for scene in scenes:
            plane, count = label(scene.truth & ~scene.sky.bad, _AROUND)
            added, every = scene.image - scene.sky.image, np.arange(1, count + 1)
            charges.append(sum_labels(added * np.float32(scene.sky.gain), plane, every))
            peaks.append(maximum(added / np.float32(scene.sky.sigma), plane, every))
            # The dilation of the truth is a pixel on each side.
            lengths += [np.hypot(*(max(s.stop - s.start - 2, 1) for s in box)) for box in find_objects(plane)]
            numbers.append(np.where(plane > 0, plane + first, 0))
            first += count
        return cls(numbers, np.concatenate(charges), np.array(lengths), np.concatenate(peaks))

    def found(self, masks):
        """Return, for each object, whether any of its pixels is masked."""
        flags = np.zeros(len(self.charge) + 1, bool)
        for plane, mask in zip(self.numbers, masks, strict=True):
            flags[plane[mask]] = True
        return flags[1:]


def visible(scenes):
    """Return how much of the truth can be told from noise at all.

    The extent of a hit is known from dark frames; on a bright sky its faint parts drown in
    the noise, whatever the method.

    Parameters
    ----------
    scenes : list of `training.data.contamination.Scene`
        With the clean sky in `training.data.contamination.Scene.sky`.

    Returns
    -------
    touching : list of float
        Fraction of the cosmic-ray pixels, dilated as they are, that touch charge above each of
        `MULTIPLES` of the sky's noise.
    bright : float
        Fraction of them in hits of a S/N above `FAINTEST`, by a filter that knows the hit.
    """
    touching, bright, total = np.zeros(len(MULTIPLES)), 0, 0
    for scene, numbers in zip(scenes, Objects.of(scenes).numbers, strict=True):
        charge = (scene.image - scene.sky.image) / scene.sky.sigma
        truth = scene.truth & ~scene.sky.bad
        total += truth.sum()
        touching += np.greater.outer(maximum_filter(charge, 3)[truth], MULTIPLES).sum(0)
        squares = sum_labels(charge**2, numbers, np.arange(numbers.max() + 1))
        bright += (squares[numbers[truth]] > FAINTEST**2).sum()
    return list(map(float, touching / total)), float(bright / total)


def completeness(values, found, edges):
    """Return the fraction of objects found, and their number, in each bin of a property.

    Parameters
    ----------
    values : `numpy.ndarray`
        Charge or length of each object.
    found : `numpy.ndarray` of bool
    edges : sequence of float

    Returns
    -------
    list of (float, int)
    """
    bins = [(values > low) & (values <= high) for low, high in itertools.pairwise(edges)]
    return [(float(found[b].mean()) if b.any() else float("nan"), int(b.sum())) for b in bins]


def regions(shape, first=0):
    """Number the regions of an image that are drawn anew for the intervals.

    Parameters
    ----------
    shape : tuple of int
    first : int
        Number of the first one.

    Returns
    -------
    `numpy.ndarray` of int
        2-D.
    """
    rows, columns = (np.arange(n) // REGION for n in shape)
    return first + rows[:, None] * (columns[-1] + 1) + columns[None, :]


@dataclass
class Result:
    """The figures of one peer on one set of scenes.

    Attributes
    ----------
    scenes, peer : str
    row : dict of str to float
        Rates as in `training.evaluation.metrics`; ``objects``: the fraction of hits of which a pixel was found.
    samples : dict of str to `numpy.ndarray`
        Draws of the rates, from `training.evaluation.metrics.bootstrap`.
    by_charge, by_length, by_peak : list of (float, int)
        From `completeness`, in `CHARGES`, `LENGTHS` and `PEAKS`.
    seconds : float
        Per million pixels.
    points : tuple of `numpy.ndarray`
        FPR, TPR, precision and threshold, thinned.
    masks : list of `numpy.ndarray` of bool
    """

    scenes: str
    peer: str
    row: dict
    samples: dict
    by_charge: list
    by_length: list
    by_peak: list
    seconds: float
    points: tuple
    masks: list


def measure(name, scenes, peer, replicates=200):
    """Score a peer on scenes.

    Parameters
    ----------
    name : str
        Of the scenes.
    scenes : list of `training.data.contamination.Scene`
    peer : `training.evaluation.peers.Peer`
    replicates : int
        Draws for the intervals of the tables; none with 0.

    Returns
    -------
    `Result`
    """
    planes, seconds = peer.scores(scenes)
    objects = Objects.of(scenes)
    units, first = [], 0
    for scene, numbers in zip(scenes, objects.numbers, strict=True):
        unit = regions(scene.image.shape, first)
        first = unit[-1, -1] + 1
        units.append(np.where(scene.truth, numbers, unit)[~scene.sky.bad])
    values = np.concatenate([p[~s.sky.bad] for p, s in zip(planes, scenes, strict=True)])
    truth = np.concatenate([s.truth[~s.sky.bad] for s in scenes])
    points = operating_points(values, truth)
    masks = [plane > peer.threshold for plane in planes]
    found = objects.found(masks)
    thin = np.unique(np.searchsorted(points[0], np.append(0, np.geomspace(1e-7, 1, 2000))).clip(0, len(points[0]) - 1))
    return Result(
        name,
        peer.name,
        at_rates(points) | at_setting(values > peer.threshold, truth) | {"objects": float(found.mean())},
        bootstrap(values, truth, np.concatenate(units), peer.threshold, replicates) if replicates else {},
        completeness(objects.charge, found, CHARGES),
        completeness(objects.length, found, LENGTHS),
        completeness(objects.peak, found, PEAKS),
        seconds / sum(scene.image.size for scene in scenes) * 1e6,
        tuple(array[thin] for array in points),
        masks,
    )


def flagged_stars(peer, scenes, stars):
    """Return, for each scene, the fraction of star cores that a peer masks.

    Parameters
    ----------
    peer : `training.evaluation.peers.Peer`
    scenes, stars
        From `star_scenes`.

    Returns
    -------
    list of float
    """
    planes, _ = peer.scores(scenes)
    return [float((p[tuple(s.T)] > peer.threshold).mean()) for p, s in zip(planes, stars, strict=True)]


def calibrate(model, skies, fpr=1e-4):
    """Find the threshold that gives a false positive rate on validation scenes.

    Parameters
    ----------
    model : `crattn_stage.detection.model.CosmicRayModel`
    skies : `training.data.library.Skies`
        Of the validation split.
    fpr : float
        What the threshold is set for.  Half as much loses about a point of completeness on
        a bright sky.

    Returns
    -------
    threshold : float
        Geometric mean of those of the sky levels, in odds.
    by_level : dict
        Set of scenes -> (its own threshold, its FPR at the common one).  The real sky and the
        coadd at `LEVELS` where there are any, the frames that were given, and else simulated
        skies at `LEVELS`.
    """
    names = [name for name in ("r", "frames") if not lacking(skies, name)]
    names += [f"{'sky' if lacking(skies, 'coadd') else 'coadd'}:{level}" for level in LEVELS]
    points = {}
    for name in names:
        scenes = make_scenes(skies, name, 2, seed=1)
        values = [model.predict(s.image, s.sky.bad)[~s.sky.bad] for s in scenes]
        points[name] = operating_points(np.concatenate(values), np.concatenate([s.truth[~s.sky.bad] for s in scenes]))
    own = {name: np.clip(threshold_at(p, fpr), 1e-6, 1 - 1e-6) for name, p in points.items()}
    odds = np.exp(np.mean([np.log(t / (1 - t)) for t in own.values()]))
    common = float(odds / (1 + odds))
    reached = {name: p[0][p[3] > common][-1] if (p[3] > common).any() else 0.0 for name, p in points.items()}
    return common, {name: (float(own[name]), float(reached[name])) for name in own}
