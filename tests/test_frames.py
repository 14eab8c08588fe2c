import bz2
import gzip
import hashlib
import lzma
import os
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from conftest import sky_image

from crattn_stage import masks
from crattn_stage.errors import FrameError
from crattn_stage.frames import Marks, ObservationFrame, replacing

CARDS = {"L1STATCR": (1, "masked"), "CRNPIX": (3, "pixels")}
#: Frames of the real data that have what it takes; the old LCO cube has not.
REAL = [
    "decam/decam_r_241238_ampB.fits.fz",
    "decam/c4d_130105_065255_r_a1_N15.fits.fz",
    "decam/c4d_170316_062107_z_ls9_N2.fits.fz",
    "decam/c4d_181215_051332_r_ls9_S9.fits.fz",
    "lco/elp1m0-fa05-20211007-e00_raw_4amp_crop.fits",
    "lco/lsc1m005-fl15-20170614-0130-e91_sinistro_300s_crop.fits.gz",
    "lco/tfn0m4-kb29-20160625-e90_sbig_45s.fits.fz",
    "other/hsc_bright_cr_300.fits",
    "other/ztf_zr_30s_starfield.fits.fz",
]


def mark(frame, pixels=((10, 12), (10, 13), (11, 13))):
    """Mark a few pixels on each detector, as the stage would."""
    for extension in frame.extensions:
        flat = np.ravel_multi_index(np.transpose(pixels), extension.shape)
        frame.marks[extension.index] = Marks(flat, dict(CARDS))
    frame.cards, frame.history = dict(CARDS), "test: 1 cosmic ray"


def pieces(path):
    """Return header and data bytes of each HDU."""
    plain = path.read_bytes()
    for suffix, unpack in ((".gz", gzip.decompress), (".bz2", bz2.decompress), (".xz", lzma.decompress)):
        if path.suffix == suffix:
            plain = unpack(plain)
    part = path.with_name(f"{path.name}.plain")
    part.write_bytes(plain)
    with fits.open(part, disable_image_compression=True) as hdus:
        places = [hdu.fileinfo() for hdu in hdus]
        names = [(hdu.name, hdu.ver) for hdu in hdus]
    part.unlink()
    spans = [(p["hdrLoc"], p["datLoc"], p["datLoc"] + p["datSpan"]) for p in places]
    return names, [(plain[a:b], plain[b:c].ljust(c - b, b"\0")) for a, b, c in spans]


def cards_of(header_bytes):
    return [header_bytes[i : i + 80] for i in range(0, len(header_bytes), 80)]


def assert_untouched(before, after, masks_planes=("BPM", "DQ", "MASK", "CRMASK")):
    """Every HDU but mask planes has its data as it was; every card that was not ours is as it was."""
    names, old = pieces(before)
    new_names, new = pieces(after)
    assert new_names[: len(names)] == names
    ours = (b"L1STATCR", b"L1IDCR", b"CR", b"CHECKSUM", b"DATASUM", b"ZHECKSUM", b"EXTEND", b"HISTORY CRAttn")
    for index, ((old_header, old_data), (new_header, new_data)) in enumerate(zip(old, new, strict=False)):
        if names[index][0] in masks_planes:
            continue
        assert hashlib.sha256(old_data).digest() == hashlib.sha256(new_data).digest(), names[index]
        kept = [card for card in cards_of(old_header) if not card.startswith(ours) and card.strip()]
        there = [card for card in cards_of(new_header) if not card.startswith(ours) and card.strip()]
        assert there == kept, names[index]


@pytest.mark.parametrize("name", REAL)
def test_real_frames_keep_everything_but_the_mask(name, data, tmp_path):
    path = data / name
    out = tmp_path / path.name
    with ObservationFrame(path) as frame:
        assert frame.extensions
        before = [np.array(ccd.data) for _, ccd in frame.ccds()]
        mark(frame)
        assert frame.write(out) == [out]
    assert_untouched(path, out)
    with ObservationFrame(out) as frame, fits.open(out) as hdus:
        for (extension, ccd), pixels in zip(frame.ccds(), before, strict=True):
            assert np.array_equal(ccd.data, pixels, equal_nan=pixels.dtype.kind == "f")
            assert hdus[extension.index].header["L1STATCR"] == 1
            if extension.mask:
                plane = hdus[extension.mask[1]].data
                found = extension.convention.cosmic_rays(plane)
            else:
                found = hdus["CRMASK"].data.astype(bool)
            free = np.ones(found.shape, bool) if extension.mask is None else ~extension.convention.bad_pixels(found * 0)
            assert set(zip(*found.nonzero(), strict=True)) <= {(10, 12), (10, 13), (11, 13)} and free.all()
        assert hdus[0].header["CRNPIX"] == 3
    # One frame came with a checksum that its own crop had broken.
    assert broken_checksums(out) <= broken_checksums(path)


def broken_checksums(path):
    """Return what astropy says of the checksums of a file that do not hold."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fits.open(path, checksum=True, disable_image_compression=True) as hdus:
            len(hdus)
    return {str(warning.message) for warning in caught if "sum verification" in str(warning.message)}


def test_every_real_frame_keeps_its_bytes(data, tmp_path):
    paths = [p for folder in ("decam", "lco", "other") for p in sorted((data / folder).iterdir())]
    assert len(paths) == 29
    for path in paths:
        if "cpt1m012" in path.name:
            with pytest.raises(FrameError, match="3-dimensional"):
                ObservationFrame(path)
            continue
        with ObservationFrame(path) as frame:
            mark(frame)
            frame.write(tmp_path / path.name, mask_extension=True)
        assert_untouched(path, tmp_path / path.name)


@pytest.mark.parametrize("name", REAL)
def test_writing_the_output_again_gives_the_same_bytes(name, data, tmp_path):
    first, second = tmp_path / f"a{data.joinpath(name).name}", tmp_path / f"b{data.joinpath(name).name}"
    for source, target in ((data / name, first), (first, second)):
        with ObservationFrame(source) as frame:
            mark(frame)
            frame.write(target)
    assert first.read_bytes() == second.read_bytes()


def mef(tmp_path, compressed=False, mask="DQ", name="c4d_130105_ooi_r.fits", **primary):
    """A DECam-like reduced exposure: two detectors, masks, a weight, a table."""
    hdus = [fits.PrimaryHDU()]
    hdus[0].header.update(INSTRUME="DECam", OBSTYPE="object", EXPTIME=90.0, **primary)
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    for order, detector in enumerate(("N4", "S7"), 1):
        image = kind(sky_image(seed=order), name=detector)
        image.header["GAINA"] = (4.1, "as calibrated")
        image.header.add_history("flat-fielded")
        hdus.append(image)
        if mask:
            plane = np.zeros((120, 100), np.int16)
            plane[10, 12], plane[50, 50], plane[60, 60] = 3, 5, 7
            hdus.append(kind(plane, name=mask))
            hdus[-1].ver = order
        hdus.append(fits.ImageHDU(np.ones((120, 100), np.float32), name="WGT", ver=order))
    table = fits.BinTableHDU.from_columns([fits.Column("RA", "D", array=np.arange(5.0))], name="STARS")
    path = tmp_path / name
    fits.HDUList([*hdus, table]).writeto(path, checksum=True)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_decam_codes_in_a_multi_extension_frame(tmp_path, compressed):
    path = mef(tmp_path, compressed)
    out = tmp_path / "out.fits"
    with ObservationFrame(path) as frame:
        assert [e.name for e in frame.extensions] == ["N4", "S7"]
        assert all(e.convention is masks.DECAM_CODES for e in frame.extensions)
        bad = next(iter(frame.ccds()))[1].mask
        assert bad[10, 12] and not bad[50, 50] and not bad[60, 60]
        mark(frame)
        frame.write(out, mask_extension=True)
    assert_untouched(path, out)
    with fits.open(out) as hdus:
        for version in (1, 2):
            plane = hdus["DQ", version].data
            # A code keeps its pixel, the old cosmic ray is gone, the new ones are there.
            assert (plane[10, 12], plane[50, 50], plane[60, 60], plane[10, 13], plane[11, 13]) == (3, 0, 7, 5, 5)
            assert hdus["CRMASK", version].data.sum() == 3
        assert isinstance(hdus["CRMASK", 1], fits.CompImageHDU) == compressed


@pytest.mark.parametrize(("version", "cosmic_ray"), [("V3.2", 16), ("V3.5.0", 5), ("V4.8.2a", 5)])
def test_decam_flags_follow_the_pipeline_version(tmp_path, version, cosmic_ray):
    with ObservationFrame(mef(tmp_path, PLVER=version)) as frame:
        assert frame.extensions[0].convention.cosmic_ray == cosmic_ray


def test_an_ood_file_beside_an_ooi_file_is_its_mask(tmp_path):
    image = mef(tmp_path, mask=None)
    companion = tmp_path / "c4d_130105_ood_r.fits"
    plane = np.zeros((120, 100), np.int16)
    plane[10, 12] = 1
    masks_ = [fits.CompImageHDU(plane, name=n) for n in ("S7", "N4")]
    fits.HDUList([fits.PrimaryHDU(), *masks_]).writeto(companion)
    folder = tmp_path / "out"
    folder.mkdir()
    with ObservationFrame(image) as frame:
        mark(frame)
        written = frame.write(folder / image.name)
    assert sorted(p.name for p in written) == ["c4d_130105_ood_r.fits", "c4d_130105_ooi_r.fits"]
    assert_untouched(image, folder / image.name)
    with fits.open(folder / companion.name) as hdus, fits.open(folder / image.name) as science:
        assert [h.name for h in hdus] == ["PRIMARY", "S7", "N4"]
        assert hdus["N4"].data[10, 12] == 1 and hdus["N4"].data[10, 13] == 5
        assert len(science) == len(fits.open(image))
        assert science["N4"].header["L1STATCR"] == 1
    with ObservationFrame(image) as frame, pytest.raises(FrameError, match="_ooi_"):
        mark(frame)
        frame.write(folder / "renamed.fits")


def test_a_generic_frame_gets_a_mask_that_ccddata_reads(frame_file, tmp_path):
    out = tmp_path / "out.fits"
    with ObservationFrame(frame_file(BUNIT="electron")) as frame:
        _, ccd = next(frame.ccds())
        assert str(ccd.unit) == "electron" and ccd.mask is None
        assert ccd.data.dtype.isnative
        mark(frame)
        frame.write(out)
    ccd = CCDData.read(out, unit="adu")
    assert ccd.mask.sum() == 3 and ccd.mask[10, 12]


@pytest.mark.parametrize("suffix", [".fits.gz", ".fits.bz2", ".fits.xz"])
def test_packed_files_in_and_out(frame_file, tmp_path, suffix):
    plain = frame_file()
    packers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    packed = tmp_path / f"packed{suffix}"
    packed.write_bytes(packers[packed.suffix](plain.read_bytes()))
    out = tmp_path / f"out{suffix}"
    with ObservationFrame(packed) as frame:
        mark(frame)
        frame.write(out)
    assert_untouched(packed, out)
    assert fits.getdata(out, "MASK").sum() == 3 * 8


def test_unsigned_integers_keep_their_offset(tmp_path):
    path, out = tmp_path / "raw.fits", tmp_path / "out.fits"
    raw = np.arange(50_000, 50_600, dtype=np.uint16).reshape(20, 30)
    fits.PrimaryHDU(raw).writeto(path)
    with ObservationFrame(path) as frame:
        _, ccd = next(frame.ccds())
        assert np.array_equal(ccd.data, raw)
        mark(frame)
        frame.write(out)
    assert np.array_equal(fits.getdata(out), raw)
    assert_untouched(path, out)


def test_a_mask_of_another_shape_is_left_alone_and_said(tmp_path):
    path, out = tmp_path / "crop.fits", tmp_path / "out.fits"
    whole = np.full((300, 300), 4, np.uint8)
    fits.HDUList([fits.PrimaryHDU(sky_image()), fits.ImageHDU(whole, name="BPM")]).writeto(path)
    with ObservationFrame(path) as frame:
        assert any("another shape" in note for note in frame.notes)
        mark(frame)
        frame.write(out)
    assert np.array_equal(fits.getdata(out, "BPM"), whole)


def test_sections_are_each_images_own_and_the_rest_is_shared(tmp_path):
    path = tmp_path / "f.fits"
    primary = fits.PrimaryHDU()
    primary.header.update(DATASEC="[1:4000,1:4000]", GAIN=2.5)
    fits.HDUList([primary, fits.ImageHDU(sky_image())]).writeto(path)
    with ObservationFrame(path) as frame:
        (amplifier,) = frame.amplifiers(frame.extensions[0])
    assert amplifier.section == (slice(0, 120), slice(0, 100)) and amplifier.gain == 2.5


def test_unnamed_detectors_have_names_of_their_own(tmp_path):
    path = tmp_path / "f.fits"
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(sky_image()) for _ in range(3))]).writeto(path)
    with ObservationFrame(path) as frame:
        assert [e.name for e in frame.extensions] == ["HDU1", "HDU2", "HDU3"]


def test_nothing_is_overwritten_unasked(frame_file, tmp_path):
    out = tmp_path / "out.fits"
    out.write_text("mine")
    with ObservationFrame(frame_file()) as frame:
        mark(frame)
        with pytest.raises(FrameError, match="exists; --overwrite replaces it"):
            frame.write(out)
        assert out.read_text() == "mine"
        frame.write(out, overwrite=True)
    assert fits.getval(out, "L1STATCR") == 1


def test_a_failed_write_leaves_no_trace(frame_file, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()

    def no_space(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("crattn_stage.frames.os.fsync", no_space)
    with ObservationFrame(frame_file()) as frame:
        mark(frame)
        with pytest.raises(FrameError, match="No space left on device"):
            frame.write(folder / "out.fits")
    assert list(folder.iterdir()) == []


def test_replacing_keeps_the_old_file_when_interrupted(tmp_path):
    target = tmp_path / "f"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(target, overwrite=True) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


def test_running_in_place_is_safe(frame_file):
    path = frame_file()
    with ObservationFrame(path) as frame:
        mark(frame)
        frame.write(path, overwrite=True)
    assert fits.getdata(path, "MASK").sum() == 24
