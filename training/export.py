"""From a finished training run to a model with a card that is true."""

import copy
import dataclasses
import datetime
import json
import logging
from pathlib import Path

import numpy as np
import torch
from scipy.special import logit
from torch import nn

from crattn_stage import __version__
from crattn_stage.detection.model import CosmicRayModel
from crattn_stage.errors import ModelError
from crattn_stage.models import cards
from crattn_stage.models.architectures import ARCHITECTURES
from crattn_stage.models.networks import build, restore, tensors_of
from training import checkpoints
from training.configuration import SHAPES
from training.data.library import Skies
from training.data.patches import Patches
from training.evaluation import peers
from training.evaluation.measure import calibrate, measure
from training.evaluation.metrics import at_setting
from training.evaluation.report import default_sets
from training.evaluation.scene_sets import lacking, make_scenes
from training.loop import SUMMARY, follow

log = logging.getLogger(__name__)

FALSE_POSITIVE_RATE = 1e-4
#: Scenes by which second weights are set and measured.
NARROW_SETS = ("stars:1.2", "stars:1.5", "stars:1.8", "thin:1.6")
#: Thresholds that are tried for them, how much of the greatest F1 the lowest may cost, since it finds more hits, and
#: the largest fraction of clean pixels that it may mask.
THRESHOLDS, COST, MOST_FALSE = np.arange(0.1, 0.9, 0.04), 0.003, 1.5e-4
#: Validation patches of which the ranges of a network's features are taken.
RANGE_PATCHES = 60


def export(run, folder, sources=None, count=4, name=None, blend=None, keep=0.5):
    """Write weights and card of a training run.

    The threshold is set on validation scenes; the figures are of test scenes.  Second weights of the model that the
    run started from stay, at that threshold.

    Parameters
    ----------
    run : path-like
        Output folder of `training.loop.train`.
    folder : path-like
        Where the model goes.
    sources : dict, optional
        Arguments of `training.data.library.Skies`: ``data``, ``hits``, ``frames``.  Simulated
        scenes take the place of those that cannot be made of them, and the card says so.
    count : int
        Realisations of each test scene.
    name : str, optional
        Of the model; that of its architecture by default.
    blend : str or path-like, optional
        The model that the run started from, as for `crattn_stage.models.cards.find`, or one that that model
        started from: the weights are a mean of both.  What was learnt anew is kept, and less of what was
        known is lost (Wortsman et al. 2022, arXiv:2109.01903).
    keep : float
        Weight of that model in the mean, from 0 to 1; theirs is a half.  Choose it on validation scenes: the
        smaller, the more of what is new is there, and the more of what was known may be lost.

    Returns
    -------
    `crattn_stage.models.cards.ModelCard`

    Raises
    ------
    ValueError
        If the run is not finished, or comes from another model than that to blend with.
    """
    run, sources = Path(run), sources or {}
    configuration, network, training = _finished(run, blend, keep)
    card = {
        "name": name or configuration.architecture,
        "architecture": configuration.architecture,
        "channels": configuration.channels,
        "scaling": configuration.scaling,
        "threshold": 0.5,
        "false_positive_rate": FALSE_POSITIVE_RATE,
        "trained_on": training.pop("trained_on"),
        "training": training,
        "code_version": __version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "licence": "BSD-3-Clause",
        # Raw counts are not calculated in integers, and the patches are scaled.
        "input_ranges": {} if configuration.scaling == "none" else input_ranges(network, sources),
        **cards.TILING,
    }
    if ARCHITECTURES[configuration.architecture][0] == "group" and card["tile"] != SHAPES["group"][0]:
        raise ValueError("a group-norm network runs at the tile size it was trained at")
    # What is calibrated and measured is what is written; only its sha256 is not known yet.
    model = CosmicRayModel(cards.ModelCard(sha256="", **card), tensors_of(network))
    card["threshold"], levels = calibrate(model, Skies("validation", **sources), FALSE_POSITIVE_RATE)
    card["narrow"], second = _second_weights(configuration, training, card["threshold"])
    model = CosmicRayModel(cards.ModelCard(sha256="", **card), tensors_of(network), narrow=second)
    card["metrics"] = _figures(model, card["threshold"], Skies("test", **sources), count)
    card["metrics"] |= {
        "command": _command("", count, blend, keep),
        "validation_fpr_at_threshold": {scenes: round(fpr, 7) for scenes, (_, fpr) in levels.items()},
        "validation_own_threshold": {scenes: round(own, 4) for scenes, (own, _) in levels.items()},
    }
    return cards.save(tensors_of(network), card, folder, second)


def export_narrow(run, model, folder, sources=None, count=4, blend=None, keep=0.5):
    """Write a model again, with the weights of a run as its second ones, for frames with stars as narrow as hits.

    The last bias is shifted so that the model's threshold is the lowest of nearly the greatest F1 on validation scenes.

    Parameters
    ----------
    run : path-like
        Output folder of `training.loop.train`, of undersampled skies.
    model : str or path-like
        As for `crattn_stage.models.cards.find`.  Its name, threshold and first weights stay.
    folder, sources, count, blend, keep
        As for `export`.

    Returns
    -------
    `crattn_stage.models.cards.ModelCard`

    Raises
    ------
    ValueError
        As `export`, or if the run is not of undersampled skies or of another network.
    """
    run, sources = Path(run), sources or {}
    card, tensors = cards.load(model)
    configuration, network, training = _finished(run, blend, keep)
    if not configuration.narrow:
        raise ValueError(f"{run}: not trained on undersampled skies alone (narrow = true)")
    if not _is_network_of(configuration, card):
        raise ValueError(f"{run}: another network than {card.name}")
    plain = dataclasses.replace(card, narrow={}, input_ranges={})
    validation, test = (Skies(split, **sources) for split in ("validation", "test"))
    own = _lowest_accurate(CosmicRayModel(plain, tensors_of(network)), validation)
    second, ranges = shifted(tensors_of(network), card.threshold, own), {}
    if card.scaling != "none":
        ranges = input_ranges(network, skies=Skies("validation", narrow=True, **sources))
    narrow = {"input_ranges": ranges, "training": training}
    both = CosmicRayModel(dataclasses.replace(plain, narrow=narrow), tensors, narrow=second)
    narrow["metrics"] = _figures(both, card.threshold, test, count, NARROW_SETS)
    narrow["metrics"]["command"] = _command(f"--narrow-of {card.name} ", count, blend, keep)
    content = dataclasses.asdict(dataclasses.replace(card, narrow=narrow))
    del content["sha256"]
    return cards.save(tensors, content, folder, second)


def _lowest_accurate(model, skies):
    """Return the lowest threshold at which a model masks few clean pixels, and its F1, a mean of `NARROW_SETS`, is
    nearly as great as it is at any such threshold.
    """
    scores, rates = [], []
    for name in NARROW_SETS:
        if lacking(skies, name):
            continue
        scenes = make_scenes(skies, name, 2, seed=1)
        truth = np.concatenate([s.truth[~s.sky.bad] for s in scenes])
        at = zip(*(_masks(model, scene) for scene in scenes), strict=True)
        settings = [at_setting(np.concatenate(masks), truth) for masks in at]
        scores.append([setting["f1"] for setting in settings])
        rates.append([setting["fpr"] for setting in settings])
    few = np.mean(rates, 0) <= MOST_FALSE
    scores = np.where(few, np.mean(scores, 0), 0) if few.any() else np.mean(scores, 0)
    return float(THRESHOLDS[np.argmax(scores > scores.max() - COST)])


def _masks(model, scene):
    """Return what a model masks of the good pixels of a scene, at each of `THRESHOLDS`."""
    mask = peers.masker(model, scene)
    return [mask(t)[~scene.sky.bad] for t in THRESHOLDS[::-1]][::-1]


def _command(option, count, blend, keep):
    blended = f" --blend MODEL --keep {keep:g}" if blend is not None else ""
    return f"python -m training export RUN --data DATA {option}--count {count}{blended}"


def shifted(tensors, new, old):
    """Return the tensors of a network whose probabilities are `new` where they were `old`.

    A model has one threshold; second weights keep to it.

    Parameters
    ----------
    tensors : dict of str to `numpy.ndarray`
        From `crattn_stage.models.networks.tensors_of`.
    new, old : float

    Returns
    -------
    dict of str to `numpy.ndarray`
    """
    new, old = logit(np.clip([new, old], 1e-6, 1 - 1e-6))
    return tensors | {"head.bias": tensors["head.bias"] + np.float32(new - old)}


def _second_weights(configuration, training, threshold):
    """Return what the card says of the second weights of the model that a run started from, and them, if any."""
    if configuration.narrow or not configuration.start_from:
        return {}, {}
    if not _parent(configuration.start_from, training.get("started_from")):
        log.warning("second weights, if there were any, are not kept: %s is not what it was", configuration.start_from)
        return {}, {}
    card, _, second = cards.load_both(configuration.start_from)
    if not second or not _is_network_of(configuration, card):
        return {}, {}
    return card.narrow, shifted(second, threshold, card.threshold)


def _is_network_of(configuration, card):
    names = ("architecture", "channels", "scaling")
    return all(getattr(configuration, name) == getattr(card, name) for name in names)


def _parent(start, parent):
    """Return the card of the model that a training started from, or None if it is not what it was."""
    try:
        card = cards.read_card(start) if start else None
    except ModelError:
        # It is no longer where it was.
        return None
    return card if card and f"{card.name} {card.sha256}" == parent else None


def _finished(run, blend, keep):
    """Return configuration, network and summary of a finished run; the network is blended with a model, if any."""
    configuration, state = checkpoints.load(run)
    if not (run / SUMMARY).exists():
        raise ValueError(f"{run}: {state['step']} of {configuration.steps} steps done; train it to the end first")
    training = json.loads((run / SUMMARY).read_text())
    network = build(configuration.architecture, configuration.channels)
    network.load_state_dict(state["mean"])
    if blend is not None:
        _blend(network, blend, keep, configuration, training, run)
    return configuration, network.requires_grad_(False), training


def _blend(network, blend, keep, configuration, training, run):
    """Replace the weights of a network by a mean with those of a model that it comes from."""
    model, tensors = cards.load(blend, configuration.narrow)
    start, wanted, parent = configuration.start_from, f"{model.name} {model.sha256}", training.get("started_from")
    while parent != wanted:
        card = _parent(start, parent)
        if not card:
            raise ValueError(f"{run}: does not come from {wanted}")
        before = (configuration.narrow and card.narrow.get("training")) or card.training
        start, parent = before.get("start_from"), before.get("started_from")
    follow(network, restore(model, tensors), 1 - keep)
    training["blended"] = f"mean of the weights with those of {wanted}, which weigh {keep:g}"


def _figures(model, threshold, skies, count, names=None):
    """Return the figures of a model on test scenes, for its card."""
    peer = peers.network(model, threshold)
    names = default_sets(skies) if names is None else [name for name in names if not lacking(skies, name)]
    results = {name: measure(name, make_scenes(skies, name, count), peer, replicates=0) for name in names}
    hits = "held-out footprints" if skies.sources.hits else "simulated hits"
    return {
        "scenes": f"{hits}, about 70 per Mpx, on held-out skies; truth dilated 3x3",
        "left_out": skies.sources.missing(),
        **{name: {key: round(value, 5) for key, value in result.row.items()} for name, result in results.items()},
    }


def input_ranges(network, sources=None, skies=None, size=cards.TILING["tile"]):
    """Find the range of the inputs of a network's convolutions, on validation patches.

    Parameters
    ----------
    network : `torch.nn.Module`
        From `crattn_stage.models.networks.build`, of a model with scaled input.
    sources : dict, optional
        Arguments of `training.data.library.Skies`.
    skies : optional
        As for `training.data.patches.Patches`, in place of the validation skies of `sources`.
    size : int
        Side of the patches, pixels.

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
    skies = Skies("validation", **(sources or {})) if skies is None else skies
    patches = Patches(skies, size, RANGE_PATCHES, seed=0)
    with torch.inference_mode():
        for i in range(RANGE_PATCHES):
            network(torch.from_numpy(patches[i][0])[None])
    ranges = {}
    for name, values in found.items():
        low, high = np.min(values, 0)[:, 0], np.max(values, 0)[:, 1]
        # One that is dead, always 0, gets some width.
        ranges[name] = np.column_stack([low, np.maximum(high, low + 1e-3)]).round(4).tolist()
    return ranges
