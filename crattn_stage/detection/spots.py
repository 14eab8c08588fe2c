"""Hits that are sharper than the stars of their frame: spots, and single pixels unless they are hot.

A network sees some 40 pixels, and cannot tell whether a lone round hit is a narrow star.  The other stars of the frame
tell: nothing that came through the same optics is sharper than they are.
"""

import numpy as np
from scipy.ndimage import label

from crattn_stage.detection.preprocessing import bounded_heights
from crattn_stage.detection.sources import inside, stamps

#: Probability above which a network suspects a hit.
SUSPECT = 0.05
#: Least height of a spot's peak, and that of its pixels, in units of the noise.
BRIGHT, CLEAR = 10.0, 3.0
#: Spots of fewer pixels may be hot pixels, which are sharp, too.  They are if there are more than so many for each
#: larger hit, those that are masked already counted in.
FEWEST, SINGLES = 3, 2.0
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
    small = []
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
            else:
                small.append((mask[window], spot))
    if small and len(small) <= _most_small(cosmic_rays):
        for window, spot in small:
            window |= spot


def _most_small(cosmic_rays):
    """Return how many small spots may be added to a mask before they are taken for hot pixels."""
    sizes = np.bincount(label(cosmic_rays, np.ones((3, 3)))[0].ravel())[1:]
    larger = np.count_nonzero(sizes >= FEWEST)
    return SINGLES * larger - (len(sizes) - larger)


def _are_sharp(height, sharpest):
    """Tell which squares hold a spot alone, sharper than a star; heights in units of the noise, one row a square."""
    side = 2 * RADIUS + 3
    inside = np.pad(np.ones((side - 2, side - 2), bool), 1).ravel()
    rim, inner = height[:, ~inside], height[:, inside]
    # Where the sky is lower than elsewhere, stars would look sharp.
    dip = np.minimum(np.median(rim, axis=1), 0)
    peak, total = height[:, side**2 // 2] - dip, inner.sum(1) - (side - 2) ** 2 * dip
    alone = (peak == inner.max(1, initial=-np.inf) - dip) & (rim.max(1) - dip < np.maximum(FAINT * peak, RIM))
    # A star of this peak would have at least so much light, as far as noise allows to say.
    least = peak / sharpest - SURE * np.hypot(1 / sharpest, side - 2)
    return alone & (total < least)
