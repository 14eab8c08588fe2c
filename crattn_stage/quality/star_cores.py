"""Cores of stars and galaxies, which a mask of cosmic rays should leave alone; and what stars and sky look like."""

from typing import NamedTuple

import numpy as np

from crattn_stage.detection.preprocessing import sky_subtracted
from crattn_stage.detection.sources import TooCrowded, extract, inside, stamps
from crattn_stage.detection.uneven import even_out, variation
from crattn_stage.quality.hot_pixels import count_peaks
from crattn_stage.quality.stripes import FEWEST, count_lines
from crattn_stage.quality.summary import FEWEST_STARS, Appearance, Symmetry
from crattn_stage.quality.symmetry import count_pairs

#: How many FWHM from a peak a ring may be, and how many of the eight directions from the peak it must be in.
NEAR, DIRECTIONS = 1.5, 6
#: Width of a Gaussian star in units of its FWHM, and square of what sampling by pixels adds to the width, pixels.
GAUSSIAN, PIXEL = 1.064, 0.72
#: Width from which a source is a galaxy, in units of a star's.
EXTENDED = 1.5
#: FWHM of sources, pixels, below which they are hits rather than stars if most are masked.
SHARPEST = 1.1
#: A star is hollow if its centre is below this fraction of its peak.
HOLLOW = 0.6
#: Side of the middle of a detector in which the texture of the noise is measured, and how far from sources; pixels.
SAMPLE, APART = 1024, 4
#: By how many times the noise light varies that is not that of the night sky.
UNEVEN = 10.0


class Cores(NamedTuple):
    """What was found of stars and galaxies, and what they and the sky look like.

    Attributes
    ----------
    stars, stars_flagged : int
        As from `star_cores`.
    galaxies, galaxies_flagged : int
        Extended sources, and those of them with a masked peak.
    appearance : `crattn_stage.quality.summary.Appearance`
    symmetry : `crattn_stage.quality.summary.Symmetry`
    """

    stars: int
    stars_flagged: int
    galaxies: int
    galaxies_flagged: int
    appearance: Appearance
    symmetry: Symmetry


def star_cores(image, cosmic_rays, bad=None, sections=None, sky=None):
    """Count the stars of an image, and those whose cores are masked.

    A star is a round source of S/N above 20 whose width is between 0.75 and 1.35 of the
    seeing, and which is not much more peaked than the others.  The seeing is the lower
    quartile of the widths of the sources that are not masked, or of all of them where
    fewer than five are not.  None of the four pixels beside a star's peak is, beyond
    noise, fainter than half of what the faintest of the four typically is: a source that
    ends so abruptly on a side is a cosmic ray, although as round and wide as a star.
    Galaxies are wider.  A star crossed by a cosmic ray is more peaked; masking it is no error.
    Where most of them are masked and the seeing would be below 1.1 pixels, none is taken for a star.

    A star is flagged if its peak is masked, or a ring around it: pixels within 1.5 FWHM of the
    peak in six of the eight directions.  A cosmic ray that passes beside a peak is in five at most.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    cosmic_rays : `numpy.ndarray` of bool
        The mask that is judged.
    bad : `numpy.ndarray` of bool, optional
        True on bad pixels; those that are not finite are bad in any case.
    sections : list of tuple of `slice`, optional
        Of the amplifiers, whose sky levels may differ; the whole image if None.
    sky : list of `crattn_stage.detection.preprocessing.Sky`, optional
        Of the amplifiers; measured if None.

    Returns
    -------
    stars, flagged : int
        Stars found, and those of them with a masked peak or ring.  Zero in a field too crowded for `sep`.
    """
    return judge_sources(image, cosmic_rays, bad, sections, sky)[:2]


def judge_sources(image, cosmic_rays, bad=None, sections=None, sky=None):
    """Count stars as `star_cores` does, and galaxies, and measure what the stars and the sky look like.

    A galaxy is a round source of S/N above 20 that is half as wide again as the stars, and none of the four pixels
    beside its peak is, beyond noise, fainter than the faintest of the four beside a star's typically is.  Where most
    stars are masked it is not known how wide they are, and no galaxies are counted.  Masked objects that mirror each
    other through a bright star are counted by `crattn_stage.quality.symmetry.count_pairs`.

    Parameters
    ----------
    image, cosmic_rays, bad, sections, sky
        As for `star_cores`.

    Returns
    -------
    `Cores`
    """
    bad = ~np.isfinite(image) if bad is None else bad | ~np.isfinite(image)
    image = sky_subtracted(image, sections or [np.s_[:, :]], ~bad, sky)
    # Outside the amplifiers, too.
    blank = ~np.isfinite(image)
    image[blank] = 0
    # Saturated stars are bad pixels, and have the spikes.
    symmetry = count_pairs(image, cosmic_rays)
    bad |= blank
    image[bad] = 0
    uneven = variation(image, ~bad)
    image = even_out(image, bad, [np.s_[:, :]])
    try:
        sigma, sources = extract(image, bad, 5)
    except TooCrowded:
        return Cores(0, 0, 0, 0, Appearance(crowded=1), symmetry)
    look = _texture(image, bad | cosmic_rays, sigma)
    lines = count_lines(image, sigma)
    look.striped = int(lines >= FEWEST)
    look.starless = int(not look.striped and (lines > 0 or uneven > UNEVEN))
    look.peaks, look.alone = count_peaks(image, cosmic_rays, sigma)
    row, column = sources["ypeak"], sources["xpeak"]
    bright = sources["flux"] > 20 * sigma * np.sqrt(sources["npix"])
    sources = sources[bright & inside(image.shape, row, column, 1)]
    if not len(sources):
        return Cores(0, 0, 0, 0, look, symmetry)
    row, column = sources["ypeak"], sources["xpeak"]
    flagged = cosmic_rays[row, column]
    # Isophotal widths grow with brightness; the ratio of flux to peak does not.
    width = np.sqrt(sources["flux"] / sources["peak"])
    around = stamps(image, row, column, 1)
    peak = around[:, 4]
    peaked = peak / around.mean(1)
    is_known = (~flagged).sum() >= 5
    reference = ~flagged if is_known else np.ones(len(flagged), bool)
    typical = np.percentile(width[reference], 25)
    stars = (width > 0.75 * typical) & (width < 1.35 * typical)
    if (stars & reference).any():
        stars &= peaked < 1.25 * np.median(peaked[stars & reference])
    is_few = stars.sum() < FEWEST_STARS
    look.sharp = int(not is_few and _fwhm(typical) < SHARPEST and flagged[stars].mean() > 0.5)
    if look.sharp or (is_few and not is_known):
        # Hits alone are as alike.
        stars[:] = False
    galaxies = np.zeros(len(stars), bool)
    if stars.any():
        darkest = around[:, 1::2].min(1) / peak
        least, darkest = np.median(darkest[stars]), darkest + 3 * sigma / peak
        stars &= darkest > least / 2
        galaxies = (width > EXTENDED * typical) & (darkest > least) & is_known
    look.starless *= int(not stars.any())
    nuclei = int((galaxies & flagged).sum())
    flagged |= _ringed(cosmic_rays, row, column, NEAR * typical / GAUSSIAN)
    left = stars & ~flagged
    look.stars = int(left.sum())
    look.widths = float(_fwhm(width[left]).sum())
    centre = image[np.rint(sources["y"]).astype(int), np.rint(sources["x"]).astype(int)]
    look.hollow = int((left & (centre < HOLLOW * sources["peak"])).sum())
    return Cores(int(stars.sum()), int((stars & flagged).sum()), int(galaxies.sum()), nuclei, look, symmetry)


def _fwhm(width):
    """Return the FWHM of stars, pixels, of which the ratio of flux to peak is a width squared."""
    return np.sqrt(np.maximum((width / GAUSSIAN) ** 2 - PIXEL, 0))


def _texture(image, bad, sigma):
    """Measure, on the sky in the middle of an image, how alike the noise of neighbouring pixels is."""
    middle = tuple(slice(max(0, (n - SAMPLE) // 2), (n + SAMPLE) // 2) for n in image.shape)
    image, bad = image[middle], bad[middle]
    sky = ~bad & ~_widened(np.abs(image) > 3 * sigma, APART // 2)
    look = Appearance(good=int(np.count_nonzero(~bad)), sky=int(np.count_nonzero(sky)))
    for values, use in ((image, sky), (image.T, sky.T)):
        squares = []
        # Light that varies slowly is in the difference of near and of distant pixels alike.
        for step in (1, 5):
            both = use[step:] & use[:-step]
            difference = values[step:][both] - values[:-step][both]
            squares.append(np.square(difference, dtype=np.float64).mean() if both.any() else 0.0)
        if squares[1] > 0:
            look.correlated += float(1 - squares[0] / squares[1]) * look.sky / 2
    return look


def _widened(mask, pixels):
    """Return a mask widened on all sides; with `scipy.ndimage.binary_dilation` it takes ten times as long."""
    for _ in range(2):
        wide = mask.copy()
        for step in range(1, pixels + 1):
            wide[step:] |= mask[:-step]
            wide[:-step] |= mask[step:]
        # The other axis next.
        mask = wide.T
    return mask


def _ringed(mask, row, column, radius):
    """Tell which places have masked pixels, no farther than a radius, on most sides."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    direction = np.where(
        (np.hypot(y, x) <= radius) & ((y != 0) | (x != 0)), np.rint(np.arctan2(y, x) / np.pi * 4) % 8, 8
    )
    around = stamps(np.pad(mask, reach), row + reach, column + reach, reach)
    return sum(around[:, (direction == n).ravel()].any(1) for n in range(8)) >= DIRECTIONS
