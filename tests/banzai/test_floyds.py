"""Our stage on FLOYDS spectra: in BANZAI's classes, and in settings that stand in for those of banzai-floyds."""

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
from astropy.io import fits
from banzai.data import CCDData
from banzai.lco import LCOObservationFrame
from pipeline import OURS, context, runs

from crattn_stage.banzai import CosmicRayDetector
from crattn_stage.cameras.sections import Amplifier
from crattn_stage.stage import AttentionCRStage, RuntimeContext

pytest_plugins = "pipeline"
# BANZAI's own.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("theirs", ["banzai.cosmic.CosmicRayDetector", "banzai_floyds.cosmics.CosmicRayDetector"])
def test_ours_takes_the_place_of_theirs(theirs, monkeypatch):
    settings = ModuleType("banzai_floyds.settings")
    settings.ORDERED_STAGES = ["banzai.trim.Trimmer", theirs, "banzai_floyds.extract.Extractor"]
    settings.FRAME_FACTORY = "banzai_floyds.frames.FLOYDSFrameFactory"
    monkeypatch.setitem(sys.modules, "banzai_floyds", ModuleType("banzai_floyds"))
    monkeypatch.setitem(sys.modules, "banzai_floyds.settings", settings)
    monkeypatch.delitem(sys.modules, "crattn_stage.banzai.floyds_settings", raising=False)
    ours = importlib.import_module("crattn_stage.banzai.floyds_settings")
    assert ours.ORDERED_STAGES == ["banzai.trim.Trimmer", OURS, "banzai_floyds.extract.Extractor"]
    assert ours.FRAME_FACTORY == settings.FRAME_FACTORY and ours.CRATTN_ENGINE == "auto"


def frame(path):
    """Return a raw FLOYDS frame as it is after overscan, trimming and gain."""
    with fits.open(path) as hdus:
        hdu = next(h for h in hdus if h.data is not None)
        data, header = hdu.data[:, :2048].astype(np.float32), hdu.header.copy()
    data = (data - np.median(data[:, -20:])) * header["GAIN"]
    header["GAIN"] = 1.0
    for card in ("BIASSEC", "TRIMSEC", "DATASEC", "DETSEC"):
        header[card] = "UNKNOWN"
    return LCOObservationFrame([CCDData(data, header, name="SCI")], str(path))


def test_a_floyds_frame_is_masked_as_a_spectrum_and_its_arc_is_skipped(data, sqlite, tmp_path):
    stage = CosmicRayDetector(context(sqlite, tmp_path))
    image = frame(data / "zoo" / "floyds_raw_e00.fits.fz")
    before = image.data.copy()
    masked = stage.do_stage(image)
    assert masked.meta["CRSPEC"] is True and "as on a spectrum" in str(masked.meta["HISTORY"])
    found = (masked.mask & 8) != 0
    masker, bad = AttentionCRStage(RuntimeContext()), np.zeros(before.shape, bool)
    saturation = masked.meta.get("SATURATE")
    expected = masker.search("SCI", before, bad, [Amplifier("", np.s_[0:512, 0:2048])], saturation, spectrum=True)
    np.testing.assert_array_equal(np.flatnonzero(found), expected.pixels)
    np.testing.assert_array_equal(masked.data, before)
    # Hits of a long exposure, and not the traces: they fill a tenth of the frame.
    assert 300 < masked.meta["CRNHIT"] < 900 and found.mean() < 0.012
    arc = stage.do_stage(frame(data / "zoo" / "floyds_raw_a00.fits.fz"))
    assert not arc.mask.any() and "CRSPEC" not in arc.meta
    assert [run.status for run in runs(sqlite)] == ["succeeded"]
