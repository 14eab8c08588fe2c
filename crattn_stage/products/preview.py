"""Previews: what was masked, as a PNG."""

import io
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import imsave

from crattn_stage.detection.model import enclosing
from crattn_stage.detection.preprocessing import sky_statistics, sky_subtracted
from crattn_stage.errors import FrameError, printable
from crattn_stage.fits.atomic import replacing

#: Largest width of a panel in pixels of the PNG; a larger image is binned, keeping the brightest pixel.
PANEL = 640
#: Detectors shown in one preview.
MOST_DETECTORS = 8
_RED = ListedColormap(["#ffffff", "#c8102e"])
_OVERLAY = ListedColormap(["#00000000", "#ff2d2d"])


def drawn(rows):
    """Draw rows of panels, all on the same scale, as a PNG.

    Parameters
    ----------
    rows : list of list of (str, `numpy.ndarray`, `numpy.ndarray` or None)
        Title, image (a bool one is drawn as a mask), and a bool mask to lay over it.

    Returns
    -------
    bytes
    """
    columns = max(map(len, rows))
    height, width = rows[0][0][1].shape
    panel = 5.0
    figure = Figure(figsize=(panel * columns, (panel * height / width + 0.4) * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row_axes, row in zip(axes, rows, strict=True):
        for axis, (title, image, overlay) in zip(row_axes, row, strict=False):
            # The name of an extension may hold anything; a dollar sign is no formula.
            axis.set_title(printable(title), fontsize=10, parse_math=False)
            style = {"origin": "lower", "interpolation": "nearest", "aspect": "equal"}
            if image.dtype == bool:
                axis.imshow(_shrunk(image), cmap=_RED, vmin=0, vmax=1, **style)
                continue
            # A detector without a finite pixel is drawn blank.
            level, sigma = sky_statistics(image) if np.isfinite(image).any() else (0.0, 1.0)
            # Linear in the noise and logarithmic above it, so that faint hits and star cores both show.
            axis.imshow(np.arcsinh((_shrunk(image) - level) / (2 * sigma)), cmap="gray", vmin=-1.5, vmax=4.5, **style)
            if overlay is not None:
                axis.imshow(_shrunk(overlay), cmap=_OVERLAY, vmin=0, vmax=1, **style)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=min(180, PANEL / panel))
    return picture.getvalue()


def layers(image, mask, panel=PANEL):
    """Draw an image and its mask as two PNGs of one size, to be laid over each other.

    Parameters
    ----------
    image : `numpy.ndarray`, 2-D
    mask : `numpy.ndarray` of bool
    panel : int
        Largest width and height in pixels; a larger image is binned, keeping the brightest pixel.

    Returns
    -------
    image, mask : bytes
        The mask is transparent where it is False.
    """
    level, sigma = sky_statistics(image) if np.isfinite(image).any() else (0.0, 1.0)
    shade = np.arcsinh((_shrunk(image, panel) - level) / (2 * sigma))
    # As in `drawn`, in steps as coarse as a thumbnail's may be, which compress better.
    steps = np.rint(np.clip(np.nan_to_num((shade + 1.5) / 6), 0, 1) * 31) / 31
    pictures = []
    for array, colours in ((steps, "gray"), (_shrunk(mask, panel).astype(float), _OVERLAY)):
        stream = io.BytesIO()
        imsave(stream, array, format="png", cmap=colours, vmin=0, vmax=1, origin="lower")
        pictures.append(stream.getvalue())
    return tuple(pictures)


def write_png(path, picture):
    """Write a picture, in place of one that is there.

    Parameters
    ----------
    path : path-like
    picture : bytes
        From `drawn` or `draw_preview`.

    Returns
    -------
    `pathlib.Path`

    Raises
    ------
    FrameError
        If it cannot be written.
    """
    path = Path(path)
    try:
        with replacing([path], overwrite=True) as (stream,):
            stream.write(picture)
    except OSError as error:
        raise FrameError(f"cannot write {path}: {error.strerror}") from error
    return path


def _shrunk(image, panel=PANEL):
    """Bin an image to at most so many pixels a side, keeping the brightest pixel: no hit is lost."""
    factor = -(-max(image.shape) // panel)
    if factor == 1:
        return image
    height, width = (n - n % factor for n in image.shape)
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor)
    return blocks.max((1, 3)) if image.dtype == bool else np.fmax.reduce(np.fmax.reduce(blocks, 3), 1)


def display_image(ccd, amplifiers):
    """Return a detector for display: without overscan, with the sky of each amplifier at 0.

    Parameters
    ----------
    ccd : `astropy.nddata.CCDData`
    amplifiers : list of `crattn_stage.cameras.sections.Amplifier`

    Returns
    -------
    image : `numpy.ndarray`
        Float32, as from `crattn_stage.detection.preprocessing.sky_subtracted`.
    window : tuple of `slice`
        Where it lies in the detector's array.
    """
    sections = [amplifier.section for amplifier in amplifiers]
    window = enclosing(sections)
    return sky_subtracted(ccd.data, sections)[window], window


def draw_preview(frame):
    """Draw a masked frame: each detector, its mask laid over it, and the mask.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
        With its marks.  The first `MOST_DETECTORS` are drawn.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    FrameError
        If a detector cannot be read.
    KeyError
        If a detector has no marks.
    """
    rows = []
    for extension, ccd in islice(frame.ccds(), MOST_DETECTORS):
        image, window = display_image(ccd, frame.amplifiers(extension))
        image, found = _shrunk(image), _shrunk(frame.cosmic_rays(extension)[window])
        rows.append([(extension.name, image, None), ("masked", image, found), ("mask", found, None)])
    return drawn(rows)
