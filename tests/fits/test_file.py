import bz2
import gzip
import lzma
import os
import subprocess
import sys
import threading
import warnings
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits
from conftest import sky_image

from crattn_stage.errors import FrameError
from crattn_stage.fits import file as file_module
from crattn_stage.fits import source
from crattn_stage.fits.atomic import sha256
from crattn_stage.fits.file import FitsFile

PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def exposure(path, compressed=False, count=2, **keywords):
    """Write a primary without pixels, some images, a mask and a table."""
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    images = [kind(sky_image((64, 48), seed=seed), name=f"N{seed}") for seed in range(1, count + 1)]
    mask = kind(np.eye(64, 48, dtype=np.int16), name="DQ")
    table = fits.BinTableHDU.from_columns([fits.Column("RA", "D", array=np.arange(5.0))], name="STARS")
    fits.HDUList([fits.PrimaryHDU(), *images, mask, table]).writeto(path, **keywords)
    return path


def set_card(path, keyword, text, hdu=0):
    """Write over the value of a card of an HDU, whatever it says."""
    content = bytearray(path.read_bytes())
    with fits.open(path, disable_image_compression=True) as hdus:
        start = content.index(keyword.ljust(8).encode() + b"=", hdus[hdu].fileinfo()["hdrLoc"])
    content[start + 10 : start + 80] = text.encode("latin-1").ljust(70)
    path.write_bytes(content)
    return path


def copied(file, **changes):
    stream = BytesIO()
    file.copy(stream, **{"planes": {}, "cards": {}, "extra": [], **changes})
    return stream.getvalue()


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_renamed_over_the_one_being_read_changes_nothing(tmp_path, compressed, packing):
    plain, path = exposure(tmp_path / "plain.fits", compressed), tmp_path / f"frame.fits{packing}"
    path.write_bytes(PACKERS[packing](plain.read_bytes()))
    other = exposure(tmp_path / "other.fits", compressed, count=3)
    with FitsFile(path) as file:
        expected, before, digest = fits.getdata(plain, "N2"), plain.read_bytes(), sha256(path)
        os.replace(other, path)
        assert np.array_equal(file.read(2), expected)
        assert copied(file) == before
        assert file.sha256() == digest != sha256(path)
        assert not file.changed()


@pytest.mark.parametrize("packing", PACKERS)
def test_a_file_changed_in_place_is_no_input(tmp_path, packing):
    path = tmp_path / "frame.fits"
    path.write_bytes(PACKERS[packing](exposure(tmp_path / "plain.fits").read_bytes()))
    os.utime(path, ns=(0, 0))
    with FitsFile(path) as file:
        assert not file.changed()
        with open(path, "r+b") as stream:
            stream.seek(-100, os.SEEK_END)
            stream.write(b"other")
        assert file.changed()
        for use in (lambda: copied(file), file.sha256):
            with pytest.raises(FrameError, match="changed while it was read"):
                use()


def test_bytes_that_go_missing_while_copying_never_become_zeros(tmp_path):
    path = tmp_path / "frame.fits"
    fits.PrimaryHDU(np.ones((1500, 1500), np.int16)).writeto(path)

    class Truncating(BytesIO):
        def write(self, piece):
            os.truncate(path, 2_000_000)
            return super().write(piece)

    with FitsFile(path) as file, pytest.raises(FrameError, match="truncated while it was read"):
        file.copy(Truncating(), {}, {}, [])
    fits.PrimaryHDU(np.ones((1500, 1500), np.int16)).writeto(path, overwrite=True)
    with FitsFile(path) as file:
        os.truncate(path, 2_000_000)
        with pytest.raises(FrameError, match="truncated while it was read"):
            file.read(0)


def test_only_the_padding_of_the_last_hdu_may_be_missing(tmp_path):
    path = exposure(tmp_path / "frame.fits")
    whole = path.read_bytes()
    with FitsFile(path) as file:
        place = file.places[-1]
    path.write_bytes(whole[: place.data + place.size])
    with FitsFile(path) as file:
        assert copied(file) == whole
    path.write_bytes(whole[: place.data + place.size - 1])
    with pytest.raises(FrameError, match="truncated: HDU 4 ends at byte"):
        FitsFile(path)


def test_zeros_behind_the_last_hdu_are_padding(tmp_path):
    path = exposure(tmp_path / "frame.fits")
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(3 * 2880))
    with FitsFile(path) as file:
        assert copied(file) == whole


@pytest.mark.parametrize("blank", [b"\0", b" "])
def test_hdus_behind_a_blank_block_are_not_lost(tmp_path, blank):
    path = exposure(tmp_path / "frame.fits")
    content = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        start = hdus[2].fileinfo()["hdrLoc"]
    content[start : start + 2880] = blank * 2880
    path.write_bytes(content)
    with pytest.raises(FrameError, match=f"no valid HDU at byte {start}, but data behind it"):
        FitsFile(path)


@pytest.mark.parametrize(
    ("keyword", "text", "hdu", "message"),
    [
        # astropy ends its list there, without an error.
        ("ZTILE2", "'2 2'", 1, "ZTILE2 of HDU 1 is '2 2'"),
        ("ZTILE2", "5", 1, "HDU 1 holds 64 compressed tiles; its header says 13"),
        ("ZNAXIS2", "32", 2, "HDU 2 holds 64 compressed tiles"),
        ("ZNAXIS", "-1", 1, "ZNAXIS of HDU 1 is -1"),
        ("ZBITPIX", "7", 1, "ZBITPIX of HDU 1 is 7"),
        ("NAXIS", "99999999", 0, "NAXIS of HDU 0 is 99999999"),
        ("NAXIS", "NaN", 0, "NAXIS of HDU 0 is NaN"),
        ("NAXIS", "", 0, "NAXIS of HDU 0 is blank"),
        ("NAXIS2", "-64", 4, "NAXIS2 of HDU 4 is -64"),
        ("NAXIS2", "9223372036854775807", 4, "truncated: HDU 4 ends at byte"),
        ("TFIELDS", "9223372036854775807", 4, "TFIELDS of HDU 4 is 9223372036854775807"),
        ("PCOUNT", "9223372036854775807", 1, "truncated: HDU 1"),
        ("PCOUNT", "1" + "0" * 30, 1, "PCOUNT of HDU 1"),
        ("GCOUNT", "2", 1, "truncated|no valid HDU|not that of a compressed image"),
        ("XTENSION", "7", 1, "XTENSION of HDU 1 is malformed"),
        ("EXTVER", "'one'", 3, "EXTVER of HDU 3 is 'one', not an integer"),
        ("EXTNAME", "'open", 3, "header of HDU 3 is damaged"),
        ("SIMPLE", "F", 0, "SIMPLE is not T"),
    ],
)
def test_a_damaged_header_is_one_clean_error(tmp_path, keyword, text, hdu, message):
    path = exposure(tmp_path / "frame.fits", compressed=True)
    if keyword == "EXTVER":
        fits.setval(path, "EXTVER", value=2, ext=hdu)
    set_card(path, keyword, text, hdu)
    with pytest.raises(FrameError, match=message) as caught:
        FitsFile(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("keyword", "text"), [("ZCMPTYPE", "'ZIP'"), ("TFORM1", "'1XYZ'"), ("ZVAL1", "'32'")])
def test_pixels_that_cannot_be_decompressed_are_one_clean_error(tmp_path, keyword, text):
    path = set_card(exposure(tmp_path / "frame.fits", compressed=True), keyword, text, 1)
    with pytest.raises(FrameError, match="HDU 1"), FitsFile(path) as file:
        file.read(1)


@pytest.mark.parametrize("pointer", [b"\x7f" * 8, b"\0\0\0\x40\x7f\xff\xff\xff", b"\0\0\0\1\0\0\0\0"])
def test_tiles_that_point_outside_their_data_are_one_clean_error(tmp_path, pointer):
    path = exposure(tmp_path / "frame.fits", compressed=True)
    content = bytearray(path.read_bytes())
    with FitsFile(path) as file:
        start = file.places[3].data
    content[start : start + 8] = pointer
    path.write_bytes(content)
    with FitsFile(path) as file, pytest.raises(FrameError, match="cannot read the pixels of HDU 3"):
        file.read(3)


def test_an_image_far_larger_than_its_data_is_not_allocated(tmp_path):
    path = exposure(tmp_path / "frame.fits", compressed=True)
    set_card(path, "ZNAXIS1", "200000000", 1)
    set_card(path, "ZTILE1", "200000000", 1)
    with FitsFile(path) as file, pytest.raises(FrameError, match=r"would decompress from 0\.0 to 51200 MB"):
        file.read(1)


def test_junk_behind_end_does_no_harm(tmp_path):
    path = exposure(tmp_path / "frame.fits")
    content = path.read_bytes()
    end = content.index(b"END".ljust(80))
    junk = b"GAIN    = 'junk \xff\x00"
    path.write_bytes(content[: end + 80] + junk + content[end + 80 + len(junk) :])
    with FitsFile(path) as file:
        assert "GAIN" not in file.hdus[0].header
        assert copied(file) == path.read_bytes()
        edit = copied(file, cards={0: ({"L1STATCR": (1, "masked")}, "")})
        assert edit[:2880].endswith(b"END".ljust(80) + b" " * (2880 - edit[:2880].index(b"END ".ljust(80)) - 80))


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz"])
def test_damaged_compression_is_one_clean_error(tmp_path, packing):
    plain, path = exposure(tmp_path / "plain.fits").read_bytes(), tmp_path / "frame.fits"
    packed = PACKERS[packing](plain)
    half = len(packed) // 2
    for damaged in (packed[:half], packed[:half] + b"\xff" * 40 + packed[half + 40 :], packed[:30] + packed[60:]):
        path.write_bytes(damaged)
        with pytest.raises(FrameError, match="truncated or damaged"):
            FitsFile(path)


@pytest.mark.parametrize("read", [FitsFile, sha256])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.fits")
    with pytest.raises(FrameError, match="not a regular file"):
        read(tmp_path / "pipe.fits")
    with pytest.raises(FrameError, match="not a regular file"):
        read("/dev/zero")
    with pytest.raises(FrameError, match="is a directory"):
        read(tmp_path)
    with pytest.raises(FrameError, match="No such file"):
        read(tmp_path / "nowhere.fits")


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "link.fits").symlink_to(exposure(tmp_path / "frame.fits"))
    with FitsFile(tmp_path / "link.fits") as file:
        assert len(file.hdus) == 5


def test_decompression_is_bounded(tmp_path, monkeypatch):
    path, plain = tmp_path / "bomb.fits.gz", BytesIO()
    fits.PrimaryHDU(np.zeros((2000, 1000), np.int16)).writeto(plain)
    path.write_bytes(gzip.compress(plain.getvalue()))
    monkeypatch.setattr(source, "ALWAYS_ALLOWED", 1_000_000)
    with pytest.raises(FrameError, match=r"more than 1 MB.*CRATTN_MAX_UNPACKED sets another limit"):
        FitsFile(path)
    monkeypatch.setenv("CRATTN_MAX_UNPACKED", "5000000")
    with FitsFile(path) as file:
        assert not file.read(0).any()
    monkeypatch.setenv("CRATTN_MAX_UNPACKED", "2 GB")
    with pytest.raises(FrameError, match="CRATTN_MAX_UNPACKED=2 GB: not a number of bytes"):
        FitsFile(path)


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("compressed", [False, True])
def test_headers_are_read_without_pixels(tmp_path, monkeypatch, compressed, packing):
    path = tmp_path / "frame.fits"
    path.write_bytes(PACKERS[packing](exposure(tmp_path / "plain.fits", compressed).read_bytes()))
    read, pread = [], os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: read.append(arguments[1]) or pread(*arguments))
    with FitsFile(path) as file, fits.open(tmp_path / "plain.fits") as hdus:
        assert [hdu.header.tostring() for hdu in file.hdus] == [hdu.header.tostring() for hdu in hdus]
        assert [(hdu.name, hdu.ver, hdu.is_image) for hdu in file.hdus] == [(h.name, h.ver, h.is_image) for h in hdus]
    if not packing:
        assert sum(read) <= sum(len(place.header) for place in file.places) + 2 * 2880


def test_reading_headers_imports_no_engine(tmp_path):
    path = exposure(tmp_path / "frame.fits")
    code = (
        "import sys; from crattn_stage.fits.file import FitsFile\n"
        "with FitsFile(sys.argv[1]): print({'torch', 'openvino', 'matplotlib', 'scipy', 'sep'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_extend_f_becomes_t_where_an_hdu_is_appended(tmp_path):
    path = tmp_path / "frame.fits"
    hdu = fits.PrimaryHDU(sky_image())
    hdu.header.append("SPARE", end=True)
    hdu.writeto(path)
    # astropy would write T.
    content = path.read_bytes().replace(b"SPARE   = ".ljust(80), b"EXTEND  =                    F".ljust(80), 1)
    content = content.replace(b"EXTEND  =                    T", b"EXTEND  =                    F")
    path.write_bytes(content)
    with FitsFile(path) as file:
        assert copied(file) == content
        new = fits.ImageHDU(np.zeros((3, 3), np.uint8), name="MASK")
        longer = copied(file, extra=[lambda: file.rendered(new)])
    assert fits.Header.fromstring(longer[:2880])["EXTEND"] is True
    assert longer[2880 : len(content)] == content[2880:]
    with fits.open(BytesIO(longer)) as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "MASK"]


def test_threads_read_at_once_and_warnings_come_back(tmp_path, monkeypatch):
    path, inside = exposure(tmp_path / "frame.fits", compressed=True), threading.Barrier(2, timeout=30)
    new_hdu = file_module._new_hdu

    def slow(place, content):
        # Passes only when two threads are here at the same time.
        if len(content) > len(place.header):
            inside.wait()
            warnings.warn("from astropy", UserWarning, stacklevel=1)
        return new_hdu(place, content)

    monkeypatch.setattr(file_module, "_new_hdu", slow)
    with warnings.catch_warnings(record=True) as caught, FitsFile(path) as file:
        warnings.simplefilter("always")
        found = {}
        threads = [threading.Thread(target=lambda i=i: found.update({i: file.read(i)})) for i in (1, 2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        warnings.warn("afterwards", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["afterwards"]
    assert all(np.array_equal(found[i], fits.getdata(path, i)) for i in (1, 2))


def test_an_hdu_that_swallows_those_behind_it_is_refused(tmp_path):
    """A damaged size that still ends with the file: the walk sees no fault, and the table would be lost."""
    path = exposure(tmp_path / "x.fits.fz", compressed=True)
    with FitsFile(path) as file:
        mask, table = file.places[3:5]
        rows = fits.getheader(path, 3, disable_image_compression=True)["NAXIS2"] * 8
    set_card(path, "PCOUNT", str(table.data + table.size - mask.data - rows).rjust(20), hdu=3)
    with FitsFile(path) as file:
        assert len(file.places) == 4
        with pytest.raises(FrameError, match="HDU 3 holds another HDU"):
            file.read(3)
        assert file.read(1).shape == (64, 48)


def test_a_scale_that_is_text_is_named(tmp_path):
    path = tmp_path / "frame.fits"
    fits.writeto(path, np.ones((8, 8), np.float32))
    fits.setval(path, "BZERO", value="32768")
    with FitsFile(path) as file, pytest.raises(FrameError, match="BZERO = '32768' of HDU 0 is text"):
        file.read(0)
