"""Measure detectors side by side on scenes with exact truth."""

import time
from pathlib import Path

import astroscrappy
import numpy as np
from scipy.ndimage import binary_dilation

from crattn_stage.detector import Detector, load_detector
from crattn_stage.models import TILING, ModelCard, import_released
from training.metrics import at_setting, operating_points, purity_at, threshold_at, tpr_at
from training.scenes import DILATION, Skies, Sky, contaminate

#: Hits per million pixels in test scenes.
DENSITY = 70
#: Sky levels of the validation scenes on which thresholds are set, ADU.
LEVELS = (30, 100, 300, 1000, 2000, 4000)
#: The authors' released checkpoints, by architecture.
RELEASED = {
    "deepcr": "deepCR.pth",
    "att-deepcr": "Att_deepCR.pth",
    "cosmic-conn": "Coasmic_CoNN.pth",
    "att-cosmic-conn": "Att_Coasmic_CoNN.pth",
}


def make_scenes(skies, name, count, seed=0):
    """Make scenes with footprints as they are, about `DENSITY` per million pixels.

    Parameters
    ----------
    skies : `training.scenes.Skies`
        Of the validation or test split.
    name : str
        "r": the held-out rows of the DECam CCD, sky 282 ADU; "z": the held-out
        columns of the coadd, exposed at 2090 ADU; "coadd:LEVEL": at another.
    count : int
        Realisations of hits (and of noise, for the coadd).
    seed : int

    Returns
    -------
    list of `training.scenes.Scene`
    """
    scenes = []
    for realisation in range(count):
        rng = np.random.default_rng([seed, realisation, len(name)])
        if name == "r":
            ccd = skies.ccd
            sky = Sky(ccd.image.copy(), ccd.bad.copy(), ccd.level, ccd.sigma, ccd.gain)
        else:
            level = 2090.0 if name == "z" else float(name.partition(":")[2])
            sky = skies.exposed_coadd(rng, level)
        hits = rng.integers(0, len(skies.hits), round(DENSITY * sky.image.size / 1e6))
        scenes.append(contaminate(sky, [skies.hits[i] for i in hits], rng, spread=0))
    return scenes


def network_scores(detector):
    """Return a function from a scene to probabilities."""
    return lambda scene: detector.predict(scene.image, scene.sky.bad)


def astroscrappy_mask(scene, sigclip=5.0):
    """Return Astro-SCRAPPY's mask of a scene, dilated 3x3 as in the paper."""
    found, _ = astroscrappy.detect_cosmics(
        scene.image,
        inmask=scene.sky.bad,
        gain=scene.sky.gain,
        readnoise=7.0,
        sigclip=sigclip,
        sigfrac=0.1,
        objlim=1.0,
        satlevel=4e4,
    )
    return binary_dilation(found, DILATION)


def measure(scenes, score, threshold):
    """Score one detector on scenes.

    Parameters
    ----------
    scenes : list of `training.scenes.Scene`
    score : callable
        Scene -> float (higher is more likely a hit) or bool plane.
    threshold : float

    Returns
    -------
    dict
        Rates as in `training.metrics`, and ``seconds`` per million pixels.
    """
    began = time.perf_counter()
    scores = [score(scene) for scene in scenes]
    seconds = time.perf_counter() - began
    good = [~scene.sky.bad for scene in scenes]
    values = np.concatenate([s[g] for s, g in zip(scores, good, strict=True)])
    truth = np.concatenate([scene.truth[g] for scene, g in zip(scenes, good, strict=True)])
    row = at_setting(values > threshold if values.dtype != bool else values, truth)
    if values.dtype != bool:
        points = operating_points(values, truth)
        row |= {
            "tpr_1e-4": tpr_at(points, 1e-4),
            "tpr_1e-3": tpr_at(points, 1e-3),
            "purity_95": purity_at(points, 0.95),
        }
    row["seconds"] = seconds / sum(scene.image.size for scene in scenes) * 1e6
    return row


def evaluate(data, models, released=None, count=4, scene_sets=("r", "z")):
    """Measure models, Astro-SCRAPPY and the released checkpoints on the test scenes.

    Parameters
    ----------
    data : path-like
        Folder of real data.
    models : list of str
        As for `crattn_stage.load_detector`.
    released : path-like, optional
        Folder of the authors' checkpoints.
    count : int
        Realisations of each scene.
    scene_sets : sequence of str

    Yields
    ------
    scene_set, detector : str
    row : dict
        As from `measure`.
    """
    skies = Skies("test", data)
    detectors = {name: load_detector(name) for name in models}
    for architecture, file in RELEASED.items() if released else ():
        card = ModelCard(f"released {architecture}", architecture, "", "none", 0.5, **TILING)
        detectors[card.name] = Detector(card, import_released(Path(released) / file, architecture))
    for name in scene_sets:
        scenes = make_scenes(skies, name, count)
        for label, detector in detectors.items():
            yield name, label, measure(scenes, network_scores(detector), detector.card.threshold)
        for sigclip in (3.0, 5.0):
            yield name, f"Astro-SCRAPPY {sigclip:g}", measure(scenes, lambda s, c=sigclip: astroscrappy_mask(s, c), 0.5)


def calibrate(detector, data, fpr=1e-4):
    """Find the threshold that gives a false positive rate on validation scenes.

    Parameters
    ----------
    detector : `crattn_stage.detector.Detector`
    data : path-like
    fpr : float

    Returns
    -------
    threshold : float
        Geometric mean of those of the sky levels, in odds.
    by_level : dict
        Scene set -> (its own threshold, its FPR at the common one).
    """
    skies = Skies("validation", data)
    points = {}
    for name in ("r", *(f"coadd:{level}" for level in LEVELS)):
        scenes = make_scenes(skies, name, 2, seed=1)
        values = [detector.predict(s.image, s.sky.bad)[~s.sky.bad] for s in scenes]
        points[name] = operating_points(np.concatenate(values), np.concatenate([s.truth[~s.sky.bad] for s in scenes]))
    own = {name: np.clip(threshold_at(p, fpr), 1e-6, 1 - 1e-6) for name, p in points.items()}
    odds = np.exp(np.mean([np.log(t / (1 - t)) for t in own.values()]))
    common = float(odds / (1 + odds))
    reached = {name: p[0][p[3] > common][-1] if (p[3] > common).any() else 0.0 for name, p in points.items()}
    return common, {name: (float(own[name]), float(reached[name])) for name in own}
