"""Where the pixels of one exposure lie in another: by their WCS, checked by the stars, or by the stars alone."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree
from scipy.stats import poisson

from crattn_stage.detection.sources import TooCrowded, extract, inside
from crattn_stage.errors import FrameError

#: Fewest stars in common, and the probability that as many meet by chance.
FEWEST, CHANCE = 5, 1e-8
#: Largest shift between a WCS and the stars, and largest distance of a star from its place; pixels.
SHIFT, NEAR = 40, 2.0
#: The brightest sources that are matched, and those of which triangles are compared.
MOST, CORNERS = 2000, (30, 50)
#: Stars in common from which a polynomial of this degree is fitted.
DEGREES = {40: 2, 8: 1}
#: A star has this many times the light of its brightest pixel; a hot pixel has not.
SPREAD = 1.5
#: Half side of the aperture, in units of the wider FWHM, and smallest one in pixels.
APERTURE, SMALLEST = 1.5, 4.0


@dataclass
class Stars:
    """Round, isolated sources of an exposure, the brightest first; some are cosmic rays.

    Attributes
    ----------
    x, y : `numpy.ndarray`
        Pixels, from 0.
    flux, peak : `numpy.ndarray`
        In the unit of the image.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    peak: np.ndarray

    def __len__(self):
        return len(self.x)

    @property
    def places(self):
        """The centres, an array (stars, 2)."""
        return np.column_stack([self.x, self.y])


class Mapping:
    """From the pixels of one exposure to those of another: a polynomial in x and y.

    Parameters
    ----------
    shape : tuple of int
        Of the first exposure's image.
    coefficients : `numpy.ndarray`, optional
        (2, 4, 4), of powers of the coordinates, which are scaled to -1..1, for x and y; all 0 by default.
    """

    def __init__(self, shape, coefficients=None):
        self.shape = shape
        self.coefficients = np.zeros((2, 4, 4)) if coefficients is None else coefficients

    def _scaled(self, x, y):
        height, width = self.shape
        return 2 * np.asarray(x, float) / max(width - 1, 1) - 1, 2 * np.asarray(y, float) / max(height - 1, 1) - 1

    def at(self, x, y):
        """Return where pixels of the first exposure lie in the other.

        Parameters
        ----------
        x, y : `numpy.ndarray`

        Returns
        -------
        x, y : `numpy.ndarray`
        """
        u, v = self._scaled(x, y)
        return tuple(np.polynomial.polynomial.polyval2d(u, v, c) for c in self.coefficients)

    def rows(self, start, stop):
        """Return where the pixels of some rows lie in the other exposure.

        Parameters
        ----------
        start, stop : int

        Returns
        -------
        x, y : `numpy.ndarray`
            (rows, columns).
        """
        u, v = self._scaled(np.arange(self.shape[1]), np.arange(start, stop))
        return tuple(np.polynomial.polynomial.polygrid2d(u, v, c).T for c in self.coefficients)

    def fitted(self, x, y, to_x, to_y, degree):
        """Return this mapping, corrected so that it takes places to others.

        Parameters
        ----------
        x, y, to_x, to_y : `numpy.ndarray`
            Places in the first exposure and in the other.
        degree : int
            Of the correction.

        Returns
        -------
        `Mapping`
        """
        u, v = self._scaled(x, y)
        powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
        terms = np.column_stack([u**i * v**j for i, j in powers])
        result = self.coefficients.copy()
        for plane, wanted, have in zip(result, (to_x, to_y), self.at(x, y), strict=True):
            solved = np.linalg.lstsq(terms, wanted - have, rcond=None)[0]
            for (i, j), value in zip(powers, solved, strict=True):
                plane[i, j] += value
        return Mapping(self.shape, result)


@dataclass
class Registration:
    """How one exposure lies in another.

    Attributes
    ----------
    mapping : `Mapping`
    first, second : `numpy.ndarray` of int
        Numbers of the stars in common in either list.
    how : {"WCS", "WCS alone", "stars"}
    note : str
        What was odd.
    """

    mapping: Mapping
    first: np.ndarray
    second: np.ndarray
    how: str
    note: str = ""


def find_stars(image, bad):
    """Find the round, isolated sources of an exposure that are more than a pixel.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D float32, without background.
    bad : `numpy.ndarray` of bool

    Returns
    -------
    `Stars`
        None where there are too many to tell apart.
    """
    image = np.ascontiguousarray(np.where(bad, 0, image), np.float32)
    try:
        _, found = extract(image, np.ascontiguousarray(bad), 5)
    except TooCrowded:
        found = np.zeros(0, [(name, float) for name in ("x", "y", "flux", "peak")])
    found = found[found["flux"] > SPREAD * found["peak"]]
    found = found[np.argsort(-found["flux"])[:MOST]]
    return Stars(*(np.array(found[name], float) for name in ("x", "y", "flux", "peak")))


def register(first, second, shapes, wcs=(None, None)):
    """Find where the pixels of one exposure lie in another.

    Parameters
    ----------
    first, second : `Stars`
    shapes : tuple of tuple of int
        Of the two images.
    wcs : tuple of `astropy.wcs.WCS` or None
        Of the two; the stars say whether they hold, to `SHIFT` pixels.

    Returns
    -------
    `Registration`

    Raises
    ------
    FrameError
        If the two do not overlap, or there are too few stars to tell.
    """
    known = all(wcs)
    apart = ""
    if known:
        mapping = _by_wcs(shapes[0], *wcs)
        x, y = mapping.at(first.x, first.y)
        there = (x > -SHIFT) & (y > -SHIFT) & (x < shapes[1][1] + SHIFT) & (y < shapes[1][0] + SHIFT)
        matched = _matched(_shifted(mapping, first, second), first, second)
        if matched:
            return Registration(*matched, "WCS")
        if not overlap(mapping, shapes[1]):
            apart = "their fields do not overlap, by their WCS and the stars"
        elif min(there.sum(), len(second)) < 2 * FEWEST:
            return Registration(
                mapping, *np.zeros((2, 0), int), "WCS alone", "registered by the WCS alone: too few stars to check it"
            )
    matched = _by_stars(shapes[0], first, second)
    if matched:
        note = "the WCS disagrees with the stars, which were used instead" if known else ""
        return Registration(*matched, "stars", note)
    common = min(len(first), len(second))
    if apart:
        raise FrameError(apart)
    if known:
        raise FrameError(f"the WCS disagrees with the stars, and of {common} stars too few are in common to do without")
    raise FrameError(f"no WCS and too few stars in common: of {common}, {FEWEST} are needed")


def _by_wcs(shape, first, second):
    """Return the mapping by two WCS, as a polynomial."""
    y, x = (g.ravel() for g in np.meshgrid(*(np.linspace(0, n - 1, 13) for n in shape), indexing="ij"))
    to_x, to_y = second.world_to_pixel(first.pixel_to_world(x, y))
    good = np.isfinite(to_x) & np.isfinite(to_y)
    if good.sum() < 20:
        # Half a sky apart: a place far from any image.
        to_x, to_y, good = np.full(x.shape, -1e6), np.full(x.shape, -1e6), np.ones(x.shape, bool)
    return Mapping(shape).fitted(x[good], y[good], to_x[good], to_y[good], 3)


def overlap(mapping, shape, margin=0):
    """Return which fraction of an exposure lies in another, by a grid of 41 x 41 places.

    Parameters
    ----------
    mapping : `Mapping`
        From the pixels of the one to those of the other.
    shape : tuple of int
        Of the other.
    margin : int
        Pixels at the border of the other that do not count.

    Returns
    -------
    float
    """
    y, x = (g.ravel() for g in np.meshgrid(*(np.linspace(0, n - 1, 41) for n in mapping.shape), indexing="ij"))
    x, y = mapping.at(x, y)
    return float(inside(shape, y, x, margin).mean())


def _shifted(mapping, first, second):
    """Return a mapping with the shift at which most of the bright stars meet."""
    chosen = 500
    places = np.column_stack(mapping.at(first.x[:chosen], first.y[:chosen]))
    others = second.places[:chosen]
    if not len(places) or not len(others):
        return mapping
    near = cKDTree(places).query_ball_tree(cKDTree(others), SHIFT)
    shifts = [others[b] - places[a] for a, found in enumerate(near) for b in found]
    if not shifts:
        return mapping
    edges = np.arange(-SHIFT - 0.5, SHIFT + 1)
    counts = np.histogram2d(*np.array(shifts).T, (edges, edges))[0]
    best = np.unravel_index(np.argmax(uniform_filter(counts, 3)), counts.shape)
    result = Mapping(mapping.shape, mapping.coefficients.copy())
    result.coefficients[:, 0, 0] += np.array(best) - SHIFT
    return result


def _matched(mapping, first, second):
    """Refine a mapping by the stars in common; return it with their numbers, or None if they are too few."""
    tree = cKDTree(second.places) if len(second) else None
    if tree is None or not len(first):
        return None
    near = 2 * NEAR
    for _ in range(6):
        x, y = mapping.at(first.x, first.y)
        distance, partner = tree.query(np.column_stack([x, y]))
        mine = np.flatnonzero(distance < near)
        # A star serves once: for the nearest.
        mine = mine[np.argsort(distance[mine])]
        mine = mine[np.unique(partner[mine], return_index=True)[1]]
        if len(mine) < FEWEST:
            return None
        degree = next((d for most, d in DEGREES.items() if len(mine) >= most), 0)
        ends = first.x[mine], first.y[mine], second.x[partner[mine]], second.y[partner[mine]]
        mapping = mapping.fitted(*ends, degree)
        x, y = mapping.at(*ends[:2])
        off = np.hypot(x - ends[2], y - ends[3])
        near = float(np.clip(4 * np.median(off), 0.5, NEAR))
    area = np.prod(np.ptp(second.places, axis=0)) or 1.0
    kept = off < near
    chance = poisson.sf(kept.sum() - 1, len(first) * len(second) * np.pi * near**2 / area)
    if kept.sum() < FEWEST or chance > CHANCE:
        return None
    return mapping, mine[kept], partner[mine][kept]


def _by_stars(shape, first, second):
    """Register by shifts of the frame as it is, turned and mirrored, then by triangles; return what `_matched` does."""
    import astroalign

    best = _by_shift(shape, first, second)
    if best:
        return best
    for corners in CORNERS:
        for mirror in (1, -1):
            source, target = first.places[:corners] * (mirror, 1), second.places[:corners]
            if min(len(source), len(target)) < FEWEST:
                return None
            try:
                found, _ = astroalign.find_transform(source, target, max_control_points=corners)
            except (astroalign.MaxIterError, ValueError, TypeError):
                continue
            # A frame's corners fix a similarity.
            x, y = np.array([0.0, shape[1] - 1, 0, shape[1] - 1]), np.array([0.0, 0, shape[0] - 1, shape[0] - 1])
            ends = found(np.column_stack([x * mirror, y])).T
            matched = _matched(Mapping(shape).fitted(x, y, *ends, 1), first, second)
            if matched and (best is None or len(matched[1]) > len(best[1])):
                best = matched
        if best:
            return best
    return None


def _by_shift(shape, first, second):
    """Register by the shift at which most bright stars meet, for each orientation; return what `_matched` does."""
    chosen, bin_side = 150, 4
    x, y = np.array([0.0, shape[1] - 1, 0, shape[1] - 1]), np.array([0.0, 0, shape[0] - 1, shape[0] - 1])
    best = None
    for swapped, mirror_x, mirror_y in np.ndindex(2, 2, 2):
        start = Mapping(shape).fitted(x, y, *((y, x) if swapped else (x, y)), 1)
        start.coefficients[0] *= 1 - 2 * mirror_x
        start.coefficients[1] *= 1 - 2 * mirror_y
        places = np.column_stack(start.at(first.x[:chosen], first.y[:chosen]))
        shifts = (second.places[None, :chosen] - places[:, None]).reshape(-1, 2)
        if not len(shifts):
            return None
        bins, counts = np.unique(np.round(shifts / bin_side).astype(int), axis=0, return_counts=True)
        for number in np.argsort(-counts)[:3]:
            near = np.abs(shifts - bins[number] * bin_side).max(1) < bin_side
            moved = Mapping(shape, start.coefficients.copy())
            moved.coefficients[:, 0, 0] += np.median(shifts[near], axis=0)
            matched = _matched(moved, first, second)
            if matched and (best is None or len(matched[1]) > len(best[1])):
                best = matched
    return best


def aperture_fluxes(image, stars, chosen, fwhm):
    """Return the light of stars in a circle.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D float32, without background.
    stars : `Stars`
    chosen : `numpy.ndarray` of int
        Numbers of the stars.
    fwhm : float
        Of the wider of the exposures that are compared, pixels.

    Returns
    -------
    `numpy.ndarray`
    """
    import sep

    return sep.sum_circle(image, stars.x[chosen], stars.y[chosen], max(SMALLEST, APERTURE * fwhm))[0]


def seeing(stars, chosen, shape):
    """Return the width of stars.

    Parameters
    ----------
    stars : `Stars`
    chosen : `numpy.ndarray` of int
        Numbers of real stars, those in common with another exposure.
    shape : tuple of int
        Of the image.

    Returns
    -------
    float or None
        FWHM in pixels, from flux and peak as for a Gaussian; None without stars.
    """
    chosen = chosen[inside(shape, stars.y[chosen].astype(int), stars.x[chosen].astype(int), 5)]
    good = chosen[(stars.peak[chosen] > 0) & (stars.flux[chosen] > 0)]
    if not len(good):
        return None
    return float(np.median(2 * np.sqrt(2 * np.log(2)) * np.sqrt(stars.flux[good] / stars.peak[good] / 2 / np.pi)))
