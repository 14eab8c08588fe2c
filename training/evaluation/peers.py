"""All detectors behind one interface: ours, the released networks, filters, and other people's networks.

A detector scores images: higher is more likely a cosmic ray.  Filters have no
probability; their score is the highest significance at which a pixel is found.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import astroscrappy
import numpy as np
from scipy.ndimage import maximum_filter

from crattn_stage.api import load_model
from crattn_stage.detection.model import CosmicRayModel
from crattn_stage.detection.stars import spare_stars
from crattn_stage.models.cards import TILING, ModelCard
from crattn_stage.models.released import import_released
from training.evaluation.peer_runner import PEERS

#: The authors' released checkpoints, by architecture.
RELEASED = {
    "deepcr": "deepCR.pth",
    "att-deepcr": "Att_deepCR.pth",
    "cosmic-conn": "Coasmic_CoNN.pth",
    "att-cosmic-conn": "Att_Coasmic_CoNN.pth",
}
#: Settings of the paper (Sec. 4): sigclip of the filters and threshold of MaxiMask.
SIGCLIP, MAXIMASK_THRESHOLD = 3.0, 0.43
#: Settings of Astro-SCRAPPY on DECam: the paper's, and one that is better here.
SETTINGS = (SIGCLIP, 5.0)
#: Significances at which Astro-SCRAPPY is run to trace its operating points.
SIGCLIPS = (3, 5, 7, 10, 15, 20)


@dataclass(frozen=True)
class Peer:
    """A detector to be measured.

    Attributes
    ----------
    name : str
    scores : callable
        List of `training.data.scenes.Scene` -> list of float32 planes, and the seconds they took.
    threshold : float
        Its own setting: what scores above it is masked.
    model : str or None
        As for `crattn_stage.models.cards.load`, where it is one of ours.
    """

    name: str
    scores: Callable
    threshold: float
    model: str | None = None


def _timed(score):
    def scores(scenes):
        began = time.perf_counter()
        return [score(scene) for scene in scenes], time.perf_counter() - began

    return scores


def network(detector):
    """Return one of our networks, or an imported one, as a peer.

    Parameters
    ----------
    detector : `crattn_stage.detection.model.CosmicRayModel`

    Returns
    -------
    `Peer`
        With the name and the threshold of its card.
    """

    def score(scene):
        plane = detector.predict(scene.image, scene.sky.bad)
        found = plane > detector.card.threshold
        kept = found.copy()
        spare_stars(scene.image, kept, scene.sky.bad)
        plane[found & ~kept] = 0
        return plane

    return Peer(detector.card.name, _timed(score), detector.card.threshold)


def shipped(names):
    """Return models of ours as peers.

    Parameters
    ----------
    names : list of str
        As for `crattn_stage.load_model`.

    Returns
    -------
    list of `Peer`
    """
    return [replace(network(load_model(name)), model=name) for name in names]


def released(folder, architectures=tuple(RELEASED)):
    """Return the authors' released checkpoints as peers, at the paper's threshold.

    Parameters
    ----------
    folder : path-like
        With the files of `RELEASED`.
    architectures : sequence of str

    Returns
    -------
    list of `Peer`
    """
    return [
        network(
            CosmicRayModel(
                ModelCard(f"released {name}", name, "", "none", 0.5, **TILING),
                import_released(Path(folder) / RELEASED[name], name),
            )
        )
        for name in architectures
    ]


def dilated(score):
    """Dilate a plane of scores 3x3: what dilating the mask of every threshold would give."""
    return maximum_filter(score, 3)


def astro_scrappy(settings=SETTINGS, objlim=1.0, sigclips=SIGCLIPS):
    """Return Astro-SCRAPPY as in the paper: sigfrac 0.1, its mask dilated 3x3.

    Parameters
    ----------
    settings : sequence of float
        Its sigclip: one detector each.
    objlim : float
    sigclips : sequence of float
        Where it is run besides, to trace its operating points.

    Returns
    -------
    list of `Peer`
    """
    levels, last = sorted({*settings, *sigclips}), {}

    def found(scene, sigclip):
        return astroscrappy.detect_cosmics(
            np.where(np.isfinite(scene.image), scene.image, 0),
            inmask=scene.sky.bad,
            gain=scene.sky.gain,
            readnoise=scene.sky.read_noise,
            sigclip=sigclip,
            sigfrac=0.1,
            objlim=objlim,
            satlevel=4e4,
        )[0]

    def scores(scenes):
        # All settings share one run.
        if last.get("scenes") is not scenes:
            planes, began = [np.zeros(scene.image.shape, np.float32) for scene in scenes], time.perf_counter()
            for plane, scene in zip(planes, scenes, strict=True):
                for level in levels:
                    plane[found(scene, level)] = level
            seconds = (time.perf_counter() - began) / len(levels)
            last.update(scenes=scenes, result=([dilated(plane) for plane in planes], seconds))
        return last["result"]

    return [Peer(f"Astro-SCRAPPY {s:g}", scores, _below(s)) for s in settings]


def _below(setting):
    """A pixel that is found at a setting scores as much as that: the threshold is just below."""
    return float(np.nextafter(np.float32(setting), np.float32(0)))


def foreign(name, python=sys.executable):
    """Return another project's detector, run by a Python that has it installed.

    Parameters
    ----------
    name : str
        One of `training.evaluation.peer_runner.PEERS`.
    python : path-like
        Interpreter; this one by default.

    Returns
    -------
    `Peer`
        MaxiMask's scores as they are, the others' dilated 3x3, as in the paper.
    """
    if name not in PEERS:
        raise ValueError(f"unknown peer {name!r}; known: {', '.join(PEERS)}")

    def scores(scenes):
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
            arrays = {}
            for i, scene in enumerate(scenes):
                good = np.isfinite(scene.image)
                arrays |= {
                    f"image{i}": np.where(good, scene.image, scene.sky.level).astype(np.float32),
                    f"bad{i}": scene.sky.bad | ~good,
                    f"gain{i}": scene.sky.gain,
                    f"read_noise{i}": scene.sky.read_noise,
                }
            np.savez(source, **arrays)
            runner = Path(__file__).with_name("peer_runner.py")
            done = subprocess.run([python, runner, name, source, target], capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise RuntimeError(f"{name}: {python} failed: {reason}")
            result = np.load(target)
            planes = [result[f"score{i}"] for i in range(len(scenes))]
            return [p if name == "maximask" else dilated(p) for p in planes], float(result["seconds"])

    settings = {"maximask": MAXIMASK_THRESHOLD, "lacosmic": _below(SIGCLIP)}
    return Peer(name, scores, settings.get(name, 0.5))
