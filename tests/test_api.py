"""What a notebook imports: which images it takes, and that masking again gives the same."""

import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.utils.masked import Masked
from conftest import sky_image, with_track

import crattn_stage
from crattn_stage import clean_cosmics, detect_cosmics

MODEL = {"model": "fast", "engine": "openvino"}
IMAGE, HIT = with_track(np.rint(sky_image(level=100)), height=120)
EXPECTED = detect_cosmics(IMAGE, **MODEL)


def read_only(image):
    image = image.copy()
    image.flags.writeable = False
    return image


@pytest.mark.parametrize(
    "wrap",
    [
        np.asarray,
        np.ma.array,
        read_only,
        np.asfortranarray,
        lambda image: image[::-1][::-1],
        lambda image: units.Quantity(image, "adu"),
        lambda image: units.Quantity(image, "electron"),
        lambda image: Masked(image, np.zeros(image.shape, bool)),
        lambda image: CCDData(image, unit="adu"),
        NDData,
        lambda image: NDData(units.Quantity(image, "electron")),
    ],
)
def test_images_are_taken_as_they_come(wrap):
    assert np.array_equal(detect_cosmics(wrap(IMAGE), **MODEL), EXPECTED)


@pytest.mark.parametrize(
    "dtype", ["f2", "<f4", ">f4", "<f8", ">f8", "g", "i1", "u1", ">i2", "<u2", ">u2", "i4", ">u4", ">i8", "u8"]
)
def test_every_real_dtype_and_byte_order_gives_the_same(dtype):
    image = (IMAGE - 100).clip(max=127) if dtype == "i1" else IMAGE
    expected = detect_cosmics(image, **MODEL)
    assert np.array_equal(detect_cosmics(image.astype(dtype), **MODEL), expected)
    assert expected[HIT].mean() > 0.9


def test_an_image_of_booleans_is_taken():
    image = np.random.default_rng(0).random((64, 64)) > 0.5
    assert detect_cosmics(image, **MODEL).shape == (64, 64)


def test_memory_maps_are_taken_and_left(tmp_path):
    path = tmp_path / "frame.fits"
    fits.PrimaryHDU(IMAGE.astype(np.int16)).writeto(path)
    before = path.read_bytes()
    with fits.open(path, memmap=True) as hdus:
        found, cleaned = detect_cosmics(hdus[0].data, clean=True, **MODEL)
    assert np.array_equal(found, EXPECTED) and cleaned.dtype.kind == "i"
    assert path.read_bytes() == before
    array = np.memmap(tmp_path / "raw", np.float32, "w+", shape=IMAGE.shape)
    array[:] = IMAGE
    assert np.array_equal(detect_cosmics(array, **MODEL), EXPECTED) and np.array_equal(array, IMAGE)


@pytest.mark.parametrize("function", [detect_cosmics, clean_cosmics])
@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (
            "frame.fits",
            "'frame.fits' is a file name, not an image; read it first, or mask the file with `crattn-stage run`",
        ),
        (Path("frame.fits"), "'frame.fits' is a file name"),
        (b"frame.fits", "'frame.fits' is a file name"),
        (None, "no image was given"),
        (fits.PrimaryHDU(IMAGE), "a FITS PrimaryHDU is not an image; give its pixels, as in hdu.data"),
        (fits.HDUList(), "a FITS HDUList is not an image"),
        (IMAGE.tolist(), "a list is not an image; give a numpy array"),
        (3.0, "a float is not an image"),
        ({"data": IMAGE}, "a dict is not an image"),
    ],
)
def test_what_is_no_image_is_refused_with_advice(function, given, cause):
    with pytest.raises(TypeError) as caught:
        function(given, **MODEL)
    assert str(caught.value).startswith(cause)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (np.zeros((2, 30, 30)), r"not a 2-D image: shape \(2, 30, 30\); give one detector"),
        (CCDData(np.zeros((2, 30, 30)), unit="adu"), r"not a 2-D image: shape \(2, 30, 30\)"),
        (np.zeros((30, 30), complex), "not a real image: dtype complex128"),
        (np.full((30, 30), None), "not a real image: dtype object"),
        (np.full((30, 30), np.datetime64("2026-01-01")), "not a real image: dtype datetime64"),
        (np.full((30, 30), np.nan), "no good pixel"),
    ],
)
def test_arrays_that_are_no_image_are_refused(given, cause):
    with pytest.raises(ValueError, match=cause):
        detect_cosmics(given, **MODEL)


@pytest.mark.parametrize("mask", ["mask.fits", np.zeros(IMAGE.shape), [[None]]])
def test_a_mask_is_of_booleans(mask):
    with pytest.raises(TypeError, match="give booleans, True on bad pixels"):
        detect_cosmics(IMAGE, mask=mask, **MODEL)


def test_a_threshold_is_a_number():
    with pytest.raises(TypeError, match=r"threshold '0\.5' is a str; give a number between 0 and 1"):
        detect_cosmics(IMAGE, threshold="0.5", **MODEL)


def with_bad_columns():
    image, hit = with_track(sky_image((160, 150)))
    bad = np.zeros(image.shape, bool)
    # A hot column, one that looks like a track, and a dead one.
    image[:, 100], image[60:75, 120], image[:, 10] = 900, 1400, 0
    bad[:, 100] = bad[60:75, 120] = bad[:, 10] = True
    return image, hit, bad


@pytest.mark.parametrize("initial", [False, True])
def test_the_mask_can_be_set_again_and_again(initial):
    image, hit, bad = with_bad_columns() if initial else (*with_track(sky_image()), None)
    ccd = CCDData(image, unit="adu", mask=bad)
    masks = []
    for _ in range(3):
        ccd.mask = detect_cosmics(ccd, **MODEL)
        masks.append(ccd.mask)
    assert masks[0][hit].mean() > 0.9
    assert np.array_equal(masks[0], masks[1]) and np.array_equal(masks[0], masks[2])
    if initial:
        assert not masks[2][bad].any()


def test_a_mask_with_the_bad_pixels_can_be_set_again_and_again():
    image, hit, bad = with_bad_columns()
    ccd = CCDData(image, unit="adu", mask=bad)
    masks = []
    for _ in range(3):
        found = detect_cosmics(ccd, **MODEL)
        masks.append(found)
        ccd.mask = ccd.mask | found
    assert masks[0][hit].mean() > 0.9 and not masks[0][bad].any()
    assert np.array_equal(masks[0], masks[1]) and np.array_equal(masks[0], masks[2])


@pytest.mark.parametrize("with_bad", [False, True])
def test_a_frame_that_was_masked_written_and_read_is_masked_alike(with_bad, tmp_path):
    image, hit, bad = with_bad_columns() if with_bad else (*with_track(sky_image()), None)
    nothing = np.zeros(image.shape, bool) if bad is None else bad
    ccd = CCDData(image, unit="adu")
    first = detect_cosmics(ccd, mask=bad, **MODEL)
    ccd.mask = nothing | first
    ccd.write(tmp_path / "masked.fits")
    again = CCDData.read(tmp_path / "masked.fits")
    second = detect_cosmics(again, mask=bad, **MODEL)
    assert first[hit].mean() > 0.9 and np.array_equal(first, second)


def test_bad_pixels_that_are_no_cosmic_rays_stay_bad():
    image, hit, bad = with_bad_columns()
    found = detect_cosmics(CCDData(image, unit="adu", mask=bad), **MODEL)
    assert not found[bad].any() and found[hit].mean() > 0.9
    # A mask that holds more than what is found is one of bad pixels.
    assert not detect_cosmics(
        CCDData(IMAGE, unit="adu", mask=EXPECTED | np.eye(*IMAGE.shape, dtype=bool)), **MODEL
    ).any()


def test_the_image_is_left_as_it_is():
    ccd = CCDData(IMAGE, unit="adu", mask=HIT & (np.arange(IMAGE.shape[1]) < 33), meta={"OBJECT": "M1"})
    before = ccd.copy()
    found, cleaned = detect_cosmics(ccd, clean=True, **MODEL)
    assert np.array_equal(ccd.data, before.data) and np.array_equal(ccd.mask, before.mask) and ccd.meta == before.meta
    assert not found[ccd.mask].any() and found[HIT & ~ccd.mask].mean() > 0.8
    assert np.array_equal(cleaned.data[~found], IMAGE[~found])
    assert abs(cleaned.data[found].mean() - 100) < 15 and cleaned.unit == "adu"


def test_integers_are_filled_with_integers():
    found, cleaned = detect_cosmics(IMAGE.astype(np.int16), clean=True, **MODEL)
    assert cleaned.dtype == np.int16 and cleaned[HIT].max() < 160 and found[HIT].any()


@pytest.mark.parametrize(
    ("image", "unit"),
    [
        (IMAGE, ""),
        (units.Quantity(IMAGE, "electron"), "electron"),
        (np.ma.array(IMAGE, mask=False), ""),
        (NDData(units.Quantity(IMAGE, "electron"), meta={"OBJECT": "M1"}), "electron"),
        (CCDData(IMAGE, unit="adu", meta={"OBJECT": "M1"}, uncertainty=StdDevUncertainty(np.ones(IMAGE.shape))), "adu"),
    ],
)
def test_a_cleaned_copy_is_masked_and_of_the_same_unit(image, unit):
    cleaned = clean_cosmics(image, **MODEL)
    assert type(cleaned) is CCDData and cleaned.unit == units.Unit(unit)
    assert np.array_equal(cleaned.mask, EXPECTED)
    assert np.array_equal(cleaned.data[~EXPECTED], IMAGE[~EXPECTED])
    assert abs(cleaned.data[EXPECTED].mean() - 100) < 15
    if isinstance(image, NDData):
        assert cleaned.meta["OBJECT"] == "M1"
        assert image.mask is None and np.array_equal(image.data, IMAGE)
    if isinstance(image, CCDData):
        kept, filled = (cleaned.uncertainty.array[where] for where in (~EXPECTED, EXPECTED))
        assert (kept == 1).all() and (filled > 6).all() and (filled < 12).all() and (image.uncertainty.array == 1).all()


def test_a_cleaned_copy_keeps_the_bad_pixels_in_its_mask():
    image, _, bad = with_bad_columns()
    cleaned = clean_cosmics(CCDData(image, unit="adu", mask=bad), **MODEL)
    found = detect_cosmics(CCDData(image, unit="adu", mask=bad), **MODEL)
    assert np.array_equal(cleaned.mask, bad | found) and np.array_equal(cleaned.data[bad], image[bad])


def test_the_package_shows_its_public_names():
    names = {"clean_cosmics", "detect_cosmics", "load_model"}
    assert names <= set(dir(crattn_stage))
    text = pydoc.plain(pydoc.render_doc(crattn_stage))
    assert all(f"    {name}(" in text for name in names)
    with pytest.raises(AttributeError, match="no attribute 'detect'"):
        crattn_stage.detect  # noqa: B018


def test_the_former_name_warns():
    with pytest.warns(DeprecationWarning, match="load_detector is now load_model"):
        assert crattn_stage.load_detector is crattn_stage.load_model


def test_import_does_no_work():
    heavy = "('torch', 'astropy', 'numpy')"
    code = f"""
import sys
from crattn_stage.cli import main
for command in ([], ["run"], ["demo"], ["models"]):
    main([*command, "--help"], standalone_mode=False)
print([m for m in {heavy} if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in out.stdout and out.stdout.strip().endswith("[]")


def test_masking_does_not_load_what_other_uses_need():
    code = "import sys, crattn_stage.stage; print(sorted({'scipy.stats', 'scipy.optimize'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
