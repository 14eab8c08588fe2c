"""``crattn-stage adapt``: a model of your camera's own, from its darks and frames, in a time limit."""

import copy
import datetime
import json
import math
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from crattn_stage import __version__
from crattn_stage.detection.model import CosmicRayModel
from crattn_stage.errors import CrattnError, printable
from crattn_stage.fits.atomic import replacing
from crattn_stage.models import cards
from crattn_stage.models.architectures import ARCHITECTURES
from crattn_stage.models.networks import restore, tensors_of
from training import checkpoints
from training.configuration import SHAPES, Configuration, read_configuration
from training.data.bad_pixels import bad_pixels, write_bad_pixels
from training.data.camera import Camera, measure, name_of, read_exposures
from training.data.camera_skies import CameraSkies
from training.data.hits import write_footprints
from training.data.library import Skies
from training.data.patches import Patches
from training.evaluation.adaptation import (
    FALSE_POSITIVE_RATE,
    Compared,
    Elsewhere,
    Looked,
    OwnScenes,
    compare,
    draw,
)
from training.export import input_ranges, shifted
from training.loop import SUMMARY, Trainer, follow, train

#: Weights of the old model in the means that are tried, the new one alone first.
KEEPS = (0.0, 0.3, 0.5)
#: Fraction of the time that is left for training at least.
LEAST_TRAINING = 0.4
#: Time of measuring a new model, in units of that of the old one, and seconds for figure and files.
MEASURING, WRITING = 1.2, 15.0
#: Folder of the training, the file in it that says what it is made from, and names of a model.
RUN, INPUTS, NAME = "run", "inputs.json", re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,50}")


class Rejected(CrattnError):
    """A model that was adapted, and is worse."""


def adapt(
    name,
    folder,
    darks=(),
    frames=(),
    flats=(),
    start=cards.DEFAULT,
    minutes=30.0,
    gain=None,
    overwrite=False,
    tell=print,
):
    """Fine-tune a model on the hits and skies of a camera, and accept it if it is better there and not worse elsewhere.

    The same call goes on where an interrupted one stood.

    Parameters
    ----------
    name : str
        Of the new model.
    folder : path-like
        A folder `name` in it gets weights, card, hits, bad pixels, figure and report.
    darks, frames, flats : sequence of path-like
        Of one camera.  Either darks or frames are enough; at least three of each are best.  Long darks hold the
        hits; frames are as they are masked later, raw or reduced.
    start : str or path-like
        The model to start from, as for `crattn_stage.models.cards.find`.
    minutes : float
        Time limit of all of it.  Half an hour of one core is usual for ``fast``.
    gain : float, optional
        Electrons per ADU; the headers' by default.
    overwrite : bool
        Replace a model that is there.
    tell : callable
        Called with lines on what is done.

    Returns
    -------
    `crattn_stage.models.cards.ModelCard`

    Raises
    ------
    ValueError
        If the name is none, no file can be used, or the interrupted run is another one.
    Rejected
        If the model is worse, naming what is; it is written under a name that says so.
    crattn_stage.errors.CrattnError
        If the model to start from is unknown, or the new one exists.
    """
    began = time.monotonic()
    folder = _folder(name, folder, overwrite)
    if not darks and not frames:
        raise ValueError("neither darks nor frames are given; there is nothing to adapt to")
    task = _prepared(name, folder, start, {"dark": darks, "frame": frames, "flat": flats}, gain, tell)
    looking = time.monotonic()
    before = _before(task)
    measuring = MEASURING * (time.monotonic() - looking)
    network, end = _trained(task, began, minutes, measuring)
    verdict = _verdict(task, network, before, measuring, end)
    made, written = _write(task, verdict, began)
    if verdict["worse"]:
        raise Rejected(f"{name} is rejected, and kept as {written}: {verdict['worse'][0]}")
    if task.known_hot:
        tell(
            "first:                set bad_pixels in the camera's profile, as above; the model was judged without "
            f"them (crattn-stage inspect FRAME --write-profile {name}.toml writes a profile)"
        )
    tell(_how_to_use(written, start, name_of([e for some in task.found.values() for e in some]), task.found["frame"]))
    return made


@dataclass
class _Task:
    """What is adapted to what.

    Attributes
    ----------
    name : str
    folder : `pathlib.Path`
        Of the model.
    tell : callable
    card : `crattn_stage.models.cards.ModelCard`
        Of the model to start from.
    weights : list
        Its first and its second ones, or None.
    configuration : `training.configuration.Configuration`
    device : `torch.device`
    found : dict
        Kind of exposure -> `training.data.camera.Exposure` of each.
    files : dict
        Kind -> name and sha256 of each.
    camera : `training.data.camera.Camera`
    known_hot : bool
        Whether there is a file of bad pixels, with hot ones.
    interrupted : bool
        Whether a run that was interrupted goes on.
    """

    name: str
    folder: Path
    tell: Callable
    card: cards.ModelCard
    weights: list
    configuration: Configuration
    device: torch.device
    found: dict
    files: dict
    camera: Camera
    known_hot: bool
    interrupted: bool

    @property
    def run(self):
        """The folder of the training."""
        return self.folder / RUN

    @property
    def narrow(self):
        """Whether the stars are as narrow as hits: second weights are trained."""
        return bool(self.camera.narrow)

    def skies(self, split, **other):
        """Return the skies of a split."""
        pixel = next((e.pixel for some in self.found.values() for e in some if e.pixel), None)
        return CameraSkies(self.camera, split, **{"pixel": pixel, "known_hot": self.known_hot} | other)

    def halves(self, **other):
        """Return the scenes of both halves of what is held out."""
        splits = enumerate(("validation", "test"), 1)
        return [OwnScenes.of(self.skies(split, generic=0, **other), number) for number, split in splits]

    def without_file(self, model, threshold):
        """Return what a model makes of the held-out scenes if their hot pixels are not known, in words."""
        looked = [Looked(model, half, threshold, ()) for half in self.halves(known_hot=False)]
        return _found_and_false(looked, threshold)


def _prepared(name, folder, start, given, gain, tell):
    """Read and measure a camera; write its hits and bad pixels."""
    run = folder / RUN
    card, *weights = cards.load_both(start)
    found = {kind: read_exposures(paths, kind, tell, gain) for kind, paths in given.items()}
    _set_gains([exposure for some in found.values() for exposure in some], tell)
    # Pairs: files of several folders may have one name.
    files = {kind: [[printable(e.path.name), e.sha256] for e in some] for kind, some in found.items()}
    inputs = {"files": files, "model": card.sha256, "gain": gain}
    before = _interrupted(run, inputs, tell)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    camera = measure(found["dark"], found["frame"], found["flat"], _model(card, *weights, device), tell)
    # Nothing is written before all has been read.
    run.mkdir(parents=True, exist_ok=True)
    known_hot = _write_bad_pixels(folder / f"{name}-bad.fits", camera, found, tell)
    if not before:
        _note(run / INPUTS, inputs | {"known_hot": known_hot})
    elif before.get("known_hot") != known_hot:
        raise ValueError(f"{run}: an interrupted run with other hot pixels; remove the folder to begin anew")
    if camera.hits:
        write_footprints(folder / f"{name}-hits.fits", camera.hits)
    else:
        tell("no hits of this camera: those of the shipped catalogue, and simulated ones, take their place")
    if camera.narrow:
        tell("the stars of this camera are as narrow as hits: the weights for frames of such stars alone are trained")
    configuration = _configuration(card, start, bool(camera.narrow))
    return _Task(
        name, folder, tell, card, weights, configuration, device, found, files, camera, known_hot, bool(before)
    )


def _before(task):
    """Return what the model to start from makes of the held-out scenes and of others, and the others."""
    card, old = task.card, _model(task.card, *task.weights, task.device)
    elsewhere = Elsewhere(Skies("test"), task.camera.fwhm, task.narrow)
    looked = [Looked(old, half, card.threshold) for half in task.halves()]
    figures = elsewhere.figures(old, card.threshold)
    task.tell(f"{card.name} on held-out skies of this camera: {_found_and_false(looked, card.threshold)}")
    if task.known_hot:
        task.tell(f"{card.name} there without that file: {task.without_file(old, card.threshold)}")
    return looked, elsewhere, figures


def _trained(task, began, minutes, measuring):
    """Train within a time limit; return the network, and when measuring has to end."""
    skies = task.skies("train", size=task.configuration.patch)
    skies.prepare()
    # Where hot pixels are known, the new model is also measured with them.
    end = began + 60 * minutes - WRITING - task.known_hot * measuring
    last = end - len(KEEPS) * measuring
    training_minutes = max(last - time.monotonic(), 60 * LEAST_TRAINING * minutes) / 60
    training_minutes = _remembered(task.run, training_minutes)
    configuration = replace(task.configuration, minutes=training_minutes)
    times = [(count + task.known_hot) * measuring for count in (1, len(KEEPS))]
    _estimate(configuration, skies, task.device, times, task.tell)
    over = training_minutes - (last - time.monotonic()) / 60
    if not task.interrupted and over > 0.5:
        task.tell(
            f"that is about {over:.0f} minutes longer than --minutes allows; more files, or larger ones, take longer"
        )
    return train(configuration, task.run, skies=skies).cpu(), end


def _verdict(task, mean, before, measuring, end):
    """Compare a network with the one to start from; while it is worse, try means with the old weights."""
    verdict = None
    for keep in KEEPS:
        network = copy.deepcopy(mean)
        if keep:
            if time.monotonic() + measuring > end:
                task.tell("no time is left to try means with the old weights")
                break
            task.tell(f"worse: {verdict['worse'][0]}; trying a mean in which the old weights weigh {keep:g}")
            follow(network, restore(task.card, (task.narrow and task.weights[1]) or task.weights[0]), 1 - keep)
        verdict = _judged(task, network.eval(), before) | {"keep": keep, "network": network}
        if not verdict["worse"]:
            break
    return verdict


def _folder(name, folder, overwrite):
    """Return the folder of the model."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: not a name of up to 51 letters, digits and _.+-")
    if name in cards.shipped():
        raise ValueError(f"{name!r} is a shipped model; take another name")
    folder = Path(folder) / name
    if (folder / f"{name}.safetensors").exists() and not overwrite:
        raise CrattnError(f"{folder / name}.safetensors exists; --overwrite replaces it")
    return folder


def _set_gains(exposures, tell):
    """Set the gain of exposures without one to 1, and say so once."""
    unknown = [sky for exposure in exposures for sky in exposure.skies if math.isnan(sky.gain)]
    for sky in unknown:
        sky.gain = 1.0
    if unknown:
        tell("no gain in the headers: 1 electron per ADU is assumed, so charges are in ADU; --gain sets it")
    if any(math.isnan(exposure.seconds) for exposure in exposures):
        tell("no exposure time in some headers: darks without one are taken to be equally long")


def _interrupted(run, inputs, tell):
    """Return the inputs of an interrupted run, which must be the same, or None."""
    path = run / INPUTS
    try:
        before = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: not readable; remove the folder {run} to begin anew") from error
    for key, value in inputs.items():
        if before.get(key) != value:
            raise ValueError(f"{run}: an interrupted run with other {key}; give the same, or remove the folder")
    if (run / checkpoints.CHECKPOINT).exists():
        tell(f"going on with the run in {run}")
    return before


def _note(path, inputs):
    with replacing([path], overwrite=True) as (stream,):
        stream.write((json.dumps(inputs, indent=2) + "\n").encode())


def _write_bad_pixels(path, camera, found, tell):
    """Write the bad pixels that are known of a camera, if any, and return whether hot ones are among them."""
    planes = bad_pixels(camera)
    count, shapes = sum(map(np.count_nonzero, planes)), tuple(plane.shape for plane in planes)
    # Those of darks or flats of another size are of no use on frames.
    like = next((found[kind][0] for kind in ("frame", "dark", "flat") if found[kind]), None)
    if not count or like.shapes != shapes:
        return False
    write_bad_pixels(path, planes, like.path)
    named = json.dumps(str(path.resolve()))
    tell(
        f"{count} hot pixels and pixels of bad columns; the hot ones are left out below, and on your frames with "
        f"bad_pixels = {named} in [settings] of the camera's profile"
    )
    return any(map(np.any, camera.hot))


def _remembered(run, minutes):
    """Return the minutes of training that the run was begun with."""
    inputs = json.loads((run / INPUTS).read_text())
    if "minutes" not in inputs or not (run / checkpoints.CHECKPOINT).exists():
        inputs["minutes"] = minutes
        _note(run / INPUTS, inputs)
    return inputs["minutes"]


def _found_and_false(looked, threshold):
    """Return what a model makes of the held-out scenes, in words."""
    compared, at = Compared(looked, looked, threshold), [threshold] * 2
    found, hits = compared.found(looked, at)[compared.is_own], compared.hits[compared.is_own]
    return (
        f"finds {found.mean():.1%} of the hits ({len(np.unique(hits))} hits, each placed several times) and masks "
        f"{compared.false(looked, at) / compared.area:.0f} false objects per megapixel"
    )


def _model(card, first, second, device):
    """Return a model that is compared, in the arithmetic that networks are trained in."""
    engine = "cuda" if device.type == "cuda" else "torch"
    return CosmicRayModel(replace(card, narrow={"input_ranges": {}}), first, engine, narrow=second)


def _configuration(card, start, narrow):
    recipe = read_configuration(
        "adapt",
        architecture=card.architecture,
        channels=card.channels,
        scaling=card.scaling,
        start_from=str(start),
        narrow=narrow,
    )
    if ARCHITECTURES[card.architecture][0] == "group":
        # A group-norm network is trained at the tile size it runs at.
        recipe = replace(recipe, patch=SHAPES["group"][0], batch=SHAPES["group"][1])
    return recipe


def _estimate(configuration, skies, device, measuring, tell):
    """Say how long everything will take, by a trial step on weights that are not kept."""
    trainer = Trainer(configuration, device)
    patches = Patches(skies, configuration.patch, 2 * configuration.batch, 1, configuration.scaling)
    for first in (0, configuration.batch):
        began = time.monotonic()
        arrays = zip(*(patches[first + i] for i in range(configuration.batch)), strict=True)
        trainer.advance(*(torch.stack([torch.from_numpy(a) for a in some]) for some in arrays), 1.0)
        seconds = time.monotonic() - began
    once, thrice = (f"{(spent + WRITING) / 60:.1f}" for spent in measuring)
    tell(
        f"estimate: {configuration.minutes:.1f} minutes of training, about {60 * configuration.minutes / seconds:.0f} "
        f"steps of {configuration.batch} patches ({'bfloat16' if trainer.bfloat16 else 'float32'}, {device.type}), "
        f"then {once} minutes of measuring, or {thrice} if means with the old weights are tried"
    )


def _judged(task, network, before):
    """Set the threshold of a network, and compare it with the model that it was adapted from."""
    looked, elsewhere, figures = before
    card, device, new, (first, second) = task.card, task.device, tensors_of(network), task.weights
    model = _model(card, *((first, new) if task.narrow else (new, second)), device)
    compared = Compared(looked, [Looked(model, one.own) for one in looked], card.threshold)
    # A model has one threshold: the weights that stay keep to it.
    if task.narrow:
        threshold, made = card.threshold, (first, shifted(new, card.threshold, compared.threshold))
    else:
        threshold, made = compared.threshold, (new, second and shifted(second, compared.threshold, card.threshold))
    rows, worse = compare(compared, figures, elsewhere.figures(_model(card, *made, device), threshold))
    return {
        "rows": rows,
        "worse": worse,
        "threshold": threshold,
        "rate": compared.rate,
        "compared": compared,
        "weights": made,
    }


def _write(task, verdict, began):
    """Write a model with card, picture and report; return the card and the path of its weights."""
    name = f"{task.name}-rejected" if verdict["worse"] else task.name
    made, training = _save(task, name, verdict)
    draw(task.folder / f"{name}.png", verdict["compared"], (task.card.name, name))
    report = _report(task, made, verdict, training, time.monotonic() - began)
    if task.known_hot:
        new = _model(made, *verdict["weights"], task.device)
        report += f"\n\n{name} without {task.name}-bad.fits {task.without_file(new, made.threshold)}"
    with replacing([task.folder / f"{name}.txt"], overwrite=True) as (stream,):
        stream.write(f"{report}\n".encode())
    task.tell(report)
    return made, task.folder / f"{name}.safetensors"


def _save(task, name, verdict):
    """Write weights and card; return the card, and what it says of this training."""
    card, camera, ranges = task.card, task.camera, {}
    if card.scaling != "none":
        size = task.configuration.patch
        ranges = input_ranges(verdict["network"], skies=task.skies("validation", size=size), size=size)
    own = f"{len(camera.hits)} hits of its darks" if camera.hits else "the shipped catalogue of hits"
    seen = "frames" if not camera.of_darks else "darks"
    training = json.loads((task.run / SUMMARY).read_text())
    training.pop("trained_on", None)
    training |= {
        "files": task.files,
        "adapted_from": {"name": card.name, "sha256": card.sha256, "trained_on": card.trained_on},
    }
    if verdict["keep"]:
        training["blended"] = f"mean of the weights with those that it started from, which weigh {verdict['keep']:g}"
    adapted = {
        "input_ranges": ranges,
        "training": training,
        "metrics": {
            "command": "crattn-stage adapt",
            "scenes": "held-out hits and frames of the camera; generic scenes are simulated",
            "before_and_after": {row.what: [row.before, row.after] for row in verdict["rows"]},
            "worse": verdict["worse"],
            "false_positive_rate": verdict["rate"],
        },
    }
    trained_on = (
        f"adapted from {card.name}: {own}, its {seen}, and skies simulated like them, with simulated hits; "
        "and generic simulated skies and hits"
    )
    content = asdict(card) | {
        "name": name,
        "threshold": verdict["threshold"],
        "code_version": __version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    del content["sha256"]
    if task.narrow:
        content |= {"narrow": adapted, "trained_on": f"{card.trained_on}; second weights {trained_on}"}
    else:
        content |= {**adapted, "trained_on": trained_on, "false_positive_rate": verdict["rate"]}
    first, second = verdict["weights"]
    return cards.save(first, content, task.folder, second), training


def _report(task, made, verdict, training, seconds):
    card, compared = task.card, verdict["compared"]
    one, two = compared.thresholds
    lines = [
        f"{made.name}, adapted from {card.name} ({card.sha256[:16]}) in {seconds / 60:.1f} minutes, "
        f"{training['steps']} steps",
        f"threshold {compared.threshold:.3f}, mean of those set on both halves of what is held out ({one:.3f} and "
        f"{two:.3f}): masks {verdict['rate']:.1e} of the clean pixels (aim: {FALSE_POSITIVE_RATE:.0e}, or "
        "more where fewer hits would be found); in the table each half is judged by the threshold of the other",
        *(
            [f"these are the weights for stars as narrow as hits; they mask so at the model's {made.threshold:.3f}"]
            if made.threshold != compared.threshold
            else []
        ),
        "",
        f"{'':52} {card.name[:10]:>10} {made.name[:10]:>10}   limit",
        *map(str, verdict["rows"]),
        "",
        "accepted" if not verdict["worse"] else "rejected: " + "; ".join(verdict["worse"]),
        "",
        "made from",
        *(f"  {kind:6} {digest[:16]}  {path}" for kind, some in task.files.items() for path, digest in some),
    ]
    if verdict["keep"]:
        lines.insert(1, training["blended"])
    return "\n".join(lines)


def _how_to_use(weights, old, instrument, frames):
    """Return the commands that mask with a model, compare it, and register it with that comparison."""
    some = " ".join(shlex.quote(printable(exposure.path)) for exposure in frames[-3:]) or "FRAME..."
    where = f" --instrument {shlex.quote(instrument)} --new-instrument" if instrument else ""
    made, comparison = (shlex.quote(str(path)) for path in (weights, weights.with_name("comparison.json")))
    return (
        f"to mask with it:      crattn-stage run --model {made} {some}\n"
        f"to compare the masks: crattn-stage compare {shlex.quote(str(old))} {made} {some} --json {comparison}\n"
        f"for whole nights:     crattn-stage models register {made} --comparison {comparison}{where}"
    )
