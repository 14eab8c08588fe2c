"""Libraries of cosmic-ray hits: real footprints from dark frames, and simulated ones.

A hit is a small float32 stamp of charge in electrons, zero where the hit is not.
Libraries are split by hit, never by pixel, so that no hit is both learnt from
and tested on.
"""

import numpy as np
from astropy.io import fits

from crattn_stage.simulate import simulate_hit

#: Last digit of a footprint's number -> the split it belongs to; all others train.
HELD_OUT = {8: "validation", 9: "test"}


def read_footprints(path, split):
    """Read one split of a footprint catalogue.

    Parameters
    ----------
    path : path-like
        FITS file with a table `COSMIC_RAYS`: `fp_id`, `x0`, `y0` and
        `pixel_values` (electron); a row is one horizontal span of a footprint.
    split : {"train", "validation", "test"}

    Returns
    -------
    list of `numpy.ndarray`
        Stamps of the footprints of more than one pixel (a single pixel may be
        a hot one).
    """
    with fits.open(path) as hdus:
        table = hdus["COSMIC_RAYS"].data
        # Whole columns first: rows of a variable-length column are slow and alias one buffer.
        identity, x, y = (np.array(table[name]) for name in ("fp_id", "x0", "y0"))
        spans = [np.array(values, np.float32) for values in table["pixel_values"]]
    order = np.argsort(identity, kind="stable")
    stamps = []
    for rows in np.split(order, np.flatnonzero(np.diff(identity[order])) + 1):
        if HELD_OUT.get(identity[rows[0]] % 10, "train") != split:
            continue
        top, left = y[rows].min(), x[rows].min()
        width = max(x[r] + len(spans[r]) for r in rows) - left
        stamp = np.zeros((y[rows].max() - top + 1, width), np.float32)
        for r in rows:
            stamp[y[r] - top, x[r] - left : x[r] - left + len(spans[r])] = spans[r]
        if np.count_nonzero(stamp) > 1:
            stamps.append(stamp)
    return stamps


def simulated_hits(count, seed):
    """Return `count` simulated stamps of thin and thick sensors, small and large pixels."""
    rng = np.random.default_rng(seed)
    return [
        simulate_hit(
            rng,
            thickness=float(rng.choice([40, 100, 200, 250])),
            pixel=float(rng.choice([9, 10, 13.5, 15])),
            diffusion=rng.uniform(3, 8),
        )
        for _ in range(count)
    ]


def turned(hit, rng):
    """Return a stamp in one of its eight orientations."""
    hit = np.rot90(hit, rng.integers(4))
    return hit[::-1] if rng.random() < 0.5 else hit
