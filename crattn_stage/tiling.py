"""Overlapping tiles: cut with a halo, keep the centres.

A batch-norm network is translation-equivariant up to its stride, so with a halo
no smaller than its receptive radius, and tile origins on multiples of the
stride, the stitched result is the full-frame one.
"""

import numpy as np

from crattn_stage.networks import STRIDE


def centres(shape, tile, halo):
    """Return where the centres of the tiles lie.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane.
    tile, halo : int
        Side of a tile and width of the border that is computed but not kept,
        pixels, multiples of `STRIDE`.

    Returns
    -------
    list of tuple of `slice`
        They cover each pixel of the plane exactly once.

    Raises
    ------
    ValueError
        If tile and halo do not fit together.
    """
    step = tile - 2 * halo
    if step <= 0 or tile % STRIDE or halo % STRIDE:
        raise ValueError(f"tile {tile} and halo {halo} do not fit together")
    height, width = shape
    return [
        (slice(row, min(row + step, height)), slice(column, min(column + step, width)))
        for row in range(0, height, step)
        for column in range(0, width, step)
    ]


def run_tiled(plane, function, tile, halo, batch=4):
    """Apply a function to a plane tile by tile.

    Parameters
    ----------
    plane : `numpy.ndarray`
        (H, W) float32.
    function : callable
        Maps (n, tile, tile) float32 to the same shape.
    tile, halo : int
        As for `centres`.  What lies beyond the plane is its mirror image.
    batch : int
        Tiles per call.

    Returns
    -------
    `numpy.ndarray`
        (H, W) float32.
    """
    step = tile - 2 * halo
    slices = centres(plane.shape, tile, halo)
    beyond = [(halo, halo - n % -step) for n in plane.shape]
    padded = np.pad(plane, beyond, mode="reflect")
    result = np.empty(plane.shape, np.float32)
    for first in range(0, len(slices), batch):
        group = slices[first : first + batch]
        tiles = np.stack([padded[r.start : r.start + tile, c.start : c.start + tile] for r, c in group])
        for (r, c), values in zip(group, function(tiles), strict=True):
            result[r, c] = values[halo : halo + r.stop - r.start, halo : halo + c.stop - c.start]
    return result
