"""Checkpoints of a training run: written by replacement, read back only by the same run."""

import os
from pathlib import Path

import torch

from training.configuration import Configuration

CHECKPOINT = "checkpoint.pt"


def save(folder, configuration, state):
    """Write a checkpoint; an interruption leaves the one before.

    Parameters
    ----------
    folder : path-like
    configuration : `training.configuration.Configuration`
    state : dict
        Tensors and plain data.
    """
    path = Path(folder) / CHECKPOINT
    part = path.with_suffix(".part")
    torch.save({"configuration": configuration.as_dict(), **state}, part)
    os.replace(part, path)


def load(folder, device="cpu"):
    """Read a checkpoint.

    Parameters
    ----------
    folder : path-like
    device : str or `torch.device`

    Returns
    -------
    configuration : `training.configuration.Configuration`
    state : dict

    Raises
    ------
    ValueError
        If there is none, or it was written by another version.
    """
    path = Path(folder) / CHECKPOINT
    try:
        state = torch.load(path, weights_only=True, map_location=device)
        return Configuration(**state.pop("configuration")), state
    except FileNotFoundError as error:
        raise ValueError(f"{folder}: no {CHECKPOINT} in it") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: written by another version of crattn-stage") from error


def resume(folder, configuration, device="cpu"):
    """Read the checkpoint to resume from, if there is one.

    Parameters
    ----------
    folder : path-like
    configuration : `training.configuration.Configuration`
        Of the run that is to go on.
    device : str or `torch.device`

    Returns
    -------
    dict or None
        As it was given to `save`.

    Raises
    ------
    ValueError
        If it belongs to another run.
    """
    if not (Path(folder) / CHECKPOINT).exists():
        return None
    found, state = load(folder, device)
    if not found.same_run(configuration):
        other = {
            k: v
            for k, v in found.as_dict().items()
            if v != configuration.as_dict()[k] and k not in ("steps", "minutes")
        }
        raise ValueError(f"{Path(folder) / CHECKPOINT}: belongs to another run, with {other}")
    return state
