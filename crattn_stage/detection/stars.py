"""The stars of a frame: how sharp they are, and those as narrow as cosmic rays, which are taken out of a mask."""

import numpy as np
from scipy.ndimage import find_objects, label, maximum, maximum_filter
from scipy.spatial import cKDTree

from crattn_stage.detection.inputs import as_float32
from crattn_stage.detection.preprocessing import sky_subtracted
from crattn_stage.detection.sources import TooCrowded, extract, inside, stamps

#: Fraction of a star's light in its peak pixel from which it can look like a cosmic ray (FWHM of about 2 pixels).
NARROW = 0.15
#: Reference stars: lowest S/N, fewest (a quarter of them is enough to measure the seeing), and most, the brightest.
LEAST_SN, FEWEST, MOST = 50, 20, 1000
#: Fewest reference stars for each masked object.
SHARE = 0.25
#: How much sharper than most stars, and than the sharpest ones, nothing is that is a star.
THAN_MOST, THAN_SHARPEST = 1.5, 1.2
#: Side of the middle of an image in which the width of the stars is measured, pixels.
SAMPLE = 1024
#: Half side of the stamps that are compared, and longest side of a masked object that may be a star; pixels.
RADIUS, LONGEST = 2, 9
#: Lowest S/N of a peak of its own, and fewest pixels of its stamp that are nearer to it than to any other peak.
FAINTEST, LEAST_OWN = 5, 13
#: Probabilities above which second weights are certain of a hit, and more certain.
CERTAIN = (0.97, 0.99)
#: Largest difference of two stars' stamps, as a fraction of their length as vectors: by seeing, and by noise in
#: units of the noise expected, for each of `crattn_stage.detection.model.levels`.
TOLERANCE, NOISE = 0.1, np.array([1.3, 1.3, 1.3, 1.1, 1.0])
#: Fraction of the reference stars, two at least, that a star looks like: some of these are no stars, but missed hits.
ALIKE = 0.01
#: Rims and remnants of a star are closer than this to its peak or to its spared pixels; pixels.
RIM = 4


def measure_stars(image, cosmic_rays, bad, sections=None, sky=None):
    """Tell whether the stars of an image are as narrow as hits, and the sharpness that none of them exceeds.

    Parameters
    ----------
    image, cosmic_rays, bad, sections, sky
        As for `spare_stars`.

    Returns
    -------
    narrow : bool
        Of an FWHM below about 2 pixels.  False with fewer than 20 bright stars, or fewer than one for four masked
        objects.
    sharpest : float
        Fraction of the light of 5 by 5 pixels in the peak that no star exceeds.  Infinite where fewer than 10 are
        bright.
    """
    middle = tuple(slice(max(0, (n - SAMPLE) // 2), (n + SAMPLE) // 2) for n in image.shape)
    _, stars, _ = _stamps_of_stars(as_float32(image[middle]), cosmic_rays[middle], bad[middle])
    if len(stars) >= FEWEST // 4 and _sharpness(stars) < NARROW:
        return False, _sharpest(stars)
    reference = _reference_stars(image, cosmic_rays, bad, sections, sky)
    if reference is None:
        return False, np.inf
    # Where hits outnumber stars, those that are not masked are taken for stars.
    if len(reference[1]) < min(MOST, SHARE * label(cosmic_rays, np.ones((3, 3)))[1]):
        return False, np.inf
    return True, _sharpest(reference[1])


def _reference_stars(image, cosmic_rays, bad, sections, sky):
    """Return an image without its sky, flat stamps of its stars, and its noise; None unless they are narrow."""
    image = sky_subtracted(image, sections or [np.s_[:, :]], ~bad, sky)
    image, stars, sigma = _stamps_of_stars(image, cosmic_rays, bad | np.isnan(image))
    return None if len(stars) < FEWEST or _sharpness(stars) < NARROW else (image, stars, sigma)


def spare_stars(image, cosmic_rays, bad, sections=None, sky=None, certainty=None):
    """Take the objects that look like stars of the same frame out of a mask of cosmic rays, in place.

    Where stars are narrow, one alone can look like a cosmic ray to a network, which sees some 40
    pixels.  The other stars of the frame, which are not masked, tell: an object is spared if its
    5x5 pixels are those of one in a hundred of them, two at least, in any orientation, to within noise; the more
    certain the network is of a hit, the smaller a difference is put down to noise.  Of several close peaks each is
    judged by the pixels that are nearest to it.  An object without a peak of its own is spared beside
    a star, as its rim, and beside what was spared, as a remnant of it.
    Frames with wider stars, or fewer than 20 bright ones, are left as they are.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D float32, ADU or electron.
    cosmic_rays : `numpy.ndarray` of bool
        Changed in place.
    bad : `numpy.ndarray` of bool
        True on bad pixels.
    sections : list of tuple of `slice`, optional
        Of the amplifiers, whose sky levels may differ; the whole image if None.
    sky : list of `crattn_stage.detection.preprocessing.Sky`, optional
        Of the amplifiers; measured if None.
    certainty : `numpy.ndarray` of uint8, optional
        Of the network, from `crattn_stage.detection.model.levels`; nowhere high by default.
    """
    reference = _reference_stars(image, cosmic_rays, bad, sections, sky)
    if reference is None:
        return
    image, stars, sigma = reference
    peaks = np.argwhere((image == maximum_filter(image, 3)) & (image > FAINTEST * sigma))
    peaks = peaks[inside(image.shape, *peaks.T, RADIUS)]
    masked, unmasked = (peaks[cosmic_rays[tuple(peaks.T)] == state] for state in (True, False))
    numbers, _ = label(cosmic_rays, np.ones((3, 3)))
    parts = _parts(numbers, masked)
    short = np.array([max(s.stop - s.start for s in box) <= LONGEST for box in find_objects(parts)], bool)
    without_peak = np.argwhere(cosmic_rays & ~np.isin(numbers, numbers[tuple(masked.T)]))
    beside = unmasked[cKDTree(without_peak).query(unmasked)[0] < RIM]
    chosen = np.flatnonzero(short)
    places = np.concatenate([masked[chosen], beside])
    allowed = np.full(len(places), NOISE[0])
    if certainty is not None and len(chosen):
        # Of the masked pixels alone: `maximum` sorts what it is given.
        some = parts > 0
        allowed[: len(chosen)] = NOISE[maximum(certainty[some], parts[some], chosen + 1)]
    alike = _alike(image, places, peaks, stars, sigma, allowed)
    before = cosmic_rays.copy()
    cosmic_rays[np.isin(parts, chosen[alike[: len(chosen)]] + 1)] = False
    _spare_rims(cosmic_rays, masked, places[alike])
    _spare_rims(cosmic_rays, masked, np.argwhere(before & ~cosmic_rays))


def _spare_rims(cosmic_rays, peaks, places):
    """Unmask objects without a peak that lie wholly near one of the given positions."""
    numbers, _ = label(cosmic_rays, np.ones((3, 3)))
    without_peak = np.argwhere(cosmic_rays & ~np.isin(numbers, numbers[tuple(peaks.T)]))
    owners = numbers[tuple(without_peak.T)]
    distant = cKDTree(places).query(without_peak)[0] >= RIM
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


def _alike(image, places, peaks, stars, sigma, allowed):
    """Tell which places look like stars within an allowed noise, by the pixels nearer to them than to other peaks."""
    side = 2 * RADIUS + 1
    around = np.argwhere(np.ones((side, side))) - RADIUS
    own = cKDTree(peaks).query(places[:, None] + around)[0] > np.linalg.norm(around, axis=1) - 1e-6
    own = own.astype(np.float32)
    # In units of their peaks, whose squares may be too large for float32.
    own_stamps, stars = (s / s[:, [len(around) // 2]] for s in (stamps(image, *places.T, RADIUS), stars))
    own_stamps *= own
    length = np.linalg.norm(own_stamps, axis=1)
    noise = sigma / image[tuple(places.T)] * np.sqrt(own.sum(1)) / length
    squares = stars.reshape(-1, side, side)
    least = max(2, int(np.ceil(ALIKE * len(stars))))
    cosine = np.empty(len(places))
    # A few at a time: there can be thousands of both.
    for some in np.array_split(np.arange(len(places)), 1 + len(places) * len(stars) // 2**22):
        best = np.zeros((len(some), len(stars)), np.float32)
        for way, turns in np.ndindex(2, 4):
            turned = np.rot90(squares[:, :: 1 - 2 * way], turns, (1, 2)).reshape(best.shape[1], -1)
            lengths = np.sqrt(own[some] @ (turned**2).T) * length[some, None]
            np.maximum(best, own_stamps[some] @ turned.T / lengths, out=best)
        cosine[some] = np.partition(best, -least)[:, -least]
    distance = np.sqrt(np.maximum(0, 2 - 2 * cosine))
    return (distance < np.hypot(TOLERANCE, allowed * noise)) & (own.sum(1) >= LEAST_OWN)


def _stamps_of_stars(image, cosmic_rays, bad):
    """Return an image without its background, flat stamps of bright, unmasked, round sources, and its noise."""
    image = np.where(bad, 0, image)
    try:
        sigma, sources = extract(image, np.ascontiguousarray(bad), 3)
    except TooCrowded:
        return image, np.zeros((0, (2 * RADIUS + 1) ** 2)), np.inf
    row, column = sources["ypeak"], sources["xpeak"]
    bright = sources["flux"] > LEAST_SN * sigma * np.sqrt(sources["npix"])
    chosen = np.flatnonzero(bright & inside(image.shape, row, column, RADIUS) & ~cosmic_rays[row, column])
    chosen = chosen[np.argsort(-sources["flux"][chosen])[:MOST]]
    return image, stamps(image, row[chosen], column[chosen], RADIUS), sigma


def _sharpness(stars):
    """Return the typical fraction of light in a star's peak pixel."""
    return np.median(stars.max(1) / stars.sum(1))


def _sharpest(stars):
    """Return the fraction of light in the peak pixel that no star exceeds; infinity if there are too few to tell."""
    if len(stars) < FEWEST // 2:
        return np.inf
    each = np.sort(stars.max(1) / stars.sum(1))
    # The sharpest ones may be hits.
    last = each[min(len(each) - 2, int(0.95 * len(each)))]
    return float(max(NARROW, THAN_MOST * np.median(each), THAN_SHARPEST * last))
