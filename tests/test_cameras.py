import pytest
from astropy.io import fits

from crattn_stage.cameras import instruments
from crattn_stage.errors import FrameError


@pytest.mark.parametrize(
    ("cards", "name"),
    [
        ({"INSTRUME": "DECam"}, "decam"),
        ({"INSTRUME": "fa05", "TELESCOP": "1m0-08"}, "lco"),
        ({"INSTRUME": "ZTF/MOSAIC"}, "generic"),
        ({}, "generic"),
    ],
)
def test_cameras_are_recognised(cards, name):
    assert instruments.identify(fits.Header(cards)).name == name


@pytest.mark.parametrize(
    ("kind", "science"),
    [
        ("EXPOSE", True), ("object", True), ("STANDARD", True), ("", True), ("Light Frame", True), ("SEARCH", True),
        ("BIAS", False), ("zero", False), ("DARK", False), ("SKYFLAT", False), ("dome flat", False),
        ("Flat Field", False), ("LAMPFLAT", False), ("ARC", False), ("BPM", False),
    ],
)  # fmt: skip
def test_only_frames_of_the_sky_are_science(kind, science):
    expected = "" if science else kind
    assert instruments.calibration_type(fits.Header({"OBSTYPE": kind})) == expected
    assert instruments.calibration_type(fits.Header({"IMAGETYP": kind})) == expected


@pytest.mark.parametrize(("product", "said"), [("image", ""), ("dqmask", "dqmask"), ("wtmap", "wtmap")])
def test_products_of_the_community_pipeline_that_are_no_images(product, said):
    assert instruments.calibration_type(fits.Header({"OBSTYPE": "object", "PRODTYPE": product})) == said


@pytest.mark.parametrize(
    ("cards", "night"),
    [
        ({"DAY-OBS": "20211007", "DATE-OBS": "2021-10-08T01:55:17"}, "20211007"),
        ({"DTCALDAT": "2013-01-04", "DATE-OBS": "2013-01-05T06:52:55"}, "20130104"),
        ({"INSTRUME": "DECam", "DATE-OBS": "2013-01-05T06:52:55"}, "20130104"),
        ({"INSTRUME": "DECam", "DATE-OBS": "2013-01-05T20:52:55"}, "20130105"),
        ({"LONGITUD": 149.07, "DATE-OBS": "2020-05-05T03:00:00"}, "20200505"),
        ({"LONGITUD": "-70:48:53", "DATE-OBS": "2020-05-05T03:00:00"}, None),
        ({"DATE-OBS": "2020-05-05T03:00:00"}, None),
        ({"INSTRUME": "DECam", "DATE-OBS": "yesterday"}, None),
    ],
)
def test_the_night_is_the_label_or_the_last_local_noon(cards, night):
    header = fits.Header(cards)
    assert instruments.night(header, instruments.identify(header)) == night


def test_pixel_areas_know_their_units_and_binning():
    assert instruments.pixel_area(fits.Header({"CCDXPIXE": 9e-6, "CCDYPIXE": 9e-6, "CCDSUM": "2 2"})) == pytest.approx(
        3.24e-6
    )
    assert instruments.pixel_area(fits.Header({"PIXSIZE1": 15.0, "PIXSIZE2": 15.0})) == pytest.approx(2.25e-6)
    assert instruments.pixel_area(fits.Header({"XPIXSZ": 7.6, "YPIXSZ": 7.6, "CCDSUM": "2 2"})) == pytest.approx(
        5.776e-7
    )
    assert instruments.pixel_area(fits.Header({"INSTRUME": "DECam"})) == pytest.approx(2.25e-6)
    assert instruments.pixel_area(fits.Header()) is None


def test_sections_that_the_community_pipeline_left_behind_are_no_error():
    cards = {"INSTRUME": "DECam", "DATASECA": "[1025:2048,1:4096]", "DATASECB": "[1:1024,1:4096]"}
    with pytest.raises(FrameError, match="outside"):
        instruments.DECAM.amplifiers(fits.Header(cards), (4094, 2046))
    (whole,) = instruments.DECAM.amplifiers(fits.Header(cards | {"PROCTYPE": "InstCal"}), (4094, 2046))
    assert whole.section == (slice(0, 4094), slice(0, 2046))


def test_raw_lco_frames_have_overscan_and_reduced_ones_do_not():
    cards = {"DATASEC": "[1:512,1:512]", "RLEVEL": 0}
    (raw,) = instruments.LCO.amplifiers(fits.Header(cards), (522, 544))
    (reduced,) = instruments.LCO.amplifiers(fits.Header(cards | {"RLEVEL": 91}), (522, 544))
    assert raw.section == (slice(0, 512), slice(0, 512)) and reduced.section == (slice(0, 522), slice(0, 544))
    assert instruments.LCO.unit(fits.Header(cards)) == "adu"
    assert instruments.LCO.unit(fits.Header({"L1STATBI": 1, "L1STATCR": 1})) == "electron"
    assert instruments.LCO.unit(fits.Header({"L1STATCR": 1})) == "adu"


def test_the_lowest_saturation_counts():
    assert instruments.saturation(fits.Header({"SATURATA": 51000.0, "SATURATB": 49000.0})) == 49000
    assert instruments.saturation(fits.Header({"SATURATE": 0})) is None
