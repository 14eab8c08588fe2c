"""Libraries of cosmic-ray hits: catalogues of real footprints, and simulated ones.

A hit is a small float32 stamp of charge in electrons, zero outside the hit.  Libraries are
split by hit, never by pixel, so that no hit is used both to train and to test.
"""

from dataclasses import replace

import numpy as np
from astropy.io import fits

from crattn_stage.fits.atomic import replacing
from crattn_stage.products.files import footprint_table
from crattn_stage.simulation.hits import SENSORS

#: Last digit of a footprint's number -> its split; all others train.
HELD_OUT = {8: "validation", 9: "test"}
#: Sigma that the brightest pixel of a hit in a table must have.
LEAST_PEAK = 8.0


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
        Stamps of the footprints of more than one pixel: a single pixel may be hot.
    """
    return [stamp for number, stamp in _footprints(path) if HELD_OUT.get(number % 10, "train") == split]


def _footprints(path):
    """Return (number, stamp) of the footprints of more than one pixel."""
    with fits.open(path) as hdus:
        table = hdus["COSMIC_RAYS"].data
        # Whole columns first: rows of a variable-length column are slow and alias one buffer.
        identity, x, y = (np.array(table[name]) for name in ("fp_id", "x0", "y0"))
        spans = [np.array(values, np.float32) for values in table["pixel_values"]]
    order = np.argsort(identity, kind="stable")
    stamps = []
    if not len(order):
        return stamps
    for rows in np.split(order, np.flatnonzero(np.diff(identity[order])) + 1):
        top, left = y[rows].min(), x[rows].min()
        width = max(x[r] + len(spans[r]) for r in rows) - left
        stamp = np.zeros((y[rows].max() - top + 1, width), np.float32)
        for r in rows:
            stamp[y[r] - top, x[r] - left : x[r] - left + len(spans[r])] = spans[r]
        if np.count_nonzero(stamp) > 1:
            stamps.append((int(identity[rows[0]]), stamp))
    return stamps


def footprints_of(path):
    """Read a whole footprint catalogue, as `read_footprints` reads one split of it.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of `numpy.ndarray`
    """
    return [stamp for _, stamp in _footprints(path)]


def is_hit_table(path):
    """Tell whether a file holds hits that ``crattn-stage`` has cut: by ``run --hits``, or by ``grade --labels``.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool
    """
    with fits.open(path) as hdus:
        return {"HITS", "COSMIC_RAYS"} <= {hdu.name for hdu in hdus} or _is_labels(hdus)


def _is_labels(hdus):
    return "CRLAB1" in hdus[0].header


def read_hit_table(path):
    """Read the hits of a masked or graded frame that are good examples.

    Parameters
    ----------
    path : path-like
        As for `is_hit_table`.

    Returns
    -------
    list of `numpy.ndarray`
        Float32 stamps of charge in electrons.  Hits near a star or an edge, with a peak below `LEAST_PEAK` sigma, of
        one pixel, or of unknown gain are left out.

    Raises
    ------
    ValueError
        If none of its hits has a charge.
    """
    with fits.open(path) as hdus:
        if _is_labels(hdus):
            # What is no good example has no charge there.
            if "COSMIC_RAYS" not in hdus:
                raise ValueError(f"{path}: its hits have no charge; the gain was not known when its frame was graded")
            return footprints_of(path)
        table = hdus["HITS"].data
        clean = ~(table["near_star"] | table["near_edge"]) & (table["peak_snr"] > LEAST_PEAK)
        good = set(table["id"][clean & np.isfinite(table["charge"])].tolist())
        if len(table) and not np.isfinite(table["charge"]).any():
            raise ValueError(f"{path}: its hits have no charge; the gain of the frame is not known")
    return [stamp for number, stamp in _footprints(path) if number in good]


def write_footprints(path, stamps):
    """Write stamps as a catalogue for `read_footprints`, replacing an existing one.

    Parameters
    ----------
    path : path-like
    stamps : list of `numpy.ndarray`
        2-D, charge in electrons.
    """
    with replacing([path], overwrite=True) as (stream,):
        fits.HDUList([fits.PrimaryHDU(), footprint_table(stamps)]).writeto(stream)


def simulated_hits(count, seed):
    """Simulate hits in thin and thick sensors of small and large pixels.

    Parameters
    ----------
    count, seed : int

    Returns
    -------
    list of `numpy.ndarray`
        Stamps of charge, electrons.
    """
    rng = np.random.default_rng(seed)
    return [_simulated(rng) for _ in range(count)]


def _simulated(rng):
    """Simulate a hit: three of four as in the thick sensor that was tuned to real hits, one as in a thin one."""
    thick, *thin = SENSORS.values()
    if rng.random() < 0.25:
        sensor = replace(thin[rng.integers(len(thin))], pixel=float(rng.choice([9, 13.5, 15, 24])))
    else:
        sensor = replace(
            thick,
            thickness=float(rng.choice([40, 100, 200, 250])),
            pixel=float(rng.choice([9, 10, 13.5, 15])),
            diffusion=rng.uniform(3, 8),
            tilt=rng.uniform(0, 90),
        )
    return sensor.hit(rng)
