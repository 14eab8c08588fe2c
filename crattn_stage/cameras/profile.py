"""Camera profiles: what is particular to a camera or an archive, as TOML files.

The shipped ones lie in ``profiles/``; a user's in the folders of the environment variable ``CRATTN_CAMERAS`` and in
``cameras`` of the user's configuration folder, and go before the shipped ones.
"""

import os
import re
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from crattn_stage.cameras.matching import match
from crattn_stage.errors import CameraError

SHIPPED = Path(__file__).parent / "profiles"
#: Cards of `crattn_stage.quality.rules` for which a camera may have its own limits.
LIMITED = ("CRFRAC", "CRSTAR", "CRGALAX", "CRRATE", "CRCMPL10", "CRCMPL5", "CRNOISE", "CRPAIRS", "CRDOMAIN")
ROLES = ("science", "mask", "variance", "weight", "other")
#: Ways to write a section, see `crattn_stage.cameras.sections`.
FORMS = ("x1:x2,y1:y2", "x1,y1:x2,y2", "x1:x2,y1:y2 zero-based", "limits", "counts", "extent")


@dataclass(frozen=True)
class Profile:
    """What is known of a camera or an archive; docs/cameras.rst has the format.

    Attributes
    ----------
    name : str
        The stem of its file.
    path : `pathlib.Path`
    family : str
        What the database calls the camera: profiles of one family are of one camera.
    title : str
    references : list of str
        Where its facts are from.
    priority : int
        Profiles are tried from the highest down; 0 is ``generic``, which fits any frame.
    recognise, refuse, calibration, hdus, companions, masks : list of dict
    modes : list of tuple of bool and dict
        Blocks ``[[image]]`` (False) and ``[[spectrum]]`` (True); the first that matches counts.
    tells_spectra : bool
        Whether some of them are of the camera, not for any.
    unmatched : str or None
        The role of image HDUs that no block matches; None leaves it to their content.
    pair : str or None
        How mask planes belong to science planes: "extver", "name" or "order"; None for whichever is unambiguous.
    amplifiers, keywords, values, settings : dict
    """

    name: str
    path: Path
    family: str = ""
    title: str = ""
    references: list = field(default_factory=list)
    priority: int = 50
    recognise: list = field(default_factory=list)
    refuse: list = field(default_factory=list)
    calibration: list = field(default_factory=list)
    modes: list = field(default_factory=list)
    tells_spectra: bool = False
    hdus: list = field(default_factory=list)
    companions: list = field(default_factory=list)
    masks: list = field(default_factory=list)
    unmatched: str | None = None
    pair: str | None = None
    amplifiers: dict = field(default_factory=dict)
    keywords: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)

    def __hash__(self):
        return hash((self.name, self.path))

    @property
    def model(self):
        """The model for frames of this camera, a shipped name or the path of a weights file; None if it has none."""
        named = self.settings.get("model")
        if named and named.endswith(".safetensors"):
            return str(self.path.parent / named)
        return named

    @property
    def mask_settings(self):
        """What the profile sets for masks, a dict: ``grow``, ``grow_threshold``, and the path of ``bad_pixels``."""
        found = {name: self.settings[name] for name in ("grow", "grow_threshold") if name in self.settings}
        if "bad_pixels" in self.settings:
            found["bad_pixels"] = str(self.path.parent / self.settings["bad_pixels"])
        return found


def _is_pattern(value):
    if not isinstance(value, str):
        return False
    try:
        re.compile(value)
    except re.error:
        return False
    return True


def _is_card(key):
    return re.fullmatch(r"[A-Z0-9][A-Z0-9_ .-]*", key) is not None


def _matcher(key, value):
    if key == "EXTNAMES":
        return isinstance(value, list) and value and all(map(_is_pattern, value)), "a list of regular expressions"
    if key == "HDU":
        numbers = value if isinstance(value, list) else [value]
        return all(type(n) is int and n >= 0 for n in numbers), "an HDU number or a list of them"
    if not _is_card(key):
        return None
    return value is False or _is_pattern(value), "a regular expression, or false where the card must be absent"


def _number(value):
    return type(value) in (int, float)


def _texts(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _table(value):
    return isinstance(value, dict) and all((_matcher(k, v) or (False,))[0] for k, v in value.items())


def _flags(value):
    """Flags are the values of bits or codes, or the names that header cards give them."""
    return isinstance(value, list) and all(type(item) in (int, str) for item in value)


def _fixed_sections(value):
    return isinstance(value, list) and all(
        isinstance(v, dict) and set(v) <= {"when", "data"} and _table(v.get("when", {})) and _texts(v.get("data"))
        for v in value
    )


def _limits(value):
    """Limits of the verdict: card = [WARN above, FAIL above]."""
    return isinstance(value, dict) and all(
        key in LIMITED
        and isinstance(pair, list)
        and len(pair) == 2
        and all(map(_number, pair))
        and 0 <= pair[0] <= pair[1]
        for key, pair in value.items()
    )


_STRING = (lambda v: isinstance(v, str), "a text")
_POSITIVE = (lambda v: _number(v) and v > 0, "a number above 0")
_TEXTS = (_texts, "a list of texts")
_MATCH = (_table, "a match table")
_MATCHES = (lambda v: isinstance(v, list) and all(map(_table, v)), "a list of match tables")
_FLAG = (lambda v: type(v) in (int, str) and (isinstance(v, str) or v > 0), "a positive number, or a name")
_FLAGS = (_flags, "a list of numbers or names")


def _one_of(*choices):
    return lambda v: v in choices, " or ".join(f'"{choice}"' for choice in choices)


#: Block -> key -> (check, what it should be).  A block with "*" takes header cards as keys, too.
_FIELDS = {
    "": {
        "title": _STRING,
        "references": _TEXTS,
        "priority": (lambda v: type(v) is int, "a whole number"),
        "extends": _STRING,
        "family": _STRING,
        "unmatched": _one_of(*ROLES),
        "pair": _one_of("extver", "name", "order"),
    },
    "recognise": {"*": None},
    "refuse": {"*": None, "why": _STRING},
    "calibration": {"*": None, "kind": _STRING},
    "image": {"*": None},
    "spectrum": {"*": None},
    "hdus": {"*": None, "role": _one_of(*ROLES)},
    "companions": {
        "role": _one_of("mask"),
        "find": _STRING,
        "replace": _STRING,
        "when": _MATCH,
    },
    "masks": {
        "when": _MATCH,
        "plane": _MATCH,
        "kind": _one_of("bits", "codes"),
        "cosmic_ray": _FLAG,
        "bad": _FLAGS,
        "saturated": _FLAGS,
        "flags": (lambda v: isinstance(v, dict) and all(isinstance(w, str) for w in v.values()), "value = words"),
        "names": _STRING,
        "extension": _STRING,
        "dtype": _one_of("uint8", "int16", "uint16", "int32", "uint32", "int64"),
    },
    "amplifiers": {
        "names": _TEXTS,
        "data": _TEXTS,
        "trim": _TEXTS,
        "overscan": _TEXTS,
        "form": _one_of(*FORMS),
        "columns": _TEXTS,
        "rows": _TEXTS,
        "whole": _MATCHES,
        "fixed": (_fixed_sections, 'a list of { when = {...}, data = ["[x1:x2,y1:y2]"] }'),
        "unbinned": (lambda v: isinstance(v, bool), "true or false"),
    },
    "keywords": {
        name: _TEXTS
        for name in (
            *("gain", "read_noise", "saturation", "exposure", "pixel_size", "binning", "type", "camera", "site"),
            *("mode", "disperser", "slit"),
            *("night", "date", "time", "mjd", "longitude", "longitude_west"),
        )
    }
    | {"pixel_size_binned": (lambda v: isinstance(v, bool), "true or false")},
    "values": {
        "gain": _POSITIVE,
        "read_noise": _POSITIVE,
        "saturation": _POSITIVE,
        "exposure": _POSITIVE,
        "pixel_size": _POSITIVE,
        "longitude": (lambda v: _number(v) and -360 <= v <= 360, "degrees east"),
        "unit": _one_of("adu", "electron", "other"),
        "site": _STRING,
        "camera": _STRING,
    },
    "settings": {
        "model": _STRING,
        "threshold": (lambda v: _number(v) and 0 < v < 1, "a probability"),
        "grow": (lambda v: type(v) is int and 0 <= v <= 50, "pixels, 0 to 50"),
        "grow_threshold": (lambda v: _number(v) and 0 < v < 1, "a probability"),
        "bad_pixels": _STRING,
        "no_information": _one_of("inf", "nan", "zero"),
        "minimum_exposure": (lambda v: _number(v) and v >= 0, "seconds"),
        "limits": (_limits, f"card = [WARN above, FAIL above], of {', '.join(LIMITED)}"),
    },
}
_LISTS = ("recognise", "refuse", "calibration", "image", "spectrum", "hdus", "companions", "masks")
_REQUIRED = {"refuse": ("why",), "calibration": ("kind",), "hdus": ("role",), "companions": ("role", "find", "replace"),
             "masks": ("kind", "cosmic_ray")}  # fmt: skip


def load_profile(path):
    """Read and check a profile.

    Parameters
    ----------
    path : path-like
        Of a TOML file; the manual's page on cameras has the format.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    CameraError
        If it cannot be read or does not keep to the format; names file, line and key.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        # A pipe would be waited for.
        raise CameraError(f"{path}: not a regular file")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise CameraError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CameraError(f"{path}: {error}") from error

    if not content:
        raise CameraError(f"{path}: it is empty")

    def complain(block, number, key, what):
        place = f"[{block}] {key}" if block else key
        raise CameraError(f"{path}: line {_line(text, block, number, key)}: {place}: {what}")

    for name, value in content.items():
        if name in _FIELDS[""]:
            check, what = _FIELDS[""][name]
            if not check(value):
                complain("", 0, name, f"not {what}")
            continue
        if not name or name not in _FIELDS:
            complain("", 0, name, f"unknown; {', '.join([*_FIELDS[''], *list(_FIELDS)[1:]])} are known")
        if not isinstance(value, list if name in _LISTS else dict):
            complain("", 0, name, f"write it as {f'[[{name}]]' if name in _LISTS else f'[{name}]'}")
        for number, block in enumerate(value if name in _LISTS else [value]):
            for key, item in block.items():
                known = _FIELDS[name].get(key)
                if known is None and "*" in _FIELDS[name]:
                    known = _matcher(key, item)
                    check = known and known[0]
                else:
                    check = known and known[0](item)
                if known is None:
                    complain(name, number, key, "unknown")
                if not check:
                    complain(name, number, key, f"not {known[1]}")
            for key in _REQUIRED.get(name, ()):
                if key not in block:
                    complain(name, number, key, "is missing")
            matching = name in ("recognise", "hdus", "refuse", "calibration", "image", "spectrum")
            if matching and not set(block) - {"why", "kind", "role"}:
                complain(name, number, "", "matches anything: give a card")
    return content


def _line(text, block, number, key):
    """Return the line of a key in a TOML text, as well as can be told; that of its block without one."""
    inside, count, start = block == "", -1, 1
    for index, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[{1,2}\s*([\w-]+)", line)
        if header:
            count += header[1] == block
            inside = header[1] == block and (count == number or not line.strip().startswith("[["))
            start = index if inside else start
        if re.match(rf'\s*\[{{0,2}}\s*["\']?{re.escape(key)}["\']?\s*[=\].]', line) and (inside or not block):
            return index
    return start


def _build(name, path, content, parent):
    """Put a profile on top of the one that it extends: its blocks go first, its keys replace single keys."""
    fields = {"name": name, "path": path, "title": content.get("title", name), "priority": content.get("priority", 50)}
    fields["references"] = content.get("references", [])
    inherited = parent.family if parent and parent.name != "generic" else name
    # The database and `--instrument` do not tell capital letters from small ones.
    fields["family"] = content.get("family", inherited).lower()
    # What recognises a frame is each profile's own.
    fields["recognise"] = content.get("recognise", [])
    for key in ("refuse", "calibration", "hdus", "companions", "masks"):
        fields[key] = [*content.get(key, []), *(getattr(parent, key) if parent else [])]
    modes = [(name == "spectrum", table) for name in ("image", "spectrum") for table in content.get(name, [])]
    fields["modes"] = [*modes, *(parent.modes if parent else [])]
    fields["tells_spectra"] = bool(parent and (modes or parent.tells_spectra))
    for key in ("amplifiers", "keywords", "values", "settings"):
        fields[key] = {**(getattr(parent, key) if parent else {}), **content.get(key, {})}
    rules = fields["amplifiers"]
    if rules.get("form") in ("limits", "counts", "extent"):
        sizes = (2, 4) if rules["form"] == "counts" else (2,)
        cards = [rules[axis] for axis in ("columns", "rows") if axis in rules]
        if not cards or any(len(one) not in sizes for one in cards):
            raise CameraError(
                f'{path}: [amplifiers] form = "{rules["form"]}": give columns, rows or both, each of '
                f"{' or '.join(map(str, sizes))} cards"
            )
    for key in ("unmatched", "pair"):
        fields[key] = content.get(key, getattr(parent, key) if parent else None)
    return Profile(**fields)


def folders():
    """Return the folders of a user's own profiles, the first one first.

    Returns
    -------
    list of `pathlib.Path`
        Those of ``CRATTN_CAMERAS``, separated as in PATH, then ``cameras`` in the user's configuration folder.
    """
    from platformdirs import user_config_path

    named = [Path(folder) for folder in os.environ.get("CRATTN_CAMERAS", "").split(os.pathsep) if folder]
    for folder in named:
        if not folder.is_dir():
            raise CameraError(f"{folder}: not a folder of camera profiles (CRATTN_CAMERAS)")
    return [*named, user_config_path("crattn-stage") / "cameras"]


def profiles():
    """Return all profiles in the order in which they are tried.

    Returns
    -------
    list of `Profile`
        A user's before the shipped ones, of each those of a higher priority first; ``generic`` is last.  A user's
        profile hides a shipped one of the same name.

    Raises
    ------
    CameraError
        If one of them does not keep to the format.
    """
    own = tuple(
        (path, path.stat().st_mtime_ns)
        for folder in folders()
        # Not Path.is_dir, which fails where a folder above may not be read.
        if os.path.isdir(folder)
        for path in sorted(folder.glob("*.toml"))
    )
    return _profiles(own + _shipped())


@lru_cache(1)
def _shipped():
    """Return the shipped profiles; they do not change while a process runs."""
    files = tuple((path, 0) for path in sorted(SHIPPED.glob("*.toml")))
    if not files:
        raise CameraError(f"{SHIPPED}: the camera profiles of the package cannot be read")
    return files


@lru_cache(4)
def _profiles(files):
    paths = {}
    for path, _ in files:
        paths.setdefault(path.stem, path)
    contents = {name: load_profile(path) for name, path in paths.items()}
    built = {}

    def build(name, child=None):
        if name not in contents:
            raise CameraError(f"{paths[child]}: extends {name!r}, of which there is no profile")
        if name not in built:
            above = contents[name].get("extends", None if name == "generic" else "generic")
            built[name] = None
            parent = build(above, name) if above else None
            built[name] = _build(name, paths[name], contents[name], parent)
        if built[name] is None:
            raise CameraError(f"{paths[name]}: extends itself")
        return built[name]

    everything = [build(name) for name in contents]
    return sorted(everything, key=lambda p: (p.name == "generic", p.path.parent == SHIPPED, -p.priority, p.name))


def find_profile(name):
    """Return a profile by its name.

    Parameters
    ----------
    name : str

    Returns
    -------
    `Profile`

    Raises
    ------
    CameraError
        If there is none of that name.
    """
    found = next((profile for profile in profiles() if profile.name == name), None)
    if found is None:
        raise CameraError(f"no profile of a camera {name!r}; crattn-stage cameras list names them")
    return found


def recognise(headers, filename="", names=()):
    """Return the profile of the camera or archive that a frame is of.

    Parameters
    ----------
    headers : list of `astropy.io.fits.Header`
        The primary header, then those of the image HDUs.
    filename : str
        The file's name without its folder.
    names : iterable of str
        The EXTNAMEs of the file.

    Returns
    -------
    profile : `Profile`
        ``generic`` for a frame that no other fits.
    why : dict
        The cards that told, with their values.

    Raises
    ------
    CameraError
        If a profile does not keep to the format.
    """
    names = list(names)
    for profile in profiles():
        for table in profile.recognise:
            found = match(table, headers, filename, names, types=profile.keywords.get("type", ()))
            if found is not None:
                return profile, found
    return find_profile("generic"), {}
