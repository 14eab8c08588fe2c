"""FITS files: HDUs to read, bytes to copy, headers alone."""

import hashlib
import os
import re
import tempfile
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.fits.hdu.base import NonstandardExtHDU

from crattn_stage.cameras.masks import as_integers
from crattn_stage.errors import FrameError, one_line
from crattn_stage.fits.header import edited, ones_complement, with_checksum
from crattn_stage.fits.layout import BLOCK, CARD, split_cards, walk
from crattn_stage.fits.quiet import quiet
from crattn_stage.fits.source import (
    MOST_BYTES,
    PIECE,
    CompressedSource,
    PlainSource,
    decompressor,
    open_regular,
    read_at,
)

#: How new compressed planes are written: lossless for integers, and without the time stamp of gzip.
COMPRESSION = "RICE_1"
#: Cards that describe the bytes of an HDU and do not hold for new pixels.
SUMS = ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM")
#: A compressed image may decompress to this many bytes, and beyond that to `MOST_IMAGE_RATIO` times its data.
ALWAYS_ALLOWED_IMAGE, MOST_IMAGE_RATIO = 256 << 20, 1024
#: Cards that say how integers stand for numbers, and what holds without them.
_SCALING = (("BSCALE", 1), ("BZERO", 0), ("BLANK", None))
_END = b"END".ljust(CARD)
_EXTEND_F = re.compile(rb"EXTEND  = +F *(/|$)")


class FitsFile:
    """Open a FITS file; use it in a ``with`` block.

    The file is opened once, and everything comes from that descriptor: replacing the
    file under its name while it is open changes nothing.

    Parameters
    ----------
    path : path-like
        Plain, or compressed by gzip, bzip2 or xz (to an unnamed temporary file then).

    Attributes
    ----------
    path : `pathlib.Path`
    hdus : list of HDU
        Headers without pixels (`read` reads those), tile-compressed images as images.
    places : list of `crattn_stage.fits.layout.Place`
        Where the HDUs lie in the plain file.

    Raises
    ------
    FrameError
        If the file cannot be read, is not a FITS file, is truncated or damaged, or
        exceeds a limit.

    Examples
    --------
    >>> from astropy.io import fits
    >>> fits.PrimaryHDU([[1, 2], [3, 4]]).writeto(getfixture("tmp_path") / "a.fits")
    >>> with FitsFile(getfixture("tmp_path") / "a.fits") as file:
    ...     file.read(0).sum()
    np.int64(10)
    """

    def __init__(self, path):
        self.path = Path(path)
        self._stack = ExitStack()
        self._sha256 = None
        with ExitStack() as stack:
            self._packed = stack.enter_context(open_regular(path))
            self._before = self._state()
            self._plain = self._unpacked(stack)
            self.places = walk(PlainSource(self._plain))
            self.hdus = [_hdu(place, index) for index, place in enumerate(self.places)]
            self._stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def _unpacked(self, stack):
        """Return a descriptor of the plain bytes."""
        kind = decompressor(self._packed)
        if kind is None:
            return self._packed
        source = CompressedSource(self._packed, kind)
        try:
            plain = stack.enter_context(tempfile.TemporaryFile())
            while piece := source.read(PIECE):
                plain.write(piece)
            plain.flush()
        except OSError as error:
            raise FrameError(f"cannot be decompressed to {tempfile.gettempdir()}: {error.strerror}") from error
        return plain.fileno()

    def _state(self):
        status = os.fstat(self._packed)
        return status.st_size, status.st_mtime_ns

    def changed(self):
        """Return whether the bytes of the file have changed since it was opened.

        Another file under its name does not count.

        Returns
        -------
        bool
        """
        return self._state() != self._before

    def sha256(self):
        """Return the sha256 of the file as it is on disk, compressed or not.

        Returns
        -------
        str
            Hexadecimal, 64 digits.

        Raises
        ------
        FrameError
            If the file has changed since it was opened.
        """
        if self._sha256 is None:
            digest = hashlib.sha256()
            self.hash_into(digest)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def hash_into(self, digest):
        """Add the bytes of the file as it is on disk to a digest, such as that of a frame and its mask file.

        Parameters
        ----------
        digest : hash object
            As from `hashlib.sha256`.

        Raises
        ------
        FrameError
            If the file has changed since it was opened.
        """
        offset = 0
        while piece := read_at(self._packed, offset, PIECE):
            digest.update(piece)
            offset += len(piece)
        self._check_unchanged()

    def _check_unchanged(self):
        if self.changed():
            raise FrameError("the file changed while it was read")

    def is_compressed(self, index):
        """Return whether an HDU is a tile-compressed image (fpack).

        Parameters
        ----------
        index : int

        Returns
        -------
        bool
        """
        return self.places[index].compressed

    def read(self, index):
        """Read the pixels of an HDU.

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
        place = self.places[index]
        if not place.size or not place.shape:
            raise FrameError(f"HDU {index} has no pixels")
        size = place.data + place.size - place.start
        content = read_at(self._plain, place.start, size)
        if len(content) < size:
            raise FrameError("the file was truncated while it was read")
        if any(content.startswith(b"XTENSION=", start) for start in range(place.data - place.start, size, BLOCK)):
            # A damaged size makes one HDU swallow those behind it.
            raise FrameError(f"HDU {index} holds another HDU: the size in its header is damaged")
        if place.compressed:
            _check_image_size(place, index)
        for keyword in ("BSCALE", "BZERO"):
            if isinstance(value := self.hdus[index].header.get(keyword), str):
                raise FrameError(f"{keyword} = {value!r} of HDU {index} is text where FITS wants a number")
        with quiet():
            try:
                # A new HDU each time: astropy changes an HDU when it reads it, and keeps the pixels.
                data = _new_hdu(place, content).data
                if data.shape != place.shape:
                    raise FrameError(f"the pixels of HDU {index} are not of the shape in its header")
                native = data.dtype.newbyteorder("=")
                # Not a view of the bytes of the file.
                return data if data.dtype == native and data.flags.writeable else np.array(data, dtype=native)
            except FrameError:
                raise
            except Exception as error:
                # The decompressor raises exceptions of many types on damaged data.
                raise FrameError(f"cannot read the pixels of HDU {index}: {one_line(error)}") from error

    def read_integers(self, index, pixels=None):
        """Read the flags of a mask HDU.

        Parameters
        ----------
        index : int
        pixels : `numpy.ndarray`, optional
            As from `read`, where it has been read.

        Returns
        -------
        `numpy.ndarray`
            Integers also where a BLANK makes astropy read floats; blank pixels are 0.

        Raises
        ------
        FrameError
            If they cannot be read.
        """
        place = self.places[index]
        pixels = self.read(index) if pixels is None else pixels.reshape(place.shape)
        return as_integers(pixels, f"i{place.itemsize}")

    def image_hdu(self, index, plane):
        """Return an HDU like another one but with new pixels.

        Parameters
        ----------
        index : int
        plane : `numpy.ndarray`
            Of integers, or of floats.

        Returns
        -------
        HDU
            Compressed where the other one is, without loss.
        """
        header = self.hdus[index].header.copy()
        floats = plane.dtype.kind == "f"
        for keyword in (*SUMS, "BLANK", *(("BSCALE", "BZERO") if floats else ())):
            header.remove(keyword, ignore_missing=True)
        if self.is_compressed(index) and floats:
            return fits.CompImageHDU(plane, header, compression_type="GZIP_2", quantize_level=0)
        if self.is_compressed(index):
            # Rice packs 32 bits at most.
            kind = COMPRESSION if plane.itemsize <= 4 else "NOCOMPRESS"
            return fits.CompImageHDU(plane, header, compression_type=kind)
        return (fits.ImageHDU if index else fits.PrimaryHDU)(plane, header)

    def replaced(self, index, where, values, cards, history=""):
        """Return an image HDU with some pixels replaced, as bytes; all others stay as they are, bit by bit.

        Integers stay integers, scaled by the BSCALE and BZERO that they have.  A compressed image of floats is
        compressed again without loss.

        Parameters
        ----------
        index : int
        where : `numpy.ndarray` of bool
            The shape of the image.
        values : `numpy.ndarray`
            (n,) float, in the unit of the file.  NaN is the BLANK of integers.
        cards, history
            For its header, as for `crattn_stage.fits.header.edited`.

        Returns
        -------
        bytes

        Raises
        ------
        FrameError
            If the HDU cannot be read, or there is a NaN and its integers have no BLANK.
        """
        place, header = self.places[index], self.hdus[index].header
        scale, zero, blank = (header.get(keyword, default) for keyword, default in _SCALING)
        if place.compressed:
            _check_image_size(place, index)
            hdu = _new_hdu(place, read_at(self._plain, place.start, place.data + place.size - place.start), True)
            with quiet():
                try:
                    stored = np.array(hdu.data)
                except Exception as error:
                    raise FrameError(f"cannot read the pixels of HDU {index}: {one_line(error)}") from error
        else:
            data = bytearray(b"".join(self._data(place)))
            kind = f"{'i' if header['BITPIX'] > 8 else 'u' if header['BITPIX'] > 0 else 'f'}{place.itemsize}"
            stored = np.frombuffer(data, f">{kind}", int(np.prod(place.shape))).reshape(place.shape)
        stored.reshape(where.shape)[where] = _stored(values, stored.dtype, scale, zero, blank, index)
        if not place.compressed:
            header = edited(place.header, cards, history)
            sums = {b"CHECKSUM", b"DATASUM"}
            if any(card[:8].rstrip() in sums for card in split_cards(header)):
                header = with_checksum(header, bytes(data))
            return header + bytes(data)
        header = header.copy()
        for keyword in (*SUMS, *(keyword for keyword, _ in _SCALING)):
            header.remove(keyword, ignore_missing=True)
        if stored.dtype.kind == "f":
            hdu = fits.CompImageHDU(stored, header, compression_type="GZIP_2", quantize_level=0.0)
        else:
            packing = COMPRESSION if stored.itemsize <= 4 else "GZIP_2"
            hdu = fits.CompImageHDU(stored, header, compression_type=packing)
        # Set on the header alone, so that astropy writes the integers as they are.
        for (keyword, default), value in zip(_SCALING, (scale, zero, blank), strict=True):
            if value != default:
                hdu.header[keyword] = value
        content = self.rendered(hdu, index)
        end = next(start for start in range(0, len(content), CARD) if content[start : start + CARD] == _END)
        data = end - end % BLOCK + BLOCK
        return edited(content[:data], cards, history) + content[data:]

    def rendered(self, hdu, like=0):
        """Return an HDU as bytes.

        Parameters
        ----------
        hdu : HDU
        like : int
            It gets checksums where this HDU of the file has a CHECKSUM.

        Returns
        -------
        bytes

        Raises
        ------
        FrameError
            If astropy cannot write it, such as with a damaged header.
        """
        buffer = BytesIO()
        primary = isinstance(hdu, fits.PrimaryHDU)
        with quiet():
            try:
                fits.HDUList([hdu] if primary else [fits.PrimaryHDU(), hdu]).writeto(buffer, output_verify="ignore")
            except Exception as error:
                raise FrameError(f"cannot make HDU {hdu.name}: {one_line(error)}") from error
        content = buffer.getbuffer()
        place = walk(_Written(buffer))[-1]
        header, data = place.header, content[place.data : place.end]
        if any(card.startswith(b"CHECKSUM=") for card in split_cards(self.places[like].header)):
            header = with_checksum(header, data)
        return header + data

    def copy(self, stream, planes, cards, extra):
        """Copy the file with some HDUs replaced, some headers edited, and some HDUs appended.

        All other bytes stay as they are.  ``EXTEND = F`` becomes T where an HDU is appended.

        Parameters
        ----------
        stream : binary file
        planes : dict of int to callable
            HDU index -> function that returns the bytes of the HDU in its place.
        cards : dict of int to (dict, str)
            HDU index -> cards and HISTORY line for its header (see `crattn_stage.fits.header.edited`).
        extra : list of callable
            Functions that return the bytes of the HDUs to append.

        Raises
        ------
        FrameError
            If the file was truncated or changed while it was read.
        """
        cards = dict(cards)
        if extra and any(_EXTEND_F.match(card) for card in split_cards(self.places[0].header)):
            edits, history = cards.get(0, ({}, ""))
            cards[0] = {"EXTEND": (True, "file may contain extensions"), **edits}, history
        for index, place in enumerate(self.places):
            if index in planes:
                stream.write(planes[index]())
                continue
            header = place.header
            if index in cards:
                header = edited(header, *cards[index], data_sum=lambda place=place: self._data_sum(place))
            stream.write(header)
            for piece in self._data(place):
                stream.write(piece)
        self._check_unchanged()
        for make in extra:
            stream.write(make())

    def _data_sum(self, place):
        total = 0
        for piece in self._data(place):
            total = ones_complement(piece, total)
        return total

    def _data(self, place):
        """Yield the data of an HDU in pieces, with its padding."""
        offset, end = place.data, place.data + place.size
        while offset < end:
            piece = read_at(self._plain, offset, min(end - offset, PIECE))
            if not piece:
                raise FrameError("the file was truncated while it was read")
            offset += len(piece)
            if offset == end:
                padding = place.end - end
                # The last HDU of some files lacks its padding.
                piece += read_at(self._plain, end, padding).ljust(padding, b"\0")
            yield piece


class _Written:
    """A buffer as `walk` reads it."""

    def __init__(self, buffer):
        self._buffer = buffer
        self._size = buffer.seek(0, os.SEEK_END)
        buffer.seek(0)

    def read(self, size):
        return self._buffer.read(size)

    def skip(self, size):
        before = self._buffer.tell()
        return self._buffer.seek(min(before + size, self._size)) - before


def shape_of(hdu):
    """Return the shape of an image HDU from its header, without reading its pixels.

    Parameters
    ----------
    hdu : HDU

    Returns
    -------
    tuple of int
    """
    return tuple(hdu.header[f"NAXIS{axis}"] for axis in range(hdu.header["NAXIS"], 0, -1))


def _hdu(place, index):
    """Return an HDU with its header only, and check the cards that all rely on."""
    with quiet():
        try:
            hdu = _new_hdu(place, place.header)
            header = hdu.header
            # Cards are parsed when they are asked for.
            hdu.name, hdu.is_image, header["BITPIX"], header["NAXIS"]
            version = header.get("EXTVER", 1)
        except Exception as error:
            raise FrameError(f"the header of HDU {index} is damaged: {one_line(error)}") from error
    if isinstance(version, bool) or not isinstance(version, int):
        raise FrameError(f"EXTVER of HDU {index} is {version!r}, not an integer")
    return hdu


def _stored(values, dtype, scale, zero, blank, index):
    """Return numbers as an image stores them."""
    if dtype.kind == "f":
        return (values - zero) / scale
    missing = np.isnan(values)
    if missing.any() and type(blank) is not int:
        raise FrameError(f"HDU {index} is of integers without a BLANK, which hold no NaN; take another fill than none")
    limits = np.iinfo(dtype)
    # The largest number of 64 bits is none of a float.
    most = limits.max if limits.bits < 53 else np.nextafter(float(limits.max), 0)
    stored = np.clip(np.rint((np.where(missing, zero, values) - zero) / scale), limits.min, most).astype(dtype)
    if type(blank) is int:
        # What is filled must not become blank by accident.
        stored[stored == blank] += -1 if blank == limits.max else 1
        stored[missing] = blank
    return stored


def _new_hdu(place, content, raw=False):
    """Return an HDU from its bytes, or from those of its header; a compressed image with its integers as stored."""
    kinds = {
        "PRIMARY": fits.PrimaryHDU,
        "GROUPS": fits.GroupsHDU,
        "IMAGE": fits.ImageHDU,
        "TABLE": fits.TableHDU,
        "BINTABLE": fits.BinTableHDU,
        "A3DTABLE": fits.BinTableHDU,
    }
    hdu = kinds.get(place.kind, NonstandardExtHDU).fromstring(content)
    return fits.CompImageHDU(bintable=hdu, do_not_scale_image_data=raw) if place.compressed else hdu


def _check_image_size(place, index):
    size = place.itemsize
    for axis in place.shape:
        size *= axis
    if size > min(max(ALWAYS_ALLOWED_IMAGE, MOST_IMAGE_RATIO * place.size), MOST_BYTES):
        raise FrameError(f"HDU {index} would decompress from {place.size / 1e6:.1f} to {size / 1e6:.0f} MB")
