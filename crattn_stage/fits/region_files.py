"""DS9 region files: read within limits, and drawn on the pixels of a detector."""

import os
import warnings

import numpy as np

from crattn_stage.errors import FrameError, one_line

#: Bytes and regions that a file may have.
MOST_BYTES, MOST_REGIONS = 16 << 20, 100_000
#: Rows of a detector that a region is drawn on at a time, so that memory does not grow with the region.
_STRIP = 256


def read_regions(path):
    """Read a DS9 region file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of `regions.Region`
        In image or sky coordinates; text is left out.

    Raises
    ------
    FrameError
        If it cannot be read, is too large, or holds a region that cannot be understood or has no area: one left out
        would go unnoticed.
    """
    from astropy.utils.exceptions import AstropyUserWarning
    from regions import (
        LinePixelRegion,
        LineSkyRegion,
        PointPixelRegion,
        PointSkyRegion,
        Regions,
        TextPixelRegion,
        TextSkyRegion,
    )

    try:
        size = os.stat(path).st_size
        if size > MOST_BYTES:
            raise FrameError(f"a region file of {size / 1e6:.0f} MB; {MOST_BYTES / 1e6:.0f} MB are read at most")
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except OSError as error:
        raise FrameError(error.strerror) from error
    except UnicodeDecodeError as error:
        raise FrameError("not a DS9 region file: it is not text") from error
    if "||" in text:
        raise FrameError("composite regions (||) are not understood; write one per line")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = list(Regions.parse(text, format="ds9"))
        except Exception as error:
            # The parser raises exceptions of many types.
            raise FrameError(f"not a DS9 region file: {one_line(error)}") from error
    # Not what other threads warn of.
    said = [warning.message for warning in said if warning.category is AstropyUserWarning]
    if said:
        raise FrameError(f"a region is not understood: {one_line(said[0])}")
    if len(found) > MOST_REGIONS:
        raise FrameError(f"{len(found)} regions; {MOST_REGIONS} are read at most")
    found = [region for region in found if not isinstance(region, TextPixelRegion | TextSkyRegion)]
    if any(isinstance(r, PointPixelRegion | PointSkyRegion | LinePixelRegion | LineSkyRegion) for r in found):
        raise FrameError("a point or a line has no area; draw a circle or a box")
    return found


def region_mask(found, shape, wcs=None):
    """Return the pixels of a detector whose centres lie in regions.

    Parameters
    ----------
    found : list of `regions.Region`
        From `read_regions`; one with a minus sign cuts a hole into the others.
    shape : tuple of int
        Rows and columns.
    wcs : `astropy.wcs.WCS`, optional
        Of the detector, for regions in sky coordinates.

    Returns
    -------
    `numpy.ndarray` of bool

    Raises
    ------
    FrameError
        If a region has no finite place on the detector, or one is in sky coordinates and there is no `wcs`.
    """
    from astropy.wcs import NoConvergence
    from regions import PixCoord, SkyRegion

    inside, holes = np.zeros(shape, bool), np.zeros(shape, bool)
    for number, region in enumerate(found, 1):
        plane = inside if region.meta.get("include", True) else holes
        try:
            if isinstance(region, SkyRegion):
                if wcs is None:
                    raise FrameError("it is in sky coordinates, and there is no WCS")
                if not _may_reach(region, shape, wcs):
                    continue
                region = region.to_pixel(wcs)
            region.meta["include"] = True
            box = region.bounding_box
        except (ValueError, OverflowError, NoConvergence) as error:
            raise FrameError(f"region {number} ({type(region).__name__}) is not finite: {one_line(error)}") from error
        top, bottom = max(0, box.iymin), min(shape[0], box.iymax)
        left, right = max(0, box.ixmin), min(shape[1], box.ixmax)
        if left >= right:
            continue
        for start in range(top, bottom, _STRIP):
            rows, columns = np.mgrid[start : min(start + _STRIP, bottom), left:right]
            plane[start : start + len(rows), left:right] |= region.contains(PixCoord(columns, rows))
    return inside & ~holes


def _may_reach(region, shape, wcs):
    """Return whether a sky region is near enough to the detector to reach it; far off, a projection has no meaning."""
    middle, reach = field_of_view(wcs, shape)
    if hasattr(region, "vertices"):
        place, size = region.vertices[0], region.vertices[0].separation(region.vertices).max()
    else:
        sizes = ("radius", "outer_radius", "width", "height", "outer_width", "outer_height")
        place, size = region.center, max(getattr(region, name) for name in sizes if hasattr(region, name))
    return bool(middle.separation(place).deg < reach + size.to_value("deg"))


def field_of_view(wcs, shape):
    """Return the middle of a detector on the sky, and how far it reaches from there, with a margin for distortions.

    Parameters
    ----------
    wcs : `astropy.wcs.WCS`
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    middle : `astropy.coordinates.SkyCoord`
    reach : float
        Degrees.
    """
    height, width = shape
    corners = wcs.pixel_to_world([0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1])
    middle = wcs.pixel_to_world((width - 1) / 2, (height - 1) / 2)
    return middle, float(1.5 * middle.separation(corners).deg.max())
