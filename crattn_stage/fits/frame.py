"""Observation frames: FITS files in and out.

A frame is read one detector extension at a time, as CCDData, and written by
copying: the bytes of every HDU that has not changed, and the pixels of every
science HDU, go from input to output as they are, compressed or not.  Only
headers that got new cards and mask planes are made anew.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData

from crattn_stage.cameras import masks
from crattn_stage.cameras.instruments import identify
from crattn_stage.errors import FrameError
from crattn_stage.fits.atomic import replacing
from crattn_stage.fits.file import COMPRESSION, FitsFile, shape_of
from crattn_stage.fits.header import readable

#: EXTNAMEs of image planes that are not science pixels, alone, numbered (``DQ_2``) or behind another name (``N4_DQ``).
AUXILIARY = re.compile(
    r"(.*_)?(BPM|MASK|DQ|CRMASK|FLAGS?|QUALITY|ERR|ERROR|UNCERT|UNCERTAINTY|SIGMA|RMS|VAR|VARIANCE|IVAR|WEIGHT|WGT|WHT"
    r"|WTMAP|WMAP|PSF|PSFIMAGE|BKG|BACKGROUND)([_-]?\d+)?"
)
MASK_PLANES = ("BPM", "DQ", "MASK")


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
    convention : `crattn_stage.cameras.masks.MaskConvention`
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
    instrument : `crattn_stage.cameras.instruments.Instrument`
    header : `astropy.io.fits.Header`
        Of the primary HDU, with the cards of a lone science extension behind it.
    extensions : list of `Extension`
    marks : dict of int to `Marks`
        By HDU index; what `write` will write.
    detections : list of `crattn_stage.quality.summary.Detection`
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
        self._stack, self._made = ExitStack(), {}
        try:
            with self._stack:
                self._file = self._stack.enter_context(FitsFile(self.path))
                self._companion = self._find_companion()
                self._describe()
                # Reads ahead, and packs what is found, while the network runs; one thread, so that memory is bounded.
                self._background = self._stack.enter_context(ThreadPoolExecutor(1))
                self._stack = self._stack.pop_all()
        except OSError as error:
            raise FrameError(error.strerror or str(error)) from error

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Close the files."""
        self._stack.close()

    @property
    def inputs(self):
        """The files that the frame is read from, a list of `pathlib.Path`: its own and its companion mask file."""
        return input_files(self.path)

    def _find_companion(self):
        sibling = next(iter(input_files(self.path)[1:]), None)
        if sibling is None:
            return None
        try:
            return self._stack.enter_context(FitsFile(sibling))
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
        filled = [i for i in science if 0 not in shape_of(hdus[i])]
        if not filled:
            raise FrameError("zero-sized image" if science else "no image in it")
        flat = [i for i in filled if len(shape_of(hdus[i])) == 2]
        for index in set(filled) - set(flat):
            shape = shape_of(hdus[index])
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
            convention = self.instrument.convention(header, plane, self._companion is not None)
            if convention is None:
                self.notes.append(f"flags of {plane['EXTNAME']} are not known; it is left as it is")
                mask, convention = None, masks.CR_PLANE
            elif mask is None and any((h.name, h.ver) == (convention.extension, version) for h in hdus):
                # A plane of that name is there and not to be used.
                convention = masks.CR_PLANE
            name = (hdu.name or f"HDU{index}") + (f",{hdu.ver}" if hdu.ver != 1 else "")
            if any(e.name == name for e in self.extensions):
                name += f"#{index}"
            self.extensions.append(Extension(index, name, header, shape_of(hdu), convention, mask, version))

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
        if shape_of(plane) != shape_of(image):
            self.notes.append(f"mask plane {plane.name} has another shape than {image.name}; not used")
            return None
        if plane.header["BITPIX"] < 0:
            self.notes.append(f"mask plane {plane.name} is not of integers; not used")
            return None
        return source, found[0]

    def _source(self, mask):
        return self._file if mask[0] == "frame" else self._companion

    def ccds(self):
        """Read the detectors one after the other, each while the one before is worked on.

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
        following = None
        for extension, after in zip(self.extensions, [*self.extensions[1:], None], strict=True):
            ccd = following.result() if following else self._read(extension)
            following = self._background.submit(self._read, after) if after else None
            yield extension, ccd
            del ccd

    def _read(self, extension):
        image = self._file.read(extension.index)
        mask = None
        if extension.mask:
            plane = self._source(extension.mask).read_integers(extension.mask[1])
            mask = extension.convention.bad_pixels(plane)
        unit = self.instrument.unit(extension.header)
        return CCDData(image, unit=unit, mask=mask, meta=extension.header)

    def mark(self, extension, marks):
        """Mark an extension, and start to pack its mask plane where that is work.

        Parameters
        ----------
        extension : `Extension`
        marks : `Marks`
            Its pixels are not to be changed any more.
        """
        self.marks[extension.index] = marks
        if extension.mask and self._source(extension.mask).is_compressed(extension.mask[1]):
            self._made[extension.index] = marks, self._background.submit(self._marked, extension)

    def amplifiers(self, extension):
        """Return the amplifiers of an extension.

        Parameters
        ----------
        extension : `Extension`

        Returns
        -------
        list of `crattn_stage.cameras.sections.Amplifier`
            Gain in electron per ADU and read noise in electron, where known.

        Raises
        ------
        FrameError
            If a section keyword is malformed or does not fit.
        """
        return self.instrument.amplifiers(extension.header, extension.shape)

    def write(self, target, overwrite=False, mask_extension=False, ready=None):
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
        ready : callable, optional
            As for `crattn_stage.fits.atomic.replacing`.

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
            planes = {
                e.mask[1]: partial(self._mask_plane, e) for e in self.extensions if e.mask and e.index in self.marks
            }
            edits.append((planes, {}, []))
        try:
            with replacing(files, overwrite, ready) as streams:
                for source, stream, changes in zip((self._file, self._companion), streams, edits, strict=False):
                    source.copy(stream, *changes)
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
        """Return what `FitsFile.copy` is to change.  Planes come as functions, so that one is held at a time."""
        planes, cards, extra = {}, {0: self.cards}, []
        for extension in self.extensions:
            marks = self.marks.get(extension.index)
            if marks is None:
                continue
            cards[extension.index] = {**cards.get(extension.index, {}), **marks.cards}
            if extension.mask and extension.mask[0] == "frame":
                planes[extension.mask[1]] = partial(self._mask_plane, extension)
            new = {} if extension.mask else {extension.convention.extension: extension.convention}
            new[masks.CR_PLANE.extension] = masks.CR_PLANE
            for name, convention in new.items():
                old = self._own_plane(name, extension)
                if old is not None:
                    # Also without `mask_extension`: a CRMASK of an earlier run must not contradict the mask.
                    planes[old] = partial(self._new_plane, extension, convention, old)
                elif convention is extension.convention or mask_extension:
                    extra.append(partial(self._new_plane, extension, convention))
        primary = self._file.hdus[0].header
        if extra and "NEXTEND" in primary:
            count = len(self._file.hdus) - 1 + len(extra)
            cards[0] = {**cards[0], "NEXTEND": (count, primary.comments["NEXTEND"])}
        return planes, {index: (c, self.history) for index, c in cards.items() if c}, extra

    def _own_plane(self, name, extension):
        """Return the index of the plane of that name that an earlier run added for an extension, or None."""
        for index, hdu in enumerate(self._file.hdus):
            if (hdu.name, hdu.ver) == (name, extension.version) and hdu.header.get("CRIMAGE") == extension.name:
                return index
        return None

    def cosmic_rays(self, extension):
        """Return the cosmic rays marked on an extension.

        Parameters
        ----------
        extension : `Extension`
            With marks.

        Returns
        -------
        `numpy.ndarray` of bool
            The shape of the extension.

        Raises
        ------
        KeyError
            If it has no marks.
        """
        found = np.zeros(extension.shape, bool)
        found.ravel()[self.marks[extension.index].pixels] = True
        return found

    def masked(self, extension):
        """Return the cosmic rays that the file itself marks on an extension.

        Parameters
        ----------
        extension : `Extension`

        Returns
        -------
        `numpy.ndarray` of bool or None
            The shape of the extension, of its CRMASK plane, or else of its
            mask plane; None where there is neither.

        Raises
        ------
        FrameError
            If the plane cannot be read.
        """
        own = self._own_plane(masks.CR_PLANE.extension, extension)
        if own is not None:
            return masks.CR_PLANE.cosmic_rays(self._file.read_integers(own))
        if extension.mask is None:
            return None
        return extension.convention.cosmic_rays(self._source(extension.mask).read_integers(extension.mask[1]))

    def _mask_plane(self, extension):
        """Return the mask HDU of an extension as bytes, made now or in the background."""
        marks, made = self._made.get(extension.index, (None, None))
        return made.result() if marks is self.marks[extension.index] else self._marked(extension)

    def _marked(self, extension):
        file, index = self._source(extension.mask), extension.mask[1]
        plane = extension.convention.marked(file.read_integers(index), self.cosmic_rays(extension))
        return file.rendered(file.image_hdu(index, plane), index)

    def _new_plane(self, extension, convention, like=0):
        """Return a new mask HDU for an extension as bytes."""
        header = fits.Header([("CRIMAGE", extension.name, "the image that this plane is of")])
        plane = np.zeros(extension.shape, convention.dtype)
        plane = convention.marked(plane, self.cosmic_rays(extension))
        if self._file.is_compressed(extension.index):
            hdu = fits.CompImageHDU(plane, header, convention.extension, compression_type=COMPRESSION)
        else:
            hdu = fits.ImageHDU(plane, header, convention.extension)
        hdu.ver = extension.version
        return self._file.rendered(hdu, like)


def input_files(path):
    """Return the files of a frame, without opening any.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of `pathlib.Path`
        The frame and, beside a DECam ``_ooi_`` image, its ``_ood_`` mask file where there is one.
    """
    path = Path(path)
    sibling = path.with_name(path.name.replace("_ooi_", "_ood_"))
    return [path, sibling] if sibling != path and sibling.exists() else [path]
