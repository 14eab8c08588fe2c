"""Objects of a mask that are noise: those that cannot be seen, and those that the mirrored sky has as many of.

Where noise has heavy tails, a lone high pixel can look like a cosmic ray.  Below the sky there are no cosmic rays: what
a network finds in the sky mirrored about its level is noise, and above the sky there is as much of it.
"""

import numpy as np
from scipy.ndimage import label, maximum, maximum_filter, sum_labels, uniform_filter

from crattn_stage.detection.preprocessing import bounded_heights, heights

#: Side of the middle of an amplifier that is mirrored, pixels.
SAMPLE = 2048
#: A tail is heavy if more than `HEAVY` lone pixels in a million are `LOW` to `DEEP` times the noise below those around
#: them; of Gaussian noise one is.  Its power is measured from `SHALLOW` on, by `FEWEST` pixels at least.
SHALLOW, LOW, DEEP, HEAVY, FEWEST = 4.0, 5.0, 8.0, 100, 10
#: Fewest high pixels between `SHALLOW` and `DEEP` for each low one: where there are more low ones, their response is
#: poor, and they are no noise.
SYMMETRIC = 0.75
#: Least power of the tail: that of Student's t of 3 degrees of freedom.  Flatter ones are of cold and hot pixels.
STEEP = 3.0
#: What is nowhere so many times the noise above the sky, nor above the pixels around it, cannot be seen.
VISIBLE = 2.5
#: Most pixels above `CLEAR` times the noise of a compact object.
COMPACT, CLEAR = 3, 3.0
#: Pixels above this many times the noise are sources, whose mirror images are left out.
SOURCE = 5.0
_AROUND = np.ones((3, 3))


def drop_noise(image, cosmic_rays, bad, sections, sky, find, floors=None):
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
    floors : list of `numpy.ndarray`, optional
        Of the amplifiers, from `noise_floors`, where they are known; measured if None.

    Returns
    -------
    list of `numpy.ndarray`
        The floors.
    """
    _drop_invisible(image, cosmic_rays, sections, sky)
    if floors is None:
        floors = [
            noise_floors(image[s], cosmic_rays[s], bad[s], own, find) for s, own in zip(sections, sky, strict=True)
        ]
    for section, own, floor in zip(sections, sky, floors, strict=True):
        if floor.any() and own is not None:
            _drop_low(image[section], cosmic_rays[section], bad[section], own, floor)
    return floors


def noise_floors(image, cosmic_rays, bad, sky, find):
    """Return how far compact objects of noise stand out in the middle of an amplifier.

    Parameters
    ----------
    image, cosmic_rays, bad : `numpy.ndarray`
        Of the amplifier, as for `drop_noise`.
    sky : `crattn_stage.detection.preprocessing.Sky`
        None for a dead amplifier.
    find : callable
        As for `drop_noise`.

    Returns
    -------
    `numpy.ndarray`
        By the number of their clear pixels, from 0 to 3, in units of the noise: the height of the brightest pixel
        above the mean of the eight around it.  0 where noise has no heavy tail, or the network sees through it.
    """
    floors = np.zeros(COMPACT + 1, np.float32)
    if sky is None:
        return floors
    middle = tuple(slice(max(0, (n - SAMPLE) // 2), (n + SAMPLE) // 2) for n in image.shape)
    image, cosmic_rays, bad = image[middle], cosmic_rays[middle], bad[middle]
    height, most = _height(image, bad, sky), HEAVY * np.count_nonzero(~bad) / 1e6
    # Most frames end here, at little cost.
    if np.count_nonzero(height < -SHALLOW) <= most:
        return floors
    tail = _tail(height)
    if np.count_nonzero(tail > LOW) <= most or len(tail) < FEWEST or len(_tail(-height)) < SYMMETRIC * len(tail):
        return floors
    power = _power(tail)
    if power < STEEP:
        return floors
    blank = bad | maximum_filter(height > SOURCE, 5) | maximum_filter(cosmic_rays, 3)
    # Damaged pixels, which are bad ones, may overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        mirrored = np.float32(2 * sky.level) - image
    found = find(mirrored, blank, [tuple(slice(0, n) for n in image.shape)], [sky])
    _, clear, contrast = _objects(np.where(blank, 0, -height), found)
    # Deeper ones are dead pixels, to which nothing above the sky corresponds.
    counts = contrast < _deepest(len(tail), power)
    for number in range(1, COMPACT + 1):
        floors[number] = contrast[counts & (np.maximum(clear, 1) == number)].max(initial=0)
    # What is masked without a clear pixel is the rim of one.
    floors[0] = floors[1]
    # What noise does with more clear pixels it does with fewer, too.
    return np.maximum.accumulate(floors[::-1])[::-1]


def _drop_invisible(image, cosmic_rays, sections, sky):
    numbers, count = label(cosmic_rays, _AROUND)
    visible = np.zeros(count + 1, bool)
    for section, own in zip(sections, sky, strict=True):
        row, column = np.nonzero(cosmic_rays[section])
        if own is None or not row.size:
            continue
        pixels, owner = image[section], numbers[section][row, column]
        # Beside a pixel that is none, of which no height is known, an object counts as visible.
        visible[owner[~(heights(pixels[row, column], own) < VISIBLE)]] = True
        faint = ~visible[owner]
        row, column, owner = row[faint], column[faint], owner[faint]
        step, (height, width) = np.arange(-1, 2)[:, None], pixels.shape
        around = heights(pixels[(row + step).clip(0, height - 1)[:, None], (column + step).clip(0, width - 1)], own)
        with np.errstate(over="ignore", invalid="ignore"):
            contrast = (around[1, 1] - around.mean((0, 1))) * np.float32(9 / 8)
        visible[owner[~(contrast < VISIBLE)]] = True
    row, column = np.nonzero(cosmic_rays)
    cosmic_rays[row, column] = visible[numbers[row, column]]


def _drop_low(image, cosmic_rays, bad, sky, floors):
    numbers, clear, contrast = _objects(_height(image, bad, sky), cosmic_rays)
    low = (clear <= COMPACT) & (contrast <= floors[np.minimum(clear, COMPACT)])
    # At the border it is not known how far they go.
    for edge in (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]):
        low[edge[edge > 0] - 1] = False
    cosmic_rays[np.append(False, low)[numbers]] = False


def _height(image, bad, sky):
    return np.where(bad, 0, bounded_heights(image, sky))


def _contrast(height):
    """Return how far each pixel is above the mean of the eight around it."""
    return (height - uniform_filter(height, 3)) * np.float32(9 / 8)


def _objects(height, mask):
    """Number the objects of a mask; return how many clear pixels each has or touches, and how far it stands out."""
    numbers, count = label(mask, _AROUND)
    every, near = np.arange(1, count + 1), maximum_filter(numbers, 3)
    clear = sum_labels(height > CLEAR, near, every).astype(int)
    return numbers, clear, np.asarray(maximum(_contrast(height), near, every))


def _tail(height):
    """Return how far lone low pixels, no more than two together, are below those around them: `SHALLOW` to `DEEP`."""
    low = height < -CLEAR
    numbers, count = label(low, _AROUND)
    every = np.arange(1, count + 1)
    depth = np.asarray(maximum(_contrast(-height), numbers, every))[sum_labels(low, numbers, every) <= 2]
    return depth[(depth > SHALLOW) & (depth < DEEP)]


def _power(tail):
    """Return the power of a tail, by greatest likelihood."""
    mean, ratio, power = np.log(tail / SHALLOW).mean(), np.log(DEEP / SHALLOW), 5.0
    for _ in range(50):
        power = 1 / (mean + ratio / np.expm1(power * ratio))
    return power


def _deepest(count, power):
    """Return the depth that half a pixel exceeds, by the number of pixels in the tail and its power."""
    beyond = count / (1 - (DEEP / SHALLOW) ** -power)
    return float(SHALLOW * (2 * beyond) ** (1 / power))
