"""What an image is, by its pixels: an exposure, flags, a variance, a weight.

Names decide first; this is for planes whose names say nothing.  It would rather not know than guess.
"""

import re
from dataclasses import dataclass

import numpy as np

#: Side of the piece of an image that is looked at, pixels.
PIECE = 1024
#: Side of the boxes in which noise is measured, pixels.
BOX = 16
#: More values than this are no flags.
MOST_VALUES = 64
#: Planes are the same exposure, one made from the other, above this correlation of their neighbour differences.
RELATED = 0.3
#: Contrast of a checkerboard, in units of the noise, above which pixels see different colours, and the least number of
#: standard deviations by which it must be certain.
CHECKERED, CERTAIN = 0.25, 20.0
#: Sensors without filters have such a pattern, too, with a contrast of up to 1, but both pairs of opposite pixels are
#: alike in it.  Behind filters only the green ones are: blue differs from red by more than this fraction of it.
PATTERN, COLOURED = 1.5, 0.1
#: Noise over level below which a plane is a map: an exposure would need a hundred million electrons a pixel.
SMOOTH = 1e-4

#: EXTNAMEs that number detectors or amplifiers.
NUMBERED = re.compile(r"(?:[A-Z]{0,8}[ _.-]?)\d{1,3}(?:[ _.-]?[A-Z]{0,2}\d{0,2})", re.IGNORECASE)
#: Cards that only images of detectors have.
DETECTOR_CARDS = (
    *("DETSEC", "CCDSEC", "DATASEC", "BIASSEC", "TRIMSEC", "AMPSEC", "DETSIZE", "CCDSIZE", "CCDNUM", "CCDNAME"),
    *("CCDID", "CHIPID", "AMPID", "AMPNAME", "AMPLIST", "IMAGEID", "CHIPNUM", "EXTNUM", "ESO DET CHIP1 ID"),
)


@dataclass
class Content:
    """What the pixels of a plane look like.

    Attributes
    ----------
    kind : {"exposure", "flags", "map", "empty"}
        "exposure" is anything with noise; a variance that was made from an exposure is, too.
    level, noise : float
        Median, and standard deviation of neighbour differences over sqrt(2).
    lowest : float
    piece : `numpy.ndarray`
        Float32: what was looked at.
    """

    kind: str
    level: float = 0.0
    noise: float = 0.0
    lowest: float = 0.0
    piece: np.ndarray | None = None


def look(plane, side=PIECE):
    """Look at the pixels of a plane.

    Parameters
    ----------
    plane : `numpy.ndarray`
        2-D.
    side : int
        Of the piece in its middle that is looked at, pixels.

    Returns
    -------
    `Content`
    """
    top, left = (max(0, (n - side) // 2) for n in plane.shape)
    piece = plane[top : top + side, left : left + side]
    if piece.dtype.kind == "b":
        piece = piece.astype(np.uint8)
    integers = piece.dtype.kind in "iu"
    with np.errstate(over="ignore", invalid="ignore"):
        piece = piece.astype(np.float32)
        differences = np.diff(piece, axis=1)
    good, differences = piece[np.isfinite(piece)], differences[np.isfinite(differences)]
    if not good.size or not differences.size:
        return Content("empty")
    level, lowest = float(np.median(good)), float(good.min())
    noise = float(1.4826 * np.median(np.abs(differences - np.median(differences))) / np.sqrt(2))
    values = np.unique(good[:: max(1, good.size // 200_000)])
    if values.size == 1:
        return Content("empty", level, 0.0, lowest, piece)
    common = np.count_nonzero(good == level) / good.size
    # Two values are no exposure, however they are mixed.
    few = values.size == 2 or (noise == 0 and values.size <= MOST_VALUES and common > 0.5)
    if few and (integers or (values == np.rint(values)).all()):
        return Content("flags", level, noise, lowest, piece)
    if noise <= SMOOTH * abs(level) or noise == 0:
        return Content("map", level, noise, lowest, piece)
    return Content("exposure", level, noise, lowest, piece)


def is_mosaic(content):
    """Return whether a plane looks like a colour-filter mosaic, in which two green pixels lie across from each other.

    Parameters
    ----------
    content : `Content`

    Returns
    -------
    bool
        False for mosaics of so little light that noise hides the filters, and of white light.
    """
    if content.kind != "exposure":
        return False
    height, width = (n - n % 2 for n in content.piece.shape)
    cells = content.piece[:height, :width]
    with np.errstate(over="ignore", invalid="ignore"):
        # Neither gradients nor readouts by odd and even rows or columns are in it.
        steps = (cells[::2, ::2] + cells[1::2, 1::2] - cells[::2, 1::2] - cells[1::2, ::2]) / 2
    steps = steps[np.isfinite(steps)]
    if not steps.size:
        return False
    middle = np.median(steps)
    spread = 1.4826 * np.median(np.abs(steps - middle))
    if not spread:
        return False
    # Of whole numbers a median is too coarse.  A resampled image has less noise in `steps` than in its pixels.
    step = abs(steps[np.abs(steps - middle) < 3 * spread].mean())
    contrast = step / max(spread, content.noise)
    if contrast < CHECKERED or contrast * np.sqrt(steps.size) < CERTAIN:
        return False
    opposite = [cells[::2, ::2] - cells[1::2, 1::2], cells[::2, 1::2] - cells[1::2, ::2]]
    one, other = (abs(np.nanmean(np.where(np.abs(d) < 5 * content.noise, d, np.nan))) for d in opposite)
    return bool(contrast > PATTERN or abs(one - other) > COLOURED * step)


def _boxes(piece):
    """Return pixels as (number of boxes, pixels in one)."""
    height, width = (n - n % BOX for n in piece.shape)
    boxes = piece[:height, :width].reshape(height // BOX, BOX, width // BOX, BOX)
    return boxes.swapaxes(1, 2).reshape(-1, BOX * BOX)


def _scatter(piece):
    """Return the noise in boxes, from neighbour differences, so that gradients and broad objects do not count."""
    with np.errstate(invalid="ignore"):
        steps = np.diff(piece, axis=1, append=np.nan)
    return 1.4826 * _medians(np.abs(_boxes(steps)), BOX) / np.sqrt(2)


def _medians(boxes, fewest=0):
    """Return the median of each box; NaN where no more than so many of its values are finite."""
    usable = np.isfinite(boxes).sum(1) > fewest
    medians = np.full(len(boxes), np.nan)
    if usable.any():
        medians[usable] = np.nanmedian(boxes[usable], axis=1)
    return medians


def correlation(one, other):
    """Return the correlation of the neighbour differences of two planes of one shape.

    Parameters
    ----------
    one, other : `Content`

    Returns
    -------
    float
        0 where it cannot be told.
    """
    steps = [np.diff(c.piece, axis=1).ravel() for c in (one, other)]
    usable = np.isfinite(steps[0]) & np.isfinite(steps[1])
    for step in steps:
        if usable.any():
            # Cores of stars, hits and zeros are few, and must not decide.
            scale = np.median(np.abs(step[usable])) or 1.0
            usable &= np.abs(step) < 8 * scale
    if np.count_nonzero(usable) < 100:
        return 0.0
    a, b = (step[usable] - step[usable].mean() for step in steps)
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm else 0.0


def explains(plane, exposure):
    """Return what a plane is to an exposure: its "variance", "sigma" or "inverse variance"; "" if none of them.

    The noise in boxes of the exposure must be what the plane says, and the plane must be made from the exposure or
    have hardly any noise of its own: a second exposure is neither.

    Parameters
    ----------
    plane, exposure : `Content`
        Of one shape.

    Returns
    -------
    str
    """
    if plane.lowest < 0:
        return ""
    made_from = abs(correlation(plane, exposure)) > RELATED
    spread = _scatter(exposure.piece)
    with np.errstate(invalid="ignore", divide="ignore"):
        boxes = _medians(_boxes(np.where(plane.piece > 0, plane.piece, np.nan)))
        ratios = {"variance": spread**2 / boxes, "sigma": spread / boxes, "inverse variance": spread**2 * boxes}
    for what, ratio in ratios.items():
        ratio = ratio[np.isfinite(ratio)]
        if ratio.size < 4:
            continue
        limit = 2.0 if what == "sigma" else 4.0
        own = plane.noise / plane.level if plane.level > 0 else np.inf
        # An exposure of another detector can have a level as high as a variance, but not without noise.
        quiet = own < (1e-3 if what == "variance" else 0.02)
        if 1 / limit < np.median(ratio) < limit and (made_from or quiet):
            return what
    return ""


def decide(planes, like_detectors):
    """Decide which of some planes are exposures.

    Parameters
    ----------
    planes : dict of int to `Content`
        By HDU index.
    like_detectors : bool
        Whether names or cards say that each is of a detector of its own.

    Returns
    -------
    roles : dict of int to (str, str)
        HDU index -> role and why.
    undecided : str
        Why it cannot be told; "" if it can.
    """
    roles = {}
    noisy = [i for i, content in planes.items() if content.kind == "exposure"]
    for index, content in planes.items():
        if content.kind != "exposure":
            role = {"flags": "mask", "map": "other", "empty": "other"}[content.kind]
            why = {"flags": "a few whole numbers without noise", "map": "no noise", "empty": "one value"}[content.kind]
            roles[index] = role, why
    if not noisy:
        return roles, "none of its images has the noise of an exposure"
    if len(noisy) == 1:
        roles[noisy[0]] = "science", "the only image with noise"
        return roles, ""
    claims = {}
    for index in noisy:
        others = {
            other: explains(planes[other], planes[index])
            if planes[other].piece.shape == planes[index].piece.shape
            else ""
            for other in noisy
            if other != index
        }
        claims[index] = others
    whole = [index for index, others in claims.items() if all(others.values())]
    if len(whole) == 1:
        roles[whole[0]] = "science", "its noise is what the other planes say"
        for other, what in claims[whole[0]].items():
            roles[other] = "weight" if what == "inverse variance" else "variance", f"{what} of HDU {whole[0]}"
        return roles, ""
    apart = not any(what for others in claims.values() for what in others.values()) and all(
        abs(correlation(planes[a], planes[b])) < RELATED
        for position, a in enumerate(noisy)
        for b in noisy[position + 1 :]
        if planes[a].piece.shape == planes[b].piece.shape
    )
    if apart and like_detectors:
        roles.update({index: ("science", "a detector of its own by name and noise") for index in noisy})
        return roles, ""
    return roles, "it cannot be told which of its images is the exposure"
