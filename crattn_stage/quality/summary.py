"""What was found, in numbers: counts, fractions and rates of a detector or a frame."""

from dataclasses import dataclass, field, fields

import numpy as np
from scipy.ndimage import label

#: Pixels from an amplifier's border within which hits are counted apart.
BORDER = 4


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
    protected : int
        Pixels not masked since they lie in an area that the user protects.
    border_pixels, border_searched : int
        Of `pixels` and `searched`, those within `BORDER` pixels of the amplifier's border.
    """

    pixels: int = 0
    searched: int = 0
    hits: int = 0
    area: float | None = None
    stars: int = 0
    stars_flagged: int = 0
    protected: int = 0
    border_pixels: int = 0
    border_searched: int = 0

    @property
    def fraction(self):
        """Fraction of the searched pixels that is masked."""
        return self.pixels / self.searched if self.searched else 0.0

    @property
    def star_fraction(self):
        """Fraction of star cores masked, or None without stars."""
        return self.stars_flagged / self.stars if self.stars else None

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
        As in `crattn_stage.fits.frame.Extension`.
    pixels : `numpy.ndarray` of int
        Flat indices of cosmic-ray pixels.
    summary : `Summary`
    amplifiers : dict of str to `Summary`
        By name of the amplifier.
    """

    name: str
    pixels: np.ndarray
    summary: Summary
    amplifiers: dict = field(default_factory=dict)


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
    return int(label(cosmic_rays, np.ones((3, 3)))[1])


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
    return Summary(
        area=None if None in areas else sum(areas),
        **{f.name: sum(getattr(s, f.name) for s in summaries) for f in fields(Summary) if f.name != "area"},
    )
