import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from training_support import few_planes_fixture  # noqa: F401

from training.commands import main
from training.data.darks import defects, hits_of_darks, master_dark, read_darks
from training.data.hits import read_footprints, write_footprints
from training.data.library import Skies


def test_hits_of_darks_are_found_and_kept_in_a_catalogue(tmp_path):
    rng = np.random.default_rng(4)
    shape, gain, level, sigma = (200, 220), 2.0, 50.0, 3.0
    hit = np.zeros((3, 9), np.float32)
    hit[1], hit[0, 6:] = 400, 200
    darks = [rng.normal(level, sigma, shape).astype(np.float32) for _ in range(3)]
    bad = np.zeros(shape, bool)
    bad[:, 100] = True
    for row, column in ((20, 30), (150, 170), (60, 96), (0, 60), (90, 213)):
        # The first two are clean; one crosses the bad column, two are cut by the edge.
        seen = darks[0][row : row + 3, column : column + 9]
        seen += hit[:, : seen.shape[1]]
    for dark in darks:
        dark[180, 20:22] += 500  # hot pixels: in every dark
    darks[1][100, 40] += 500  # a single pixel
    stamps = hits_of_darks(darks, bad, gain)
    assert len(stamps) == 2
    for stamp in stamps:
        assert abs(stamp.sum() - gain * hit.sum()) < 12 * gain * sigma * 4
        assert 12 <= (stamp > 0).sum() <= 16
    write_footprints(tmp_path / "hits.fits", stamps * 10)
    splits = {split: read_footprints(tmp_path / "hits.fits", split) for split in ("train", "validation", "test")}
    assert [len(s) for s in splits.values()] == [16, 2, 2]
    assert np.array_equal(splits["validation"][0], stamps[0])


def test_build_makes_a_library_that_training_reads(tmp_path):
    rng = np.random.default_rng(1)
    for number in range(2):
        dark = rng.normal(10, 2, (120, 120)).astype(np.float32)
        dark[40:42, 30:60] += 300 * (number + 1)
        fits.PrimaryHDU(dark).writeto(tmp_path / f"dark{number}.fits")
    target = tmp_path / "hits.fits"
    darks = [str(tmp_path / f"dark{n}.fits") for n in range(2)]
    done = CliRunner().invoke(main, ["build", *darks, "--output", str(target)])
    assert done.exit_code == 0 and "2 hits" in done.output
    assert len(Skies("train", hits=target).hits) == 3


def darks(count, shape=(120, 120), seed=1, warm=()):
    """Return darks of 10 ADU, noise of 2 ADU, and pixels that are warm in all of them."""
    rng = np.random.default_rng(seed)
    images = [rng.normal(10, 2, shape).astype(np.float32) for _ in range(count)]
    for image in images:
        for place in warm:
            image[place] += 40
    return images


def test_pairs_of_hot_pixels_and_bad_columns_are_no_hits():
    images = darks(5, warm=[np.s_[50, 60:62], np.s_[30:110, 90]])
    # A pair that telegraph noise lifts in two darks of five, and a hit.
    images[1][20, 20:22] += 60
    images[3][20, 20:22] += 60
    images[2][80:83, 40] += 300
    (hit,) = hits_of_darks(images)
    assert abs(hit.sum() - 900) < 40
    known = defects(master_dark(images), 2.0)
    assert known[50, 60:62].all() and known[30:110, 90].all() and known.sum() < 120


def test_faint_bad_columns_are_found_by_ccdmask():
    images = darks(5)
    for image in images:
        image[:, 33] += 6
    known = defects(master_dark(images), 2.0)
    assert known[:, 33].mean() > 0.5 and known[:, 34:].mean() < 0.01


def test_two_darks_are_too_few_to_know_hot_pixels_and_that_is_said(caplog):
    assert len(hits_of_darks(darks(2, warm=[np.s_[50, 60:62]]))) == 2
    assert "too few to find hot pixels" in caplog.text


def test_the_master_is_the_median_without_what_is_not_finite():
    images = [np.full((4, 4), value, np.float32) for value in (1, 2, 9)]
    images[2][0, 0] = np.nan
    master = master_dark(images)
    assert master[0, 0] == 1.5 and (np.delete(master.ravel(), 0) == 2).all()


def test_darks_are_sorted_by_exposure_and_keep_the_gain_of_egain(tmp_path, caplog):
    for number, (image, exposure) in enumerate(zip(darks(4), (60, 60, 120, 60), strict=True)):
        hdu = fits.PrimaryHDU(image)
        hdu.header.update({"EXPTIME": float(exposure), "EGAIN": 1.49})
        hdu.writeto(tmp_path / f"dark{number}.fits")
    stacks = read_darks(sorted(tmp_path.glob("dark*.fits")))
    assert [(stack.exposure, len(stack.images), stack.gain) for stack in stacks] == [(60, 3, 1.49), (120, 1, 1.49)]
    assert not caplog.messages
    fits.PrimaryHDU(darks(1)[0]).writeto(tmp_path / "plain.fits")
    assert read_darks([tmp_path / "plain.fits"])[0].gain == 1 and "no gain in the header" in caplog.text
    fits.PrimaryHDU(np.ones((9, 9), np.float32)).writeto(tmp_path / "other.fits")
    with pytest.raises(ValueError, match="not of one detector"):
        read_darks([tmp_path / "plain.fits", tmp_path / "other.fits"])


def test_hits_of_a_real_small_camera(data, tmp_path):
    paths = sorted((data / "st402").glob("*neon*DARK.fits.fz"))
    done = CliRunner().invoke(main, ["build", *map(str, paths), "--output", str(tmp_path / "hits.fits")])
    assert done.exit_code == 0, done.output
    stamps = [
        stamp for split in ("train", "validation", "test") for stamp in read_footprints(tmp_path / "hits.fits", split)
    ]
    # 5 x 1200 s of 0.5 square centimetres or less; muons leave some thousand electrons in thin silicon.
    assert 60 < len(stamps) < 400 and 800 < np.median([stamp.sum() for stamp in stamps]) < 5000
