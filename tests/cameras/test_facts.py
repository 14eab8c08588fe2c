from datetime import UTC, datetime

import pytest
from astropy.io import fits

from crattn_stage.cameras import facts
from crattn_stage.cameras.profile import find_profile, recognise
from crattn_stage.cameras.sections import read_amplifiers


def profile_of(header):
    return recognise([header])[0]


def fact(name, **cards):
    header = fits.Header(cards)
    return getattr(facts, name)(header, profile_of(header))


@pytest.mark.parametrize(
    ("cards", "name"),
    [
        ({"INSTRUME": "DECam"}, "decam"),
        ({"INSTRUME": "fa05", "TELESCOP": "1m0-08", "ORIGIN": "LCOGT"}, "lco"),
        ({"INSTRUME": "ZTF/MOSAIC"}, "ztf"),
        ({}, "generic"),
    ],
)
def test_cameras_are_recognised(cards, name):
    assert profile_of(fits.Header(cards)).family == name


@pytest.mark.parametrize(
    ("kind", "science"),
    [
        ("EXPOSE", True), ("object", True), ("STANDARD", True), ("", True), ("Light Frame", True), ("SEARCH", True),
        ("BIAS", False), ("zero", False), ("DARK", False), ("SKYFLAT", False), ("dome flat", False),
        ("Flat Field", False), ("LAMPFLAT", False), ("ARC", False), ("BPM", False),
    ],
)  # fmt: skip
def test_only_frames_of_the_sky_are_science(kind, science):
    expected = "" if science else kind.lower()
    for card in ("OBSTYPE", "IMAGETYP", "OBS-TYPE"):
        assert facts.calibration_type([fits.Header({card: kind})], find_profile("generic")) == expected


@pytest.mark.parametrize(("product", "said"), [("image", ""), ("dqmask", "dqmask"), ("wtmap", "wtmap")])
def test_products_of_the_community_pipeline_that_are_no_images(product, said):
    header = fits.Header({"OBSTYPE": "object", "PRODTYPE": product})
    assert facts.calibration_type([header], find_profile("generic")) == said


@pytest.mark.parametrize(
    ("cards", "night"),
    [
        ({"DAY-OBS": "20211007", "DATE-OBS": "2021-10-08T01:55:17"}, "20211007"),
        # No such month.
        ({"DAY-OBS": "20211307", "DATE-OBS": "2021-10-08T01:55:17", "LONGITUD": -70.8}, "20211007"),
        ({"DTCALDAT": "2013-01-04", "DATE-OBS": "2013-01-05T06:52:55"}, "20130104"),
        ({"INSTRUME": "DECam", "DATE-OBS": "2013-01-05T06:52:55"}, "20130104"),
        ({"INSTRUME": "DECam", "DATE-OBS": "2013-01-05T20:52:55"}, "20130105"),
        ({"LONGITUD": 149.07, "DATE-OBS": "2020-05-05T03:00:00"}, "20200505"),
        ({"LONGITUD": "-70:48:53", "DATE-OBS": "2020-05-05T03:00:00"}, "20200504"),
        ({"LONGITUD": 149.07, "DATE-OBS": "2020-05-05", "UT": "03:00:00"}, "20200505"),
        ({"LONGITUD": 149.07, "DATE-OBS": "2020-05-05"}, None),
        ({"DATE-OBS": "2020-05-05T03:00:00"}, None),
        ({"INSTRUME": "DECam", "DATE-OBS": "yesterday"}, None),
    ],
)
def test_the_night_is_the_label_or_the_last_local_noon(cards, night):
    assert fact("night", **cards) == night


@pytest.mark.parametrize(
    ("comment", "seconds"),
    [
        ("exposure time in ms", 90.0),
        ("[ms] exposure time", 90.0),
        ("Exposure time (min)", 5.4e6),
        ("Exposure time minutes", 5.4e6),
        ("seconds, 2 minutes after the flat", 90_000.0),
        ("[s] exposure time", 90_000.0),
        ("Exposure time in seconds, shutter 20 ms", 90_000.0),
        ("", 90_000.0),
    ],
)
def test_the_unit_of_an_exposure_time_in_the_comment_of_its_card(comment, seconds):
    header = fits.Header()
    header["EXPTIME"] = (90_000, comment)
    assert facts.exposure_time(header, find_profile("generic")) == pytest.approx(seconds)


def test_pixel_areas_know_their_units_and_binning():
    lco = {"ORIGIN": "LCOGT", "INSTRUME": "fa05"}
    assert fact("pixel_area", CCDXPIXE=9e-6, CCDYPIXE=9e-6, CCDSUM="2 2", **lco) == pytest.approx(3.24e-6)
    assert fact("pixel_area", PIXSIZE1=15.0, PIXSIZE2=15.0) == pytest.approx(2.25e-6)
    # SBFITSEXT has it binned.
    assert fact("pixel_area", XPIXSZ=7.6, YPIXSZ=7.6, CCDSUM="2 2") == pytest.approx(5.776e-7)
    assert fact("pixel_area", INSTRUME="DECam") == pytest.approx(2.25e-6)
    assert fact("pixel_area") is None


def test_sections_that_the_community_pipeline_left_behind_are_no_error():
    cards = {
        "INSTRUME": "DECam",
        "DATASECA": "[1025:2048,1:4096]",
        "DATASECB": "[1:1024,1:4096]",
        "PROCTYPE": "InstCal",
    }
    header = fits.Header(cards)
    (whole,), notes = read_amplifiers(header, (4094, 2046), profile_of(header))
    assert whole.section == (slice(0, 4094), slice(0, 2046)) and not notes


def test_raw_lco_frames_have_overscan_and_reduced_ones_do_not():
    raw = fits.Header({"ORIGIN": "LCOGT", "INSTRUME": "fa05", "DATASEC": "[1:512,1:512]", "RLEVEL": 0})
    reduced = fits.Header({**raw, "RLEVEL": 91, "BUNIT": "electron"})
    (amplifier,), _ = read_amplifiers(raw, (522, 544), profile_of(raw))
    assert amplifier.section == (slice(0, 512), slice(0, 512)) and facts.charge_unit(raw, profile_of(raw)) == "adu"
    (amplifier,), _ = read_amplifiers(reduced, (522, 544), profile_of(reduced))
    assert amplifier.section == (slice(0, 522), slice(0, 544))
    assert facts.charge_unit(reduced, profile_of(reduced)) == "electron"


def test_the_lowest_saturation_counts():
    header = fits.Header({"INSTRUME": "DECam", "SATURATA": 51000.0, "SATURATB": 49000.0})
    assert facts.saturation(header, profile_of(header), ("A", "B")) == 49000
    assert fact("saturation", SATURATE=0) is None
    assert fact("saturation", SATLEVEL=60000) == 60000


@pytest.mark.parametrize(
    ("card", "east"),
    [(-70.8, -70.8), ("-70:48:00", -70.8), ("70 48 00 W", -70.8), ("70.8W", -70.8), ("149 04 12", 149.07), (0.0, None)],
)
def test_longitudes_in_the_forms_that_headers_have(card, east):
    assert fact("longitude", SITELONG=card) == (east and pytest.approx(east))


def test_a_setting_of_the_camera_is_no_gain():
    header = fits.Header({"GAIN": 120, "EGAIN": 1.3})
    (amplifier,), _ = read_amplifiers(header, (8, 8), find_profile("generic"))
    assert amplifier.gain == 1.3
    (amplifier,), notes = read_amplifiers(fits.Header({"GAIN": 120}), (8, 8), find_profile("generic"))
    assert amplifier.gain is None and "GAIN = 120 is not a gain" in notes[0]


@pytest.mark.parametrize(("name", "skipped"), [("x-crmask.fits", False), ("x.fits", False), ("x_mask.fits", True)])
def test_our_own_outputs_are_no_masks_by_their_names(name, skipped):
    header = fits.Header({"OBSTYPE": "object", "NAXIS": 2})
    assert bool(facts.calibration_type([header], find_profile("generic"), name)) == skipped


@pytest.mark.parametrize(
    ("cards", "name"),
    [
        ({"FILTER": "rp"}, "rp"),
        ({"FILTER": "", "FILTER1": "air", "FILTER2": "V", "FILTER3": "air"}, "V"),
        ({"FILTER1": "F606W", "FILTER2": "POL0V"}, "F606W+POL0V"),
        ({"FILTER1": "CLEAR1L", "FILTER2": "CLEAR2L"}, "CLEAR1L"),
        ({"FILTER": "x" * 68}, "x" * 50),
        ({"FILTER": 3}, "3"),
        ({}, None),
    ],
)
def test_filters(cards, name):
    assert facts.filter_name(fits.Header(cards)) == name


@pytest.mark.parametrize(
    ("cards", "moment"),
    [
        ({"DATE-OBS": "2013-01-05T06:52:55.5"}, datetime(2013, 1, 5, 6, 52, 55, 500000, UTC)),
        ({"DATE-OBS": "2020-05-05", "UT": "23:59:60"}, datetime(2020, 5, 6, 0, 0, 0, 0, UTC)),
        ({"DATE-OBS": "2020-02-31T01:00:00"}, None),
        ({"DATE-OBS": "9999-12-31", "UT": "23:59:60"}, None),
        ({"DATE-OBS": "2017-12-19T18:33:43.317-0700"}, datetime(2017, 12, 20, 1, 33, 43, 317000, UTC)),
        ({"DATE-OBS": "2020-01-01T00:30:00+01:00"}, datetime(2019, 12, 31, 23, 30, tzinfo=UTC)),
        ({"DATE-OBS": "0001-01-01T00:00:00+0500"}, None),
        ({"DATE-OBS": "9999-12-31T23:59:00-0700"}, None),
        ({"DATE-OBS": "2020-05-05"}, None),
        ({}, None),
    ],
)
def test_when_an_exposure_began(cards, moment):
    header = fits.Header(cards)
    found = facts.read_exposure(header, profile_of(header)).observed
    assert (found and round(found.timestamp(), 3)) == (moment and moment.timestamp())


@pytest.mark.parametrize(
    ("cards", "name", "camera", "said"),
    [
        ({"OBSMODE": "IMAGING"}, "master_bias.fits", "generic", "bias, dark or flat, by its name"),
        ({"OBJECT": "x"}, "flat1.fits", "lick-nickel", "bias, dark or flat, by its name"),
        ({"IMAGETYP": "Light Frame"}, "flat_galaxy.fits", "decam", ""),
        ({"FRAME": "Light"}, "flat_galaxy.fits", "generic", ""),
        (
            {"FRAME": "2022-09-19T19:47:40.000"},
            "Bias_M2 19.47.45_00001.fits",
            "andor-solis",
            "bias, dark or flat, by its name",
        ),
        ({"FRAME": "2022-09-19T19:47:40.000"}, "ThAr_M2_00011.fits", "andor-solis", "arc, by its name"),
        ({}, "arc0245.a.fits", "generic", "arc, by its name"),
        ({}, "arc_2013_M51.fits", "generic", ""),
        ({}, "near_earth_2024YR4_001.fits", "generic", ""),
        ({}, "lamp_3.fits", "generic", "lamp, by its name"),
        ({"OBJECT": "Argon lamp"}, "a.fits", "generic", "argon lamp"),
        ({"OBJECT": "He lamp"}, "a.fits", "generic", "he lamp"),
        ({"OBJECT": "He 2-10"}, "a.fits", "generic", ""),
        ({"OBJECT": "Mercury"}, "a.fits", "generic", ""),
    ],
)
def test_what_file_and_object_names_say(cards, name, camera, said):
    profile = find_profile(camera)
    found = facts.calibration_type([fits.Header({"SIMPLE": True, **cards})], profile, name)
    assert found == said
    assert facts.is_arc(found) == (said in ("arc, by its name", "argon lamp", "he lamp"))


@pytest.mark.parametrize("telescope", ["Spitzer", "IRAS", "Herschel Space", "Spitzer 0.4m", "William Herschel"])
def test_infrared_arrays_in_space_are_refused(telescope):
    headers = [fits.Header({"SIMPLE": True, "TELESCOP": telescope, "NAXIS": 2})]
    profile, _ = recognise(headers)
    refused = telescope in ("Spitzer", "IRAS", "Herschel Space")
    assert ("infrared array in space" in facts.refusal(headers, profile)) == refused
