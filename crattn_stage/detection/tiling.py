"""Overlapping tiles: cut with a halo, keep the centres.

A batch-norm network is translation-equivariant up to its stride, so with a halo
no smaller than its receptive radius, and tile origins on multiples of the
stride, the stitched result is the full-frame one.
"""

import math
from functools import lru_cache

import numpy as np

from crattn_stage.models.architectures import STRIDE, tile_steps


def centres(shape, tile, halo):
    """Return the centres of the tiles, without their halos.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane.
    tile : int or tuple of int
        Side of a tile in pixels, or its height and width, multiples of `STRIDE`.
    halo : int
        Width of the border that is computed but not kept, likewise.

    Returns
    -------
    list of tuple of `slice`
        They cover each pixel of the plane exactly once.

    Raises
    ------
    ValueError
        If tile and halo do not fit together.

    Examples
    --------
    >>> centres((100, 60), tile=112, halo=24)
    [(slice(0, 64, None), slice(0, 60, None)), (slice(64, 100, None), slice(0, 60, None))]
    """
    (height, width), (rows, columns) = shape, tile_steps(tile, halo)
    return [
        (slice(row, min(row + rows, height)), slice(column, min(column + columns, width)))
        for row in range(0, height, rows)
        for column in range(0, width, columns)
    ]


def even_tile(shape, largest, halo, streams=1):
    """Return the size of tile that divides a plane with the least waste.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane.
    largest, halo : int
        As for `centres`; no side of the tile is longer than the largest.
    streams : int
        Tiles that run side by side: as many tiles, or a multiple, leave none of them idle.

    Returns
    -------
    tuple of int
        Height and width of a tile.

    Raises
    ------
    ValueError
        If tile and halo do not fit together.

    Examples
    --------
    >>> even_tile((2048, 4096), largest=624, halo=24)
    (560, 560)
    """
    (step, _) = tile_steps(largest, halo)
    counts = [-(-n // step) for n in shape]
    while math.prod(counts) % streams and max(shape) > STRIDE * streams:
        longest = max((0, 1), key=lambda axis: shape[axis] / counts[axis])
        counts[longest] += 1
    sides = [-(-n // count) for n, count in zip(shape, counts, strict=True)]
    return tuple(side - side % -STRIDE + 2 * halo for side in sides)


def run_tiled(plane, function, tile, halo, batch=4, out=None):
    """Apply a function to a plane tile by tile.

    Parameters
    ----------
    plane : `numpy.ndarray`
        (H, W) float32.
    function : callable
        Maps (n, height, width) of tiles, float32, to the same shape.
    tile, halo
        As for `centres`.  What lies beyond the plane is its mirror image.
    batch : int
        Tiles per call.
    out : `numpy.ndarray`, optional
        (H, W), of what the function returns: where to write.

    Returns
    -------
    `numpy.ndarray`
        (H, W); float32 without `out`.
    """
    slices = centres(plane.shape, tile, halo)
    steps = tile_steps(tile, halo)
    out = np.empty(plane.shape, np.float32) if out is None else out
    height, width = (step + 2 * halo for step in steps)
    above, beside = ((halo, halo - n % -step) for n, step in zip(plane.shape, steps, strict=True))
    rows = np.pad(np.arange(len(plane)), above, mode="reflect")

    @lru_cache(1)
    def strip(row):
        """Return the padded rows that a row of tiles is cut from, so that the whole plane is not copied."""
        return np.pad(plane[rows[row : row + height]], ((0, 0), beside), mode="reflect")

    for first in range(0, len(slices), batch):
        group = slices[first : first + batch]
        tiles = np.stack([strip(r.start)[:, c.start : c.start + width] for r, c in group])
        for (r, c), values in zip(group, function(tiles), strict=True):
            out[r, c] = values[halo : halo + r.stop - r.start, halo : halo + c.stop - c.start]
    return out
