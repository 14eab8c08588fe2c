"""Masks of dask arrays, block by block, and the same as those of numpy arrays.

Nothing is read or calculated before the mask is computed.  The sky is one number for the whole image, from the same
pixels as in memory; blocks overlap by what the network sees.  Uneven light is left out in a first step, and spots are
added, and noise and stars taken out, in a last one; these look at the whole image, at 6 bytes a pixel.
"""

import sys

import numpy as np

from crattn_stage.detection.inputs import as_float32, check_sections, check_threshold
from crattn_stage.detection.model import levels
from crattn_stage.detection.preprocessing import FILL_BOXES, SAMPLE, Sky, sky_statistics
from crattn_stage.detection.uneven import even_out
from crattn_stage.models.architectures import ARCHITECTURES, STRIDE

_NOTHING = np.zeros((0, 0), bool)


def is_lazy(image):
    """Tell whether an object is a dask array, without importing dask.

    Parameters
    ----------
    image : object

    Returns
    -------
    bool
    """
    array = sys.modules.get("dask.array")
    return array is not None and isinstance(image, getattr(array, "Array", ()))


def detect_lazily(model, image, masks=(), threshold=None):
    """Return a mask of the cosmic rays of a dask array, not calculated yet.

    Parameters
    ----------
    model : `crattn_stage.detection.model.CosmicRayModel` or `crattn_stage.detection.baseline.AstroScrappyModel`
        Its mask depends on its tiles unless it normalises by batch; then the image is one block.
    image : `dask.array.Array`
        2-D, of any real dtype, of known shape.
    masks : sequence of array of bool
        True on bad pixels, of numpy or dask.
    threshold : float, optional
        The model card's if None.

    Returns
    -------
    `dask.array.Array` of bool
        In the chunks of the image.  To compute it raises ValueError if the image has no good pixel.

    Raises
    ------
    TypeError
        If a mask is no mask, or the threshold no number.
    ValueError
        If the image is not 2-D, is empty, not of real numbers or of unknown shape, a mask has another shape, or the
        threshold is not between 0 and 1.
    """
    from dask import array as da

    threshold = check_threshold(model.card.threshold if threshold is None else threshold)
    if image.ndim != 2 or 0 in image.shape:
        raise ValueError(f"not a 2-D image: shape {image.shape}; give one detector or plane at a time")
    if np.isnan(image.shape).any():
        raise ValueError("a dask array of unknown shape; call its compute_chunk_sizes() first")
    if image.dtype.kind not in "buif":
        raise ValueError(f"not a real image: dtype {image.dtype}; give integers or real floats")
    chunks = image.chunks
    architecture = ARCHITECTURES.get(model.card.architecture)
    tiled = architecture is not None and architecture.normalisation == "batch"
    # A bad pixel is filled from the box around it, which the network then sees.
    depth = model.card.halo + -(-(max(FILL_BOXES) // 2) // STRIDE) * STRIDE
    blocks = tuple(_aligned(sizes, depth) if tiled else (sum(sizes),) for sizes in chunks)
    pixels = image.rechunk(blocks).map_blocks(as_float32, dtype=np.float32)
    bad = ~da.isfinite(pixels)
    for mask in masks:
        bad = bad | _checked(mask, image.shape, blocks)
    if not tiled:
        found = da.map_blocks(model.detect, pixels, bad, threshold=threshold, dtype=bool)
        return found.rechunk(chunks)
    whole = [array.rechunk(image.shape) for array in (pixels, bad)]
    even = da.map_blocks(even_out, *whole, dtype=np.float32, meta=_NOTHING.astype(np.float32), sections=[np.s_[:, :]])
    pixels = even.rechunk(blocks)
    sky = _sky(pixels, bad)
    found = da.map_overlap(
        _found, pixels, bad, depth=tuple(depth * (len(sizes) > 1) for sizes in blocks), boundary="none",
        allow_rechunk=False, dtype=np.uint8, meta=_NOTHING.view(np.uint8), model=model, threshold=threshold, sky=sky,
    )  # fmt: skip
    whole = [even, found.rechunk(image.shape), whole[1]]
    return da.map_blocks(_sifted, *whole, dtype=bool, meta=_NOTHING, sky=sky, model=model, threshold=threshold).rechunk(
        chunks
    )


def _checked(mask, shape, blocks):
    from dask import array as da

    given = mask if is_lazy(mask) else np.asarray(mask)
    if given.dtype.kind not in "bui":
        raise TypeError(f"a mask of dtype {given.dtype} ({type(mask).__name__}); give booleans, True on bad pixels")
    if given.shape != shape:
        raise ValueError(f"mask of shape {given.shape} for an image of shape {shape}")
    return da.asarray(given).rechunk(blocks).astype(bool)


def _aligned(sizes, least):
    """Return sizes of blocks that begin on multiples of `STRIDE`, none smaller than the overlap."""
    total, edges = sum(sizes), [0]
    for edge in np.cumsum(sizes):
        edge -= edge % STRIDE
        if edge - edges[-1] >= least and total - edge >= least:
            edges.append(int(edge))
    return tuple(np.diff([*edges, total]).tolist())


def _sky(pixels, bad):
    """Return the sky of an image, not calculated yet, from the pixels that `sky_statistics` samples."""
    import dask

    step = max(1, pixels.size // SAMPLE) | 1
    rows, columns = (np.cumsum([0, *sizes]) for sizes in pixels.chunks)
    width = pixels.shape[1]
    parts = [
        dask.delayed(_sampled)(block, unusable, int(row), int(column), width, step)
        for row, lines, flags in zip(rows, pixels.to_delayed(False), bad.to_delayed(False), strict=False)
        for column, block, unusable in zip(columns, lines, flags, strict=False)
    ]
    return dask.delayed(_statistics)(parts)


def _sampled(block, bad, row, column, width, step):
    """Return place and value of the good pixels of a block that are sampled; all good ones where none of them is."""
    place = (row + np.arange(block.shape[0]))[:, None] * width + column + np.arange(block.shape[1])
    sampled = (place % step == 0) & ~bad
    return place[sampled], block[sampled], block[:0] if sampled.any() else block[~bad]


def _statistics(parts):
    place, values, others = zip(*parts, strict=True)
    values = np.concatenate(values)[np.argsort(np.concatenate(place))]
    if not values.size:
        values = np.concatenate([v.ravel() for v in others])
    return Sky(*sky_statistics(values))


def _found(pixels, bad, sky, model, threshold):
    return levels(model.predict(pixels, bad, sky=[sky], narrow=False), threshold)


def _sifted(pixels, found, bad, sky, model, threshold):
    whole = check_sections(None, pixels.shape)
    return model.sift(np.ascontiguousarray(pixels), found, np.ascontiguousarray(bad), whole, [sky], threshold)
