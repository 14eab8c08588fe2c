"""Cut the hits out of dark frames, and leave hot pixels and bad columns out."""

import logging
import warnings
from dataclasses import dataclass

import ccdproc
import numpy as np
from astropy.nddata import CCDData
from scipy.ndimage import binary_dilation, binary_opening, find_objects, label

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.fits.frame import ObservationFrame
from training.data.frames import read_skies

log = logging.getLogger(__name__)

#: Darks from which a master dark is made: the median of fewer keeps the hits.
FEWEST = 3
#: Sigma of a single dark above which a pixel of the master dark is hot.
HOT = 5.0
#: Length of a bad column, pixels.
COLUMN = 10
_AROUND = np.ones((3, 3))


@dataclass
class DarkStack:
    """The darks of one exposure time, of one amplifier.

    Attributes
    ----------
    images : list of `numpy.ndarray`
        2-D float32, ADU, of one shape.
    bad : `numpy.ndarray` of bool
        Bad in any of them.
    gain : float
        Electrons per ADU.
    exposure : float
        Seconds; NaN if the headers do not say.
    """

    images: list
    bad: np.ndarray
    gain: float
    exposure: float


def read_darks(paths):
    """Read dark frames of one detector, and sort them by exposure time and amplifier.

    Parameters
    ----------
    paths : sequence of path-like

    Returns
    -------
    list of `DarkStack`

    Raises
    ------
    ValueError
        If they are not of one detector: their amplifiers differ in number or shape.
    """
    stacks, layouts = {}, set()
    for path in paths:
        with ObservationFrame(path, calibrations=True) as frame:
            exposure = frame.exposure.exposure_time or float("nan")
        skies = read_skies(path, calibrations=True)
        layouts.add(tuple(sky.image.shape for sky in skies))
        for number, sky in enumerate(skies):
            stacks.setdefault((str(exposure), number), (exposure, []))[1].append(sky)
    if len(layouts) > 1:
        raise ValueError("the darks are not of one detector: their amplifiers differ")
    return [
        DarkStack([s.image for s in skies], np.any([s.bad for s in skies], axis=0), skies[0].gain, exposure)
        for exposure, skies in stacks.values()
    ]


def master_dark(darks):
    """Combine darks of one exposure time by their median (`ccdproc.combine`).

    Parameters
    ----------
    darks : sequence of `numpy.ndarray`
        2-D, ADU, of one shape; NaN is left out.

    Returns
    -------
    `numpy.ndarray`
        Float32, ADU.
    """
    ccds = [CCDData(np.asarray(dark, np.float32), unit="adu", mask=~np.isfinite(dark)) for dark in darks]
    with warnings.catch_warnings():
        # A pixel that is NaN in all of them stays NaN.
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        master = ccdproc.combine(ccds, method="median", dtype=np.float32)
    return master.data if master.mask is None else np.where(master.mask, np.float32(np.nan), master.data)


def defects(master, noise, bad=None):
    """Find the hot pixels and bad columns of a master dark.

    Parameters
    ----------
    master : `numpy.ndarray`
        2-D, ADU, from `master_dark`.
    noise : float
        Of a single dark, ADU.  A pixel is hot if the master is `HOT` times that above its level.
    bad : `numpy.ndarray` of bool, optional
        Known bad pixels.

    Returns
    -------
    `numpy.ndarray` of bool
        Known bad pixels included.  Bad columns are runs of `COLUMN` outliers of
        `ccdproc.ccdmask`; its single ones are warm pixels, which the master takes out.
    """
    bad = ~np.isfinite(master) | (False if bad is None else bad)
    level, _ = sky_statistics(master, ~bad)
    bad |= master - level > HOT * noise
    # ccdmask works on the ratio of two flats, about 1: the master is brought there.
    flat = np.where(bad, 1, 1 + (master - level) / noise / 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        outliers = ccdproc.ccdmask(CCDData(flat, unit="adu"), findbadcolumns=True)
    return bad | binary_opening(outliers, np.ones((COLUMN, 1)))


def hits_of_darks(darks, bad=None, gain=1.0, edge=2, peak=8.0):
    """Cut the hits out of dark frames of one amplifier and exposure time, as in the paper (Sec. 2).

    A hit is a connected object (8 neighbours) of pixels more than 3 sigma above the level, once
    the master of the other darks is subtracted.  Objects whose mask, dilated 3x3, comes near an
    edge or touches a bad pixel are left out, and so are single pixels.  With `FEWEST` darks or
    more, hot pixels and bad columns are found first (`defects`); a pixel above 5 sigma in more
    than one dark, as of random telegraph noise, counts as hot.  With fewer, nothing is
    subtracted but the level, and a pair of hot pixels may pass for a hit.

    Parameters
    ----------
    darks : sequence of `numpy.ndarray`
        2-D, ADU, of one shape.
    bad : `numpy.ndarray` of bool, optional
    gain : float
        Electrons per ADU.
    edge : int
        Pixels from the edge that count as near.
    peak : float
        Least height of the brightest pixel in sigma: a million pixels have dozens of pairs
        above 3 sigma that are noise.

    Returns
    -------
    list of `numpy.ndarray`
        Float32 stamps of charge in electrons.
    """
    darks = [np.asarray(dark, np.float32) for dark in darks]
    bad = np.zeros(darks[0].shape, bool) if bad is None else bad
    unusable = bad | ~np.all([np.isfinite(dark) for dark in darks], axis=0)
    if unusable.all():
        return []
    if len(darks) >= FEWEST:
        noise = np.median([sky_statistics(dark, ~unusable)[1] for dark in darks])
        unusable = defects(master_dark(darks), noise, unusable)
        # Of the others only: the median of a few darks holds a part of each one's own noise.
        darks = [dark - master_dark(darks[:i] + darks[i + 1 :]) for i, dark in enumerate(darks)]
    else:
        log.warning(
            "%d darks of one exposure time: too few to find hot pixels; at least %d are needed", len(darks), FEWEST
        )
    planes = []
    for dark in darks:
        level, sigma = sky_statistics(dark, ~unusable)
        planes.append(((dark - level) / sigma, sigma))
    if len(darks) >= FEWEST:
        unusable |= sum((plane > 5).astype(int) for plane, _ in planes) > 1
    unusable[:edge] = unusable[-edge:] = unusable[:, :edge] = unusable[:, -edge:] = True
    # Dilating the unusable pixels asks the same of a hit as dilating the hit.
    unusable = binary_dilation(unusable, _AROUND)
    stamps = []
    for plane, sigma in planes:
        numbers, _ = label(plane > 3, _AROUND)
        for number, box in enumerate(find_objects(numbers), 1):
            inside = numbers[box] == number
            if inside.sum() > 1 and plane[box][inside].max() > peak and not unusable[box][inside].any():
                stamps.append(np.where(inside, plane[box] * sigma * gain, 0).astype(np.float32))
    return stamps
