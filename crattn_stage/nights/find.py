"""The frames of a night: where they lie, and which night they belong to."""

import os
import re
import stat
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from tqdm import tqdm

from calibration_dbs.provenance import nights_of_paths
from crattn_stage.errors import one_line
from crattn_stage.fits.names import FITS_SUFFIXES, is_output
from crattn_stage.nights.headers import read_headers

#: A date in a path: 20130105, 2013-01-05, 2013.01.05, 2013_01_05, or folders 2013/01/05.
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-._/]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")


def night_of_path(path):
    """Return the night in whose folder a file lies.

    Parameters
    ----------
    path : path-like
        Relative to the root of the data.

    Returns
    -------
    str or None
        YYYYMMDD of the innermost folder that names a date, else of the file's
        name; None where neither does.

    Examples
    --------
    >>> from crattn_stage.nights.find import night_of_path
    >>> night_of_path("lsc/fa15/20130105/processed/x.fits"), night_of_path("2013/01/05/x.fits")
    ('20130105', '20130105')
    """
    path = Path(path)
    for text in (path.parent.as_posix(), path.name):
        dates = _DATE.findall(text)
        if dates:
            year, _, month, day = dates[-1]
            return f"{year}{month}{day}"
    return None


def find_frames(
    root, first, last=None, site="*", instruments=("*",), pattern=None, paths=None, leave=None, database=None
):
    """Find the frames of a night, or of a range of nights.

    A frame's night is that of its header.  Where the header has none, or
    cannot be read, it is the one that the database knows, else that of the
    folder in which the frame lies, else the first one asked for.

    Parameters
    ----------
    root : path-like
        Of the data, laid out ``site/instrument/night/processed`` as BANZAI does.
    first, last : str
        The nights, YYYYMMDD, inclusive; one night without `last`.
    site : str
        Name of a folder, or a shell pattern.
    instruments : sequence of str
        Names of folders, or shell patterns.  With `pattern` or `paths`,
        INSTRUME or the camera family.
    pattern : str, optional
        Shell pattern of files below the root (``**`` crosses folders) instead of that layout.
    paths : list of path-like, optional
        Files to choose from, instead of a layout or pattern.
    leave : path-like, optional
        Folder that is left out: that of the output.
    database : `sqlalchemy.Engine`, optional

    Returns
    -------
    frames : list of `crattn_stage.nights.headers.FrameInfo`
        Of those nights, by path.
    mentioned : list of `crattn_stage.nights.headers.FrameInfo`
        Of such a UT date, or in such a night's folder, but of another night.
    unreadable : dict of str to str
        Folder -> why what is in it could not be found.
    """
    unreadable = {}
    root, last = Path(os.path.abspath(root)), last or first
    if paths is not None:
        found = [Path(os.path.abspath(path)) for path in paths]
    elif pattern is not None:
        found = _matching(root, pattern.split("/"), unreadable)
    else:
        # A frame of this UT date may lie in a neighbour's folder.
        folders = [p for i in instruments for p in _matching(root, [site, i, "*", "processed"], unreadable)]
        near = range(_day(first) - 1, _day(last) + 2)
        folders = [p for p in folders if _DATE.fullmatch(p.parent.name) and _day(p.parent.name) in near]
        found = [p for folder in folders for p in _matching(folder, ["*"], unreadable)]
    kept = []
    for path in sorted(set(found)):
        if leave is not None and path.is_relative_to(os.path.abspath(leave)):
            continue
        # A link to nowhere or a pipe is a frame that cannot be read, and not passed over.
        if not FITS_SUFFIXES.search(path.name) or is_output(path) or os.path.isdir(path):
            continue
        kept.append(path)
    infos = tqdm(read_headers(kept), "reading headers", len(kept), unit="frame", disable=None, leave=False)
    infos = sorted(infos, key=lambda frame: frame.path)
    unknown = [str(frame.path) for frame in infos if frame.night is None]
    known = nights_of_paths(database, unknown) if database is not None else {}
    frames, mentioned = [], []
    for frame in infos:
        by_header = pattern is not None or paths is not None
        if by_header and not frame.error and not _matches(instruments, frame):
            continue
        relative = frame.path.relative_to(root) if frame.path.is_relative_to(root) else frame.path
        lies_in = night_of_path(relative)
        if frame.night is None:
            frame.columns["night"] = known.get(str(frame.path)) or lies_in or first
        if first <= frame.night <= last:
            frames.append(frame)
        elif any(date and first <= date <= last for date in (frame.ut_date, lies_in)):
            mentioned.append(frame)
    return frames, mentioned, unreadable


def _matching(folder, parts, unreadable):
    """Yield paths like `Path.glob`, which passes over folders that cannot be read; here they enter a dict."""

    def fail(error):
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            unreadable[error.filename] = one_line(error.strerror)

    part, *rest = parts
    if part == "**":
        for below, *_ in os.walk(folder, onerror=fail):
            yield from _matching(Path(below), rest or ["*"], unreadable)
        return
    try:
        is_pattern = re.search(r"[*?[]", part)
        names = sorted(name for name in os.listdir(folder) if fnmatchcase(name, part)) if is_pattern else [part]
    except OSError as error:
        fail(error)
        return
    for path in (folder / name for name in names):
        try:
            if not rest:
                path.lstat()
                yield path
            elif stat.S_ISDIR(path.stat().st_mode):
                yield from _matching(path, rest, unreadable)
        except OSError as error:
            fail(error)


def _day(night):
    digits = re.sub(r"\D", "", night)
    try:
        return datetime.strptime(digits, "%Y%m%d").toordinal()
    except ValueError:
        # The 31st of a shorter month is the name of a folder, but no day.
        return 0


def _matches(instruments, frame):
    names = {frame.columns.get("instrument"), str(frame.columns.get("camera")).lower()}
    return any(name == "*" or name.lower() in names for name in instruments)
