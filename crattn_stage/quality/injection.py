"""What a mask finds and what it makes up, measured on the frame itself.

Known hits are added to small windows of the frame, and the model looks again.  The same windows, mirrored about the
level of the sky, hold no hits: what is found there is noise.
"""

import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, label

from crattn_stage.detection.inputs import as_float32, check_sections
from crattn_stage.quality.summary import Injected
from crattn_stage.simulation.hits import turned

#: Hits of held-out real footprints of thick and thin CCDs; ``python -m training.data.injection`` makes it.
CATALOGUE = Path(__file__).with_name("injected_hits.npz")
#: Most hits that are added per detector by default, and largest fraction of its pixels that is masked again for them,
#: if the bright ones are all found, and no noise, and stars are wider than hits.
INJECTIONS, FRACTION = 128, 0.06
#: Side of a window, its margin (more than any network sees), and hits in it: one in each quarter.
SIDE, MARGIN, QUARTERS = 128, 24, 4
QUARTER = (SIDE - 2 * MARGIN) // 2
#: Peaks in units of the noise that split faint hits from bright ones; fainter ones are not added.
FAINT, BRIGHT = 5.0, 10.0
#: Pixels of a hit that matter, in units of the noise.
SIGNIFICANT = 3.0
#: Above this many times the noise of the sky the frame itself has a source.
SOURCE = 5.0


def measure(model, image, searched, found, sections, sky, gains, threshold=None, count=None, conditions=None):
    """Add hits to windows of a detector and mask them again, and mask the windows mirrored.

    Hits are real footprints in random orientation, half of them as bright as they were and half scaled to a peak of
    5 to 10 times the noise, at places where the frame has neither a bad pixel nor a hit.  One is found if a pixel
    above 3 times the noise is masked.

    Parameters
    ----------
    model : `crattn_stage.detection.model.CosmicRayModel`
    image : `numpy.ndarray`
        2-D, ADU or electron.
    searched, found : `numpy.ndarray` of bool
        Pixels that could be searched, and its cosmic rays.
    sections : list of tuple of `slice`
        Of the amplifiers.
    sky : list of `crattn_stage.detection.preprocessing.Sky` or None
        Of the amplifiers; None for a dead one.
    gains : list of float or None
        Of the amplifiers, electrons per unit of the image.  Without one, real charges are not known: the other half
        of the hits is scaled, too, to 10 to 20 times the noise, and noise of sources is taken for that of the sky.
    threshold : float, optional
        As for the mask; the card's if None.
    count : int, optional
        Hits, in steps of 4; by default 128, or as many as need 6% of the pixels to be masked again, 32 at least, and
        128 where a bright one of these is missed, noise is masked, or stars are narrow: few cannot tell a good mask
        from a bad one.
    conditions : `crattn_stage.detection.model.Conditions`, optional
        With which the detector was masked; measured on the windows if None.

    Returns
    -------
    `crattn_stage.quality.summary.Injected`
        Zeros where no window fits.  The same for the same image.
    """
    sections = check_sections(sections, image.shape)
    first = most = -(-(INJECTIONS if count is None else count) // QUARTERS)
    if count is None and not (conditions and conditions.narrow):
        first = int(np.clip(FRACTION * image.size / SIDE**2, 8, most))
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(image[::16, ::16]).tobytes()))
    windows = _windows(image.shape, searched, sections, sky, most, rng)
    result = Injected()
    # Damaged files hold values that overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        for some in (windows[:first], windows[first:]):
            cut = [_Cut(image[w], ~searched[w], found[w], sky[a], gains[a]) for a, w in some]
            if cut:
                result += _looked_again(model, cut, threshold, rng, _of_windows(conditions, [a for a, _ in some]))
            if result.bright_found == result.bright and not result.mirrored_objects:
                break
    return result


def _looked_again(model, cut, threshold, rng, conditions):
    """Add hits to windows, mask them, and mask them mirrored; return the counts."""
    result = Injected()
    truths = [one.add_hits(rng) for one in cut]
    again = _mask(model, [one.image + one.charge for one in cut], [one.bad for one in cut], cut, threshold, conditions)
    for hits, mask in zip(truths, again, strict=True):
        for peak, on_source, pixels in hits:
            got = mask[pixels]
            kind = "faint" if peak < BRIGHT else "bright"
            for name in (kind, *["on_sources"] * on_source):
                setattr(result, name, getattr(result, name) + 1)
                setattr(result, f"{name}_found", getattr(result, f"{name}_found") + int(got.any()))
            result.pixels += got.size
            result.pixels_found += int(np.count_nonzero(got))
    blank = [binary_dilation(one.sources, np.ones((5, 5))) | one.bad | one.found for one in cut]
    mirrored = [2 * one.sky.level - one.image for one in cut]
    for off, mask in zip(blank, _mask(model, mirrored, blank, cut, threshold, conditions), strict=True):
        result.mirrored += int(np.count_nonzero(~off[_INNER]))
        result.mirrored_objects += label(mask[_INNER], np.ones((3, 3)))[1]
    return result


_INNER = (slice(MARGIN, SIDE - MARGIN),) * 2


@cache
def catalogue():
    """Return the stamps of `CATALOGUE`, charge in electrons."""
    with np.load(CATALOGUE) as kept:
        ends = np.cumsum(kept["shapes"].prod(1))
        return [p.reshape(s) for p, s in zip(np.split(kept["charge"], ends[:-1]), kept["shapes"], strict=True)]


def _windows(shape, searched, sections, sky, count, rng):
    """Return amplifier and slices of windows at random places that do not overlap and are mostly good."""
    places = [
        (number, row, column)
        for number, (rows, columns) in enumerate(sections)
        if sky[number] is not None and sky[number].sigma > 0
        for row in range(rows.start, rows.stop - SIDE + 1, SIDE)
        for column in range(columns.start, columns.stop - SIDE + 1, SIDE)
    ]
    chosen = []
    for index in rng.permutation(len(places)):
        number, row, column = places[index]
        window = slice(row, row + SIDE), slice(column, column + SIDE)
        if searched[window].mean() > 0.5:
            chosen.append((number, window))
        if len(chosen) == count:
            break
    return chosen


class _Cut:
    """A window of a detector, and the charge that is added to it."""

    def __init__(self, image, bad, found, sky, gain):
        self.image, self.bad, self.found, self.sky, self.gain = as_float32(image), bad, found, sky, gain
        self.charge = np.zeros_like(self.image)
        above = np.nan_to_num(self.image - sky.level)
        self.sources = above > SOURCE * sky.sigma
        self.noise = np.sqrt(sky.sigma**2 + np.maximum(above, 0) / gain if gain else np.full_like(above, sky.sigma**2))

    def add_hits(self, rng):
        """Add a hit to each quarter where one fits; return peak S/N, whether it is on a source, and its pixels."""
        hits = []
        for top, left in ((MARGIN + QUARTER * i, MARGIN + QUARTER * j) for i in (0, 1) for j in (0, 1)):
            stamp = turned(catalogue()[rng.integers(len(catalogue()))], rng)
            faint, peak = rng.random() < 0.5, rng.uniform(FAINT, BRIGHT)
            scaled = faint or not self.gain
            if not faint:
                peak *= BRIGHT / FAINT
            row, column = (start + rng.integers(QUARTER - n) for start, n in zip((top, left), stamp.shape, strict=True))
            where = slice(row, row + stamp.shape[0]), slice(column, column + stamp.shape[1])
            if (self.bad | self.found)[where][stamp > 0].any():
                continue
            added, noise = stamp / (self.gain or 1), self.noise[where]
            if scaled:
                strongest = (added / noise).max()
                if not strongest > 0:
                    # Among pixels of a damaged file.
                    continue
                added = added * (peak / strongest)
            strength = added / noise
            if strength.max() < FAINT or (not scaled and strength.max() < BRIGHT):
                continue
            self.charge[where] += added
            pixels = np.zeros(self.image.shape, bool)
            pixels[where] = strength > SIGNIFICANT
            hits.append((float(strength.max()), bool(self.sources[where][stamp > 0].any()), pixels))
        return hits


def _of_windows(conditions, amplifiers):
    """Return the conditions for windows of amplifiers, which are given by number."""
    if conditions is None or conditions.floors is None:
        return conditions
    return replace(conditions, floors=[conditions.floors[number] for number in amplifiers])


def _mask(model, images, bad, cuts, threshold, conditions):
    """Return the masks of windows, which are laid side by side, each with its own sky."""
    # They fill a rectangle, so that the network runs once.
    columns = next(n for n in range(int(len(images) ** 0.5), 0, -1) if len(images) % n == 0)
    sheet = np.zeros((len(images) // columns * SIDE, columns * SIDE), np.float32)
    flagged = np.ones(sheet.shape, bool)
    slots = [tuple(slice(SIDE * k, SIDE * (k + 1)) for k in divmod(number, columns)) for number in range(len(images))]
    for slot, image, off in zip(slots, images, bad, strict=True):
        sheet[slot], flagged[slot] = image, off
    mask = model.detect(sheet, flagged, threshold, slots, [cut.sky for cut in cuts], conditions=conditions)
    return [mask[slot] for slot in slots]
