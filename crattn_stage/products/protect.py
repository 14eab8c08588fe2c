"""Areas in which nothing may be flagged: DS9 regions, or a catalogue of positions and radii."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from crattn_stage.errors import FrameError, one_line
from crattn_stage.fits.quiet import quiet
from crattn_stage.fits.region_files import field_of_view, read_regions, region_mask
from crattn_stage.fits.source import open_regular
from crattn_stage.fits.wcs import sky_wcs

#: Suffix of a catalogue -> format, as `astropy.table.Table.read` calls it.
FORMATS = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits", ".fit": "fits", ".fts": "fits"}
#: Names of columns, in lower case; the first that is there counts.
RIGHT_ASCENSION = ("ra", "ra_icrs", "raj2000", "ra_j2000", "alpha_j2000", "_raj2000", "ra_deg", "radeg", "alpha")
DECLINATION = (
    *("dec", "de_icrs", "dec_icrs", "dej2000", "decj2000", "dec_j2000", "delta_j2000", "_dej2000"),
    *("dec_deg", "dedeg", "decdeg", "delta"),
)
RADIUS = ("radius", "radius_arcsec", "radius_arcmin", "radius_deg")
#: Bytes and rows that a catalogue may have; degrees that a radius may have.
MOST_BYTES, MOST_ROWS, LARGEST = 256 << 20, 1_000_000, 10.0


@dataclass(frozen=True, eq=False)
class Areas:
    """What a file protects.

    Attributes
    ----------
    path : str
    regions : list of `regions.Region`
        Of a region file.
    centres : `astropy.coordinates.SkyCoord` or None
        Of a catalogue.
    radii : `numpy.ndarray` or None
        Degrees.
    """

    path: str
    regions: list
    centres: object = None
    radii: np.ndarray | None = None


def read_areas(path):
    """Read a file of areas to protect; once while it is unchanged.

    Parameters
    ----------
    path : path-like
        A DS9 region file (.reg), or a catalogue (.ecsv, .csv, .fits) with right ascension and declination (degrees
        where the column has no unit; text is hours and degrees), and a radius with its unit: in the table, or in the
        name of the column, ``radius_arcsec``, ``radius_arcmin`` or ``radius_deg``.

    Returns
    -------
    `Areas`

    Raises
    ------
    FrameError
        Naming the file, if it cannot be read, or a row or a region cannot be understood.
    """
    path = os.path.abspath(path)
    try:
        # A pipe would be waited for.
        with open_regular(path) as descriptor:
            status = os.fstat(descriptor)
        return _read_areas(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise FrameError(f"{path}: {error.strerror}") from error
    except FrameError as error:
        raise FrameError(f"{path}: {error}") from error


@lru_cache(8)
def _read_areas(path, _, size):
    suffix = Path(path).suffix.lower()
    if suffix == ".reg":
        return Areas(path, read_regions(path))
    if suffix not in FORMATS:
        raise FrameError(f"areas to protect are a DS9 region file (.reg) or a catalogue ({', '.join(FORMATS)})")
    if size > MOST_BYTES:
        raise FrameError(f"a catalogue of {size / 1e6:.0f} MB; {MOST_BYTES / 1e6:.0f} MB are read at most")
    return Areas(path, [], *_read_catalogue(path, FORMATS[suffix]))


def _read_catalogue(path, kind):
    from astropy.table import Table

    with quiet():
        try:
            table = Table.read(path, format=kind)
        except Exception as error:
            # Readers raise exceptions of many types.
            raise FrameError(f"not a catalogue: {one_line(error)}") from error
    if len(table) > MOST_ROWS:
        raise FrameError(f"{len(table)} rows; {MOST_ROWS} are read at most")
    ra = _angle(*_column(table, RIGHT_ASCENSION, "right ascension"), "hourangle")
    dec = _angle(*_column(table, DECLINATION, "declination"), "deg")
    name, column = _column(table, RADIUS, "radius")
    unit = name.lower().partition("_")[2] or column.unit
    if not unit:
        raise FrameError(f"its column {name} has no unit; call it radius_arcsec, radius_arcmin or radius_deg")
    radii = _angle(name, column, None, unit)
    for what, values, low, high in (
        ("right ascension", ra, -360, 360),
        ("declination", dec, -90, 90),
        ("radius", radii, 0, LARGEST),
    ):
        good = np.isfinite(values) & (values >= low) & (values <= high)
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise FrameError(f"row {row + 1}: its {what} is {values[row]:g} degrees, not {low} to {high:g}")
    from astropy.coordinates import SkyCoord

    return SkyCoord(ra, dec, unit="deg"), radii


def _column(table, names, what):
    for name in names:
        found = [column for column in table.colnames if column.lower() == name]
        if found:
            return found[0], table[found[0]]
    raise FrameError(f"no column of {what}: it has {', '.join(table.colnames[:8])}; known is {', '.join(names[:4])}...")


def _angle(name, column, sexagesimal, unit=None):
    """Return a column as float64 degrees; what is masked is NaN."""
    from astropy import units
    from astropy.coordinates import Angle

    unit = unit or column.unit or "deg"
    try:
        if column.dtype.kind in "USO":
            values = Angle([str(text) for text in column], sexagesimal or unit).deg
        else:
            values = (np.ma.filled(np.ma.asarray(column).astype(float), np.nan) * units.Unit(unit)).to_value("deg")
    except Exception as error:
        raise FrameError(f"column {name} is not an angle: {one_line(error)}") from error
    return np.atleast_1d(values)


def protected_pixels(paths, header, shape, alone=True):
    """Return the pixels of a detector in which nothing may be flagged.

    Parameters
    ----------
    paths : sequence of path-like
        As for `read_areas`.
    header : `astropy.io.fits.Header`
        Of the detector, with the primary's behind it, for its WCS.
    shape : tuple of int
        Rows and columns.
    alone : bool
        Whether it is the only detector of its frame; else image coordinates do not say which is meant.

    Returns
    -------
    `numpy.ndarray` of bool
        True on the pixels whose centres lie in an area.

    Raises
    ------
    FrameError
        If a file cannot be read or an area cannot be placed on the detector.
    """
    from regions import PixelRegion

    mask, wcs = np.zeros(shape, bool), sky_wcs(header)
    for path in paths:
        areas = read_areas(path)
        flat = any(isinstance(region, PixelRegion) for region in areas.regions)
        on_sky = areas.centres is not None or not all(isinstance(r, PixelRegion) for r in areas.regions)
        if on_sky and wcs is None:
            raise FrameError(f"{areas.path}: in sky coordinates, and the frame has no WCS; give image coordinates")
        if flat and not alone:
            raise FrameError(f"{areas.path}: in image coordinates, and the frame has several detectors; give RA, Dec")
        try:
            mask |= region_mask(areas.regions, shape, wcs)
            if areas.centres is not None:
                _add_circles(mask, areas.centres, areas.radii, wcs)
        except FrameError as error:
            raise FrameError(f"{areas.path}: {error}") from error
    return mask


def _add_circles(mask, centres, radii, wcs):
    """Set the pixels within angles of positions, by the scale of the WCS at each."""
    height, width = mask.shape
    middle, reach = field_of_view(wcs, mask.shape)
    near = middle.separation(centres).deg < reach + radii
    if not near.any():
        return
    centres, radii = centres[near].transform_to(middle.frame), radii[near]
    # Quietly: far off, distortions have no inverse.
    x, y = wcs.all_world2pix(centres.spherical.lon.deg, centres.spherical.lat.deg, 0, quiet=True)
    (ax, ay), (bx, by) = (
        [offset.to_value("deg") for offset in centres.spherical_offsets_to(wcs.pixel_to_world(x + dx, y + dy))]
        for dx, dy in ((1, 0), (0, 1))
    )
    determinant = np.abs(ax * by - ay * bx)
    half_width, half_height = radii * np.hypot(bx, by) / determinant, radii * np.hypot(ax, ay) / determinant
    edges = np.stack([x - half_width, x + half_width, y - half_height, y + half_height])
    if not np.isfinite(edges).all():
        raise FrameError("the WCS of the frame gives no finite place to a row")
    left, right = np.clip(np.ceil(edges[0]), 0, width), np.clip(np.floor(edges[1]) + 1, 0, width)
    bottom, top = np.clip(np.ceil(edges[2]), 0, height), np.clip(np.floor(edges[3]) + 1, 0, height)
    for i in np.flatnonzero((left < right) & (bottom < top)):
        columns = np.arange(int(left[i]), int(right[i])) - x[i]
        rows = np.arange(int(bottom[i]), int(top[i]))[:, None] - y[i]
        inside = (ax[i] * columns + bx[i] * rows) ** 2 + (ay[i] * columns + by[i] * rows) ** 2 <= radii[i] ** 2
        mask[int(bottom[i]) : int(top[i]), int(left[i]) : int(right[i])] |= inside
