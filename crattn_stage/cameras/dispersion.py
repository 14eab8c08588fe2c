"""Image or two-dimensional spectrum: what the words of a header say."""

import re
from dataclasses import dataclass

from crattn_stage.cameras.matching import first_value, match

#: A place of a grism, grating or slit wheel in which there is none, and words that say nothing.
_ABSENT = re.compile(
    r"(.*(?<![a-z]))?(open(ed)?|free|clear|none|empty|blank|mirror|out|off|hole|air|imag(e|ing)(?! ?slic)|direct|"
    r"park(ed)?|home|nil|null|n/?a|no[ _-]?(grism|grating|prism|disperser|slit|mask))(?![a-z]).*|no|f|false|0(\.0*)?|",
    re.IGNORECASE,
)
_SAYS_NOTHING = re.compile(r"unknown|undef(ined)?|\?+|-+|-\d+(\.\d*)?", re.IGNORECASE)
#: Modes of an image, types of one (IMAGE is what some call all that they take), what is an image whatever else it
#: says, and modes and types of a spectrum.
_IMAGE = re.compile(r".*(imag|photom|impol).*", re.IGNORECASE)
_IMAGING = re.compile(r".*(imaging|photom).*", re.IGNORECASE)
_ACQUISITION = re.compile(r".*(acq|align).*", re.IGNORECASE)
_SPECTRUM = re.compile(
    r".*(spec|sppol|grism|prism|echelle|long.?slit|multi.?obj|(?<![a-z])(mos|mxu|ifu|ls)(?![a-z])).*", re.IGNORECASE
)
#: IRAF's axis of dispersion, and values by which it says that there is none.
_AXIS, _NO_AXIS = re.compile(r"[12](\.0*)?"), re.compile(r"0(\.0*)?|none|n/?a|null|", re.IGNORECASE)
_SETTLES = "[[image]] or [[spectrum]] in a camera profile settles it"


@dataclass(frozen=True)
class Dispersion:
    """Whether a frame is a two-dimensional spectrum, and how sure that is.

    Attributes
    ----------
    is_spectrum : bool
    note : str
        What was not plain, and what would settle it; "" if nothing.
    refusal : str
        Why it cannot be told; "" if it can.
    """

    is_spectrum: bool
    note: str = ""
    refusal: str = ""


def dispersion(headers, profile, filename="", names=()):
    """Tell a two-dimensional spectrum from an image by its header.

    The first block ``[[image]]`` or ``[[spectrum]]`` of the profile that matches decides.  Without one, ``DISPAXIS`` of
    1 or 2 stands for a spectrum unless the mode, or else the place of the disperser, or else that of the slit, says
    that it is an image: many spectrographs write the card in all that they take.

    Parameters
    ----------
    headers : list of `astropy.io.fits.Header`
        The primary header, then those of the image HDUs.
    profile : `crattn_stage.cameras.profile.Profile`
        Its keywords ``mode``, ``disperser`` and ``slit`` are the cards that say it.
    filename : str
    names : iterable of str
        The EXTNAMEs of the file.

    Returns
    -------
    `Dispersion`
    """
    types = profile.keywords.get("type", ())
    for is_spectrum, table in profile.modes:
        if match(table, headers, filename, names, types=types) is not None:
            return Dispersion(is_spectrum)
    axis = first_value(headers, "DISPAXIS")
    image, spectrum = _modes(headers, profile.keywords.get("mode", ()), types)
    placed, absent = _places(headers, profile.keywords.get("disperser", ()))

    def said(*cards):
        return ", ".join(f"{card} = {first_value(headers, card)}" for card in dict.fromkeys(cards))

    if axis is None or not _AXIS.fullmatch(axis):
        if axis is not None and not _NO_AXIS.fullmatch(axis):
            return Dispersion(False, f"DISPAXIS = {axis} is not understood: masked as an image; {_SETTLES}")
        if image or profile.tells_spectra or not (spectrum or placed):
            return Dispersion(False)
        if spectrum and placed and axis is None:
            return Dispersion(True)
        return Dispersion(False, f"masked as an image, although {said(*spectrum, *placed)}; {_SETTLES}")
    against = placed if image else absent if spectrum and not placed else []
    if (image and spectrum) or against:
        cards = said("DISPAXIS", *image, *spectrum, *against)
        return Dispersion(False, refusal=f"an image or a spectrum? {cards}; {_SETTLES}")
    for found, none in (
        (spectrum, image),
        (placed, absent),
        _places(headers, profile.keywords.get("slit", ())),
    ):
        if found or none:
            return Dispersion(bool(found))
    return Dispersion(True, f"taken for a spectrum by DISPAXIS = {axis} alone; {_SETTLES}")


def _modes(headers, modes, types):
    """Return the cards of modes and types that say image, and those that say spectrum."""
    values = _said(headers, [*modes, *types])
    image = [card for card, value in values if _ACQUISITION.fullmatch(value)]
    if image:
        # Whatever it is for: MOS acquisition.
        return image, []
    image = [c for c, value in values if (_IMAGE if c in modes else _IMAGING).fullmatch(value)]
    return image, [card for card, value in values if _SPECTRUM.fullmatch(value)]


def _said(headers, cards):
    """Return (card, value) of those cards that are there."""
    values = ((card, first_value(headers, card)) for card in dict.fromkeys(cards))
    return [(card, value) for card, value in values if value is not None]


def _places(headers, cards):
    """Return the cards that name a disperser or slit in the light, and those that say that there is none."""
    said = [(card, value) for card, value in _said(headers, cards) if not _SAYS_NOTHING.fullmatch(value)]
    absent = [card for card, value in said if _ABSENT.fullmatch(value)]
    return [card for card, _ in said if card not in absent], absent
