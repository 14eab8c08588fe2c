"""What the tests share: the real data, small frames, and the rule about skipping."""

import os
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import settings

ROOT = Path(__file__).parent.parent
# Behind site-packages: installed packages are tested as installed; the tests themselves come from here.
sys.path.append(str(ROOT))

# An environment of its own has what those tests need.
collect_ignore = [] if any(metadata.distributions(name="lco-banzai")) else ["banzai"]

settings.register_profile("crattn", deadline=None, max_examples=40)
settings.load_profile("crattn")


def pytest_collection_modifyitems(items):
    """Side by side, one process runs the tests of whole programs and services, the others each folder of the rest."""
    is_program = {item: item.path.parent == ROOT / "tests" for item in items}
    for item, alone in is_program.items():
        item.add_marker(pytest.mark.xdist_group("programs" if alone else str(item.path)))
    items.sort(key=is_program.get, reverse=True)


def need(condition, reason):
    """Skip without a condition; fail instead where nothing may be skipped."""
    if not condition:
        (pytest.fail if os.environ.get("CRATTN_REQUIRE_ALL") == "1" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def data():
    """The folder of real frames that lies beside the project, not in it."""
    folder = Path(os.environ.get("CRATTN_DATA", ROOT.parent / "shared" / "data"))
    need(folder.is_dir(), "needs the folder of real frames; CRATTN_DATA names it")
    return folder


@pytest.fixture
def folder():
    """A folder that a server's own user can enter."""
    path = Path(tempfile.mkdtemp(prefix="crattn-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def postgresql(folder):
    """The URL of an empty PostgreSQL database."""
    from services import POSTGRESQL, PrivatePostgres, database_answers, installed, scratch_database

    server = None
    if not database_answers(POSTGRESQL):
        need(installed("initdb"), "needs PostgreSQL: CRATTN_TEST_POSTGRESQL, or initdb to make one")
        server = PrivatePostgres(folder / "postgres")
    with scratch_database(server.url if server else POSTGRESQL) as url:
        yield url
    if server:
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def either_url(request, tmp_path, monkeypatch):
    """The URL of an up-to-date database of either kind, which is the default of commands."""
    from calibration_dbs.database import connect, upgrade

    kind = request.param
    url = f"sqlite:///{tmp_path / 'either.sqlite'}" if kind == "sqlite" else request.getfixturevalue(kind)
    database = connect(url)
    upgrade(database)
    database.dispose()
    monkeypatch.setenv("CRATTN_DB", url)
    return url


@pytest.fixture(autouse=True)
def own_database(tmp_path, monkeypatch):
    """Keep the user's provenance database out of the tests."""
    monkeypatch.setenv("CRATTN_DB", f"sqlite:///{tmp_path / 'provenance.sqlite'}")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep the user's choice of engine out of the tests, and theirs out of the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def stage():
    """The stage with the shipped batch-norm model."""
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    return AttentionCRStage(RuntimeContext("att-deepcr"))


def sky_image(shape=(120, 100), level=300.0, sigma=8.0, seed=0):
    """Return noise of a sky as float32 ADU."""
    return np.random.default_rng(seed).normal(level, sigma, shape).astype(np.float32)


def with_track(image, height=900.0, row=40, start=30, length=18):
    """Return an image with a track two pixels wide, and where it is."""
    hit = np.zeros(image.shape, bool)
    for step in range(length):
        hit[row + step // 3, start + step : start + step + 2] = True
    return (image + height * hit).astype(image.dtype), hit


@pytest.fixture
def frame_file(tmp_path):
    """Write a small simple FITS file with a track and return its path."""

    def write(name="frame.fits", **header):
        image, _ = with_track(sky_image())
        path = tmp_path / name
        hdu = fits.PrimaryHDU(image)
        hdu.header.update(header)
        hdu.writeto(path)
        return path

    return write
