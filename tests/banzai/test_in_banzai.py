"""Raw frames through the real BANZAI, with our stage in each of its places."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from banzai import dbs
from banzai.tests.utils import FakeCCDData, FakeLCOObservationFrame
from pipeline import OURS, RAW, REDUCED, SLOTS, context, planes, quick, reduce, runs
from scipy.ndimage import binary_dilation, label

from crattn_stage.banzai import CosmicRayDetector, detectors, settings
from crattn_stage.cameras.sections import Amplifier
from crattn_stage.demo import score
from crattn_stage.errors import ModelError
from crattn_stage.models.cards import DEFAULT
from crattn_stage.stage import AttentionCRStage, RuntimeContext

pytest_plugins = "pipeline"
# BANZAI's own.
pytestmark = pytest.mark.filterwarnings("ignore")

WITHOUT = [stage for stage in quick(SLOTS["stock"]) if stage != OURS]
HERE = "[1:512,1:512]"


def quadrants(shape):
    rows, columns = ([slice(0, n // 2), slice(n // 2, n)] for n in shape)
    return [Amplifier(f"{i}{j}", (r, c)) for i, r in enumerate(rows) for j, c in enumerate(columns)]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_raw_to_reduced(database, raw, tmp_path, request):
    url = request.getfixturevalue(database)
    path, truth = raw
    written = reduce(path, url, tmp_path, SLOTS["amplifiers"])
    assert written.endswith(REDUCED)
    with fits.open(written) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "CAT", "BPM", "ERR"]
        assert isinstance(hdus["BPM"], fits.CompImageHDU) and hdus["BPM"].data.dtype == np.uint8
    header, _, mask, _ = planes(written)
    found = (mask & 8) != 0
    completeness, precision = score(truth, found)
    assert completeness > 0.8 and precision > 0.9
    assert (header["L1STATCR"], header["L1IDCR"], header["CRQC"]) == (1, DEFAULT, "PASS")
    assert header["CRNPIX"] == found.sum() and header["CRRATE"] > 0
    (run,) = runs(url)
    assert (run.status, run.frame.path, run.pixels, run.hits) == ("succeeded", RAW, found.sum(), header["CRNHIT"])
    assert run.output_path == written
    assert [a.name for a in run.amplifiers] == ["1", "2", "3", "4"]
    assert sum(a.pixels for a in run.amplifiers) == found.sum()
    # BANZAI's own tables are as they were.
    assert dbs.get_processed_image(REDUCED, url).checksum != "0" * 32


@pytest.mark.parametrize("slot", SLOTS)
def test_bit_8_is_exactly_our_mask_and_nothing_else_changes(slot, raw, sqlite, tmp_path):
    path, _ = raw
    with fits.open(path, mode="update") as hdus:
        # A saturated star, for a bit of another kind.
        hdus[2].data[100:106, 50:56] = 60000
    bare = planes(reduce(path, sqlite, tmp_path / "bare", WITHOUT, fpack=False))
    ours = planes(reduce(path, sqlite, tmp_path / "ours", quick(SLOTS[slot]), fpack=False))
    np.testing.assert_array_equal(ours[1], bare[1])
    np.testing.assert_array_equal(ours[3], bare[3])
    np.testing.assert_array_equal(ours[2] & ~np.uint8(8), bare[2])
    assert (bare[2] & 2).any()
    # The amplifiers' skies are measured one by one where the amplifiers are known: all that parts the slots.
    amplifiers = quadrants(ours[1].shape) if slot == "amplifiers" else [Amplifier("", np.s_[0:512, 0:512])]
    masker = AttentionCRStage(RuntimeContext(threshold=settings.CRATTN_THRESHOLD))
    image = np.ascontiguousarray(ours[1], np.float32)
    detection = masker.search("SCI", image, bare[2] != 0, amplifiers, ours[0]["SATURATE"])
    expected = np.zeros(image.shape, bool)
    expected.ravel()[detection.pixels] = True
    np.testing.assert_array_equal((ours[2] & 8) != 0, expected)


def test_slots_find_the_same_hits_of_a_real_frame(real, sqlite, tmp_path):
    masks = {}
    for slot in ("amplifiers", "mosaic"):
        header, _, mask, _ = planes(reduce(real, sqlite, tmp_path / slot, quick(SLOTS[slot])))
        masks[slot] = (mask & 8) != 0
        assert header["CRQC"] == "PASS" and header["CRNHIT"] > 20
    different = masks["amplifiers"] ^ masks["mosaic"]
    assert different.sum() < 0.08 * masks["mosaic"].sum()
    # They differ in pixels at the border of a hit; what only one slot finds is a faint object at the limit.
    both = masks["amplifiers"] & masks["mosaic"]
    lone, _ = label(different & ~binary_dilation(both, np.ones((3, 3)), iterations=3), np.ones((3, 3)))
    assert lone.max() < 3 and np.bincount(lone.ravel())[1:].max(initial=0) < 6


@pytest.mark.parametrize("packed", [True, False])
def test_reprocessing_clears_what_was_masked_before(packed, raw, sqlite, tmp_path):
    path, _ = raw
    stages = quick(SLOTS["stock"])
    first = reduce(path, sqlite, tmp_path, stages, fpack=packed)
    before = planes(first)[2]
    with fits.open(first, mode="update") as hdus:
        plane = hdus["BPM"].data.copy()
        plane[5:25, 5:25] |= 8
        plane[200, 200:210] |= 1
        hdus["BPM"].data = plane
    again = reduce(first, sqlite, tmp_path, stages, fpack=packed, START_STAGE_BY_REDUCTION_LEVEL={"91": OURS})
    assert again == first
    header, _, after, _ = planes(again)
    assert not (after[5:25, 5:25] & 8).any() and (after[200, 200:210] & 1).all()
    if not packed:
        np.testing.assert_array_equal(after[300:] & 8, before[300:] & 8)
    assert str(header["HISTORY"]).count("CRAttn") == 1
    assert [run.frame.path for run in runs(sqlite)] == [RAW, first.rpartition("/")[2]]


def test_a_frame_that_cannot_be_masked_stops(raw, sqlite, tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        reduce(raw[0], sqlite, tmp_path / "out", CRATTN_MODEL="nowhere.safetensors")
    assert not (tmp_path / "out").exists()
    (run,) = runs(sqlite)
    assert run.status == "failed" and "nowhere" in run.error and run.frame.path == RAW


def test_or_it_passes_and_says_so(raw, sqlite, tmp_path):
    written = reduce(raw[0], sqlite, tmp_path, CRATTN_MODEL="nowhere.safetensors", CRATTN_PASS_UNMASKED=True)
    header, _, mask, _ = planes(written)
    assert (header["L1STATCR"], header["CRQC"]) == (0, "FAIL") and "nowhere" in header["CRQCWHY"]
    assert "CRNPIX" not in header and not (mask & 8).any()
    (run,) = runs(sqlite)
    assert run.status == "failed"


def nan_frame():
    mask = np.full((64, 64), 8, np.uint8)
    hdu = FakeCCDData(data=np.full((64, 64), np.nan, np.float32), mask=mask)
    hdu.meta.update({"OBSTYPE": "EXPOSE", "CRNPIX": 4096, "DATE-OBS": "2021-10-08T01:55:17"})
    return FakeLCOObservationFrame(hdu_list=[hdu], file_path="nan-e00.fits")


def test_no_mask_of_an_earlier_run_is_left_on_a_frame_without_a_good_pixel(sqlite, tmp_path):
    image = CosmicRayDetector(context(sqlite, tmp_path, CRATTN_PASS_UNMASKED=True)).do_stage(nan_frame())
    assert not image.mask.any() and "CRNPIX" not in image.meta
    assert image.meta["CRQCWHY"] == "no usable pixel"


def test_one_bad_image_does_not_cost_the_others(sqlite, tmp_path):
    good = FakeLCOObservationFrame(hdu_list=[FakeCCDData(data=np.random.default_rng(1).normal(300, 9, (64, 64)))])
    good.meta["OBSTYPE"] = "EXPOSE"
    stage = CosmicRayDetector(context(sqlite, tmp_path))
    assert stage.run([nan_frame(), good]) == [good]
    assert [run.status for run in runs(sqlite)] == ["failed", "succeeded"]


def test_a_run_that_cannot_be_recorded_is_no_success(raw, tmp_path, sqlite):
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:9/nothing"
    with pytest.raises(Exception, match="refused"):
        reduce(raw[0], sqlite, tmp_path, CRATTN_DB_ADDRESS=nowhere, CRATTN_PASS_UNMASKED=True)


def test_calibration_frames_pass_as_they_are(raw, sqlite, tmp_path):
    path, _ = raw
    fits.setval(path, "OBSTYPE", value="BIAS")
    header, _, mask, _ = planes(reduce(path, sqlite, tmp_path, SLOTS["amplifiers"]))
    assert "L1STATCR" not in header and not (mask & 8).any()
    assert runs(sqlite) == []


def test_amplifiers_of_one_place_are_searched_one_by_one():
    sections = {"DETSEC": HERE, "DATASEC": HERE, "CCDSUM": "1 1"}
    hdus = [FakeCCDData(nx=512, ny=512, name="SCI", meta=fits.Header(sections)) for _ in range(2)]
    assert [(d.name, len(d.amplifiers)) for d in detectors(hdus)] == [("SCI#1", 1), ("SCI#2", 1)]


def test_nothing_heavy_is_imported_before_the_first_frame():
    code = "import sys, crattn_stage.banzai.settings; sys.exit('torch' in sys.modules or 'cosmic_conn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_stage_has_a_name_of_its_own():
    assert CosmicRayDetector(None).stage_name == "crattn_stage.banzai.CosmicRayDetector"
