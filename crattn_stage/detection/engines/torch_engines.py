"""Networks run by torch: plain, as the reference, or with batch normalisation folded, on a CPU or a CUDA device."""

import copy
import os

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crattn_stage.detection.engines.base import Engine, forked, thread_count
from crattn_stage.errors import EngineError
from crattn_stage.models.networks import restore


def folded(network):
    """Return a copy of a network with batch normalisation folded into the convolutions before it.

    Parameters
    ----------
    network : `torch.nn.Module`
        In evaluation mode.

    Returns
    -------
    `torch.nn.Module`
        Equal to within rounding; a network with group normalisation is not changed.
    """
    network = copy.deepcopy(network)
    for sequence in network.modules():
        if isinstance(sequence, nn.Sequential):
            for i in range(len(sequence) - 1):
                if isinstance(sequence[i], nn.Conv2d) and isinstance(sequence[i + 1], nn.BatchNorm2d):
                    sequence[i], sequence[i + 1] = fuse_conv_bn_eval(sequence[i], sequence[i + 1]), nn.Identity()
    return network


def bfloat16_in_hardware():
    """Tell whether torch calculates in bfloat16 faster than in float32 on this processor.

    Without hardware support it is many times slower.

    Returns
    -------
    bool
        False where an older torch cannot tell: float32 is safe.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def reference(card, tensors, threads):
    """Return the network as it was trained, in float32 on a CPU.

    Parameters
    ----------
    card, tensors
        From `crattn_stage.models.cards.load`.
    threads : int or None
        CPU threads; torch's own choice if None.

    Returns
    -------
    `crattn_stage.detection.engines.base.Engine`
    """
    # The folded network may be in float32, too.
    return _engine("torch reference", restore(card, tensors), "cpu", torch.float32, threads)


def folded_on_cpu(card, tensors, threads):
    """Return a folded network on a CPU, in bfloat16 if the input is scaled and the processor has it in hardware.

    Parameters
    ----------
    card, tensors, threads
        As for `reference`.

    Returns
    -------
    `crattn_stage.detection.engines.base.Engine`
    """
    # Not float16: its range is that of 16-bit counts.
    low = card.scaling != "none" and bfloat16_in_hardware()
    dtype = torch.bfloat16 if low else torch.float32
    return _engine("torch", folded(restore(card, tensors)), "cpu", dtype, threads)


def folded_on_cuda(card, tensors, threads):
    """Return a folded network on a CUDA device, in bfloat16 if the input is scaled and the device has it.

    Parameters
    ----------
    card, tensors, threads
        As for `reference`.

    Returns
    -------
    `crattn_stage.detection.engines.base.Engine`

    Raises
    ------
    crattn_stage.errors.EngineError
        If there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise EngineError("engine 'cuda': no CUDA device")
    low = card.scaling != "none" and torch.cuda.is_bf16_supported()
    dtype = torch.bfloat16 if low else torch.float32
    return _engine("cuda", folded(restore(card, tensors)), "cuda", dtype, threads)


#: Device -> longest side of a tile, and tiles at a time.
_TILES = {"cpu": (448, 1), "cuda": (1072, 4)}


def _engine(name, network, device, dtype, threads):
    """Return a network in evaluation mode as an engine."""
    if threads or forked():
        torch.set_num_threads(thread_count(threads))
    maker = os.getpid()
    network = network.to(device, dtype, memory_format=torch.channels_last)

    def run(tiles):
        if os.getpid() != maker and torch.get_num_threads() > 1:
            # OpenMP's threads do not survive a fork: it would wait for them for ever.
            torch.set_num_threads(1)
        image = torch.from_numpy(tiles)[:, None].to(device, dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            return torch.sigmoid(network(image).float())[:, 0].cpu().numpy()

    return Engine(f"{name} {str(dtype).removeprefix('torch.')}", run, *_TILES[device])
