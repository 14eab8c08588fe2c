"""Settings of masks: recorded, and a part of what makes a frame out of date."""

import json
import os

import numpy as np
import pytest
from astropy.io import fits
from night import NIGHT, write_frame
from sqlalchemy import select
from sqlalchemy.orm import Session

from calibration_dbs.database import open_database, writing
from calibration_dbs.runs import queue_runs
from calibration_dbs.tables import Run
from crattn_stage.nights.execute import execute
from crattn_stage.nights.headers import read_frame_info
from crattn_stage.nights.plan import plan, submit
from crattn_stage.products.settings import DEFAULT, MaskSettings

MODEL = "astroscrappy"


@pytest.fixture
def database(either_url):
    engine = open_database(either_url)
    yield engine
    engine.dispose()


@pytest.fixture
def camera(tmp_path, monkeypatch):
    """Write the settings of the camera of the night's frames."""
    folder = tmp_path / "cameras"
    folder.mkdir()
    monkeypatch.setenv("CRATTN_CAMERAS", str(folder))

    def write(settings):
        path = folder / "mine.toml"
        path.write_text(f'extends = "lco"\npriority = 90\n[[recognise]]\nINSTRUME = "fa15"\n[settings]\n{settings}\n')
        os.utime(path, ns=(write.times, write.times))
        write.times += 1
        return folder

    write.times = 1
    return write


def planned(database, path, masks=DEFAULT, **options):
    (step,) = plan(database, [read_frame_info(path)], MODEL, masks=masks, **options)
    return step


def mask(database, path, masks=DEFAULT):
    steps = [planned(database, path, masks)]
    for run in submit(database, steps, NIGHT, masks=masks):
        execute(database, run)
    return steps[0].target


def last(database):
    with Session(database, expire_on_commit=False) as session:
        return session.scalars(select(Run).order_by(Run.id.desc())).first()


def test_settings_make_a_frame_out_of_date(tmp_path, database):
    path = write_frame(tmp_path, 1)
    target = mask(database, path)
    assert last(database).settings == {} and not planned(database, path).out_of_date
    plain = np.count_nonzero(fits.getdata(target, "BPM"))
    for masks, reason in (
        (MaskSettings(grow=1), "masked with another grow"),
        (MaskSettings(mask_extension=True), "without CRMASK"),
    ):
        step = planned(database, path, masks)
        assert (step.out_of_date, step.reason) == (True, reason)
    assert not planned(database, path, MaskSettings(grow=0)).out_of_date

    grown = MaskSettings(grow=1, mask_extension=True)
    assert mask(database, path, grown) == target
    assert last(database).settings == {"grow": 1, "products": ["CRMASK"]}
    assert np.count_nonzero(fits.getdata(target, "BPM")) == np.count_nonzero(fits.getdata(target, "CRMASK")) > plain
    assert fits.getval(target, "CRGROW") == 1
    assert not planned(database, path, grown).out_of_date
    # A product too many does no harm; another mask does.
    assert not planned(database, path, MaskSettings(grow=1)).out_of_date
    # The earlier run has the settings, but its output is gone.
    assert planned(database, path).reason == "its output is not as it was written"


def test_runs_from_before_settings_were_recorded_count_as_default(tmp_path, database):
    path = write_frame(tmp_path, 1)
    mask(database, path)
    with writing(database) as session:
        session.scalars(select(Run)).one().settings = None
    assert not planned(database, path).out_of_date
    assert planned(database, path, MaskSettings(grow_threshold=0.1)).reason == "masked with another grow-threshold"


def test_settings_of_the_camera_count_and_the_users_go_first(tmp_path, database, camera):
    path = write_frame(tmp_path, 1)
    camera("")
    mask(database, path)
    camera("grow = 2")
    assert planned(database, path).reason == "masked with another grow"
    assert not planned(database, path, MaskSettings(grow=0)).out_of_date
    target = mask(database, path)
    assert fits.getval(target, "CRGROW") == 2 and last(database).settings == {"grow": 2}

    folder = camera('bad_pixels = "bad.fits"')
    bad = np.zeros((200, 160), np.uint8)
    fits.PrimaryHDU(bad).writeto(folder / "bad.fits")
    assert planned(database, path).reason == "masked with another bad-pixels and grow"
    mask(database, path)
    assert not planned(database, path).out_of_date
    bad[10:20] = 1
    fits.PrimaryHDU(bad).writeto(folder / "bad.fits", overwrite=True)
    assert planned(database, path).reason == "masked with another bad-pixels"
    # Frames below a minimum are skipped; masked again when it is lower.
    camera("minimum_exposure = 100.0")
    step = planned(database, path)
    assert not step.out_of_date and "under the camera's" in step.reason


def test_a_queued_run_of_other_settings_is_superseded(tmp_path, database):
    path = write_frame(tmp_path, 1)
    first = submit(database, [planned(database, path)], NIGHT)
    same = submit(database, [planned(database, path)], NIGHT)
    grown = MaskSettings(grow=3)
    other = submit(database, [planned(database, path, grown)], NIGHT, masks=grown)
    assert list(first) == list(same) != list(other)
    with Session(database) as session:
        statuses = {run.id: run.status for run in session.scalars(select(Run))}
    assert statuses == {next(iter(first)): "superseded", next(iter(other)): "queued"}
    execute(database, *other)
    assert last(database).settings == {"grow": 3}
    assert json.loads(json.dumps(last(database).options))["masks"]["grow"] == 3
    assert queue_runs(database, [], NIGHT) == []


def test_a_threshold_of_growth_above_the_threshold_is_refused(tmp_path, frame_file):
    from crattn_stage.errors import FrameError
    from crattn_stage.process import process
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    other = AttentionCRStage(RuntimeContext(MODEL, masks=MaskSettings(grow_threshold=0.99)))
    with pytest.raises(FrameError, match="give a lower --grow-threshold"):
        process(frame_file(), tmp_path / "out.fits", other)


def test_growth_down_to_a_lower_probability(tmp_path, stage, frame_file):
    from crattn_stage.process import process
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    lower = AttentionCRStage(RuntimeContext("att-deepcr", masks=MaskSettings(grow_threshold=1e-4)))
    frames = []
    for number, one in enumerate((stage, lower)):
        process(frame_file(f"{number}.fits"), tmp_path / f"out{number}.fits", one)
        frames.append(fits.getdata(tmp_path / f"out{number}.fits", "MASK") > 0)
    assert fits.getval(tmp_path / "out1.fits", "CRGRTHR") == 1e-4
    assert fits.getval(tmp_path / "out0.fits", "CRGRTHR") != 1e-4
    assert not (frames[0] & ~frames[1]).any() and frames[1].sum() > frames[0].sum()
