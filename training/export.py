"""From a finished training run to a model with a card that is true."""

import copy
import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from crattn_stage import __version__
from crattn_stage.detection.model import CosmicRayModel
from crattn_stage.models import cards as models
from crattn_stage.models.architectures import ARCHITECTURES
from crattn_stage.models.networks import build, restore, tensors_of
from training.data.scenes import Patches, Skies
from training.evaluation import peers
from training.evaluation.evaluate import calibrate, make_scenes, measure
from training.train import RECIPES, SHAPES, follow

TRAINED_ON = (
    "DECam r sky (DES exposure 241238, CCD 1, amplifier B, rows 1-2560), single exposures simulated from a deep "
    "DECam g coadd, and simulated skies; contaminated with cosmic-ray footprints of LSST ITL sensor darks and with "
    "simulated hits; saturated stars, bleed trails, bad columns and dead pixels added"
)
FALSE_POSITIVE_RATE = 1e-4
#: Test scenes whose figures are on the card.
SCENES = ("r", "z")
#: Validation patches of which the ranges of a network's features are taken.
RANGE_PATCHES = 60


def export(run, data, folder, count=4, name=None, blend=None):
    """Write weights and card of a training run.

    The threshold is set on validation scenes, the figures are of test scenes.

    Parameters
    ----------
    run : path-like
        Output folder of `training.train.train`.
    data : path-like
        Folder of real data.
    folder : path-like
        Where the model goes.
    count : int
        Realisations of each test scene.
    name : str, optional
        Of the model; that of its architecture without it.
    blend : str or path-like, optional
        The model that the run started from, as for `crattn_stage.models.cards.find`: the
        weights are the mean of both.  What was learnt anew is kept, and less of what was
        known is lost (Wortsman et al. 2022, arXiv:2109.01903, their default of a half).

    Returns
    -------
    `crattn_stage.models.cards.ModelCard`

    Raises
    ------
    ValueError
        If the run did not start from the model to blend with.
    """
    run = Path(run)
    state = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    architecture = state["architecture"]
    normalisation, _ = ARCHITECTURES[architecture]
    channels = state.get("channels", 32)
    network = build(architecture, channels)
    # Checkpoints of before there was a mean of the weights have none.
    network.load_state_dict(state.get("mean", state["network"]))
    training = json.loads((run / "training.json").read_text())
    if blend is not None:
        start, tensors = models.load(blend)
        if training.get("started_from") != f"{start.name} {start.sha256}":
            raise ValueError(f"{run}: did not start from {start.name} {start.sha256}")
        follow(network, restore(start, tensors), 0.5)
        training["blended"] = "mean of the weights with those that it started from"
    scaling = RECIPES[state.get("recipe", "ours")].scaling
    card = {
        "name": name or architecture,
        "architecture": architecture,
        "channels": channels,
        "scaling": scaling,
        "threshold": 0.5,
        "false_positive_rate": FALSE_POSITIVE_RATE,
        "trained_on": TRAINED_ON,
        "training": training,
        "code_version": __version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "licence": "BSD-3-Clause",
        # Raw counts are not calculated in integers, and the patches are scaled.
        "input_ranges": {} if scaling == "none" else input_ranges(network, data),
        **models.TILING,
    }
    if normalisation == "group" and card["tile"] != SHAPES["group"][0]:
        raise ValueError("a group-norm network runs at the tile size it was trained at")
    # What is calibrated and measured is what is written; only its sha256 is not known yet.
    detector = CosmicRayModel(models.ModelCard(sha256="", **card), tensors_of(network))
    card["threshold"], levels = calibrate(detector, data, FALSE_POSITIVE_RATE)
    skies = Skies("test", data)
    peer = replace(peers.network(detector), threshold=card["threshold"])
    figures = {scenes: measure(scenes, make_scenes(skies, scenes, count), peer, replicates=0) for scenes in SCENES}
    card["metrics"] = {
        "command": f"python -m training export RUN --data DATA --count {count}"
        + (blend is not None) * " --blend MODEL",
        "scenes": "held-out footprints, about 70 per Mpx, on held-out DECam sky; truth dilated 3x3",
        **{scenes: {key: round(value, 5) for key, value in result.row.items()} for scenes, result in figures.items()},
        "validation_fpr_at_threshold": {scenes: round(fpr, 7) for scenes, (_, fpr) in levels.items()},
        "validation_own_threshold": {scenes: round(own, 4) for scenes, (own, _) in levels.items()},
    }
    return models.save(tensors_of(network), card, folder)


def input_ranges(network, data=None):
    """Find between which values the inputs of a network's convolutions lie, on validation patches.

    Parameters
    ----------
    network : `torch.nn.Module`
        From `crattn_stage.models.networks.build`, of a model with scaled input.
    data : path-like, optional
        As for `training.data.scenes.Skies`.

    Returns
    -------
    dict of str to list
        Convolution -> [lowest, highest] of each of its inputs: two for one that takes skip
        connection and deeper level together.  Not of the first convolution and the last, which
        decide most and cost least.
    """
    found = {}

    def look(name):
        def hook(_, inputs):
            parts = inputs[0].chunk(2 if name.endswith("convolutions.0") else 1, dim=1)
            found.setdefault(name, []).append([[float(part.min()), float(part.max())] for part in parts])

        return hook

    network = copy.deepcopy(network).eval()
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and name not in ("encoder1.0", "head"):
            module.register_forward_pre_hook(look(name))
    patches = Patches(Skies("validation", data), models.TILING["tile"], RANGE_PATCHES, seed=0)
    with torch.inference_mode():
        for i in range(RANGE_PATCHES):
            network(torch.from_numpy(patches[i][0])[None])
    ranges = {}
    for name, values in found.items():
        low, high = np.min(values, 0)[:, 0], np.max(values, 0)[:, 1]
        # One that is dead, always 0, gets some width.
        ranges[name] = np.column_stack([low, np.maximum(high, low + 1e-3)]).round(4).tolist()
    return ranges
