"""Our stage on FLOYDS spectra: in BANZAI's classes, with settings that stand in for banzai-floyds, and inside it.

banzai-floyds is not on PyPI. Where it is installed, the last test runs in it.
"""

import importlib
import shutil
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


def test_in_banzai_floyds_itself(data, tmp_path):
    """A real raw frame and its arc, through the real stages up to ours, in the place of theirs."""
    pytest.importorskip("banzai_floyds", reason="needs banzai-floyds, which is not on PyPI")
    from banzai import dbs
    from banzai.utils import import_utils
    from banzai_floyds.dbs import create_db
    from banzai_floyds.settings import ORDERED_STAGES as THEIRS

    ours = importlib.reload(importlib.import_module("crattn_stage.banzai.floyds_settings"))
    stages = ours.ORDERED_STAGES
    place = stages.index(OURS)
    assert THEIRS[:place] + THEIRS[place + 1 :] == stages[:place] + stages[place + 1 :]
    assert THEIRS[place].endswith("CosmicRayDetector") and all(map(import_utils.import_attribute, stages))
    url = f"sqlite:///{tmp_path / 'floyds.sqlite'}"
    create_db(url)
    dbs.add_site({"code": "coj", "timezone": 10, "longitude": 149.06, "latitude": -31.27, "elevation": 1116}, url)
    camera = {"site": "coj", "camera": "en12", "name": "en12", "type": "2m0-FLOYDS-SciCam", "nx": 2079, "ny": 512}
    dbs.add_instrument(camera, url)

    def through(name, **settings):
        # Two digits before .fits, as in the archive.
        path = tmp_path / name.replace("floyds_raw_", "coj2m002-en12-20200321-0021-")
        shutil.copy(data / "zoo" / name, path)
        made = context(url, tmp_path, stages, ours, no_bpm=True, **settings)
        images = [import_utils.import_attribute(ours.FRAME_FACTORY)().open({"path": str(path)}, made)]
        for stage in stages[: place + 1]:
            images = import_utils.import_attribute(stage)(made).run(images)
        return images[0]

    image = through("floyds_raw_e00.fits.fz")
    assert type(image).__name__ == "FLOYDSObservationFrame" and image.shape == (512, 2048)
    assert image.meta["CRSPEC"] is True and 300 < image.meta["CRNHIT"] < 900
    assert np.count_nonzero(image.mask & 8) == image.meta["CRNPIX"]
    assert "CRSPEC" not in through("floyds_raw_a00.fits.fz").meta
    arc = through("floyds_raw_a00.fits.fz", CRATTN_ARCS=True)
    assert arc.meta["CRSPEC"] is True and 0 < np.mean(arc.mask & 8 > 0) < 0.01
