"""The training loop: deterministic given a seed, resumable from its checkpoint."""

import copy
import csv
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from crattn_stage.detection.engines.torch_engines import bfloat16_in_hardware
from crattn_stage.models import cards as models
from crattn_stage.models.architectures import ARCHITECTURES
from crattn_stage.models.networks import build, restore
from training.data.scenes import Patches, Skies

#: Patch side and patches per step.  A group-norm network is trained at the
#: tile size it will run at, because its output depends on it.
SHAPES = {"batch": (128, 16), "group": (256, 4)}
WARM_UP_STEPS = 100
#: Of the paper's validation patches, one for every so many training patches of an epoch.
VALIDATION_SHARE = 9


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    steps : int
    peak : float
        Highest learning rate.
    optimiser : {"AdamW", "Adam"}
    scaling : {"asinh", "none"}
        Of the input, see `crattn_stage.detection.preprocessing.scale`.
    contamination : {"electrons", "paper"}
        How hits are added: `training.data.scenes.contaminate` or `contaminate_as_paper`.
    shape : tuple of int, optional
        Patch side and patches per step; `SHAPES` without it.
    cool_down : float
        Share of the steps, the last, in which batch-norm statistics are frozen.
    epochs : int
        Parts of the run after which the validation loss is taken, and the rate cut by 10
        when it has not fallen by 0.1% for four of them.  Without any, the rate warms up,
        stays, and falls to zero in the cool-down.
    average : float
        Decay, per step, of a running mean of the weights, which then is the result; 0 is without.
    """

    steps: int
    peak: float
    optimiser: str = "AdamW"
    scaling: str = "asinh"
    contamination: str = "electrons"
    shape: tuple | None = None
    cool_down: float = 0.4
    epochs: int = 0
    average: float = 0.0


#: The paper's (Appendix): 60 epochs of 18,432 patches, 40% of them before the statistics are frozen; and ours.
RECIPES = {
    "ours": Recipe(4300, 3e-3, average=0.995),
    "paper": Recipe(60 * 18432 // 16, 5e-3, "Adam", "none", "paper", (256, 16), 0.6, 60),
}


def learning_rate(step, steps, peak, cool_down):
    """Warm up, stay, fall linearly to zero in the cool-down.

    Before the cool-down the rate does not depend on `steps`, so a run can be
    resumed with more or fewer of them.
    """
    left = (steps - step) / (cool_down * steps)
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS, left)


def train(
    architecture,
    output,
    data=None,
    steps=None,
    peak=None,
    seed=0,
    workers=0,
    save_every=100,
    start_from=None,
    channels=32,
    recipe="ours",
    hits=None,
    frames=(),
    tensorboard=False,
):
    """Train one network, or resume where its checkpoint stands.

    Parameters
    ----------
    architecture : str
        One of `crattn_stage.models.networks.ARCHITECTURES`.
    output : path-like
        Folder for `checkpoint.pt`, `log.csv` and, at the end, `training.json`.
    data : path-like, optional
        Folder of real data as in `training.data.scenes.Skies`; all simulated without it.
    steps : int, optional
        The recipe's without it.
    peak : float, optional
        Highest learning rate; the recipe's without it.
    seed : int
    workers : int
        Processes that make patches; 0 makes them in this one.
    save_every : int
        Steps between checkpoints.
    start_from : str or path-like, optional
        A model of ours, as for `crattn_stage.models.cards.find`, whose tensors are the first
        guess of those of the same name: a sibling with or without attention, or an
        older version.  From scratch without it.
    channels : int
        As for `crattn_stage.models.networks.build`.
    recipe : {"ours", "paper"}
        One of `RECIPES`.
    hits : path-like, optional
        Catalogue of footprints, as for `training.data.scenes.Skies`.
    frames : sequence of path-like
        Further real frames, as for `training.data.scenes.Skies`.
    tensorboard : bool
        Write the log for TensorBoard, too.

    Returns
    -------
    `torch.nn.Module`

    Raises
    ------
    ValueError
        If the checkpoint in `output` belongs to another run.
    """
    output, name, recipe = Path(output), recipe, RECIPES[recipe]
    steps, peak = steps or recipe.steps, peak or recipe.peak
    output.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    normalisation, _ = ARCHITECTURES[architecture]
    size, batch = recipe.shape or SHAPES[normalisation]
    low = device.type == "cuda" or bfloat16_in_hardware()
    # In float32 on a CPU this order of the pixels is a quarter slower.
    order = torch.channels_last if low else torch.contiguous_format
    network = build(architecture, channels).to(device, memory_format=order)
    # Hits cover about 1% of a patch: start from that guess.
    torch.nn.init.constant_(network.head.bias, -4.5)
    if start_from is not None:
        network.load_state_dict(restore(*models.load(start_from)).state_dict(), strict=False)
    mean = copy.deepcopy(network)
    decay = {"weight_decay": 1e-4} if recipe.optimiser == "AdamW" else {}
    optimiser = getattr(torch.optim, recipe.optimiser)(network.parameters(), lr=peak, **decay)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=4, threshold=1e-3)
    epoch = max(1, steps // recipe.epochs) if recipe.epochs else steps + 1
    start, seconds, log = 0, 0.0, [["step", "loss", "learning_rate", "seconds"]]
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        run = {"architecture": architecture, "channels": channels, "seed": seed, "recipe": name}
        # Checkpoints of before there was a choice of channels or recipe are of these.
        other = {key: value for key, value in ({"channels": 32, "recipe": "ours"} | state).items() if key in run}
        if other != run:
            raise ValueError(f"{checkpoint}: belongs to another run, {other}")
        network.load_state_dict(state["network"])
        mean.load_state_dict(state.get("mean", state["network"]))
        optimiser.load_state_dict(state["optimiser"])
        plateau.load_state_dict(state.get("plateau", {}))
        start, seconds, log = state["step"], state["seconds"], state["log"]

    def patches(split, count):
        return Patches(Skies(split, data, hits, frames), size, count, seed, recipe.scaling, recipe.contamination)

    def logits(image):
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            return network(image.to(device).contiguous(memory_format=order)).float()

    def loss_of(image, truth, weight):
        return binary_cross_entropy_with_logits(logits(image), truth.to(device), weight.to(device))

    loader = DataLoader(
        Subset(patches("train", steps * batch), range(start * batch, steps * batch)),
        batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    if recipe.epochs:
        held_out = DataLoader(patches("validation", max(batch, epoch * batch // VALIDATION_SHARE)), batch)
    writer = _writer(output, start) if tensorboard else None
    losses, began = [], time.perf_counter() - seconds
    for step, arrays in enumerate(tqdm(loader, initial=start, total=steps, disable=None), start):
        network.train()
        if step >= (1 - recipe.cool_down) * steps:
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
        if not recipe.epochs:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, peak, recipe.cool_down)
        rate = optimiser.param_groups[0]["lr"]
        loss = loss_of(*arrays)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        follow(mean, network, min(recipe.average, (step + 1) / (step + 10)))
        if (step + 1) % epoch == 0:
            network.eval()
            with torch.inference_mode():
                plateau.step(np.mean([loss_of(*arrays).item() for arrays in held_out]))
        if (step + 1) % save_every == 0 or step + 1 == steps:
            seconds = time.perf_counter() - began
            # The log is part of the checkpoint: steps done again after a kill are not logged twice.
            log.append([step + 1, round(float(np.mean(losses)), 6), round(rate, 8), round(seconds)])
            losses.clear()
            state = {
                "architecture": architecture,
                "channels": channels,
                "seed": seed,
                "recipe": name,
                "step": step + 1,
                "seconds": seconds,
                "log": log,
                "network": network.state_dict(),
                "mean": mean.state_dict(),
                "optimiser": optimiser.state_dict(),
                "plateau": plateau.state_dict(),
            }
            torch.save(state, f"{checkpoint}.part")
            os.replace(f"{checkpoint}.part", checkpoint)
            with open(output / "log.csv", "w", newline="") as stream:
                csv.writer(stream).writerows(log)
            if writer:
                for key, value in zip(log[0][1:3], log[-1][1:3], strict=True):
                    writer.add_scalar(key, value, step + 1)
                writer.flush()
    started_from = models.read_card(start_from) if start_from else None
    summary = {
        "architecture": architecture,
        "channels": channels,
        "recipe": name,
        **{key: value for key, value in asdict(recipe).items() if key not in ("shape", "steps", "peak")},
        "steps": steps,
        "patch": size,
        "batch": batch,
        "megapixels": round(steps * batch * size**2 / 1e6),
        "peak": peak,
        "arithmetic": "bf16 autocast" if low else "float32",
        "seed": seed,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "hours": round(seconds / 3600, 2),
        "threads": torch.get_num_threads(),
        "real_data": data is not None,
        "started_from": started_from and f"{started_from.name} {started_from.sha256}",
    }
    (output / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
    return mean


@torch.no_grad()
def follow(mean, network, decay):
    """Move a mean of weights towards a network, in place; counts are copied.

    Parameters
    ----------
    mean, network : `torch.nn.Module`
        Of one architecture.
    decay : float
        Share of the mean that is kept; with none it becomes the network.
    """
    for old, new in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if old.is_floating_point() and decay:
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


def _writer(output, start):
    # Imported here: TensorBoard is an extra.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(output / "tensorboard", purge_step=start + 1)
