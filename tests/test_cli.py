"""The command line, end to end, on good and on bad input."""

import gzip
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import need, sky_image, with_track
from sqlalchemy import create_engine, text

from calibration_dbs.database import connect, open_database
from crattn_stage.cameras.profile import profiles
from crattn_stage.cli import main
from crattn_stage.errors import FrameError
from crattn_stage.models import cards as models
from crattn_stage.stage import AttentionCRStage, RuntimeContext

MODEL = ("--model", "att-deepcr")


def crattn(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def rows(query):
    database = create_engine(os.environ["CRATTN_DB"])
    with database.connect() as connection:
        found = connection.execute(text(query)).all()
    database.dispose()
    return found


def test_run_masks_flags_and_records(frame_file, tmp_path):
    path = frame_file(EXPTIME=90.0, **{"DAY-OBS": "20130105"})
    out = tmp_path / "out"
    result = crattn("run", path, "--output-dir", out, "--preview", "--mask-extension", *MODEL)
    assert result.exit_code == 0, result.output
    assert f"{path}: 1 cosmic ray," in result.output
    assert sorted(p.name for p in out.iterdir()) == ["frame.fits", "frame.png"]
    assert (out / "frame.png").read_bytes().startswith(b"\x89PNG")
    _, hit = with_track(sky_image())
    with fits.open(out / "frame.fits") as hdus:
        found = hdus["MASK"].data == 8
        assert found[hit].mean() > 0.95 and np.array_equal(hdus["CRMASK"].data.astype(bool), found)
        header = hdus[0].header
        assert np.array_equal(hdus[0].data, fits.getdata(path))
    card = models.read_card("att-deepcr")
    assert header["CRMODSHA"] == card.sha256[:16] and header["CRPMIN"] == card.threshold
    assert header["CRNPIX"] == found.sum() and len(header["HISTORY"]) == 1
    ((status, sha, night, pixels, hits),) = rows(
        "select status, sha256, night, pixels, hits from runs join models on models.id = model_id "
        "join frames on frames.id = frame_id"
    )
    assert (status, sha, night, pixels, hits) == ("succeeded", card.sha256, "20130105", found.sum(), 1)


def test_output_lies_beside_the_input_by_default(frame_file, tmp_path):
    assert crattn("run", frame_file("a.b.fits"), *MODEL).exit_code == 0
    assert (tmp_path / "a.b-crmask.fits").exists()


@pytest.mark.parametrize("name", ["att-deepcr", "att-cosmic-conn"])
def test_running_twice_gives_the_same_file(frame_file, tmp_path, name):
    path = frame_file()
    one, two, over = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    for source, folder in ((path, one), (path, two), (one / "frame.fits", over)):
        assert crattn("run", source, "--output-dir", folder, "--model", name).exit_code == 0
    first = (one / "frame.fits").read_bytes()
    assert first == (two / "frame.fits").read_bytes()
    assert first == (over / "frame.fits").read_bytes()


def test_a_second_run_keeps_what_is_there(frame_file, tmp_path):
    path = frame_file()
    assert crattn("run", path, *MODEL).exit_code == 0
    out = tmp_path / "frame-crmask.fits"
    before = out.read_bytes(), out.stat().st_mtime_ns
    result = crattn("run", path, *MODEL)
    assert result.exit_code == 1 and "exists; overwrite=True (--overwrite) replaces it" in result.output
    assert before == (out.read_bytes(), out.stat().st_mtime_ns)
    assert crattn("run", path, "--overwrite", *MODEL).exit_code == 0


def test_calibration_frames_are_skipped_and_said(frame_file, tmp_path):
    result = crattn("run", frame_file(OBSTYPE="BIAS"), *MODEL)
    assert result.exit_code == 0 and "skipped, bias frame" in result.output
    assert not (tmp_path / "frame-crmask.fits").exists()
    assert rows("select status from runs") == [("skipped",)]
    result = crattn("run", frame_file("dark.fits", IMAGETYP="Dark Frame"), *MODEL)
    assert "skipped, dark frame\n" in result.output


def write_hdu(path, data, **header):
    hdu = fits.PrimaryHDU(data)
    hdu.header.update(header)
    hdu.writeto(path)


def truncate(path, keep):
    write_hdu(path, sky_image())
    with open(path, "r+b") as stream:
        stream.truncate(keep)


def gzip_cut(path):
    write_hdu(path, sky_image())
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[: len(packed) // 2])


#: What is put in a file -> what must be said of it.
BAD_INPUT = {
    "text": (lambda p: p.write_text("SIMPLE minded, not FITS"), "not a FITS file"),
    "other": (lambda p: p.write_text("GIF89a"), "not a FITS file"),
    "empty": (lambda p: p.write_bytes(b""), "empty file"),
    "header cut": (lambda p: truncate(p, 1000), "not a FITS file|truncated"),
    "pixels cut": (lambda p: truncate(p, 20000), "truncated"),
    "gzip cut": (gzip_cut, "truncated or damaged"),
    "no image": (lambda p: write_hdu(p, None), "no image in it"),
    "table only": (
        lambda p: fits.HDUList(
            [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("A", "D", array=[1.0])])]
        ).writeto(p),
        "no image in it",
    ),
    "1-D": (lambda p: write_hdu(p, np.zeros(50)), r"no 2-D image in it \(HDU 0 .*1-dimensional\)$"),
    "3-D": (lambda p: write_hdu(p, np.zeros((3, 20, 20))), "3-dimensional"),
    "zero-sized": (lambda p: write_hdu(p, np.zeros((0, 20))), "zero-sized image"),
    "all NaN": (lambda p: write_hdu(p, np.full((40, 40), np.nan)), "no usable pixel"),
    "one value": (lambda p: write_hdu(p, np.full((40, 40), 7.0)), "no usable pixel"),
    "section": (lambda p: write_hdu(p, sky_image(), DATASEC="[1:100;1:100]"), "malformed section DATASEC"),
    "outside": (lambda p: write_hdu(p, sky_image(), DATASEC="[1:400,1:100]"), "lies outside the image"),
    "missing": (lambda p: None, "No such file"),
    "a folder": (lambda p: p.mkdir(), "is a directory"),
}


@pytest.mark.parametrize("kind", BAD_INPUT)
def test_bad_input_is_named_with_its_cause_and_the_rest_goes_on(kind, frame_file, tmp_path):
    make, cause = BAD_INPUT[kind]
    bad, out = tmp_path / "bad.fits", tmp_path / "out"
    make(bad)
    result = crattn("run", bad, frame_file(), "--output-dir", out, *MODEL)
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert line.startswith(f"{bad}: ")
    assert re.search(cause, line), line
    assert [p.name for p in out.iterdir()] == ["frame.fits"]
    assert sorted(rows("select status from runs")) == [("failed",), ("succeeded",)]
    assert rows("select error from runs where status = 'failed'")[0][0] in line


def test_a_damaged_fpacked_image_is_named(tmp_path):
    bad, out = tmp_path / "bad.fits.fz", tmp_path / "out"
    image = fits.CompImageHDU(np.arange(10000, dtype=np.int32).reshape(100, 100), compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(bad)
    content = bytearray(bad.read_bytes())
    start = content.index(b"\x1f\x8b")
    content[start : start + 40] = b"\xff" * 40
    bad.write_bytes(content)
    result = crattn("run", bad, "--output-dir", out, *MODEL)
    assert result.exit_code == 1 and result.stderr.startswith(f"{bad}: cannot read the pixels of HDU 1")
    assert list(out.iterdir()) == []


def test_a_whole_folder_of_the_community_pipeline(tmp_path):
    image, hit = with_track(sky_image())
    plane = np.zeros(image.shape, np.int16)
    for kind, product, data in (("ooi", "image", image), ("ood", "dqmask", plane), ("oow", "wtmap", image * 0 + 1)):
        primary = fits.PrimaryHDU()
        primary.header.update(INSTRUME="DECam", OBSTYPE="object", PRODTYPE=product, PROCTYPE="InstCal")
        fits.HDUList([primary, fits.CompImageHDU(data, name="N4")]).writeto(tmp_path / f"c4d_{kind}_r.fits.fz")
    files, out = sorted(tmp_path.glob("*.fz")), tmp_path / "out"
    result = crattn("run", *files, "--output-dir", out, *MODEL)
    assert result.exit_code == 0, result.stderr
    assert "ood_r.fits.fz: skipped, mask frame" in result.output
    assert sorted(p.name for p in out.iterdir()) == ["c4d_ood_r.fits.fz", "c4d_ooi_r.fits.fz"]
    found = fits.getdata(out / "c4d_ood_r.fits.fz") == 5
    assert found[hit].mean() > 0.95
    assert fits.getheader(out / "c4d_ooi_r.fits.fz", 1)["CRNPIX"] == found.sum()


def test_output_of_ours_is_not_masked_again(frame_file, tmp_path):
    frame_file()
    for count in (2, 2):
        crattn("run", *sorted(tmp_path.glob("*.fits")), "--overwrite", *MODEL)
        assert len(list(tmp_path.glob("*.fits"))) == count


def test_a_failed_preview_leaves_no_frame(frame_file, tmp_path, monkeypatch):
    def fail(*_):
        raise FrameError("cannot draw")

    monkeypatch.setattr("crattn_stage.products.preview.drawn", fail)
    out = tmp_path / "out"
    result = crattn("run", frame_file(), "--output-dir", out, "--preview", *MODEL)
    assert result.exit_code == 1 and "cannot draw" in result.stderr
    assert list(out.iterdir()) == [] and rows("select status from runs") == [("failed",)]


def test_a_frame_that_cannot_be_masked_anew_keeps_its_preview(frame_file, tmp_path, monkeypatch):
    path, out = frame_file(), tmp_path / "out"
    command = ("run", path, "--output-dir", out, "--preview", "--overwrite", *MODEL)
    assert crattn(*command).exit_code == 0
    before = {file: file.read_bytes() for file in out.iterdir()}

    def full(*_, **__):
        raise FrameError("disk full")

    monkeypatch.setattr("crattn_stage.fits.frame.ObservationFrame.write", full)
    with fits.open(path, mode="update") as hdus:
        hdus[-1].data[:20] += 50
    result = crattn(*command)
    assert result.exit_code == 1 and "disk full" in result.stderr
    assert {file: file.read_bytes() for file in out.iterdir()} == before and len(before) == 2


@pytest.fixture
def nobody():
    """Be a user who may not read or write everything, with a folder of one's own; root may."""
    folder = Path(tempfile.mkdtemp(prefix="crattn-"))
    folder.chmod(0o777)
    open_database(f"sqlite:///{folder / 'p.sqlite'}").dispose()
    root = os.geteuid() == 0
    if root:
        for path in folder.iterdir():
            os.chown(path, 65534, -1)
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


@pytest.fixture
def torch_stage():
    """A stage that runs as whoever one is; OpenVINO dies in a process that has changed its user."""
    # As whom the package's own files can be read.
    profiles()
    return AttentionCRStage(RuntimeContext("att-deepcr", engine="float32"))


def test_unreadable_and_unwritable_paths(frame_file, torch_stage, nobody, monkeypatch):
    # The stage is loaded and the database made before, as whom the package's own files can be read.
    monkeypatch.setattr("crattn_stage.cli.frames.load_stage", lambda *_: torch_stage)
    monkeypatch.setattr("calibration_dbs.database.open_database", connect)
    monkeypatch.setenv("CRATTN_DB", f"sqlite:///{nobody / 'p.sqlite'}")
    secret, good, closed = nobody / "secret.fits", nobody / "good.fits", nobody / "closed"
    for path in (secret, good):
        write_hdu(path, sky_image())
    secret.chmod(0)
    closed.mkdir(mode=0o555)
    result = crattn("run", secret, "--output-dir", nobody / "out")
    assert (result.exit_code, result.stderr) == (1, f"{secret}: Permission denied\n")
    result = crattn("run", good, "--output-dir", closed)
    assert (result.exit_code, result.stderr) == (1, f"{good}: cannot write {closed / 'good.fits'}: Permission denied\n")
    assert list(closed.iterdir()) == []
    result = crattn("run", good, "--output-dir", closed / "deeper")
    assert (result.exit_code, result.stderr) == (1, f"{closed / 'deeper'}: Permission denied\n")


def test_a_full_disk_leaves_no_file(frame_file, tmp_path):
    """A limit on the size of files stands for the disk: the write fails half-way in the same way."""
    out = tmp_path / "out"
    big = tmp_path / "big.fits"
    write_hdu(big, sky_image((600, 300)))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    command = [sys.executable, "-m", "crattn_stage.cli", "run", big, "--output-dir", out, *MODEL]
    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert result.returncode == 1
    assert result.stderr.strip() == f"{big}: cannot write {out / 'big.fits'}: File too large"
    assert list(out.iterdir()) == []
    assert rows("select status from runs") == [("failed",)]


def test_a_disk_that_is_full_leaves_no_file(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False
    )
    need(mounted.returncode == 0, "needs the right to mount a small disk")
    try:
        big = tmp_path / "big.fits"
        write_hdu(big, sky_image((600, 300)))
        result = crattn("run", big, "--output-dir", disk, *MODEL)
        assert result.exit_code == 1
        assert result.stderr.strip() == f"{big}: cannot write {disk / 'big.fits'}: No space left on device"
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_two_inputs_of_one_name_do_not_overwrite_each_other(frame_file, tmp_path):
    (tmp_path / "night").mkdir()
    one = frame_file()
    two = tmp_path / "night" / "frame.fits"
    write_hdu(two, sky_image(seed=5))
    result = crattn("run", one, two, "--output-dir", tmp_path / "out", "--overwrite", *MODEL)
    assert result.exit_code == 1 and "another input with the same name was already written" in result.stderr
    assert np.array_equal(fits.getdata(tmp_path / "out" / "frame.fits"), fits.getdata(one))


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda w: w.write_bytes(w.read_bytes()[:-9]), "its card says"),
        (lambda w: w.write_bytes(pickle.dumps({"a": 1})), "its card says"),
        (lambda w: w.with_suffix(".json").unlink(), "not a valid model card"),
        (lambda w: w.unlink(), "unknown model"),
    ],
)
def test_a_bad_model_stops_before_any_frame(spoil, cause, frame_file, tmp_path):
    for suffix in (".safetensors", ".json"):
        shutil.copy(models.WEIGHTS / f"att-deepcr{suffix}", tmp_path / f"mine{suffix}")
    weights = tmp_path / "mine.safetensors"
    spoil(weights)
    result = crattn("run", frame_file(), "--output-dir", tmp_path / "out", "--model", weights)
    assert result.exit_code == 1 and cause in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_wrong_usage_exits_2(frame_file):
    assert crattn("run").exit_code == 2
    frame = frame_file()
    for threshold in ("7", "nan"):
        assert crattn("run", frame, "--threshold", threshold).exit_code == 2
    assert crattn("fly").exit_code == 2


def test_a_database_that_cannot_be_opened_is_said_without_its_password(frame_file):
    result = crattn("run", frame_file(), "--db", "sqlite:////proc/none/p.sqlite", *MODEL)
    assert result.exit_code == 1 and "provenance database" in result.stderr
    result = crattn("run", frame_file("b.fits"), "--db", "nonsense://me:secret@there/x", *MODEL)
    assert result.exit_code == 1 and "secret" not in result.output and len(result.stderr.splitlines()) == 1


def test_models_can_be_listed_shown_and_verified(tmp_path):
    listed = crattn("models", "list").stdout
    assert all(name in listed for name in models.shipped()) and "(default)" in listed
    assert json.loads(crattn("models", "show", "att-deepcr").stdout)["architecture"] == "att-deepcr"
    assert crattn("models", "verify").exit_code == 0
    assert crattn("models", "show", "none").exit_code == 1


def test_a_released_checkpoint_is_imported_and_runs(data, tmp_path, frame_file):
    checkpoint = data / "reference_checkpoints" / "Att_Coasmic_CoNN.pth"
    arguments = (
        "models",
        "import",
        checkpoint,
        "--architecture",
        "att-cosmic-conn",
        "--output-dir",
        tmp_path,
        "--name",
        "ref",
    )
    assert crattn(*arguments).exit_code == 0
    assert crattn(*arguments).exit_code == 1  # it exists
    weights = tmp_path / "ref.safetensors"
    assert crattn("models", "verify", weights).exit_code == 0
    assert crattn("run", frame_file(), "--model", weights, "--output-dir", tmp_path / "out").exit_code == 0
    assert fits.getval(tmp_path / "out" / "frame.fits", "L1IDCR") == "ref"
    wrong = crattn("models", "import", checkpoint, "--architecture", "deepcr", "--output-dir", tmp_path)
    assert wrong.exit_code == 1 and "not weights of deepcr" in wrong.stderr


def test_an_imported_model_has_a_name_and_not_a_path(data, tmp_path):
    checkpoint = data / "reference_checkpoints" / "deepCR.pth"
    options = ("--architecture", "deepcr", "--output-dir", tmp_path / "models", "--name", "../escaped")
    assert crattn("models", "import", checkpoint, *options).exit_code == 1
    assert not list(tmp_path.glob("*.safetensors"))


def test_the_same_file_has_one_row_however_it_is_named(frame_file, tmp_path):
    path = frame_file()
    (tmp_path / "sub").mkdir()
    for number, name in enumerate((path, tmp_path / "sub" / ".." / path.name)):
        assert crattn("run", name, "--output-dir", tmp_path / str(number), *MODEL).exit_code == 0
    assert rows("select count(*) from frames") == [(1,)] and rows("select count(*) from runs") == [(2,)]


def test_db_commands(tmp_path):
    missing = crattn("db", "current")
    assert missing.exit_code == 1 and "no such file" in missing.stderr and not list(tmp_path.glob("*.sqlite"))
    assert crattn("db", "upgrade").exit_code == 0
    assert re.search(r"revision (\w+), newest \1$", crattn("db", "current").stdout.strip())


def test_demo_finds_what_it_simulated(tmp_path):
    result = crattn("demo", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    numbers = [float(line.split()[1].rstrip("%")) for line in result.stdout.splitlines() if "%" in line]
    completeness, precision = numbers
    assert completeness > 90 and precision > 95
    with fits.open(tmp_path / "demo" / "demo-masked.fits") as hdus, fits.open(tmp_path / "demo" / "demo.fits") as raw:
        assert [h.name for h in hdus] == ["PRIMARY", "S29", "N31", "MASK", "MASK"]
        for name in ("S29", "N31"):
            assert np.array_equal(hdus[name].data, raw[name].data)
            assert hdus[name].header["CRSTAR"] < 0.05
    assert (tmp_path / "demo" / "demo.png").stat().st_size > 10_000
    again = crattn("demo", tmp_path / "demo")
    assert again.exit_code == 1 and "--overwrite" in again.stderr


def test_nothing_but_lines_when_not_on_a_terminal(frame_file, tmp_path):
    command = [sys.executable, "-m", "crattn_stage.cli", "run", frame_file(), "--output-dir", tmp_path / "out", *MODEL]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == "" and len(result.stdout.splitlines()) == 2
