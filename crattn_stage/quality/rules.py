"""The rules by which a mask is judged: one function each, in one list."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from scipy.special import gammaincinv, ndtr

from crattn_stage.quality.domain import unlike
from crattn_stage.quality.summary import FEWEST_STARS, binomial_interval

#: From good to bad.
LEVELS = ("PASS", "WARN", "FAIL")
#: Standard deviations of Poisson noise by which a count must be off to be significant.
SIGNIFICANT = 5.0
#: Side of the largest pixels, 15 micrometres binned 8 by 8, cm.
LARGEST = 120e-4

RULES = []


@dataclass(frozen=True)
class Rule:
    """A rule: what it measures, and its limits.

    Attributes
    ----------
    keyword : str
        The header card that has the figure.
    warn, fail : float
        Limits above which it warns and fails.
    judge : callable
        (`crattn_stage.quality.summary.Summary`, exposure time in seconds or None) -> the figure and a phrase with
        it, or None if there is nothing to judge.  The manual has the first line of its docstring.
    of_mask : bool
        Whether the phrase says what was masked; that of others stands by itself.
    """

    keyword: str
    warn: float
    fail: float
    judge: Callable
    of_mask: bool = True


def rule(keyword, warn, fail, of_mask=True):
    """Add a function to the list of rules.

    Parameters
    ----------
    keyword, warn, fail, of_mask
        As for `Rule`.

    Returns
    -------
    callable
        A decorator.
    """

    def add(function):
        RULES.append(Rule(keyword, warn, fail, function, of_mask))
        return function

    return add


@rule("CRFRAC", warn=0.01, fail=0.05)
def fraction_of_pixels(summary, seconds):
    """Cosmic rays never cover 1% of the pixels of a real exposure."""
    return summary.fraction, f"{summary.fraction:.1%} of pixels"


@rule("CRSTAR", warn=0.02, fail=0.10)
def star_cores(summary, seconds):
    """Few stars are hit; more means that stars are mistaken for hits. Of less than 20, the least fraction by 95%."""
    if not summary.stars:
        return None
    low, _ = binomial_interval(summary.stars_flagged, summary.stars)
    least = low if summary.stars < FEWEST_STARS else summary.star_fraction
    return least, f"{summary.star_fraction:.1%} of star cores"


@rule("CRGALAX", warn=0.05, fail=0.20)
def galaxy_nuclei(summary, seconds):
    """Few galaxies are hit in the nucleus; judged by the lower end of the 95% interval of the fraction."""
    if not summary.galaxies:
        return None
    low, _ = binomial_interval(summary.galaxies_flagged, summary.galaxies)
    return low, f"{summary.galaxy_fraction:.1%} of galaxy nuclei"


@rule("CRRATE", warn=20.0, fail=100.0)
def hit_rate(summary, seconds):
    """Muons give about 1 per cm2 and minute at sea level. Judged is the least rate, by 5 sigma, of the count.

    Where no header says how large pixels are, they are taken to be as large as any.
    """
    known = summary.area is not None
    rate = summary.rate(seconds) if known else replace(summary, area=summary.searched * LARGEST**2).rate(seconds)
    if not rate:
        return None
    # A few false hits in a short exposure prove nothing. A Poisson count of at least so many is as unlikely as 5 sigma.
    least = rate * float(gammaincinv(summary.hits, ndtr(-SIGNIFICANT))) / summary.hits
    return least, f"{rate:.0f} hits per cm2 per minute" if known else f"{rate:.0f} or more hits per cm2 per minute"


@rule("CRCMPL10", warn=0.05, fail=0.50)
def missed_hits(summary, seconds):
    """Few bright hits are missed; judged by the upper end of the 95% interval of the completeness."""
    return _missed(summary.injected, "bright") if summary.injected.bright else None


@rule("CRCMPL5", warn=0.50, fail=math.inf)
def missed_faint_hits(summary, seconds):
    """Most faint hits are found. Judged where no bright hits were added; the upper end of the 95% interval."""
    is_judged = summary.injected.faint and not summary.injected.bright
    return _missed(summary.injected, "faint") if is_judged else None


def _missed(injected, kind):
    _, high = injected.interval(kind)
    return 1 - high, f"only {injected.completeness(kind):.0%} of {kind} hits that were added"


@rule("CRNOISE", warn=10.0, fail=1000.0)
def noise(summary, seconds):
    """Little noise is masked. 3 standard deviations of the count are subtracted first."""
    injected = summary.injected
    if not injected.mirrored:
        return None
    least = max(0.0, injected.mirrored_objects - 3 * injected.mirrored_objects**0.5) / injected.mirrored * 1e6
    return least, f"noise, some {injected.noise_objects:.0f} objects per million pixels"


@rule("CRPAIRS", warn=3.0, fail=math.inf)
def symmetric_pairs(summary, seconds):
    """Pieces of spikes mirror each other through a star, hits do not. 3 deviations of chance are subtracted first."""
    found = summary.symmetry
    if not found.stars:
        return None
    least = found.excess - 3 * max(found.chance, found.variance) ** 0.5
    return least, f"{found.pairs} pairs mirrored through bright stars, {found.chance:.1f} by chance"


@rule("CRDOMAIN", warn=0, fail=math.inf, of_mask=False)
def domain(summary, seconds):
    """Figures hold for frames like those on which the models were measured. The limit is of what is unlike them."""
    found = unlike(summary.appearance)
    # No limits of a camera make up for stars that nobody can judge.
    figure = math.inf if summary.appearance.sharp else len(found)
    return figure, f"unlike what the models were measured on: {', '.join(found)}"


def verdict(summary, seconds=None, limits=None):
    """Judge a mask by all rules.

    Parameters
    ----------
    summary : `crattn_stage.quality.summary.Summary`
    seconds : float, optional
        Exposure time; without it hit rates are not judged.
    limits : dict of str to list of float, optional
        Of a camera: (warn, fail) by keyword, instead of a rule's own.

    Returns
    -------
    verdict : {"PASS", "WARN", "FAIL"}
        The worst.
    why : str
        Empty for PASS.

    Examples
    --------
    >>> from crattn_stage.quality.summary import Summary
    >>> verdict(Summary(pixels=200, searched=10_000))
    ('WARN', 'masked 2.0% of pixels')
    """
    if not summary.searched:
        return "FAIL", "no usable pixel"
    reasons = []
    for one in RULES:
        judged = one.judge(summary, seconds)
        warn, fail = (limits or {}).get(one.keyword, (one.warn, one.fail))
        if judged is not None and judged[0] > warn:
            reasons.append(("FAIL" if judged[0] > fail else "WARN", one.of_mask, judged[1]))
    if not reasons:
        return "PASS", ""
    masked = ", ".join(why for _, of_mask, why in reasons if of_mask)
    others = [why for _, of_mask, why in reasons if not of_mask]
    return min(level for level, *_ in reasons), "; ".join([*([f"masked {masked}"] if masked else []), *others])
