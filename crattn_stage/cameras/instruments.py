"""What is particular to a camera family: one profile each."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from astropy.time import Time

from crattn_stage.cameras import masks
from crattn_stage.cameras.sections import read_amplifiers, read_binning
from crattn_stage.errors import FrameError

#: What the type of a frame that is not of the sky says; flats are called SKYFLAT and the like.
CALIBRATION = re.compile(r"bias|zero|dark|flat|lamp|\bbpm\b|\barc\b", re.IGNORECASE)


@dataclass(frozen=True)
class Instrument:
    """A camera family.

    Attributes
    ----------
    name : str
    recognise : callable
        (primary header) -> bool.
    amplifiers : callable
        (header, shape) -> list of `crattn_stage.cameras.sections.Amplifier`; the
        header is the extension's with the primary's behind it.
    convention : callable
        (header, header of the mask plane or None, whether that is of a
        companion file) -> `crattn_stage.cameras.masks.MaskConvention`, or None where
        the flags of the plane are not known.
    unit : callable
        (header) -> "adu" or "electron".
    is_detector : callable
        (EXTNAME) -> bool; False for what is not a science detector.
    longitude : float or None
        Degrees east, for the local night where the header has no label.
    """

    name: str
    recognise: Callable
    amplifiers: Callable
    convention: Callable
    unit: Callable
    is_detector: Callable = lambda name: True
    longitude: float | None = None


def _decam_convention(header, plane, companion):
    if plane is not None and plane.get("EXTNAME") == masks.DECAM_BITS.extension and not companion:
        return masks.DECAM_BITS
    version = re.match(r"V(\d+)\.(\d+)", str(header.get("PLVER", "")))
    old = version is not None and tuple(map(int, version.groups())) < (3, 5)
    return masks.DECAM_BITS if old else masks.DECAM_CODES


def _decam_amplifiers(header, shape):
    try:
        return read_amplifiers(header, shape, ("A", "B"))
    except FrameError:
        if str(header.get("PROCTYPE", "RAW")).strip().upper() == "RAW":
            raise
        # The Community Pipeline trims edges and leaves the sections as they were.
        return read_amplifiers(header, shape, ())


def _lco_amplifiers(header, shape):
    # A reduced frame is one trimmed mosaic; its sections are those of the raw one.
    return read_amplifiers(header, shape, () if _lco_reduced(header) else ("",))


def _lco_reduced(header):
    stages = (key for key in header if key.startswith("L1STAT"))
    level = header.get("RLEVEL", 0)
    return (isinstance(level, int) and level > 0) or any(key != "L1STATCR" for key in stages)


def _generic_convention(header, plane, companion):
    name = masks.GENERIC.extension if plane is None else plane.get("EXTNAME")
    if name == masks.BANZAI.extension:
        return masks.BANZAI
    # A wider MASK, or a DQ, has flags of some other camera, where a bit may mean anything.
    known = name == masks.GENERIC.extension and (plane is None or plane["BITPIX"] == 8)
    return masks.GENERIC if known else None


def _unit_of_header(header):
    return "electron" if str(header.get("BUNIT", "")).lower().startswith(("e", "photoe")) else "adu"


DECAM = Instrument(
    name="decam",
    recognise=lambda header: "DECAM" in str(header.get("INSTRUME", "")).upper(),
    amplifiers=_decam_amplifiers,
    convention=_decam_convention,
    unit=_unit_of_header,
    # Eight focus and alignment chips, out of focus by design.
    is_detector=lambda name: re.fullmatch(r"F[NS]\d+", name) is None,
    longitude=-70.815,
)
LCO = Instrument(
    name="lco",
    recognise=lambda header: (
        "LCOGT" in str(header.get("ORIGIN", "")).upper()
        or re.match(r"\dm\d-\d\d$", str(header.get("TELESCOP", ""))) is not None
    ),
    amplifiers=_lco_amplifiers,
    convention=lambda header, plane, companion: masks.BANZAI,
    unit=lambda header: "electron" if _lco_reduced(header) else "adu",
)
GENERIC = Instrument(
    name="generic",
    recognise=lambda header: True,
    amplifiers=lambda header, shape: read_amplifiers(header, shape, ("",)),
    convention=_generic_convention,
    unit=_unit_of_header,
)
INSTRUMENTS = (DECAM, LCO, GENERIC)


def identify(header):
    """Return the profile of the camera that took a frame, by its header.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        The primary header.

    Returns
    -------
    `Instrument`
        `GENERIC` for a camera without a profile of its own.
    """
    return next(instrument for instrument in INSTRUMENTS if instrument.recognise(header))


def camera_and_site(header):
    """Return what a header calls its camera and where that stands.

    Parameters
    ----------
    header : `astropy.io.fits.Header`

    Returns
    -------
    dict
        ``camera`` (``INSTRUME``) and ``site`` (``SITEID``, else ``OBSERVAT``),
        each a str, or None where the header does not say.
    """
    camera, site = (str(header.get(key, "")).strip()[:50] for key in ("INSTRUME", "SITEID"))
    return {"camera": camera or None, "site": site or str(header.get("OBSERVAT", "")).strip()[:50] or None}


def observation_type(header):
    """Return what a frame is of, as its header says; "" where it does not.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        ``OBSTYPE``, ``IMAGETYP`` or ``OBS-TYPE``, the first that is there.

    Returns
    -------
    str
    """
    for keyword in ("OBSTYPE", "IMAGETYP", "OBS-TYPE"):
        if header.get(keyword):
            return str(header[keyword]).strip()
    return ""


def calibration_type(header):
    """Return what a frame is, if it is not one of the sky; "" if it is.

    Parameters
    ----------
    header : `astropy.io.fits.Header`

    Returns
    -------
    str
        The type of a bias, dark, flat, lamp or bad-pixel frame, or the product
        (``PRODTYPE``) of a Community Pipeline mask or weight.
    """
    product = str(header.get("PRODTYPE", "image")).strip()
    if product.lower() not in ("", "image"):
        return product
    kind = observation_type(header)
    return kind if CALIBRATION.search(kind) else ""


def night(header, instrument):
    """Return the night of a frame as YYYYMMDD, or None where it cannot be known.

    The observatory's own label (``DAY-OBS``, ``DTCALDAT``), else the date at
    the last local noon before ``DATE-OBS``.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        Its ``LONGITUD``, degrees east, goes before the instrument's.
    instrument : `Instrument`

    Returns
    -------
    str or None
    """
    for keyword in ("DAY-OBS", "DTCALDAT"):
        digits = re.sub(r"\D", "", str(header.get(keyword, "")))
        if len(digits) == 8:
            return digits
    longitude = header.get("LONGITUD", instrument.longitude)
    try:
        noon = timedelta(hours=12 - float(longitude) / 15)
        return (Time(header["DATE-OBS"]).to_datetime() - noon).strftime("%Y%m%d")
    except (KeyError, OverflowError, TypeError, ValueError):
        return None


def exposure_time(header):
    """Return the exposure time of a frame in seconds, or None.

    Parameters
    ----------
    header : `astropy.io.fits.Header`

    Returns
    -------
    float or None
        ``EXPTIME``; None where it is missing, no number or not positive.
    """
    value = header.get("EXPTIME")
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def saturation(header):
    """Return the lowest saturation level a header gives, in the unit of the image, or None.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        ``SATURATE``, and DECam's ``SATURATA`` and ``SATURATB``.

    Returns
    -------
    float or None
        ADU or electron.
    """
    levels = [header.get(keyword) for keyword in ("SATURATE", "SATURATA", "SATURATB")]
    levels = [level for level in levels if isinstance(level, (int, float)) and level > 0]
    return min(levels) if levels else None


def pixel_area(header):
    """Return the area of one binned pixel in cm2, or None where the pixel size is unknown.

    Reads ``CCDXPIXE`` (metre; LCO), ``PIXSIZE1`` (micrometre; DECam) and
    ``XPIXSZ`` (micrometre, binned; many small cameras).

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        Of the extension, with the primary's behind it.

    Returns
    -------
    float or None
        cm2.
    """
    binning = read_binning(header)
    for first, second, unit, is_binned in (
        ("CCDXPIXE", "CCDYPIXE", 100.0, False),
        ("PIXSIZE1", "PIXSIZE2", 1e-4, False),
        ("XPIXSZ", "YPIXSZ", 1e-4, True),
    ):
        sides = [header.get(first), header.get(second)]
        if all(isinstance(side, (int, float)) and side > 0 for side in sides):
            area = sides[0] * sides[1] * unit**2
            return area if is_binned else area * binning[0] * binning[1]
    # All of DECam's pixels are 15 micrometres (Flaugher et al. 2015, AJ 150, 150).
    return 2.25e-6 * binning[0] * binning[1] if DECAM.recognise(header) else None
