"""Sky that is uneven: vignetting, twilight, moonlight, nebulae, fringes.

A network knows the sky by its level and noise over an amplifier.  Where the light varies by many times the noise, as
before a flat field is divided out, neither is that of any place, and hits are lost.
"""

import numpy as np
import sep

from crattn_stage.detection.preprocessing import measure_sky, sky_statistics

#: Side of the boxes whose medians say how the sky varies, pixels; every which pixel of them, and which row for the
#: noise, is taken; and fewest boxes.
BOX, EVERY, FEWEST = 64, 8, 9
#: Percentiles of the medians between which the sky varies, and by how many times the noise it may.
RANGE, EVEN = (2, 98), 3.0
#: Side of the boxes between which the light is interpolated, pixels.
MESH = 32


def variation(pixels, good):
    """Return by how much the sky varies from place to place, in units of the noise of a pixel.

    Parameters
    ----------
    pixels : `numpy.ndarray`
        2-D, float32, ADU or electron.
    good : `numpy.ndarray` of bool

    Returns
    -------
    float
        0 where fewer than nine boxes of 64 by 64 pixels are mostly good.
    """
    boxes = _medians(pixels, good)
    if boxes.size < FEWEST:
        return 0.0
    # Damaged files hold values that overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.ptp(np.percentile(boxes, RANGE))) / _noise(pixels, good)


def even_out(image, bad, sections):
    """Return a detector whose sky is even: light that varies slowly is taken out where it varies by much.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron, of any real dtype.
    bad : `numpy.ndarray` of bool
        True on bad pixels; those that are not finite are bad in any case.
    sections : list of tuple of `slice`
        Of the amplifiers, each of which keeps its level.

    Returns
    -------
    `numpy.ndarray`
        The image itself if the sky of no amplifier varies by more than 3 times the noise, else a copy in float32.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(300, 8, (256, 256)) + np.arange(256)
    >>> even = even_out(image, np.zeros(image.shape, bool), [np.s_[:, :]])
    >>> [round(float(half.mean() - image.mean())) for half in np.split(image, 2, axis=1)]
    [-64, 64]
    >>> [abs(round(float(half.mean() - image.mean()))) for half in np.split(even, 2, axis=1)]
    [0, 0]
    """
    result = image
    with np.errstate(over="ignore", invalid="ignore"):
        for section in sections:
            pixels = image[section].astype(np.float32, copy=False)
            good = ~bad[section] & np.isfinite(pixels)
            if variation(pixels, good) <= EVEN:
                continue
            if result is image:
                result = image.astype(np.float32)
            known = np.ascontiguousarray(np.where(good, pixels, 0))
            light = sep.Background(known, mask=~good, bw=MESH, bh=MESH, fw=1, fh=1).back()
            result[section] -= light - np.median(light)
    return result


def with_sky(image, bad, sections, sky=None):
    """Return an image and the sky of its amplifiers; where that is not known, of the image with an even sky.

    Parameters
    ----------
    image, bad, sections
        As for `even_out`.
    sky : list of `crattn_stage.detection.preprocessing.Sky`, optional
        Of the amplifiers, if it is known, and even.

    Returns
    -------
    image : `numpy.ndarray`
        As it is if the sky is given, else from `even_out`.
    sky : list of `crattn_stage.detection.preprocessing.Sky`
        As from `crattn_stage.detection.preprocessing.measure_sky`, in the unit of the image.
    """
    if sky is not None:
        return image, sky
    image = even_out(image, bad, sections)
    return image, measure_sky(image, bad, sections)


def _medians(pixels, good):
    """Return the medians of the boxes that are mostly good."""
    height, width = (n // BOX for n in pixels.shape)

    def boxed(plane):
        plane = plane[: height * BOX, : width * BOX].reshape(height, BOX, width, BOX)[:, ::EVERY, :, ::EVERY]
        return plane.transpose(0, 2, 1, 3).reshape(height * width, (BOX // EVERY) ** 2)

    use = boxed(good)
    most = 2 * np.count_nonzero(use, axis=1) >= use.shape[1]
    use = use[most]
    # Bad pixels come last.
    values = np.sort(np.where(use, boxed(pixels)[most], np.inf), axis=1)
    return values[np.arange(len(values)), np.count_nonzero(use, axis=1) // 2]


def _noise(pixels, good):
    """Return the noise of a pixel, from the differences of those two columns apart."""
    pixels, good = pixels[::EVERY], good[::EVERY]
    both = good[:, 2:] & good[:, :-2]
    return sky_statistics(pixels[:, 2:] - pixels[:, :-2], both)[1] / np.sqrt(2) if both.any() else np.inf
