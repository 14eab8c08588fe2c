"""The bytes of an input file, plain or compressed, within limits."""

import bz2
import gzip
import lzma
import os
import stat
import zlib
from contextlib import contextmanager

from crattn_stage.errors import FrameError

#: First bytes of a compressed file -> how to decompress it.
DECOMPRESSORS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
#: Bytes that any compressed file may decompress to; beyond that, `MOST_RATIO` times its own size.
ALWAYS_ALLOWED = 256 << 20
MOST_RATIO = 64
#: Bytes that no file may decompress to.
MOST_BYTES = 4 << 30
#: Environment variable with a number of bytes that replaces the three limits above.
LIMIT_VARIABLE = "CRATTN_MAX_UNPACKED"
PIECE = 1 << 20


@contextmanager
def open_regular(path):
    """Open a regular file for reading, without waiting for anything.

    Parameters
    ----------
    path : path-like
        Links are followed.

    Yields
    ------
    int
        File descriptor.

    Raises
    ------
    FrameError
        If it cannot be opened, or is a directory, pipe or device.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise FrameError(getattr(error, "strerror", None) or str(error)) from error
    try:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            raise FrameError("is a directory" if stat.S_ISDIR(kind) else "not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def decompressor(descriptor):
    """Return the function that opens a compressed file for reading, or None for one that is not compressed.

    Parameters
    ----------
    descriptor : int

    Returns
    -------
    callable or None
    """
    start = read_at(descriptor, 0, 6)
    return next((kind for magic, kind in DECOMPRESSORS.items() if start.startswith(magic)), None)


def read_at(descriptor, offset, size):
    """Read bytes at an offset; safe in several threads.

    Parameters
    ----------
    descriptor : int
    offset, size : int

    Returns
    -------
    bytes
        Fewer than `size` only at the end of the file.

    Raises
    ------
    FrameError
        If the file cannot be read.
    """
    pieces = []
    try:
        while size and (piece := os.pread(descriptor, size, offset)):
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
    except OSError as error:
        raise FrameError(f"cannot be read: {error.strerror}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class PlainSource:
    """The bytes of a plain file from the first to the last.

    Parameters
    ----------
    descriptor : int
    """

    def __init__(self, descriptor):
        self._descriptor, self._offset = descriptor, 0
        self._size = os.fstat(descriptor).st_size

    def read(self, size):
        """Return the next bytes, fewer than `size` only at the end.

        Parameters
        ----------
        size : int
            Bytes.
        """
        piece = read_at(self._descriptor, self._offset, size)
        self._offset += len(piece)
        return piece

    def skip(self, size):
        """Pass over bytes, and return how many there were.

        Parameters
        ----------
        size : int
            Bytes.
        """
        skipped = max(0, min(size, self._size - self._offset))
        self._offset += skipped
        return skipped


class CompressedSource:
    """The decompressed bytes of a file from the first to the last.

    Parameters
    ----------
    descriptor : int
        Its position is used.
    kind : callable
        As from `decompressor`.
    """

    def __init__(self, descriptor, kind):
        os.lseek(descriptor, 0, os.SEEK_SET)
        self._packed = open(descriptor, "rb", closefd=False)
        self._stream = kind(self._packed)
        self._count, self._limit = 0, _limit(os.fstat(descriptor).st_size)

    def read(self, size):
        """Return the next bytes, fewer than `size` only at the end.

        Parameters
        ----------
        size : int
            Bytes.

        Raises
        ------
        FrameError
            If the file is truncated or damaged, or larger than the limit.
        """
        pieces = []
        try:
            while size and (piece := self._stream.read(min(size, PIECE))):
                pieces.append(piece)
                size -= len(piece)
                self._count += len(piece)
                if self._count > self._limit:
                    raise FrameError(
                        f"decompresses to more than {self._limit / 1e6:.0f} MB, too much for a file of its size; "
                        f"{LIMIT_VARIABLE} sets another limit, in bytes"
                    )
        except (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, MemoryError) as error:
            raise FrameError(f"truncated or damaged: {error or 'out of memory'}") from error
        return b"".join(pieces)

    def skip(self, size):
        """Pass over bytes, and return how many there were.

        Parameters
        ----------
        size : int
            Bytes.
        """
        left = size
        while left and (piece := self.read(min(left, PIECE))):
            left -= len(piece)
        return size - left


def _limit(size):
    """Return how many bytes a compressed file of some size may decompress to."""
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return min(max(ALWAYS_ALLOWED, MOST_RATIO * size), MOST_BYTES)
    try:
        return int(text)
    except ValueError:
        raise FrameError(f"{LIMIT_VARIABLE}={text}: not a number of bytes") from None
