"""What a mask says about itself: counts, rates, the verdict, the header cards."""

from dataclasses import dataclass, field, fields

import numpy as np
from scipy.ndimage import label

#: Verdict limits: share of the searched pixels masked, and share of star cores masked.
FRACTION_WARN, FRACTION_FAIL = 0.01, 0.05
STARS_WARN, STARS_FAIL = 0.02, 0.10
#: Hits per cm2 per minute.  Muons give about 1 at sea level; thick silicon on a mountain, with
#: Compton electrons of its surroundings, several times that.
RATE_WARN, RATE_FAIL = 20.0, 100.0
#: How many standard deviations of its Poisson noise a count must be off before it means anything.
SIGNIFICANT = 5.0
#: Fewer stars than this say nothing about over-masking.
FEWEST_STARS = 20
#: Pixels from an amplifier's border within which hits are counted apart.
BORDER = 4
#: The header cards of a masked frame or detector, and what they say.
CARDS = {
    "L1STATCR": "1: cosmic rays were masked",
    "L1IDCR": "cosmic-ray model",
    "CRMODSHA": "first 16 of the sha256 of its weights",
    "CRTHRESH": "probability above which a pixel is masked",
    "CRNPIX": "pixels masked as cosmic rays",
    "CRFRAC": "their share of the pixels searched",
    "CRNHIT": "connected cosmic-ray objects",
    "CRRATE": "[cm-2 min-1] hit rate",
    "CRSTAR": "share of star cores masked",
    "CRQC": "quality of the mask: PASS, WARN or FAIL",
    "CRQCWHY": "reason of the verdict",
    "CRENGINE": "what ran the model, and its arithmetic",
    "CRVERSN": "version of crattn-stage",
}


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
        Star cores looked at, and those of them with a masked peak.
    border_pixels, border_searched : int
        Of `pixels` and `searched`, those within `BORDER` pixels of the amplifier's border.
    """

    pixels: int = 0
    searched: int = 0
    hits: int = 0
    area: float | None = None
    stars: int = 0
    stars_flagged: int = 0
    border_pixels: int = 0
    border_searched: int = 0

    @property
    def fraction(self):
        """Share of the searched pixels that is masked."""
        return self.pixels / self.searched if self.searched else 0.0

    @property
    def star_fraction(self):
        """Share of star cores masked, or None without stars."""
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

    def verdict(self, seconds=None):
        """Say whether the mask looks sane.

        Parameters
        ----------
        seconds : float, optional
            Exposure time; without it hit rates are not judged.

        Returns
        -------
        verdict : {"PASS", "WARN", "FAIL"}
        why : str
            Empty for PASS.
        """
        reasons = []
        if not self.searched:
            reasons.append(("FAIL", "no good pixel"))
        if self.fraction > FRACTION_WARN:
            reasons.append(("FAIL" if self.fraction > FRACTION_FAIL else "WARN", f"{self.fraction:.1%} of pixels"))
        if self.stars >= FEWEST_STARS and self.star_fraction > STARS_WARN:
            reasons.append(
                ("FAIL" if self.star_fraction > STARS_FAIL else "WARN", f"{self.star_fraction:.1%} of star cores")
            )
        # What the rate is at least: a few false hits in a short exposure prove nothing.
        least = Summary(hits=max(0.0, self.hits - SIGNIFICANT * self.hits**0.5), area=self.area).rate(seconds)
        if least is not None and least > RATE_WARN:
            reasons.append(
                ("FAIL" if least > RATE_FAIL else "WARN", f"{self.rate(seconds):.0f} hits per cm2 per minute")
            )
        if not reasons:
            return "PASS", ""
        worst = "FAIL" if any(level == "FAIL" for level, _ in reasons) else "WARN"
        return worst, "masked " + ", ".join(why for _, why in reasons) if self.searched else reasons[0][1]


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


def header_cards(summary, seconds, provenance):
    """Return the header cards of a masked detector or frame.

    Parameters
    ----------
    summary : `Summary`
    seconds : float or None
        Exposure time.
    provenance : dict
        ``model``, ``sha256``, ``threshold``, ``engine`` and ``version``.

    Returns
    -------
    dict
        Keyword -> (value, comment).  A value that is unknown is an empty card,
        so that one of an earlier run does not stay.
    """
    verdict, why = summary.verdict(seconds)
    rate, stars = summary.rate(seconds), summary.star_fraction
    values = (
        int(summary.searched > 0),
        provenance["model"],
        provenance["sha256"][:16],
        provenance["threshold"],
        summary.pixels,
        round(summary.fraction, 8),
        summary.hits,
        None if rate is None else round(rate, 4),
        None if stars is None else round(stars, 5),
        verdict,
        why,
        provenance["engine"],
        provenance["version"],
    )
    return {keyword: (value, CARDS[keyword]) for keyword, value in zip(CARDS, values, strict=True)}


def failure_cards(reason):
    """Return the header cards of a frame that could not be masked.

    Parameters
    ----------
    reason : str

    Returns
    -------
    dict
        As `header_cards`; all but the verdict are empty.
    """
    values = {"L1STATCR": 0, "CRQC": "FAIL", "CRQCWHY": " ".join(reason.split())}
    return {keyword: (values.get(keyword), comment) for keyword, comment in CARDS.items()}
