"""The training loop: deterministic given a configuration, resumable from its checkpoint."""

import copy
import csv
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from crattn_stage.detection.engines.torch_engines import bfloat16_in_hardware
from crattn_stage.models import cards
from crattn_stage.models.networks import build, restore
from training import checkpoints
from training.data.library import Sources
from training.loader import batches, validation_batches
from training.progress import Progress

WARM_UP_STEPS = 100
#: Logit of the first guess: hits cover about 1% of a patch.
FIRST_GUESS = -4.5
#: Steps of which a line of the log is the mean, and seconds between two checkpoints.
LOG_STEPS, CHECKPOINT_SECONDS = 100, 60.0
LOG, SUMMARY = "log.csv", "training.json"
_COLUMNS = ["step", "loss", "learning_rate", "seconds"]


def learning_rate(step, left, peak, cool_down):
    """Return the learning rate of a step: warm up, stay, fall linearly to zero in the cool-down.

    Before the cool-down the rate does not depend on what is left, so a run can be resumed with
    more or fewer steps.

    Parameters
    ----------
    step : int
        From 0.
    left : float
        Fraction of the run that is left, of its steps or of its time.
    peak, cool_down : float
        As in `training.configuration.Configuration`.

    Returns
    -------
    float
    """
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS, left / cool_down)


@torch.no_grad()
def follow(mean, network, decay):
    """Move a mean of weights towards a network, in place; counts are copied.

    Parameters
    ----------
    mean, network : `torch.nn.Module`
        Of one architecture.
    decay : float
        Fraction of the mean that is kept; with 0 it becomes the network.
    """
    for old, new in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if old.is_floating_point() and decay:
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


class Trainer:
    """A network, what optimises it, and how far it has come.

    Parameters
    ----------
    configuration : `training.configuration.Configuration`
    device : `torch.device`, optional
        A GPU where there is one by default.

    Attributes
    ----------
    network, mean : `torch.nn.Module`
        The network, and the running mean of its weights, which is the result.
    step : int
        Steps done.
    bfloat16 : bool
        Whether the forward pass is in bfloat16: on a GPU, and where the processor has it in hardware.
    completeness : float
        Fraction of the pixels of hits that are found at a probability of one half, a running mean of some 50 steps.
    """

    def __init__(self, configuration, device=None):
        self.configuration = configuration
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(configuration.seed)
        self.bfloat16 = self.device.type == "cuda" or bfloat16_in_hardware()
        # In float32 on a CPU this order of the pixels is a quarter slower.
        self._order = torch.channels_last if self.bfloat16 else torch.contiguous_format
        network = build(configuration.architecture, configuration.channels)
        self.network = network.to(self.device, memory_format=self._order)
        torch.nn.init.constant_(self.network.head.bias, FIRST_GUESS)
        if configuration.start_from:
            known = restore(*cards.load(configuration.start_from, configuration.narrow)).state_dict()
            self.network.load_state_dict(known, strict=False)
        self.mean = copy.deepcopy(self.network)
        decay = {"weight_decay": 1e-4} if configuration.optimiser == "AdamW" else {}
        optimiser = getattr(torch.optim, configuration.optimiser)
        self.optimiser = optimiser(self.network.parameters(), lr=configuration.peak, **decay)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=0.1, patience=4, threshold=1e-3
        )
        self.step, self.completeness, self._logits = 0, 0.0, None

    @property
    def rate(self):
        """The learning rate of the last step."""
        return self.optimiser.param_groups[0]["lr"]

    def _loss(self, image, truth, weight):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = self.network(image.to(self.device).contiguous(memory_format=self._order))
        self._logits = logits.detach()
        return binary_cross_entropy_with_logits(logits.float(), truth.to(self.device), weight.to(self.device))

    def left(self, seconds):
        """Return the fraction of the run that is left, of its steps or of its time, whichever is less.

        Parameters
        ----------
        seconds : float
            That it has taken so far.

        Returns
        -------
        float
            0 at the end.
        """
        steps, minutes = self.configuration.steps, self.configuration.minutes
        left = (steps - self.step) / steps
        return max(0.0, min(left, 1 - seconds / (60 * minutes)) if minutes else left)

    def advance(self, image, truth, weight, left):
        """Do one step.

        Parameters
        ----------
        image, truth, weight : `torch.Tensor`
            (batch, 1, patch, patch) float32, from `training.loader.batches`.
        left : float
            From `left`.

        Returns
        -------
        float
            The loss.
        """
        configuration = self.configuration
        self.network.train()
        if left <= configuration.cool_down:
            for module in self.network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
        if not configuration.epochs:
            rate = learning_rate(self.step, left, configuration.peak, configuration.cool_down)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
        loss = self._loss(image, truth, weight)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        follow(self.mean, self.network, min(configuration.average, (self.step + 1) / (self.step + 10)))
        self.step += 1
        hits = (truth * weight).to(self.device) > 0
        if hits.any():
            # A mean of all steps at first, then of the last ones.
            some = max(0.02, 1 / self.step)
            self.completeness += some * ((self._logits[hits] > 0).float().mean().item() - self.completeness)
        return loss.item()

    def validate(self, held_out):
        """Take the validation loss at the end of an epoch, and lower the rate where it no longer falls.

        Parameters
        ----------
        held_out : iterable
            From `training.loader.validation_batches`.
        """
        self.network.eval()
        with torch.inference_mode():
            self.plateau.step(np.mean([self._loss(*arrays).item() for arrays in held_out]))

    def state(self):
        """Return all that a run needs to go on, as for `restore`."""
        parts = {name: getattr(self, name).state_dict() for name in ("network", "mean", "optimiser", "plateau")}
        return {"step": self.step, **parts}

    def restore(self, state):
        """Go back to a state.

        Parameters
        ----------
        state : dict
            From `state`.
        """
        for name in ("network", "mean", "optimiser", "plateau"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]


def train(
    configuration,
    output,
    sources=None,
    workers=0,
    tensorboard=False,
    log_steps=LOG_STEPS,
    checkpoint_seconds=CHECKPOINT_SECONDS,
    skies=None,
):
    """Train one network, or resume where its checkpoint stands.

    Parameters
    ----------
    configuration : `training.configuration.Configuration`
    output : path-like
        Folder for the checkpoint, the log (CSV) and, at the end, the summary (JSON).
    sources : dict, optional
        Arguments of `training.data.library.Skies`: ``data``, ``hits``, ``frames``; everything
        is simulated without any.
    workers : int
        Processes that make patches; 0 makes them in this one.
    tensorboard : bool
        Write the log for TensorBoard, too (extra ``train``).
    log_steps : int
        Steps of which a line of the log is the mean.
    checkpoint_seconds : float
        Seconds between two checkpoints.  The first is written after the first step.
    skies : optional
        What patches are drawn from, as for `training.data.patches.Patches`, in place of the training skies of
        `sources`.  A resumed run must be given the same.

    Returns
    -------
    `torch.nn.Module`

    Raises
    ------
    ValueError
        If the checkpoint in `output` belongs to another run.
    """
    output, sources = Path(output), sources or {}
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(configuration)
    seconds, log, losses = 0.0, [_COLUMNS], []
    state = checkpoints.resume(output, configuration, trainer.device)
    if state:
        trainer.restore(state)
        seconds, log, losses = state["seconds"], state["log"], state["losses"]
    began, saved = time.perf_counter() - seconds, -np.inf
    loader = ()
    if trainer.left(seconds):
        loader = batches(configuration, "train", sources, trainer.step, workers=workers, skies=skies)
    epoch = max(1, configuration.steps // configuration.epochs) if configuration.epochs else 0
    held_out = validation_batches(configuration, sources) if epoch else None
    writer = _tensorboard(output, trainer.step) if tensorboard else None
    with Progress(configuration.steps, trainer.step) as progress:
        for arrays in loader:
            losses.append(trainer.advance(*arrays, trainer.left(seconds)))
            seconds = time.perf_counter() - began
            last = not trainer.left(seconds)
            limit = 60 * configuration.minutes - seconds if configuration.minutes else None
            progress.advance(limit, loss=losses[-1], completeness=trainer.completeness)
            if trainer.step % log_steps == 0 or last:
                log.append([trainer.step, round(float(np.mean(losses)), 6), round(trainer.rate, 8), round(seconds)])
                losses.clear()
                if writer:
                    for key, value in zip(_COLUMNS[1:3], log[-1][1:3], strict=True):
                        writer.add_scalar(key, value, trainer.step)
                    writer.flush()
            if epoch and trainer.step % epoch == 0:
                trainer.validate(held_out)
            if time.perf_counter() - saved >= checkpoint_seconds or last:
                # The log is part of the checkpoint: steps done again after a kill are not logged twice.
                state = {"seconds": seconds, "log": log, "losses": losses, **trainer.state()}
                checkpoints.save(output, configuration, state)
                with open(output / LOG, "w", newline="") as stream:
                    csv.writer(stream).writerows(log)
                saved = time.perf_counter()
            if last:
                break
    (output / SUMMARY).write_text(json.dumps(_summary(trainer, sources, seconds), indent=2) + "\n")
    return trainer.mean


def _summary(trainer, sources, seconds):
    """Return what the card of the model will say of its training."""
    configuration, device = trainer.configuration, trainer.device
    found = Sources.find(**{"folder" if key == "data" else key: value for key, value in sources.items()})
    start = cards.read_card(configuration.start_from) if configuration.start_from else None
    thin = found.thin if configuration.hard else ()
    files = [path for path in (found.ccd, found.coadd, *found.hits, *thin, *found.frames) if path]
    return {
        **configuration.as_dict(),
        "steps": trainer.step,
        "megapixels": round(trainer.step * configuration.batch * configuration.patch**2 / 1e6),
        "arithmetic": "bf16 autocast" if trainer.bfloat16 else "float32",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "hours": round(seconds / 3600, 2),
        "threads": torch.get_num_threads(),
        "trained_on": found.description(bool(configuration.hard)),
        "files": {path.name: _sha256(path) for path in files},
        "started_from": start and f"{start.name} {start.sha256}",
    }


def _sha256(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tensorboard(output, start):
    # Imported here: TensorBoard is an extra.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(output / "tensorboard", purge_step=start + 1)
