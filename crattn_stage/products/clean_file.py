"""A cleaned file: the masked frame with its cosmic rays filled, and a plane that says where."""

import re
from functools import cache, partial

import numpy as np

from crattn_stage.cameras.masks import FILL_PLANE
from crattn_stage.cameras.matching import first_value
from crattn_stage.errors import FrameError
from crattn_stage.fits import writer
from crattn_stage.products import surface
from crattn_stage.products.clean import fill_cards, history
from crattn_stage.products.fill import fill_holes

#: What UTYPE (CCDData), HDUCLAS3 (OGIP) and EXTNAME say of a plane of uncertainties -> the power of the variance that
#: it holds; the first that fits counts.
POWERS = (
    (re.compile(r"INV_?RMSE", re.IGNORECASE), -0.5),
    (re.compile(r"IVAR|INV|WEIGHT|WHT|WGT", re.IGNORECASE), -1.0),
    (re.compile(r"VAR|^MSE$", re.IGNORECASE), 1.0),
    (re.compile(r"ERR|STD|SIG|RMS|UNC", re.IGNORECASE), 0.5),
)


def write_cleaned(frame, settings, stream):
    """Write a cleaned file of a frame that is masked.

    Science pixels change where they are filled and nowhere else; in the planes of uncertainties the same pixels do.
    Mask planes and header cards are those of the masked file, with ``CRFILL`` and ``CRNFILL`` and, for each science
    image, a plane ``CRFILL`` that is 1 where it is filled.  All other HDUs are copied byte for byte.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
        With its marks.
    settings : `crattn_stage.products.settings.MaskSettings`
    stream : binary file

    Raises
    ------
    FrameError
        If pixels cannot be read, are integers to be filled with NaN, or there is no good one.
    """
    # Uncertainties of filled pixels are known, whatever they are in the masked file.
    planes, cards, extra = writer.edits_of(frame, settings.mask_extension, further=[FILL_PLANE])
    marked = [extension for extension in frame.extensions if extension.index in frame.marks]
    counts = {extension.index: len(frame.marks[extension.index].pixels) for extension in marked}
    # Of the whole frame in the primary, unless that is an image itself.
    for index, count in {0: sum(counts.values()), **counts}.items():
        changes = {**cards.get(index, ({},))[0], **fill_cards(settings.clean, count)}
        if "CRFLVAR" in changes:
            changes["CRFLVAR"] = None, changes["CRFLVAR"][1]
        cards[index] = changes, history(settings.clean, count)
    for extension in marked:
        if counts[extension.index]:
            filled = cache(partial(_filled, frame, extension, settings.clean))
            planes[extension.index] = partial(_science, frame, extension, filled, cards.pop(extension.index))
            for index, role in extension.uncertainties:
                planes[index] = partial(_uncertainty, frame, extension, index, role, filled)
    frame.file.copy(stream, planes, cards, extra)


def _filled(frame, extension, fill):
    ccd, sections = frame.read(extension), [a.section for a in extension.amplifiers]
    try:
        with np.errstate(over="ignore"):
            image = ccd.data.astype(np.float32, copy=False)
        return fill_holes(image, frame.cosmic_rays(extension), ccd.mask, fill, sections)
    except ValueError as error:
        raise FrameError(f"{extension.name}: {error}") from error


def _science(frame, extension, filled, changes):
    return frame.file.replaced(extension.index, frame.cosmic_rays(extension), filled().values, *changes)


def _uncertainty(frame, extension, index, role, filled):
    """Return an HDU of uncertainties as bytes: in holes, those around them times what the fill adds."""
    holes, power = frame.cosmic_rays(extension), _power(frame.file.hdus[index], role)
    plane = frame.file.read(index).reshape(extension.shape)
    good = np.isfinite(plane) & ~holes & (plane > 0)
    around = np.concatenate([_median(near) for _, near in surface.neighbours(plane, holes, good)])
    # Nothing to go by: no information.
    values = np.where(np.isfinite(around), around * filled().inflation ** power, 0.0 if power < 0 else np.inf)
    if plane.dtype.kind != "f":
        values = np.nan_to_num(values, posinf=np.iinfo(plane.dtype).max)
    return frame.file.replaced(index, holes, values, {})


def _power(hdu, role):
    """Return the power of the variance that a plane of uncertainties holds."""
    said = [first_value([hdu.header], card) or "" for card in ("UTYPE", "HDUCLAS3")]
    powers = (power for text in (*said, hdu.name) for pattern, power in POWERS if pattern.search(text))
    if role == "weight":
        # Whatever its name, such as CONF or WT.
        return next((power for power in powers if power < 0), -1.0)
    return next(powers, 1.0)


def _median(near):
    with np.errstate(all="ignore"):
        found = np.full(len(near), np.nan)
        some = np.isfinite(near).any(1)
        found[some] = np.nanmedian(near[some], axis=1)
    return found
