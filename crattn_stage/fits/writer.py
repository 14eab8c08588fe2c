"""Write a masked frame: what has changed is made anew, everything else is copied byte for byte."""

from functools import partial

import numpy as np
from astropy.io import fits

from crattn_stage.cameras import masks
from crattn_stage.errors import FrameError
from crattn_stage.fits.atomic import replacing
from crattn_stage.fits.file import COMPRESSION
from crattn_stage.fits.header import readable

#: Probabilities are written as integers in steps of this.
PROBABILITY_STEP = 1e-4
#: `no_information` of a profile -> value in planes of variance or standard deviation.
NO_INFORMATION = {"inf": np.inf, "nan": np.nan, "zero": 0.0}


def write(frame, files, overwrite, mask_extension, before_rename, products=(), flag_variance=False, known=()):
    """Write a frame with its marks.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
    files : list of `pathlib.Path`
        From its `outputs`.
    overwrite, mask_extension, before_rename, products, flag_variance, known
        As for its `write`.

    Returns
    -------
    list of `pathlib.Path`
        `files`, and those of the products.

    Raises
    ------
    FrameError
        If a file exists or cannot be written.
    """
    edits = [edits_of(frame, mask_extension, flag_variance)]
    if frame.companion:
        marked = [e for e in frame.extensions if e.mask and e.mask[0] == "companion" and e.index in frame.marks]
        edits.append(({e.mask[1]: partial(_mask_plane, frame, e) for e in marked}, {}, []))
    try:
        with replacing([*files, *(path for path, _ in products)], overwrite, before_rename, known) as streams:
            for (_, write_product), stream in zip(products, streams[len(files) :], strict=True):
                write_product(stream)
            for source, stream, changes in zip((frame.file, frame.companion), streams, edits, strict=False):
                source.copy(stream, *changes)
    except (OSError, fits.VerifyError) as error:
        raise FrameError(f"cannot write {files[0]}: {getattr(error, 'strerror', None) or error}") from error
    return [*files, *(path for path, _ in products)]


def edits_of(frame, mask_extension=False, flag_variance=False, further=()):
    """Return what `crattn_stage.fits.file.FitsFile.copy` is to change in a frame so that it has its marks.

    Planes come as functions, so that one is held at a time.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
    mask_extension, flag_variance : bool
        As for its `write`.
    further : sequence of `crattn_stage.cameras.masks.MaskConvention`
        Of further planes of the marked pixels, one of each for each extension.

    Returns
    -------
    planes, cards, extra
    """
    planes, cards, extra = {}, {0: frame.cards}, []
    for extension in frame.extensions:
        marks = frame.marks.get(extension.index)
        if marks is None:
            continue
        cards[extension.index] = {**cards.get(extension.index, {}), **marks.cards}
        if extension.mask and extension.mask[0] == "frame":
            planes[extension.mask[1]] = partial(_mask_plane, frame, extension)
        new = {} if extension.mask else {extension.convention.extension: extension.convention}
        new[masks.CR_PLANE.extension] = masks.CR_PLANE
        new.update({convention.extension: convention for convention in further})
        for name, convention in new.items():
            old = own_plane(frame, name, extension)
            if old is not None:
                # Also without `mask_extension`: a CRMASK of an earlier run must not contradict the mask.
                planes[old] = partial(new_plane, frame, extension, convention, old)
            elif convention is extension.convention or mask_extension or convention in further:
                extra.append(partial(new_plane, frame, extension, convention))
        if extension.index in frame.probabilities:
            old, packed = own_plane(frame, masks.PROBABILITY, extension), frame.probabilities[extension.index]
            if old is None:
                extra.append(packed.result)
            else:
                planes[old] = packed.result
        for index, role in extension.uncertainties if flag_variance else ():
            planes[index] = partial(_flagged_plane, frame, extension, index, role)
    primary = readable(frame.file.hdus[0].header)
    if extra and "NEXTEND" in primary:
        count = len(frame.file.hdus) - 1 + len(extra)
        cards[0] = {**cards[0], "NEXTEND": (count, primary.comments["NEXTEND"])}
    return planes, {index: (c, frame.history) for index, c in cards.items() if c}, extra


def own_plane(frame, name, extension):
    """Return the index of the plane of a name that an earlier run added for an extension, or None.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
    name : str
        EXTNAME.
    extension : `crattn_stage.cameras.layout.Extension`

    Returns
    -------
    int or None
    """
    for index, hdu in enumerate(frame.file.hdus):
        if (hdu.name, hdu.ver) == (name, extension.version) and hdu.header.get("CRIMAGE") == extension.name:
            return index
    return None


def _mask_plane(frame, extension):
    """Return the mask HDU of an extension as bytes, made now or in the background."""
    marks, made = frame.made.get(extension.index, (None, None))
    return made.result() if marks is frame.marks[extension.index] else marked_plane(frame, extension)


def marked_plane(frame, extension, flags=None):
    """Return the mask HDU of an extension, with its marks, as bytes.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
    extension : `crattn_stage.cameras.layout.Extension`
        With a mask plane.
    flags : `numpy.ndarray`, optional
        The plane as it was read; read again if None.

    Returns
    -------
    bytes
    """
    file, index = frame.source(extension.mask[0]), extension.mask[1]
    plane = file.read_integers(index, flags)
    marked = extension.convention.marked(plane.reshape(extension.shape), frame.cosmic_rays(extension))
    return file.rendered(file.image_hdu(index, marked.reshape(plane.shape)), index)


def new_plane(frame, extension, convention, like=0):
    """Return a new mask HDU for an extension as bytes.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
    extension : `crattn_stage.cameras.layout.Extension`
        With marks.
    convention : `crattn_stage.cameras.masks.MaskConvention`
    like : int
        It gets checksums where this HDU of the file has a CHECKSUM.

    Returns
    -------
    bytes
    """
    header = fits.Header([("CRIMAGE", extension.name, "the image that this plane is of")])
    plane = np.zeros(extension.shape, convention.dtype)
    plane = convention.marked(plane, frame.cosmic_rays(extension))
    if frame.file.is_compressed(extension.index):
        hdu = fits.CompImageHDU(plane, header, convention.extension, compression_type=COMPRESSION)
    else:
        hdu = fits.ImageHDU(plane, header, convention.extension)
    hdu.ver = extension.version
    return frame.file.rendered(hdu, like)


def probability_plane(frame, extension, probability):
    """Return an HDU of probabilities as bytes: compressed, in steps of `PROBABILITY_STEP`.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
    extension : `crattn_stage.cameras.layout.Extension`
    probability : `numpy.ndarray`
        Float32, the shape of the extension.

    Returns
    -------
    bytes
    """
    header = fits.Header([("CRIMAGE", extension.name, "the image that this plane is of")])
    steps = np.rint(probability / np.float32(PROBABILITY_STEP)).astype(np.int16)
    hdu = fits.CompImageHDU(steps, header, masks.PROBABILITY, compression_type=COMPRESSION)
    # Set on the header alone, so that astropy writes the integers as they are.
    hdu.header["BSCALE"], hdu.header["BZERO"] = PROBABILITY_STEP, 0.0
    hdu.ver = extension.version
    return frame.file.rendered(hdu)


def _flagged_plane(frame, extension, index, role):
    """Return an HDU of uncertainties as bytes, in which cosmic rays are without information."""
    plane = frame.file.read(index)
    value = 0 if role == "weight" else NO_INFORMATION[frame.profile.settings.get("no_information", "inf")]
    if plane.dtype.kind != "f" and value != 0:
        raise FrameError(
            f"HDU {index} of uncertainties is of integers, which have no value for no information; a camera profile "
            'with [settings] no_information = "zero" settles it'
        )
    plane.reshape(extension.shape)[frame.cosmic_rays(extension)] = value
    return frame.file.rendered(frame.file.image_hdu(index, plane), index)
