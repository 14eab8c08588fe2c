"""The checkpoints that the authors of the paper released, as models of ours."""

import pickle

import torch

from crattn_stage.errors import FrameError, ModelError
from crattn_stage.fits.source import open_regular
from crattn_stage.models.cards import check_tensors

#: Module names in the checkpoints the paper's authors released -> ours.
RELEASED_NAMES = {
    "inc.conv.conv.": "encoder1.",
    "down1.down_cov.1.conv.": "encoder2.",
    "down2.down_cov.1.conv.": "encoder3.",
    "up2.up_conv.": "up2.upsample.",
    "up2.conv.conv.": "up2.convolutions.",
    "up2.attention.W_gate.": "up2.attention.gate.",
    "up2.attention.W_x.": "up2.attention.skip.",
    "up2.attention.psi.": "up2.attention.alpha.",
    "up1.up_conv.": "up1.upsample.",
    "up1.conv.conv.": "up1.convolutions.",
    "up1.attention.W_gate.": "up1.attention.gate.",
    "up1.attention.W_x.": "up1.attention.skip.",
    "up1.attention.psi.": "up1.attention.alpha.",
    "outc.conv.": "head.",
}


def import_released(path, architecture):
    """Read a checkpoint the paper's authors released.

    In their batch-norm networks one module serves twice in a block; its two
    entries hold the same tensors, so separate modules give the same outputs.

    Parameters
    ----------
    path : path-like
        A state dict written by `torch.save`; read with ``weights_only=True``.
    architecture : str
        One of `crattn_stage.models.architectures.ARCHITECTURES`.

    Returns
    -------
    dict of str to `numpy.ndarray`
        As from `crattn_stage.models.cards.load`; the network expects raw counts (ADU, sky included).

    Raises
    ------
    ModelError
        If the file is no such checkpoint.
    """
    try:
        # A pipe would be waited for.
        with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as stream:
            state = torch.load(stream, map_location="cpu", weights_only=True)
    except FrameError as error:
        raise ModelError(f"{path}: {error}") from error
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, IndexError) as error:
        raise ModelError(f"{path}: not a checkpoint of tensors alone") from error
    try:
        tensors = {_renamed(name): tensor.numpy() for name, tensor in state.items()}
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ModelError(f"{path}: not a released checkpoint of {architecture}; are all its tensors there?") from error
    check_tensors(tensors, architecture, 32, path)
    return tensors


def _renamed(name):
    name = name.removeprefix("module.")
    for theirs, ours in RELEASED_NAMES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    raise KeyError(f"unexpected tensor {name!r}")
