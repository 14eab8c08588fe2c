"""The header cards of a masked frame or detector: one table, from which they are written, checked and explained."""

from collections.abc import Callable
from dataclasses import dataclass

from crattn_stage.quality.domain import unlike
from crattn_stage.quality.rules import verdict


@dataclass(frozen=True)
class HeaderCard:
    """A header card of ours.

    Attributes
    ----------
    keyword, comment : str
    unit, meaning : str
        Unit or type, and a sentence, for the manual.
    value : callable
        (`crattn_stage.quality.summary.Summary`, exposure time in seconds or None, provenance) -> its value; None for
        an empty card, so that one of an earlier run does not stay.
    is_checked : bool
        Whether every masked frame has it, and ``qa`` shows it.
    """

    keyword: str
    comment: str
    unit: str
    meaning: str
    value: Callable
    is_checked: bool = True


def _rounded(value, digits):
    return None if value is None else round(value, digits)


def _completeness(keyword, short, kind, range_, meaning):
    """Return the cards of the completeness of a kind of added hits, and its 95% interval."""

    def bound(index):
        return lambda s, t, p: round(s.injected.interval(kind)[index], 4) if getattr(s.injected, kind) else None

    unit = "fraction, 0 to 1"
    return (
        HeaderCard(
            keyword,
            f"completeness of added hits, {range_}",
            unit,
            f"Fraction of added hits {meaning} that was found; empty if none were added.",
            lambda s, t, p: _rounded(s.injected.completeness(kind), 4),
            is_checked=False,
        ),
        HeaderCard(f"{short}LO", "its 95% interval: lower", unit, "Its 95% interval.", bound(0), is_checked=False),
        HeaderCard(f"{short}HI", "its 95% interval: upper", unit, "Its 95% interval.", bound(1), is_checked=False),
    )


CARDS = (
    HeaderCard(
        "L1STATCR",
        "1: cosmic rays were masked",
        "0 or 1",
        "1 if cosmic rays were masked, 0 if no pixel could be searched.",
        lambda s, t, p: int(s.searched > 0),
    ),
    HeaderCard("L1IDCR", "cosmic-ray model", "string", "Name of the model.", lambda s, t, p: p["model"]),
    HeaderCard(
        "CRMODSHA",
        "first 16 of the sha256 of its weights",
        "16 hex digits",
        "First 16 digits of the sha256 of its weights.",
        lambda s, t, p: p["sha256"][:16],
    ),
    HeaderCard(
        "CRPMIN",
        "probability above which a pixel is masked",
        "probability",
        "Pixels above it are masked, but for stars and noise; spots are masked at any.",
        lambda s, t, p: p["threshold"],
    ),
    HeaderCard(
        "CRGROW",
        "[pix] by which the mask was grown",
        "pixels",
        "By how many pixels the mask was grown on all sides; empty if it was not.",
        lambda s, t, p: p.get("grow") or None,
        is_checked=False,
    ),
    HeaderCard(
        "CRGRTHR",
        "probability down to which it was grown",
        "probability",
        "Probability down to which the mask was grown along connected pixels; empty if it was not.",
        lambda s, t, p: p.get("grow_threshold"),
        is_checked=False,
    ),
    HeaderCard(
        "CRNPIX",
        "pixels masked as cosmic rays",
        "pixels",
        "Cosmic-ray pixels, including those that kept another code.",
        lambda s, t, p: s.pixels,
    ),
    HeaderCard(
        "CRNPROT",
        "pixels not masked in protected areas",
        "pixels",
        "Pixels not masked since they lie in an area that ``--protect`` names; empty without it.",
        lambda s, t, p: s.protected if p.get("protect") else None,
        is_checked=False,
    ),
    HeaderCard(
        "CRFLVAR",
        "masked pixels in planes of uncertainties",
        "string",
        "What masked pixels have in planes of variance or standard deviation, by ``--flag-variance``: ``inf``, "
        "``nan`` or ``zero``; weights have 0. Empty without the option.",
        lambda s, t, p: p.get("flag_variance"),
        is_checked=False,
    ),
    HeaderCard(
        "CRFRAC",
        "their fraction of the pixels searched",
        "fraction, 0 to 1",
        "Their fraction of the pixels searched, which are those inside an amplifier that are not bad.",
        lambda s, t, p: round(s.fraction, 8),
    ),
    HeaderCard(
        "CRNHIT",
        "connected cosmic-ray objects",
        "count",
        "Connected objects; pixels that touch at a corner are connected.",
        lambda s, t, p: s.hits,
    ),
    HeaderCard(
        "CRRATE",
        "[cm-2 min-1] hit rate",
        "cm\\ :sup:`-2` min\\ :sup:`-1`",
        "Objects per area searched and exposure time; empty if pixel size or exposure time are unknown.",
        lambda s, t, p: _rounded(s.rate(t), 4),
    ),
    HeaderCard(
        "CRSTAR",
        "fraction of star cores masked",
        "fraction, 0 to 1",
        "Fraction of stars whose peak, or a ring around it, is masked; empty if there are no stars.",
        lambda s, t, p: _rounded(s.star_fraction, 5),
    ),
    HeaderCard(
        "CRGALAX",
        "fraction of galaxy nuclei masked",
        "fraction, 0 to 1",
        "Fraction of extended sources whose peak is masked; empty if there are none.",
        lambda s, t, p: _rounded(s.galaxy_fraction, 5),
        is_checked=False,
    ),
    *_completeness("CRCMPL5", "CRCM5", "faint", "peak S/N 5-10", "with a peak of 5 to 10 times the noise"),
    *_completeness("CRCMPL10", "CRCM10", "bright", "peak S/N > 10", "with a peak above 10 times the noise"),
    HeaderCard(
        "CRCMPPIX",
        "fraction of added hit pixels > 3 sigma masked",
        "fraction, 0 to 1",
        "Fraction of the pixels of added hits above 3 times the noise that was masked; empty if none were added.",
        lambda s, t, p: _rounded(s.injected.completeness("pixels"), 4),
        is_checked=False,
    ),
    HeaderCard(
        "CRNINJ",
        "hits added to measure completeness",
        "count",
        "Hits that were added to a copy of parts of the image and looked for.",
        lambda s, t, p: s.injected.faint + s.injected.bright or None,
        is_checked=False,
    ),
    HeaderCard(
        "CRNOISE",
        "[Mpix-1] objects found in its mirrored sky",
        "per million pixels",
        "Objects found per million pixels of sky mirrored about its level, where there are no hits: how many objects "
        "of the mask are noise; empty if not measured.",
        lambda s, t, p: _rounded(s.injected.noise_objects, 1),
        is_checked=False,
    ),
    HeaderCard(
        "CRDOMAIN",
        "in what it is unlike known frames",
        "string",
        "In what the frame is unlike those on which the models were measured: stars too narrow or out of focus, "
        "sources as sharp as hits, hot pixels, correlated noise, no sky, no star, a spectrum or lines as on one, too "
        "few pixels; empty if nothing is unusual.",
        lambda s, t, p: ", ".join(unlike(s.appearance)) or None,
        is_checked=False,
    ),
    HeaderCard(
        "CRPAIRS",
        "pairs of objects mirrored through stars",
        "pairs",
        "Pairs of masked objects that mirror each other through a bright star, as pieces of its spikes do, less those "
        "of chance; empty without a bright star.",
        lambda s, t, p: _rounded(s.symmetry.excess, 1),
        is_checked=False,
    ),
    HeaderCard(
        "CRFWHM",
        "[pix] mean FWHM of its stars",
        "pixels",
        "Mean full width at half maximum of the stars that are not masked; empty without any.",
        lambda s, t, p: _rounded(s.appearance.fwhm, 2),
        is_checked=False,
    ),
    HeaderCard(
        "CRQC",
        "quality of the mask: PASS, WARN or FAIL",
        "string",
        "Verdict on the mask: ``PASS``, ``WARN`` or ``FAIL``.",
        lambda s, t, p: verdict(s, t, p.get("limits"))[0],
    ),
    HeaderCard(
        "CRQCWHY",
        "reason of the verdict",
        "string",
        "Reason for the verdict; empty for ``PASS``.",
        lambda s, t, p: verdict(s, t, p.get("limits"))[1],
        is_checked=False,
    ),
    HeaderCard(
        "CRENGINE",
        "what ran the model, and its arithmetic",
        "string",
        "What ran the network, and its arithmetic, such as ``openvino int8``.",
        lambda s, t, p: p["engine"],
        is_checked=False,
    ),
    HeaderCard(
        "CRSPEC",
        "masked as a two-dimensional spectrum",
        "logical",
        "``T`` if the frame was masked as a spectrum; empty for an image.",
        lambda s, t, p: p.get("spectrum") or None,
        is_checked=False,
    ),
    HeaderCard(
        "CRVERSN",
        "version of crattn-stage",
        "string",
        "Version of crattn-stage.",
        lambda s, t, p: p["version"],
        is_checked=False,
    ),
)


def header_cards(summary, seconds, provenance):
    """Return the header cards of a masked detector or frame.

    Parameters
    ----------
    summary : `crattn_stage.quality.summary.Summary`
    seconds : float or None
        Exposure time.
    provenance : dict
        ``model``, ``sha256``, ``threshold``, ``engine`` and ``version``; the camera's ``limits`` for the verdict, if it
        has any.

    Returns
    -------
    dict
        Keyword -> (value, comment).  A value that is unknown is an empty card,
        so that one of an earlier run does not stay.
    """
    return {card.keyword: (card.value(summary, seconds, provenance), card.comment) for card in CARDS}


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
    return {card.keyword: (values.get(card.keyword), card.comment) for card in CARDS}
