"""Lines that run across a frame from side to side, as those of a lamp, of the night sky or of an object on a spectrum.

A header need not say that a frame is a spectrum, and no image of the sky has such lines.
"""

import numpy as np
from scipy.ndimage import label, median_filter

#: Bands across the lines, fewest of them that a line is seen in, and rows of each that are looked at.
BANDS, SEEN, ROWS = 4, 3, 32
#: Pixels within which the level beside a line is measured, and fewest pixels of an image on a side.
LEVEL, SHORTEST = 65, 64
#: Fewest pixels of a line across it (a bad column has one), and fewest lines.
NARROWEST, FEWEST = 2, 4


def is_striped(image, sigma):
    """Tell whether four lines or more run along the rows or the columns of an image.

    A line stands out by the noise of a pixel in three of four parts of its length, as the median over each.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, without its sky; 0 on bad pixels.
    sigma : float
        Its noise, in the same unit.

    Returns
    -------
    bool
        False for an image of less than 64 pixels on a side.
    """
    return min(image.shape) >= SHORTEST and any(_lines(one, sigma) >= FEWEST for one in (image, image.T))


def _lines(image, sigma):
    image = image[:: max(1, len(image) // (BANDS * ROWS))]
    profiles = [np.median(band, axis=0) for band in np.array_split(image, BANDS)]
    heights = [profile - median_filter(profile, LEVEL, mode="nearest") for profile in profiles]
    groups, _ = label(np.sort(heights, axis=0)[BANDS - SEEN] > sigma)
    return int(np.count_nonzero(np.bincount(groups)[1:] >= NARROWEST))
