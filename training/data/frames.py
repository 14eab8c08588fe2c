"""Real frames as skies: read them, and clean them of their cosmic rays."""

import logging
from dataclasses import replace

import numpy as np

from crattn_stage.cameras.instruments import saturation
from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.detection.stars import saturated_stars
from crattn_stage.fits.frame import ObservationFrame
from training.data.skies import Sky

log = logging.getLogger(__name__)

#: Read noise, electrons, of a frame whose header has none.
READ_NOISE = 7.0


def read_skies(path):
    """Read a real frame as skies, one for each amplifier, without overscan.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of `training.data.skies.Sky`
        Bad where the frame's mask says so and where stars saturate.  The gain is that of the
        amplifier, else `header_gain`; the read noise of a header without any is `READ_NOISE`.
    """
    skies = []
    with ObservationFrame(path) as frame:
        for extension, ccd in frame.ccds():
            bad = ~np.isfinite(ccd.data) | (False if ccd.mask is None else ccd.mask)
            bad |= saturated_stars(ccd.data, saturation(extension.header))
            for amplifier in frame.amplifiers(extension):
                image = np.ascontiguousarray(ccd.data[amplifier.section], np.float32)
                where = bad[amplifier.section]
                level, sigma = sky_statistics(image, ~where)
                gain = 1.0 if ccd.unit == "electron" else amplifier.gain or header_gain(extension.header, path)
                skies.append(Sky(image, where, level, sigma, gain, read_noise=amplifier.read_noise or READ_NOISE))
    return skies


def header_gain(header, path):
    """Return the gain that a header gives outside its amplifier cards.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    path : path-like
        Named in the warning.

    Returns
    -------
    float
        Electrons per ADU, of EGAIN, as SBIG's and other amateur cameras write it; 1 with a
        logged warning where there is none.
    """
    for keyword in ("EGAIN", "E-GAIN"):
        value = header.get(keyword)
        if isinstance(value, (int, float)) and value > 0:
            return float(value)
    log.warning("%s: no gain in the header (GAIN or EGAIN); 1 electron per ADU is assumed", path)
    return 1.0


def cleaned(sky, model):
    """Remove the cosmic rays of a real sky.

    As in the paper (Sec. 2) a masked pixel becomes the median of the others in the 5x5 around
    it.  The mask is that of a model of ours, which leaves undersampled stars alone; the paper's
    Astro-SCRAPPY takes most of them for hits.

    Parameters
    ----------
    sky : `training.data.skies.Sky`
    model : `crattn_stage.detection.model.CosmicRayModel`

    Returns
    -------
    `training.data.skies.Sky`
    """
    if sky.bad.all():
        return sky
    # Not dilated: our models mask the dilated hit.
    found = model.detect(sky.image, sky.bad)
    holes = np.pad(np.where(found | sky.bad, np.nan, sky.image), 2, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(holes, (5, 5))[found].reshape(-1, 25)
    seen = np.isfinite(around).any(1)
    values = np.full(len(around), sky.level, np.float32)
    values[seen] = np.nanmedian(around[seen], 1)
    image = sky.image.copy()
    image[found] = values
    return replace(sky, image=image)
