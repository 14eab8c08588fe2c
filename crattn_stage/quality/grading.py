"""What a mask found and made up, as other exposures of the field say."""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import binary_dilation, find_objects, label
from scipy.special import ndtr

from crattn_stage.quality.summary import Sums, binomial_interval
from crattn_stage.quality.truth import BRIGHT, FAINT, STRONG

#: A masked object with a pixel above the first, in it or as near as the second, may be a hit too faint to be seen by
#: itself.  No more of them are than there are hits with a peak of `FAINT` to the last: noise looks like that, too.
DOUBTFUL, RIM, LIKE_THEM = 3.2, 2, 7.0
#: Noise hides so many hits with a true peak above `FAINT` for each one with a peak of up to 1 above it: the integral of
#: the normal distribution up to 0.
HIDDEN = 1 / np.sqrt(2 * np.pi)
#: What is allowed for a source is many times the noise: nothing can be said beside it.
TOO_BRIGHT = 10.0

_AROUND = np.ones((3, 3))


@dataclass
class Grade(Sums):
    """What a mask found and made up, as other exposures of the field say.

    Attributes
    ----------
    faint, faint_found : float
        Hits with a peak of 5 to 10 times the noise, and those of them with a masked pixel.  Each counts with the
        probability that its peak would be there without noise.
    bright, bright_found : float
        Hits with a higher peak, likewise.
    pixels, pixels_found : int
        Their pixels above 5 times the noise, and those masked.
    objects : int
        Masked objects.
    hit, false, fixed, unjudged : int
        Those that are hits; that the other exposures show as well, or where there is nothing; that are bad pixels of
        the detector; and those of which nothing can be said.
    judged : int
        Pixels of which something can be said.
    searched : int
        Good pixels.
    """

    faint: float = 0.0
    faint_found: float = 0.0
    bright: float = 0.0
    bright_found: float = 0.0
    pixels: int = 0
    pixels_found: int = 0
    objects: int = 0
    hit: int = 0
    false: int = 0
    fixed: int = 0
    unjudged: int = 0
    judged: int = 0
    searched: int = 0

    def completeness(self, kind):
        """Return the fraction that was found, and its 95% interval.

        Parameters
        ----------
        kind : {"faint", "bright", "pixels"}

        Returns
        -------
        fraction, low, high : float
            None, 0 and 1 if there were none.
        """
        tried = getattr(self, kind)
        # Those that noise hides are estimated, and may be more.
        found = min(tried, getattr(self, f"{kind}_found"))
        return (found / tried if tried else None, *binomial_interval(found, tried))

    @property
    def false_rate(self):
        """False objects per million pixels, and the 95% interval; None, 0 and a million if nothing was judged."""
        rate = self.false / self.judged * 1e6 if self.judged else None
        return (rate, *(1e6 * end for end in binomial_interval(self.false, self.judged)))


@dataclass
class Marked:
    """Objects of a mask, and what was made of them.

    Attributes
    ----------
    grade : `Grade`
    missed, false : list of (float, int, int)
        S/N, row and column of hits without a masked pixel, and of masked objects that are none.
    """

    grade: Grade = field(default_factory=Grade)
    missed: list = field(default_factory=list)
    false: list = field(default_factory=list)


def grade_mask(own, truth, mask):
    """Compare a mask with what the other exposures say.

    Parameters
    ----------
    own : `crattn_stage.quality.repeats.Repeat`
    truth : `crattn_stage.quality.truth.Truth`
        From `crattn_stage.quality.truth.find_hits`.
    mask : `numpy.ndarray` of bool
        Cosmic rays.

    Returns
    -------
    `Marked`

    Notes
    -----
    Near a limit, noise makes as many hits brighter as fainter, but fewer of those that were fainter are found.  So a
    hit with the peak m counts as one above the limit s with the probability that it is, the normal distribution up to
    m - s: whether it is found depends on its pixels as they are, noise and all, not on what they would be without.
    """
    result, grade = Marked(), Grade()
    grade.searched, grade.judged = int((~own.bad).sum()), int(truth.judged.sum())
    strong = truth.strong
    grade.pixels, grade.pixels_found = int(strong.sum()), int((strong & mask).sum())
    found = np.zeros(len(truth.peaks) + 1, bool)
    found[np.unique(truth.objects[mask])] = True
    peaks, found = np.asarray(truth.peaks, float), found[1:]
    faint, bright = ndtr(peaks - FAINT) - ndtr(peaks - BRIGHT), ndtr(peaks - BRIGHT)
    grade.faint = float(faint[peaks >= FAINT].sum() + HIDDEN * _between(peaks, FAINT, FAINT + 1))
    grade.faint_found, grade.bright = float(faint[found].sum()), float(bright.sum())
    grade.bright_found = float(bright[found].sum())
    for box, peak, is_found in zip(find_objects(truth.objects), peaks, found, strict=True):
        if not is_found and peak >= FAINT:
            result.missed.append((float(peak), *_middle(box)))
    numbers, grade.objects = label(mask & ~own.bad, _AROUND)
    boxes, near_hit = find_objects(numbers), binary_dilation(truth.objects > 0, _AROUND)
    kinds = [_kind(truth, box, numbers[box] == number, near_hit) for number, box in enumerate(boxes, 1)]
    # The brightest are hits.
    doubtful = sorted((above, number) for number, (kind, above) in enumerate(kinds, 1) if kind == "doubtful")[::-1]
    hits = {number for _, number in doubtful[: _between(peaks, FAINT, LIKE_THEM)]}
    for number, (box, (kind, _)) in enumerate(zip(boxes, kinds, strict=True), 1):
        pixels = numbers[box] == number
        if kind == "doubtful":
            kind = "fainter" if number in hits else "false"
        if kind == "fainter":
            peak = float((truth.excess[box] / truth.own_noise[box])[pixels].max())
            grade.faint_found += float(ndtr(peak - FAINT)) if peak < FAINT else 0.0
            kind = "hit"
        setattr(grade, kind, getattr(grade, kind) + 1)
        if kind == "false":
            peak = float((own.image[box] / truth.own_noise[box])[pixels].max())
            result.false.append((peak, *_middle(box)))
    result.grade = grade
    return result


def _between(peaks, low, high):
    return int(((peaks >= low) & (peaks < high)).sum())


def _middle(box):
    return tuple((s.start + s.stop - 1) // 2 for s in box)


def _kind(truth, box, pixels, near_hit):
    """Return what a masked object is, one of "hit", "fainter", "doubtful", "false", "fixed" and "unjudged".

    With it, how many times the noise its brightest pixel, or one beside it, exceeds what the others may have.
    """
    around = tuple(slice(max(0, s.start - RIM), s.stop + RIM) for s in box)
    above = float(((truth.excess - truth.allowed) / truth.noise)[around].max())
    if (near_hit[box] & pixels).any():
        return "hit", above
    if (truth.fixed[box] & pixels).any():
        return "fixed", above
    use = pixels & truth.judged[box]
    if 2 * use.sum() <= pixels.sum():
        return "unjudged", above
    excess, allowed, noise = (plane[box][use] for plane in (truth.excess, truth.allowed, truth.noise))
    error = np.sqrt((noise**2).sum())
    if excess.sum() > STRONG * error + allowed.sum():
        # Too faint to be a hit by its peak.
        return ("fainter" if truth.doubted is None or not truth.doubted[box][use].any() else "unjudged"), above
    peak = np.argmax(excess - allowed)
    if allowed[peak] > TOO_BRIGHT * noise[peak] and excess.max() > STRONG * noise[peak] + allowed[peak] / 2:
        return "unjudged", above
    # Something fainter than a hit, or beside one: networks mask a rim, too.
    return "doubtful" if above > DOUBTFUL else "false", above
