"""Bright sources of an image, by `sep`."""

from threading import Lock

import numpy as np
import sep

#: Significance of a source's pixels, in units of the background's noise.
SIGNIFICANCE = 5.0
_lock = Lock()


class TooCrowded(Exception):
    """`sep` cannot separate so many sources."""


def extract(image, bad, area):
    """Subtract the background of an image, in place, and find the round sources that are not blended.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, C-contiguous, native byte order; bad pixels are set to 0.
    bad : `numpy.ndarray` of bool
    area : int
        Fewest pixels of a source.

    Returns
    -------
    noise : float
        Of the background, in the unit of the image.
    sources : `numpy.ndarray`
        As from `sep.extract`.

    Raises
    ------
    TooCrowded
        If there are too many sources.
    """
    try:
        background = sep.Background(image, mask=bad)
        background.subfrom(image)
        image[bad] = 0
        found = _extract(image, bad, background.globalrms, area)
    except Exception as error:
        # A bare Exception is how sep reports a buffer that is full.
        if type(error) is not Exception:
            raise
        raise TooCrowded from error
    return background.globalrms, found[(found["b"] > 0.6 * found["a"]) & (found["flag"] == 0)]


def _extract(image, bad, noise, area):
    """Extract sources with room for as many pixels as the image needs, whatever other images had before."""
    # All of them, and a row to spare; an eighth is enough for all but the most crowded fields.
    most = image.size + image.shape[1]
    for room in (max(300_000, image.size // 8), most):
        _make_room(room)
        try:
            return sep.extract(image, SIGNIFICANCE, err=noise, mask=bad, minarea=area, deblend_cont=1.0)
        except Exception as error:
            if "pixel buffer" not in str(error) or room >= most:
                raise


def _make_room(pixels):
    """Raise sep's pixel buffer, which all threads of the process share; lowering it would make others fail."""
    with _lock:
        if sep.get_extract_pixstack() < pixels:
            sep.set_extract_pixstack(pixels)


def inside(shape, row, column, margin):
    """Tell which places are at least some pixels inside an image.

    Parameters
    ----------
    shape : tuple of int
        Of the image.
    row, column : `numpy.ndarray` of int
        The places.
    margin : int
        Pixels from the border.

    Returns
    -------
    `numpy.ndarray` of bool
        One for each place.
    """
    return (row >= margin) & (row < shape[0] - margin) & (column >= margin) & (column < shape[1] - margin)


def stamps(image, row, column, radius):
    """Return the square of pixels around each place.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D.
    row, column : `numpy.ndarray` of int
        The places, at least `radius` pixels from the border.
    radius : int
        Half the side of a square, pixels.

    Returns
    -------
    `numpy.ndarray`
        (places, (2 radius + 1)**2), of the image's dtype.
    """
    side = np.arange(-radius, radius + 1)
    squares = image[row[:, None, None] + side[:, None], column[:, None, None] + side]
    return squares.reshape(len(row), len(side) ** 2)
