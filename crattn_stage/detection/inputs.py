"""Check what a model is given: images, masks, thresholds and amplifiers.

Accepted images are `numpy.ndarray` (also masked, memory-mapped, of any byte order), `astropy.units.Quantity`,
`astropy.nddata.NDData` and `astropy.nddata.CCDData`: 2-D, of booleans, integers or real floats.
Anything else is refused with a sentence; nothing is converted silently.
"""

import os
from numbers import Real

import numpy as np
from astropy.nddata import NDData


def unwrap(image, mask=None):
    """Return the pixels and the bad pixels of an image.

    Parameters
    ----------
    image : `numpy.ndarray` or `astropy.nddata.NDData`
        See the module; a mask of its own is one of bad pixels.
    mask : `numpy.ndarray` of bool, optional
        True on further bad pixels.

    Returns
    -------
    pixels : `numpy.ndarray`
        2-D, of the dtype of the image, not copied.
    bad : `numpy.ndarray` of bool
        True on masked pixels and on those that are not finite.

    Raises
    ------
    TypeError
        If the image or the mask has the wrong type.
    ValueError
        If it is not 2-D, is empty or not of real numbers, or the mask has another shape.
    """
    wrapped = image.data if isinstance(image, NDData) else image
    if not isinstance(wrapped, np.ndarray):
        raise TypeError(_no_image(wrapped))
    # Of astropy's masked arrays, the pixels without their mask.
    pixels = np.asarray(getattr(wrapped, "unmasked", wrapped))
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise ValueError(f"not a 2-D image: shape {pixels.shape}; give one detector or plane at a time")
    if pixels.dtype.kind not in "buif":
        raise ValueError(f"not a real image: dtype {pixels.dtype}; give integers or real floats")
    bad = ~np.isfinite(pixels)
    for more in (getattr(wrapped, "mask", None), image.mask if isinstance(image, NDData) else None, mask):
        if more is not None:
            bad |= _checked_mask(more, pixels.shape)
    return pixels, bad


def _no_image(given):
    """Say what was given in place of an image, and what to do."""
    kind = type(given)
    if isinstance(given, (str, bytes, os.PathLike)):
        name = os.fsdecode(given)
        return f"{name!r} is a file name, not an image; read it first, or mask the file with `crattn-stage run`"
    if given is None:
        return "no image was given (None)"
    if kind.__module__.startswith("astropy.io.fits"):
        return f"a FITS {kind.__name__} is not an image; give its pixels, as in hdu.data"
    return f"a {kind.__name__} is not an image; give a numpy array (numpy.asarray), a Quantity or a CCDData"


def _checked_mask(mask, shape):
    given = mask
    mask = np.asarray(mask)
    if mask.dtype.kind not in "bui":
        raise TypeError(f"a mask of dtype {mask.dtype} ({type(given).__name__}); give booleans, True on bad pixels")
    # The mask of a masked array without masked pixels is a single False.
    if mask.shape != shape and not (mask.shape == () and not mask):
        raise ValueError(f"mask of shape {mask.shape} for an image of shape {shape}")
    return mask.astype(bool, copy=False)


def as_float32(pixels):
    """Return pixels as a contiguous float32 array of native byte order, which a network takes.

    Parameters
    ----------
    pixels : `numpy.ndarray`
        2-D, of any real dtype and byte order.

    Returns
    -------
    `numpy.ndarray`
        Float32, the shape of the pixels.
    """
    # A value beyond float32 becomes infinite, which is a bad pixel.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(pixels, np.float32)


def check_image(image, mask=None):
    """Return an image as a network takes it, and its bad pixels.

    Parameters
    ----------
    image, mask
        As for `unwrap`.

    Returns
    -------
    image : `numpy.ndarray`
        2-D float32, contiguous.
    bad : `numpy.ndarray` of bool

    Raises
    ------
    TypeError, ValueError
        As `unwrap`.
    """
    pixels, bad = unwrap(image, mask)
    pixels = as_float32(pixels)
    return pixels, bad | ~np.isfinite(pixels)


def check_threshold(threshold):
    """Return a threshold if it is a probability.

    Parameters
    ----------
    threshold : float

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If it is not a number.
    ValueError
        If it is not between 0 and 1.

    Examples
    --------
    >>> check_threshold("0.5")
    Traceback (most recent call last):
    ...
    TypeError: threshold '0.5' is a str; give a number between 0 and 1
    """
    if not isinstance(threshold, Real):
        raise TypeError(f"threshold {threshold!r} is a {type(threshold).__name__}; give a number between 0 and 1")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold {threshold} is not a probability; give a number between 0 and 1")
    return threshold


def check_sections(amplifiers, shape):
    """Return the sections of amplifiers as explicit, ascending slices inside an image.

    Parameters
    ----------
    amplifiers : list of tuple of `slice`, or None
        Rows and columns of each; the whole image if None.
    shape : tuple of int
        Rows and columns of the image.

    Returns
    -------
    list of tuple of `slice`

    Raises
    ------
    ValueError
        If an amplifier has no pixels in the image, or steps over some.
    """
    return [_checked_section(section, shape) for section in amplifiers or [np.s_[:, :]]]


def _checked_section(section, shape):
    rows, columns = (slice(*s.indices(n)) for s, n in zip(section, shape, strict=True))
    if rows.start >= rows.stop or columns.start >= columns.stop or (rows.step, columns.step) != (1, 1):
        raise ValueError(f"amplifier {section} has no pixels in an image of shape {shape}")
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)
