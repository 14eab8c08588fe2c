"""The LCO cosmic-ray data set of Xu et al. (2021, doi:10.5281/zenodo.5034763) as scenes.

A file holds three consecutive exposures: in this order three ``SCI``, one
``VALID_MASK``, three ``CR`` (truth) and three ``IGNORE`` extensions, the last
coded: 1 boundary, 2 no data, 4 sources, 8 hot pixels.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation

from crattn_stage.detection.preprocessing import sky_statistics
from training.data.contamination import DILATION, Scene
from training.data.skies import Sky

#: Telescope class in a file's name -> sigclip and objlim of Astro-SCRAPPY in the paper (Sec. 4).
FILTERS = {"0m4": (15.0, 0.5), "1m0": (15.0, 2.0), "2m0": (15.0, 2.0)}


def read_exposures(path):
    """Read one file of the data set.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of `training.data.contamination.Scene`
        One for each exposure; truth dilated 3x3, ignored pixels bad.

    Raises
    ------
    ValueError
        If the file is not laid out as the data set.
    """
    with fits.open(path) as hdus:
        planes = {name: [hdu for hdu in hdus if hdu.name == name] for name in ("SCI", "CR", "IGNORE")}
        if not planes["SCI"] or len({len(found) for found in planes.values()}) != 1:
            raise ValueError(f"{path}: not of the LCO CR data set: needs as many CR and IGNORE as SCI extensions")
        scenes = []
        for science, hits, ignore in zip(*planes.values(), strict=True):
            image = science.data.astype(np.float32)
            bad = (ignore.data != 0) | ~np.isfinite(image)
            level, sigma = sky_statistics(image, ~bad)
            header = science.header
            sky = Sky(
                # What was there without the hits is not known; the sky level is.
                np.full_like(image, level),
                bad,
                level,
                sigma,
                float(header.get("GAIN", 1.0)),
                read_noise=float(header.get("RDNOISE", 7.0)),
            )
            scenes.append(Scene(sky, image, binary_dilation(hits.data != 0, DILATION)))
    return scenes


def read_test_set(folder, most):
    """Read the data set's test files by telescope class.

    Parameters
    ----------
    folder : path-like
        With files such as ``coj0m403-kb24-20190101-0147-e91_3frms_masks.fits``
        in it or below.
    most : int
        Files of each class, from the first on: one has some 20 million pixels.

    Returns
    -------
    dict of str to list of `training.data.contamination.Scene`
        Telescope class, as in `FILTERS`, to the exposures.
    """
    sets = {}
    for name in FILTERS:
        paths = sorted(p for p in Path(folder).rglob("*_3frms_masks.fits*") if p.name[3:6] == name)[:most]
        if paths:
            sets[name] = [scene for path in paths for scene in read_exposures(path)]
    if not sets:
        raise ValueError(f"{folder}: no *_3frms_masks.fits of the LCO CR data set")
    return sets
