"""The rules by which a frame is compared with others of its camera: one function each, in one list.

Each compares counts with what is expected of them.  A count is odd if it is off by the rule's factor and by more than
`SIGNIFICANT` standard deviations of its Poisson noise; that is a warning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from crattn_stage.quality.rules import SIGNIFICANT

NIGHT_RULES = []


@dataclass(frozen=True)
class NightRule:
    """A rule: how far off a count may be, and what to compare.

    Attributes
    ----------
    factor : float
        A count this many times the expected one is odd.
    too_few : bool
        Whether a count that many times below the expected one is odd, too.
    compare : callable
        (`calibration_dbs.tables.Run`, usual hits per cm2 per minute or None) -> tuples of count, expected count,
        pixels that come together (1 for hits), and what to say.
    """

    factor: float
    too_few: bool
    compare: Callable


def night_rule(factor, too_few=True):
    """Add a function to the list of rules.

    Parameters
    ----------
    factor, too_few
        As for `NightRule`.

    Returns
    -------
    callable
        A decorator.
    """

    def add(function):
        NIGHT_RULES.append(NightRule(factor, too_few, function))
        return function

    return add


@night_rule(factor=3.0)
def hit_rate(run, usual):
    """Compare the hits of a frame with those that are usual for its camera at its site."""
    seconds = run.frame.exposure_time
    if usual is not None and run.area and seconds:
        expected = usual * run.area * seconds / 60
        yield run.hits, expected, 1, f"{run.hits} hits where {expected:.0f} are usual"


@night_rule(factor=2.0)
def amplifiers(run, usual):
    """Compare the hits of each amplifier with those of the frame, by the pixels searched."""
    searched = sum(amplifier.searched for amplifier in run.amplifiers)
    for amplifier in run.amplifiers if len(run.amplifiers) > 1 else ():
        expected = run.hits * amplifier.searched / searched if searched else 0
        name = f"{amplifier.extension} {amplifier.name}".strip()
        yield amplifier.hits, expected, 1, f"{amplifier.hits} hits in {name}, {expected:.0f} expected for its area"


@night_rule(factor=3.0, too_few=False)
def amplifier_borders(run, usual):
    """Compare the pixels masked at the borders of amplifiers with those masked elsewhere."""
    known = [a for a in run.amplifiers if a.border_searched]
    searched, pixels = (sum(getattr(a, name) for a in known) for name in ("searched", "pixels"))
    at_border, masked = (sum(getattr(a, f"border_{name}") for a in known) for name in ("searched", "pixels"))
    if run.hits and searched > at_border:
        expected = (pixels - masked) / (searched - at_border) * at_border
        said = f"{masked} pixels masked at amplifier borders, {expected:.0f} expected for their area"
        yield masked, expected, max(1, pixels / run.hits), said


def oddities(run, usual):
    """Return what is odd about a frame, compared with others of its camera.

    Parameters
    ----------
    run : `calibration_dbs.tables.Run`
        That succeeded, with its frame and amplifiers.
    usual : float or None
        Hits per cm2 per minute that are usual for its camera at its site.

    Returns
    -------
    list of str
    """
    found = []
    for rule in NIGHT_RULES:
        for count, expected, together, said in rule.compare(run, usual):
            # Masked pixels are clustered in hits, so their scatter exceeds Poisson.
            excess = (count - expected) / sqrt(max(expected, 1) * together)
            if (excess > SIGNIFICANT and count >= expected * rule.factor) or (
                rule.too_few and excess < -SIGNIFICANT and count <= expected / rule.factor
            ):
                found.append(said)
    return found
