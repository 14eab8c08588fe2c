"""The celestial coordinates of a detector's pixels."""

import re

import numpy as np

from crattn_stage.fits.quiet import quiet

#: Distortions that lie in HDUs of their own; without those, the rest holds to a pixel or so.
_LOOKED_UP = ("CPDIS", "DP1", "DP2", "D2IM", "DQ1", "DQ2", "CQDIS", "CPERR", "CQERR")


def sky_wcs(header):
    """Return the WCS of a detector, if it has a celestial one.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        Of the extension, with the primary's behind it.

    Returns
    -------
    `astropy.wcs.WCS` or None
        Of two axes, without distortions from lookup tables; None where the header has no WCS of the sky, or one that
        cannot be used.
    """
    from astropy.wcs import WCS

    header = header.copy()
    for keyword in list(header):
        if keyword.startswith(_LOOKED_UP):
            header.remove(keyword, ignore_missing=True, remove_all=True)
    if header.get("NAXIS", 2) > 2 and "CTYPE3" not in header:
        # A cube of one plane, of which only the first two axes have coordinates.
        header["NAXIS"] = 2
        header.remove("NAXIS3", ignore_missing=True)
    with quiet():
        try:
            wcs = WCS(header, fix=False)
            # Without a word: warnings of other threads would come in between.
            wcs.wcs.fix()
            if not wcs.has_celestial:
                return None
            wcs = wcs.celestial
            place = wcs.pixel_to_world([0, 1, 0], [0, 0, 1]).icrs
            usable = np.isfinite([place.ra.deg, place.dec.deg]).all()
        except Exception:
            # wcslib raises exceptions of many types on damaged headers.
            return None
    return wcs if usable else None


def pixel_side(wcs):
    """Return the side of a pixel.

    Parameters
    ----------
    wcs : `astropy.wcs.WCS`
        Celestial.

    Returns
    -------
    float
        Degrees, where the projection touches the sky; the geometric mean of both axes.
    """
    from astropy.wcs.utils import proj_plane_pixel_area

    return float(np.sqrt(proj_plane_pixel_area(wcs)))


def pointing(header):
    """Return where a telescope pointed, from the cards RA and DEC.

    Parameters
    ----------
    header : `astropy.io.fits.Header`

    Returns
    -------
    ra, dec : float
        Radians; None in place of both where the cards are missing or do not make sense.

    Examples
    --------
    >>> from astropy.io import fits
    >>> ra, dec = pointing(fits.Header({"RA": "06:00:00.0", "DEC": "-30:00:00"}))
    >>> print(f"{np.rad2deg(ra):.1f} {np.rad2deg(dec):.1f}")
    90.0 -30.0
    """
    from astropy.coordinates import Angle, Latitude

    values = []
    for keyword, sexagesimal, kind in (("RA", "hourangle", Angle), ("DEC", "deg", Latitude)):
        text = str(header.get(keyword, "")).strip()
        try:
            with quiet():
                values.append(kind(text, sexagesimal if re.search(r"\d[ :h]\d", text) else "deg").rad)
        except (ValueError, TypeError):
            return None
    return tuple(map(float, values)) if np.isfinite(values).all() else None
