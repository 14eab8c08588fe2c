"""Cleaned copies: uncertainty, header, integers, and what is refused."""

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from astropy.wcs import WCS
from conftest import sky_image, with_track

from crattn_stage import clean_cosmics
from crattn_stage.products.clean import cleaned_copy, put

IMAGE, HIT = with_track(sky_image(level=100))
NONE = np.zeros(IMAGE.shape, bool)


@pytest.mark.parametrize(
    ("kind", "power"), [(StdDevUncertainty, 0.5), (VarianceUncertainty, 1.0), (InverseVariance, -1.0)]
)
@pytest.mark.parametrize("unit", ["adu", "1000 electron"])
def test_every_class_of_uncertainty_says_the_same(kind, power, unit):
    unit = units.Unit(unit)
    own = units.Unit("electron") if "electron" in str(unit) else unit
    # Of the same noise, in a unit of its own.
    noise = (8 * unit).to(own) ** (2 * power)
    given = kind(np.full(IMAGE.shape, noise.value, np.float32), unit=noise.unit)
    ccd = CCDData(IMAGE, unit=unit, uncertainty=given)
    cleaned = cleaned_copy(ccd, HIT, NONE)
    assert type(cleaned.uncertainty) is kind and cleaned.uncertainty.unit == noise.unit
    ratio = (cleaned.uncertainty.array / noise.value) ** (0.5 / power)
    assert np.allclose(ratio[~HIT], 1) and (ratio[HIT] > 0.8).all() and (ratio[HIT] < 1.4).all()


@pytest.mark.parametrize(
    ("kind", "expected"), [(StdDevUncertainty, np.inf), (VarianceUncertainty, np.inf), (InverseVariance, 0.0)]
)
def test_pixels_that_are_not_filled_hold_no_information(kind, expected):
    cleaned = cleaned_copy(CCDData(IMAGE, unit="adu", uncertainty=kind(np.ones(IMAGE.shape, int))), HIT, NONE, "none")
    assert np.isnan(cleaned.data[HIT]).all() and (cleaned.uncertainty.array[HIT] == expected).all()
    assert (cleaned.uncertainty.array[~HIT] == 1).all()


def test_header_wcs_and_mask_are_kept_and_completed():
    wcs, bad = WCS(naxis=2), NONE.copy()
    bad[:, 3] = True
    ccd = CCDData(IMAGE, unit="adu", mask=bad, wcs=wcs, meta=fits.Header({"OBJECT": "M31"}))
    cleaned = clean_cosmics(ccd, "fast", engine="openvino", fill="median")
    count = np.count_nonzero(cleaned.mask & ~bad)
    assert cleaned.meta["OBJECT"] == "M31" and cleaned.wcs is not None and cleaned.mask[bad].all()
    assert cleaned.meta["CRFILL"] == "median" and cleaned.meta["CRNFILL"] == count > 20
    assert f"{count} pixels of cosmic rays filled (median)" in str(cleaned.meta["HISTORY"])
    assert "CRFILL" not in ccd.meta
    plain = clean_cosmics(CCDData(IMAGE, unit="adu", meta={"a": 1}), "fast", engine="openvino")
    assert plain.meta["a"] == 1 and plain.meta["CRFILL"] == "surface"


def test_integers_are_rounded_and_stay_within_their_type():
    holes = np.eye(2, dtype=bool)
    for dtype, expected in (("u1", [0, 255]), (">i2", [-5, 32767]), ("i8", [-5, 70000])):
        pixels = np.zeros((2, 2), dtype)
        put(pixels, holes, np.array([-5.4, 70000.2]))
        assert pixels[holes].tolist() == expected
    pixels = np.zeros((2, 2), "u8")
    put(pixels, holes, np.array([1e30, -1e30]))
    assert pixels[0, 0] > 2**63 and pixels[1, 1] == 0


@pytest.mark.parametrize("image", [IMAGE.astype("i2"), CCDData(IMAGE.astype("u2"), unit="adu")])
def test_integers_hold_no_nan(image):
    with pytest.raises(ValueError, match=r"pixels of u?int16 hold no NaN, which the fill none is; take another fill"):
        clean_cosmics(image, "fast", fill="none")


def test_an_uncertainty_of_unknown_meaning_is_refused():
    with pytest.raises(TypeError, match="UnknownUncertainty of filled pixels is not known; give StdDevUncertainty"):
        clean_cosmics(CCDData(IMAGE, unit="adu", uncertainty=UnknownUncertainty(IMAGE)), "fast")
