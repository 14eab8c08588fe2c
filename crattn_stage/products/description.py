"""What is understood of a frame, in words: for ``crattn-stage inspect``."""

import json

import numpy as np

from crattn_stage.cameras import facts, masks
from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import OpenFrame


def describe(path, target=None):
    """Say what is understood of a frame, without masking it.

    Parameters
    ----------
    path : path-like
    target : path-like, optional
        Where ``run`` would write it.

    Returns
    -------
    dict
        Of JSON's types: ``file``, ``camera``, ``exposure``, ``hdus``, ``detectors``, ``notes``, ``verdict`` ("mask",
        "skip" or "refuse") and ``run``, a sentence on what ``run`` would do.  A file that cannot be read has
        ``file``, ``verdict`` and ``run`` alone.
    """
    try:
        with OpenFrame(path) as frame:
            return _described(frame, path, target)
    except FrameError as error:
        return {"file": str(path), "verdict": "refuse", "run": f"refuses it: {error}"}


def _described(frame, path, target):
    layout = frame.layout
    profile, exposure = layout.profile, layout.exposure
    told = ", ".join(f"{card} {value}" for card, value in layout.recognised_by.items())
    result = {
        "file": str(path),
        "camera": {"profile": profile.name, "title": profile.title, "recognised by": told or "nothing: any camera"},
        "exposure": {
            "type": exposure.observation_type,
            "calibration": exposure.calibration_type,
            "spectrum": exposure.is_spectrum,
            "seconds": exposure.exposure_time,
            "night": exposure.night,
            "camera": exposure.camera,
            "site": exposure.site,
        },
        "hdus": [
            {"index": p.hdu.index, "name": p.hdu.name, "shape": list(p.hdu.shape), "role": p.role, "why": p.why}
            for p in layout.planes
        ],
        "detectors": [],
        "notes": list(layout.notes),
    }
    if layout.refusal:
        return {**result, "verdict": "refuse", "run": f"refuses it: {layout.refusal}"}
    if exposure.calibration_type:
        option = ", unless --arcs is given" if exposure.is_arc else ""
        return {**result, "verdict": "skip", "run": f"skips it: {exposure.calibration_type}{option}"}
    result["detectors"] = [_detector(frame, extension) for extension in layout.extensions]
    if exposure.night is None:
        result["notes"].append("its night is not known: no night label, or no date, time and longitude")
    count = len(layout.extensions)
    where = f" and writes {target}" if target else ""
    if frame.companion:
        where += f", with the mask file {frame.companion.path.name} beside it"
    detectors = f"{count} detector{'s' if count > 1 else ''}" + (" as a spectrum" if exposure.is_spectrum else "")
    return {**result, "verdict": "mask", "run": f"masks {detectors}{where}"}


def _detector(frame, extension):
    profile, header = frame.layout.profile, extension.header
    names = [a.name for a in extension.amplifiers]
    return {
        "index": extension.index,
        "name": extension.name,
        "unit": facts.charge_unit(header, profile) or "other",
        "saturation": facts.saturation(header, profile, names),
        "pixel area": facts.pixel_area(header, profile),
        "amplifiers": [
            {"name": a.name, "section": _fits_section(a.section), "gain": a.gain, "read noise": a.read_noise}
            for a in extension.amplifiers
        ],
        "bad pixels": _bad_pixels(frame, extension),
        "cosmic rays go to": _mask_sentence(frame, extension),
    }


def _fits_section(section):
    rows, columns = section
    return f"[{columns.start + 1}:{columns.stop},{rows.start + 1}:{rows.stop}]"


def _bad_pixels(frame, extension):
    """Return the mask plane that bad pixels are read from, and how many pixels have each flag."""
    named = frame.layout.profile.settings.get("bad_pixels")
    more = [f"those of {named}"] if named else []
    if extension.flags is None:
        return {"from": " and ".join(more) or "no mask plane", "flags": {}}
    which, index, convention = extension.flags
    plane = masks.as_integers(frame._pixels(which, index)).astype(np.int64)
    file = "" if which == "frame" else f" of {frame.companion.path.name}"
    counts = {}
    values, numbers = np.unique(plane[plane != 0], return_counts=True)
    if convention.bits:
        for bit in range(63):
            count = int(numbers[(values >> bit) & 1 == 1].sum())
            if count:
                counts[1 << bit] = count
    else:
        counts = {int(v): int(n) for v, n in zip(values[:32], numbers[:32], strict=True)}
    return {
        "from": " and ".join([f"HDU {index}{file}", *more]),
        "kind": "bits" if convention.bits else "codes",
        "flags": {str(flag): _flag(convention, flag, count) for flag, count in counts.items()},
        "pixels": int(np.count_nonzero(convention.bad_pixels(plane))),
    }


def _flag(convention, flag, count):
    bad = (convention.bad is None and flag != convention.cosmic_ray) or flag in (convention.bad or ())
    use = "saturated" if flag in convention.saturated else "bad" if bad else "not used"
    if flag == convention.cosmic_ray:
        use = "cosmic rays, found anew"
    return {
        "means": convention.words.get(flag, "bad" if convention.bad is None else "not known"),
        "pixels": count,
        "use": use,
    }


def _mask_sentence(frame, extension):
    convention = extension.convention
    kind = "bit" if convention.bits else "code"
    if extension.mask:
        which, index = extension.mask
        file = "" if which == "frame" else f" of {frame.companion.path.name}"
        return f"{kind} {convention.cosmic_ray} of HDU {index}{file}"
    if convention == masks.CR_PLANE:
        return "a new plane CRMASK"
    return f"{kind} {convention.cosmic_ray} of a new plane {convention.extension}"


def as_text(description):
    """Return a description as lines for a terminal.

    Parameters
    ----------
    description : dict
        From `describe`.

    Returns
    -------
    str
    """
    lines = [description["file"]]

    def add(title, text):
        lines.append(f"  {title:11} {text}".rstrip())

    if "camera" in description:
        camera, exposure = description["camera"], description["exposure"]
        add("camera", f"{camera['profile']}: {camera['title']} ({camera['recognised by']})")
        seconds = "exposure time unknown" if exposure["seconds"] is None else f"{exposure['seconds']:g} s"
        kind = exposure["calibration"] or exposure["type"] or "of unknown type"
        add("exposure", f"{kind}, {seconds}, night {exposure['night'] or 'unknown'}")
    detectors = {d["index"]: d for d in description.get("detectors", ())}
    for hdu in description.get("hdus", ()):
        size = " x ".join(map(str, reversed(hdu["shape"])))
        add(f"HDU {hdu['index']}", f"{hdu['name'] or '-':10} {hdu['role']:9} {size}  {hdu['why']}")
        detector = detectors.get(hdu["index"])
        if not detector:
            continue
        saturation = "unknown" if detector["saturation"] is None else f"{detector['saturation']:g}"
        add("", f"  {detector['unit']}, saturation {saturation}")
        for amplifier in detector["amplifiers"]:
            gain = "unknown" if amplifier["gain"] is None else f"{amplifier['gain']:g} e-/ADU"
            noise = "unknown" if amplifier["read noise"] is None else f"{amplifier['read noise']:g} e-"
            label = f"amplifier {amplifier['name']}".strip()
            add("", f"  {label} {amplifier['section']}, gain {gain}, read noise {noise}")
        bad = detector["bad pixels"]
        add("", f"  bad pixels: {bad['from']}" + (f", {bad['pixels']} pixels" if "pixels" in bad else ""))
        for flag, what in bad["flags"].items():
            add("", f"    {flag}: {what['means']}, {what['pixels']} pixels, {what['use']}")
        add("", f"  cosmic rays go to {detector['cosmic rays go to']}")
    for note in description.get("notes", ()):
        add("note", note)
    add("run", description["run"])
    return "\n".join(lines)


def starting_profile(path):
    """Write a profile to start from for the camera of a frame.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
        TOML: what tells the camera, what is understood today, and what is to be checked.

    Raises
    ------
    FrameError
        If the file cannot be read.
    """
    with OpenFrame(path) as frame:
        layout = frame.layout
        header, profile = layout.header, layout.profile
        known = [card for card in ("INSTRUME", "TELESCOP", "DETECTOR", "ORIGIN") if header.get(card)][:2]
        lines = [f"title = {json.dumps(layout.exposure.camera or 'My camera')}", "references = []", "priority = 50"]
        told = [_matching(card, header[card]) for card in known]
        lines += ["", "[[recognise]]", *(told or ['# INSTRUME = "give a card that tells the camera"'])]
        for plane in layout.planes:
            name, decided = plane.hdu.header.get("EXTNAME"), plane.role != "undecided"
            lines += ["", "[[hdus]]" if decided else "[[hdus]]  # not decided: check it"]
            lines += [f'role = "{plane.role if decided else "science"}"']
            lines += [_matching("EXTNAME", name) if name else f"HDU = {plane.hdu.index}"]
        flags = next((e.flags for e in layout.extensions if e.flags), None)
        if flags:
            convention = flags[2]
            lines += ["", "[[masks]]  # what the flags mean: check it"]
            lines += [
                f'kind = "{"bits" if convention.bits else "codes"}"',
                f"cosmic_ray = {convention.cosmic_ray or 8}",
            ]
            lines += [] if convention.bad is None else [f"bad = {list(convention.bad)}"]
        lines += ["", "[keywords]"]
        for fact, cards in profile.keywords.items():
            if isinstance(cards, list):
                there = [card for card in cards if card.partition(" [")[0].replace("{name}", "") in header]
                lines += [f"{fact} = {json.dumps(there[:2])}"] if there else []
        lines += ["", "[values]  # where no card says it"]
        if facts.longitude(header, profile) is None:
            lines += ["# longitude = -70.8  # degrees east"]
        lines += ["", "[settings]", '# bad_pixels = "bad-pixels.fits"', "# threshold = 0.5", ""]
        return "\n".join(lines)


def _matching(card, value):
    """Return a line of a match table that fits a value and no other."""
    pattern = "".join(f"\\{c}" if c in ".^$*+?{}[]|()\\" else c for c in str(value).strip())
    return f"{card} = {json.dumps(pattern)}"
