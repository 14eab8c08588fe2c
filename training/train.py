"""The training loop: deterministic given a seed, resumable from its checkpoint."""

import csv
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from crattn_stage import models
from crattn_stage.networks import ARCHITECTURES, build
from training.scenes import Patches, Skies

#: Patch side and patches per step.  A group-norm network is trained at the
#: tile size it will run at, because its output depends on it.
SHAPES = {"batch": (128, 16), "group": (256, 4)}
#: Share of the steps in which the rate falls to zero and batch-norm statistics are frozen.
COOL_DOWN = 0.25
WARM_UP_STEPS = 100


def learning_rate(step, steps, peak):
    """Warm up, stay, fall linearly to zero in the cool-down.

    Before the cool-down the rate does not depend on `steps`, so a run can be
    resumed with more or fewer of them.
    """
    left = (steps - step) / (COOL_DOWN * steps)
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS, left)


def train(
    architecture,
    output,
    data=None,
    steps=4300,
    peak=3e-3,
    seed=0,
    workers=0,
    save_every=100,
    start_from=None,
    channels=32,
):
    """Train one network, or resume where its checkpoint stands.

    Parameters
    ----------
    architecture : str
        One of `crattn_stage.networks.ARCHITECTURES`.
    output : path-like
        Folder for `checkpoint.pt`, `log.csv` and, at the end, `training.json`.
    data : path-like, optional
        Folder of real data as in `training.scenes.Skies`; all simulated without it.
    steps : int
    peak : float
        Highest learning rate (AdamW).
    seed : int
    workers : int
        Processes that make patches; 0 makes them in this one.
    save_every : int
        Steps between checkpoints.
    start_from : str or path-like, optional
        A model of ours, as for `crattn_stage.models.find`, whose tensors are the first
        guess of those of the same name: a sibling with or without attention, or an
        older version.  From scratch without it.
    channels : int
        As for `crattn_stage.networks.build`.

    Returns
    -------
    `torch.nn.Module`
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    normalisation, _ = ARCHITECTURES[architecture]
    size, batch = SHAPES[normalisation]
    network = build(architecture, channels).to(device, memory_format=torch.channels_last)
    # Hits cover about 1% of a patch: start from that guess.
    torch.nn.init.constant_(network.head.bias, -4.5)
    if start_from is not None:
        network.load_state_dict(models.load(start_from)[1].state_dict(), strict=False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=1e-4)
    start, seconds, log = 0, 0.0, [["step", "loss", "learning_rate", "seconds"]]
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        run = {"architecture": architecture, "channels": channels, "seed": seed}
        # Checkpoints of before there was a choice of channels are of 32.
        other = {key: value for key in run if (value := state.get(key, 32)) != run[key]}
        if other:
            raise ValueError(f"{checkpoint}: belongs to another run, {other}")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        start, seconds, log = state["step"], state["seconds"], state["log"]

    patches = Patches(Skies("train", data), size, steps * batch, seed)
    loader = DataLoader(
        Subset(patches, range(start * batch, steps * batch)),
        batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    losses, began = [], time.perf_counter() - seconds
    for step, arrays in enumerate(tqdm(loader, initial=start, total=steps, disable=None), start):
        network.train()
        if step >= (1 - COOL_DOWN) * steps:
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
        rate = learning_rate(step, steps, peak)
        for group in optimiser.param_groups:
            group["lr"] = rate
        image, truth, weight = (array.to(device) for array in arrays)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(image.contiguous(memory_format=torch.channels_last))
        loss = binary_cross_entropy_with_logits(logits.float(), truth, weight)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % save_every == 0 or step + 1 == steps:
            seconds = time.perf_counter() - began
            # The log is part of the checkpoint: steps done again after a kill are not logged twice.
            log.append([step + 1, round(float(np.mean(losses)), 6), round(rate, 8), round(seconds)])
            losses.clear()
            state = {
                "architecture": architecture,
                "channels": channels,
                "seed": seed,
                "step": step + 1,
                "seconds": seconds,
                "log": log,
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
            }
            torch.save(state, f"{checkpoint}.part")
            os.replace(f"{checkpoint}.part", checkpoint)
            with open(output / "log.csv", "w", newline="") as stream:
                csv.writer(stream).writerows(log)
    started_from = models.read_card(start_from) if start_from else None
    summary = {
        "architecture": architecture,
        "channels": channels,
        "steps": steps,
        "patch": size,
        "batch": batch,
        "megapixels": round(steps * batch * size**2 / 1e6),
        "optimiser": f"AdamW, peak rate {peak}, bf16 autocast",
        "cool_down": COOL_DOWN,
        "seed": seed,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "hours": round(seconds / 3600, 2),
        "threads": torch.get_num_threads(),
        "real_data": data is not None,
        "started_from": started_from and f"{started_from.name} {started_from.sha256}",
    }
    (output / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
    return network
