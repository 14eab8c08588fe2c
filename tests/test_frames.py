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

from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import Marks, ObservationFrame

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
            expected = np.zeros(extension.shape, bool)
            expected[[10, 10, 11], [12, 13, 13]] = True
            if extension.mask:
                # No code of another flag lies where the marks are.
                found = extension.convention.cosmic_rays(hdus[extension.mask[1]].data)
            else:
                found = hdus[extension.convention.extension, extension.version].data != 0
            assert np.array_equal(found, expected)
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
        assert [(e.convention.cosmic_ray, e.convention.bits) for e in frame.extensions] == [(5, False)] * 2
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


@pytest.mark.parametrize("mask_extension", [False, True])
def test_nextend_counts_the_planes_that_are_added(tmp_path, mask_extension):
    path, out = mef(tmp_path, NEXTEND=7), tmp_path / "out.fits"
    with ObservationFrame(path) as frame:
        mark(frame)
        frame.write(out, mask_extension=mask_extension)
    with fits.open(out) as hdus:
        assert hdus[0].header["NEXTEND"] == len(hdus) - 1 == (9 if mask_extension else 7)


@pytest.mark.parametrize(("version", "cosmic_ray"), [("V3.2", 16), ("V3.5.0", 5), ("V4.8.2a", 5)])
def test_decam_flags_follow_the_pipeline_version(tmp_path, version, cosmic_ray):
    with ObservationFrame(mef(tmp_path, PLVER=version)) as frame:
        assert frame.extensions[0].convention.cosmic_ray == cosmic_ray


def test_an_ood_file_beside_an_ooi_file_is_its_mask(tmp_path):
    image = mef(tmp_path, mask=None, PLVER="V4.8.2", PROCTYPE="InstCal")
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
    opened = (fits.open(path) for path in (folder / companion.name, folder / image.name, image))
    with next(opened) as hdus, next(opened) as science, next(opened) as before:
        assert [h.name for h in hdus] == ["PRIMARY", "S7", "N4"]
        assert hdus["N4"].data[10, 12] == 1 and hdus["N4"].data[10, 13] == 5
        assert len(science) == len(before)
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
    raw = sky_image((20, 30), 50_000).astype(np.uint16)
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


def test_odd_cards_stay_as_they_are_and_do_no_harm(tmp_path, stage):
    path, out = tmp_path / "odd.fits", tmp_path / "out.fits"
    hdu = fits.PrimaryHDU(sky_image())
    hdu.header["LONG"] = "a long text " * 12
    hdu.header["HIERARCH ESO DET CHIP"] = 3
    for number in range(8):
        hdu.header[f"SPARE{number}"] = 0
    hdu.writeto(path)
    odd = ("object  = 'm31'", "DATE-OBS= 2013-01-05T06:52:55", "EXPTIME =                90,0", "OBSTYPE = object",
           "x-y_z   = 1.0d0", "NAME    = 'O Brien'", "GAIN    =                  NaN", "TABBED  = 'a\tb'")  # fmt: skip
    content = path.read_bytes()
    for number, card in enumerate(odd):
        start = content.index(b"SPARE%d " % number)
        content = content[:start] + card.encode().ljust(80) + content[start + 80 :]
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ObservationFrame(path) as frame:
            stage.do_stage(frame)
            frame.write(out)
    assert_untouched(path, out)


@pytest.mark.parametrize("fill", range(24, 37, 2))
@pytest.mark.parametrize("data_sum", [True, False])
def test_checksums_hold_whatever_the_length_of_the_header(tmp_path, fill, data_sum):
    path, out = tmp_path / "in.fits", tmp_path / "out.fits"
    hdu = fits.PrimaryHDU(sky_image())
    for number in range(fill):
        hdu.header[f"K{number}"] = number
    hdu.writeto(path, checksum=True)
    if not data_sum:
        content = path.read_bytes()
        start = content.index(b"DATASUM =")
        path.write_bytes(content[:start] + b"COMMENT".ljust(80) + content[start + 80 :])
    with ObservationFrame(path) as frame:
        mark(frame)
        frame.write(out)
    assert_untouched(path, out)
    assert broken_checksums(out) == set()
    with fits.open(out) as hdus:
        assert all(len(h.header["CHECKSUM"]) == 16 for h in hdus) and len(hdus) == 2


def test_a_long_history_line_is_replaced_too(frame_file, tmp_path):
    one, two = tmp_path / "1.fits", tmp_path / "2.fits"
    for source, target in ((frame_file(), one), (one, two)):
        with ObservationFrame(source) as frame:
            mark(frame)
            frame.cards["L1IDCR"] = ("a-model-name-" * 9, "cosmic-ray model")
            frame.history = "0.1.0: 12345 cosmic rays masked by " + "a-model-name-" * 9
            frame.write(target)
    assert one.read_bytes() == two.read_bytes() and len(fits.getheader(two)["HISTORY"]) == 1


@pytest.mark.parametrize(
    ("kind", "dtype"),
    # astropy compresses no 64-bit integers.
    [(fits.ImageHDU, d) for d in ("u1", "i2", "u2", "i4", "i8")] + [(fits.CompImageHDU, d) for d in ("u1", "i2", "i4")],
)
def test_mask_planes_of_any_integers_with_and_without_blank(tmp_path, kind, dtype):
    path, out = tmp_path / "in.fits", tmp_path / "out.fits"
    plane = np.zeros((120, 100), dtype)
    plane[5, 5] = 1
    mask = kind(plane, name="BPM")
    if dtype in ("i2", "i4"):
        mask.header["BLANK"] = -1
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(sky_image(), name="SCI"), mask]).writeto(path)
    with ObservationFrame(path) as frame:
        assert next(frame.ccds())[1].mask.sum() == 1
        mark(frame)
        frame.write(out)
    result = fits.getdata(out, "BPM")
    assert result.dtype.itemsize == plane.dtype.itemsize and result[5, 5] == 1 and (result == 8).sum() == 3


def test_scaled_pixels_can_be_read_again(tmp_path):
    path = tmp_path / "scaled.fits"
    counts = sky_image((20, 30)).astype(np.int16)
    counts[counts == 7] = 8
    counts[3, 4] = 7
    hdu = fits.PrimaryHDU(counts)
    hdu.header.update(BSCALE=0.5, BZERO=10.0, BLANK=7)
    hdu.writeto(path)
    with ObservationFrame(path) as frame:
        first, second = (next(frame.ccds())[1].data for _ in range(2))
    assert np.array_equal(first, second, equal_nan=True) and np.isnan(first).sum() == 1


def test_masks_belong_by_version_where_detectors_have_versions(tmp_path):
    path, out = tmp_path / "in.fits", tmp_path / "out.fits"
    hdus = [fits.PrimaryHDU()]
    for version in (2, 1):
        hdus.append(fits.ImageHDU(sky_image(seed=version), name="CHIP", ver=version))
    for version in (1, 2):
        plane = np.zeros((120, 100), np.uint8)
        plane[:40] = version == 1
        hdus.append(fits.ImageHDU(plane, name="MASK", ver=version))
    fits.HDUList(hdus).writeto(path)
    with ObservationFrame(path) as frame:
        bad = {extension.name: ccd.mask.any() for extension, ccd in frame.ccds()}
        assert bad == {"CHIP,2": False, "CHIP": True}
        mark(frame)
        frame.write(out)
    with fits.open(out) as hdus:
        assert [h.ver for h in hdus[1:]] == [2, 1, 1, 2]


def test_planes_of_detectors_of_one_version_are_told_apart(tmp_path):
    one, two = tmp_path / "1.fits", tmp_path / "2.fits"
    path = tmp_path / "in.fits"
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(sky_image(), name="SCI") for _ in range(3))]).writeto(path)
    for source, target in ((path, one), (one, two)):
        with ObservationFrame(source) as frame:
            mark(frame)
            for count, marks in enumerate(frame.marks.values(), 1):
                marks.pixels = marks.pixels[:count]
            frame.write(target, mask_extension=True)
    assert one.read_bytes() == two.read_bytes()
    with fits.open(two) as hdus:
        assert [h.data.astype(bool).sum() for h in hdus if h.name == "CRMASK"] == [1, 2, 3]


def test_a_plane_of_an_earlier_run_does_not_contradict_the_mask(frame_file, tmp_path):
    one, two = tmp_path / "1.fits", tmp_path / "2.fits"
    for source, target, pixels in ((frame_file(), one, [5, 6, 7]), (one, two, [6])):
        with ObservationFrame(source) as frame:
            mark(frame)
            frame.marks[0].pixels = np.array(pixels)
            frame.write(target, mask_extension=target is one)
    assert fits.getdata(two, "CRMASK").sum() == (fits.getdata(two, "MASK") == 8).sum() == 1


@pytest.mark.parametrize(("name", "dtype"), [("DQ", "i2"), ("MASK", "i4")])
def test_flags_of_an_unknown_camera_are_bad_pixels_and_left_alone(tmp_path, name, dtype):
    path, out = tmp_path / "in.fits", tmp_path / "out.fits"
    flags = np.zeros((120, 100), dtype)
    flags[50, 50:53] = 40, 2, 1024
    fits.HDUList([fits.PrimaryHDU(sky_image()), fits.ImageHDU(flags, name=name)]).writeto(path)
    with ObservationFrame(path) as frame:
        assert frame.notes == [
            f"flags of {name} are not known: all of its pixels that are not 0, 0.03%, are taken for bad"
        ]
        assert np.array_equal(next(frame.ccds())[1].mask, flags != 0)
        mark(frame)
        frame.write(out)
    assert np.array_equal(fits.getdata(out, name), flags) and fits.getdata(out, "CRMASK").sum() == 3


def test_planes_beside_the_image_are_not_masked(tmp_path):
    path = tmp_path / "in.fits"
    names = ["SCI_1", "SIGMA", "N4_DQ", "FLAGS", "ERR_1", "IVAR"]
    cube = fits.ImageHDU(np.zeros((2, 5, 5)), name="EXTRA")
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(sky_image(), name=n) for n in names), cube]).writeto(path)
    with ObservationFrame(path) as frame:
        assert [e.name for e in frame.extensions] == ["SCI_1"]
        assert {p.hdu.name: p.role for p in frame.layout.planes}["EXTRA"] == "other"


def test_a_damaged_companion_is_named(tmp_path):
    path = mef(tmp_path, mask=None)
    (tmp_path / "c4d_130105_ood_r.fits").write_bytes(path.read_bytes()[:9000])
    with pytest.raises(FrameError, match=r"its mask file c4d_130105_ood_r\.fits: truncated"):
        ObservationFrame(path)


def test_a_link_is_not_replaced_unasked(frame_file, tmp_path):
    link = tmp_path / "link.fits"
    link.symlink_to(tmp_path / "nowhere.fits")
    with ObservationFrame(frame_file()) as frame:
        mark(frame)
        with pytest.raises(FrameError, match="exists"):
            frame.write(link)
    assert link.is_symlink()


def test_unnamed_detectors_have_names_of_their_own(tmp_path):
    path = tmp_path / "f.fits"
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(sky_image(seed=seed)) for seed in range(3))]).writeto(path)
    with ObservationFrame(path) as frame:
        assert [e.name for e in frame.extensions] == ["HDU1", "HDU2", "HDU3"]


def test_nothing_is_overwritten_unasked(frame_file, tmp_path):
    out = tmp_path / "out.fits"
    out.write_text("mine")
    with ObservationFrame(frame_file()) as frame:
        mark(frame)
        with pytest.raises(FrameError, match=r"exists; overwrite=True .--overwrite. replaces it"):
            frame.write(out)
        assert out.read_text() == "mine"
        frame.write(out, overwrite=True)
    assert fits.getval(out, "L1STATCR") == 1


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_failed_write_leaves_no_trace(tmp_path, monkeypatch, suffix):
    folder = tmp_path / "out"
    folder.mkdir()
    image = mef(tmp_path, mask=None)
    plane = fits.ImageHDU(np.zeros((120, 100), np.int16))
    fits.HDUList([fits.PrimaryHDU(), plane, plane.copy()]).writeto(tmp_path / "c4d_130105_ood_r.fits")
    synced = []

    def no_space(_):
        synced.append(1)
        # The last of all: both files plain, or both plain and both packed.
        if len(synced) == (4 if suffix else 2):
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr("crattn_stage.fits.atomic.os.fsync", no_space)
    with ObservationFrame(image) as frame:
        mark(frame)
        with pytest.raises(FrameError, match="No space left on device"):
            frame.write(folder / f"c4d_ooi_r.fits{suffix}")
    assert list(folder.iterdir()) == []


def test_running_in_place_is_safe(frame_file):
    path = frame_file()
    with ObservationFrame(path) as frame:
        mark(frame)
        frame.write(path, overwrite=True)
    assert fits.getdata(path, "MASK").sum() == 24


def packed(path, count=4):
    """Write an fpacked frame of some detectors with DQ planes."""
    hdus = [fits.PrimaryHDU()]
    hdus[0].header["INSTRUME"] = "DECam"
    for number in range(1, count + 1):
        flags = np.zeros((120, 100), np.int16)
        flags[:, number] = 1
        hdus.append(fits.CompImageHDU(sky_image(seed=number), name=f"N{number}"))
        hdus.append(fits.CompImageHDU(flags, name="DQ"))
        hdus[-1].ver = number
    fits.HDUList(hdus).writeto(path, checksum=True)
    return path


def test_planes_packed_in_the_background_are_the_same_bytes(tmp_path):
    path = packed(tmp_path / "in.fits.fz")
    for name in ("background", "later"):
        with ObservationFrame(path) as frame:
            for order, (extension, ccd) in enumerate(frame.ccds(), 1):
                assert np.array_equal(ccd.data, fits.getdata(path, f"N{order}")) and ccd.mask[:, order].all()
                marks = Marks(np.arange(order * 500 + 50, order * 500 + 57), dict(CARDS))
                if name == "background":
                    frame.mark(extension, marks)
                else:
                    frame.marks[extension.index] = marks
            frame.write(tmp_path / name)
    assert (tmp_path / "background").read_bytes() == (tmp_path / "later").read_bytes()
    with fits.open(tmp_path / "later", checksum=True) as hdus:
        assert [(h.data == 5).sum() for h in hdus if h.name == "DQ"] == [7, 7, 7, 7]


def test_marks_that_are_replaced_are_not_those_written(tmp_path):
    with ObservationFrame(packed(tmp_path / "in.fits.fz", 1)) as frame:
        (extension,) = frame.extensions
        frame.mark(extension, Marks(np.arange(500, 507)))
        frame.mark(extension, Marks(np.arange(505, 515)))
        frame.write(tmp_path / "mark")
        frame.marks[extension.index] = Marks(np.arange(505, 508))
        frame.write(tmp_path / "marks")
    assert (fits.getdata(tmp_path / "mark", "DQ") == 5).ravel().nonzero()[0].tolist() == list(range(505, 515))
    assert (fits.getdata(tmp_path / "marks", "DQ") == 5).ravel().nonzero()[0].tolist() == list(range(505, 508))


def test_a_detector_that_cannot_be_read_ahead_fails_where_it_is_asked_for(tmp_path):
    path = packed(tmp_path / "in.fits.fz", 3)
    content = bytearray(path.read_bytes())
    with fits.open(path, disable_image_compression=True) as hdus:
        place = hdus[3].fileinfo()
    # Descriptors of the tiles that point beyond the heap.
    content[place["datLoc"] : place["datLoc"] + 800] = b"\x7f" * 800
    path.write_bytes(content)
    with ObservationFrame(path) as frame:
        ccds = frame.ccds()
        next(ccds)
        with pytest.raises(FrameError, match="cannot read the pixels of HDU 3"):
            next(ccds)
