"""The hits of a mask as objects: where they are, how much charge they left, and what they look like.

How classes are decided: a hit shorter than `SHORT` pixels is a *spot*, such as a muon that came
straight down or an X-ray.  Of the others, a *track*, as of a muon, is as straight as `STRAIGHT`;
anything else is a *worm*, as of an electron that scatters.  Of simulated tracks that are long
enough, 99% are called so; of worms four in ten are, since an electron that has not turned yet looks
like a muon.
"""

import warnings

import numpy as np
from astropy import units
from astropy.table import QTable, hstack, vstack
from scipy.ndimage import binary_dilation, find_objects, label

from crattn_stage.cameras.sections import Amplifier
from crattn_stage.detection.preprocessing import measure_sky, sky_subtracted
from crattn_stage.detection.sources import TooCrowded, extract

#: Pixels; a shorter hit is a spot.
SHORT = 3.0
#: A track's straightness is at least this.
STRAIGHT = 0.96
#: Pixels, standard deviation; a straight hit is no wider, by diffusion and the size of pixels.
DIFFUSED = 0.9
#: Pixels from a hit within which a source counts as near, from the rim of its isophote.
NEAR_STAR = 5
#: Pixels from the border of an amplifier within which a hit counts as near.
NEAR_EDGE = 4
#: Pixels around a hit from which its local background is taken, and fewest that do.
RING, FEWEST = (2, 6), 12
_AROUND = np.ones((3, 3), bool)
#: Column -> (unit, what it is).
COLUMNS = {
    "detector": (None, "EXTNAME of the detector"),
    "amplifier": (None, "amplifier that reads the brightest pixel"),
    "x": ("pix", "centroid, columns from 0 (DS9 and FITS count from 1)"),
    "y": ("pix", "centroid, rows from 0 (DS9 and FITS count from 1)"),
    "ra": ("deg", "right ascension of the centroid; NaN without a WCS"),
    "dec": ("deg", "declination of the centroid; NaN without a WCS"),
    "charge": ("electron", "sum above the local background; NaN where the gain is not known"),
    "counts": (None, "the same in the unit of the image"),
    "gain": (None, "electrons for one unit of the image; NaN if not known"),
    "background": (None, "local background, in the unit of the image"),
    "noise": (None, "standard deviation of the amplifier's sky, in the unit of the image"),
    "pixels": (None, "masked pixels"),
    "length": ("pix", "of a straight line with the same second moment, without the width"),
    "width": ("pix", "FWHM across"),
    "angle": ("deg", "of the long axis, from columns to rows, 0 to 180"),
    "straightness": (None, "distance of the ends over the way between them; NaN for spots"),
    "class": (None, "track, worm or spot"),
    "peak_snr": (None, "brightest pixel above the local background, over the noise"),
    "probability": (None, "mean of the masked pixels; NaN where it was not kept"),
    "near_star": (None, "a star or galaxy lies within 5 pixels; all are where the field is too crowded to tell"),
    "near_edge": (None, "within 4 pixels of the border of the amplifier"),
}


def measure_hits(image, mask, bad=None, probability=None, amplifiers=None, unit="adu", wcs=None, sky=None, detector=""):
    """Measure the hits of a mask.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, before cosmic rays are cleaned, of any real dtype.
    mask : `numpy.ndarray` of bool
        True on cosmic rays; a hit is a connected object (8 neighbours).
    bad : `numpy.ndarray` of bool, optional
        True on pixels that are no use; those that are not finite are bad in any case.
    probability : `numpy.ndarray`, optional
        Of each pixel, as from `crattn_stage.detection.model.CosmicRayModel.predict`.
    amplifiers : list of `crattn_stage.cameras.sections.Amplifier`, optional
        With gains in electron per ADU; the whole image is one of unknown gain if None.
    unit : {"adu", "electron"} or None
        Of the image.  Charge is known for electrons, and for ADU where the gain is; never for None, any other unit.
    wcs : `astropy.wcs.WCS`, optional
    sky : list of `crattn_stage.detection.preprocessing.Sky`, optional
        Of the amplifiers; measured if None.
    detector : str

    Returns
    -------
    `astropy.table.QTable`
        A row for each hit; the columns are those of `COLUMNS`, with their descriptions.

    Notes
    -----
    Charge is summed over the hit and the pixels that touch it, less the median of a ring around it, so that the wings
    outside of the mask count.  It is a lower limit where pixels are saturated, bad or beyond the border.  Moments are
    weighted by the charge of the masked pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from crattn_stage.cameras.sections import Amplifier
    >>> image = np.random.default_rng(0).normal(300, 8, (64, 64))
    >>> image[30, 20:32] += 900
    >>> whole = Amplifier("A", np.s_[0:64, 0:64], gain=2.0)
    >>> (hit,) = measure_hits(image, image > 600, amplifiers=[whole])
    >>> print(hit["class"], f"{hit['charge']:.0f} {hit['length']:.1f} {hit['angle']:.0f}")
    track 21333 electron 12.0 pix 0 deg
    """
    image, mask = np.asarray(image), np.asarray(mask, bool)
    amplifiers = amplifiers or [Amplifier("", (slice(0, image.shape[0]), slice(0, image.shape[1])))]
    bad = ~np.isfinite(image) | (False if bad is None else bad)
    sections = [a.section for a in amplifiers]
    sky = measure_sky(image, bad | mask, sections) if sky is None else sky
    numbers, count = label(mask, _AROUND)
    rows = []
    for number, box in enumerate(find_objects(numbers), 1):
        row = _measured(image, numbers, number, box, bad, probability, amplifiers, sky, unit)
        rows.append({"detector": detector, **row})
    table = QTable({name: [row.get(name) for row in rows] for name in COLUMNS if rows and name in rows[0]})
    for name in COLUMNS:
        if name not in table.colnames:
            table[name] = np.full(count, np.nan)
    if count and wcs is not None:
        place = wcs.pixel_to_world(table["x"], table["y"]).icrs
        table["ra"], table["dec"] = place.ra.deg, place.dec.deg
    table["near_star"] = _near_stars(image, mask, bad, sections, sky, table)
    return _finished(table)


def join_hits(tables):
    """Return the hits of several detectors in one table.

    Parameters
    ----------
    tables : list of `astropy.table.QTable`
        From `measure_hits`.

    Returns
    -------
    `astropy.table.QTable`
    """
    filled = [table for table in tables if len(table)]
    return vstack(filled, metadata_conflicts="silent") if filled else _finished(tables[0])


def read_hits(path):
    """Read a table of hits that ``--hits`` has written.

    Parameters
    ----------
    path : path-like
        FITS or ECSV.

    Returns
    -------
    `astropy.table.QTable`
        The columns of `COLUMNS` behind the ``id`` of the hit.
    """
    kind = {"format": "ascii.ecsv"} if str(path).endswith(".ecsv") else {"format": "fits", "hdu": "HITS"}
    with warnings.catch_warnings():
        # The electron is no unit of the FITS standard.
        warnings.simplefilter("ignore", units.UnitsWarning)
        table = QTable.read(path, **kind)
    return hstack([table[["id"]], _finished(table)], metadata_conflicts="silent")


def as_rows(table):
    """Return hits as a database takes them.

    Parameters
    ----------
    table : `astropy.table.QTable`
        From `measure_hits`.

    Returns
    -------
    list of dict
        Of Python's types; None for NaN.
    """
    columns = [np.asarray(getattr(table[name], "value", table[name])).tolist() for name in COLUMNS]
    return [
        {name: None if value != value else value for name, value in zip(COLUMNS, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def _finished(table):
    """Give a table its types, units and descriptions, in the order of `COLUMNS`."""
    kinds = {"detector": str, "amplifier": str, "class": str, "pixels": np.int64, "near_star": bool, "near_edge": bool}
    for name, (unit, description) in COLUMNS.items():
        # An empty text is masked in ECSV.
        column = table[name].filled("") if kinds.get(name) is str and hasattr(table[name], "filled") else table[name]
        values = np.asarray(getattr(column, "value", column)).astype(kinds.get(name, np.float64))
        table[name] = values * units.Unit(unit) if unit else values
        table[name].info.description = description
    return table[list(COLUMNS)]


def _measured(image, numbers, number, box, bad, probability, amplifiers, sky, unit):
    """Return what is measured of one hit."""
    margin = RING[1]
    window = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
    mine, good = numbers[window] == number, ~bad[window]
    values = np.where(good, image[window], 0).astype(np.float64)
    free = good & (numbers[window] == 0)
    inner, outer = binary_dilation(mine, _AROUND, RING[0]), binary_dilation(mine, _AROUND, RING[1])
    index = _amplifier_of(amplifiers, window, np.where(mine & good, values, -np.inf))
    amplifier, own = amplifiers[index], sky[index]
    inside = np.zeros(mine.shape, bool)
    inside[_within(amplifier.section, window)] = True
    ring = values[outer & ~inner & free & inside]
    noise = own.sigma if own else np.nan
    background = np.median(ring) if ring.size >= FEWEST else own.level if own else np.nan
    excess = np.where(good, values - background, 0)
    counts = excess[(mine | (binary_dilation(mine, _AROUND) & free)) & inside].sum()
    gain = amplifier.electrons_per(unit) or np.nan
    y, x, shape = shape_of(np.where(mine, excess, 0), mine)
    rows, columns = np.nonzero(mine)
    section = amplifier.section
    rows, columns = rows + window[0].start, columns + window[1].start
    edge = min(
        rows.min() - section[0].start,
        section[0].stop - 1 - rows.max(),
        columns.min() - section[1].start,
        section[1].stop - 1 - columns.max(),
    )
    return {
        "amplifier": amplifier.name,
        "x": x + window[1].start,
        "y": y + window[0].start,
        "charge": counts * gain,
        "counts": counts,
        "gain": gain,
        "background": background,
        "noise": noise,
        "pixels": len(rows),
        **shape,
        "peak_snr": excess[mine].max() / noise if noise else np.nan,
        "probability": np.nan if probability is None else float(probability[window][mine].mean(dtype=np.float64)),
        "near_edge": edge < NEAR_EDGE,
    }


def _amplifier_of(amplifiers, window, values):
    """Return the number of the amplifier that reads the brightest pixel of a window."""
    row, column = np.unravel_index(np.argmax(values), values.shape)
    row, column = row + window[0].start, column + window[1].start
    for index, amplifier in enumerate(amplifiers):
        rows, columns = amplifier.section
        if rows.start <= row < rows.stop and columns.start <= column < columns.stop:
            return index
    return 0


def _within(section, window):
    """Return the part of a window, counted from its corner, that lies in a section."""
    return tuple(
        slice(max(0, s.start - w.start), max(0, min(s.stop, w.stop) - w.start))
        for s, w in zip(section, window, strict=True)
    )


def shape_of(charge, mine):
    """Return where a hit is in its window, and what it looks like.

    Parameters
    ----------
    charge : `numpy.ndarray`
        2-D, in any unit; 0 outside the hit.
    mine : `numpy.ndarray` of bool
        Its pixels.

    Returns
    -------
    row, column : float
        Of the centroid.
    shape : dict
        Length, width, angle, straightness and class, as in `COLUMNS`.
    """
    rows, columns = np.nonzero(mine)
    weight = np.clip(charge[rows, columns], 0, None)
    if not weight.any():
        weight = np.ones(len(rows))
    weight = weight / weight.sum()
    y, x = weight @ rows, weight @ columns
    dx, dy = columns - x, rows - y
    xx, yy, xy = weight @ dx**2, weight @ dy**2, weight @ (dx * dy)
    mean, difference = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    angle = np.arctan2(2 * xy, xx - yy) / 2
    # The variance of a uniform line of length L is L**2 / 12; diffusion and pixels widen it alike in both directions.
    length, width = np.sqrt(12 * 2 * difference), np.sqrt(8 * np.log(2) * max(0.0, mean - difference))
    straightness, kind = np.nan, "spot"
    if length >= SHORT:
        straightness = _straightness(dx, dy, angle, weight)
        kind = "track" if straightness >= STRAIGHT else "worm"
    found = {"length": length, "width": width, "angle": np.rad2deg(angle) % 180, "straightness": straightness}
    return y, x, {**found, "class": kind}


def _straightness(dx, dy, angle, weight, step=2.0):
    """Return the distance of a hit's ends over the way along its ridge, in steps along its long axis."""
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx
    bins = ((along - along.min()) / step).astype(int)
    charge = np.bincount(bins, weight)
    there = charge > 0.02 * charge.max()
    ridge = np.stack([np.bincount(bins, weight * w)[there] / charge[there] for w in (along, across)])
    if ridge.shape[1] < 2:
        return 1.0
    way = np.hypot(*np.diff(ridge)).sum()
    # What bends back along the long axis is wide there.
    spread = np.bincount(bins, weight * across**2)[there] / charge[there] - ridge[1] ** 2
    ends = np.hypot(*(ridge[:, -1] - ridge[:, 0]))
    wide = max(0.0, np.sqrt(np.average(np.clip(spread, 0, None), weights=charge[there])) - DIFFUSED)
    return float(ends / (way + 2 * wide))


def _near_stars(image, mask, bad, sections, sky, table):
    """Return which hits have a source nearby that is not a hit."""
    from scipy.spatial import KDTree

    if not len(table):
        return np.zeros(0, bool)
    plane = sky_subtracted(image, sections, ~bad, sky)
    plane = np.ascontiguousarray(np.where(bad | mask | np.isnan(plane), 0, plane), np.float32)
    try:
        _, sources = extract(plane, bad | mask, 5)
    except TooCrowded:
        return np.ones(len(table), bool)
    near = np.zeros(len(table), bool)
    if not len(sources):
        return near
    places = np.stack([table["x"], table["y"]], 1)
    reach = NEAR_STAR + np.sqrt(sources["npix"] / np.pi) + 1
    centres = np.stack([sources["x"], sources["y"]], 1)
    # The ends of a long hit may be near, too.
    tree = KDTree(places)
    for found in tree.query_ball_point(centres, reach):
        near[found] = True
    half = np.stack([np.cos(np.deg2rad(table["angle"])), np.sin(np.deg2rad(table["angle"]))], 1)
    half *= np.asarray(table["length"])[:, None] / 2
    for ends in (places + half, places - half):
        for found in KDTree(ends).query_ball_point(centres, reach):
            near[found] = True
    return near


def footprints(image, mask, hits):
    """Return the charge of hits, pixel by pixel.

    Parameters
    ----------
    image, mask : `numpy.ndarray`
        As for `measure_hits`.
    hits : `astropy.table.QTable`
        What it returned for them.

    Returns
    -------
    list of `numpy.ndarray`
        For each hit a float32 stamp of charge in electrons above the local background, 0 outside of it and where it is
        below 3 sigma; empty where the gain is not known.
    """
    numbers, _ = label(np.asarray(mask, bool), _AROUND)
    stamps = []
    for number, (box, hit) in enumerate(zip(find_objects(numbers), hits, strict=True), 1):
        excess = np.nan_to_num(np.asarray(image[box], np.float64)) - hit["background"]
        charge = np.where((numbers[box] == number) & (excess > 3 * hit["noise"]), excess * hit["gain"], 0)
        stamps.append(charge.astype(np.float32) if np.isfinite(hit["gain"]) else np.zeros((0, 0), np.float32))
    return stamps
