"""`run --clean`: what changes in the cleaned file, bit by bit, and what does not."""

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import sky_image, with_track

from crattn_stage.cli import main
from crattn_stage.errors import FrameError
from crattn_stage.fits.file import FitsFile
from crattn_stage.fits.names import is_output
from crattn_stage.process import process
from crattn_stage.products.settings import MaskSettings
from crattn_stage.stage import AttentionCRStage, RuntimeContext

IMAGE, HIT = with_track(sky_image((140, 120)))


@pytest.fixture(scope="module")
def stage_with():
    loaded = {}

    def make(**settings):
        stage = loaded.setdefault("stage", AttentionCRStage(RuntimeContext("fast", engine="openvino")))
        stage.runtime_context = RuntimeContext("fast", masks=MaskSettings(injections=0, **settings))
        return stage

    return make


def clean(path, stage, **options):
    target = path.with_name(path.name.replace(".fits", "-crmask.fits"))
    process(path, target, stage, **options)
    return target, target.with_name(target.name.replace(".fits", "-clean.fits"))


def stored(path, index):
    """Return pixels as the file stores them."""
    with fits.open(path, do_not_scale_image_data=True) as hdus:
        return hdus[index].data.copy()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "u2", "i4", "scaled"])
def test_science_pixels_change_where_they_are_filled_and_nowhere_else(kind, packed, tmp_path, stage_with):
    path = tmp_path / ("a.fits.fz" if packed else "a.fits")
    stored_image = IMAGE.astype(kind if kind != "scaled" else "i2")
    header = fits.Header({"OBJECT": "M 31"})
    if packed:
        hdu = fits.CompImageHDU(stored_image, header, compression_type="GZIP_2", quantize_level=0.0, name="SCI")
    else:
        hdu = fits.ImageHDU(stored_image, header, name="SCI")
    if kind == "scaled":
        hdu.header["BSCALE"], hdu.header["BZERO"] = 0.5, 100.0
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(9))])
    fits.HDUList([fits.PrimaryHDU(), hdu, table]).writeto(path, checksum=True)
    masked, cleaned = clean(path, stage_with(clean="surface"))
    with fits.open(cleaned, checksum=True) as hdus, fits.open(masked) as marked:
        mask = marked["MASK"].data != 0
        assert np.array_equal(hdus["MASK"].data, marked["MASK"].data) and mask[HIT].mean() > 0.9
        assert np.array_equal(hdus["CRFILL"].data, mask) and hdus["CRFILL"].header["CRIMAGE"] == "SCI"
        header = hdus["SCI"].header
        assert header["CRFILL"] == "surface" and header["CRNFILL"] == mask.sum() == hdus[0].header["CRNFILL"]
        assert header["OBJECT"] == "M 31" and f"{mask.sum()} pixels of cosmic rays filled (surface)" in str(
            header["HISTORY"]
        )
        level = 250 if kind == "scaled" else 300
        assert np.abs(hdus["SCI"].data[mask].astype(float) - level).max() < 45
    before, after = stored(path, 1), stored(cleaned, 1)
    assert after.dtype == before.dtype and np.array_equal(after[~mask], before[~mask])
    # The masked file is as ever.
    assert np.array_equal(stored(masked, 1), before)
    with FitsFile(path) as one, FitsFile(cleaned) as other:
        same = [file.path.read_bytes()[file.places[2].start : file.places[2].end] for file in (one, other)]
    assert same[0] == same[1]


def test_uncertainties_of_filled_pixels_are_those_around_them_inflated(tmp_path, stage_with):
    path, planes = tmp_path / "a.fits", {"ERR": 8.0, "VAR": 64.0, "IVAR": 1 / 64}
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(IMAGE, name="SCI")]
    hdus += [fits.ImageHDU(np.full(IMAGE.shape, value, np.float32), name=name) for name, value in planes.items()]
    fits.HDUList(hdus).writeto(path)
    _, cleaned = clean(path, stage_with(clean="surface"))
    with fits.open(cleaned) as found:
        filled = found["CRFILL"].data > 0
        inflation = {name: found[name].data[filled] / value for name, value in planes.items()}
        assert all((found[name].data[~filled] == np.float32(value)).all() for name, value in planes.items())
    assert (inflation["VAR"] > 1).all() and inflation["VAR"].mean() < 1.3
    assert np.allclose(inflation["ERR"] ** 2, inflation["VAR"], rtol=1e-4)
    assert np.allclose(1 / inflation["IVAR"], inflation["VAR"], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "cards", "value", "power"),
    [
        ("UNCERT", {"UTYPE": "InverseVariance"}, 1 / 64, -1),
        ("UNCERT", {"UTYPE": "VarianceUncertainty"}, 64.0, 1),
        ("UNCERT", {"UTYPE": "StdDevUncertainty"}, 8.0, 0.5),
        ("CONF", {}, 1 / 64, -1),
        ("STAT", {"HDUCLAS2": "ERROR", "HDUCLAS3": "RMSE"}, 8.0, 0.5),
        ("STAT", {"HDUCLAS2": "ERROR", "HDUCLAS3": "INVMSE"}, 1 / 64, -1),
    ],
)
def test_what_a_plane_of_uncertainties_holds_is_told_by_cards_before_names(
    name, cards, value, power, tmp_path, stage_with
):
    path = tmp_path / "a.fits"
    plane = fits.ImageHDU(np.full(IMAGE.shape, value, np.float32), name=name)
    plane.header.update(cards)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(IMAGE, name="SCI"), plane]).writeto(path)
    target, cleaned = clean(path, stage_with(clean="none", flag_variance=True))
    with fits.open(target) as marked, fits.open(cleaned) as found:
        filled = found["CRFILL"].data > 0
        assert marked[0].header["CRFLVAR"] == "inf" and not found[0].header["CRFLVAR"]
        assert (found[name].data[filled] == (0 if power < 0 else np.inf)).all()
    path.rename(tmp_path / "b.fits")
    _, cleaned = clean(tmp_path / "b.fits", stage_with(clean="surface"))
    with fits.open(cleaned) as found:
        inflation = found[name].data[filled] / np.float32(value)
    assert ((inflation > 1) == (power > 0)).all() and np.ptp(inflation ** (1 / power)) < 0.5


def test_a_simple_file_without_extensions_gets_its_planes(tmp_path, stage_with):
    path = tmp_path / "a.fits"
    hdu = fits.PrimaryHDU(IMAGE)
    hdu.header["EXTEND"] = False
    hdu.header["NEXTEND"] = 0
    hdu.writeto(path)
    _, cleaned = clean(path, stage_with(clean="median"))
    with fits.open(cleaned) as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "MASK", "CRFILL"]
        assert hdus[0].header["NEXTEND"] == 2 and hdus[0].header["EXTEND"] and hdus[0].header["CRFILL"] == "median"
        kept = hdus["CRFILL"].data == 0
        assert hdus[0].data[HIT].max() < 400 and np.array_equal(hdus[0].data[kept], IMAGE[kept])


def test_a_cleaned_file_that_is_cleaned_again_has_one_plane(tmp_path, stage_with):
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(IMAGE, name="SCI")]).writeto(path)
    _, first = clean(path, stage_with(clean="surface"))
    again = first.rename(tmp_path / "b.fits")
    _, second = clean(again, stage_with(clean="surface"))
    with fits.open(second) as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "SCI", "MASK", "CRFILL"]
        assert np.array_equal(hdus["CRFILL"].data, hdus["MASK"].data != 0)


def test_integers_are_filled_with_their_blank_or_refused(tmp_path, stage_with):
    path, blank = tmp_path / "a.fits", tmp_path / "b.fits"
    for file in (path, blank):
        hdu = fits.PrimaryHDU(IMAGE.astype("i2"))
        if file is blank:
            hdu.header["BLANK"] = -1
        hdu.writeto(file)
    with pytest.raises(FrameError, match="HDU 0 is of integers without a BLANK, which hold no NaN; take another fill"):
        clean(path, stage_with(clean="none"))
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".fits") == ["a.fits", "b.fits"]
    _, cleaned = clean(blank, stage_with(clean="none"))
    with fits.open(cleaned) as hdus:
        assert np.array_equal(np.isnan(hdus[0].data), hdus["CRFILL"].data > 0)


def test_the_command_names_the_file_and_knows_it_again(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(IMAGE).writeto(path)
    arguments = ["run", str(path), "--model", "fast", "--engine", "openvino", "--no-injection"]
    done = CliRunner().invoke(main, [*arguments, "--clean", "--fill", "median"])
    cleaned = tmp_path / "a-crmask-clean.fits"
    assert done.exit_code == 0, done.output
    assert str(cleaned) in done.output and fits.getval(cleaned, "CRFILL") == "median" and is_output(cleaned)
    refused = CliRunner().invoke(main, [*arguments, "--fill", "median"])
    assert refused.exit_code == 2 and "--fill needs --clean" in refused.output


def test_settings_say_what_is_lacking():
    assert MaskSettings(clean="surface").products == ["clean surface"]
