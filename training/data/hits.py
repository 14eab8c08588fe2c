"""Libraries of cosmic-ray hits: real footprints from dark frames, and simulated ones.

A hit is a small float32 stamp of charge in electrons, zero where the hit is not.
Libraries are split by hit, never by pixel, so that no hit is both learnt from
and tested on.
"""

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation, find_objects, label

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.fits.atomic import replacing
from crattn_stage.simulation.hits import simulate_hit

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


def hits_of_darks(darks, bad=None, gain=1.0, edge=2, peak=8.0):
    """Cut the hits out of dark frames of one amplifier, as in the paper (Sec. 2).

    A hit is a connected object (8 neighbours) of pixels above median + 3 sigma.
    Those whose mask, dilated 3x3, comes near an edge or touches a bad pixel are
    left out, and so are single pixels.  Where three darks or more are given, a
    pixel that is above 5 sigma in more than one of them is hot, thus bad.

    Parameters
    ----------
    darks : sequence of `numpy.ndarray`
        2-D, ADU, of one shape.
    bad : `numpy.ndarray` of bool, optional
    gain : float
        Electron per ADU.
    edge : int
        Pixels from the edge that count as near.
    peak : float
        Least height of the brightest pixel in sigma: a million pixels have
        dozens of pairs above 3 sigma that are noise.

    Returns
    -------
    list of `numpy.ndarray`
        Float32 stamps of charge in electrons.
    """
    darks = [np.asarray(dark, np.float32) for dark in darks]
    bad = np.zeros(darks[0].shape, bool) if bad is None else bad
    statistics = [sky_statistics(dark, ~bad & np.isfinite(dark)) for dark in darks]
    significance = [(dark - level) / sigma for dark, (level, sigma) in zip(darks, statistics, strict=True)]
    hot = sum((plane > 5).astype(int) for plane in significance) > 1 if len(darks) >= 3 else np.zeros_like(bad)
    stamps = []
    for dark, plane, (_, sigma) in zip(darks, significance, statistics, strict=True):
        unusable = bad | hot | ~np.isfinite(dark)
        unusable[:edge] = unusable[-edge:] = unusable[:, :edge] = unusable[:, -edge:] = True
        # Dilating what is unusable asks the same of a hit as dilating the hit.
        unusable = binary_dilation(unusable, np.ones((3, 3)))
        numbers, _ = label(plane > 3, np.ones((3, 3)))
        for number, box in enumerate(find_objects(numbers), 1):
            inside = numbers[box] == number
            if inside.sum() > 1 and plane[box][inside].max() > peak and not unusable[box][inside].any():
                stamps.append(np.where(inside, plane[box] * sigma * gain, 0).astype(np.float32))
    return stamps


def write_footprints(path, stamps):
    """Write stamps as a catalogue that `read_footprints` reads.

    Parameters
    ----------
    path : path-like
    stamps : list of `numpy.ndarray`
    """
    rows = []
    for number, stamp in enumerate(stamps):
        for y, line in enumerate(stamp):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], line > 0, [0]])))
            rows += [(number, start, y, line[start:stop]) for start, stop in edges.reshape(-1, 2)]
    identity, x, y, values = zip(*rows, strict=True) if rows else ((),) * 4
    spans = np.empty(len(values), object)
    spans[:] = values
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("fp_id", "J", array=np.array(identity, int)),
            fits.Column("x0", "J", array=np.array(x, int)),
            fits.Column("y0", "J", array=np.array(y, int)),
            fits.Column("pixel_values", "PE()", unit="electron", array=spans),
        ],
        name="COSMIC_RAYS",
    )
    with replacing([path], overwrite=True) as (stream,):
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(stream)


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
