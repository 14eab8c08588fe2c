"""What a notebook imports: load a model, find cosmic rays, clean them."""

import copy
import os

import numpy as np
from astropy.nddata import NDData

from crattn_stage.detection.engines.choice import choose
from crattn_stage.detection.model import CosmicRayModel, unwrapped
from crattn_stage.detection.preprocessing import fill, sky_statistics
from crattn_stage.models import cards


def load_model(model=None, engine="auto", threads=None):
    """Load a model, ready to run.

    Parameters
    ----------
    model : str or path-like, optional
        A shipped name (``crattn-stage models list``) or the path of a weights
        file with its card beside it; the shipped default if None.
    engine : {"auto", "float32", "torch", "openvino", "cuda"}
        "auto" is the fastest of the last three here, measured on first use
        (`crattn_stage.detection.engines.base.choose`); "float32" is the plain network.
    threads : int, optional
        CPU threads; as many as the process may use if None.

    Returns
    -------
    `CosmicRayModel`

    Raises
    ------
    crattn_stage.errors.ModelError
        If the model is unknown, damaged or does not match its card.
    crattn_stage.errors.EngineError
        If the engine is unknown or cannot run here.
    """
    card, tensors = cards.load(model)
    if engine == "auto":
        engine = choose(cards.find(model), card.sha256, threads)
    return CosmicRayModel(card, tensors, engine, threads)


def detect_cosmics(ccd, model=None, threshold=None, engine="auto", mask=None, clean=False):
    """Find the cosmic rays of a frame.

    Shaped like `ccdproc.cosmicray_lacosmic`, but the frame is left as it is
    unless a cleaned copy is asked for.

    Parameters
    ----------
    ccd : `astropy.nddata.CCDData` or 2-D array-like
        ADU or electron; the mask of a CCDData, where there is one, is of bad pixels.
    model
        As for `load_model`, which is called once per model and engine.
    threshold : float, optional
        Probability; the model card's by default.
    engine
        As for `load_model`.
    mask : array-like of bool, optional
        Further bad pixels.
    clean : bool
        Return a cleaned copy as well.

    Returns
    -------
    mask : `numpy.ndarray` of bool
        True on cosmic rays.
    cleaned : as `ccd`
        Only with ``clean=True``: a copy in which each hit pixel is the mean of
        the good ones around it, and of the unit of the input.

    Raises
    ------
    ValueError
        If the frame is not a 2-D image with a good pixel.
    crattn_stage.errors.ModelError
        As `load_model`.
    """
    key = (os.fspath(model) if model else None, engine)
    if key not in _models:
        _models[key] = load_model(model, engine)
    ccd = ccd if isinstance(ccd, NDData) else np.asanyarray(ccd)
    image, bad = unwrapped(ccd, mask)
    found = _models[key].detect(image, bad, threshold)
    if not clean:
        return found
    cleaned = copy.deepcopy(ccd)
    pixels = cleaned.data if isinstance(ccd, NDData) else np.asarray(cleaned)
    unusable = found | bad | ~np.isfinite(image)
    filled = fill(np.array(image, np.float32), unusable, sky_statistics(image, ~unusable)[0])[found]
    pixels[found] = filled if pixels.dtype.kind == "f" else np.rint(filled)
    return found, cleaned


_models = {}
