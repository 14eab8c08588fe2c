"""DECam exposures through the real BANZAI."""

import numpy as np
import pytest
from astropy.io import fits
from banzai import dbs
from pipeline import planes, reduce, runs
from scipy.ndimage import label

from crattn_stage.banzai import decam_settings
from crattn_stage.banzai.decam import SITE
from crattn_stage.demo import score, simulate_exposure
from crattn_stage.errors import FrameError

pytest_plugins = "pipeline"
pytestmark = pytest.mark.filterwarnings("ignore")

SETTINGS = (decam_settings.ORDERED_STAGES, decam_settings)


@pytest.fixture
def database(sqlite):
    """A database of BANZAI's that knows the camera."""
    dbs.add_site({"code": SITE, "timezone": -4, "longitude": -70.8, "latitude": -30.2, "elevation": 2207}, sqlite)
    dbs.add_instrument(
        {"site": SITE, "camera": "DECam", "name": "DECam", "type": "DECam", "nx": 2048, "ny": 4096}, sqlite
    )
    return sqlite


@pytest.fixture
def exposure(tmp_path):
    """A simulated raw exposure of two CCDs, and its truth."""
    hdus, truth = simulate_exposure()
    hdus[0].header["INSTRUME"] = "DECam"
    # A focus chip, which is out of focus by design.
    hdus.append(fits.ImageHDU(hdus["S29"].data, hdus["S29"].header, "FN1"))
    path = tmp_path / "c4d_130106_030000_ori.fits"
    hdus.writeto(path)
    return path, truth


def test_an_exposure_amplifier_by_amplifier(exposure, database, tmp_path):
    path, truth = exposure
    written = reduce(path, database, tmp_path, *SETTINGS)
    assert written.endswith("c4d_130106_030000_ori-e91.fits.fz") and "/20130105/" in written
    with fits.open(written) as hdus, fits.open(path) as raw:
        names = [f"{ccd}{amplifier}" for ccd in ("S29", "N31") for amplifier in "AB"]
        assert [h.name for h in hdus[1:]] == [f"{name}{plane}" for name in names for plane in ("", "BPM", "ERR")]
        assert hdus[0].header["L1STATCR"] == 1 and hdus[0].header["CRQC"] == "PASS"
        found = {}
        for ccd in truth:
            header = raw[ccd].header
            found[ccd] = np.zeros(truth[ccd].shape, bool)
            for amplifier in "AB":
                hdu, section = hdus[f"{ccd}{amplifier}"], header[f"DATASEC{amplifier}"]
                columns = slice(
                    *(int(x) - d for x, d in zip(section[1:].split(",")[0].split(":"), (1, 0), strict=True))
                )
                mine = [int(x) for x in hdu.header["DATASEC"][1:].split(",")[0].split(":")]
                inside = slice(mine[0] - 1, mine[1])
                gain = header[f"GAIN{amplifier}"]
                level = np.median(hdu.data[:, inside]) / gain
                assert level == pytest.approx(280, rel=0.02) and hdu.header["GAIN"] == pytest.approx(1)
                mask = (hdus[f"{ccd}{amplifier}BPM"].data & 8) != 0
                assert mask.sum() == hdu.header["CRNPIX"] == mask[:, inside].sum() > 0
                found[ccd][:, columns] = mask[:, inside]
        completeness, precision = score(np.concatenate([*truth.values()]), np.concatenate([found[c] for c in truth]))
        assert completeness > 0.85 and precision > 0.9
    (run,) = runs(database)
    assert (run.frame.instrument, run.frame.night) == ("decam", "20130105")
    assert [(a.extension, a.name) for a in run.amplifiers] == [("S29", "A"), ("S29", "B"), ("N31", "A"), ("N31", "B")]


def test_what_banzai_wrote_is_read_again(exposure, database, tmp_path):
    path, _ = exposure
    with fits.open(path, mode="update") as hdus:
        del hdus["N31"]
    first = reduce(path, database, tmp_path, *SETTINGS, fpack=False)
    with fits.open(first, mode="update") as hdus:
        hdus["S29ABPM"].data[5:25, 70:90] |= 8
        hdus["S29ABPM"].data[200, 200:210] |= 1
    assert reduce(first, database, tmp_path, *SETTINGS, fpack=False) == first
    with fits.open(first) as hdus:
        mask = hdus["S29ABPM"].data
        assert len(hdus) == 7 and not (mask[5:25, 70:90] & 8).all() and (mask[200, 200:210] & 1).all()


def test_a_section_outside_its_image_is_an_error(exposure, database, tmp_path):
    path, _ = exposure
    fits.setval(path, "BIASSECB", value="[1:9999,1:512]", ext=1)
    with pytest.raises(FrameError, match="BIASSECB"):
        reduce(path, database, tmp_path, *SETTINGS)


def test_frames_that_are_not_of_the_sky_are_refused(exposure, database, tmp_path):
    path, _ = exposure
    fits.setval(path, "OBSTYPE", value="zero")
    assert reduce(path, database, tmp_path, *SETTINGS) is None


def test_a_real_ccd(data, database, tmp_path):
    """Of the Community Pipeline, which left its cosmic rays in and flagged them."""
    path = data / "decam" / "c4d_170316_062107_z_ls9_N2.fits.fz"
    with fits.open(path) as hdus:
        theirs = hdus["DQ"].data == 5
    header, _, mask, _ = planes(reduce(path, database, tmp_path, *SETTINGS))
    ours = (mask & 8) != 0
    assert ours[theirs].mean() > 0.8 and ours.sum() < 1.3 * theirs.sum()
    objects, count = label(theirs, np.ones((3, 3)))
    assert len(np.unique(objects[ours & theirs])) == count
    assert header["CRNPIX"] == ours.sum()
