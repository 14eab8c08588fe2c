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
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.utils.data import get_readable_fileobj

from crattn_stage import masks
from crattn_stage.cards import edited, ones_complement, readable, with_checksum
from crattn_stage.errors import FrameError
from crattn_stage.instruments import identify

#: EXTNAMEs of image planes that are not science pixels, alone, numbered (``DQ_2``) or behind another name (``N4_DQ``).
AUXILIARY = re.compile(
    r"(.*_)?(BPM|MASK|DQ|CRMASK|FLAGS?|QUALITY|ERR|ERROR|UNCERT|UNCERTAINTY|SIGMA|RMS|VAR|VARIANCE|IVAR|WEIGHT|WGT|WHT"
    r"|WTMAP|WMAP|PSF|PSFIMAGE|BKG|BACKGROUND)([_-]?\d+)?"
)
MASK_PLANES = ("BPM", "DQ", "MASK")
#: Suffix -> how a whole file is packed; fpack is not among them, it packs images inside.
PACKERS = {
    ".gz": lambda stream: gzip.GzipFile("", "wb", fileobj=stream, mtime=0),
    ".bz2": lambda stream: bz2.BZ2File(stream, "wb"),
    ".xz": lambda stream: lzma.LZMAFile(stream, "wb"),
}
#: Of planes made anew: lossless for integers, and unlike gzip without a time stamp in it.
COMPRESSION = "RICE_1"
#: Cards that hold for the bytes of an HDU as they were.
SUMS = ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM")


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
        if not sibling.exists():
            return None
        try:
            return self._stack.enter_context(_FitsFile(sibling))
        except (FrameError, OSError) as error:
            raise FrameError(f"its mask file {sibling.name}: {getattr(error, 'strerror', None) or error}") from error

    def _describe(self):
        hdus = self._file.hdus
        primary = readable(hdus[0].header)
        images = [i for i, hdu in enumerate(hdus) if hdu.is_image and hdu.header.get("NAXIS", 0) > 0]
        science = [i for i in images if hdus[i].name == "SCI"]
        science = science or [i for i in images if not AUXILIARY.fullmatch(hdus[i].name)]
        self.header = primary.copy()
        if science:
            # Some pipelines write what was observed on the image alone.
            self.header.extend(readable(hdus[science[0]].header), unique=True, strip=True, end=True)
        self.instrument = identify(self.header)
        science = [i for i in science if self.instrument.is_detector(hdus[i].name)]
        filled = [i for i in science if 0 not in _shape(hdus[i])]
        if not filled:
            raise FrameError("zero-sized image" if science else "no image in it")
        flat = [i for i in filled if len(_shape(hdus[i])) == 2]
        for index in set(filled) - set(flat):
            shape = _shape(hdus[index])
            text = f"HDU {index} is {len(shape)}-dimensional, of shape {shape}; only 2-D images are masked"
            if not flat:
                raise FrameError(text)
            self.notes.append(text)
        # What holds for the whole exposure stands in the primary; sections are each image's own.
        del primary["DATASEC*"]
        versions = [hdus[i].ver for i in flat]
        by_version = len({hdus[i].name for i in flat}) == 1 and len(set(versions)) == len(versions)
        self.extensions = []
        for order, index in enumerate(flat, 1):
            hdu = hdus[index]
            header = readable(hdu.header)
            header.extend(primary, unique=True, strip=True, end=True)
            version = hdu.ver if by_version else order
            mask = self._find_mask(hdu, version, order, len(flat))
            plane = self._source(mask).hdus[mask[1]].header if mask else None
            convention = self.instrument.convention(
                header, plane, companion=mask is not None and mask[0] == "companion"
            )
            if convention is None:
                self.notes.append(f"flags of {plane['EXTNAME']} are not known; it is left as it is")
                mask, convention = None, masks.CR_PLANE
            elif mask is None and any((h.name, h.ver) == (convention.extension, version) for h in hdus):
                # A plane of that name is there and not to be used.
                convention = masks.CR_PLANE
            name = (hdu.name or f"HDU{index}") + (f",{hdu.ver}" if hdu.ver != 1 else "")
            if any(e.name == name for e in self.extensions):
                name += f"#{index}"
            self.extensions.append(Extension(index, name, header, _shape(hdu), convention, mask, version))

    def _find_mask(self, image, version, order, count):
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
                plane = self._source(extension.mask).read_integers(extension.mask[1])
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
            Add a plane ``CRMASK`` of the cosmic rays alone for each extension;
            one that an earlier run added is renewed in any case.

        Returns
        -------
        list of `pathlib.Path`
            The files written.

        Raises
        ------
        FrameError
            If a file exists or cannot be written.
        """
        files = self.outputs(target)
        edits = [self._edits(mask_extension)]
        if self._companion:
            planes = {e.mask[1]: self._marked(e) for e in self.extensions if e.mask and e.index in self.marks}
            edits.append((planes, {}, []))
        try:
            with replacing(files, overwrite) as streams:
                for source, stream, changes in zip((self._file, self._companion), streams, edits, strict=False):
                    source.copy(stream, *changes)
        except FrameError:
            raise
        except (OSError, fits.VerifyError) as error:
            raise FrameError(f"cannot write {files[0]}: {getattr(error, 'strerror', None) or error}") from error
        return files

    def outputs(self, target):
        """Return the files that `write` will write.

        Parameters
        ----------
        target : path-like

        Returns
        -------
        list of `pathlib.Path`
            The target and, where there is one, its companion mask file.

        Raises
        ------
        FrameError
            If a companion needs ``_ooi_`` in the name of the target, and it is not there.
        """
        target = Path(target)
        if not self._companion:
            return [target]
        if "_ooi_" not in target.name:
            raise FrameError(f"{target}: needs _ooi_ in its name, for its _ood_ mask file")
        return [target, target.with_name(target.name.replace("_ooi_", "_ood_"))]

    def _edits(self, mask_extension):
        """Return what `_FitsFile.copy` is to change.  Planes come as functions, so that one is held at a time."""
        planes, cards, extra = {}, {0: self.cards}, []
        for extension in self.extensions:
            marks = self.marks.get(extension.index)
            if marks is None:
                continue
            cards[extension.index] = {**cards.get(extension.index, {}), **marks.cards}
            if extension.mask and extension.mask[0] == "frame":
                planes[extension.mask[1]] = self._marked(extension)
            new = {} if extension.mask else {extension.convention.extension: extension.convention}
            new[masks.CR_PLANE.extension] = masks.CR_PLANE
            for name, convention in new.items():
                make = self._new_plane(extension, convention)
                old = self._own_plane(name, extension)
                if old is not None:
                    # Also without `mask_extension`: a CRMASK of an earlier run must not contradict the mask.
                    planes[old] = make
                elif convention is extension.convention or mask_extension:
                    extra.append(make)
        return planes, {index: (c, self.history) for index, c in cards.items() if c}, extra

    def _own_plane(self, name, extension):
        """Return the index of the plane of that name that an earlier run added for an extension, or None."""
        for index, hdu in enumerate(self._file.hdus):
            if (hdu.name, hdu.ver) == (name, extension.version) and hdu.header.get("CRIMAGE") == extension.name:
                return index
        return None

    def _cosmic_rays(self, extension):
        found = np.zeros(extension.shape, bool)
        found.ravel()[self.marks[extension.index].pixels] = True
        return found

    def _marked(self, extension):
        """Return a function that makes the mask HDU of an extension."""

        def make():
            file, index = self._source(extension.mask), extension.mask[1]
            plane = extension.convention.marked(file.read_integers(index), self._cosmic_rays(extension))
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
        return isinstance(self.hdus[index], fits.CompImageHDU)

    def read(self, index):
        """Return the pixels of an HDU in native byte order."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                # Opened anew: astropy changes an HDU by reading it, and keeps its pixels.
                with fits.open(self._plain, memmap=False) as hdus:
                    data = hdus[index].data
                    return np.array(data, dtype=data.dtype.newbyteorder("="))
            except Exception as error:
                # The decompressor raises what it likes on damaged data.
                raise FrameError(f"cannot read the pixels of HDU {index}: {_one_line(error)}") from error

    def read_integers(self, index):
        """Return the flags of a mask HDU; where it has a BLANK, which makes astropy read floats, 0 is its value."""
        data = self.read(index)
        if data.dtype.kind == "f":
            data = np.nan_to_num(data).astype(f"i{self.hdus[index].header['BITPIX'] // 8}")
        return data

    def image_hdu(self, index, plane):
        """Return an HDU like another one but with new pixels."""
        header = self.hdus[index].header.copy()
        for keyword in (*SUMS, "BLANK"):
            header.remove(keyword, ignore_missing=True)
        if self.is_compressed(index):
            # Rice packs 32 bits at most.
            kind = COMPRESSION if plane.itemsize <= 4 else "NOCOMPRESS"
            return fits.CompImageHDU(plane, header, compression_type=kind)
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
        checked = "CHECKSUM" in self._raw[0].header
        for index, hdu in enumerate(self._raw):
            place = hdu.fileinfo()
            start, end = place["datLoc"], place["datLoc"] + place["datSpan"]
            if index in planes:
                _write_hdu(stream, planes[index](), "CHECKSUM" in hdu.header)
            elif index in cards:
                self._bytes.seek(place["hdrLoc"])
                header = self._bytes.read(start - place["hdrLoc"])
                stream.write(edited(header, *cards[index], data_sum=partial(self._data_sum, start, end)))
                self._copy_bytes(stream, start, end)
            else:
                self._copy_bytes(stream, place["hdrLoc"], end)
        for make in extra:
            _write_hdu(stream, make(), checked)

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


def _shape(hdu):
    """Return the shape of an image HDU from its header, without reading it."""
    return tuple(hdu.header[f"NAXIS{axis}"] for axis in range(hdu.header["NAXIS"], 0, -1))


def _write_hdu(stream, hdu, checked):
    """Append an HDU to a stream, with checksums if asked."""
    buffer = BytesIO()
    primary = isinstance(hdu, fits.PrimaryHDU)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList([hdu] if primary else [fits.PrimaryHDU(), hdu]).writeto(buffer, output_verify="ignore")
        content = buffer.getvalue()
        with fits.open(BytesIO(content), disable_image_compression=True) as written:
            place = written[-1].fileinfo()
    header, data = content[place["hdrLoc"] : place["datLoc"]], content[place["datLoc"] :]
    stream.write(with_checksum(header, data) if checked else header)
    stream.write(data)


@contextmanager
def replacing(targets, overwrite=False):
    """Write files so that they are there whole or not at all.

    Parameters
    ----------
    targets : list of path-like
        A name that ends in .gz, .bz2 or .xz is packed.
    overwrite : bool
        Replace existing files.  A link is replaced, not what it points to.

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
    parts = [target.with_name(f".{target.name}.{os.getpid()}.part") for target in targets]
    packed = [part.with_name(f"{part.name}.packed") for part in parts]
    try:
        with ExitStack() as stack:
            streams = [stack.enter_context(open(part, "w+b")) for part in parts]
            yield streams
            for stream in streams:
                _settle(stream)
        finished = [_packed(*paths) for paths in zip(targets, parts, packed, strict=True)]
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


def _one_line(error):
    return re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
