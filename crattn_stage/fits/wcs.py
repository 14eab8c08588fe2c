"""The celestial coordinates of a detector's pixels."""

import warnings

import numpy as np

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
