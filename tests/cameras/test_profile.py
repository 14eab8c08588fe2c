import os

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import sky_image, with_track

from crattn_stage.cameras.profile import SHIPPED, find_profile, load_profile, profiles, recognise
from crattn_stage.cli import main
from crattn_stage.errors import CameraError, FrameError
from crattn_stage.fits.frame import ObservationFrame, OpenFrame

GOOD = """title = "My camera"
references = ["its manual"]

[[recognise]]
INSTRUME = "MyCam"

[[hdus]]
role = "science"
HDU = 0

[keywords]
gain = ["CONVGAIN"]

[values]
longitude = -17.9

[settings]
bad_pixels = "bpm.fits"
minimum_exposure = 2.0
"""


@pytest.fixture
def camera(tmp_path, monkeypatch):
    """Write a profile of a user's own, and return its folder."""

    def write(text=GOOD, name="mycam"):
        folder = tmp_path / "cameras"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.toml").write_text(text)
        monkeypatch.setenv("CRATTN_CAMERAS", str(folder))
        return folder

    return write


def test_every_shipped_profile_keeps_to_the_format_and_names_its_references():
    for path in SHIPPED.glob("*.toml"):
        content = load_profile(path)
        assert content["title"] and content["references"], path
        if path.stem != "generic":
            assert content["recognise"], path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('role = "science"', 'role = "sience"', r'line 8: \[hdus\] role: not "science" or "mask"'),
        ("HDU = 0", 'HDU = "first"', r"line 9: \[hdus\] HDU: not an HDU number"),
        ('INSTRUME = "MyCam"', 'INSTRUME = "("', r"line 5: \[recognise\] INSTRUME: not a regular expression"),
        ("gain = ", "gian = ", r"line 12: \[keywords\] gian: unknown"),
        ("[values]", "[valeus]", r"line 14: valeus: unknown"),
        ("longitude = -17.9", "longitude = -999", r"line 15: \[values\] longitude: not degrees east"),
        ('title = "My camera"', "title = My camera", r"mycam.toml: .*line 1"),
        ('role = "science"\n', "", r"line 7: \[hdus\] role: is missing"),
        ('INSTRUME = "MyCam"', "", r"line 4: \[recognise\] : matches anything"),
        ("minimum_exposure = 2.0", "limits = { CRSTR = [0, 1] }", r"line 19: \[settings\] limits: not card = \[WARN"),
        (
            "minimum_exposure = 2.0",
            "limits = { CRSTAR = [2, 1] }",
            r"line 19: \[settings\] limits: .* of CRFRAC, CRSTAR",
        ),
        ("[[hdus]]", "[hdus]", r"line 7: hdus: write it as \[\[hdus\]\]"),
    ],
)
def test_an_error_names_file_line_and_key(camera, old, new, said):
    path = camera(GOOD.replace(old, new)) / "mycam.toml"
    with pytest.raises(CameraError, match=said) as caught:
        load_profile(path)
    assert str(path) in str(caught.value)


def test_what_is_no_profile_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "empty.toml").touch()
    for name, said in (("pipe", "not a regular file"), ("empty", "it is empty"), ("none", "No such file")):
        with pytest.raises(CameraError, match=f"{name}.toml: {said}"):
            load_profile(tmp_path / f"{name}.toml")


def test_a_users_profile_goes_before_the_shipped_ones_and_hides_one_of_its_name(camera):
    header = fits.Header({"INSTRUME": "DECam"})
    assert recognise([header])[0].name == "decam"
    folder = camera(GOOD.replace("MyCam", "DECam"))
    assert recognise([header])[0].name == "mycam"
    (folder / "decam.toml").write_text(GOOD)
    assert find_profile("decam").path.parent == folder
    assert [p.name for p in profiles()].count("decam") == 1


def test_a_profile_on_top_of_another(camera):
    camera('extends = "lco"\n[[recognise]]\nINSTRUME = "zz01"\n[values]\ngain = 2.5\n', "zz")
    mine, parent = find_profile("zz"), find_profile("lco")
    assert mine.masks == parent.masks and mine.values["gain"] == 2.5 and mine.family == "lco"
    camera('extends = "nobody"\n[[recognise]]\nINSTRUME = "zz01"\n', "zz")
    with pytest.raises(CameraError, match="extends 'nobody', of which there is no profile"):
        profiles()
    camera('extends = "zz"\n[[recognise]]\nINSTRUME = "zz01"\n', "zz")
    with pytest.raises(CameraError, match="extends itself"):
        profiles()


def test_a_folder_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("CRATTN_CAMERAS", "/no/such/folder")
    with pytest.raises(CameraError, match="/no/such/folder"):
        profiles()


def test_bad_pixels_of_a_file_of_their_own_are_used(camera, tmp_path):
    folder = camera()
    plane = np.zeros((120, 100), np.uint8)
    plane[:, 17] = 1
    fits.PrimaryHDU(plane).writeto(folder / "bpm.fits")
    path = tmp_path / "frame.fits"
    hdu = fits.PrimaryHDU(sky_image())
    hdu.header.update(INSTRUME="MyCam", CONVGAIN=1.7, EXPTIME=30.0)
    hdu.writeto(path)
    with ObservationFrame(path) as frame:
        ((extension, ccd),) = frame.ccds()
        assert np.array_equal(ccd.mask, plane != 0) and extension.amplifiers[0].gain == 1.7
    fits.PrimaryHDU(plane[1:]).writeto(folder / "bpm.fits", overwrite=True)
    os.utime(folder / "bpm.fits", (1, 1))
    with (
        ObservationFrame(path) as frame,
        pytest.raises(FrameError, match=r"bad-pixel .*bpm.fits: it has 0 images"),
    ):
        list(frame.ccds())


def test_a_camera_has_limits_of_its_own_and_strict_heeds_the_verdict(camera, tmp_path):
    path, out = tmp_path / "frame.fits", tmp_path / "out"
    image = with_track(sky_image((192, 160)))[0]
    fits.writeto(path, image, fits.Header({"INSTRUME": "MyCam", "EXPTIME": 30.0}))

    def run(*options):
        options = ("--overwrite", "--output-dir", out, "--model", "att-deepcr", "--no-injection", *options)
        result = CliRunner().invoke(main, ["run", str(path), *map(str, options)])
        return result.exit_code, fits.getval(out / "frame.fits", "CRQC")

    camera(GOOD.replace('bad_pixels = "bpm.fits"', ""))
    assert run("--strict") == (0, "PASS")
    camera(GOOD.replace('bad_pixels = "bpm.fits"', "limits = { CRFRAC = [0.0001, 0.5] }"))
    assert run() == (0, "WARN") and run("--strict") == (1, "WARN")
    camera(GOOD.replace('bad_pixels = "bpm.fits"', "") + "[settings.limits]\nCRFRAC = [0.0001, 0.0002]\n")
    assert run("--strict") == (1, "FAIL")


def test_bad_pixels_from_a_region_file(camera, tmp_path):
    folder = camera(GOOD.replace("bpm.fits", "bpm.reg"))
    (folder / "bpm.reg").write_text("# Region file format: DS9\nimage\nbox(18,60.5,1,120,0)\ncircle(51,31,3)\n")
    path = tmp_path / "frame.fits"
    hdu = fits.PrimaryHDU(sky_image())
    hdu.header.update(INSTRUME="MyCam", EXPTIME=30.0)
    hdu.writeto(path)
    with ObservationFrame(path) as frame:
        ((_, ccd),) = frame.ccds()
    assert ccd.mask[:, 17].all() and ccd.mask[30, 50] and not ccd.mask[:, 16].any() and not ccd.mask[30, 55]


@pytest.mark.parametrize(
    ("region", "bad", "good", "problem"),
    [
        ("circle(900,900,3)\n", None, (30, 50), None),
        ("circle(51,31,10)\n-circle(51,31,3)\n", (30, 56), (30, 50), None),
        ("square(51,31,3)\n", None, None, "bad-pixel file .*bpm.reg: .* not understood"),
        ("point(51,31)\n", None, None, "bad-pixel file .*bpm.reg: a point or a line has no area"),
    ],
)
def test_regions_of_bad_pixels_mean_what_ds9_draws_or_are_refused(camera, tmp_path, region, bad, good, problem):
    folder = camera(GOOD.replace("bpm.fits", "bpm.reg"))
    (folder / "bpm.reg").write_text(f"image\n{region}")
    hdu = fits.PrimaryHDU(sky_image())
    hdu.header.update(INSTRUME="MyCam", EXPTIME=30.0)
    hdu.writeto(tmp_path / "frame.fits")
    with ObservationFrame(tmp_path / "frame.fits") as frame:
        if problem:
            with pytest.raises(FrameError, match=problem):
                list(frame.ccds())
            return
        ((_, ccd),) = frame.ccds()
    assert ccd.mask.any() == bool(bad) and not ccd.mask[good] and (not bad or ccd.mask[bad])


def test_short_exposures_are_skipped_where_the_camera_says_so(camera, tmp_path):
    camera()
    hdu = fits.PrimaryHDU(sky_image())
    hdu.header.update(INSTRUME="MyCam", EXPTIME=0.5)
    hdu.writeto(tmp_path / "frame.fits")
    with OpenFrame(tmp_path / "frame.fits") as frame:
        assert frame.layout.exposure.calibration_type == "exposure of 0.5 s, under the camera's 2 s"


@pytest.mark.parametrize("asked", [[], ["--model", "att-deepcr"]])
def test_the_model_of_a_camera_is_used_unless_another_is_asked_for(camera, tmp_path, asked):
    camera(GOOD.partition("bad_pixels")[0] + 'model = "deepcr"\n')
    path = tmp_path / "frame.fits"
    hdu = fits.PrimaryHDU(with_track(sky_image())[0])
    hdu.header.update(INSTRUME="MyCam", EXPTIME=30.0)
    hdu.writeto(path)
    arguments = ["run", str(path), "--output-dir", str(tmp_path / "out"), "--engine", "float32", *asked]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert fits.getheader(tmp_path / "out" / "frame.fits")["L1IDCR"] == (asked or ["", "deepcr"])[1]


def test_threshold_and_growth_of_a_camera(camera, tmp_path, stage):
    hdu = fits.PrimaryHDU(with_track(sky_image())[0])
    hdu.header.update(INSTRUME="MyCam", EXPTIME=30.0)
    hdu.writeto(tmp_path / "frame.fits")
    pixels = []
    for setting in ("", "grow = 2\nthreshold = 0.25\n"):
        camera(GOOD.partition("bad_pixels")[0] + setting)
        with ObservationFrame(tmp_path / "frame.fits") as frame:
            stage.do_stage(frame)
            pixels.append(frame.cards["CRNPIX"][0])
            threshold = frame.cards["CRPMIN"][0]
    assert pixels[1] > 2 * pixels[0] and threshold == 0.25
