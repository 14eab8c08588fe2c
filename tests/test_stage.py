import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import sky_image, with_track

from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.products.settings import MaskSettings
from crattn_stage.stage import AttentionCRStage, Stage


def test_a_frame_is_marked_and_described(stage, frame_file):
    with ObservationFrame(frame_file(EXPTIME=60.0, XPIXSZ=10.0, YPIXSZ=10.0)) as frame:
        assert stage.do_stage(frame) is frame
    (marks,) = frame.marks.values()
    _, hit = with_track(sky_image())
    found = np.zeros(hit.shape, bool)
    found.ravel()[marks.pixels] = True
    assert found[hit].mean() > 0.95
    assert frame.cards["CRNHIT"][0] == 1 and frame.cards["CRNPIX"][0] == found.sum()
    assert frame.cards["CRRATE"][0] == pytest.approx(1 / (hit.size * 1e-6), rel=1e-3)
    assert frame.cards["L1IDCR"][0] == "att-deepcr"
    # It is small.
    assert frame.cards["CRQC"][0] == "WARN" and "too small to measure" in frame.cards["CRQCWHY"][0]


@pytest.mark.parametrize("cards, verdict", [({}, "WARN"), ({"EXPTIME": 60.0}, "PASS"), ({"IMAGETYP": "Light"}, "PASS")])
def test_an_image_whose_header_says_nothing_is_no_pass(stage, tmp_path, cards, verdict):
    # The image of a model, a map or a picture looks the same.
    hdu = fits.PrimaryHDU(sky_image((200, 200)))
    hdu.header.update(cards)
    hdu.writeto(tmp_path / "image.fits")
    with ObservationFrame(tmp_path / "image.fits") as frame:
        stage.do_stage(frame)
    assert frame.cards["CRQC"][0] == verdict
    assert ("calls it an exposure" in (frame.cards["CRDOMAIN"][0] or "")) == (not cards)


@pytest.mark.parametrize("kind", ["BIAS", "DARK", "SKYFLAT"])
def test_calibration_frames_pass_as_they_are(stage, frame_file, kind):
    with ObservationFrame(frame_file(OBSTYPE=kind)) as frame:
        assert stage.do_stage(frame) is frame
        assert frame.marks == {} and frame.cards == {}


def test_one_bad_frame_does_not_stop_the_others(stage, frame_file, tmp_path, caplog):
    bad = tmp_path / "nan.fits"
    fits.PrimaryHDU(np.full((50, 50), np.nan, np.float32)).writeto(bad)
    with ObservationFrame(frame_file()) as good, ObservationFrame(bad) as broken, caplog.at_level(logging.ERROR):
        done = stage.run([broken, good])
    assert done == [good]
    assert f"{bad}: no usable pixel" in caplog.text


def test_the_stage_is_known_by_its_own_name(stage):
    assert stage.stage_name == "crattn_stage.stage.AttentionCRStage"
    with pytest.raises(NotImplementedError):
        Stage(None).do_stage(None)


def write_mef(path, images):
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(image, name=f"N{i}") for i, image in enumerate(images, 1))]
    hdus[0].header["INSTRUME"] = "DECam"
    fits.HDUList(hdus).writeto(path)


@pytest.mark.parametrize(("value", "odd"), [(np.nan, np.nan), (0, 0), (7, np.nan)])
def test_a_dead_detector_does_not_cost_the_exposure(stage, tmp_path, value, odd):
    path = tmp_path / "mef.fits"
    dead = np.full((60, 60), value, np.float32)
    dead[8, 8] = odd
    write_mef(path, [dead, with_track(sky_image())[0]])
    with ObservationFrame(path) as frame:
        stage.do_stage(frame)
        dead, alive = (frame.marks[e.index].cards for e in frame.extensions)
    assert (dead["L1STATCR"][0], dead["CRQC"][0]) == (0, "FAIL")
    assert (alive["L1STATCR"][0], alive["CRNHIT"][0]) == (1, 1)
    assert frame.notes == ["no usable pixel in N1"]


def test_a_frame_carries_the_completeness_of_its_mask(stage, tmp_path):
    fits.writeto(tmp_path / "f.fits", sky_image((512, 640)), fits.Header({"GAIN": 4.0}))
    with ObservationFrame(tmp_path / "f.fits") as frame:
        cards = {keyword: value for keyword, (value, _) in stage.do_stage(frame).cards.items()}
    assert cards["CRNINJ"] >= 10 and cards["CRCMPL10"] == 1 and cards["CRNOISE"] == 0
    assert cards["CRCM10LO"] < 1 == cards["CRCM10HI"] and cards["CRCM5LO"] <= cards["CRCMPL5"] <= cards["CRCM5HI"]
    without = AttentionCRStage(replace(stage.runtime_context, masks=MaskSettings(injections=0)))
    with ObservationFrame(tmp_path / "f.fits") as frame:
        cards = without.do_stage(frame).cards
    assert all(cards[keyword][0] is None for keyword in ("CRNINJ", "CRCMPL5", "CRCM5LO", "CRCMPL10", "CRNOISE"))


def test_hits_are_added_to_an_image_in_electrons_as_bright_as_they_were(stage, tmp_path):
    injected = []
    for number, (unit, gain) in enumerate([("electron", 1.0), ("electron", 4.0), ("adu", 4.0), ("adu/s", 4.0)]):
        path = tmp_path / f"{number}.fits"
        fits.writeto(path, sky_image((512, 640)), fits.Header({"GAIN": gain, "BUNIT": unit}))
        with ObservationFrame(path) as frame:
            (detection,) = stage.do_stage(frame).detections
        injected.append(detection.summary.injected)
    electrons, same, counts, rate = injected
    # The gain in the header is that before the conversion.
    assert same == electrons and same != counts
    # Of a rate it is not known how many electrons there were.
    assert rate.bright > 0 and rate not in injected[:3]


def test_saturated_stars_are_not_masked(stage, tmp_path):
    from crattn_stage.simulation.skies import expose, simulate_sky

    rng = np.random.default_rng(8)
    scene, _ = simulate_sky((200, 200), rng, stars=300, galaxies=0)
    yy, xx = np.mgrid[:200, :200]
    scene += 3e6 * np.exp(-((yy - 90) ** 2 + (xx - 100) ** 2) / 2 / 2.2**2).astype(np.float32)
    image = np.minimum(expose(scene, 1100, 7, 4, rng), 40000)
    image[40:150, 99:102] = 40000
    path = tmp_path / "star.fits"
    hdu = fits.PrimaryHDU(image.astype(np.float32))
    hdu.header["SATURATE"] = 39000.0
    hdu.writeto(path)
    with ObservationFrame(path) as frame:
        stage.do_stage(frame)
    found = np.zeros(image.shape, bool)
    found.ravel()[frame.marks[0].pixels] = True
    assert not found[80:100, 90:110].any()
    assert found[30:160, 96:105].sum() <= 3


def test_errors_of_a_frame_are_frame_errors(stage, tmp_path):
    path = tmp_path / "section.fits"
    hdu = fits.PrimaryHDU(sky_image())
    hdu.header["DATASEC"] = "[51:140,1:100]"
    hdu.writeto(path)
    with pytest.raises(FrameError, match="outside the image"), ObservationFrame(Path(path)) as frame:
        stage.do_stage(frame)
