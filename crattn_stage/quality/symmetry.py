"""Masked objects that mirror each other through a bright star: pieces of its spikes, not cosmic rays."""

import numpy as np
import sep
from scipy.spatial import cKDTree

from crattn_stage.detection.sources import inside, stamps
from crattn_stage.quality.summary import Symmetry, connected_pixels

#: Side of the blocks of pixels in which bright stars are looked for.
BLOCK = 8
#: Least light of a bright star in its block, and on each side of it, in units of the noise of that many pixels.
BRIGHT, BESIDE = 1000, 5
#: Most stars, the brightest, and most parts of objects near them, which count for each star: more cost time and tell
#: little.
MOST, MOST_NEAR = 50, 2000
#: Standard deviation of the window in which the centre of a star is measured, pixels for each block of a core's side.
WINDOW = 3.0
#: How far from a star objects are looked at: this times the root of its light, in units of the noise of a block, and at
#: most so many pixels.
REACH, FARTHEST = 0.5, 300.0
#: Side of the parts into which objects are cut, pixels.
PART = 6
#: Nearest to a star that a part may be, pixels.
NEAREST = 3.0
#: How near to the mirror image of a part another must be across the line to the star, as a fraction of the distance
#: from it, within these limits in pixels; along the line, where spikes are broken anywhere, twice as far.
TOLERANCE, LEAST, LARGEST = 0.06, 1.5, 6.0
#: Angles by which the mirror image is turned to count what chance does: far from those between spikes, which come in
#: fours, sixes and eights.
TURNS = np.deg2rad([16, 38, 52, 74, 106, 128, 142, 164])


def count_pairs(image, cosmic_rays):
    """Count the masked objects that mirror each other through the bright stars of an image.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D float32, its sky at 0, finite.  Saturated pixels keep their values.
    cosmic_rays : `numpy.ndarray` of bool
        The mask that is judged.

    Returns
    -------
    `crattn_stage.quality.summary.Symmetry`
    """
    row, column, numbers, count = connected_pixels(cosmic_rays)
    if count < 2:
        return Symmetry()
    stars, reach = bright_stars(image, (row, column))
    return pairs_through(stars, reach, *_parts(row, column, numbers))


def _parts(row, column, numbers):
    """Cut the objects of a mask into parts, since spikes break anywhere; return their centres, and of what they are."""
    keys = np.stack([numbers, row // PART, column // PART])
    order = np.lexsort(keys)
    starts = np.flatnonzero(np.r_[True, np.diff(keys[:, order]).any(0)])
    sizes = np.diff(np.r_[starts, len(order)])
    centres = np.stack([np.add.reduceat(axis[order], starts) / sizes for axis in (row, column)], 1)
    return centres, numbers[order][starts]


def bright_stars(image, masked=((), ())):
    """Find the stars of an image that are bright enough for spikes, whether they are saturated or not.

    A star is the brightest of the blocks around it and has light on all four sides, which most hits and bad
    columns have not.

    Parameters
    ----------
    image : `numpy.ndarray`
        As for `count_pairs`.
    masked : tuple of `numpy.ndarray` of int
        Rows and columns of pixels that do not count.

    Returns
    -------
    places : `numpy.ndarray`
        (stars, 2): row and column, pixels; brightest first.
    reach : `numpy.ndarray`
        How far from each star its spikes may reach, pixels.
    """
    height, width = (n // BLOCK for n in image.shape)
    nothing = np.zeros((0, 2)), np.zeros(0)
    if min(height, width) < 3:
        return nothing
    # One axis at a time takes a quarter of the time.
    light = image[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, -1).sum(1, dtype=np.float64)
    light = light.reshape(height, width, BLOCK).sum(2)
    row, column = (np.asarray(axis, int) for axis in masked)
    used = (row < height * BLOCK) & (column < width * BLOCK)
    row, column = row[used], column[used]
    np.subtract.at(light, (row // BLOCK, column // BLOCK), image[row, column])
    light -= np.median(light)
    # Of differences, so that a halo or a nebula is no noise.
    noise = 1.4826 * np.median(np.abs(np.diff(light))) / 2**0.5
    row, column = np.nonzero(light > max(BRIGHT * noise, 0))
    within = inside(light.shape, row, column, 1)
    row, column = row[within], column[within]
    around = stamps(light, row, column, 1).reshape(-1, 3, 3)
    sides = [around[:, 0].sum(1), around[:, 2].sum(1), around[:, :, 0].sum(1), around[:, :, 2].sum(1)]
    is_star = (around[:, 1, 1] == around.max((1, 2))) & (np.min(sides, 0) > BESIDE * 3**0.5 * noise)
    total = np.where(is_star, around.sum((1, 2)), 0)
    brightest = np.argsort(-total, kind="stable")[: min(MOST, np.count_nonzero(is_star))]
    if not noise or not brightest.size:
        return nothing
    row, column = ((axis[brightest] + 0.5) * BLOCK - 0.5 for axis in (row, column))
    reach = np.minimum(REACH * np.sqrt(total[brightest] / noise), FARTHEST)
    # A saturated core fills several blocks; a window must be wider than it.
    core = around[brightest]
    window = WINDOW * np.sqrt((core > core[:, 1:2, 1:2] / 2).sum((1, 2)))
    x, y, _ = sep.winpos(image, column, row, window, subpix=1)
    found = np.hypot(y - row, x - column) < 4 * BLOCK
    return np.column_stack([y, x])[found], reach[found]


def pairs_through(stars, reach, places, objects=None):
    """Count the objects that have another at their mirror image through a star, and how many chance would have.

    Chance is measured by turning the mirror images about the star.  An object counts once, however many stars and
    partners it has: one hit that a star cuts in two is no more than a pair.

    Parameters
    ----------
    stars : `numpy.ndarray`
        (stars, 2): row and column, pixels; the first are kept where there are too many objects near them.
    reach : `numpy.ndarray`
        (stars,) pixels.
    places : `numpy.ndarray`
        (parts, 2): row and column of the parts of objects, pixels.
    objects : `numpy.ndarray` of int, optional
        (parts,): to which object each belongs; each is one of its own if None.

    Returns
    -------
    `crattn_stage.quality.summary.Symmetry`

    Examples
    --------
    >>> spikes = np.array([[9.0, 0], [14, 0], [20, 0], [0, 11], [0, 17]])
    >>> found = pairs_through(np.array([[50.0, 50]]), np.array([40.0]), 50 + np.concatenate([spikes, -spikes]))
    >>> found.pairs, found.chance
    (5, 0.0)
    """
    if len(stars) == 0 or len(places) < 2:
        return Symmetry(stars=len(stars))
    objects = np.arange(len(places)) if objects is None else objects
    near = cKDTree(places).query_ball_point(stars, reach, return_sorted=True)
    sizes = np.array([len(one) for one in near])
    sizes = sizes[: max(1, np.count_nonzero(np.cumsum(sizes) <= MOST_NEAR))]
    star = np.repeat(np.arange(len(sizes)), sizes)
    index = np.concatenate([np.array(one, int) for one in near[: len(sizes)]])
    offset = places[index] - stars[star]
    distance = np.hypot(*offset.T)
    apart = distance >= NEAREST
    offset, star, distance, owner = offset[apart], star[apart], distance[apart], objects[index[apart]]
    if len(owner) < 2:
        return Symmetry(stars=len(stars))
    # With the root of the distance, what is along the line to the star counts half.
    root = np.sqrt(distance)
    offset = offset / root[:, None]
    tolerance = np.clip(TOLERANCE * distance, LEAST, LARGEST) / root
    # Objects of different stars are far apart in the third coordinate.
    height = 4 * root.max() * star
    tree = cKDTree(np.column_stack([offset, height]))

    def paired(turn):
        """Count the objects whose mirror image, turned, is beside another."""
        cos, sin = np.cos(turn), np.sin(turn)
        image = -offset @ np.array([[cos, sin], [-sin, cos]])
        away, partner = tree.query(np.column_stack([image, height]), distance_upper_bound=1.001 * tolerance.max())
        found = np.flatnonzero(away <= tolerance)
        return len(np.unique(owner[found[owner[found] != owner[partner[found]]]]))

    # Both ways, so that a mirrored image has the same count.
    by_chance = [(paired(turn) + paired(-turn)) / 4 for turn in TURNS]
    return Symmetry(len(stars), paired(0) // 2, float(np.mean(by_chance)), float(np.var(by_chance, ddof=1)))
