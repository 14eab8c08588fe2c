"""Labels of graded exposures: which pixels are hits, as a FITS file."""

import io
import re
from itertools import chain
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation

from crattn_stage import __version__
from crattn_stage.errors import FrameError
from crattn_stage.fits.atomic import replacing
from crattn_stage.fits.names import split_name
from crattn_stage.products.files import footprint_table
from crattn_stage.quality.grading import TOO_BRIGHT

#: Values of the planes of labels.
LABELS = {"not a hit": 0, "hit": 1, "unknown": 2}


def label_plane(own, truth):
    """Return which pixels of an exposure are hits.

    Parameters
    ----------
    own : `crattn_stage.quality.repeats.Repeat`
    truth : `crattn_stage.quality.truth.Truth`
        From `crattn_stage.quality.truth.find_hits`.

    Returns
    -------
    `numpy.ndarray` of uint8
        The shape of the image; `LABELS`.
    """
    plane = np.full(own.image.shape, LABELS["unknown"], np.uint8)
    plane[truth.judged] = LABELS["not a hit"]
    # Beside a hit, and under a source, it is not known where the hit ends.
    hits = truth.objects > 0
    plane[binary_dilation(hits, np.ones((3, 3))) & (truth.excess > truth.noise)] = LABELS["unknown"]
    plane[truth.allowed > TOO_BRIGHT * truth.noise] = LABELS["unknown"]
    plane[hits] = LABELS["hit"]
    return plane


def label_files(folder, paths):
    """Return where the labels of exposures go.

    Parameters
    ----------
    folder : path-like
    paths : list of path-like
        Of the exposures.

    Returns
    -------
    dict
        Path of the exposure -> `pathlib.Path`.

    Raises
    ------
    FrameError
        If two would have the same.
    """
    targets = {}
    for path in paths:
        target = Path(folder) / f"{split_name(Path(path).name)[0]}-labels.fits.fz"
        for other, taken in targets.items():
            if taken == target and other != path:
                raise FrameError(f"{other} and {path} would both have the labels {target}: give them different names")
        targets[path] = target
    return targets


def write_labels(target, path, planes, others, overwrite):
    """Write the labels of an exposure.

    Parameters
    ----------
    target : path-like
        From `label_files`.
    path : path-like
        Of the exposure.
    planes : dict
        Name of the detector -> its labels, and stamps of hits from `crattn_stage.quality.truth.footprints` or None.
    others : list of str
        Names of the exposures by which it was graded.
    overwrite : bool

    Raises
    ------
    FrameError
        If it exists or cannot be written.
    """
    hdus = fits.HDUList([fits.PrimaryHDU()])
    header = hdus[0].header
    header["ORIGIN"] = (f"crattn-stage {__version__}"[:68], "what made this file")
    header["CRFRAME"] = (_fits_text(Path(path).name[:60]), "exposure")
    for value, number in LABELS.items():
        header[f"CRLAB{number}"] = (value, f"meaning of the value {number}")
    for other in others:
        header.add_history(_fits_text(f"graded by {other}"))
    for name, (plane, _) in planes.items():
        hdus.append(fits.CompImageHDU(plane, name=_fits_text(name), compression_type="RICE_1"))
    known = [stamps for _, stamps in planes.values() if stamps is not None]
    if known:
        hdus.append(footprint_table(list(chain.from_iterable(known))))
    stream = io.BytesIO()
    hdus.writeto(stream, checksum=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing([target], overwrite) as (out,):
            out.write(stream.getvalue())
    except OSError as error:
        raise FrameError(f"{target}: {error.strerror}") from error


def _fits_text(text):
    """Return a text as a header may hold it."""
    return re.sub(r"[^ -~]", "?", text)
