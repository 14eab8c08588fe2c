"""Files and folders that grow, vanish or turn into something else while a night is planned and masked."""

import os
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import need, sky_image, with_track
from night import HEADER, NIGHT, folder_of, write_frame
from sqlalchemy import select

from calibration_dbs.database import open_database, reading
from calibration_dbs.provenance import Record
from calibration_dbs.tables import Run
from crattn_stage.cli import main
from crattn_stage.errors import FrameError
from crattn_stage.fits.atomic import replacing, sha256
from crattn_stage.fits.file import FitsFile
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.nights.execute import execute
from crattn_stage.nights.find import find_frames
from crattn_stage.nights.headers import read_frame_info
from crattn_stage.nights.plan import plan, submit
from crattn_stage.process import mask_file
from crattn_stage.stage import AttentionCRStage, RuntimeContext


@pytest.fixture(scope="module")
def fast():
    return AttentionCRStage(RuntimeContext("fast"))


@pytest.fixture
def database():
    database = open_database(os.environ["CRATTN_DB"])
    yield database
    database.dispose()


def mask_night(database, root):
    """Do what ``reprocess`` does, in this process; return {path: what became of the frame}."""
    frames, *_ = find_frames(root, NIGHT)
    steps = plan(database, frames)
    said = {step.frame.path: step.reason for step in steps if not step.out_of_date}
    for run, step in submit(database, steps, NIGHT).items():
        try:
            said[step.frame.path] = execute(database, run).message
        except FrameError as error:
            said[step.frame.path] = str(error)
    return said


def output_of(path):
    return path.with_name(f"{path.stem}-crmask.fits")


def write_detectors(path, count=4):
    """Write an exposure of several detectors that says how many it has; return where each HDU ends."""
    image, _ = with_track(sky_image((60, 60)), row=20)
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(image, name="SCI", ver=number + 1) for number in range(count))]
    hdus[0].header.update({**HEADER, "NEXTEND": count})
    fits.HDUList(hdus).writeto(path)
    with FitsFile(path) as file:
        return [place.end for place in file.places]


def test_a_frame_that_is_still_being_copied_fails_until_it_is_whole(tmp_path, database):
    good, slow = write_frame(tmp_path, 1, (60, 60)), write_frame(tmp_path, 2, (60, 60))
    whole = slow.read_bytes()
    for arrived, cause in ((0, "empty file"), (2000, "truncated: "), (9000, "truncated: ")):
        slow.write_bytes(whole[:arrived])
        said = mask_night(database, tmp_path)
        assert said[slow].startswith(cause) and "\n" not in said[slow]
        assert output_of(good).exists() and not output_of(slow).exists()
    slow.write_bytes(whole)
    said = mask_night(database, tmp_path)
    assert "1 cosmic ray" in said[slow] and said[good].startswith("done")
    assert np.array_equal(fits.getdata(output_of(slow)), fits.getdata(slow))


def test_a_frame_of_which_whole_detectors_are_missing_says_so_and_is_masked_again(tmp_path, fast, database):
    path = folder_of(tmp_path) / "several.fits"
    ends, whole = write_detectors(path), path.read_bytes()
    path.write_bytes(whole[: ends[2]])
    said = mask_file(path, tmp_path / "out.fits", fast, Record()).message
    assert "it has 2 of the 4 extensions of its NEXTEND" in said
    for done in ("2 cosmic rays", "done"):
        assert done in mask_night(database, tmp_path)[path]
    path.write_bytes(whole)
    assert "4 cosmic rays" in mask_night(database, tmp_path)[path]
    with FitsFile(output_of(path)) as file:
        assert sum(hdu.name == "SCI" for hdu in file.hdus) == 4
    assert "NEXTEND" not in mask_file(path, tmp_path / "whole.fits", fast, Record()).message


def test_a_frame_that_grows_while_it_is_masked_is_a_failure(tmp_path, fast, monkeypatch):
    path = tmp_path / "several.fits"
    ends, whole = write_detectors(path), path.read_bytes()
    path.write_bytes(whole[: ends[2]])
    do_stage = fast.do_stage

    def growing(frame):
        with open(path, "ab") as stream:
            stream.write(whole[ends[2] : ends[3]])
        return do_stage(frame)

    monkeypatch.setattr(fast, "do_stage", growing)
    with pytest.raises(FrameError, match="changed while it was read"):
        mask_file(path, tmp_path / "out.fits", fast, Record())
    assert os.listdir(tmp_path) == ["several.fits"]


def test_room_made_for_bytes_that_have_not_arrived_is_not_masked_as_sky(tmp_path, fast):
    """Some programs give a file its size first; what has not arrived is read as zeros."""
    path = tmp_path / "several.fits"
    ends, whole = write_detectors(path), path.read_bytes()
    path.write_bytes(whole[: ends[2]].ljust(len(whole), b"\0"))
    with pytest.raises(FrameError, match=f"incomplete: nothing but .* zeros behind byte {ends[2]}; .truncate"):
        FitsFile(path)
    single = tmp_path / "single.fits"
    fits.PrimaryHDU(with_track(sky_image((300, 200)))[0]).writeto(single)
    whole = single.read_bytes()
    single.write_bytes(whole[: len(whole) * 2 // 3].ljust(len(whole), b"\0"))
    record = Record()
    said = mask_file(single, tmp_path / "out.fits", fast, record).message
    dark = int((fits.getdata(single) == 0).all(1).sum())
    assert 90 < dark < 110 and f"{dark} rows at the top excluded: no sky" in said
    assert record.run["megapixels"] == (300 - dark) * 200 / 1e6


def links_of_all_kinds(folder):
    """Make links that lead to nothing that can be read; return {path: what is said of it}."""
    os.mkfifo(folder / "pipe")
    names = {"loop": "loop.fits", "nowhere": "missing", "pipe-link": "pipe", "zeros": "/dev/zero"}
    for name, target in names.items():
        (folder / f"{name}.fits").symlink_to(target)
    os.mkfifo(folder / "pipe.fits")
    said = ("Too many levels of symbolic links", "No such file or directory", *["not a regular file"] * 3)
    return dict(zip((folder / f"{name}.fits" for name in [*names, "pipe"]), said, strict=True))


def test_links_and_pipes_are_failures_of_their_own_and_nothing_waits_for_them(tmp_path, database):
    good = write_frame(tmp_path, 1, (60, 60))
    odd = links_of_all_kinds(folder_of(tmp_path))
    assert {path: read_frame_info(path).error for path in odd} == odd
    said = mask_night(database, tmp_path)
    assert "1 cosmic ray" in said.pop(good) and said == odd


def test_a_link_swapped_between_planning_and_masking_is_masked_as_it_is_then(tmp_path, database):
    first, second = (write_frame(tmp_path / "store", number, (60, 60)) for number in (1, 2))
    link = folder_of(tmp_path) / "link.fits"
    odd = links_of_all_kinds(tmp_path)

    def planned():
        link.unlink(missing_ok=True)
        link.symlink_to(first)
        frames, *_ = find_frames(tmp_path, NIGHT)
        (run,) = submit(database, plan(database, frames, force=True), NIGHT)
        link.unlink()
        return run

    for path, why in odd.items():
        run = planned()
        link.symlink_to(path)
        with pytest.raises(FrameError, match=why):
            execute(database, run)
    run = planned()
    with pytest.raises(FrameError, match="No such file or directory"):
        execute(database, run)
    assert not output_of(link).exists()
    run = planned()
    link.symlink_to(second)
    execute(database, run)
    with reading(database) as session:
        recorded = session.scalar(select(Run.input_sha256).where(Run.id == run))
    assert recorded == sha256(second) != sha256(first)
    assert np.array_equal(fits.getdata(output_of(link)), fits.getdata(second))


def test_a_file_that_appears_where_one_is_being_written_is_kept(tmp_path):
    target, victim = tmp_path / "x.fits", tmp_path / "victim"
    victim.write_text("precious")
    for appear in (lambda: target.symlink_to(victim), lambda: target.write_text("theirs")):
        with pytest.raises(FrameError, match=r"x\.fits exists"), replacing([target]) as (stream,):
            stream.write(b"ours")
            appear()
        kept = target.read_text()
        target.unlink()
        assert kept in ("precious", "theirs") and os.listdir(tmp_path) == ["victim"]
    # One of ours that someone has touched since is theirs.
    target.write_text("ours")
    known = {(str(target), sha256(target))}
    with pytest.raises(FrameError, match="not as it was written"), replacing([target], known=known) as (stream,):
        stream.write(b"new")
        target.write_text("edited")
    assert target.read_text() == "edited"
    with replacing([target], known={(str(target), sha256(target))}) as (stream,):
        stream.write(b"new")
    assert target.read_text() == "new" and victim.read_text() == "precious"


def test_a_folder_replaced_by_a_link_while_it_is_written_to(tmp_path):
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "x.fits").write_text("precious")
    with pytest.raises(OSError), replacing([folder / "x.fits"], overwrite=True) as (stream,):
        stream.write(b"ours")
        folder.rename(tmp_path / "away")
        folder.symlink_to(elsewhere)
    assert (elsewhere / "x.fits").read_text() == "precious"
    assert os.listdir(elsewhere) == ["x.fits"] and os.listdir(tmp_path / "away") == []


def test_a_hard_link_of_an_input_keeps_its_content(tmp_path, fast):
    path, target = tmp_path / "frame.fits", tmp_path / "out.fits"
    fits.PrimaryHDU(with_track(sky_image())[0]).writeto(path)
    content = path.read_bytes()
    os.link(path, target)
    with pytest.raises(FrameError, match="exists"):
        mask_file(path, target, fast, Record())
    mask_file(path, target, fast, Record(), overwrite=True)
    assert path.read_bytes() == content != target.read_bytes()


@pytest.mark.parametrize("name", ["c4d_130105_065255_ood_r_v1.fits", "c4d_130105_065255_ood_r_d1.fits"])
@pytest.mark.parametrize("to", ["nowhere", "loop"])
def test_a_mask_file_that_is_a_link_to_nothing_is_not_passed_over(tmp_path, name, to):
    path = tmp_path / name.replace("ood", "ooi")
    primary = fits.PrimaryHDU()
    primary.header.update({"INSTRUME": "DECam", "OBSTYPE": "object", "PLVER": "V5.5", "EXPTIME": 90.0})
    fits.HDUList([primary, fits.ImageHDU(sky_image((60, 60)), name="N4")]).writeto(path)
    with ObservationFrame(path) as frame:
        assert frame.companion is None
    (tmp_path / name).symlink_to(name if to == "loop" else tmp_path / to)
    with pytest.raises(FrameError, match=f"its mask file {name}: "):
        ObservationFrame(path)
    assert read_frame_info(path).error.startswith(f"its mask file {name}: ")


def test_a_disk_that_fills_while_a_night_is_written(tmp_path, database):
    """A limit on the size of files stands for the disk: the write fails half-way."""
    small, big = write_frame(tmp_path, 1, (60, 60)), write_frame(tmp_path, 2, (700, 600))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
    try:
        said = mask_night(database, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said[big] == f"cannot write {output_of(big)}: File too large" and "1 cosmic ray" in said[small]
    assert set(folder_of(tmp_path).iterdir()) == {small, big, output_of(small)}
    assert "1 cosmic ray" in mask_night(database, tmp_path)[big]


def test_folders_that_may_not_be_read_are_named(tmp_path, database, monkeypatch):
    write_frame(tmp_path, 1, (60, 60))
    closed = tmp_path / "lsc" / "fa16"
    closed.mkdir()
    listdir = os.listdir

    def refusing(path="."):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    result = CliRunner().invoke(main, ["reprocess", "--night", NIGHT, "--root", str(tmp_path), "--dry-run"])
    assert result.exit_code == 1 and "1 of 1 frames are out of date" in result.stdout
    assert result.stderr == f"{closed}: Permission denied\n"


def test_what_may_not_be_read_is_told_from_what_is_not_there():
    need(os.geteuid() == 0, "needs root, to be nobody")
    root = Path(tempfile.mkdtemp(prefix="crattn-"))
    try:
        root.chmod(0o755)
        closed = folder_of(root)
        (closed / "x.fits").write_bytes(b"")
        for folder, mode in ((closed, 0), (closed.parent.parent, 0o444)):
            folder.chmod(mode)
            os.seteuid(65534)
            try:
                for pattern in (None, "**/x.fits", f"lsc/fa15/{NIGHT}/processed/*"):
                    frames, _, unreadable = find_frames(root, NIGHT, pattern=pattern)
                    assert not frames and set(unreadable.values()) == {"Permission denied"}, (folder, pattern)
            finally:
                os.seteuid(0)
            folder.chmod(0o755)
    finally:
        shutil.rmtree(root)
