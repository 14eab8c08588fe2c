"""A page to look at a masked frame: one HTML file with the pixels, the probability and the hits inside."""

import base64
import hashlib
import zlib
from pathlib import Path

import numpy as np
from scipy import ndimage

from crattn_stage import __version__
from crattn_stage.cameras.facts import calibration_frame
from crattn_stage.detection.model import enclosing
from crattn_stage.detection.preprocessing import measure_sky, significance
from crattn_stage.errors import FrameError, printable
from crattn_stage.fits.atomic import check_targets, replacing
from crattn_stage.products.hits import measure_hits

#: Pixels of the detectors that a page holds without being asked for more: some 40 MB.
MOST_PIXELS = 36_000_000
#: Hits that a detector's table lists, the brightest.
MOST_HITS = 3000
#: Pixels are arcsinh((value - sky) / (2 sigma)), of which these limits become 0 and 255.
SHADES = (-1.5, 9.5)
#: Probabilities are logits in steps of this, the threshold at `AT_THRESHOLD`, which a pixel above it has at least.
LOGIT_STEP, AT_THRESHOLD = 0.08, 128
#: Bits of the plane of flags.
MASKED, NOT_SEARCHED = 1, 2
_LOGIT_LIMIT = 1e-6


def write_view(frame, stage, target, extensions=(), overwrite=False):
    """Write a page to look at a frame: image and mask to blink, a table of hits, a slider for the threshold.

    The page needs no other file and no network, and runs no script but its own.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
        One that carries our mask is shown with it; any other is masked in memory.
    stage : `crattn_stage.stage.AttentionCRStage`
        Makes the mask, and the probability in any case.
    target : path-like
    extensions : sequence of str
        Names or HDU numbers of the detectors to show; by default as many as `MOST_PIXELS` allows, from the first.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    bytes : int
        The size of the page.
    left_out : list of str
        Names of the detectors that are not shown.

    Raises
    ------
    FrameError
        If the frame is no image of the sky, has no such detector or no good pixel, or the page cannot be written.
    """
    check_targets([target], overwrite)
    if frame.exposure.calibration_type:
        raise FrameError(
            f"{calibration_frame(frame.exposure.calibration_type)}: it is not masked, so there is nothing to look at"
        )
    chosen = _chosen(frame.extensions, extensions)
    left_out = [e.name for e in frame.extensions if e not in chosen]
    frame.extensions = chosen
    threshold = _own_threshold(frame)
    if threshold is None:
        stage.do_stage(frame)
        masks = {e.index: frame.cosmic_rays(e) for e in chosen}
        threshold = stage.threshold_for(frame.profile)
    else:
        masks = {e.index: frame.masked(e) for e in chosen}
    detectors, planes = [], []
    for extension, ccd in frame.ccds():
        amplifiers = frame.amplifiers(extension)
        found = masks[extension.index]
        probability, searched = stage.probability(
            ccd.data, ccd.mask, amplifiers, frame.saturation(extension), frame.exposure.is_spectrum
        )
        found = np.zeros(searched.shape, bool) if found is None else found
        detector, packed = _detector(extension.name, ccd.data, amplifiers, found, searched, probability, threshold)
        detectors.append(detector)
        planes.append(packed)
    page = _page(frame, stage, threshold, detectors, planes, left_out).encode()
    try:
        with replacing([target], overwrite) as (stream,):
            stream.write(page)
    except OSError as error:
        raise FrameError(f"cannot write {target}: {error.strerror}") from error
    return len(page), left_out


def _chosen(extensions, names):
    """Return the detectors to show."""
    if not names:
        sizes = np.cumsum([np.prod(e.shape, dtype=np.int64) for e in extensions])
        return extensions[: max(1, np.count_nonzero(sizes <= MOST_PIXELS))]
    chosen = []
    for name in names:
        found = [e for e in extensions if name in (e.name, str(e.index))]
        if not found:
            known = ", ".join(f"{e.index} {e.name}".strip() for e in extensions)
            raise FrameError(f"it has no detector {name}; known: {known}")
        chosen += [e for e in found if e not in chosen]
    return chosen


def _own_threshold(frame):
    """Return the threshold at which a run of ours masked a frame, or None."""
    value = frame.header.get("CRPMIN")
    known = isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if known and frame.header.get("L1STATCR") == 1 else None


def _detector(name, image, amplifiers, found, searched, probability, threshold):
    """Return what the page says of a detector, and its planes, packed."""
    sections = [a.section for a in amplifiers]
    window = enclosing(sections)
    sky = measure_sky(image, ~searched, sections)
    inside = np.zeros(found.shape, bool)
    inside[window] = found[window]
    hits = measure_hits(image, inside, ~searched, None, amplifiers, None, None, sky)
    found, searched, probability = found[window], searched[window], probability[window]
    low, high = SHADES
    shade = (np.arcsinh(significance(image, sections, sky)[window] / 2) - low) * (255 / (high - low))
    level = _levels(probability, threshold)
    # What is above the threshold and not in the mask was left out for a reason that no threshold changes.
    level[(level >= AT_THRESHOLD) & ~found] = 0
    flags = MASKED * found.astype(np.uint8) + NOT_SEARCHED * (~searched).astype(np.uint8)
    rows, columns = window
    detector = {
        "name": printable(name),
        "height": found.shape[0],
        "width": found.shape[1],
        # Of the first pixel, as FITS counts.
        "x": columns.start + 1,
        "y": rows.start + 1,
        "hits": _rows(hits, found, level, columns.start, rows.start),
        "searched": int(np.count_nonzero(searched)),
    }
    return detector, [_packed(np.clip(np.rint(shade), 0, 255).astype(np.uint8)), _packed(level), _packed(flags)]


def _levels(probability, threshold):
    """Return probabilities as bytes: steps of the logit from that of the threshold, 0 for none."""

    def logit(p):
        p = np.clip(p, _LOGIT_LIMIT, 1 - _LOGIT_LIMIT)
        return np.log(p / (1 - p))

    threshold = np.float32(threshold)
    steps = np.floor((logit(probability.astype(np.float64)) - logit(np.float64(threshold))) / LOGIT_STEP)
    above = probability > threshold
    steps = np.where(above, np.clip(steps, 0, 127), np.clip(steps, -127, -1)) + AT_THRESHOLD
    return np.where(probability > 0, steps, 0).astype(np.uint8)


def _rows(hits, found, level, left, bottom):
    """Return rows of x, y (0 is the first pixel of the window), pixels, peak S/N and highest level of the hits."""
    if not len(hits):
        return []
    # In the order of `measure_hits`.
    numbers, count = ndimage.label(found, np.ones((3, 3)))
    highest = ndimage.maximum(level, numbers, np.arange(1, count + 1))
    # Of a dead amplifier there is no noise.
    peak = np.nan_to_num(hits["peak_snr"], posinf=0.0)
    x, y = hits["x"].value - left, hits["y"].value - bottom
    return [
        [round(float(x[i]), 1), round(float(y[i]), 1), int(hits["pixels"][i]), float(f"{peak[i]:.3g}"), int(highest[i])]
        for i in np.argsort(-peak, kind="stable")[:MOST_HITS]
    ]


def _packed(plane):
    return base64.b64encode(zlib.compress(plane.tobytes(), 6)).decode()


def _page(frame, stage, threshold, detectors, planes, left_out):
    from markupsafe import Markup

    from crattn_stage.products.pages import templates

    escaped = templates("crattn_stage.products")
    exposure, model = frame.exposure, stage.provenance["model"]
    script = escaped.loader.get_source(escaped, "view.js")[0]
    facts = {
        "object": frame.header.get("OBJECT"),
        "camera": exposure.camera or frame.profile.title,
        "exposure": f"{exposure.exposure_time:g} s" if exposure.exposure_time else None,
        "night": exposure.night,
        "mask": f"as in the file, by {frame.header.get('L1IDCR')}" if not frame.marks else f"found now, by {model}",
        "probability": f"by {model}",
    }
    data = {
        "detectors": detectors,
        "threshold": threshold,
        "step": LOGIT_STEP,
        "atThreshold": AT_THRESHOLD,
        "shades": SHADES,
        "limit": _LOGIT_LIMIT,
    }
    return escaped.get_template("view.html").render(
        name=Path(frame.path).name,
        facts={name: str(value) for name, value in facts.items() if value},
        notes=[*frame.notes, *([f"not on this page: {', '.join(left_out)}"] if left_out else [])],
        data=data,
        planes=[[Markup(plane) for plane in own] for own in planes],
        script=Markup(script),
        # A browser runs the script of this digest, and no other.
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        most_hits=MOST_HITS,
        version=__version__,
    )
