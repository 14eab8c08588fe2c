"""Real frames as skies: read them, and clean them of their cosmic rays."""

import logging
from dataclasses import replace

import numpy as np

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.detection.saturation import saturated_stars
from crattn_stage.fits.frame import ObservationFrame
from training.data.skies import Sky

log = logging.getLogger(__name__)

#: Read noise, electrons, of a frame whose header has none.
READ_NOISE = 7.0


def read_skies(path, calibrations=False, gain=None):
    """Read a real frame as skies, one for each amplifier, without overscan.

    Parameters
    ----------
    path : path-like
    calibrations : bool
        Read darks and flats, too.
    gain : float, optional
        Electrons per ADU where the header has none, NaN to be told so.  By default it is 1, and a warning is logged.

    Returns
    -------
    list of `training.data.skies.Sky`
        Bad where the frame's mask says so and where stars saturate.  Without a read noise in the header it is
        `READ_NOISE`.

    Raises
    ------
    ValueError
        If the frame is not of the sky, and calibrations are not asked for.
    """
    skies = []
    with ObservationFrame(path, calibrations=calibrations) as frame:
        if not frame.extensions:
            raise ValueError(f"{path}: not a frame of the sky ({frame.exposure.calibration_type})")
        for extension, ccd in frame.ccds():
            bad = ~np.isfinite(ccd.data) | (False if ccd.mask is None else ccd.mask)
            bad |= saturated_stars(ccd.data, frame.saturation(extension))
            for amplifier in frame.amplifiers(extension):
                image = np.ascontiguousarray(ccd.data[amplifier.section], np.float32)
                where = bad[amplifier.section]
                level, sigma = sky_statistics(image, ~where)
                known = 1.0 if ccd.unit == "electron" else amplifier.gain
                if not known and gain is None:
                    log.warning("%s: no gain in the header; 1 electron per ADU is assumed", path)
                read_noise = amplifier.read_noise or READ_NOISE
                skies.append(Sky(image, where, level, sigma, known or gain or 1.0, read_noise=read_noise))
    return skies


def cleaned(sky, model, kept=None):
    """Remove the cosmic rays of a real sky.

    As in the paper (Sec. 2) a masked pixel becomes the median of the others in the 5x5 around
    it.  The mask is that of a model of ours, which leaves undersampled stars alone; the paper's
    Astro-SCRAPPY takes most of them for hits.

    Parameters
    ----------
    sky : `training.data.skies.Sky`
    model : `crattn_stage.detection.model.CosmicRayModel`
    kept : `numpy.ndarray` of bool, optional
        True on pixels that are not of a cosmic ray, such as hot ones: they stay as they are.

    Returns
    -------
    `training.data.skies.Sky`
    """
    if sky.bad.all():
        return sky
    left = sky.bad if kept is None else sky.bad | kept
    # Not dilated: our models mask the dilated hit.
    found = model.detect(sky.image, left)
    holes = np.pad(np.where(found | left, np.nan, sky.image), 2, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(holes, (5, 5))[found].reshape(-1, 25)
    seen = np.isfinite(around).any(1)
    values = np.full(len(around), sky.level, np.float32)
    values[seen] = np.nanmedian(around[seen], 1)
    image = sky.image.copy()
    image[found] = values
    return replace(sky, image=image, hot=kept)
