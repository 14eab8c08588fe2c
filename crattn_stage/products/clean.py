"""A cleaned copy of an image in memory: its cosmic rays filled, its uncertainty and its header in keeping."""

import copy

import numpy as np
from astropy.io import fits
from astropy.nddata import InverseVariance, NDData, StdDevUncertainty, VarianceUncertainty

from crattn_stage import __version__
from crattn_stage.products.fill import check_fill, fill_holes

#: What an uncertainty holds: a variance to this power.
POWERS = {StdDevUncertainty: 0.5, VarianceUncertainty: 1.0, InverseVariance: -1.0}


def check_cleaning(image, fill):
    """Check before the work that a copy of an image can be cleaned.

    Parameters
    ----------
    image : `numpy.ndarray` or `astropy.nddata.NDData`
    fill : str
        As for `crattn_stage.products.fill.fill_holes`.

    Raises
    ------
    TypeError
        If its uncertainty is of a class that does not say what it means.
    ValueError
        If there is no such fill, or it is "none" for an image of integers, which hold no NaN.
    crattn_stage.errors.CrattnError
        If the package maskfill is not installed.
    """
    check_fill(fill)
    uncertainty = getattr(image, "uncertainty", None)
    if uncertainty is not None and uncertainty.array is not None and _power(uncertainty) is None:
        known = ", ".join(kind.__name__ for kind in POWERS)
        raise TypeError(f"{type(uncertainty).__name__} of filled pixels is not known; give {known}, or none")
    pixels = image.data if isinstance(image, NDData) else image
    check_dtype(pixels.dtype, fill)


def check_dtype(dtype, fill):
    """Raise an error if pixels of a type cannot be filled in a way.

    Parameters
    ----------
    dtype : `numpy.dtype`
    fill : str

    Raises
    ------
    ValueError
        If the fill is "none" and the pixels are integers.
    """
    if fill == "none" and dtype.kind != "f":
        raise ValueError(f"pixels of {dtype} hold no NaN, which the fill none is; take another fill, or floats")


def put(pixels, holes, values):
    """Set the pixels of holes, rounded and within the limits of the type if it is one of integers.

    Parameters
    ----------
    pixels : `numpy.ndarray`
        Changed in place.
    holes : `numpy.ndarray` of bool
    values : `numpy.ndarray`
        (n,) float.
    """
    if pixels.dtype.kind in "iu":
        limits = np.iinfo(pixels.dtype)
        # The largest number of 64 bits is none of a float.
        most = limits.max if limits.bits < 53 else np.nextafter(float(limits.max), 0)
        values = np.clip(np.rint(values), limits.min, most)
    pixels[holes] = values


def cleaned_copy(image, found, bad, fill="surface"):
    """Return a copy of an image in which cosmic rays are filled.

    Parameters
    ----------
    image : `numpy.ndarray` or `astropy.nddata.NDData`
        As for `crattn_stage.api.detect_cosmics`.
    found, bad : `numpy.ndarray` of bool
        Cosmic rays, and other pixels that are no use.
    fill : str
        As for `crattn_stage.products.fill.fill_holes`.

    Returns
    -------
    as `image`
        With the uncertainty of filled pixels renewed, and ``CRFILL``, ``CRNFILL`` and (in a FITS header) a HISTORY
        line in its meta.

    Notes
    -----
    `check_cleaning` says before the work whether it can be done.
    """
    cleaned = copy.deepcopy(image)
    pixels = cleaned.data if isinstance(image, NDData) else cleaned
    # The buffer of a Quantity or a masked array.
    pixels = np.asarray(getattr(pixels, "unmasked", pixels))
    with np.errstate(over="ignore"):
        filled = fill_holes(pixels.astype(np.float32), found, bad, fill)
    put(pixels, found, filled.values)
    if isinstance(image, NDData):
        if image.uncertainty is not None and image.uncertainty.array is not None:
            cleaned.uncertainty = _renewed(image.uncertainty, found, filled.variance, image.unit)
        _tell(cleaned.meta, fill, int(np.count_nonzero(found)))
    return cleaned


def _power(uncertainty):
    return next((power for kind, power in POWERS.items() if isinstance(uncertainty, kind)), None)


def _renewed(uncertainty, found, variance, unit):
    """Return an uncertainty with that of filled pixels as measured."""
    array, power = np.array(np.broadcast_to(uncertainty.array, found.shape)), _power(uncertainty)
    array = array if array.dtype.kind == "f" else array.astype(np.float32)
    array[found] = variance**power
    if unit is not None and uncertainty.unit is not None:
        # Its own unit may be another one, such as electron for an image in kiloelectron.
        array[found] *= (unit ** (2 * power)).to(uncertainty.unit)
    return type(uncertainty)(array, unit=uncertainty.unit)


def _tell(meta, fill, count):
    cards = fill_cards(fill, count)
    if isinstance(meta, fits.Header):
        meta.update(cards)
        meta.add_history(f"CRAttn {history(fill, count)}")
    else:
        meta.update({keyword: value for keyword, (value, _) in cards.items()})


def fill_cards(fill, count):
    """Return the header cards of a cleaned image.

    Parameters
    ----------
    fill : str
    count : int
        Pixels filled.

    Returns
    -------
    dict
        Keyword -> (value, comment).
    """
    return {"CRFILL": (fill, "how cosmic rays were filled"), "CRNFILL": (count, "pixels filled")}


def history(fill, count):
    """Return the text of the HISTORY line of a cleaned image.

    Parameters
    ----------
    fill : str
    count : int

    Returns
    -------
    str
    """
    return f"{__version__}: {count} pixels of cosmic rays filled ({fill})"
