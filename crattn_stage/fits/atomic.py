"""Files that are there whole or not at all."""

import bz2
import errno
import fcntl
import gzip
import hashlib
import lzma
import os
import re
import secrets
import shutil
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from crattn_stage.errors import FrameError
from crattn_stage.fits.source import open_regular

#: Suffix -> how a whole file is compressed; fpack is not among them, it compresses the images inside.
PACKERS = {
    ".gz": lambda stream: gzip.GzipFile("", "wb", fileobj=stream, mtime=0),
    ".bz2": lambda stream: bz2.BZ2File(stream, "wb"),
    ".xz": lambda stream: lzma.LZMAFile(stream, "wb"),
}

#: Seconds after which a temporary file is taken for abandoned on file systems without locks.
ABANDONED = 86400.0


def clear_parts(target):
    """Remove the temporary files that a killed process has left beside a file.

    A temporary file is locked while its process lives, on any machine that shares the
    file system; such files stay, and so do those of any other target.

    Parameters
    ----------
    target : path-like
    """
    target = Path(target)
    mine = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.part")
    with suppress(FileNotFoundError):
        for name in os.listdir(target.parent):
            if mine.fullmatch(name):
                with suppress(OSError):
                    _remove_abandoned(target.with_name(name))


def _remove_abandoned(part):
    descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            locked = error.errno in (errno.EWOULDBLOCK, errno.EACCES)
            if locked or time.time() - status.st_mtime < ABANDONED:
                return
        os.unlink(part)
    finally:
        os.close(descriptor)


def sha256(*paths):
    """Return the sha256 of a file, or of several, one after the other.

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
    for path in paths:
        with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as stream:
            try:
                hashlib.file_digest(stream, lambda: digest)
            except OSError as error:
                raise FrameError(f"cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def check_targets(targets, overwrite=False, known=()):
    """Raise an error if files exist that must not be replaced; devices, pipes and folders never are.

    Parameters
    ----------
    targets : list of path-like
    overwrite : bool
        Existing files may be replaced.
    known : collection of tuple of str
        (path, sha256) of files that may be replaced in any case, as long as they are unchanged.

    Raises
    ------
    FrameError
        Naming the target, which may be a link to nowhere.
    """
    # One path may be known with several checksums: those of each time it was written.
    known, paths = set(known), {path for path, _ in known}
    for target in map(str, targets):
        # Renaming a file over a device, /dev/null say, would take it from everyone.
        if os.path.exists(target) and not os.path.isfile(target):
            raise FrameError(f"{target} is not a regular file, and is not replaced")
        if overwrite or not os.path.lexists(target):
            continue
        if target not in paths:
            raise FrameError(f"{target} exists; overwrite=True (--overwrite) replaces it")
        try:
            unchanged = (target, sha256(target)) in known
        except FrameError as error:
            raise FrameError(f"{target}: {error}; overwrite=True (--overwrite) replaces it") from error
        if not unchanged:
            raise FrameError(f"{target} is not as it was written; overwrite=True (--overwrite) replaces it")


@contextmanager
def replacing(targets, overwrite=False, before_rename=None, known=()):
    """Write files so that they are there whole or not at all.

    Parameters
    ----------
    targets : list of path-like
        A file whose name ends in .gz, .bz2 or .xz is compressed.
    overwrite : bool
        Replace existing files.  A link is replaced, not what it points to.
    before_rename : callable, optional
        Called with {target: sha256} when the files are finished and none is in its place yet.  An error that it
        raises keeps them from being renamed.
    known : collection of tuple of str
        As for `check_targets`.

    Yields
    ------
    list of binary file
        Temporary files beside the targets, plain; they become the targets on a
        clean exit, the last one first, and vanish on any other.

    Raises
    ------
    FrameError
        If a target exists and is not to be replaced; looked at before, and again when the files are finished.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> with replacing([getfixture("tmp_path") / "report.txt"]) as (stream,):
    ...     _ = stream.write(b"all well")
    """
    targets = [Path(target) for target in targets]
    check_targets(targets, overwrite, known)
    with ExitStack() as stack:
        streams = [stack.enter_context(_part(target)) for target in targets]
        yield streams
        finished = []
        for target, stream in zip(targets, streams, strict=True):
            _settle(stream)
            finished.append(_packed(stack, target, stream))
        if before_rename is not None:
            before_rename({str(target): _digest(stream) for target, stream in zip(targets, finished, strict=True)})
        # Writing took its time.
        check_targets(targets, overwrite, known)
        # The mask file comes last in a pair and first here: an image that says it was masked must have its mask.
        for target, stream in reversed(list(zip(targets, finished, strict=True))):
            os.replace(stream.name, target)


@contextmanager
def _part(target):
    """Create a temporary file beside a target, locked while it is open, and remove it unless it was renamed."""
    # The folder may be moved away or replaced by a link meanwhile.
    folder = os.open(target.parent, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(part.name, flags, 0o666, dir_fd=folder)
            with suppress(OSError):
                # Some file systems have no locks.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # `clear_parts` may have removed it before it was locked.
            if _is_at(descriptor, part.name, folder):
                break
            os.close(descriptor)
        try:
            # The name stays the path, which a file from a bare descriptor would not know.
            with open(part, "w+b", opener=lambda *_: descriptor) as stream:
                yield stream
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part.name, dir_fd=folder)
    finally:
        os.close(folder)


def _is_at(descriptor, name, folder):
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _packed(stack, target, plain):
    """Compress a finished file if its target's name asks for it, and return the file that becomes the target."""
    packer = PACKERS.get(target.suffix.lower())
    if packer is None:
        return plain
    stream = stack.enter_context(_part(target))
    plain.seek(0)
    with packer(stream) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)
    _settle(stream)
    return stream


def _settle(stream):
    stream.flush()
    os.fsync(stream.fileno())


def _digest(stream):
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()
