"""Observation frames: a FITS file of one exposure, read a detector at a time."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from crattn_stage.cameras import facts, layout
from crattn_stage.errors import FrameError
from crattn_stage.fits import writer
from crattn_stage.fits.file import FitsFile, shape_of
from crattn_stage.fits.header import readable
from crattn_stage.fits.region_files import read_regions, region_mask


@dataclass
class Marks:
    """What to write on one extension.

    Attributes
    ----------
    pixels : `numpy.ndarray` of int
        Flat indices of its cosmic-ray pixels.
    cards : dict
        Keyword -> (value, comment).
    probability : `numpy.ndarray` or None
        Float32, of the shape of the extension, where a plane of it is to be written.
    flags : `numpy.ndarray` or None
        The mask plane as it was read, which saves reading it again; not kept.
    """

    pixels: np.ndarray
    cards: dict = field(default_factory=dict)
    probability: np.ndarray | None = None
    flags: np.ndarray | None = None


class OpenFrame:
    """The files of an exposure, open, and what is understood of them.  Use it in a ``with`` block.

    Parameters
    ----------
    path : path-like
        Simple, multi-extension or fpack-compressed FITS, whole or packed by gzip, bzip2 or xz.  Where a camera
        profile says so, its mask file is found beside it.
    look : bool
        Look at pixels where names and cards do not tell what an HDU is.
    calibrations : bool
        Describe the detectors of a bias, dark or flat, too.
    arcs : bool
        Take arcs for spectra of the sky, which are masked.

    Attributes
    ----------
    path : `pathlib.Path`
    file : `crattn_stage.fits.file.FitsFile`
    companion : `crattn_stage.fits.file.FitsFile` or None
        The mask file.
    layout : `crattn_stage.cameras.layout.Layout`

    Raises
    ------
    FrameError
        If a file cannot be read, or it cannot be told what is in it.
    """

    def __init__(self, path, look=True, calibrations=False, arcs=False):
        self.path = Path(path)
        self._stack = ExitStack()
        try:
            with self._stack:
                self.file = self._stack.enter_context(FitsFile(self.path))
                hdus = _described(self.file)
                identified = layout.identify(hdus, self.path.name)
                self.companion = self._find_companion(identified[0], hdus[0].header)
                self.layout = layout.understand(
                    hdus,
                    self.path.name,
                    _described(self.companion) if self.companion else None,
                    self._pixels if look else None,
                    identified,
                    calibrations,
                    arcs,
                )
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
        """The files that the frame is read from, a list of `pathlib.Path`: its own and its mask file."""
        return [self.path, *([self.companion.path] if self.companion else [])]

    def sha256(self):
        """Return the sha256 of what is read: the file as it is on disk, with its mask file behind it.

        Returns
        -------
        str
            Hexadecimal, 64 digits, as from `crattn_stage.fits.atomic.sha256` of `inputs`.

        Raises
        ------
        FrameError
            If a file has changed since it was opened.
        """
        if not self.companion:
            return self.file.sha256()
        digest = hashlib.sha256()
        for file in (self.file, self.companion):
            file.hash_into(digest)
        return digest.hexdigest()

    def _find_companion(self, profile, header):
        for name in layout.companion_name(profile, self.path.name, header):
            sibling = self.path.with_name(name)
            # Also a link to nowhere: without its mask, the frame would not be masked as it should be.
            if os.path.lexists(sibling):
                try:
                    return self._stack.enter_context(FitsFile(sibling))
                except (FrameError, OSError) as error:
                    raise FrameError(f"its mask file {name}: {getattr(error, 'strerror', None) or error}") from error
        return None

    def source(self, which):
        """Return one of the open files.

        Parameters
        ----------
        which : {"frame", "companion"}

        Returns
        -------
        `crattn_stage.fits.file.FitsFile`
        """
        return self.file if which == "frame" else self.companion

    def _pixels(self, which, index):
        data = self.source(which).read(index)
        return data.reshape(data.shape[-2:]) if data.size == np.prod(data.shape[-2:]) else data


def _described(file):
    """Return the HDUs of a file as `crattn_stage.cameras.layout.Hdu`."""
    return [
        layout.Hdu(index, readable(hdu.header), hdu.name, hdu.ver, _flat(shape_of(hdu)) if hdu.is_image else ())
        for index, hdu in enumerate(file.hdus)
    ]


def _flat(shape):
    """Return a shape without axes of length 1 before the last two: a cube of one plane is an image."""
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


class ObservationFrame(OpenFrame):
    """A FITS file of one exposure that may be masked.  Use it in a ``with`` block.

    Parameters
    ----------
    path : path-like
    calibrations, arcs : bool
        As for `OpenFrame`.

    Attributes
    ----------
    path : `pathlib.Path`
    profile : `crattn_stage.cameras.profile.Profile`
        Of its camera or archive.
    header : `astropy.io.fits.Header`
        Of the primary HDU, with the cards of the first science extension behind it.
    exposure : `crattn_stage.cameras.facts.Exposure`
        What it says of itself.
    extensions : list of `crattn_stage.cameras.layout.Extension`
        Its detectors; none for a frame that is not of the sky.
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
        If the file cannot be read, holds no image of a detector, or must not be masked.
    """

    def __init__(self, path, calibrations=False, arcs=False):
        super().__init__(path, calibrations=calibrations, arcs=arcs)
        if self.layout.refusal:
            self.close()
            raise FrameError(self.layout.refusal)
        self.marks, self.cards, self.history, self.detections = {}, {}, "", []
        self.profile, self.header, self.exposure = self.layout.profile, self.layout.header, self.layout.exposure
        self.extensions, self.notes = self.layout.extensions, list(self.layout.notes)
        # Reads ahead, and packs what is found, while the network runs; one thread, so that memory is bounded.
        self.background = self._stack.enter_context(ThreadPoolExecutor(1))
        self.made, self.probabilities = {}, {}

    def ccds(self):
        """Read the detectors one after the other, each while the one before is worked on.

        Yields
        ------
        extension : `crattn_stage.cameras.layout.Extension`
        ccd : `astropy.nddata.CCDData`
            Pixels in native byte order, in ADU or electron; mask True on bad
            pixels (of its mask plane, cosmic rays left out), None without one.  Its
            flags are those of the plane into which the cosmic rays go, None without one.

        Raises
        ------
        FrameError
            If the pixels cannot be read.
        """
        if not self.extensions:
            return
        following = None
        for extension, after in zip(self.extensions, [*self.extensions[1:], None], strict=True):
            ccd = following.result() if following else self.read(extension)
            following = self.background.submit(self.read, after) if after else None
            yield extension, ccd
            del ccd

    def read(self, extension):
        """Read a detector.

        Parameters
        ----------
        extension : `crattn_stage.cameras.layout.Extension`

        Returns
        -------
        `astropy.nddata.CCDData`
            As from `ccds`.

        Raises
        ------
        FrameError
            If the pixels cannot be read.
        """
        from astropy.nddata import CCDData

        image, mask, flags = self._pixels("frame", extension.index), None, None
        if image.dtype.kind == "f" and np.isnan(image).any():
            # Signalling NaNs, of which some files are full, warn at each use.
            image = np.where(np.isnan(image), image.dtype.type(np.nan), image)
        if extension.flags:
            which, index, convention = extension.flags
            flags = self._pixels(which, index)
            mask = convention.bad_pixels(layout.masks.as_integers(flags))
            if extension.mask != (which, index):
                flags = None
        named = self.profile.mask_settings.get("bad_pixels")
        if named:
            more = bad_pixels(named, extension)
            mask = more if mask is None else mask | more
        # A rate or a flux density is called ADU: a CCDData must have a unit, and the network is insensitive to it.
        unit = facts.charge_unit(extension.header, self.profile) or "adu"
        return CCDData(image, unit=unit, mask=mask, meta=extension.header, flags=flags)

    def mark(self, extension, marks):
        """Mark an extension, and start to pack its mask plane where that is work.

        Parameters
        ----------
        extension : `crattn_stage.cameras.layout.Extension`
        marks : `Marks`
            Its pixels are not to be changed any more.
        """
        self.marks[extension.index] = marks
        flags, marks.flags = marks.flags, None
        if extension.mask and self.source(extension.mask[0]).is_compressed(extension.mask[1]):
            made = self.background.submit(writer.marked_plane, self, extension, flags)
            self.made[extension.index] = marks, made
        if marks.probability is not None:
            # The pixels themselves are not kept.
            probability, marks.probability = marks.probability, None
            packed = self.background.submit(writer.probability_plane, self, extension, probability)
            self.probabilities[extension.index] = packed

    def has_probability(self, extension):
        """Tell whether an earlier run has added a plane of probabilities, which is renewed in any case.

        Parameters
        ----------
        extension : `crattn_stage.cameras.layout.Extension`

        Returns
        -------
        bool
        """
        return writer.own_plane(self, layout.masks.PROBABILITY, extension) is not None

    def amplifiers(self, extension):
        """Return the amplifiers of an extension.

        Parameters
        ----------
        extension : `crattn_stage.cameras.layout.Extension`

        Returns
        -------
        list of `crattn_stage.cameras.sections.Amplifier`
            Gain in electron per ADU and read noise in electron, where known.
        """
        return extension.amplifiers

    def saturation(self, extension):
        """Return the level at which a detector saturates, in the unit of its image, or None.

        Parameters
        ----------
        extension : `crattn_stage.cameras.layout.Extension`

        Returns
        -------
        float or None
        """
        return facts.saturation(extension.header, self.profile, [a.name for a in extension.amplifiers])

    def pixel_area(self, extension):
        """Return the area of a pixel in cm2, or None.

        Parameters
        ----------
        extension : `crattn_stage.cameras.layout.Extension`

        Returns
        -------
        float or None
        """
        return facts.pixel_area(extension.header, self.profile)

    def write(
        self,
        target,
        overwrite=False,
        mask_extension=False,
        before_rename=None,
        products=(),
        flag_variance=False,
        known=(),
    ):
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
        before_rename : callable, optional
            As for `crattn_stage.fits.atomic.replacing`.
        products : sequence of tuple
            (path, function that writes to a binary file) of further files, which come into place before the target.
        flag_variance : bool
            Give the marked pixels in planes of uncertainties the value that says "no information".
        known : collection of tuple of str
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
        return writer.write(self, files, overwrite, mask_extension, before_rename, products, flag_variance, known)

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
            If the name of the target does not tell that of its mask file.
        """
        target = Path(target)
        if not self.companion:
            return [target]
        names = layout.companion_name(self.profile, target.name, self.header)
        if not names:
            finds = " or ".join(rule["find"] for rule in self.profile.companions)
            raise FrameError(f"{target}: needs {finds} in its name, for its mask file")
        return [target, target.with_name(names[0])]

    def cosmic_rays(self, extension):
        """Return the cosmic rays marked on an extension.

        Parameters
        ----------
        extension : `crattn_stage.cameras.layout.Extension`
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
        extension : `crattn_stage.cameras.layout.Extension`

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
        own = writer.own_plane(self, layout.masks.CR_PLANE.extension, extension)
        if own is not None:
            return layout.masks.CR_PLANE.cosmic_rays(self.file.read_integers(own))
        if extension.mask is None:
            return None
        plane = self.source(extension.mask[0]).read_integers(extension.mask[1]).reshape(extension.shape)
        return extension.convention.cosmic_rays(plane)


def bad_pixels(path, extension):
    """Return the bad pixels of a detector that a file of its own names.

    Parameters
    ----------
    path : path-like
        A FITS mask, in which anything but 0 is bad (by EXTNAME and EXTVER where it has several images), or a DS9
        region file in image coordinates.
    extension : `crattn_stage.cameras.layout.Extension`

    Returns
    -------
    `numpy.ndarray` of bool
        The shape of the extension.

    Raises
    ------
    FrameError
        If the file cannot be read or does not fit the detector.
    """
    path, shape = Path(path), extension.shape
    packed = _bad_pixels(path, path.stat().st_mtime_ns if path.exists() else None, extension.name, shape)
    return np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).view(bool)


# As many detectors as a large mosaic has, or several small ones: a bit for each pixel, since a worker lives long.
@lru_cache(128)
def _bad_pixels(path, _, name, shape):
    try:
        mask = region_mask(read_regions(path), shape) if path.suffix == ".reg" else _of_image(path, name, shape)
    except (FrameError, OSError) as error:
        raise FrameError(f"bad-pixel file {path}: {getattr(error, 'strerror', None) or error}") from error
    return np.packbits(mask)


def _of_image(path, name, shape):
    with FitsFile(path) as file:
        images = [i for i, h in enumerate(file.hdus) if h.is_image and _flat(shape_of(h)) == shape]
        own, _, version = name.partition(",")
        named = [i for i in images if file.hdus[i].name == own]
        if len(named) > 1:
            named = [i for i in named if str(file.hdus[i].ver) == (version or "1")]
        found = named if len(named) == 1 else images
        if len(found) != 1:
            raise FrameError(f"it has {len(found)} images of {shape[1]} x {shape[0]} for {name}")
        return np.nan_to_num(file.read(found[0]), nan=1).reshape(shape) != 0
