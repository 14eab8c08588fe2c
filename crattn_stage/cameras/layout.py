"""What the HDUs of a frame are: which are detectors, and where their masks are.

`understand` takes headers, and a function for pixels that it calls only where names and cards do not tell.
"""

import re
from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

from crattn_stage.cameras import content, facts, masks
from crattn_stage.cameras.dispersion import dispersion
from crattn_stage.cameras.matching import first_value, match
from crattn_stage.cameras.profile import Profile, recognise
from crattn_stage.cameras.sections import read_amplifiers
from crattn_stage.errors import FrameError

#: HDUs of unknown names whose pixels are looked at; more detectors than that are judged by these.
MOST_LOOKED_AT = 6
#: Fewest rows and columns of an image of a detector.
NARROWEST = 8


@dataclass(frozen=True)
class Hdu:
    """An HDU as its header describes it.

    Attributes
    ----------
    index : int
        In the file.
    header : `astropy.io.fits.Header`
        Of the image, uncompressed.
    name : str
        EXTNAME, upper case; "" without one.
    version : int
        EXTVER; 1 without one.
    shape : tuple of int
        Of its image, axes of length 1 in front of the last two left out; () where it is no image.
    """

    index: int
    header: fits.Header
    name: str
    version: int
    shape: tuple

    def __str__(self):
        return f"HDU {self.index}" + (f" ({self.name})" if self.name else "")


@dataclass
class Plane:
    """What an image HDU is.

    Attributes
    ----------
    hdu : `Hdu`
    role : str
        One of `crattn_stage.cameras.profile.ROLES`, or "undecided".
    why : str
    """

    hdu: Hdu
    role: str
    why: str


@dataclass
class Extension:
    """A detector extension of a frame.

    Attributes
    ----------
    index : int
        Of its HDU in the file.
    name : str
        EXTNAME, with EXTVER where it is not 1; unique in the frame.
    header : `astropy.io.fits.Header`
        Of the image, uncompressed, with the cards of the primary HDU behind it.
    shape : tuple of int
        Rows and columns.
    convention : `crattn_stage.cameras.masks.MaskConvention`
        Of the plane that its cosmic rays go into.
    mask : tuple of (str, int) or None
        File ("frame" or "companion") and HDU index of that plane; None for one to be made.
    version : int
        EXTVER of its mask plane.
    amplifiers : list of `crattn_stage.cameras.sections.Amplifier`
    flags : tuple of (str, int, `crattn_stage.cameras.masks.MaskConvention`) or None
        File, HDU index and convention of the plane that bad pixels are read from.
    uncertainties : list of (int, str)
        HDU index and role, "variance" (standard deviations, too) or "weight", of its planes of uncertainties.
    """

    index: int
    name: str
    header: fits.Header
    shape: tuple
    convention: masks.MaskConvention
    mask: tuple | None
    version: int
    amplifiers: list = field(default_factory=list)
    flags: tuple | None = None
    uncertainties: list = field(default_factory=list)


@dataclass
class Layout:
    """What is understood of a frame.

    Attributes
    ----------
    profile : `crattn_stage.cameras.profile.Profile`
    recognised_by : dict
        The cards that told, with their values.
    header : `astropy.io.fits.Header`
        Of the primary HDU, with the cards of the first science image behind it.
    exposure : `crattn_stage.cameras.facts.Exposure`
    planes : list of `Plane`
        One for each image HDU.
    extensions : list of `Extension`
    notes : list of str
        What was odd, or not taken as it stands.
    refusal : str
        Why the frame must not be masked; "" if it may be.
    """

    profile: Profile
    recognised_by: dict
    header: fits.Header
    exposure: facts.Exposure
    planes: list = field(default_factory=list)
    extensions: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    refusal: str = ""


def identify(hdus, filename=""):
    """Return the camera profile of a frame.

    Parameters
    ----------
    hdus : list of `Hdu`
    filename : str
        Without its folder.

    Returns
    -------
    profile : `crattn_stage.cameras.profile.Profile`
    why : dict
        The cards that told, with their values.
    """
    return recognise(_headers(hdus), filename, _names(hdus))


def companion_name(profile, filename, header):
    """Return the possible names of the mask file that belongs to a frame; empty if there is no rule for it.

    Parameters
    ----------
    profile : `crattn_stage.cameras.profile.Profile`
    filename : str
        Without its folder.
    header : `astropy.io.fits.Header`
        The primary header.

    Returns
    -------
    list of str
        The names to look for, the first one first.
    """
    names = []
    for rule in profile.companions:
        if rule["find"] in filename and match(rule.get("when", {}), [header]) is not None:
            names.append(filename.replace(rule["find"], rule["replace"]))
    return [name for name in dict.fromkeys(names) if name != filename]


#: Cards that describe an HDU itself; those of another say nothing of it.
_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|EXTNAME|EXTVER|EXTLEVEL|BSCALE|BZERO|BLANK|TFIELDS"
    r"|T(FORM|TYPE|DIM|UNIT|NULL|SCAL|ZERO|DISP|BCOL)\d+|THEAP|CHECKSUM|DATASUM|COMMENT|HISTORY|"
)


def with_behind(header, other):
    """Return a copy of a header with the cards of another behind it that it does not have itself.

    Parameters
    ----------
    header, other : `astropy.io.fits.Header`

    Returns
    -------
    `astropy.io.fits.Header`
        Without those of `other` that describe its own HDU, such as NAXIS.
    """
    header = header.copy()
    for card in other.cards:
        if not _STRUCTURE.fullmatch(card.keyword) and card.keyword not in header:
            header.append(card, end=True)
    return header


def _headers(hdus):
    # Planes that an earlier run added tell nothing of the camera.
    return [hdus[0].header, *(h.header for h in hdus[1:] if h.shape and "CRIMAGE" not in h.header)]


def _names(hdus):
    return [h.name for h in hdus if "CRIMAGE" not in h.header]


def understand(hdus, filename="", companion=None, pixels=None, identified=None, calibrations=False, arcs=False):
    """Say what the HDUs of a frame are.

    Parameters
    ----------
    hdus : list of `Hdu`
        All of the file.
    filename : str
        Without its folder.
    companion : list of `Hdu`, optional
        Those of its mask file.
    pixels : callable, optional
        (file, index) -> array, with file "frame" or "companion".  Without it nothing is decided by content.
    identified : tuple, optional
        From `identify`.
    calibrations : bool
        Describe the detectors of a bias, dark or flat, too.
    arcs : bool
        Take arcs for spectra of the sky, which are masked.

    Returns
    -------
    `Layout`

    Raises
    ------
    FrameError
        If there is no image in it, a section is malformed, or it cannot be told what an HDU is.
    """
    profile, why = identified or identify(hdus, filename)
    headers, names = _headers(hdus), _names(hdus)
    images = [h for h in hdus if h.shape]
    layout = Layout(profile, why, hdus[0].header.copy(), None)
    expected = hdus[0].header.get("NEXTEND")
    if isinstance(expected, int) and expected >= len(hdus):
        # A cut-out of one detector, or a file that is still being copied.
        layout.notes.append(f"it has {len(hdus) - 1} of the {expected} extensions of its NEXTEND")
    layout.planes = [_by_profile(h, profile) for h in images]
    calibration = facts.calibration_type(headers, profile, filename, names)
    layout.refusal = facts.refusal(headers, profile, filename, names)
    if calibration and not layout.refusal:
        layout.refusal = _of_kinds(images, profile)
    calibration = "" if calibrations or (arcs and facts.is_arc(calibration)) else calibration
    if not calibration and not layout.refusal:
        layout.refusal = _by_content(layout, pixels)
    detectors = [p.hdu for p in layout.planes if p.role == "science"]
    if calibration or layout.refusal or pixels is None:
        # What the exposure is of counts, not which planes it has.
        detectors = detectors or [p.hdu for p in layout.planes if p.role == "undecided"] or images[:1]
    if detectors:
        # Some pipelines write what was observed on the image alone.
        layout.header = with_behind(layout.header, detectors[0].header)
    layout.exposure = facts.read_exposure(layout.header, profile, headers, filename, names, arcs)
    if (layout.exposure.calibration_type and not calibrations) or layout.refusal:
        return layout
    if not detectors:
        raise FrameError(_nothing_to_mask(images, layout))
    if not layout.exposure.is_arc and not calibrations:
        said = dispersion(headers, profile, filename, names)
        layout.refusal = said.refusal
        layout.notes += [said.note] if said.note else []
        if layout.refusal:
            return layout
    _check_shapes(detectors, layout.notes)
    detectors = [h for h in detectors if len(h.shape) == 2 and 0 not in h.shape]
    _describe(layout, detectors, hdus, companion, pixels)
    return layout


def _of_kinds(images, profile):
    """Return why a file of calibrations and exposures of the sky is refused; "" if its images are of one kind."""
    cards = profile.keywords.get("type", ())
    typed = [h for h in images if any(first_value([h.header], card) for card in cards)]
    kinds = [facts.calibration_type([h.header], profile) for h in typed]
    sky = next((h for h, kind in zip(typed, kinds, strict=True) if not kind), None)
    other = next(((h, kind) for h, kind in zip(typed, kinds, strict=True) if kind), None)
    if sky is None or other is None:
        return ""
    return (
        f"it holds exposures of several kinds: HDU {other[0].index} is a {facts.calibration_frame(other[1])}, HDU "
        f"{sky.index} is not; write each to a file of its own"
    )


def _by_profile(hdu, profile):
    if "CRIMAGE" in hdu.header:
        other = hdu.name in (masks.CR_PLANE.extension, masks.FILL_PLANE.extension, masks.PROBABILITY)
        return Plane(hdu, "other" if other else "mask", "made by an earlier run")
    for block in profile.hdus:
        table = {key: value for key, value in block.items() if key != "role"}
        found = match(table, [hdu.header], index=hdu.index)
        if found is not None:
            said = ", ".join(f"{card} {value}" for card, value in found.items()) or f"HDU {hdu.index}"
            return Plane(hdu, block["role"], said)
    if profile.unmatched:
        return Plane(hdu, profile.unmatched, f"any other in {profile.name}")
    if len(hdu.shape) < 2:
        return Plane(hdu, "other", f"{len(hdu.shape)}-dimensional")
    return Plane(hdu, "undecided", "")


def _by_content(layout, pixels):
    """Decide what names and cards have left open; return why it cannot be told, "" if it can."""
    unknown = [p for p in layout.planes if p.role == "undecided"]
    known = [p for p in layout.planes if p.role == "science"]
    if not unknown or pixels is None:
        return ""
    if known:
        # Where something is called science, what has another name or none is not, unless it looks like an exposure.
        for plane in unknown:
            if _is_another_exposure(plane, known, pixels):
                name = plane.hdu.header.get("EXTNAME")
                which = f'EXTNAME = "{name}"' if name else f"HDU = {plane.hdu.index}"
                return (
                    f"{plane.hdu} is not known and may be a detector, too; a camera profile with [[hdus]] "
                    f'role = "science" or "other", {which} settles it'
                )
            plane.role, plane.why = "other", "its name is not known, and another is the science image"
            if any(plane.hdu.shape == p.hdu.shape for p in known):
                layout.notes.append(f"{plane.hdu} is not known; left as it is")
        return ""
    flat = [p for p in unknown if len(p.hdu.shape) == 2 and 0 not in p.hdu.shape]
    if not flat:
        for plane in unknown:
            plane.role, plane.why = "science", "the only kind of image in it"
        return ""
    for plane in unknown:
        if plane not in flat:
            plane.role, plane.why = "other", f"of shape {plane.hdu.shape}"
            layout.notes.append(f"{plane.hdu} is of shape {plane.hdu.shape}; only 2-D images are masked")
    looked = {p.hdu.index: content.look(pixels("frame", p.hdu.index)) for p in flat[:MOST_LOOKED_AT]}
    numbered = len(flat) > 1 and (_like_detectors(flat) or _unnamed_alike(flat))
    if len(flat) == 1 and looked[flat[0].hdu.index].kind == "empty":
        # The middle of a mask has one value, too.
        looked[flat[0].hdu.index] = content.look(pixels("frame", flat[0].hdu.index), max(flat[0].hdu.shape))
    roles, undecided = content.decide(looked, numbered)
    if not undecided and len(flat) > MOST_LOOKED_AT:
        if not numbered or any(role != "science" for role, _ in roles.values()):
            undecided = "it has too many images of unknown names"
        roles.update({p.hdu.index: ("science", "as those before it") for p in flat[MOST_LOOKED_AT:]})
    if undecided:
        if len(flat) == 1 and looked[flat[0].hdu.index].kind == "empty":
            # A dead detector is refused later, with a clearer message.
            flat[0].role, flat[0].why = "science", "the only image"
            return ""
        seen = ", ".join(f"{p.hdu}: {_kind(looked.get(p.hdu.index))}" for p in flat[:4]) + ", ..." * (len(flat) > 4)
        which = f'EXTNAME = "{flat[0].hdu.name}"' if "EXTNAME" in flat[0].hdu.header else f"HDU = {flat[0].hdu.index}"
        # Most often there is none: planes of flags, maps and simulated light.
        sure = any(look.kind == "exposure" for look in looked.values())
        return (
            f"{undecided} ({seen}); {'' if sure else 'if one is an exposure all the same, '}a camera profile with "
            f'[[recognise]] INSTRUME = ..., [[hdus]] role = "science", {which} settles it'
        )
    for plane in flat:
        plane.role, plane.why = roles[plane.hdu.index]
        look = looked.get(plane.hdu.index)
        # Of fewer rows it is no mosaic, and refused for that.
        if plane.role == "science" and look and min(plane.hdu.shape) >= NARROWEST and content.is_mosaic(look):
            return (
                f"{plane.hdu} is a colour-filter mosaic by its pixels, which differ in a checkerboard: debayer it, or "
                f'split its colours, first; if it is none, a camera profile with [[hdus]] role = "science", '
                f"HDU = {plane.hdu.index} settles it"
            )
    return ""


def _is_another_exposure(plane, known, pixels):
    """Whether an image of unknown name looks like an exposure that is none of the known ones' variance or the like."""
    same = [p for p in known if p.hdu.shape == plane.hdu.shape]
    if not same or len(plane.hdu.shape) != 2 or 0 in plane.hdu.shape:
        return False
    own = content.look(pixels("frame", plane.hdu.index))
    if own.kind != "exposure":
        return False
    others = [content.look(pixels("frame", p.hdu.index)) for p in same[:MOST_LOOKED_AT]]
    return not any(
        content.explains(own, other) or abs(content.correlation(own, other)) > content.RELATED
        for other in others
        if other.kind == "exposure"
    )


def _kind(look):
    return "not looked at" if look is None else {"exposure": "noise", "empty": "one value"}.get(look.kind, look.kind)


def _like_detectors(planes):
    """Whether each of some planes is by its name or cards of a detector or amplifier of its own."""
    names = [p.hdu.name for p in planes]
    stems = {re.sub(r"\d+", "#", name) for name in names}
    if len(stems) == 1 and all(content.NUMBERED.fullmatch(name) for name in names):
        return True
    if len(set(names)) == 1 and names[0] and len({p.hdu.version for p in planes}) == len(planes):
        return True
    return any(
        all(card in p.hdu.header for p in planes)
        and (card in ("DATASEC", "BIASSEC", "TRIMSEC") or len({str(p.hdu.header[card]) for p in planes}) == len(planes))
        for card in content.DETECTOR_CARDS
    )


def _unnamed_alike(planes):
    """Whether some planes have no names, and differ neither in size nor in type: amplifiers of a simple camera."""
    return not any(p.hdu.name for p in planes) and len({(p.hdu.shape, p.hdu.header.get("BITPIX")) for p in planes}) == 1


def _nothing_to_mask(images, layout):
    if not images:
        return "no image in it"
    said = ", ".join(f"{p.hdu}: {p.role}, {p.why}" for p in layout.planes[:4]) + ", ..." * (len(layout.planes) > 4)
    if all(len(p.hdu.shape) < 2 for p in layout.planes):
        return f"no 2-D image in it ({said})"
    return f'no science image in it ({said}); a camera profile with [[hdus]] role = "science" settles it'


def _check_shapes(detectors, notes):
    filled = [h for h in detectors if 0 not in h.shape]
    if not filled:
        raise FrameError("zero-sized image")
    if all(len(h.shape) == 2 and min(h.shape) < NARROWEST for h in filled):
        rows, columns = filled[0].shape
        raise FrameError(f"{filled[0]} is of {columns} x {rows} pixels: spectra extracted from an image, or a table")
    odd = [h for h in filled if len(h.shape) != 2]
    for hdu in odd:
        text = f"HDU {hdu.index} is {len(hdu.shape)}-dimensional, of shape {hdu.shape}; only 2-D images are masked"
        if len(odd) == len(filled):
            raise FrameError(text)
        notes.append(text)


def _describe(layout, detectors, hdus, companion, pixels):
    """Find sections and masks of each detector."""
    primary = hdus[0].header.copy()
    # What holds for the whole exposure stands in the primary; sections are each image's own.
    if len(detectors) > 1 or detectors[0].index:
        del primary["DATASEC*"], primary["TRIMSEC*"], primary["BIASSEC*"]
    versions = [h.version for h in detectors]
    by_version = len({h.name for h in detectors}) == 1 and len(set(versions)) == len(versions)
    for order, hdu in enumerate(detectors, 1):
        header = with_behind(hdu.header, primary)
        version = hdu.version if by_version else order
        name = (hdu.name or f"HDU{hdu.index}") + (f",{hdu.version}" if hdu.version != 1 else "")
        if any(e.name == name for e in layout.extensions):
            name += f"#{hdu.index}"
        amplifiers, notes = read_amplifiers(header, hdu.shape, layout.profile)
        layout.notes += [note if len(detectors) == 1 else f"{name}: {note}" for note in notes]
        extension = Extension(hdu.index, name, header, hdu.shape, masks.GENERIC, None, version, amplifiers)
        _set_mask(extension, hdu, order, len(detectors), layout, hdus, companion, pixels)
        extension.uncertainties = _find_uncertainties(hdu, extension, order, len(detectors), layout)
        layout.extensions.append(extension)


def _set_mask(extension, hdu, order, count, layout, hdus, companion, pixels):
    """Find the mask plane of a detector, and how it says what."""
    profile = layout.profile
    made = masks.convention(profile, extension.header) or masks.GENERIC
    source, plane = _find_mask(hdu, extension, order, count, layout, companion)
    if plane is None:
        # A plane of that name that is there is not to be used.
        taken = any((h.name, h.version) == (made.extension, extension.version) for h in hdus)
        extension.convention = masks.CR_PLANE if taken else made
        return
    behind = [(companion if source == "companion" else hdus)[0].header]
    floats = plane.header["BITPIX"] < 0
    if "CRIMAGE" in plane.header:
        # Made by an earlier run, as this one would make it.
        convention = made
    else:
        convention = None if floats else masks.convention(profile, extension.header, plane.header, behind)
    note, writable = "", True
    if convention is None and pixels is None:
        return
    if convention is None:
        convention, writable, note = masks.convention_by_values(
            masks.as_integers(pixels(source, plane.index)), plane.name or f"HDU {plane.index}", "L1IDCR" in hdu.header
        )
        writable = writable and not floats
    elif convention.bad is None and pixels is not None and "CRIMAGE" not in plane.header:
        masks.check_sense(masks.as_integers(pixels(source, plane.index)), plane.name or f"HDU {plane.index}")
    if not convention.holds_flag(_dtype_of(plane)) and not note:
        writable, note = (
            False,
            f"mask plane {plane.name} of {8 * _dtype_of(plane).itemsize} bits is too narrow for the cosmic-ray flag",
        )
    if note:
        layout.notes.append(note)
    extension.flags = source, plane.index, convention
    if writable:
        extension.mask, extension.convention = (source, plane.index), convention
    else:
        extension.convention = masks.CR_PLANE


def _dtype_of(hdu):
    """Return the integer type of a mask HDU."""
    bits = abs(hdu.header["BITPIX"])
    unsigned = bits == 8 or hdu.header.get("BZERO", 0) == 2 ** (bits - 1)
    return np.dtype(f"{'u' if unsigned else 'i'}{bits // 8}")


def _find_mask(image, extension, order, count, layout, companion):
    """Find the mask plane of a science HDU.

    Returns
    -------
    source : str
        "companion" or "frame".
    plane : `Hdu` or None
    """
    profile, notes = layout.profile, layout.notes
    if companion is not None:
        source = "companion"
        planes = [h for h in companion if len(h.shape) == 2]
        ways = [[h for h in planes if h.name == image.name and h.version == image.version]]
    else:
        source = "frame"
        planes = [p.hdu for p in layout.planes if p.role == "mask"]
        ways = [[h for h in planes if h.header.get("CRIMAGE") == extension.name]]
        if count == len(planes) == 1:
            ways.append(planes)
        if profile.pair in (None, "name"):
            ways.append([h for h in planes if _belongs(image.name, h.name)])
        if profile.pair in (None, "extver"):
            ways.append([h for h in planes if h.version == extension.version])
    if profile.pair in (None, "order") or companion is not None:
        ways.append([planes[order - 1]] if len(planes) == count else [])
    found = next((way[0] for way in ways if len(way) == 1), None)
    if found is None:
        if planes:
            notes.append(f"{image.name or image}: no matching mask plane; set `pair` in the camera profile")
        return source, None
    if found.shape != image.shape:
        notes.append(f"mask plane {found.name} has another shape than {image.name or image}; not used")
        return source, None
    return source, found


def _find_uncertainties(image, extension, order, count, layout):
    """Return (HDU index, role) of the planes of uncertainties that belong to a science HDU; several kinds may."""
    found = []
    for role in ("variance", "weight"):
        planes = [p.hdu for p in layout.planes if p.role == role and p.hdu.shape == image.shape]
        for plane in planes:
            alike = [h for h in planes if h.name == plane.name]
            mine = count == 1 or _belongs(image.name, plane.name)
            if len(alike) == count > 1:
                versions = len({h.version for h in alike}) == count
                mine = plane.version == extension.version if versions else alike[order - 1] is plane
            if mine:
                found.append((plane.index, role))
    return found


def _belongs(image, plane):
    """Whether the name of a plane is that of an image with another word in front or behind: N4 and N4_DQ."""
    one, other = (re.split(r"[ _.,-]+", name) for name in (image, plane))
    if not image or one == other:
        return False
    return other[:-1] in (one, one[:-1] or None) or other[1:] in (one, one[1:] or None)
