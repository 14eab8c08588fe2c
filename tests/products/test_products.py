"""What is written with a mask: planes, tables and regions, by `run` and `reprocess`."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import sky_image, with_track
from night import NIGHT, folder_of, write_frame
from regions import Regions
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from calibration_dbs.database import open_database
from calibration_dbs.provenance import prune_hits
from calibration_dbs.tables import Hit, Run
from crattn_stage.cli import main
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.nights.execute import execute
from crattn_stage.nights.headers import read_frame_info
from crattn_stage.nights.plan import plan, submit
from crattn_stage.products.hits import COLUMNS, read_hits
from crattn_stage.products.settings import MaskSettings


def crattn(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result


def run(path, folder, *options):
    crattn("run", path, "--output-dir", folder, "--model", "astroscrappy", *options)
    return folder / path.name


def write_mef(path, compressed=False):
    """Write two detectors, each with ERR, IVAR and DQ planes; return their images."""
    hdus, images = [fits.PrimaryHDU()], []
    hdus[0].header.update(INSTRUME="Imager", EXPTIME=60.0, GAIN=2.0, OBSTYPE="object")
    kind = (lambda *a, **k: fits.CompImageHDU(*a, **k, quantize_level=16)) if compressed else fits.ImageHDU
    for version in (1, 2):
        image, _ = with_track(sky_image(seed=version), row=20 * version)
        images.append(image)
        noise = np.random.default_rng(version).uniform(7, 9, image.shape).astype(np.float32)
        for name, plane in (("SCI", image), ("ERR", noise), ("IVAR", 1 / noise**2)):
            hdu = kind(plane, name=name)
            hdu.ver = version
            hdus.append(hdu)
    fits.HDUList(hdus).writeto(path, checksum=True)
    return images


ALL = ("--probability", "--regions", "--hits", "--mask-extension", "--flag-variance", "--grow", 1)


@pytest.mark.parametrize("compressed", [False, True])
def test_every_product_of_a_frame_of_two_detectors(tmp_path, compressed):
    path = tmp_path / "mef.fits"
    write_mef(path, compressed)
    out = run(path, tmp_path / "out", *ALL)
    names = {p.name for p in out.parent.iterdir()}
    assert names == {"mef.fits", "mef-hits.fits", "mef-SCI.reg", "mef-SCI_2.reg"}
    with fits.open(path) as before, fits.open(out, checksum=True) as after:
        masks = {version: after["CRMASK", version].data > 0 for version in (1, 2)}
        for version, mask in masks.items():
            assert mask.any()
            assert np.array_equal(before["SCI", version].data, after["SCI", version].data)
            probability = after["CRPROB", version]
            assert probability.data.dtype == np.float32 and set(np.unique(probability.data)) <= {0.0, 1.0}
            assert (probability.data[mask] > 0).any() and probability.header["CRIMAGE"].startswith("SCI")
            for name, value in (("ERR", np.inf), ("IVAR", 0)):
                one, other = before[name, version].data, after[name, version].data
                assert (other[mask] == value).all()
                # The others bit for bit, lossily compressed before or not.
                assert np.array_equal(one[~mask], other[~mask]) and one.dtype == other.dtype
        assert after[0].header["CRFLVAR"] == "inf"
    table = read_hits(out.with_name("mef-hits.fits"))
    assert set(table.colnames) == {"id", *COLUMNS} and set(table["detector"]) == {"SCI", "SCI,2"}
    assert table["charge"].unit == "electron" and table["charge"].value == pytest.approx(2 * table["counts"])
    with fits.open(out.with_name("mef-hits.fits")) as hdus:
        assert hdus["HITS"].header["CRNHIT"] == len(table) and "DS9" in hdus["HITS"].header["TCOMM4"]
    for name in ("SCI", "SCI_2"):
        text = out.with_name(f"mef-{name}.reg").read_text()
        boxes = Regions.parse(text, format="ds9")
        mine = table[table["detector"] == name.replace("_", ",")]
        assert len(boxes) == len(mine) and text.startswith(f"# EXTNAME {name.replace('_', ',')}\n")
        assert boxes[0].center.x == pytest.approx(mine["x"][0].value, abs=1e-6)


@pytest.mark.parametrize(
    ("setting", "plane", "value"),
    [("nan", np.float32, np.nan), ("zero", np.int16, 0), (None, np.int16, "of integers, which have no value")],
)
def test_what_no_information_is_depends_on_the_camera(tmp_path, monkeypatch, setting, plane, value):
    (tmp_path / "cameras").mkdir()
    lines = ["[[recognise]]", 'INSTRUME = "Imager"', "[settings]", f'no_information = "{setting}"' if setting else ""]
    (tmp_path / "cameras" / "mine.toml").write_text("\n".join(["priority = 90", *lines]))
    monkeypatch.setenv("CRATTN_CAMERAS", str(tmp_path / "cameras"))
    image, hit = with_track(sky_image())
    header = fits.Header([("INSTRUME", "Imager"), ("OBSTYPE", "object")])
    planes = [fits.ImageHDU(np.full(image.shape, 9, plane), name="ERR")]
    fits.HDUList([fits.PrimaryHDU(image, header), *planes]).writeto(tmp_path / "a.fits")
    command = ["run", str(tmp_path / "a.fits"), "--model", "astroscrappy", "--flag-variance"]
    result = CliRunner().invoke(main, command)
    if isinstance(value, str):
        assert result.exit_code == 1 and value in result.stderr and "settles it" in result.stderr
        return
    assert result.exit_code == 0, result.output
    flagged = fits.getdata(tmp_path / "a-crmask.fits", "ERR")
    assert np.isnan(flagged[hit]).all() if value else np.array_equal(flagged[hit], np.zeros(hit.sum()))
    assert flagged.dtype.kind == np.dtype(plane).kind and (flagged == 9).sum() > 0.9 * flagged.size


def test_masked_again_nothing_contradicts_the_mask(tmp_path):
    path = tmp_path / "mef.fits"
    write_mef(path)
    first = run(path, tmp_path / "first", "--probability", "--mask-extension")
    again = run(first, tmp_path / "again", "--grow", 2)
    with fits.open(first) as one, fits.open(again) as two:
        assert [h.name for h in one] == [h.name for h in two]
        assert (two["CRMASK", 1].data > 0).sum() > (one["CRMASK", 1].data > 0).sum()
        assert np.array_equal(one["CRPROB", 1].data, two["CRPROB", 1].data)
    with ObservationFrame(again) as frame:
        assert [e.name for e in frame.extensions] == ["SCI", "SCI,2"]


@pytest.fixture
def database(either_url):
    engine = open_database(either_url)
    yield engine
    engine.dispose()


def test_reprocess_has_the_same_options(tmp_path):
    path = write_frame(tmp_path, 1)
    command = ["reprocess", "--night", NIGHT, "--root", tmp_path, "--model", "astroscrappy", "--grow", 1, "--hits"]
    assert "1 succeeded" in crattn(*command, "--hits-format", "ecsv").stdout
    assert path.with_name(f"{path.stem}-crmask-hits.ecsv").exists()
    assert fits.getval(path.with_name(f"{path.stem}-crmask.fits"), "CRGROW") == 1


def test_products_of_a_night_are_recorded_and_make_frames_out_of_date(tmp_path, database):
    path = write_frame(tmp_path, 1)

    def planned(**masks):
        masks = MaskSettings(**masks)
        (step,) = plan(database, [read_frame_info(path)], "astroscrappy", masks=masks)
        return step, masks

    def mask(**masks):
        step, masks = planned(**masks)
        for number in submit(database, [step], NIGHT, masks=masks):
            execute(database, number)

    def written():
        return {p.name.removeprefix(path.stem) for p in folder_of(tmp_path).iterdir()}

    asked = {"probability": True, "regions": True, "hits": "ecsv"}
    mask(**asked)
    assert written() == {".fits", "-crmask.fits", "-crmask.reg", "-crmask-hits.ecsv"}
    assert not planned(**asked)[0].out_of_date and not planned(regions=True)[0].out_of_date
    with Session(database) as session:
        (row,) = session.scalars(select(Run))
        assert row.settings == {"products": ["CRPROB", "regions", "hits ecsv"]}
        kept = session.execute(select(Hit.__table__)).mappings().all()
        assert {p.rpartition("/")[2].removeprefix(path.stem) for p in row.outputs} == written() - {".fits"}
    table = folder_of(tmp_path) / f"{path.stem}-crmask-hits.ecsv"
    written_hits = read_hits(table)
    assert len(written_hits) == len(kept) >= 1 and written_hits["charge"].unit == "electron"
    for name in COLUMNS:
        value = getattr(written_hits[name][0], "value", written_hits[name][0])
        assert kept[0][name] == (None if value != value else pytest.approx(value) if value.dtype.kind == "f" else value)
    # Without a gain in the header there is no charge, and without a WCS no place on the sky.
    assert kept[0]["charge"] is kept[0]["ra"] is None and kept[0]["counts"] > 1000
    before = table.read_bytes()
    table.write_bytes(b"")
    assert planned(**asked)[0].reason == "its output is not as it was written"
    table.write_bytes(before)
    assert planned(hits="fits")[0].reason == "without hits fits"
    # What is not asked for any more does not outlive the mask that it is of, unless someone has changed it.
    region = folder_of(tmp_path) / f"{path.stem}-crmask.reg"
    region.write_text("mine")
    mask(grow=1)
    assert written() == {".fits", "-crmask.fits", "-crmask.reg"} and region.read_text() == "mine"


def test_run_removes_what_it_wrote_beside_a_file_that_it_replaces(tmp_path, frame_file):
    path = frame_file()
    out = run(path, tmp_path / "out", "--hits")
    assert out.with_name("frame-hits.fits").exists()
    run(path, tmp_path / "out", "--overwrite")
    assert [p.name for p in out.parent.iterdir()] == ["frame.fits"]


def test_an_existing_product_of_another_is_kept(tmp_path, frame_file):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "frame-hits.fits").write_bytes(b"mine")
    arguments = ["run", str(frame_file()), "--output-dir", str(tmp_path / "out"), "--model", "astroscrappy", "--hits"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and "exists; overwrite=True (--overwrite) replaces it" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["frame-hits.fits"]


def test_names_of_detectors_stay_inside_the_folder(tmp_path):
    image, _ = with_track(sky_image())
    path = tmp_path / "odd.fits"
    names = ("../../A SCI", "../../B SCI", "A SCI")
    header = fits.Header([("INSTRUME", "DECam")])
    fits.HDUList([fits.PrimaryHDU(header=header), *(fits.ImageHDU(image, name=n) for n in names)]).writeto(path)
    out = run(path, tmp_path / "out", "--regions")
    written = sorted(p.name for p in out.parent.iterdir())
    assert written == ["odd-A_SCI.reg", "odd-_A_SCI.reg", "odd-_B_SCI.reg", "odd.fits"]


def test_usage(tmp_path, frame_file):
    result = CliRunner().invoke(main, ["run", str(frame_file()), "--hits-format", "ecsv"])
    assert result.exit_code == 2 and "--hits-format needs --hits" in result.stderr


def test_hits_are_kept_by_age(tmp_path, database):
    path = write_frame(tmp_path, 1)
    masks = MaskSettings(hits="fits")
    steps = plan(database, [read_frame_info(path)], "astroscrappy", masks=masks)
    for number in submit(database, steps, NIGHT, masks=masks):
        execute(database, number)

    def count():
        with Session(database) as session:
            return session.scalar(select(func.count()).select_from(Hit))

    kept, now = count(), datetime.now(UTC)
    assert kept >= 1 and prune_hits(database, now - timedelta(days=1)) == 0
    assert prune_hits(database, now + timedelta(days=1), dry_run=True) == kept == count()
    assert prune_hits(database, now + timedelta(days=1)) == kept and count() == 0
    # The frame stays up to date: its table of hits is there.
    assert not plan(database, [read_frame_info(path)], "astroscrappy", masks=masks)[0].out_of_date


def test_pruning_says_what_it_deletes():
    assert "deleted 0 hits" in crattn("db", "prune", "--hits-older-than", 30).stdout
    assert CliRunner().invoke(main, ["db", "prune"]).exit_code == 2
