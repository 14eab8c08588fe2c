"""What other exposures of a field say of one: what differs between them beyond noise is a hit."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import (
    binary_dilation,
    find_objects,
    gaussian_filter,
    label,
    maximum,
    maximum_filter,
    maximum_position,
)
from scipy.stats import binom

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.detection.sources import inside, stamps
from crattn_stage.quality.repeats import background

#: Side of the boxes in which the background of the difference of two exposures is measured, pixels.
BOX = 32
#: A hit has a pixel above the first, and reaches down to the second; in units of the noise of the difference.
STRONG, WEAK = 5.0, 3.0
#: A hit may have this peak if pixels around it together are above the first.
PEAK = 4.25
#: Pieces of a hit may be twice this many pixels apart.
GAP = 2
#: From the first peak on, in units of the exposure's own noise, a hit counts, and from the second on it is bright.
FAINT, BRIGHT = 5.0, 10.0
#: Least peak of a hit that is an example for training, in units of the exposure's own noise.
EXEMPLARY = 8.0
#: What is allowed for another seeing, as a fraction of the brightest pixel nearby: least, most, and without stars.
ALLOWED = (0.1, 0.8, 0.4)
#: The light of the others, smoothed, is a source above this many times its noise.
SOURCE = 3.0
#: A trail is longer than a hit can be, or longer than the second and as wide as a star; pixels.
TRAIL, WIDE_TRAIL = 150, 50
#: Fewest pixels by which a place of the detector moves on the sky for its bad pixels to be told from the sky's sources.
DITHERED = 2.0
#: A bad pixel is within this factor as bright in most of the other exposures, or brighter than the sky explains in one.
ALIKE = 5.0
#: What the same place of the sky has of the light of a pixel elsewhere on the detector, if it explains it.
EXPLAINED = 0.2
#: Hits know nothing of sources: as many lie on them as by their area, but for a coincidence of this probability.  They
#: are sources where what is allowed is so many times the noise.
COINCIDENCE, SOURCES = 1e-3, (1.0, 10.0, 100.0)
#: Above this S/N an object in one exposure only can be told from a star, if the stars are at least this wide, pixels.
SHAPED, STAR_FWHM = 12.0, 2.5
#: Most reference stars, and largest difference of shape from one of them, in units of the length of the stamp.
REFERENCES, SAME_SHAPE = 200, 0.22

_AROUND = np.ones((3, 3))


@dataclass
class Truth:
    """What the other exposures say of one.

    Attributes
    ----------
    excess : `numpy.ndarray`
        Float32, what is above the others, in the unit of the image; 0 where nothing is known.
    others : `numpy.ndarray`
        Float32, what the others have there.
    allowed : `numpy.ndarray`
        Float32, what another seeing may add.
    noise : `numpy.ndarray`
        Float32, of the excess.
    own_noise : `numpy.ndarray`
        Float32, of the exposure.
    judged : `numpy.ndarray` of bool
        Pixels of which something can be said.
    objects : `numpy.ndarray` of int
        Numbers of the hits, 0 elsewhere.
    peaks : `numpy.ndarray`
        S/N of the hits, in order.
    fixed : `numpy.ndarray` of bool
        Bad pixels: they stay where they are while the sky moves.
    astray : tuple of (int, int, float) or None
        If more sources seem to be hit than can be: the hits on them, all hits, and those on them by their area.  They
        are left out.
    doubted : `numpy.ndarray` of bool or None
        These sources.
    """

    excess: np.ndarray
    others: np.ndarray
    allowed: np.ndarray
    noise: np.ndarray
    own_noise: np.ndarray
    judged: np.ndarray
    objects: np.ndarray = None
    peaks: np.ndarray = None
    fixed: np.ndarray = None
    astray: tuple | None = None
    doubted: np.ndarray | None = None

    @property
    def strong(self):
        """The pixels of hits that are significant by themselves."""
        return (self.objects > 0) & (self.excess > STRONG * self.noise + self.allowed)


def find_hits(own, others, count, fwhm, neighbours=()):
    """Find the pixels of an exposure that are above what others have there.

    Parameters
    ----------
    own : `crattn_stage.quality.repeats.Repeat`
    others : `numpy.ndarray`
        From `crattn_stage.quality.repeats.combine`, in the unit of the exposure.
    count : `numpy.ndarray` of int
        Likewise.
    fwhm : float
        Of the stars, pixels.
    neighbours : iterable of tuple
        Each a `crattn_stage.quality.repeats.Repeat`, and two `crattn_stage.quality.registration.Mapping`, the second or
        None: other exposures of the same detector, whose bad pixels are at the same places, with the mapping to their
        pixels and from them.

    Returns
    -------
    `Truth`
    """
    judged = np.zeros(own.bad.shape, bool)
    judged[own.window] = True
    judged &= (count > 0) & ~own.bad & np.isfinite(others)
    others = np.where(judged, others, 0).astype(np.float32)
    others = _denoised(others, judged, fwhm)
    # Below zero it is noise.
    others = np.maximum(others, -own.noise / 2)
    excess = np.where(judged, own.image - others, 0).astype(np.float32)
    reach = 2 * round(fwhm / 2) + 1
    near = maximum_filter(np.maximum(others, 0), max(3, reach))
    # What is bright is no background.
    with_source = near > 10 * own.noise
    excess -= background(np.ascontiguousarray(excess), ~judged | with_source, BOX)
    excess[~judged] = 0
    photons = np.zeros_like(near)
    if own.gain is not None:
        photons = np.divide(np.maximum(others, 0), own.gain, out=photons, where=own.gain > 0)
    own_noise = np.sqrt(own.noise**2 + photons)
    noise = np.sqrt((own.noise * _noise_factor(excess / own.noise, count, judged & ~with_source)) ** 2 + 1.5 * photons)
    allowed = _allowance(excess, others, near, own, noise, judged, fwhm) * near
    truth = Truth(excess, others, allowed, noise, own_noise, judged)
    # A star that is narrow and saturated, but no hit that is.
    judged &= ~binary_dilation(own.saturated & with_source, _AROUND, iterations=max(2, round(fwhm)))
    trails = _trails(truth, fwhm)
    judged &= ~trails
    above = judged & (excess > WEAK * noise + allowed)
    numbers, found = label(above, _AROUND)
    strong = _significant(np.where(judged, (excess - allowed) / noise, 0))
    keep = np.zeros(found + 1, bool)
    keep[np.unique(numbers[strong])] = True
    keep[0] = False
    truth.fixed = _fixed(own, truth, strong, neighbours)
    _drop_fixed(keep, numbers, strong, truth.fixed)
    _drop_stars(keep, numbers, truth, own, fwhm)
    gone = ~keep[numbers] & (numbers > 0) & strong
    gone = np.isin(numbers, np.unique(numbers[gone])) & (numbers > 0)
    # What differs and is no hit says nothing of a mask.
    judged &= ~binary_dilation(gone & ~truth.fixed, np.ones((5, 5)))
    hits = keep[numbers]
    # Pieces of a track are one hit.
    joined, kept = label(binary_dilation(hits, np.ones((2 * GAP + 1,) * 2)), _AROUND)
    truth.objects = np.where(hits, joined, 0)
    _drop_sources(truth, kept)
    truth.objects, kept = _numbered(truth.objects)
    truth.peaks = np.atleast_1d(maximum(excess / own_noise, truth.objects, np.arange(1, kept + 1))) if kept else []
    return truth


def _numbered(objects):
    """Number objects without gaps; return them and how many there are."""
    known, numbers = np.unique(objects, return_inverse=True)
    return numbers.reshape(objects.shape) + (known[0] > 0), int((known > 0).sum())


def _drop_sources(truth, found):
    """Leave out what lies on sources, if that is more than hits can be: it is a difference of the stars."""
    if not found:
        return
    places = tuple(np.transpose(maximum_position(truth.excess, truth.objects, np.arange(1, found + 1))))
    source = truth.allowed / truth.noise
    for level in SOURCES:
        lie = source[places] > level
        chance = float((truth.judged & (source > level)).sum() / max(truth.judged.sum(), 1))
        if binom.sf(lie.sum() - 1, found, chance) > COINCIDENCE:
            continue
        truth.astray, truth.doubted = (int(lie.sum()), found, found * chance), source > level
        gone = np.isin(truth.objects, 1 + np.flatnonzero(lie)) & (truth.objects > 0)
        truth.objects[gone] = 0
        truth.judged &= ~binary_dilation(gone, np.ones((5, 5)))
        return


def single_pixels(truth):
    """Return how many of the bright hits are single pixels, how many there are, and how many pixels flicker.

    Parameters
    ----------
    truth : `Truth`
        Of exposures that did not move.

    Returns
    -------
    single, bright, flickering : int
    """
    sizes = np.bincount(truth.objects.ravel(), minlength=len(truth.peaks) + 1)[1:]
    bright = np.asarray(truth.peaks) > BRIGHT
    return int((bright & (sizes == 1)).sum()), int(bright.sum()), label(truth.fixed, _AROUND)[1]


def _denoised(others, judged, fwhm):
    """Smooth what the others have where it is only noise, so that it adds none."""
    smooth = gaussian_filter(others, max(0.8, fwhm / 2.355))
    level, sigma = sky_statistics(smooth, judged) if judged.any() else (0.0, 1.0)
    source = binary_dilation(smooth - level > SOURCE * sigma, _AROUND, iterations=max(1, round(fwhm / 2)))
    return np.where(source, others, smooth)


def _noise_factor(significance, count, blank):
    """Return the noise of the difference in units of the exposure's own, by how many others there are."""
    factor = np.ones(count.shape, np.float32)
    for number in np.unique(count[blank]):
        these = blank & (count == number)
        values = significance[these]
        if values.size >= 1000:
            values = values[:: max(1, values.size // 200_000)]
            factor[count == number] = max(1.0, 1.4826 * np.median(np.abs(values - np.median(values))))
    return factor


def _allowance(excess, others, near, own, noise, judged, fwhm):
    """Return which fraction of a source another seeing may add beside it, measured on the stars."""
    size = 2 * round(fwhm) + 1
    peaks = judged & (others > 30 * noise) & (others == near) & (maximum_filter(others, size) == others)
    rows, columns = np.nonzero(peaks)
    if len(rows) < 10:
        return ALLOWED[2]
    ratio = np.where(judged & (near > 0), (excess - 2 * noise) / np.maximum(near, 1e-30), 0)
    worst = maximum_filter(ratio, size)[rows, columns]
    # Of few stars, one that is hit must not decide.
    return float(np.clip(1.25 * np.percentile(worst, 98 if len(rows) >= 100 else 90), *ALLOWED[:2]))


def _significant(excess):
    """Return the pixels above `STRONG`, and those above `PEAK` that are with those beside them."""
    strong = excess > STRONG
    rows, columns = np.nonzero((excess > PEAK) & ~strong)
    squares = _stamps(excess, rows, columns, 2).reshape(-1, 5, 5)
    best = np.zeros(len(rows))
    for height, width in ((1, 2), (2, 1), (2, 2), (3, 3)):
        sums = sliding_window_view(squares, (height, width), (1, 2)).sum((3, 4)) / np.sqrt(height * width)
        # The windows that hold the pixel.
        mine = sums[:, 3 - height : 3, 3 - width : 3]
        best = np.maximum(best, mine.max((1, 2), initial=0))
    strong[rows, columns] = best > STRONG
    return strong


def _trails(truth, fwhm):
    """Return the trails of satellites and meteors, with a rim."""
    smooth = gaussian_filter(truth.excess / truth.noise, max(0.8, fwhm / 2.355))
    values = smooth[truth.judged]
    trails = np.zeros(smooth.shape, bool)
    if not values.size:
        return trails
    sigma = 1.4826 * np.median(np.abs(values[:: max(1, values.size // 200_000)]))
    above = truth.judged & (smooth > 4 * max(sigma, 1e-3)) & (truth.excess > truth.allowed / 2)
    numbers, _ = label(above, _AROUND)
    for number, box in enumerate(find_objects(numbers), 1):
        length = np.hypot(*(s.stop - s.start for s in box))
        if length < WIDE_TRAIL:
            continue
        pixels = numbers[box] == number
        # At half the typical height, of the unsmoothed difference.
        width = np.count_nonzero(pixels & (truth.excess[box] > np.median(truth.excess[box][pixels]) / 2)) / length
        if length > TRAIL or (fwhm >= STAR_FWHM and width > fwhm and pixels.sum() > length * fwhm):
            trails[box] |= pixels
    return binary_dilation(trails, np.ones((5, 5)), iterations=2) if trails.any() else trails


def _contrast(image, rows, columns):
    """Return by how much pixels exceed the median of the 5x5 around them; NaN at the border."""
    inner = inside(image.shape, rows, columns, 2)
    result = np.full(len(rows), np.nan)
    r, c = rows[inner], columns[inner]
    result[inner] = image[r, c] - np.median(stamps(image, r, c, 2), axis=1)
    return result


def _fixed(own, truth, strong, neighbours):
    """Return the bright pixels that are bright at the same place of the detector in other exposures.

    They are as bright in most of them, or in one, where the sky does not explain it: a pixel that flickers.  Where
    nothing has moved, those that are bright in most are sources of the sky.
    """
    fixed = np.zeros(strong.shape, bool)
    rows, columns = np.nonzero(strong)
    mine = _contrast(own.image, rows, columns)
    votes, voters, clear = (np.zeros(len(rows), int) for _ in range(3))
    on_source = (truth.allowed > truth.noise)[rows, columns]
    for other, mapping, back in neighbours:
        if other.image.shape != own.image.shape:
            continue
        x, y = mapping.at(columns, rows)
        moved = np.hypot(x - columns, y - rows) > DITHERED
        theirs = _contrast(other.image, rows, columns)
        # Bad pixels that the other frame marks are not seen there.
        seen = ~other.bad[rows, columns] & np.isfinite(theirs)
        voters += seen & moved
        noise = other.noise[rows, columns]
        with np.errstate(invalid="ignore"):
            votes += seen & moved & (theirs > WEAK * noise) & (theirs > mine / ALIKE) & (theirs < mine * ALIKE)
            bright = seen & (theirs > STRONG * noise)
        clear += bright & ~moved & ~on_source
        if back is not None:
            clear += bright & moved & ~_explained(own, back, rows, columns, theirs)
    fixed[rows, columns] = ((voters > 0) & (votes > voters / 2)) | (clear > 0)
    return fixed


def _explained(own, back, rows, columns, bright):
    """Return whether an exposure has light where pixels of another lie, or cannot tell."""
    x, y = (np.round(places).astype(int) for places in back.at(columns, rows))
    known = inside(own.image.shape, y, x, 1)
    light = _stamps(own.image, np.where(known, y, 1), np.where(known, x, 1), 1).max(1)
    return ~known | (light > np.maximum(EXPLAINED * bright, WEAK * own.noise[rows, columns]))


def _drop_fixed(keep, numbers, strong, fixed):
    """Leave out the objects most of whose bright pixels are bad pixels."""
    size = len(keep)
    bright = np.bincount(numbers[strong], minlength=size)
    bad = np.bincount(numbers[fixed], minlength=size)
    keep &= 2 * bad < np.maximum(bright, 1)


def _drop_stars(keep, numbers, truth, own, fwhm):
    """Leave out what looks like the exposure's stars: something that moves or varies."""
    if fwhm < STAR_FWHM or own.stars is None:
        return
    radius = int(np.ceil(fwhm))
    references = _stamps(own.image, np.round(own.stars.y).astype(int), np.round(own.stars.x).astype(int), radius)
    # A hit is no star: those that the others have, too.
    there = _stamps(truth.others, np.round(own.stars.y).astype(int), np.round(own.stars.x).astype(int), radius)
    middle = references.shape[1] // 2
    real = (there[:, middle] > 0.3 * references[:, middle]) & (references[:, middle] > 0)
    references = references[real][:REFERENCES]
    if len(references) < 10:
        return
    references /= np.linalg.norm(references, axis=1)[:, None]
    for number, box in enumerate(find_objects(numbers), 1):
        if not keep[number] or max(s.stop - s.start for s in box) > 2 * radius + 3:
            continue
        pixels = np.where(numbers[box] == number, truth.excess[box], -np.inf)
        row, column = (p + s.start for p, s in zip(np.unravel_index(np.argmax(pixels), pixels.shape), box, strict=True))
        if truth.excess[row, column] < SHAPED * truth.noise[row, column]:
            continue
        stamp = _stamps(truth.excess, np.array([row]), np.array([column]), radius)[0]
        length = np.linalg.norm(stamp)
        spread = truth.noise[row, column] * np.sqrt(stamp.size) / max(length, 1e-30)
        distance = np.sqrt(max(0.0, 2 - 2 * float((references @ (stamp / max(length, 1e-30))).max())))
        if distance < np.hypot(SAME_SHAPE, min(spread, 0.3)):
            keep[number] = False


def _stamps(image, rows, columns, radius):
    side = np.arange(-radius, radius + 1)
    rows = np.clip(rows[:, None, None] + side[:, None], 0, image.shape[0] - 1)
    columns = np.clip(columns[:, None, None] + side, 0, image.shape[1] - 1)
    return image[rows, columns].reshape(len(rows), side.size**2).astype(np.float64)


def footprints(own, truth):
    """Return the charge of the hits that are good examples: bright, whole, and on nothing but sky.

    Parameters
    ----------
    own : `crattn_stage.quality.repeats.Repeat`
        Of known gain.
    truth : `Truth`
        From `find_hits`.

    Returns
    -------
    list of `numpy.ndarray`
        Float32 stamps, electrons above what the other exposures have there; 0 outside of the hit.
    """
    unclear = ~truth.judged | (truth.allowed > truth.noise)
    stamps = []
    for number, (box, peak) in enumerate(zip(find_objects(truth.objects), truth.peaks, strict=True), 1):
        around = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
        rim = binary_dilation(truth.objects[around] == number, _AROUND)
        is_whole = all(s.start > 0 and s.stop < n for s, n in zip(box, own.image.shape, strict=True))
        if peak > EXEMPLARY and is_whole and not (unclear[around] & rim).any():
            mine = truth.objects[box] == number
            stamps.append(np.where(mine, truth.excess[box] * own.gain[box], 0).astype(np.float32))
    return stamps
