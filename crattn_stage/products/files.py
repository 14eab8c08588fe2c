"""The files that are written beside a masked frame: their names, and what writes them."""

import io
import re
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from crattn_stage.errors import printable
from crattn_stage.fits.names import product_path, split_name
from crattn_stage.products.clean_file import write_cleaned
from crattn_stage.products.fill import check_fill

#: Colours of the classes of hits in DS9.
COLOURS = {"track": "red", "worm": "cyan", "spot": "yellow"}


def product_files(frame, target, settings):
    """Return the files that are asked for beside a masked frame.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
    target : path-like
        Of the masked frame.
    settings : `crattn_stage.products.settings.MaskSettings`

    Returns
    -------
    list of tuple
        (path, function that writes to a binary file), as for `crattn_stage.fits.frame.ObservationFrame.write`; the
        function is called when the frame is masked.
    """
    found = []
    if settings.clean:
        check_fill(settings.clean)
        ending = f"-clean{split_name(Path(target).name)[1]}"
        found.append((product_path(target, ending), partial(write_cleaned, frame, settings)))
    if settings.hits:
        found.append((product_path(target, f"-hits.{settings.hits}"), partial(_write_hits, frame, settings.hits)))
    if settings.regions:
        taken = set()
        for number, extension in enumerate(frame.extensions):
            ending = ".reg"
            if len(frame.extensions) > 1:
                # The name of an extension may hold anything.
                name = re.sub(r"[^A-Za-z0-9_+]+", "_", extension.name)[:40]
                ending = f"-{name}.reg" if name not in taken else f"-{name}-{extension.index}.reg"
                taken.add(name)
            found.append((product_path(target, ending), partial(_write_regions, frame, number)))
    return found


def _write_hits(frame, kind, stream):
    """Write the hits of all detectors as one table, and in FITS their footprints, as training reads them."""
    from crattn_stage.products.hits import join_hits

    table = join_hits([detection.hits for detection in frame.detections])
    table.add_column(np.arange(len(table)), 0, "id")
    table["id"].info.description = "of the hit in this file, and of its footprint (fp_id)"
    table.meta = {"FRAME": printable(frame.path.name), **{k: v[0] for k, v in frame.cards.items() if v[0] is not None}}
    if kind == "ecsv":
        text = io.StringIO()
        table.write(text, format="ascii.ecsv")
        stream.write(text.getvalue().encode())
        return
    # The electron is no unit of the FITS standard, but one that everybody understands.
    described = [column.info.description for column in table.itercols()]
    table["charge"] = table["charge"].value
    hdu = fits.table_to_hdu(table)
    hdu.columns["charge"].unit, hdu.name = "electron", "HITS"
    for number, text in enumerate(described, 1):
        hdu.header.set(f"TCOMM{number}", text, after=f"TFORM{number}")
    stamps = [stamp for detection in frame.detections for stamp in detection.footprints]
    fits.HDUList([fits.PrimaryHDU(), hdu, footprint_table(stamps)]).writeto(stream)


def footprint_table(stamps):
    """Return stamps of charge as a table, a row for each horizontal span of a hit.

    Parameters
    ----------
    stamps : list of `numpy.ndarray`
        2-D, charge in electrons, 0 outside of the hit.

    Returns
    -------
    `astropy.io.fits.BinTableHDU`
        ``COSMIC_RAYS``, with ``fp_id`` (place in the list), ``x0``, ``y0`` and ``pixel_values`` (electron).
    """
    rows = []
    for number, stamp in enumerate(stamps):
        for y, line in enumerate(stamp):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], line > 0, [0]])))
            rows += [(number, start, y, line[start:stop]) for start, stop in edges.reshape(-1, 2)]
    identity, x, y, values = zip(*rows, strict=True) if rows else ((),) * 4
    spans = np.empty(len(values), object)
    spans[:] = values
    return fits.BinTableHDU.from_columns(
        [
            fits.Column("fp_id", "J", array=np.array(identity, int)),
            fits.Column("x0", "J", array=np.array(x, int)),
            fits.Column("y0", "J", array=np.array(y, int)),
            fits.Column("pixel_values", "PE()", unit="electron", array=spans),
        ],
        name="COSMIC_RAYS",
    )


def _write_regions(frame, number, stream):
    """Write the hits of a detector as DS9 boxes in image coordinates."""
    from astropy import units
    from regions import PixCoord, RectanglePixelRegion, Regions

    hits = frame.detections[number].hits
    boxes = []
    for hit in hits:
        place, size = PixCoord(hit["x"].value, hit["y"].value), (hit["length"].value + 3, hit["width"].value + 3)
        kind = str(hit["class"])
        box = RectanglePixelRegion(place, *size, angle=hit["angle"].to(units.deg))
        box.meta["tag"], box.visual["color"] = [kind], COLOURS[kind]
        boxes.append(box)
    text = Regions(boxes).serialize(format="ds9")
    stream.write(f"# EXTNAME {printable(frame.extensions[number].name)}\n{text}\n".encode("ascii", "replace"))
