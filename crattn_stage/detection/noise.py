"""Objects of a mask that are noise: those that cannot be seen, and those that the mirrored sky has as many of.

Where noise has heavy tails, a lone high pixel can look like a cosmic ray.  Below the sky there are no cosmic rays: what
a network finds in the sky mirrored about its level is noise, and above the sky there is as much of it.
"""

import numpy as np
from scipy.ndimage import label, maximum, maximum_filter, sum_labels, uniform_filter

from crattn_stage.detection.preprocessing import significance, sky_subtracted

#: Side of the middle of an image that is mirrored, pixels.
SAMPLE = 1024
#: A tail is heavy if more than `HEAVY` lone pixels in a million are deeper than `LOW`, in units of the noise; of
#: Gaussian noise 0.3 are.  Its power is measured between `SHALLOW` and `DEEP`, by `FEWEST` pixels at least.
SHALLOW, LOW, DEEP, HEAVY, FEWEST = 4.0, 5.0, 8.0, 100, 10
#: Fewest high pixels between `SHALLOW` and `DEEP` for each low one: where there are more low ones, their response is
#: poor, and they are no noise.
SYMMETRIC = 0.75
#: What is nowhere so many times the noise above the sky, nor above the pixels around it, cannot be seen.
VISIBLE = 2.5
#: Most pixels above `CLEAR` times the noise of a compact object.
COMPACT, CLEAR = 3, 3.0
#: Pixels above this many times the noise are sources, whose mirror images are left out.
SOURCE = 5.0
#: Limit of heights in units of the noise: damaged files hold values that overflow.
HIGHEST = np.float32(1e6)
_AROUND = np.ones((3, 3))


def drop_noise(image, cosmic_rays, bad, sections, sky, find):
    """Take objects that cannot be seen, and compact ones that stand out no further than noise, out of a mask, in place.

    In Gaussian noise compact objects stay; in any noise those of more than three clear pixels: noise makes few of them.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    cosmic_rays : `numpy.ndarray` of bool
        Changed in place.
    bad : `numpy.ndarray` of bool
        True on bad pixels.
    sections : list of tuple of `slice`
        Of the amplifiers.
    sky : list of `crattn_stage.detection.preprocessing.Sky`
        Of the amplifiers; None for a dead one.
    find : callable
        Function of an image, its bad pixels, sections and sky that returns what a network masks.
    """
    _drop_invisible(image, cosmic_rays, sections, sky)
    floors = noise_floors(image, cosmic_rays, bad, sections, sky, find)
    if floors.any():
        numbers, clear, contrast = _objects(_height(image, bad, sections, sky), cosmic_rays)
        low = contrast <= np.append(floors, 0)[np.minimum(clear, COMPACT + 1)]
        cosmic_rays[np.append(False, low)[numbers]] = False


def noise_floors(image, cosmic_rays, bad, sections, sky, find):
    """Return how far compact objects of noise stand out in the middle of an image.

    Parameters
    ----------
    image, cosmic_rays, bad, sections, sky, find
        As for `drop_noise`.

    Returns
    -------
    `numpy.ndarray`
        By the number of their clear pixels, from 0 to 3, in units of the noise: the height of the brightest pixel
        above the mean of the eight around it.  0 where noise has no heavy tail, or the network sees through it.
    """
    floors = np.zeros(COMPACT + 1)
    window = tuple(slice(max(0, (n - SAMPLE) // 2), (n + SAMPLE) // 2) for n in image.shape)
    inside = [(_within(section, window), own) for section, own in zip(sections, sky, strict=True)]
    inside = [(section, own) for section, own in inside if all(s.start < s.stop for s in section)]
    sections, sky = [section for section, _ in inside], [own for _, own in inside]
    image, bad = image[window], bad[window]
    height, area = _height(image, bad, sections, sky), np.count_nonzero(~bad) / 1e6
    # Most frames end here, at little cost.
    if np.count_nonzero(height < -SHALLOW) <= HEAVY * area:
        return floors
    depth = _depths(height)
    if np.count_nonzero(depth > LOW) <= HEAVY * area:
        return floors
    high, low = (np.count_nonzero((d > SHALLOW) & (d < DEEP)) for d in (_depths(-height), depth))
    if high < SYMMETRIC * low:
        return floors
    blank = bad | maximum_filter(height > SOURCE, 5) | maximum_filter(cosmic_rays[window], 3)
    with np.errstate(over="ignore"):
        mirrored = image - 2 * np.nan_to_num(sky_subtracted(image, sections, sky=sky))
    _, clear, contrast = _objects(np.where(blank, 0, -height), find(mirrored, blank, sections, sky))
    # Deeper ones are dead pixels, to which nothing above the sky corresponds.
    counts = contrast < _deepest(depth)
    for number in range(1, COMPACT + 1):
        floors[number] = contrast[counts & (np.maximum(clear, 1) == number)].max(initial=0)
    # What is masked without a clear pixel is the rim of one.
    floors[0] = floors[1]
    return floors


def _drop_invisible(image, cosmic_rays, sections, sky):
    numbers, count = label(cosmic_rays, _AROUND)
    visible = np.zeros(count + 1, bool)
    for section, own in zip(sections, sky, strict=True):
        row, column = np.nonzero(cosmic_rays[section])
        if own is None or not row.size:
            continue
        pixels, owner = image[section], numbers[section][row, column]
        step, (height, width) = np.arange(-1, 2)[:, None], pixels.shape
        rows, columns = (row + step).clip(0, height - 1), (column + step).clip(0, width - 1)
        # Damaged files hold values that overflow; with a pixel that is none of it is known.
        with np.errstate(over="ignore", invalid="ignore"):
            own_height = (pixels[row, column].astype(np.float32) - own.level) / own.sigma
            around = (pixels[rows[:, None], columns].astype(np.float32) - own.level) / own.sigma
            contrast = own_height - (around.sum((0, 1)) - own_height) / 8
        visible[owner[~((own_height < VISIBLE) & (contrast < VISIBLE))]] = True
    row, column = np.nonzero(cosmic_rays)
    cosmic_rays[row, column] = visible[numbers[row, column]]


def _within(section, window):
    """Return the part of a section that is in a window, relative to it."""
    return tuple(
        slice(max(s.start, w.start) - w.start, min(s.stop, w.stop) - w.start)
        for s, w in zip(section, window, strict=True)
    )


def _height(image, bad, sections, sky):
    return np.where(bad, 0, np.clip(significance(image, sections, sky), -HIGHEST, HIGHEST))


def _contrast(height):
    """Return how far each pixel is above the mean of the eight around it."""
    return (height - uniform_filter(height, 3)) * np.float32(9 / 8)


def _objects(height, mask):
    """Number the objects of a mask; return how many clear pixels each has or touches, and how far it stands out."""
    numbers, count = label(mask, _AROUND)
    every, near = np.arange(1, count + 1), maximum_filter(numbers, 3)
    clear = sum_labels(height > CLEAR, near, every).astype(int)
    return numbers, clear, np.asarray(maximum(_contrast(height), near, every))


def _depths(height):
    """Return how far lone low pixels, no more than two together, are below those around them."""
    low = height < -CLEAR
    numbers, count = label(low, _AROUND)
    every = np.arange(1, count + 1)
    return np.asarray(maximum(_contrast(-height), numbers, every))[sum_labels(low, numbers, every) <= 2]


def _deepest(depth):
    """Return the depth that half a pixel exceeds, by the power law between `SHALLOW` and `DEEP`; 0 if it is not known.

    The power is that of greatest likelihood for a power law cut off at both ends.
    """
    some = depth[(depth > SHALLOW) & (depth < DEEP)]
    if len(some) < FEWEST:
        return 0.0
    mean, ratio, power = np.log(some / SHALLOW).mean(), DEEP / SHALLOW, 5.0
    for _ in range(50):
        beyond = ratio**-power
        power = 1 / (mean + np.log(ratio) * beyond / (1 - beyond))
    return float(SHALLOW * (2 * len(some) / (1 - beyond)) ** (1 / power))
