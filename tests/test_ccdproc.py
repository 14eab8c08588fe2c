"""`cosmicray_attention` where `ccdproc.cosmicray_lacosmic` would stand: units, gain, masks, and chains of ccdproc."""

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.wcs import WCS
from conftest import sky_image, with_track

from crattn_stage import clean_cosmics, cosmicray_attention, detect_cosmics

MODEL = {"model": "fast", "engine": "openvino"}
IMAGE, HIT = with_track(sky_image(level=100))
EXPECTED = detect_cosmics(IMAGE, **MODEL)
GAIN = 2.0 * u.electron / u.adu


def ccd(**arguments):
    return CCDData(IMAGE.copy(), unit=arguments.pop("unit", "adu"), **arguments)


def test_an_array_gives_data_and_mask():
    data, mask = cosmicray_attention(IMAGE, **MODEL)
    assert np.array_equal(mask, EXPECTED) and data.dtype == IMAGE.dtype
    assert np.array_equal(data[~mask], IMAGE[~mask]) and np.abs(data[mask] - 100).max() < 60


def test_ccddata_give_ccddata_with_the_mask_added():
    bad = np.zeros(IMAGE.shape, bool)
    bad[5, 5] = True
    given = ccd(mask=bad, wcs=WCS(naxis=2), meta={"OBJECT": "M1"}, uncertainty=StdDevUncertainty(8 + 0 * IMAGE))
    cleaned = cosmicray_attention(given, **MODEL)
    assert type(cleaned) is CCDData and cleaned.unit == u.electron and cleaned.meta["OBJECT"] == "M1"
    assert np.array_equal(cleaned.mask, bad | EXPECTED) and cleaned.wcs is not None
    assert np.array_equal(given.data, IMAGE) and np.array_equal(given.mask, bad)
    assert (cleaned.uncertainty.array[~EXPECTED] == 8).all() and (cleaned.uncertainty.array[EXPECTED] > 6).all()


@pytest.mark.parametrize("gain_apply", [True, False])
@pytest.mark.parametrize("gain", [2.0, GAIN])
@pytest.mark.parametrize("as_array", [True, False])
def test_the_gain_is_applied_if_it_is_asked_for(as_array, gain, gain_apply):
    given = IMAGE if as_array else ccd(uncertainty=StdDevUncertainty(8 + 0 * IMAGE))
    result = cosmicray_attention(given, gain=gain, gain_apply=gain_apply, **MODEL)
    data, mask = result if as_array else (result.data, result.mask)
    factor = 2 if gain_apply else 1
    assert np.array_equal(mask, EXPECTED) and np.allclose(data[~mask], factor * IMAGE[~mask])
    if not as_array:
        assert result.unit == (u.electron if gain_apply else u.adu)
        assert np.allclose(result.uncertainty.array[~mask], 8 * factor)
        assert (result.uncertainty.array[mask] > 6 * factor).all()


def test_units_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"an image in adu and a gain in adu / electron do not make electrons"):
        cosmicray_attention(ccd(), gain=2.0 * u.adu / u.electron, **MODEL)


def test_an_image_in_electron_needs_no_gain_and_is_warned_of_one():
    assert cosmicray_attention(ccd(unit="electron"), **MODEL).unit == u.electron
    with pytest.warns(UserWarning, match="the image is in electron and the gain is not 1"):
        cleaned = cosmicray_attention(ccd(unit="electron"), gain=2.0, **MODEL)
    assert cleaned.unit == u.electron and np.allclose(cleaned.data[~EXPECTED], 2 * IMAGE[~EXPECTED])


@pytest.mark.parametrize("given", [10, IMAGE.tolist(), NDData(IMAGE), "frame.fits"])
def test_only_ccddata_and_arrays_are_taken(given):
    with pytest.raises(TypeError, match="is neither a CCDData nor a numpy array"):
        cosmicray_attention(given, **MODEL)


@pytest.mark.parametrize("name", ["readnoise", "sigclip", "inbkg", "invar", "pssl", "niter"])
def test_what_means_nothing_is_not_ignored(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        cosmicray_attention(IMAGE, **{name: 5}, **MODEL)


def test_saturated_stars_are_left_alone():
    image = IMAGE.copy()
    image[80:86, 60:66] = 40000
    data, mask = cosmicray_attention(image, gain=2.0, gain_apply=False, **MODEL)
    assert not mask[78:88, 58:68].any() and (data[80:86, 60:66] == 40000).all() and mask[HIT].mean() > 0.9


def test_it_takes_its_place_in_a_chain():
    rng, exposures = np.random.default_rng(7), []
    for number in range(3):
        electrons, hit = with_track(rng.normal(800, 28, (120, 100)), height=5000, row=30 + 15 * number)
        raw = np.concatenate([electrons / 2 + 500, rng.normal(500, 2, (120, 20))], axis=1)
        frame = CCDData(raw.astype(np.float32), unit="adu", meta={"EXPTIME": 60})
        frame = ccdproc.subtract_overscan(frame, overscan=frame[:, 100:])
        frame = ccdproc.trim_image(frame[:, :100])
        frame = ccdproc.create_deviation(frame, gain=GAIN, readnoise=4 * u.electron)
        frame = cosmicray_attention(frame, gain=GAIN, cleantype="surface", **MODEL)
        assert frame.unit == u.electron and frame.mask[hit].mean() > 0.9
        exposures.append(frame)
    combined = ccdproc.Combiner(exposures).average_combine()
    assert combined.unit == u.electron and np.abs(combined.data - 800).max() < 150
    assert not combined.mask.any()
    # Filled pixels count as well where a mask is not wanted.
    for frame in exposures:
        frame.mask = None
    assert np.abs(ccdproc.Combiner(exposures).average_combine().data - 800).max() < 150


def test_it_follows_ccd_process():
    raw = ccd(meta={"EXPTIME": 60})
    frame = ccdproc.ccd_process(raw, gain=GAIN, readnoise=4 * u.electron, error=True)
    cleaned = cosmicray_attention(frame, gain=1.0, gain_apply=False, **MODEL)
    assert cleaned.unit == u.electron and cleaned.mask[HIT].mean() > 0.9
    assert np.array_equal(cleaned.mask, clean_cosmics(frame, **MODEL).mask)
