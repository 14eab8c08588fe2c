"""Observation frames: FITS files in and out.

A frame is read one detector extension at a time, as CCDData, and written by
copying: the bytes of every HDU that has not changed, and the pixels of every
science HDU, go from input to output as they are, compressed or not.  Only
headers that got new cards and mask planes are made anew.
"""

import bz2
import gzip
import lzma
import os
import re
import shutil
import tempfile
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.utils.data import get_readable_fileobj

from crattn_stage import masks
from crattn_stage.errors import FrameError
from crattn_stage.instruments import identify

#: EXTNAMEs of image planes that are not science pixels.
AUXILIARY = {
    "BPM", "MASK", "DQ", "CRMASK", "ERR", "ERROR", "UNCERT", "UNCERTAINTY", "VAR", "VARIANCE",
    "WEIGHT", "WGT", "WHT", "WTMAP", "CAT", "PSFIMAGE", "BKG", "BACKGROUND",
}  # fmt: skip
MASK_PLANES = ("BPM", "DQ", "MASK")
#: Suffix -> how a whole file is packed; fpack is not among them, it packs images inside.
PACKERS = {
    ".gz": lambda stream: gzip.GzipFile("", "wb", fileobj=stream, mtime=0),
    ".bz2": lambda stream: bz2.BZ2File(stream, "wb"),
    ".xz": lambda stream: lzma.LZMAFile(stream, "wb"),
}
#: Of planes made anew: lossless for integers, and unlike gzip without a time stamp in it.
COMPRESSION = "RICE_1"
_BLOCK = 2880
#: How the HISTORY line of ours begins, by which an earlier one is found.
_HISTORY_MARK = "CRAttn "


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
    convention : `crattn_stage.masks.MaskConvention`
        Of its mask plane.
    mask : tuple of (str, int) or None
        File ("frame" or "companion") and HDU index of its mask plane.
    version : int
        EXTVER of its mask plane.
    """

    index: int
    name: str
    header: fits.Header
    shape: tuple
    convention: masks.MaskConvention
    mask: tuple | None
    version: int


@dataclass
class Marks:
    """What to write on one extension.

    Attributes
    ----------
    pixels : `numpy.ndarray` of int
        Flat indices of its cosmic-ray pixels.
    cards : dict
        Keyword -> (value, comment).
    """

    pixels: np.ndarray
    cards: dict = field(default_factory=dict)


class ObservationFrame:
    """A FITS file of one exposure.  Use it in a ``with`` block.

    Parameters
    ----------
    path : path-like
        Simple, multi-extension or fpack-compressed FITS, whole or packed by
        gzip, bzip2 or xz.  Beside a DECam ``_ooi_`` image its ``_ood_`` mask
        file is found and used.

    Attributes
    ----------
    path : `pathlib.Path`
    instrument : `crattn_stage.instruments.Instrument`
    header : `astropy.io.fits.Header`
        Of the primary HDU, with the cards of a lone science extension behind it.
    extensions : list of `Extension`
    marks : dict of int to `Marks`
        By HDU index; what `write` will write.
    detections : list of `crattn_stage.quality.Detection`
        What the stage found.
    cards, history : dict, str
        Cards for the primary header, and the HISTORY line.
    notes : list of str
        What was odd but no error.

    Raises
    ------
    FrameError
        If the file cannot be read or holds no 2-D image.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.marks, self.cards, self.history, self.notes, self.detections = {}, {}, "", [], []
        self._stack = ExitStack()
        try:
            with self._stack:
                self._file = self._stack.enter_context(_FitsFile(self.path))
                self._companion = self._find_companion()
                self._describe()
                self._stack = self._stack.pop_all()
        except FrameError:
            raise
        except OSError as error:
            raise FrameError(error.strerror or str(error)) from error

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Close the files."""
        self._stack.close()

    def _find_companion(self):
        if "_ooi_" not in self.path.name:
            return None
        sibling = self.path.with_name(self.path.name.replace("_ooi_", "_ood_"))
        return self._stack.enter_context(_FitsFile(sibling)) if sibling.exists() else None

    def _describe(self):
        hdus = self._file.hdus
        primary = hdus[0].header
        images = [i for i, hdu in enumerate(hdus) if hdu.is_image and hdu.header.get("NAXIS", 0) > 0]
        science = [i for i in images if hdus[i].name == "SCI"] or [i for i in images if hdus[i].name not in AUXILIARY]
        header = primary.copy()
        if science:
            # Some pipelines write what was observed on the image alone.
            header.extend(hdus[science[0]].header, unique=True, strip=True, end=True)
        self.instrument = identify(header)
        self.header = header
        science = [i for i in science if self.instrument.is_detector(hdus[i].name)]
        filled = [i for i in science if 0 not in _shape(hdus[i])]
        if not filled:
            raise FrameError("zero-sized image" if science else "no image in it")
        solid = [i for i in filled if len(_shape(hdus[i])) != 2]
        if solid:
            shape = _shape(hdus[solid[0]])
            raise FrameError(
                f"HDU {solid[0]} is {len(shape)}-dimensional, of shape {shape}; only 2-D images are masked"
            )
        self.extensions = []
        for order, index in enumerate(filled, 1):
            hdu = hdus[index]
            version = hdu.ver if hdu.name == "SCI" else order
            mask = self._find_mask(hdu, order, len(filled))
            plane = None if mask is None or mask[0] == "companion" else self._file.hdus[mask[1]].name
            card = hdu.header.copy()
            # What holds for the whole exposure stands in the primary; sections are each image's own.
            shared = primary.copy()
            del shared["DATASEC*"]
            card.extend(shared, unique=True, strip=True, end=True)
            convention = self.instrument.convention(card, plane)
            if mask is None and any(h.name == convention.extension and h.ver == version for h in hdus):
                convention = masks.CR_PLANE
            name = (hdu.name or f"HDU{index}") + (f",{hdu.ver}" if hdu.ver != 1 else "")
            if any(e.name == name for e in self.extensions):
                name += f"#{index}"
            self.extensions.append(Extension(index, name, card, _shape(hdu), convention, mask, version))

    def _find_mask(self, image, order, count):
        """Find the mask plane of a science HDU.

        By EXTNAME in the companion file, by EXTVER in the frame; where that
        does not tell, by order, if there are as many planes as detectors.
        """
        source = "companion" if self._companion else "frame"
        hdus = (self._companion or self._file).hdus
        planes = [i for i, h in enumerate(hdus) if h.is_image and h.header.get("NAXIS") == 2]
        if self._companion:
            found = [i for i in planes if hdus[i].name == image.name]
        else:
            planes = [i for i in planes if hdus[i].name in MASK_PLANES]
            version = image.ver if image.name == "SCI" else order
            found = planes if count == len(planes) == 1 else [i for i in planes if hdus[i].ver == version]
        if len(found) != 1:
            found = [planes[order - 1]] if len(planes) == count else []
        if not found:
            if planes:
                self.notes.append(f"no mask plane belongs to {image.name}")
            return None
        plane = hdus[found[0]]
        if _shape(plane) != _shape(image):
            self.notes.append(f"mask plane {plane.name} has another shape than {image.name}; not used")
            return None
        if plane.header["BITPIX"] < 0:
            self.notes.append(f"mask plane {plane.name} is not of integers; not used")
            return None
        return source, found[0]

    def _source(self, mask):
        return self._file if mask[0] == "frame" else self._companion

    def ccds(self):
        """Read the detectors one after the other.

        Yields
        ------
        extension : `Extension`
        ccd : `astropy.nddata.CCDData`
            Pixels in native byte order, in ADU or electron; mask True on bad
            pixels (of its mask plane, cosmic rays left out), None without one.

        Raises
        ------
        FrameError
            If the pixels cannot be read.
        """
        for extension in self.extensions:
            image = self._file.read(extension.index)
            mask = None
            if extension.mask:
                plane = self._source(extension.mask).read(extension.mask[1])
                mask = extension.convention.bad_pixels(plane)
            unit = self.instrument.unit(extension.header)
            yield extension, CCDData(image, unit=unit, mask=mask, meta=extension.header)

    def amplifiers(self, extension):
        """Return the amplifiers of an extension.

        Parameters
        ----------
        extension : `Extension`

        Returns
        -------
        list of `crattn_stage.amplifiers.Amplifier`
            Gain in electron per ADU and read noise in electron, where known.

        Raises
        ------
        FrameError
            If a section keyword is malformed or does not fit.
        """
        return self.instrument.amplifiers(extension.header, extension.shape)

    def write(self, target, overwrite=False, mask_extension=False):
        """Write the frame with its marks; nothing else changes.

        Parameters
        ----------
        target : path-like
            The name may end in .gz, .bz2 or .xz.  A companion mask file is
            written beside it under its own name.
        overwrite : bool
            Replace an existing file.
        mask_extension : bool
            Add a plane ``CRMASK`` of the cosmic rays alone for each extension.

        Returns
        -------
        list of `pathlib.Path`
            The files written.

        Raises
        ------
        FrameError
            If a file exists or cannot be written.
        """
        target = Path(target)
        jobs = [(self._file, target, self._edits(mask_extension))]
        if self._companion:
            name = target.name.replace("_ooi_", "_ood_")
            if name == target.name:
                raise FrameError(f"{target}: needs _ooi_ in its name, for its _ood_ mask file")
            planes = {e.mask[1]: self._marked(e) for e in self.extensions if e.mask and e.index in self.marks}
            # It is renamed first, as the last to be entered: an image that says it was masked must have a mask.
            jobs.append((self._companion, target.with_name(name), (planes, {}, [])))
        try:
            with ExitStack() as stack:
                for source, path, edits in jobs:
                    stream = stack.enter_context(replacing(path, overwrite))
                    source.copy(stream, *edits)
        except FrameError:
            raise
        except (OSError, fits.VerifyError) as error:
            raise FrameError(f"cannot write {target}: {getattr(error, 'strerror', None) or error}") from error
        return [path for _, path, _ in jobs]

    def _edits(self, mask_extension):
        """Return what `_FitsFile.copy` is to change.  Planes come as functions, so that one is held at a time."""
        planes, cards, extra = {}, {0: self.cards}, []
        for extension in self.extensions:
            marks = self.marks.get(extension.index)
            if marks is None:
                continue
            cards[extension.index] = {**cards.get(extension.index, {}), **marks.cards}
            new = [masks.CR_PLANE] if mask_extension else []
            if extension.mask is None:
                new = [extension.convention, *(c for c in new if c is not extension.convention)]
            elif extension.mask[0] == "frame":
                planes[extension.mask[1]] = self._marked(extension)
            for convention in new:
                make = self._new_plane(extension, convention)
                key = (convention.extension, extension.version)
                old = [i for i, h in enumerate(self._file.hdus) if (h.name, h.ver) == key]
                if old:
                    planes[old[0]] = make
                else:
                    extra.append(make)
        return planes, {index: (c, self.history) for index, c in cards.items() if c}, extra

    def _cosmic_rays(self, extension):
        found = np.zeros(extension.shape, bool)
        found.ravel()[self.marks[extension.index].pixels] = True
        return found

    def _marked(self, extension):
        """Return a function that makes the mask HDU of an extension."""

        def make():
            file, index = self._source(extension.mask), extension.mask[1]
            plane = extension.convention.marked(file.read(index), self._cosmic_rays(extension))
            return file.image_hdu(index, plane)

        return make

    def _new_plane(self, extension, convention):
        """Return a function that makes a new mask HDU for an extension."""

        def make():
            header = fits.Header([("CRIMAGE", extension.name, "the image that this plane is of")])
            plane = np.zeros(extension.shape, convention.dtype)
            plane = convention.marked(plane, self._cosmic_rays(extension))
            if self._file.is_compressed(extension.index):
                hdu = fits.CompImageHDU(plane, header, convention.extension, compression_type=COMPRESSION)
            else:
                hdu = fits.ImageHDU(plane, header, convention.extension)
            hdu.ver = extension.version
            return hdu

        return make


class _FitsFile:
    """A FITS file as HDUs to read and as ranges of bytes to copy."""

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
            with warnings.catch_warnings():
                # Damage is found below by the sizes, in words of our own.
                warnings.simplefilter("ignore")
                try:
                    self.hdus = stack.enter_context(fits.open(plain, memmap=False))
                    self._raw = stack.enter_context(fits.open(plain, memmap=False, disable_image_compression=True))
                    len(self.hdus), len(self._raw)
                except (OSError, ValueError, TypeError, KeyError, IndexError, fits.VerifyError) as error:
                    if isinstance(error, OSError) and error.strerror:
                        raise
                    raise FrameError(f"not a FITS file: {_one_line(error)}") from error
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
        return isinstance(self.hdus[index], fits.CompImageHDU)

    def read(self, index):
        """Return the pixels of an HDU in native byte order."""
        hdu = self.hdus[index]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                data = hdu.data
                data = np.array(data, dtype=data.dtype.newbyteorder("="))
            except Exception as error:
                # The decompressor raises what it likes on damaged data.
                raise FrameError(f"cannot read the pixels of HDU {index}: {_one_line(error)}") from error
            del hdu.data
        return data

    def image_hdu(self, index, plane):
        """Return an HDU like another one but with new pixels."""
        header = self.hdus[index].header
        if self.is_compressed(index):
            return fits.CompImageHDU(plane, header, compression_type=COMPRESSION)
        return (fits.ImageHDU if index else fits.PrimaryHDU)(plane, header)

    def copy(self, stream, planes, cards, extra):
        """Copy the file with some HDUs replaced, some headers edited, and some HDUs appended.

        Parameters
        ----------
        stream : binary file, for reading and writing
        planes : dict of int to callable
            HDU index -> function that makes the HDU in its place.
        cards : dict of int to (dict, str)
            HDU index -> cards and HISTORY line for its header.
        extra : list of callable
            Functions that make the HDUs to append.
        """
        edited = []
        for index, hdu in enumerate(self._raw):
            place = hdu.fileinfo()
            start, end = place["datLoc"], place["datLoc"] + place["datSpan"]
            if index in planes:
                _write_hdu(stream, planes[index]())
                edited.append(index)
            elif index in cards:
                header = _carded(hdu.header, *cards[index])
                if extra and index == 0 and "EXTEND" not in header:
                    header.set("EXTEND", True, after=f"NAXIS{header['NAXIS'] or ''}")
                stream.write(header.tostring().encode("ascii"))
                self._copy_bytes(stream, start, end)
                edited.append(index)
            else:
                self._copy_bytes(stream, place["hdrLoc"], end)
        for make in extra:
            _write_hdu(stream, make())
        checked = [i for i in edited if "CHECKSUM" in self._raw[i].header]
        stream.flush()
        if checked:
            _renew_checksums(stream, checked)

    def _copy_bytes(self, stream, start, end):
        self._bytes.seek(start)
        left = end - start
        while left:
            piece = self._bytes.read(min(left, 1 << 20))
            # The last HDU of some files lacks its padding.
            piece = piece or bytes(left)
            stream.write(piece)
            left -= len(piece)


def _shape(hdu):
    """Return the shape of an image HDU from its header, without reading it."""
    return tuple(hdu.header[f"NAXIS{axis}"] for axis in range(hdu.header["NAXIS"], 0, -1))


def _carded(header, cards, history):
    """Return a copy of a header with cards set anew and our HISTORY line at its end."""
    header = header.copy()
    for keyword, value in cards.items():
        header[keyword] = value
    for index in reversed(range(len(header))):
        card = header.cards[index]
        if card.keyword == "HISTORY" and str(card.value).startswith(_HISTORY_MARK):
            del header[index]
    if history:
        header.add_history(_HISTORY_MARK + history)
    # The checksum of the uncompressed HDU no longer holds; that of its data does.
    header.remove("ZHECKSUM", ignore_missing=True)
    return header


def _write_hdu(stream, hdu):
    """Append an HDU to a stream."""
    buffer = BytesIO()
    primary = isinstance(hdu, fits.PrimaryHDU)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        fits.HDUList([hdu] if primary else [fits.PrimaryHDU(), hdu]).writeto(buffer, output_verify="ignore")
    stream.write(buffer.getbuffer()[0 if primary else _BLOCK :])


def _renew_checksums(stream, indices):
    """Set CHECKSUM and DATASUM of some HDUs of a FITS file, in place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(stream.name, memmap=False, disable_image_compression=True) as hdus:
            for index in indices:
                # No date in the comment: masking a frame twice gives the same bytes.
                hdus[index].add_checksum(when="HDU checksum")
                stream.seek(hdus[index].fileinfo()["hdrLoc"])
                stream.write(hdus[index].header.tostring().encode("ascii"))


@contextmanager
def replacing(target, overwrite=False):
    """Write a file so that it is there whole or not at all.

    Parameters
    ----------
    target : path-like
        A name that ends in .gz, .bz2 or .xz is packed.
    overwrite : bool
        Replace an existing file.

    Yields
    ------
    binary file
        A temporary file beside the target, plain; it becomes the target on a
        clean exit and vanishes on any other.

    Raises
    ------
    FrameError
        If the target exists and is not to be replaced.
    """
    target = Path(target)
    if target.exists() and not overwrite:
        raise FrameError(f"{target} exists; --overwrite replaces it")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    packed = partial.with_name(f"{partial.name}.packed")
    finished = partial
    try:
        with open(partial, "w+b") as stream:
            yield stream
            _settle(stream)
        if target.suffix in PACKERS:
            with open(partial, "rb") as plain, open(packed, "wb") as stream:
                with PACKERS[target.suffix](stream) as packer:
                    shutil.copyfileobj(plain, packer, 1 << 20)
                _settle(stream)
            finished = packed
        os.replace(finished, target)
    finally:
        partial.unlink(missing_ok=True)
        packed.unlink(missing_ok=True)


def _settle(stream):
    stream.flush()
    os.fsync(stream.fileno())


def _one_line(error):
    return re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
