"""Lines that run across a frame from side to side: those of a lamp, of the night sky or of an object on a spectrum.

A header need not say that a frame is a spectrum, and images of the sky seldom have such lines: pairs of bad columns, or
noise of the readout.
"""

import numpy as np
from scipy.ndimage import label, maximum_filter1d, median_filter, minimum_filter1d

#: Bands across the lines, fewest of them that a line is seen in, and rows of each that are looked at.
BANDS, SEEN, ROWS = 4, 3, 32
#: Pixels within which the level beside a line is measured, and fewest pixels of an image on a side.
LEVEL, SHORTEST = 65, 64
#: Least height of a line, in units of the noise of a pixel and of the scatter of the pixels along it.
HEIGHT, SCATTERS = 1.0, 0.5
#: Fewest pixels of a line across it (a bad column has one), and fewest lines.
NARROWEST, FEWEST = 2, 4
#: Pixels within which a line may lie at different places in its parts.
SLANT = 5


def count_lines(image, sigma):
    """Count the lines that run along the rows or along the columns of an image; `FEWEST` are a spectrum.

    A line stands out by the noise of a pixel in three of four parts of its length, as the median over each, and by
    half the scatter along it, which is large in a crowd of stars.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, without its sky; 0 on bad pixels.
    sigma : float
        Its noise, in the same unit.

    Returns
    -------
    int
        Of the direction with more; 0 for an image of less than 64 pixels on a side.
    """
    # Damaged files hold values that overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        return max(_lines(one, sigma) for one in (image, image.T)) if min(image.shape) >= SHORTEST else 0


def _lines(image, sigma):
    image = image[:: max(1, len(image) // (BANDS * ROWS))]
    excesses = []
    for band in np.array_split(image, BANDS):
        profile = np.median(band, axis=0)
        height = profile - median_filter(profile, LEVEL, mode="nearest")
        scatter = 1.4826 * np.median(np.abs(band - profile), axis=0)
        excess = minimum_filter1d(height - np.maximum(HEIGHT * sigma, SCATTERS * scatter), NARROWEST)
        # Lines may slant.
        excesses.append(maximum_filter1d(excess, SLANT))
    return label(np.sort(excesses, axis=0)[BANDS - SEEN] > 0)[1]
