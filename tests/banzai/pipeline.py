# ruff: noqa: E402
"""What the tests in BANZAI share: its environment, a database, a site, raw frames, and a run from raw to reduced."""

import os
import shutil

# BANZAI reads its environment when it is imported; there is no network.
NOWHERE = "http://127.0.0.1:9"
os.environ.update(
    OPENTSDB_PYTHON_METRICS_TEST_MODE="1",
    ASTROMETRY_SERVICE_URL=f"{NOWHERE}/catalog",
    REFERENCE_CATALOG_URL=NOWHERE,
)

import numpy as np
import pytest
import sqlalchemy
from astropy.io import fits
from banzai import dbs, main
from banzai.utils import stage_utils
from conftest import need
from services import POSTGRESQL, database_answers, scratch_database
from sqlalchemy.orm import Session

from benchmarks.sinistro import simulate_raw
from calibration_dbs.database import connect, open_database, upgrade
from calibration_dbs.tables import Run
from crattn_stage.banzai import settings
from crattn_stage.simulation.hits import simulate_hit

OURS = "crattn_stage.banzai.CosmicRayDetector"
SLOTS = {
    "amplifiers": settings.AMPLIFIER_STAGES,
    "mosaic": settings.MOSAIC_STAGES,
    "stock": settings.ORDERED_STAGES,
}
#: Two digits before .fits, or BANZAI writes the result over the raw frame.
RAW, REDUCED = "elp1m008-fa05-20211007-0001-e00.fits", "elp1m008-fa05-20211007-0001-e91.fits.fz"


def prepare(url):
    """Make BANZAI's tables and the site and camera of the frames."""
    dbs.create_db(url)
    dbs.add_site({"code": "elp", "timezone": -6, "longitude": -104.0, "latitude": 30.7, "elevation": 2027}, url)
    camera = {"site": "elp", "camera": "fa05", "name": "fa05", "type": "1m0-SciCam-Sinistro", "nx": 4096, "ny": 4096}
    dbs.add_instrument(camera, url)


@pytest.fixture
def sqlite(tmp_path):
    """URL of a SQLite database of BANZAI's."""
    url = f"sqlite:///{tmp_path / 'banzai.sqlite'}"
    prepare(url)
    return url


@pytest.fixture
def postgres():
    """URL of a PostgreSQL database of BANZAI's, with our tables beside its own."""
    need(database_answers(POSTGRESQL), "needs a PostgreSQL server; CRATTN_TEST_POSTGRESQL is its URL")
    with scratch_database(POSTGRESQL) as url:
        prepare(url)
        engine = connect(url)
        upgrade(engine)
        engine.dispose()
        yield url


@pytest.fixture
def raw(tmp_path):
    """A simulated raw frame; its truth in the orientation of the mosaic."""
    rng = np.random.default_rng(7)
    path = tmp_path / RAW
    truth, _ = simulate_raw(path, [simulate_hit(rng) for _ in range(40)])
    return path, truth


@pytest.fixture
def real(tmp_path, data):
    """The real raw frame, under a name as the archive gives."""
    path = tmp_path / RAW
    shutil.copy(data / "lco" / "elp1m0-fa05-20211007-e00_raw_4amp_crop.fits", path)
    return path


def context(url, folder, stages=settings.ORDERED_STAGES, module=settings, **changes):
    """Return BANZAI's context as its own commands make it."""
    made = main.parse_args(module, parse_system_args=False)
    # The frames have no masters.
    fixed = {"db_address": url, "cal_db_address": url, "processed_path": str(folder), "override_missing": True}
    vars(made).update(fixed | {"fpack": True, "ORDERED_STAGES": stages} | changes)
    return made


def quick(stages):
    """Return stages without those of sources, which take a while and are none of our business."""
    return [stage for stage in stages if not stage.startswith("banzai.photometry")]


def reduce(path, *arguments, **changes):
    """Run the real pipeline on a file and return the path of what it wrote, or None."""
    made = context(*arguments, **changes)
    images = stage_utils.run_pipeline_stages([{"path": str(path)}], made)
    if not images:
        return None
    return os.path.join(images[0].get_output_directory(made), images[0].get_output_filename(made))


def planes(path):
    """Return header, science pixels, mask and uncertainty of a reduced frame."""
    with fits.open(path) as hdus:
        return hdus["SCI"].header.copy(), *(hdus[name].data.copy() for name in ("SCI", "BPM", "ERR"))


def runs(url):
    """Return the runs in our tables."""
    engine = open_database(url)
    with Session(engine) as session:
        found = session.scalars(sqlalchemy.select(Run)).all()
        for run in found:
            # Read while the session is open.
            _ = run.frame.path, run.model.name, list(run.amplifiers)
        session.expunge_all()
    engine.dispose()
    return found
