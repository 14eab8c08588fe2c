"""What is measured, behind one interface: our models, the released networks, filters, other people's networks.

A peer scores images: the higher, the more likely a cosmic ray.  Filters have no probability;
their score is the highest significance at which a pixel is found.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter

from crattn_stage.api import load_model
from crattn_stage.detection import spectra
from crattn_stage.detection.inputs import check_sections
from crattn_stage.detection.model import Conditions, CosmicRayModel, levels
from crattn_stage.detection.preprocessing import measure_sky
from crattn_stage.detection.stars import measure_stars
from crattn_stage.detection.uneven import with_sky
from crattn_stage.models.cards import TILING, ModelCard
from crattn_stage.models.released import import_released
from training.evaluation.peer_process import run_isolated
from training.evaluation.peer_runner import METHODS, just_below, trace

#: The authors' released checkpoints, by architecture.
RELEASED = {
    "deepcr": "deepCR.pth",
    "att-deepcr": "Att_deepCR.pth",
    "cosmic-conn": "Coasmic_CoNN.pth",
    "att-cosmic-conn": "Att_Coasmic_CoNN.pth",
}


@dataclass(frozen=True)
class Peer:
    """A method with its setting, to be measured.

    Attributes
    ----------
    name : str
    scores : callable
        List of `training.data.contamination.Scene` -> list of float32 planes, and the seconds they took.
    threshold : float
        Its own setting: what scores above it is masked.
    model : str or None
        As for `crattn_stage.models.cards.load`, where it is one of ours.
    """

    name: str
    scores: Callable
    threshold: float
    model: str | None = None


def probabilities(model, image, bad, threshold=None):
    """Return the probabilities of a model, 0 on what its mask leaves out, and just above the threshold on spots.

    Parameters
    ----------
    model : `crattn_stage.detection.model.CosmicRayModel`
    image : `numpy.ndarray`
    bad : `numpy.ndarray` of bool
    threshold : float, optional
        At which stars are spared; the card's by default.

    Returns
    -------
    `numpy.ndarray`
        Float32.  Above the threshold it is the mask of
        `crattn_stage.detection.model.CosmicRayModel.detect`.
    """
    threshold = model.card.threshold if threshold is None else threshold
    plane = np.empty(image.shape, np.float32)
    found = model.detect(image, bad, threshold, probability=plane)
    plane[(plane > threshold) & ~found] = 0
    # Spots are masked below the threshold.
    plane[found] = np.maximum(plane[found], np.nextafter(np.float32(threshold), np.float32(1)))
    return plane


def masker(model, scene, narrow=None):
    """Return a function of a threshold that masks a scene as `crattn_stage.detection.model.CosmicRayModel.detect` does.

    The network looks once at the scene, and once at its mirrored sky, for all thresholds.

    Parameters
    ----------
    model : `crattn_stage.detection.model.CosmicRayModel`
    scene : `training.data.contamination.Scene`
    narrow : bool, optional
        Whether stars are as narrow as hits; measured if None.

    Returns
    -------
    callable
        Threshold -> mask, bool, the shape of the scene.  Ask for the highest threshold first: it leaves most of the sky
        to be mirrored.
    """
    image, bad = scene.image, scene.sky.bad
    sections = check_sections(None, image.shape)
    image, sky = with_sky(image, bad, sections)
    plane, mirrored = model.predict(image, bad, sections, sky, narrow), []

    def mask(threshold):
        is_narrow, sharpest = measure_stars(image, plane > threshold, bad, sections, sky)
        conditions = Conditions(is_narrow if narrow is None else narrow, sharpest)

        def find(*what):
            if not mirrored:
                mirrored.append(model.predict(*what, conditions.narrow))
            return mirrored[0] > threshold

        found = levels(plane, threshold)
        return model.sift(image, found, bad, sections, sky, threshold, conditions=conditions, find=find)

    return mask


def network(model, threshold=None, looks=2):
    """Return one of our models, or an imported one, as a peer.

    Parameters
    ----------
    model : `crattn_stage.detection.model.CosmicRayModel`
    threshold : float, optional
        The card's by default.
    looks : int
        At spectra: 2, as the stage looks, or 1, as at an image.

    Returns
    -------
    `Peer`
    """
    threshold = model.card.threshold if threshold is None else threshold

    def scores(scenes):
        began = time.perf_counter()
        planes = [
            _of_spectrum(model, scene)
            if looks == 2 and scene.sky.kind
            else probabilities(model, scene.image, scene.sky.bad, threshold)
            for scene in scenes
        ]
        return planes, time.perf_counter() - began

    return Peer(model.card.name if looks == 2 else f"{model.card.name}, one look", scores, threshold)


def _of_spectrum(model, scene):
    whole, sky = [np.s_[:, :]], measure_sky(scene.image, scene.sky.bad, [np.s_[:, :]])
    return spectra.probability(model, scene.image, scene.sky.bad, whole, sky)


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


def method(name, python=None, settings=None, levels=None, **options):
    """Return another project's method as peers: one, or one for each setting of a filter.

    Parameters
    ----------
    name : str
        One of `training.evaluation.peer_runner.METHODS`.
    python : path-like, optional
        Interpreter that has it installed.  By default this one, in this process unless the
        registry says otherwise.
    settings, levels : sequence of float, optional
        Of a filter; the registry's by default.
    **options
        Further settings of a filter, such as ``objlim`` of Astro-SCRAPPY.

    Returns
    -------
    list of `Peer`
        Those of one filter share a run.

    Raises
    ------
    ValueError
        If there is no such method.
    """
    if name not in METHODS:
        raise ValueError(f"unknown peer {name!r}; known: {', '.join(METHODS)}")
    entry = METHODS[name]
    settings = tuple(entry.settings if settings is None else settings)
    levels = sorted({*settings, *(entry.levels if levels is None else levels)})
    last = {}

    def scores(scenes):
        if last.get("scenes") is not scenes:
            images = [_prepared(scene) for scene in scenes]
            if python is None and not entry.own_python:
                score = trace(entry.load(**options), levels) if levels else entry.load(**options)
                began = time.perf_counter()
                planes = [score(*image) for image in images]
                seconds = time.perf_counter() - began
            else:
                report, planes = run_isolated(name, images, python or sys.executable, levels=levels or None)
                if "left_out" in report:
                    raise RuntimeError(f"{name}: {python or sys.executable} failed: {report['left_out']}")
                seconds = sum(report["seconds"])
            planes = [dilated(plane) if entry.dilate else plane for plane in planes]
            last.update(scenes=scenes, result=(planes, seconds / max(len(levels), 1)))
        return last["result"]

    if not settings:
        return [Peer(name, scores, entry.threshold)]
    return [Peer(f"{entry.title} {setting:g}", scores, just_below(setting)) for setting in settings]


def _prepared(scene):
    """Return image, bad pixels, gain and read noise of a scene; NaN is filled with the sky."""
    good = np.isfinite(scene.image)
    image = np.where(good, scene.image, np.float32(scene.sky.level)).astype(np.float32)
    return image, scene.sky.bad | ~good, scene.sky.gain, scene.sky.read_noise
