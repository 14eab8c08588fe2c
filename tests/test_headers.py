"""Headers read in processes of their own, of files that are out to harm; and nights told from paths."""

import gzip
import os
import signal
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits
from night import NIGHT, folder_of, write_frame

from calibration_dbs.database import open_database
from crattn_stage.fits import source
from crattn_stage.nights import headers
from crattn_stage.nights.find import find_frames, night_of_path
from crattn_stage.nights.headers import read_frame_info, read_headers
from crattn_stage.nights.plan import plan, submit


@pytest.mark.parametrize(
    ("path", "night"),
    [
        ("lsc/fa15/20130105/processed/x.fits", "20130105"),
        ("2013-01-05/x.fits", "20130105"),
        ("2013/01/05/x.fits", "20130105"),
        ("2013.01.05/raw/x.fits", "20130105"),
        ("20130105/c4d_20130106_x.fits", "20130105"),
        ("20130101/20130105/x.fits", "20130105"),
        ("x-20130105-0001.fits", "20130105"),
        ("20131305/x.fits", None),
        ("120130105/x.fits", None),
        ("2013-0105/x.fits", None),
        ("c4d_130105.fits", None),
    ],
)
def test_a_path_tells_its_night(path, night):
    assert night_of_path(path) == night


def test_frames_are_read_as_by_one(tmp_path):
    paths = [write_frame(tmp_path, number) for number in range(40)]
    found = sorted(read_headers(paths, processes=2), key=lambda info: info.path)
    assert found == [read_frame_info(path) for path in paths]
    assert found[0].columns["camera"] == "fa15" and found[0].night == NIGHT and not found[0].error


def test_packed_frames_say_the_same(tmp_path):
    plain = write_frame(tmp_path, 1)
    packed = plain.with_name("packed.fits.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    two = plain.with_name("two.fits")
    with fits.open(plain) as hdus:
        fits.HDUList(
            [fits.PrimaryHDU(header=fits.Header([("OBSERVER", "me")])), fits.ImageHDU(hdus[0].data, hdus[0].header)]
        ).writeto(two)
    packed_two = plain.with_name("two-packed.fits.gz")
    packed_two.write_bytes(gzip.compress(two.read_bytes()))
    for one, other in ((plain, packed), (two, packed_two)):
        one, other = read_frame_info(one), read_frame_info(other)
        assert not one.error and not other.error
        assert (one.columns, one.ut_date, one.megapixels) == (other.columns, other.ut_date, other.megapixels)


def test_a_frame_that_hangs_its_reader_is_its_own_failure(tmp_path, monkeypatch):
    """No file is known that does; its reader is stopped instead."""
    good, stuck = [write_frame(tmp_path, number) for number in range(3)], write_frame(tmp_path, 3)
    send = headers._Reader.send

    def stopping(self, path, seconds):
        if path == stuck:
            os.kill(self._process.pid, signal.SIGSTOP)
        send(self, path, seconds)

    monkeypatch.setattr(headers._Reader, "send", stopping)
    found = {info.path: info for info in read_headers([good[0], stuck, *good[1:]], seconds=5, processes=2)}
    assert found.keys() == {stuck, *good}
    assert found[stuck].is_hostile and found[stuck].error == "its headers took longer than 5 s to read"
    assert not any(found[path].error for path in good)


@pytest.mark.parametrize("card", ["NAXIS   =             99999999", "NAXIS   =                  999"])
def test_a_header_of_very_many_axes(tmp_path, card):
    good = write_frame(tmp_path, 1)
    bad = good.with_name("bad.fits")
    content = bytearray(good.read_bytes())
    content[160:240] = card.ljust(80).encode()
    bad.write_bytes(content)
    found = {info.path: info for info in read_headers([bad, good], seconds=5, memory=1 << 29, processes=1)}
    assert found[bad].error and not found[good].error


def test_a_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    header = fits.PrimaryHDU(np.zeros((2, 2), np.int16)).header
    header.update(NAXIS1=20000, NAXIS2=10000)
    bomb = tmp_path / "bomb.fits.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as stream:
        stream.write(header.tostring().encode())
        for _ in range(400):
            stream.write(bytes(1 << 20))
    opened = []

    def open_gzip(path):
        opened.append(gzip.open(path))
        return opened[-1]

    monkeypatch.setitem(source.DECOMPRESSORS, b"\x1f\x8b", open_gzip)
    tracemalloc.start()
    info = read_frame_info(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert info.megapixels == 200 and not info.error
    assert len(opened) == 1 and peak < 32 << 20


def test_what_hung_its_reader_is_recorded_and_not_opened_again(tmp_path, monkeypatch):
    from crattn_stage.errors import FrameError
    from crattn_stage.nights.execute import execute

    path = write_frame(tmp_path, 1)
    database = open_database(os.environ["CRATTN_DB"])
    info = read_frame_info(path)
    info.error, info.is_hostile = "its headers took longer than 60 s to read", True
    (run,) = submit(database, plan(database, [info]), NIGHT)
    monkeypatch.setattr("crattn_stage.nights.execute.mask_file", None)
    with pytest.raises(FrameError, match="took longer than 60 s"):
        execute(database, run)
    database.dispose()


def _find(root, database, night, **options):
    return [frame.path.name for frame in find_frames(root, night, database=database, **options)[0]]


def test_a_corrupt_frame_belongs_to_the_night_it_lies_in(tmp_path, either_url):
    database = open_database(either_url)
    for folder in ("2013-01-05", "2013-01-06", "loose"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.fits").write_bytes(b"corrupt")
    (tmp_path / "loose" / "loose.fits").rename(tmp_path / "loose" / "x.fits")
    everything = {"pattern": "**/*.fits"}
    assert _find(tmp_path, database, "20130106", **everything) == ["2013-01-06.fits", "x.fits"]
    frames, *_ = find_frames(tmp_path, "20130105", database=database, **everything)
    assert [frame.path.name for frame in frames] == ["2013-01-05.fits", "x.fits"]
    submit(database, plan(database, frames), "20130105")
    # What no name or header tells is of the night that took it first, for good.
    assert _find(tmp_path, database, "20130106", **everything) == ["2013-01-06.fits"]
    assert _find(tmp_path, database, "20130105", **everything) == ["2013-01-05.fits", "x.fits"]
    database.dispose()


def test_a_known_night_does_not_move_when_its_frame_goes_bad(tmp_path, either_url):
    database = open_database(either_url)
    path = write_frame(tmp_path, 1)
    frames, *_ = find_frames(tmp_path, NIGHT, pattern="**/*.fits", database=database)
    submit(database, plan(database, frames), NIGHT)
    elsewhere = folder_of(tmp_path, "20130303") / path.name
    path.write_bytes(b"corrupt")
    elsewhere.write_bytes(b"corrupt")
    assert _find(tmp_path, database, NIGHT, pattern="**/*.fits") == [path.name]
    assert [f.path for f in find_frames(tmp_path, "20130303", pattern="**/*.fits", database=database)[0]] == [elsewhere]
    database.dispose()


def test_the_threshold_is_the_users_the_cameras_or_the_cards(tmp_path, monkeypatch):
    """A profile that is written while header readers are at work is used by the next command."""
    path = write_frame(tmp_path, 1, ORIGIN="elsewhere", TELESCOP="toy")
    database = open_database(os.environ["CRATTN_DB"])

    def threshold(**options):
        (planned,) = plan(database, list(read_headers([path])), **options)
        return planned.threshold

    card = threshold()
    (tmp_path / "cameras").mkdir()
    profile = '[[recognise]]\nTELESCOP = "toy"\n[settings]\nthreshold = 0.77\n'
    (tmp_path / "cameras" / "toy.toml").write_text(f'title = "toy"\nreferences = ["none"]\n{profile}')
    monkeypatch.setenv("CRATTN_CAMERAS", str(tmp_path / "cameras"))
    assert card != 0.77 and threshold() == 0.77 and threshold(threshold=0.6) == 0.6
    database.dispose()
