"""Hot pixels that are masked: peaks that stand alone."""

import numpy as np

from crattn_stage.detection.sources import stamps

#: Least S/N of a peak.
BRIGHT = 10.0
#: A peak stands alone if none of its neighbours has this fraction of it, or none is so many times the noise.
SHARE, CLEAR = 0.15, 3.0


def count_peaks(image, cosmic_rays, sigma):
    """Count the bright peaks of a mask, and those that stand alone, as hot pixels do.

    The charge of a hit diffuses: few simulated ones stand alone on pixels of 15 micrometres, most on those of 60.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, without its sky; 0 on bad pixels.
    cosmic_rays : `numpy.ndarray` of bool
    sigma : float
        Noise of the image, in the same unit.

    Returns
    -------
    peaks, alone : int
    """
    row, column = np.nonzero(cosmic_rays & (image > BRIGHT * sigma))
    around = stamps(np.pad(image, 1), row + 1, column + 1, 1)
    peak, others = around[:, 4], np.delete(around, 4, axis=1).max(1, initial=-np.inf)
    is_peak = peak > others
    alone = is_peak & (others < np.maximum(SHARE * peak, CLEAR * sigma))
    return int(np.count_nonzero(is_peak)), int(np.count_nonzero(alone))
