"""What a notebook imports: load a model, find cosmic rays, clean them."""

import os
import warnings
import weakref

import numpy as np
from astropy import units
from astropy.nddata import CCDData, NDData

from crattn_stage.detection.baseline import AstroScrappyModel
from crattn_stage.detection.engines.choice import fastest_engine
from crattn_stage.detection.inputs import as_float32, unwrap
from crattn_stage.detection.lazy import detect_lazily, is_lazy
from crattn_stage.detection.model import CosmicRayModel
from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.detection.saturation import saturated_stars
from crattn_stage.errors import EngineError
from crattn_stage.models import cards
from crattn_stage.models.baselines import BASELINES
from crattn_stage.products.clean import check_cleaning, cleaned_copy

#: (model, engine) -> what `load_model` returned for `detect_cosmics`.
_models = {}
#: Image -> the mask that was returned for it, and the bad pixels then, both packed.
_returned = weakref.WeakKeyDictionary()
#: Fraction of its pixels in which a mask that was found on another machine may differ from what is found here.
_SAME_MASK = 0.02


def load_model(model=None, engine="auto", threads=None):
    """Load a model, ready to run.

    Parameters
    ----------
    model : str or path-like, optional
        A shipped name (``crattn-stage models list``), the path of a weights
        file with its card beside it, or "astroscrappy", a baseline without
        weights. The shipped default if None.
    engine : {"auto", "float32", "torch", "openvino", "cuda"}
        "auto" is the fastest of openvino, torch and cuda on this machine, measured on first use
        (`crattn_stage.detection.engines.choice.fastest_engine`); "float32" is the network as it was trained.
    threads : int, optional
        CPU threads; as many as the process may use if None.

    Returns
    -------
    `crattn_stage.detection.model.CosmicRayModel` or `crattn_stage.detection.baseline.AstroScrappyModel`
        With ``predict(image, mask=None)``, a float32 probability, and
        ``detect(image, mask=None, threshold=None)``, a bool mask.

    Raises
    ------
    crattn_stage.errors.ModelError
        If the model is unknown, damaged or does not match its card.
    crattn_stage.errors.EngineError
        If the engine is unknown or cannot run here.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).normal(300, 8, (64, 64))
    >>> image[30, 20:32] += 900
    >>> model = load_model("fast", engine="openvino")
    >>> bool(model.predict(image)[30, 25] > 0.9)
    True
    """
    if model in BASELINES:
        if engine != "auto":
            raise EngineError(f"{model} is a baseline without a network: it runs with the engine auto, not {engine}")
        return AstroScrappyModel(cards.read_card(model))
    card, tensors, narrow = cards.load_both(model)
    if engine == "auto":
        engine = fastest_engine(cards.find(model), card.sha256, threads)
    return CosmicRayModel(card, tensors, engine, threads, narrow)


def detect_cosmics(ccd, model=None, threshold=None, engine="auto", mask=None, clean=False, fill="surface"):
    """Find the cosmic rays of an image.

    The image is taken as one amplifier: trim the overscan first.  It is not changed.
    The mask can be set on it any number of times: a mask that this function found is
    not mistaken for bad pixels (see Notes).

    Saturated stars, unexposed borders and bad columns are not excluded here as they are
    by ``crattn-stage run``; pass them in `mask`.

    Parameters
    ----------
    ccd : `astropy.nddata.CCDData`, `astropy.nddata.NDData`, `astropy.units.Quantity` or `numpy.ndarray`
        2-D, ADU or electron, of any real dtype and byte order; masked and memory-mapped
        arrays, too.  NaN is allowed.  A mask of its own is one of bad pixels.  A `dask.array.Array` stays one, and
        is not computed (see Notes).
    model, engine
        As for `load_model`, which is called once for each pair of them.
    threshold : float, optional
        Probability above which a pixel is a cosmic ray; the model card's if None.
    mask : `numpy.ndarray` of bool, optional
        True on further bad pixels.
    clean : bool
        Return a cleaned copy as well.
    fill : {"surface", "median", "maskfill", "none"}
        How the copy is filled, as for `crattn_stage.products.fill.fill_holes`.

    Returns
    -------
    mask : `numpy.ndarray` of bool
        True on cosmic rays, not on bad pixels; of a dask array, a `dask.array.Array` in its chunks.
    cleaned : as `ccd`
        Only with ``clean=True``: a copy with its cosmic rays filled, rounded in an image of integers.

    Raises
    ------
    TypeError
        If `ccd` is not an image (a file name, None, an HDU, a list), or the threshold is not a number.
    ValueError
        If the image is not 2-D, not real or has no good pixel, the mask has
        another shape, or the threshold is not between 0 and 1.
    crattn_stage.errors.ModelError, crattn_stage.errors.EngineError
        As `load_model`.

    Notes
    -----
    The mask of an `~astropy.nddata.NDData` counts as bad pixels unless it holds our cosmic rays:

    * it is the mask that this process returned for this object, alone or together with the bad
      pixels: then the bad pixels of that time are used again;
    * or it is, to within 2%, what is found without it, alone or together with `mask`: a frame
      that was masked, written and read again.  To find out takes as long as another detection.

    Where a frame has bad pixels of its own, keep them in a plane of their own, as in the second example:
    then the frame can be masked again after it was written and read.

    The mask of a dask array is that of the same numpy array, block by block
    (`crattn_stage.detection.lazy.detect_lazily`).  A mask of its own always counts as bad pixels; cleaning it
    raises TypeError.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> image = np.random.default_rng(0).normal(300, 8, (64, 64))
    >>> image[30, 20:32] += 900
    >>> ccd = CCDData(image, unit="adu")
    >>> ccd.mask = detect_cosmics(ccd, engine="openvino")
    >>> bool(ccd.mask[30, 20:32].all())
    True

    With a mask of bad pixels:

    >>> bad = np.zeros(image.shape, bool)
    >>> bad[:, 40] = True
    >>> ccd.mask = bad | detect_cosmics(ccd, engine="openvino", mask=bad)
    """
    if clean:
        _check(ccd, fill)
    lazy = ccd.data if isinstance(ccd, NDData) else ccd
    if is_lazy(lazy):
        masks = [m for m in (getattr(ccd, "mask", None), mask) if m is not None]
        return detect_lazily(_loaded(model, engine), lazy, masks, threshold)
    found, bad = _detect(ccd, model, threshold, engine, mask)
    return (found, cleaned_copy(ccd, found, bad, fill)) if clean else found


def clean_cosmics(ccd, model=None, threshold=None, engine="auto", mask=None, fill="surface"):
    """Return a copy of an image in which the cosmic rays are filled and masked.

    Parameters
    ----------
    ccd, model, threshold, engine, mask
        As for `detect_cosmics`.
    fill : {"surface", "median", "maskfill", "none"}
        "surface" is the most accurate; "none" is NaN, for those who want no invented pixels
        (`crattn_stage.products.fill.fill_holes`).

    Returns
    -------
    `astropy.nddata.CCDData`
        With the unit of the input, or none (dimensionless) for a plain array, and its WCS.  Its mask is that of the
        input with the cosmic rays added.  The uncertainty of filled pixels (standard deviation, variance or inverse
        variance) is measured on the frame itself: how far such a fill is off where there was no hit, with the noise
        of a pixel; with "none" it is infinite.  The meta has ``CRFILL``, ``CRNFILL`` and a HISTORY line.

    Raises
    ------
    TypeError, ValueError, crattn_stage.errors.ModelError, crattn_stage.errors.EngineError
        As `detect_cosmics`; also if an image of integers is to be filled with NaN, or the class of its uncertainty
        does not say what it means.
    crattn_stage.errors.CrattnError
        If the package maskfill is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> image = np.random.default_rng(0).normal(300, 8, (64, 64))
    >>> image[30, 20:32] += 900
    >>> cleaned = clean_cosmics(CCDData(image, unit="adu"), engine="openvino")
    >>> bool(cleaned.data[30, 20:32].max() < 350)
    True
    >>> bool(cleaned.mask[30, 20:32].all()), cleaned.unit
    (True, Unit("adu"))
    """
    _check(ccd, fill)
    return _cleaned(ccd, model, threshold, engine, mask, fill)


def _cleaned(ccd, model, threshold, engine, mask, fill):
    """Do as `clean_cosmics` for an image and a fill that were checked."""
    found, bad = _detect(ccd, model, threshold, engine, mask)
    pixels = cleaned_copy(ccd, found, bad, fill)
    own = getattr(ccd, "mask", None)
    both = found if own is None else found | np.asarray(own, bool)
    if isinstance(ccd, CCDData):
        pixels.mask = both
        return pixels
    unit = getattr(ccd, "unit", None) or units.dimensionless_unscaled
    if isinstance(ccd, NDData):
        kept = {"uncertainty": pixels.uncertainty, "meta": pixels.meta, "wcs": pixels.wcs}
        return CCDData(pixels.data, unit=unit, mask=both, **kept)
    return CCDData(np.asarray(getattr(pixels, "unmasked", pixels)), unit=unit, mask=both)


def cosmicray_attention(
    ccd,
    *,
    gain=1.0,
    satlevel=65535.0,
    cleantype="surface",
    gain_apply=True,
    model=None,
    threshold=None,
    engine="auto",
):
    """Find and fill cosmic rays, in the shape of ``ccdproc.cosmicray_lacosmic``.

    Of its arguments those are here that mean something to a network, with the same defaults and units.  The network
    measures sky and noise itself: ``readnoise``, ``sigclip``, ``sigfrac``, ``objlim`` and all others raise TypeError
    rather than being ignored.

    Parameters
    ----------
    ccd : `astropy.nddata.CCDData` or `numpy.ndarray`
        2-D, one detector, overscan trimmed.  A mask of a CCDData is one of bad pixels, as for `detect_cosmics`.
    gain : float or `astropy.units.Quantity`
        Electron per ADU, or of the unit given.  It does not change what is found, only the result (`gain_apply`)
        and what `satlevel` means.
    satlevel : float or None
        Saturation level in electron: stars that reach it are bad pixels, neither flagged nor filled from.  None if
        nothing saturates.
    cleantype : {"surface", "median", "maskfill", "none"}
        How the cosmic rays are filled, as ``fill`` of `clean_cosmics`.
    gain_apply : bool
        Return data, and uncertainty, multiplied by the gain, in its unit; else both as they were.
    model, threshold, engine
        As for `detect_cosmics`.

    Returns
    -------
    cleaned : `astropy.nddata.CCDData` or `numpy.ndarray`
        As `ccd`.  The mask of a CCDData is its own with the cosmic rays added; uncertainty and meta are as from
        `clean_cosmics`.
    mask : `numpy.ndarray` of bool
        Only for an array: the cosmic rays.

    Raises
    ------
    TypeError
        If it is neither CCDData nor array, or an argument has no meaning here.
    ValueError
        As `clean_cosmics`, or if unit and gain do not make electrons.
    crattn_stage.errors.CrattnError
        As `clean_cosmics`.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> image = np.random.default_rng(0).normal(300, 8, (64, 64))
    >>> image[30, 20:32] += 900
    >>> ccd = cosmicray_attention(CCDData(image, unit="adu"), gain=2 * u.electron / u.adu, engine="openvino")
    >>> bool(ccd.mask[30, 20:32].all()), bool(550 < ccd.data[30, 25] < 650), ccd.unit
    (True, True, Unit("electron"))
    """
    if not isinstance(ccd, (CCDData, np.ndarray)):
        raise TypeError(f"a {type(ccd).__name__} is neither a CCDData nor a numpy array; see detect_cosmics for others")
    is_ccd = isinstance(ccd, CCDData)
    gain = gain if isinstance(gain, units.Quantity) else gain * units.electron / units.adu
    if is_ccd and ccd.unit == units.electron and gain.unit == units.electron / units.adu:
        # As ccdproc does: a number that comes without the need of one.
        if gain.value != 1:
            warnings.warn("the image is in electron and the gain is not 1: it is applied again", stacklevel=2)
        gain = gain.value * units.one
    if is_ccd and not (ccd.unit * gain.unit).is_equivalent(units.electron):
        raise ValueError(f"an image in {ccd.unit} and a gain in {gain.unit} do not make electrons")
    _check(ccd, cleantype)
    image, saturated = unwrap(ccd)[0], None
    if satlevel is not None:
        factor = (ccd.unit * gain).to_value(units.electron) if is_ccd else gain.value
        saturated = saturated_stars(as_float32(image), satlevel / factor)
    if not is_ccd:
        found, bad = _detect(ccd, model, threshold, engine, saturated)
        cleaned = cleaned_copy(ccd, found, bad, cleantype)
        return (cleaned * gain.value if gain_apply and gain.value != 1 else cleaned), found
    cleaned = _cleaned(ccd, model, threshold, engine, saturated, cleantype)
    if not gain_apply:
        return cleaned
    if gain.value == 1 and gain.unit == units.one:
        return cleaned
    scaled = cleaned.multiply(gain, handle_meta="first_found", handle_mask="first_found")
    scaled.mask, scaled.meta, scaled.wcs = cleaned.mask, cleaned.meta, cleaned.wcs
    return scaled


def _check(ccd, fill):
    """Check an image, and that a copy of it can be cleaned, before the work."""
    if is_lazy(ccd.data if isinstance(ccd, NDData) else ccd):
        raise TypeError("a dask array is not cleaned; compute() it first (detect_cosmics finds a mask without that)")
    unwrap(ccd)
    check_cleaning(ccd, fill)


def _detect(ccd, model, threshold, engine, mask):
    """Return the cosmic rays of an image and the bad pixels that were used."""
    network = _loaded(model, engine)
    image, bad = unwrap(ccd, mask)
    if not isinstance(ccd, NDData) or ccd.mask is None:
        found = network.detect(image, bad, threshold)
    else:
        further, own = unwrap(image, mask)[1], np.asarray(ccd.mask, bool)
        earlier = _earlier_bad_pixels(ccd, own)
        if earlier is not None:
            bad = further | earlier
            found = network.detect(image, bad, threshold)
        else:
            found = _found_without(network, image, own, further, threshold)
            if found is None:
                found = network.detect(image, bad, threshold)
            else:
                bad = further
    if isinstance(ccd, NDData):
        _returned[ccd] = np.packbits(found), np.packbits(bad)
    return found, bad


def _loaded(model, engine):
    """Return a model that is loaded once for each engine."""
    key = (os.fspath(model) if model else None, engine)
    if key not in _models:
        _models[key] = load_model(model, engine)
    return _models[key]


def _earlier_bad_pixels(ccd, own):
    """Return the bad pixels of the last time if the mask of an image is the one that was returned then."""
    if ccd not in _returned:
        return None
    found, bad = (np.unpackbits(packed, count=own.size).reshape(own.shape) > 0 for packed in _returned[ccd])
    return bad if np.array_equal(own, found) or np.array_equal(own, found | bad) else None


def _found_without(model, image, own, further, threshold):
    """Return what is found without the mask of an image if that is what its mask holds."""
    earlier = own & ~further
    if not earlier.any() or further.all():
        return None
    # Most masks of bad pixels are told apart without a network: cosmic rays are brighter than the sky.
    level, sigma = sky_statistics(as_float32(image), ~further)
    if np.percentile(image[earlier], 90) < level + 3 * sigma:
        return None
    found = model.detect(image, further, threshold)
    return found if np.count_nonzero(earlier ^ found) <= _SAME_MASK * np.count_nonzero(found) else None
