"""Round hits that are sharper than the stars of their frame.

A network sees some 40 pixels, and cannot tell whether a lone round hit is a narrow star.  The other stars of the frame
tell: nothing that came through the same optics is sharper than they are.
"""

import numpy as np
from scipy.ndimage import label

from crattn_stage.detection.preprocessing import heights
from crattn_stage.detection.sources import inside, stamps

#: Probability from which a network suspects a hit.
SUSPECT = 0.05
#: Least height of a spot's peak, and that of its pixels, in units of the noise; and how many there are at least: a hot
#: pixel is sharp, too.
BRIGHT, CLEAR, FEWEST = 10.0, 3.0, 3
#: Half side of the square that holds a spot; around it nothing is higher than this fraction of the peak, or `RIM`
#: times the noise: a bad column is no spot.
RADIUS, FAINT, RIM = 2, 0.2, 4.0
#: Standard errors that a spot must be sharper by.
SURE = 2.0


def mask_spots(image, cosmic_rays, suspects, bad, sections, sky, sharpest):
    """Add spots that a network only suspects to a mask, in place, if they are sharper than stars.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    cosmic_rays : `numpy.ndarray` of bool
        Changed in place.
    suspects : `numpy.ndarray` of int
        (n, 2): row and column of the pixels of at least the probability `SUSPECT`.
    bad : `numpy.ndarray` of bool
        True on bad pixels.
    sections : list of tuple of `slice`
        Of the amplifiers.
    sky : list of `crattn_stage.detection.preprocessing.Sky`
        Of the amplifiers; None for a dead one.
    sharpest : float
        Fraction of the light of 5 by 5 pixels in the peak that no star has, from
        `crattn_stage.detection.stars.measure_stars`.
    """
    if not len(suspects) or not np.isfinite(sharpest):
        return
    # The peak of a spot is less suspect than its rim, which no star has.
    around = np.argwhere(np.ones((2 * RADIUS + 1, 2 * RADIUS + 1))) - RADIUS
    places = (suspects[:, None] + around).reshape(-1, 2)
    for section, own in zip(sections, sky, strict=True):
        if own is None:
            continue
        pixels, off, mask = (plane[section] for plane in (image, bad, cosmic_rays))
        row, column = (places - [s.start or 0 for s in section]).T
        here = inside(pixels.shape, row, column, RADIUS + 1)
        row, column = row[here], column[here]
        bright = ~mask[row, column] & (heights(pixels[row, column], own) > BRIGHT)
        row, column = np.unique(np.stack([row[bright], column[bright]]), axis=1)
        height = heights(stamps(pixels, row, column, RADIUS + 1), own)
        usable = ~stamps(off, row, column, RADIUS + 1).any(1) & _are_sharp(height, sharpest)
        for r, c in zip(row[usable], column[usable], strict=True):
            window = np.s_[r - RADIUS : r + RADIUS + 1, c - RADIUS : c + RADIUS + 1]
            parts, _ = label(heights(pixels[window], own) > CLEAR, np.ones((3, 3)))
            spot = parts == parts[RADIUS, RADIUS]
            if np.count_nonzero(spot) >= FEWEST:
                mask[window] |= spot


def _are_sharp(height, sharpest):
    """Tell which squares hold a spot alone, sharper than a star; heights in units of the noise, one row a square."""
    side = 2 * RADIUS + 3
    square = height.reshape(-1, side, side)
    inner = square[:, 1:-1, 1:-1]
    peak, total = height[:, side**2 // 2], inner.sum((1, 2))
    rim = np.where(np.pad(np.zeros((side - 2, side - 2)), 1, constant_values=1), square, -np.inf).max((1, 2))
    alone = (peak == inner.max((1, 2), initial=-np.inf)) & (rim < np.maximum(FAINT * peak, RIM)) & (total > 0)
    sharpness = peak / np.where(alone, total, 1)
    error = sharpness * np.hypot(1 / peak, (side - 2) / np.where(alone, total, 1))
    return alone & (sharpness - SURE * error > sharpest)
