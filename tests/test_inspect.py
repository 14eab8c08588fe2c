import json
import subprocess
import sys

import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import sky_image

from crattn_stage.cameras.profile import load_profile
from crattn_stage.cli import main


def crattn(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def masked_file(tmp_path):
    """A multi-extension frame of an unknown camera, with a mask."""
    path = tmp_path / "frame.fits"
    flags = sky_image() * 0
    flags[3, :7] = 1
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(sky_image(), name="SCI"), fits.ImageHDU(flags.astype("u1"), name="MASK")]
    hdus[0].header.update(INSTRUME="Whatever", EGAIN=1.9, SATLEVEL=61000, EXPTIME=12.0, IMAGETYP="Light")
    fits.HDUList(hdus).writeto(path)
    return path


def test_what_was_understood_is_said(masked_file):
    result = crattn("inspect", masked_file)
    assert result.exit_code == 0, result.output
    for text in (
        "Light, 12 s, night unknown",
        "SCI        science",
        "saturation 61000",
        "gain 1.9 e-/ADU",
        "bad pixels: HDU 2, 7 pixels",
        "1: bad, 7 pixels, bad",
        "cosmic rays go to code 8 of HDU 2",
        f"masks 1 detector and writes {masked_file.with_name('frame-crmask.fits')}",
    ):
        assert text in result.output
    assert not masked_file.with_name("frame-crmask.fits").exists()


def test_json_has_the_same(masked_file, tmp_path):
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"SIMPLE  = no\n")
    result = crattn("inspect", masked_file, bad, "--json")
    good, refused = json.loads(result.stdout)
    assert result.exit_code == 1
    assert good["detectors"][0]["bad pixels"]["pixels"] == 7 and good["verdict"] == "mask"
    assert refused["verdict"] == "refuse" and refused["run"].startswith("refuses it: ")


def test_a_profile_to_start_from_is_a_profile(masked_file, tmp_path):
    target = tmp_path / "mine.toml"
    assert crattn("inspect", masked_file, "--write-profile", target).exit_code == 0
    content = load_profile(target)
    assert content["recognise"] == [{"INSTRUME": "Whatever"}]
    assert {block["EXTNAME"]: block["role"] for block in content["hdus"]} == {"SCI": "science", "MASK": "mask"}
    again = crattn("inspect", masked_file, "--write-profile", target)
    assert again.exit_code == 1 and "exists" in again.stderr


def test_profiles_are_listed_shown_and_checked(tmp_path):
    assert "decam-cp" in crattn("cameras", "list").stdout
    assert "SATURATE" in crattn("cameras", "show", "decam").stdout
    assert "no profile of a camera 'nobody'" in crattn("cameras", "show", "nobody").stderr
    (tmp_path / "odd.toml").write_text('[[hdus]]\nrole = "none"\n')
    result = crattn("cameras", "check", tmp_path / "odd.toml")
    assert result.exit_code == 1 and "odd.toml: line 2: [hdus] role" in result.stderr


def test_inspect_needs_neither_a_network_nor_a_database(masked_file):
    heavy = ("torch", "openvino", "sqlalchemy", "scipy", "matplotlib", "celery")
    code = (
        f"import sys; sys.argv = ['crattn-stage', 'inspect', {str(masked_file)!r}]\n"
        "from crattn_stage.cli import main\n"
        "try:\n    main()\nexcept SystemExit as error:\n    assert error.code == 0\n"
        f"print(sorted(set({heavy}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
