"""The stars of a frame: which saturate, which look like hits and are left out of the mask, which cores are masked."""

import numpy as np
import sep
from scipy.ndimage import binary_propagation, find_objects, label, maximum_filter
from scipy.spatial import cKDTree

from crattn_stage.detection.preprocessing import sky_subtracted

#: Share of a star's light in its peak pixel from which it can be taken for a hit (FWHM of about 2 pixels).
NARROW = 0.15
#: Stars that show what stars look like must be of this S/N, and so many; a quarter of them tell the seeing.
#: Of more than `MOST`, the brightest are looked at.
LEAST_SN, FEWEST, MOST = 50, 20, 1000
#: Side of the middle of an image from which the stars' width is taken.
SAMPLE = 1024
#: Half side of the stamps that are compared, and the longest side of a masked object that may be a star; pixels.
RADIUS, LONGEST = 2, 9
#: S/N of a pixel from which it can be the peak of an object of its own, and how many pixels of its stamp must
#: be nearer to it than to any other.
FAINTEST, LEAST_OWN = 5, 13
#: How much of its length, as a vector, a star's stamp may differ from another's: by seeing and
#: by noise, in units of what is expected.
TOLERANCE, NOISE = 0.1, 1.3
#: How far from a star's peak its rim can be, pixels.
RIM = 4


def spare_stars(image, cosmic_rays, bad, sections=None):
    """Take the objects that look like stars of the same frame out of a mask of cosmic rays, in place.

    Where stars are narrow, one alone can look like a hit to a network that sees
    some 40 pixels around it.  Other stars of the frame, which are not masked, tell: an
    object is spared whose 5x5 pixels are those of two of them, in any
    orientation, to within noise.  Where several peaks are close, each is looked at by the pixels
    that are nearest to it.  What has no peak of its own is spared beside a star, as its rim.
    Frames with wider stars, or few, are left as they are.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D float32, ADU or electron.
    cosmic_rays : `numpy.ndarray` of bool
    bad : `numpy.ndarray` of bool
        Pixels that are no use.
    sections : list of tuple of `slice`, optional
        Of the amplifiers, whose sky levels may differ; the whole image by default.
    """
    middle = tuple(slice(max(0, (n - SAMPLE) // 2), (n + SAMPLE) // 2) for n in image.shape)
    _, stars, _ = _stamps_of_stars(image[middle], cosmic_rays[middle], bad[middle])
    if len(stars) >= FEWEST // 4 and _sharpness(stars) < NARROW:
        return
    image = sky_subtracted(image, sections or [np.s_[:, :]], ~bad)
    image, stars, sigma = _stamps_of_stars(image, cosmic_rays, bad | np.isnan(image))
    if len(stars) < FEWEST or _sharpness(stars) < NARROW:
        return
    peaks = np.argwhere((image == maximum_filter(image, 3)) & (image > FAINTEST * sigma))
    peaks = peaks[_inside(image.shape, *peaks.T, RADIUS)]
    masked, unmasked = (peaks[cosmic_rays[tuple(peaks.T)] == state] for state in (True, False))
    numbers, _ = label(cosmic_rays, np.ones((3, 3)))
    parts = _parts(numbers, masked)
    short = np.array([max(s.stop - s.start for s in box) <= LONGEST for box in find_objects(parts)], bool)
    without_peak = np.argwhere(cosmic_rays & ~np.isin(numbers, numbers[tuple(masked.T)]))
    beside = unmasked[cKDTree(without_peak).query(unmasked)[0] < RIM]
    chosen = np.flatnonzero(short)
    places = np.concatenate([masked[chosen], beside])
    alike = _alike(image, places, peaks, stars, sigma)
    cosmic_rays[np.isin(parts, chosen[alike[: len(chosen)]] + 1)] = False
    # An object with no peak of its own is the rim of a star if all of it is close to one.
    distant = cKDTree(places[alike]).query(without_peak)[0] >= RIM
    owners = numbers[tuple(without_peak.T)]
    cosmic_rays[tuple(without_peak[~np.isin(owners, owners[distant])].T)] = False


def _parts(numbers, peaks):
    """Give each pixel of an object the number, from 1, of the nearest peak in its object; 0 where there is none."""
    parts = np.zeros(numbers.shape, np.int32)
    if len(peaks):
        pixels, far = np.argwhere(numbers), float(sum(numbers.shape))
        # Objects are far apart in the third coordinate.
        tree, places = (np.column_stack([p, far * numbers[tuple(p.T)]]) for p in (peaks, pixels))
        distance, nearest = cKDTree(tree).query(places)
        parts[tuple(pixels.T)] = np.where(distance < far, nearest + 1, 0)
    return parts


def _alike(image, places, peaks, stars, sigma):
    """Tell which places look like stars by the pixels that are nearer to them than to another peak."""
    side = 2 * RADIUS + 1
    around = np.argwhere(np.ones((side, side))) - RADIUS
    own = cKDTree(peaks).query(places[:, None] + around)[0] > np.linalg.norm(around, axis=1) - 1e-6
    own = own.astype(np.float32)
    # In units of their peaks, whose squares may be too large for float32.
    stamps, stars = (s / s[:, [len(around) // 2]] for s in (_stamps(image, *places.T, RADIUS), stars))
    stamps *= own
    length = np.linalg.norm(stamps, axis=1)
    noise = sigma / image[tuple(places.T)] * np.sqrt(own.sum(1)) / length
    squares = stars.reshape(-1, side, side)
    cosine = np.empty(len(places))
    # A few at a time: there can be thousands of both.
    for some in np.array_split(np.arange(len(places)), 1 + len(places) * len(stars) // 2**22):
        best = np.zeros((len(some), len(stars)), np.float32)
        for way, turns in np.ndindex(2, 4):
            turned = np.rot90(squares[:, :: 1 - 2 * way], turns, (1, 2)).reshape(best.shape[1], -1)
            lengths = np.sqrt(own[some] @ (turned**2).T) * length[some, None]
            np.maximum(best, stamps[some] @ turned.T / lengths, out=best)
        # The second best: a lone source may be no star.
        cosine[some] = np.partition(best, -2)[:, -2]
    distance = np.sqrt(np.maximum(0, 2 - 2 * cosine))
    return (distance < np.hypot(TOLERANCE, NOISE * noise)) & (own.sum(1) >= LEAST_OWN)


def _stamps_of_stars(image, cosmic_rays, bad):
    """Return an image without its background, flat stamps of bright, unmasked, round sources, and its noise."""
    image = np.where(bad, 0, image)
    try:
        sigma, sources = _sources(image, np.ascontiguousarray(bad), 3)
    except _TooCrowded:
        return image, np.zeros((0, (2 * RADIUS + 1) ** 2)), np.inf
    row, column = sources["ypeak"], sources["xpeak"]
    bright = sources["flux"] > LEAST_SN * sigma * np.sqrt(sources["npix"])
    chosen = np.flatnonzero(bright & _inside(image.shape, row, column, RADIUS) & ~cosmic_rays[row, column])
    chosen = chosen[np.argsort(-sources["flux"][chosen])[:MOST]]
    return image, _stamps(image, row[chosen], column[chosen], RADIUS), sigma


def _sharpness(stars):
    """Return the typical share of light in a star's peak pixel."""
    return np.median(stars.max(1) / stars.sum(1))


class _TooCrowded(Exception):
    """sep ran out of room."""


def _sources(image, bad, area):
    """Subtract the background of an image, in place, and return its noise and the round sources, not blended ones."""
    # Room for the pixels of sources; a crowded field needs more than sep starts with.
    sep.set_extract_pixstack(max(300_000, image.size // 8))
    try:
        background = sep.Background(image, mask=bad)
        background.subfrom(image)
        image[bad] = 0
        found = sep.extract(image, 5.0, err=background.globalrms, mask=bad, minarea=area, deblend_cont=1.0)
    except Exception as error:
        # A bare Exception is sep's word for buffers that overflow on a crowded field.
        if type(error) is not Exception:
            raise
        raise _TooCrowded from error
    return background.globalrms, found[(found["b"] > 0.6 * found["a"]) & (found["flag"] == 0)]


def _inside(shape, row, column, margin):
    return (row >= margin) & (row < shape[0] - margin) & (column >= margin) & (column < shape[1] - margin)


def _stamps(image, row, column, radius):
    """Return the square of pixels around each place as a flat vector."""
    side = np.arange(-radius, radius + 1)
    squares = image[row[:, None, None] + side[:, None], column[:, None, None] + side]
    return squares.reshape(len(row), len(side) ** 2)


def star_cores(image, cosmic_rays, bad=None, sections=None):
    """Find stars and see whether their cores are masked.

    A star is a round source of S/N above 20, as wide as the narrowest common
    width of the sources that are not masked, and no more peaked than they are;
    where nothing unmasked is left to tell, than all are.  None of the four pixels
    around its peak has, beyond noise, less than half the share of the peak that the
    darkest of the four typically has: what ends so abruptly is a hit, though it be as
    round and wide as a star.  Galaxies are wider, and a star that a cosmic ray has
    crossed is more peaked: masking that one is no error.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    cosmic_rays : `numpy.ndarray` of bool
    bad : `numpy.ndarray` of bool, optional
    sections : list of tuple of `slice`, optional
        Of the amplifiers, whose sky levels may differ; the whole image by default.

    Returns
    -------
    stars, flagged : int
        Zero in a field too crowded for `sep`.
    """
    bad = ~np.isfinite(image) if bad is None else bad | ~np.isfinite(image)
    image = sky_subtracted(image, sections or [np.s_[:, :]], ~bad)
    # Outside the amplifiers, too.
    image[bad | np.isnan(image)] = 0
    try:
        sigma, sources = _sources(image, bad, 5)
    except _TooCrowded:
        return 0, 0
    row, column = sources["ypeak"], sources["xpeak"]
    bright = sources["flux"] > 20 * sigma * np.sqrt(sources["npix"])
    sources = sources[bright & _inside(image.shape, row, column, 1)]
    if not len(sources):
        return 0, 0
    row, column = sources["ypeak"], sources["xpeak"]
    flagged = cosmic_rays[row, column]
    # Isophotal widths grow with brightness; the ratio of flux to peak does not.
    width = np.sqrt(sources["flux"] / sources["peak"])
    around = _stamps(image, row, column, 1)
    peak = around[:, 4]
    peaked = peak / around.mean(1)
    reference = ~flagged if (~flagged).sum() >= 5 else np.ones(len(flagged), bool)
    typical = np.percentile(width[reference], 25)
    stars = (width > 0.75 * typical) & (width < 1.35 * typical)
    if (stars & reference).any():
        stars &= peaked < 1.25 * np.median(peaked[stars & reference])
    if stars.any():
        darkest = around[:, 1::2].min(1) / peak
        stars &= darkest + 3 * sigma / peak > np.median(darkest[stars]) / 2
    return int(stars.sum()), int((stars & flagged).sum())


def saturated_stars(image, level):
    """Return where stars saturate: regions at or above a level that are somewhere 3 pixels wide.

    A hit may saturate, too, but it is narrow.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, in the unit of `level`.
    level : float or None
        None if it is not known: nothing saturates then.

    Returns
    -------
    `numpy.ndarray` of bool
    """
    if level is None:
        return np.zeros(image.shape, bool)
    high = image >= level
    if not high.any():
        return high
    cores = np.zeros_like(high)
    # An erosion by 3x3.  With `binary_erosion` it takes ten times as long.
    rows = high[:-2] & high[1:-1] & high[2:]
    cores[1:-1, 1:-1] = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return binary_propagation(cores, mask=high) if cores.any() else cores
