"""Files that are there whole or not at all."""

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
from contextlib import ExitStack, contextmanager
from glob import escape
from pathlib import Path

from crattn_stage.errors import FrameError

#: Suffix -> how a whole file is packed; fpack is not among them, it packs images inside.
PACKERS = {
    ".gz": lambda stream: gzip.GzipFile("", "wb", fileobj=stream, mtime=0),
    ".bz2": lambda stream: bz2.BZ2File(stream, "wb"),
    ".xz": lambda stream: lzma.LZMAFile(stream, "wb"),
}

_PART = ".part"


def clear_parts(target):
    """Remove what a process that was killed while it wrote a file has left beside it.

    Parameters
    ----------
    target : path-like
        To which nobody writes now.
    """
    target = Path(target)
    for part in target.parent.glob(f".{escape(target.name)}.*{_PART}*"):
        part.unlink(missing_ok=True)


def sha256(*paths):
    """Return the sha256 of a file, or of several, one behind the other.

    Parameters
    ----------
    *paths : path-like

    Returns
    -------
    str
        Hexadecimal, 64 digits.

    Raises
    ------
    FrameError
        If a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in paths:
            with open(path, "rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
    except OSError as error:
        raise FrameError(error.strerror) from error
    return digest.hexdigest()


@contextmanager
def replacing(targets, overwrite=False, ready=None):
    """Write files so that they are there whole or not at all.

    Parameters
    ----------
    targets : list of path-like
        A name that ends in .gz, .bz2 or .xz is packed.
    overwrite : bool
        Replace existing files.  A link is replaced, not what it points to.
    ready : callable, optional
        Called with {target: sha256} when the files are finished and none is in its place yet.

    Yields
    ------
    list of binary file
        Temporary files beside the targets, plain; they become the targets on a
        clean exit, the last one first, and vanish on any other.

    Raises
    ------
    FrameError
        If a target exists and is not to be replaced.
    OSError
        If a file cannot be written.
    """
    targets = [Path(target) for target in targets]
    for target in targets:
        if os.path.lexists(target) and not overwrite:
            raise FrameError(f"{target} exists; --overwrite replaces it")
    parts = [target.with_name(f".{target.name}.{os.getpid()}{_PART}") for target in targets]
    packed = [part.with_name(f"{part.name}.packed") for part in parts]
    try:
        with ExitStack() as stack:
            streams = [stack.enter_context(open(part, "w+b")) for part in parts]
            yield streams
            for stream in streams:
                _settle(stream)
        finished = [_packed(*paths) for paths in zip(targets, parts, packed, strict=True)]
        if ready is not None:
            ready({str(target): sha256(file) for target, file in zip(targets, finished, strict=True)})
        # The mask file comes last in a pair and first here: an image that says it was masked must have its mask.
        for file, target in reversed(list(zip(finished, targets, strict=True))):
            os.replace(file, target)
    finally:
        for path in (*parts, *packed):
            path.unlink(missing_ok=True)


def _packed(target, part, packed):
    """Pack a finished file if its target's name asks for it, and return which file it is now."""
    if target.suffix not in PACKERS:
        return part
    with open(part, "rb") as plain, open(packed, "wb") as stream:
        with PACKERS[target.suffix](stream) as packer:
            shutil.copyfileobj(plain, packer, 1 << 20)
        _settle(stream)
    return packed


def _settle(stream):
    stream.flush()
    os.fsync(stream.fileno())
