"""What a header says of an exposure: its type, its night, its length, its pixels."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from crattn_stage.cameras.dispersion import dispersion
from crattn_stage.cameras.matching import filled, first_value, match
from crattn_stage.cameras.sections import number, read_binning

#: Units in brackets behind a card of a profile -> factor to seconds, or micrometres.
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0}
_MICROMETRES = {"um": 1.0, "mm": 1e3, "m": 1e6, "cm": 1e4}
#: Cards of a filter, and of the wheels whose filters are in the light together; an empty place of a wheel says so.
_FILTERS, _WHEELS = ("FILTER", "FILTERS", "FILTNAM", "FILTNAME", "INSFLNAM"), ("FILTER1", "FILTER2", "FILTER3")
_NO_FILTER = re.compile(r"clear.*|open.*|air|none|empty.*|n/?a|-", re.I)
#: What a calibration is of, if that is an arc: lamps with emission lines, by which wavelengths are measured.
_ARC = re.compile(
    r"(?!.*(flat|bias|dark|zero|quartz|halogen|focus|fabry)).*\b(arcs?|arc[ _-]?lamp|comps?|comparison|wave|wavecal|"
    r"wavelength|line|double|une|etalon|lfc|comb|neon|argon|helium|mercury|krypton|xenon|th-?(ar|ne)\d*|"
    r"(he|ne|ar|kr|xe|hg|cd|zn|cu|fe)([ ,+-]?(he|ne|ar|kr|xe|hg|cd|zn|cu|fe)){1,5}|"
    r"(he|ne|ar|kr|xe|hg|cd|zn)[ _-]*(arcs?|lamps?))(?![a-z]).*",
    re.I,
)
#: The zone of a local time behind it: 2017-12-19T18:33:43.317-0700.
_ZONE = re.compile(r"[T ]\d{1,2}:\d{2}\S*?([+-])(\d{2}):?(\d{2})$")
#: Units of an exposure time other than the second, where the comment of its card names one.
_COMMENTED = (
    (re.compile(r"\[ms\]|\(m(illi)?s(ec)?\)|\bin m(illi)?s(ec)?\b|\bmilli-?sec", re.I), 1e-3),
    (re.compile(r"\[us\]|\(us(ec)?\)|\bin us(ec)?\b|\bmicro-?sec", re.I), 1e-6),
    (re.compile(r"\[min\]|\(min\)|\bin min\b|\bexposure (time )?\(?(in )?minutes", re.I), 60.0),
)
#: Exposures of more than this many seconds are no exposure times.
LONGEST_EXPOSURE = 1e6


@dataclass
class Exposure:
    """What a header says of an exposure.

    Attributes
    ----------
    instrument : str
        The family of the camera profile.
    camera, site : str or None
        What the header calls them.
    night : str or None
        YYYYMMDD; None where it cannot be known.
    ut_date : str
        YYYYMMDD of the start; "" where it is missing.
    observed : `datetime.datetime` or None
        The start, UTC.
    filter : str or None
        What the header calls it.
    observation_type : str
        As the header says it; "" where it does not.
    calibration_type : str
        What the frame is of, if that is not the sky; "" if it is.
    exposure_time : float or None
        Second.
    is_spectrum : bool
        Whether it is a two-dimensional spectrum, not an image.
    is_arc : bool
        Whether it is of a lamp with emission lines, and so no frame of the sky.
    """

    instrument: str
    camera: str | None = None
    site: str | None = None
    night: str | None = None
    ut_date: str = ""
    observed: datetime | None = None
    filter: str | None = None
    observation_type: str = ""
    calibration_type: str = ""
    exposure_time: float | None = None
    is_spectrum: bool = False
    is_arc: bool = False

    @property
    def is_described(self):
        """Whether the header says anything of the exposure: when, how long, with which camera, or what it is of."""
        return bool(self.ut_date or self.exposure_time or self.camera or self.observation_type)


def read_exposure(header, profile, headers=None, filename="", names=(), arcs=False):
    """Return what a header says of an exposure.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        The primary header, with that of the first science image behind it.
    profile : `crattn_stage.cameras.profile.Profile`
    headers : list of `astropy.io.fits.Header`, optional
        The primary header and those of the image HDUs, for `calibration_type`.
    filename : str
    names : iterable of str
        The EXTNAMEs of the file.
    arcs : bool
        Take arcs for spectra of the sky, which are masked.

    Returns
    -------
    `Exposure`
    """
    headers, shortest = headers or [header], profile.settings.get("minimum_exposure")
    start, seconds = _start(header, profile), exposure_time(header, profile)
    kind = calibration_type(headers, profile, filename, names)
    lamp = is_arc(kind)
    kind = "" if lamp and arcs else kind
    if shortest and seconds is not None and seconds < shortest:
        kind = kind or f"exposure of {seconds:g} s, under the camera's {shortest:g} s"
    return Exposure(
        instrument=profile.family,
        camera=_named(header, profile, "camera"),
        site=_named(header, profile, "site"),
        night=night(header, profile),
        ut_date=start[0] if start else "",
        observed=_moment(start),
        filter=filter_name(header),
        observation_type=observation_type(header, profile),
        calibration_type=kind,
        exposure_time=seconds,
        is_spectrum=lamp or dispersion(headers, profile, filename, names).is_spectrum,
        is_arc=lamp,
    )


def _named(header, profile, fact):
    text = next((t for c in profile.keywords.get(fact, ()) if (t := first_value([header], c))), None)
    return (text or profile.values.get(fact) or "")[:50] or None


def filter_name(header):
    """Return the filter of an exposure, or None where its header does not say.

    Parameters
    ----------
    header : `astropy.io.fits.Header`

    Returns
    -------
    str or None
        As the header says it, at most 50 characters; those of several wheels are joined by "+".

    Examples
    --------
    >>> from astropy.io import fits
    >>> filter_name(fits.Header({"FILTER1": "CLEAR1S", "FILTER2": "F814W"}))
    'F814W'
    """
    text = next((t for card in _FILTERS if (t := first_value([header], card))), None)
    if text is None:
        places = [t for card in _WHEELS if (t := first_value([header], card))]
        text = "+".join(t for t in places if not _NO_FILTER.fullmatch(t)) or (places[0] if places else "")
    return text[:50] or None


def observation_type(header, profile):
    """Return what a frame is of, as its header says; "" where it does not.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    profile : `crattn_stage.cameras.profile.Profile`

    Returns
    -------
    str
    """
    return next((t for c in profile.keywords.get("type", ()) if (t := first_value([header], c))), "")


def calibration_type(headers, profile, filename="", names=()):
    """Return what a frame is of, if that is not the sky; "" if it is.

    Parameters
    ----------
    headers : list of `astropy.io.fits.Header`
        The primary header, then those of the image HDUs.
    profile : `crattn_stage.cameras.profile.Profile`
    filename : str
    names : iterable of str
        The EXTNAMEs of the file.

    Returns
    -------
    str
        The type of a bias, dark, flat, arc or lamp exposure, or of a mask or weight map in a file of its own.
    """
    types = profile.keywords.get("type", ())
    for block in profile.calibration:
        table = {key: value for key, value in block.items() if key != "kind"}
        found = match(table, headers, filename, names, types=types)
        if found is not None:
            return filled(block["kind"], found, headers).lower() or "calibration"
    return ""


def is_arc(calibration):
    """Return whether a calibration is an arc, the spectrum of a lamp with emission lines.

    Parameters
    ----------
    calibration : str
        From `calibration_type`.

    Returns
    -------
    bool
        False for lamps of which it is not said that they have lines.

    Examples
    --------
    >>> [is_arc(kind) for kind in ("comp", "hear lamp", "lamp,wave", "lampflat", "lamp", "")]
    [True, True, True, False, False, False]
    """
    return _ARC.fullmatch(calibration) is not None


def calibration_frame(calibration):
    """Return how messages call a calibration frame.

    Parameters
    ----------
    calibration : str
        From `calibration_type`.

    Returns
    -------
    str

    Examples
    --------
    >>> calibration_frame("bias"), calibration_frame("dark frame"), calibration_frame("arc, by its name")
    ('bias frame', 'dark frame', 'arc, by its name')
    """
    return calibration if " " in calibration else f"{calibration} frame"


def refusal(headers, profile, filename="", names=()):
    """Return why a frame must not be masked; "" if it may be.

    Parameters
    ----------
    headers, profile, filename, names
        As for `calibration_type`.

    Returns
    -------
    str
    """
    types = profile.keywords.get("type", ())
    for block in profile.refuse:
        table = {key: value for key, value in block.items() if key != "why"}
        found = match(table, headers, filename, names, types=types)
        if found is not None:
            return filled(block["why"], found, headers)
    return ""


def _digits(text):
    """Return a date that there is as YYYYMMDD, or None."""
    if re.fullmatch(r"\d{2}/\d{2}/\d{2}", text):
        # The form of dates before 2000.
        text = f"19{text[6:]}{text[3:5]}{text[:2]}"
    found = re.match(r"(\d{4})[-/.:]?(\d{2})[-/.:]?(\d{2})(?!\d)", text)
    try:
        return date(*map(int, found.groups())).isoformat().replace("-", "") if found else None
    except ValueError:
        return None


def _clock(text):
    """Return a time of day as hours, or None."""
    found = re.match(r"\s*(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d*)?))?", text)
    if not found:
        return None
    hours, minutes, seconds = int(found[1]), int(found[2]), float(found[3] or 0)
    return hours + minutes / 60 + seconds / 3600 if hours < 24 and minutes < 60 and seconds < 61 else None


def _start(header, profile):
    """Return the UT date of an exposure as YYYYMMDD, and the hours into it or None."""
    for card in profile.keywords.get("date", ()):
        text = first_value([header], card)
        day = text and _digits(text)
        if not day:
            continue
        hours = _clock(text[text.index("T") + 1 :]) if "T" in text else _clock(text.partition(" ")[2])
        zone = hours is not None and _ZONE.search(text)
        if zone:
            # Local time, as ISO 8601 writes it.
            ahead = int(zone[2]) + int(zone[3]) / 60
            return _day_and_hours(_moment((day, hours + (ahead if zone[1] == "-" else -ahead))))
        for other in profile.keywords.get("time", ()) if hours is None else ():
            value = first_value([header], other)
            hours = value and (_clock(value.partition("T")[2] or value))
            if hours is not None and hours != "":
                break
            hours = None
        return day, hours
    for card in profile.keywords.get("mjd", ()):
        days, _ = number(header, [card], low=10_000, high=100_000)
        if days is not None:
            # Modified Julian date 0.
            return _day_and_hours(datetime(1858, 11, 17) + timedelta(days=days))
    return None


def _day_and_hours(moment):
    """Return a time as a date, YYYYMMDD, and the hours into it; None for None."""
    if moment is None:
        return None
    seconds = moment.second + moment.microsecond / 1e6
    return _digits(moment.isoformat()), moment.hour + moment.minute / 60 + seconds / 3600


def _moment(start):
    """Return a UT date and the hours into it as a time, or None where either is missing or impossible."""
    if start is None or start[1] is None:
        return None
    try:
        return datetime.strptime(start[0], "%Y%m%d").replace(tzinfo=UTC) + timedelta(hours=start[1])
    except (ValueError, OverflowError):
        return None


def _angle(text):
    """Return an angle of a header in degrees: a number, or sexagesimal, with or without a hemisphere; else None."""
    text = text.strip().upper()
    east = -1 if text.startswith("W") or text.endswith("W") else 1
    text = text.strip("EW ").strip()
    found = re.fullmatch(r"([+-]?)(\d{1,3})[ :D°]+(\d{1,2})[ :M']+(\d{1,2}(?:\.\d*)?)[S\"']*", text)
    if found:
        value = int(found[2]) + int(found[3]) / 60 + float(found[4]) / 3600
        return east * (-value if found[1] == "-" else value)
    try:
        return east * float(text)
    except ValueError:
        return None


def longitude(header, profile):
    """Return the longitude of a telescope in degrees east, or None.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    profile : `crattn_stage.cameras.profile.Profile`
        Its ``longitude`` and ``longitude_west`` cards, then its value.

    Returns
    -------
    float or None
    """
    for fact, sign in (("longitude", 1), ("longitude_west", -1)):
        for card in profile.keywords.get(fact, ()):
            text = first_value([header], card)
            value = text and _angle(text)
            # Unconfigured software writes exactly 0.
            if value and -360 < value < 360:
                return (sign * value + 180) % 360 - 180
    return profile.values.get("longitude")


def night(header, profile):
    """Return the night of a frame as YYYYMMDD, or None where it cannot be known.

    The observatory's own label, else the date at the last local noon before
    the exposure began.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    profile : `crattn_stage.cameras.profile.Profile`

    Returns
    -------
    str or None
    """
    for card in profile.keywords.get("night", ()):
        digits = _digits(first_value([header], card) or "")
        if digits:
            return digits
    start, east = _start(header, profile), longitude(header, profile)
    began = _moment(start)
    if began is None or east is None:
        return None
    try:
        return _digits((began - timedelta(hours=12 - east / 15)).isoformat())
    except OverflowError:
        return None


def _with_unit(header, cards, units, high, commented=()):
    """Return the first usable number among cards such as ``EXPTIME`` or ``EXPTIME [ms]``."""
    for card in cards:
        keyword, _, unit = card.partition(" [")
        value, _ = number(header, [keyword], high=high)
        if value is not None and unit:
            return value * units.get(unit.rstrip("]"), 1.0)
        if value is not None:
            comment = header.comments[keyword]
            return value * next((factor for pattern, factor in commented if pattern.search(comment)), 1.0)
    return None


def exposure_time(header, profile):
    """Return the exposure time of a frame in seconds, or None.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    profile : `crattn_stage.cameras.profile.Profile`

    Returns
    -------
    float or None
        None where it is missing, no number or not positive.
    """
    value = _with_unit(header, profile.keywords.get("exposure", ()), _SECONDS, LONGEST_EXPOSURE, _COMMENTED)
    return profile.values.get("exposure") if value is None else value


def saturation(header, profile, names=("",)):
    """Return the lowest saturation level a header gives, in the unit of the image, or None.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    profile : `crattn_stage.cameras.profile.Profile`
    names : iterable of str
        Of the amplifiers.

    Returns
    -------
    float or None
        ADU or electron.
    """
    for card in profile.keywords.get("saturation", ()):
        levels = [number(header, [card], name)[0] for name in (names if "{name}" in card else ("",))]
        levels = [level for level in levels if level is not None]
        if levels:
            return min(levels)
    return profile.values.get("saturation")


def pixel_area(header, profile):
    """Return the area of one binned pixel in cm2, or None where the pixel size is unknown.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        Of the extension, with the primary's behind it.
    profile : `crattn_stage.cameras.profile.Profile`
        Its ``pixel_size`` cards in pairs, with their unit in brackets where that is not the micrometre.

    Returns
    -------
    float or None
        cm2.
    """
    binning, cards = read_binning(header, profile), profile.keywords.get("pixel_size", ())
    for pair in zip(cards[::2], [*cards[1::2], *cards[-1:]], strict=False):
        sides = [_with_unit(header, [card], _MICROMETRES, 1e3) for card in pair]
        if all(side and 0.5 < side < 1000 for side in sides):
            is_binned = profile.keywords.get("pixel_size_binned") or pair[0].startswith("XPIXSZ")
            return sides[0] * sides[1] * 1e-8 * (1 if is_binned else binning[0] * binning[1])
    side = profile.values.get("pixel_size")
    return side and side**2 * 1e-8 * binning[0] * binning[1]


def charge_unit(header, profile):
    """Return the unit of an image if its pixels are counts of charge: "electron", "adu", or None.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    profile : `crattn_stage.cameras.profile.Profile`

    Returns
    -------
    str or None
        None for rates, flux densities and units that are not known; ADU where neither header nor profile has a unit.
    """
    text, said = (first_value([header], "BUNIT") or "").lower(), profile.values.get("unit")
    if said == "other" or any(sign in text for sign in ("/", "-1", "per ")):
        return None
    if said:
        return said
    if re.fullmatch(r"(photo)?-?e(lectrons?|lec|-)?", text):
        return "electron"
    return "adu" if re.fullmatch(r"(adu|dn|counts?|cts?)?s?", text) else None
