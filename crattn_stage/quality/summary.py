"""What was found, in numbers: counts, fractions and rates of a detector or a frame."""

from dataclasses import dataclass, field, fields

import numpy as np
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import betainc

#: With fewer stars than this, over-masking is not judged.
FEWEST_STARS = 20
#: Pixels from an amplifier's border within which hits are counted apart.
BORDER = 4
#: Up to this fraction of the pixels, objects are counted by the masked pixels alone, which is far cheaper.
MOST_SPARSE = 0.02


def binomial_interval(found, tried):
    """Return the 95% interval of the fraction that is found.

    If the truth were beyond one of its ends, chance would give so many or more, or so few or fewer, in less than 1 of
    40 cases, those that are just as many counted half (mid-P; Lancaster 1961, JASA 56, 223).  Where nearly all are
    found, it holds the truth in more than 95% of cases, where Wilson's may in 88%.

    Parameters
    ----------
    found, tried : float
        Counts, which may be sums of probabilities.

    Returns
    -------
    low, high : float
        0 and 1 if nothing was tried.

    Examples
    --------
    >>> low, high = binomial_interval(97, 100)
    >>> f"{low:.3f} {high:.3f}"
    '0.921 0.992'
    """
    return _lower_end(found, tried), 1 - _lower_end(tried - found, tried)


def _lower_end(found, tried):
    if not tried or found <= 0:
        return 0.0
    low, high, missed = 0.0, 1.0, max(tried - found, 0)
    for _ in range(40):
        middle = (low + high) / 2
        # At least as many, and more.
        tails = betainc(found, missed + 1, middle) + (betainc(found + 1, missed, middle) if missed else 0)
        low, high = (low, middle) if tails / 2 > 0.025 else (middle, high)
    return low


class Sums:
    """What can be added, field by field; for data classes."""

    def __add__(self, other):
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass
class Injected(Sums):
    """Hits that were added to a detector and looked for, and what was found in its mirrored sky.

    Attributes
    ----------
    faint, faint_found : int
        Hits with a peak of 5 to 10 times the noise, and those found.
    bright, bright_found : int
        Hits with a higher peak.
    on_sources, on_sources_found : int
        Those of either kind that fell on a star or galaxy.
    pixels, pixels_found : int
        Their pixels above 3 times the noise, and those masked.
    mirrored, mirrored_objects : int
        Pixels of mirrored sky, and the objects found there.
    """

    faint: int = 0
    faint_found: int = 0
    bright: int = 0
    bright_found: int = 0
    on_sources: int = 0
    on_sources_found: int = 0
    pixels: int = 0
    pixels_found: int = 0
    mirrored: int = 0
    mirrored_objects: int = 0

    def completeness(self, kind):
        """Return the fraction that was found.

        Parameters
        ----------
        kind : {"faint", "bright", "on_sources", "pixels"}

        Returns
        -------
        float or None
            None if nothing was tried.
        """
        tried = getattr(self, kind)
        return getattr(self, f"{kind}_found") / tried if tried else None

    def interval(self, kind):
        """Return the 95% interval of the fraction that is found.

        Parameters
        ----------
        kind
            As for `completeness`.

        Returns
        -------
        low, high : float
            0 and 1 if nothing was tried.
        """
        return binomial_interval(getattr(self, f"{kind}_found"), getattr(self, kind))

    @property
    def noise_objects(self):
        """Objects per million pixels of mirrored sky, or None without any."""
        return self.mirrored_objects / self.mirrored * 1e6 if self.mirrored else None


@dataclass
class Appearance(Sums):
    """What the stars and the sky of a detector look like; sums, so that those of detectors can be added.

    Attributes
    ----------
    stars : int
        Stars that are not masked.
    widths : float
        Sum of their FWHM, pixels.
    hollow : int
        Those of them that are darker in the middle.
    good, sky : int
        Good pixels that were looked at, and those of them away from all sources.
    correlated : float
        Correlation of the noise of neighbouring pixels, times `sky`.
    peaks, alone : int
        Masked peaks above 10 sigma, and those of them that stand alone, as hot pixels do.
    crowded, spectra, undescribed, sharp, striped, starless : int
        Detectors with too many sources to look at, those masked as two-dimensional spectra, those of whose exposure
        the header says nothing, those whose sources are mostly masked, and sharper than stars are, those
        that lines run across, though they are not known to be spectra, and those with uneven light but without a star.
    """

    stars: int = 0
    widths: float = 0.0
    hollow: int = 0
    good: int = 0
    sky: int = 0
    correlated: float = 0.0
    peaks: int = 0
    alone: int = 0
    crowded: int = 0
    spectra: int = 0
    undescribed: int = 0
    sharp: int = 0
    striped: int = 0
    starless: int = 0

    @property
    def fwhm(self):
        """Mean FWHM of the stars, pixels, or None without any."""
        return self.widths / self.stars if self.stars else None


@dataclass
class Symmetry(Sums):
    """Masked objects that mirror each other through bright stars; sums, so that those of detectors can be added.

    Attributes
    ----------
    stars : int
        Bright stars.
    pairs : int
        Half of the objects that have another at their mirror image through a star.
    chance, variance : float
        How many pairs chance would have, and the square of how much that scatters.
    """

    stars: int = 0
    pairs: int = 0
    chance: float = 0.0
    variance: float = 0.0

    @property
    def excess(self):
        """Pairs more than chance would have, or None without a bright star."""
        return self.pairs - self.chance if self.stars else None


@dataclass
class Summary:
    """What was found on a detector, an amplifier or a whole frame.

    Attributes
    ----------
    pixels : int
        Masked as cosmic rays.
    searched : int
        Pixels that could have been: inside an amplifier and not bad.
    hits : int
        Connected objects (8 neighbours).
    area : float or None
        Of the searched pixels, cm2.
    stars, stars_flagged : int
        Star cores looked at, and those of them with a masked peak or ring.
    galaxies, galaxies_flagged : int
        Extended sources looked at, and those of them with a masked peak.
    protected : int
        Pixels not masked since they lie in an area that the user protects.
    border_pixels, border_searched : int
        Of `pixels` and `searched`, those within `BORDER` pixels of the amplifier's border.
    injected : `Injected`
    appearance : `Appearance`
    symmetry : `Symmetry`
    """

    pixels: int = 0
    searched: int = 0
    hits: int = 0
    area: float | None = None
    stars: int = 0
    stars_flagged: int = 0
    galaxies: int = 0
    galaxies_flagged: int = 0
    protected: int = 0
    border_pixels: int = 0
    border_searched: int = 0
    injected: Injected = field(default_factory=Injected)
    appearance: Appearance = field(default_factory=Appearance)
    symmetry: Symmetry = field(default_factory=Symmetry)

    @property
    def fraction(self):
        """Fraction of the searched pixels that is masked."""
        return self.pixels / self.searched if self.searched else 0.0

    @property
    def star_fraction(self):
        """Fraction of star cores masked, or None without stars."""
        return self.stars_flagged / self.stars if self.stars else None

    @property
    def galaxy_fraction(self):
        """Fraction of galaxy nuclei masked, or None without galaxies."""
        return self.galaxies_flagged / self.galaxies if self.galaxies else None

    def rate(self, seconds):
        """Hits per cm2 per minute, or None where area or exposure time are unknown.

        Parameters
        ----------
        seconds : float or None
            Exposure time.

        Returns
        -------
        float or None
        """
        return self.hits / self.area / (seconds / 60) if self.area and seconds else None


@dataclass
class Detection:
    """The result for one extension.

    Attributes
    ----------
    name : str
        As in `crattn_stage.cameras.layout.Extension`.
    pixels : `numpy.ndarray` of int
        Flat indices of cosmic-ray pixels.
    summary : `Summary`
    amplifiers : dict of str to `Summary`
        By name of the amplifier.
    hits : `astropy.table.QTable` or None
        From `crattn_stage.products.hits.measure_hits`, where they are asked for.
    footprints : list of `numpy.ndarray`
        Likewise, from `crattn_stage.products.hits.footprints`.
    """

    name: str
    pixels: np.ndarray
    summary: Summary
    amplifiers: dict = field(default_factory=dict)
    hits: object = None
    footprints: list = field(default_factory=list)


def count_hits(cosmic_rays):
    """Return the number of connected objects (8 neighbours) in a bool mask.

    Parameters
    ----------
    cosmic_rays : `numpy.ndarray` of bool
        2-D.

    Returns
    -------
    int
    """
    return connected_pixels(cosmic_rays)[3]


def connected_pixels(cosmic_rays):
    """Return the pixels of the connected objects (8 neighbours) in a bool mask.

    Parameters
    ----------
    cosmic_rays : `numpy.ndarray` of bool
        2-D.

    Returns
    -------
    row, column : `numpy.ndarray` of int
        Of the masked pixels.
    numbers : `numpy.ndarray` of int
        Of the object that each belongs to, from 0.
    count : int
        Objects.
    """
    width = cosmic_rays.shape[1] + 2
    row, column = np.divmod(np.flatnonzero(cosmic_rays), cosmic_rays.shape[1])
    # With a margin, so that the right end of a row is no neighbour of the left end of the next.
    places = row * width + column + 1
    if not places.size:
        return row, column, places, 0
    if places.size > MOST_SPARSE * cosmic_rays.size:
        numbers, count = label(cosmic_rays, np.ones((3, 3)))
        return row, column, numbers[row, column] - 1, int(count)
    pairs = []
    for step in (1, width - 1, width, width + 1):
        found = np.searchsorted(places, places + step)
        found[found == places.size] = 0
        own = np.flatnonzero(places[found] == places + step)
        pairs.append((own, found[own]))
    first, second = map(np.concatenate, zip(*pairs, strict=True))
    graph = coo_array((np.ones(first.size, bool), (first, second)), (places.size, places.size))
    count, numbers = connected_components(graph, directed=False)
    return row, column, numbers, int(count)


def total(summaries):
    """Return the `Summary` of several detectors together.

    Parameters
    ----------
    summaries : iterable of `Summary`

    Returns
    -------
    `Summary`
        Its area is None where that of any of them is.
    """
    summaries = list(summaries)
    areas = [s.area for s in summaries]
    parts = {"injected": Injected(), "appearance": Appearance(), "symmetry": Symmetry()}
    counts = [f.name for f in fields(Summary) if f.name not in ("area", *parts)]
    return Summary(
        area=None if None in areas else sum(areas),
        **{name: sum((getattr(s, name) for s in summaries), none) for name, none in parts.items()},
        **{name: sum(getattr(s, name) for s in summaries) for name in counts},
    )
