import os

import numpy as np
import pytest
from astropy.io import fits
from conftest import sky_image

from calibration_dbs.provenance import Record
from crattn_stage.errors import FrameError
from crattn_stage.fits.atomic import sha256
from crattn_stage.process import mask_file


def act_while_masking(stage, monkeypatch, action):
    do_stage = stage.do_stage

    def acting(frame):
        action()
        return do_stage(frame)

    monkeypatch.setattr(stage, "do_stage", acting)


def test_a_frame_replaced_while_it_is_masked_is_masked_as_it_was(tmp_path, frame_file, stage, monkeypatch):
    path, other = frame_file("frame.fits"), tmp_path / "other.fits"
    fits.PrimaryHDU(sky_image(level=9000.0, seed=1)).writeto(other)
    pixels, digest = fits.getdata(path), sha256(path)
    act_while_masking(stage, monkeypatch, lambda: os.replace(other, path))
    record = Record()
    mask_file(path, tmp_path / "out.fits", stage, record)
    assert np.array_equal(fits.getdata(tmp_path / "out.fits"), pixels)
    assert record.run["input_sha256"] == digest != sha256(path)


def test_a_frame_changed_while_it_is_masked_is_a_failure(tmp_path, frame_file, stage, monkeypatch):
    path = frame_file("frame.fits")
    os.utime(path, ns=(0, 0))

    def change():
        with open(path, "r+b") as stream:
            stream.seek(4000)
            stream.write(b"other")

    act_while_masking(stage, monkeypatch, change)
    with pytest.raises(FrameError, match="changed while it was read"):
        mask_file(path, tmp_path / "out.fits", stage, Record())
    assert os.listdir(tmp_path) == ["frame.fits"]


def test_a_target_that_is_a_link_to_nowhere_is_named(tmp_path, frame_file, stage):
    path, target = frame_file("frame.fits"), tmp_path / "out.fits"
    target.symlink_to(tmp_path / "nowhere.fits")
    with pytest.raises(FrameError, match=r"out\.fits: No such file or directory"):
        mask_file(path, target, stage, Record(), known=[(str(target), "0" * 64)])
