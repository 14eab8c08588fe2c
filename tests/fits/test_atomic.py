import fcntl
import gzip
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from crattn_stage.errors import FrameError
from crattn_stage.fits import atomic
from crattn_stage.fits.atomic import check_targets, clear_parts, replacing, sha256

PART = "0123456789abcdef.part"


def test_the_old_file_stays_when_writing_is_interrupted(tmp_path):
    target = tmp_path / "f"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing([target], overwrite=True) as (stream,):
        stream.write(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


def test_several_files_come_together_with_their_sums(tmp_path):
    targets, sums = [tmp_path / "image.fits", tmp_path / "mask.fits.gz"], {}
    with replacing(targets, before_rename=sums.update) as streams:
        for number, stream in enumerate(streams):
            stream.write(b"content %d" % number)
        assert not any(target.exists() for target in targets)
    assert targets[0].read_bytes() == b"content 0" and gzip.decompress(targets[1].read_bytes()) == b"content 1"
    assert sums == {str(target): sha256(target) for target in targets}
    assert sorted(os.listdir(tmp_path)) == ["image.fits", "mask.fits.gz"]


def test_suffixes_of_compression_count_in_capitals_too(tmp_path):
    with replacing([tmp_path / "F.FITS.GZ"]) as (stream,):
        stream.write(b"content")
    assert gzip.decompress((tmp_path / "F.FITS.GZ").read_bytes()) == b"content"


def test_temporary_names_cannot_be_guessed(tmp_path):
    names = set()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), replacing([tmp_path / "x.fits"]) as (stream,):
            names.add(os.path.basename(stream.name))
            raise KeyboardInterrupt
    assert len(names) == 2 and all(len(name) == len(".x.fits.") + len(PART) for name in names)
    assert not any(str(os.getpid()) == name.split(".")[3] for name in names)


def test_a_planted_link_is_not_written_through(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda _: PART[:16])
    (tmp_path / f".x.fits.{PART}").symlink_to(victim)
    with pytest.raises(FileExistsError), replacing([tmp_path / "x.fits"]):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("mask", [0o022, 0o077])
@pytest.mark.parametrize("name", ["f.fits", "f.fits.gz"])
def test_the_mode_is_that_of_any_new_file(tmp_path, mask, name):
    before = os.umask(mask)
    try:
        with replacing([tmp_path / name]) as (stream,):
            stream.write(b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask


def test_parts_of_this_target_are_cleared_and_of_no_other(tmp_path):
    target = tmp_path / "x.fits"
    mine = [f".x.fits.{PART}", ".x.fits.ffffffffffffffff.part"]
    others = [
        *(f".x.fits.fz.{PART}", f".x.fits.gz.{PART}", f".yx.fits.{PART}", f".xxfits.{PART}"),
        *(".x.fits.1234.part", f".x.fits.{PART}s", "x.fits", ".x.fits.part"),
    ]
    for name in (*mine, *others):
        (tmp_path / name).write_text("left over")
    (tmp_path / ".x.fits.aaaaaaaaaaaaaaaa.part").symlink_to(tmp_path / "x.fits")
    clear_parts(target)
    assert set(os.listdir(tmp_path)) == {*others, ".x.fits.aaaaaaaaaaaaaaaa.part"}
    assert target.read_text() == "left over"


def test_names_with_special_characters_are_cleared_too(tmp_path):
    (tmp_path / f".a[1]*.fits.{PART}").write_text("left over")
    (tmp_path / f".a1x.fits.{PART}").write_text("another's")
    clear_parts(tmp_path / "a[1]*.fits")
    assert os.listdir(tmp_path) == [f".a1x.fits.{PART}"]


def test_clearing_where_there_is_no_folder_is_no_error(tmp_path):
    clear_parts(tmp_path / "nowhere" / "x.fits")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["x.fits", "x.fits.gz"])
def test_a_part_of_a_living_writer_stays(tmp_path, name):
    target = tmp_path / name

    def clear(_):
        # Also the compressed one, finished and not yet in its place.
        clear_parts(target)

    with replacing([target], before_rename=clear) as (stream,):
        clear_parts(target)
        stream.write(b"content")
    assert target.exists() and len(os.listdir(tmp_path)) == 1


def test_a_part_of_a_killed_writer_goes(tmp_path):
    target = tmp_path / "x.fits"
    code = (
        "import sys, time; from crattn_stage.fits.atomic import replacing\n"
        "with replacing([sys.argv[1]]) as (stream,):\n"
        "    stream.write(b'half'); stream.flush(); print('writing', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"writing\n"
        clear_parts(target)
        assert len(os.listdir(tmp_path)) == 1
        writer.send_signal(signal.SIGKILL)
    clear_parts(target)
    assert os.listdir(tmp_path) == []


def test_a_part_removed_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    flock, calls = fcntl.flock, []

    def interrupted(descriptor, operation):
        calls.append(operation)
        if len(calls) == 1:
            clear_parts(tmp_path / "x.fits")
        flock(descriptor, operation)

    monkeypatch.setattr(atomic.fcntl, "flock", interrupted)
    with replacing([tmp_path / "x.fits"]) as (stream,):
        stream.write(b"content")
    assert (tmp_path / "x.fits").read_bytes() == b"content" and len(calls) == 3


def test_without_locks_only_old_parts_go(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(atomic.fcntl, "flock", unsupported)
    for token, age in (("a" * 16, 100), ("b" * 16, 2 * atomic.ABANDONED)):
        part = tmp_path / f".x.fits.{token}.part"
        part.write_text("left over")
        then = part.stat().st_mtime - age
        os.utime(part, (then, then))
    clear_parts(tmp_path / "x.fits")
    assert os.listdir(tmp_path) == [f".x.fits.{'a' * 16}.part"]
    with replacing([tmp_path / "y.fits"]) as (stream,):
        stream.write(b"content")
    assert (tmp_path / "y.fits").exists()


def test_writers_of_one_file_do_not_mix(tmp_path):
    target, together = tmp_path / "x.fits", threading.Barrier(4, timeout=30)

    def write(number):
        with replacing([target], overwrite=True) as (stream,):
            together.wait()
            stream.write(b"%d" % number * 100_000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    content = target.read_bytes()
    assert len(content) == 100_000 and len(set(content)) == 1 and os.listdir(tmp_path) == ["x.fits"]


def test_existing_files_stay_unless_they_are_known(tmp_path):
    target = tmp_path / "x.fits"
    check_targets([target])
    target.write_text("mine")
    with pytest.raises(FrameError, match=r"x\.fits exists; overwrite=True .--overwrite. replaces it"):
        check_targets([target])
    check_targets([target], overwrite=True)
    known = [(str(target), sha256(target))]
    check_targets([target], known=known)
    target.write_text("edited")
    with pytest.raises(FrameError, match=r"x\.fits is not as it was written"):
        check_targets([target], known=known)


def test_a_link_to_nowhere_is_named_as_the_target(tmp_path):
    link = tmp_path / "link.fits"
    link.symlink_to(tmp_path / "nowhere.fits")
    with pytest.raises(FrameError, match=r"link\.fits exists"):
        check_targets([link])
    with pytest.raises(
        FrameError, match=r"link\.fits: No such file or directory; overwrite=True .--overwrite. replaces it"
    ):
        check_targets([link], known=[(str(link), "0" * 64)])


@pytest.mark.parametrize("through_a_link", [False, True])
def test_devices_and_pipes_are_not_replaced(tmp_path, through_a_link):
    pipe = target = tmp_path / "pipe"
    os.mkfifo(pipe)
    if through_a_link:
        target = tmp_path / "link"
        target.symlink_to(pipe)
    for overwrite in (False, True):
        with pytest.raises(FrameError, match="not a regular file"), replacing([target], overwrite):
            pass
    assert pipe.is_fifo() and target.is_symlink() == through_a_link
