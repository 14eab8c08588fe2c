"""Hot pixels that are masked: of what looks like one, most of a mask of cosmic rays is not made."""

import numpy as np

from crattn_stage.detection.sources import stamps
from crattn_stage.quality.summary import binomial_interval

#: Least S/N of a peak that tells, and fewest peaks.
BRIGHT, FEWEST = 10.0, 20
#: Most that a neighbour of a hot pixel has: of its peak, or in units of the noise.  Charge of a hit diffuses farther.
SHARE, CLEAR = 0.15, 3.0


def are_most_hot(image, cosmic_rays, sigma):
    """Tell whether most of the bright peaks of a mask are pixels that stand alone, as hot ones do.

    Of real hits few are: a sixth in thin CCDs, fewer in thick ones.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, without its sky; 0 on bad pixels.
    cosmic_rays : `numpy.ndarray` of bool
    sigma : float
        Noise of the image, in the same unit.

    Returns
    -------
    bool
        By the lower end of the 95% interval of their share.  False with fewer than 20 peaks above 10 sigma.
    """
    row, column = np.nonzero(cosmic_rays & (image > BRIGHT * sigma))
    around = stamps(np.pad(image, 1), row + 1, column + 1, 1)
    peak, others = around[:, 4], np.delete(around, 4, axis=1).max(1, initial=-np.inf)
    is_peak = peak > others
    alone = is_peak & (others < np.maximum(SHARE * peak, CLEAR * sigma))
    count = int(is_peak.sum())
    return count >= FEWEST and binomial_interval(int(alone.sum()), count)[0] > 0.5
