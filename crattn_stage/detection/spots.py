"""Round hits that are sharper than the stars of their frame.

A network sees some 40 pixels, and cannot tell whether a lone round hit is a narrow star.  The other stars of the frame
tell: nothing that came through the same optics is sharper than they are.
"""

import numpy as np
from scipy.ndimage import label

from crattn_stage.detection.preprocessing import bounded_heights
from crattn_stage.detection.sources import inside, stamps

#: Probability above which a network suspects a hit.
SUSPECT = 0.05
#: Least height of a spot's peak, and that of its pixels, in units of the noise; and how many there are at least: a hot
#: pixel is sharp, too.
BRIGHT, CLEAR, FEWEST = 10.0, 3.0, 3
#: Half side of the square that holds a spot; around it nothing is higher than this fraction of the peak, or `RIM`
#: times the noise: a bad column is no spot.
RADIUS, FAINT, RIM = 2, 0.2, 4.0
#: By how many standard errors a spot must be sharper than stars.
SURE = 2.0


def mask_spots(image, cosmic_rays, suspects, bad, sections, sky, sharpest):
    """Add spots that a network suspects to a mask, in place, if they are sharper than stars.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    cosmic_rays : `numpy.ndarray` of bool
        Changed in place.
    suspects : `numpy.ndarray` of bool
        True where the probability is above `SUSPECT`: a spot is suspected if one of its 5 by 5 pixels is.
    bad : `numpy.ndarray` of bool
        True on bad pixels.  Nothing is added within 3 pixels of one, nor of the border of an amplifier.
    sections : list of tuple of `slice`
        Of the amplifiers.
    sky : list of `crattn_stage.detection.preprocessing.Sky`
        Of the amplifiers; None for a dead one.
    sharpest : float
        Fraction of the light of 5 by 5 pixels in the peak that no star exceeds, from
        `crattn_stage.detection.stars.measure_stars`.
    """
    if not np.isfinite(sharpest):
        return
    for section, own in zip(sections, sky, strict=True):
        if own is None:
            continue
        pixels, mask, suspected, off = (plane[section] for plane in (image, cosmic_rays, suspects, bad))
        row, column = np.nonzero((pixels > own.level + BRIGHT * own.sigma) & ~mask)
        chosen = inside(pixels.shape, row, column, RADIUS + 1)
        # Peaks first: they are few, however much of the image is bright.
        for down, right in np.argwhere(np.ones((3, 3))) - 1:
            row, column = row[chosen], column[chosen]
            chosen = pixels[row, column] >= pixels[row + down, column + right]
        row, column = row[chosen], column[chosen]
        chosen = stamps(suspected, row, column, RADIUS).any(1) & ~stamps(off, row, column, RADIUS + 1).any(1)
        row, column = row[chosen], column[chosen]
        sharp = _are_sharp(bounded_heights(stamps(pixels, row, column, RADIUS + 1), own), sharpest)
        for r, c in zip(row[sharp], column[sharp], strict=True):
            window = np.s_[r - RADIUS : r + RADIUS + 1, c - RADIUS : c + RADIUS + 1]
            parts, _ = label(bounded_heights(pixels[window], own) > CLEAR, np.ones((3, 3)))
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
    total = np.where(alone, total, 1)
    error = peak / total * np.hypot(1 / peak, (side - 2) / total)
    return alone & (peak / total - SURE * error > sharpest)
