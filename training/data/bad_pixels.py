"""The bad pixels of a camera, as its profile names them: images of whole detectors, non-zero where a pixel is bad."""

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_opening

from crattn_stage.fits.atomic import replacing
from crattn_stage.fits.frame import ObservationFrame
from training.data.camera import LEAST_SIDE
from training.data.darks import COLUMN

#: Values of hot pixels, and of other bad ones, such as those of bad columns.
HOT, OTHER = 1, 2


def bad_pixels(camera):
    """Return the bad pixels of a camera: hot ones that are seen in its frames, and bad columns.

    Parameters
    ----------
    camera : `training.data.camera.Camera`

    Returns
    -------
    list of `numpy.ndarray` of uint8
        Of each amplifier: `HOT`, `OTHER` or 0.  Empty if none are known.
    """
    columns = [binary_opening(plane, np.ones((COLUMN, 1))) for plane in camera.bad]
    hot = [plane > 0 for plane in camera.hot] or [np.zeros_like(plane) for plane in columns]
    if [plane.shape for plane in columns] != [plane.shape for plane in hot]:
        # Those of darks or flats of another size.
        columns = [np.zeros_like(plane) for plane in hot]
    return [np.where(c, OTHER, h * HOT).astype(np.uint8) for h, c in zip(hot, columns, strict=True)]


def write_bad_pixels(path, planes, like):
    """Write the bad pixels of amplifiers as a FITS file that a camera's profile can name.

    Parameters
    ----------
    path : path-like
        Replaced if it exists.
    planes : list of `numpy.ndarray` of uint8
        Of the amplifiers of a file, in the order of `training.data.frames.read_skies`.
    like : path-like
        That file: it says where on a detector they are.

    Raises
    ------
    crattn_stage.errors.CrattnError
        If that file cannot be read.
    OSError
        If the other cannot be written.
    """
    hdus, planes = [fits.PrimaryHDU()], iter(planes)
    with ObservationFrame(like, calibrations=True) as frame:
        for extension, ccd in frame.ccds():
            image = np.zeros(ccd.shape, np.uint8)
            for amplifier in frame.amplifiers(extension):
                if min(image[amplifier.section].shape) >= LEAST_SIDE:
                    image[amplifier.section] = next(planes)
            name, _, version = extension.name.partition(",")
            hdus.append(fits.ImageHDU(image, name=name, ver=int(version) if version.isdigit() else 1))
    if len(hdus) == 2:
        hdus = [fits.PrimaryHDU(hdus[1].data)]
    with replacing([path], overwrite=True) as (stream,):
        fits.HDUList(hdus).writeto(stream)
