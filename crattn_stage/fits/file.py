"""A FITS file as HDUs to read and as bytes to copy."""

import gzip
import lzma
import os
import re
import shutil
import tempfile
import threading
import warnings
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.data import get_readable_fileobj

from crattn_stage.errors import FrameError
from crattn_stage.fits.header import edited, ones_complement, with_checksum

#: Of planes made anew: lossless for integers, and unlike gzip without a time stamp in it.
COMPRESSION = "RICE_1"
#: Cards that hold for the bytes of an HDU as they were.
SUMS = ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM")
_WARNINGS = threading.RLock()


class FitsFile:
    """A FITS file, opened; use it in a ``with`` block.

    Parameters
    ----------
    path : path-like
        Plain, or packed by gzip, bzip2 or xz.

    Attributes
    ----------
    path : `pathlib.Path`
    hdus : `astropy.io.fits.HDUList`
        Compressed images as images.

    Raises
    ------
    FrameError
        If it is no FITS file, truncated or damaged.
    OSError
        If it cannot be read.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._stack = ExitStack()
        self._open()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def _open(self):
        with ExitStack() as stack:
            plain = self._unpacked(stack)
            # Damage is found below by the sizes, in words of our own.
            with _quiet():
                try:
                    self.hdus = stack.enter_context(fits.open(plain, memmap=False))
                    self._raw = stack.enter_context(fits.open(plain, memmap=False, disable_image_compression=True))
                    # Lazily read headers are read, and found damaged, here.
                    len(self.hdus), len(self._raw)
                except (OSError, ValueError, TypeError, KeyError, IndexError, fits.VerifyError) as error:
                    if isinstance(error, OSError) and error.strerror:
                        raise
                    raise FrameError(f"not a FITS file: {_one_line(error)}") from error
            self._plain = plain
            self._bytes = stack.enter_context(open(plain, "rb"))
            self._check_sizes(os.path.getsize(plain))
            self._stack = stack.pop_all()

    def _unpacked(self, stack):
        """Return the path of the plain FITS file, unpacked to a temporary one where needed."""
        with open(self.path, "rb") as stream:
            start = stream.read(6)
        if start == b"SIMPLE":
            return self.path
        if not start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
            raise FrameError("empty file" if not start else "not a FITS file")
        plain = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".fits"))
        try:
            with get_readable_fileobj(self.path, encoding="binary") as stream:
                shutil.copyfileobj(stream, plain, 1 << 20)
        except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise FrameError(f"truncated or damaged: {_one_line(error)}") from error
        plain.flush()
        return Path(plain.name)

    def _check_sizes(self, size):
        end = 0
        for hdu in self._raw:
            place = hdu.fileinfo()
            end = place["datLoc"] + place["datSpan"]
            if place["datLoc"] + hdu.size > size:
                raise FrameError(f"truncated: HDU {self._raw.index(hdu)} ends at byte {end}, the file at {size}")
        self._bytes.seek(end)
        if self._bytes.read(8).strip(b"\0 "):
            raise FrameError(f"truncated or damaged: no valid HDU at byte {end} of {size}")

    def is_compressed(self, index):
        """Return whether an HDU is an fpack-compressed image.

        Parameters
        ----------
        index : int
        """
        return isinstance(self.hdus[index], fits.CompImageHDU)

    def read(self, index):
        """Return the pixels of an HDU.

        Parameters
        ----------
        index : int

        Returns
        -------
        `numpy.ndarray`
            In native byte order, in the unit of the file.

        Raises
        ------
        FrameError
            If they cannot be read.
        """
        with _quiet():
            try:
                # Anew, since astropy changes an HDU by reading it, and keeps its pixels; and that HDU alone,
                # since the headers before it take longer than its pixels in an exposure of many detectors.
                place = self._raw[index].fileinfo()
                with open(self._plain, "rb") as stream:
                    stream.seek(place["hdrLoc"])
                    content = stream.read(place["datLoc"] + place["datSpan"] - place["hdrLoc"])
                hdu = type(self._raw[index]).fromstring(content)
                data = (fits.CompImageHDU(bintable=hdu) if self.is_compressed(index) else hdu).data
                return np.array(data, dtype=data.dtype.newbyteorder("="))
            except Exception as error:
                # The decompressor raises what it likes on damaged data.
                raise FrameError(f"cannot read the pixels of HDU {index}: {_one_line(error)}") from error

    def read_integers(self, index):
        """Return the flags of a mask HDU.

        Parameters
        ----------
        index : int

        Returns
        -------
        `numpy.ndarray`
            Integers also where a BLANK makes astropy read floats; blank pixels are 0.

        Raises
        ------
        FrameError
            As `read`.
        """
        data = self.read(index)
        if data.dtype.kind == "f":
            data = np.nan_to_num(data).astype(f"i{self.hdus[index].header['BITPIX'] // 8}")
        return data

    def image_hdu(self, index, plane):
        """Return an HDU like another one but with new pixels.

        Parameters
        ----------
        index : int
        plane : `numpy.ndarray` of int

        Returns
        -------
        HDU
            Compressed where the other one is.
        """
        header = self.hdus[index].header.copy()
        for keyword in (*SUMS, "BLANK"):
            header.remove(keyword, ignore_missing=True)
        if self.is_compressed(index):
            # Rice packs 32 bits at most.
            kind = COMPRESSION if plane.itemsize <= 4 else "NOCOMPRESS"
            return fits.CompImageHDU(plane, header, compression_type=kind)
        return (fits.ImageHDU if index else fits.PrimaryHDU)(plane, header)

    def rendered(self, hdu, like=0):
        """Return an HDU as bytes.

        Parameters
        ----------
        hdu : HDU
        like : int
            It has checksums where this HDU of the file has them.

        Returns
        -------
        bytes
        """
        buffer = BytesIO()
        primary = isinstance(hdu, fits.PrimaryHDU)
        with _quiet():
            fits.HDUList([hdu] if primary else [fits.PrimaryHDU(), hdu]).writeto(buffer, output_verify="ignore")
            content = buffer.getvalue()
            with fits.open(BytesIO(content), disable_image_compression=True) as written:
                place = written[-1].fileinfo()
        header, data = content[place["hdrLoc"] : place["datLoc"]], content[place["datLoc"] :]
        return (with_checksum(header, data) if "CHECKSUM" in self._raw[like].header else header) + data

    def copy(self, stream, planes, cards, extra):
        """Copy the file with some HDUs replaced, some headers edited, and some HDUs appended.

        Parameters
        ----------
        stream : binary file, for reading and writing
        planes : dict of int to callable
            HDU index -> function that gives the bytes of the HDU in its place.
        cards : dict of int to (dict, str)
            HDU index -> cards and HISTORY line for its header.
        extra : list of callable
            Functions that give the bytes of the HDUs to append.
        """
        for index, hdu in enumerate(self._raw):
            place = hdu.fileinfo()
            start, end = place["datLoc"], place["datLoc"] + place["datSpan"]
            if index in planes:
                stream.write(planes[index]())
            elif index in cards:
                self._bytes.seek(place["hdrLoc"])
                header = self._bytes.read(start - place["hdrLoc"])
                stream.write(edited(header, *cards[index], data_sum=partial(self._data_sum, start, end)))
                self._copy_bytes(stream, start, end)
            else:
                self._copy_bytes(stream, place["hdrLoc"], end)
        for make in extra:
            stream.write(make())

    def _data_sum(self, start, end):
        buffer = BytesIO()
        self._copy_bytes(buffer, start, end)
        return ones_complement(buffer.getbuffer())

    def _copy_bytes(self, stream, start, end):
        self._bytes.seek(start)
        left = end - start
        while left:
            piece = self._bytes.read(min(left, 1 << 20))
            # The last HDU of some files lacks its padding.
            piece = piece or bytes(left)
            stream.write(piece)
            left -= len(piece)


def shape_of(hdu):
    """Return the shape of an image HDU from its header, without reading it."""
    return tuple(hdu.header[f"NAXIS{axis}"] for axis in range(hdu.header["NAXIS"], 0, -1))


@contextmanager
def _quiet():
    """Keep astropy's warnings back.

    One thread at a time: the filters of warnings are the process's.
    """
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _one_line(error):
    return re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
