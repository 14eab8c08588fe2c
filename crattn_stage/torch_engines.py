"""Networks run by torch: plain, as the reference; with batch normalisation folded, on a CPU or a CUDA device."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crattn_stage.engines import Engine, forked
from crattn_stage.networks import restore


def folded(network):
    """Return a copy of a network with batch normalisation folded into the convolutions before it.

    Parameters
    ----------
    network : `torch.nn.Module`
        In evaluation mode.

    Returns
    -------
    `torch.nn.Module`
        Equal but for rounding; one with group normalisation as it was.
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

    Without instructions of its own it is many times slower.

    Returns
    -------
    bool
        False where an older torch does not tell: float32 is safe.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _use(threads):
    """Set the threads of torch; one in a forked child, where OpenMP's do not survive and it would wait for them."""
    threads = 1 if forked() else threads
    if threads and threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def _engine(network, dtype, threads, device="cpu", tile=448, batch=1):
    network = network.to(device, dtype, memory_format=torch.channels_last)

    def run(tiles):
        _use(threads)
        image = torch.from_numpy(tiles)[:, None].to(device, dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            return torch.sigmoid(network(image).float())[:, 0].cpu().numpy()

    name = "float32" if dtype == torch.float32 else "bfloat16"
    return Engine(f"{'torch' if device == 'cpu' else device} {name}", run, tile, batch)


def float32(card, tensors, threads):
    """Return the reference: the network as it was trained."""
    _use(threads)
    return _engine(restore(card, tensors), torch.float32, threads)


def cpu(card, tensors, threads):
    """Return the folded network, in bfloat16 where that is faster and the input is scaled."""
    _use(threads)
    low = card.scaling != "none" and bfloat16_in_hardware()
    return _engine(folded(restore(card, tensors)), torch.bfloat16 if low else torch.float32, threads)


def cuda(card, tensors, threads):
    """Return the folded network on a CUDA device; without one a `ValueError` is raised."""
    if not torch.cuda.is_available():
        raise ValueError("engine 'cuda': no CUDA device")
    # Not float16: its range is that of 16-bit counts.
    low = card.scaling != "none" and torch.cuda.is_bf16_supported()
    network = folded(restore(card, tensors))
    return _engine(network, torch.bfloat16 if low else torch.float32, threads, "cuda", tile=1072, batch=4)
