import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.io import fits
from click.testing import CliRunner
from conftest import ROOT
from scipy.ndimage import maximum_filter
from scipy.special import logit
from scipy.stats import t as student

from benchmarks import adapt as bench
from crattn_stage import load_model
from crattn_stage.detection.model import Conditions, CosmicRayModel
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.fits.frame import bad_pixels as detector_bad_pixels
from crattn_stage.models import cards
from crattn_stage.simulation.skies import moffat_psf, simulate_sky
from training import adapt as adapting
from training.commands import main
from training.data.bad_pixels import bad_pixels, write_bad_pixels
from training.data.camera import NOISE_LEVELS, Camera, measure, read_exposures, width_of
from training.data.camera_skies import HELD_OUT, CameraSkies
from training.data.contamination import Scene
from training.data.hits import read_footprints
from training.data.skies import Sky
from training.evaluation import adaptation
from training.evaluation.adaptation import Compared, Difference, Looked, OwnScenes, compare

#: Makes everything small; also for the process that is killed.
SMALL = {
    "benchmarks.adapt.SHAPE": (224, 256),
    "benchmarks.adapt.HITS_OF_A_DARK": 12,
    "benchmarks.adapt.HITS_OF_A_FRAME": 6,
    "training.data.library.PSFS": 3,
    "training.data.library.SPECTRA": 2,
    "training.data.library.SIMULATED_HITS": 60,
    "training.evaluation.adaptation.THRESHOLDS": (0.02, 0.1, 0.5, 0.9),
    "training.data.camera_skies.PLANES": 3,
    "training.data.camera_skies.PSFS": 3,
    "training.data.camera_skies.FILLERS": 20,
    "training.evaluation.adaptation.COUNT": 2,
    "training.evaluation.adaptation.SIDE": 192,
    "training.evaluation.adaptation.GENERIC": ("sky:1000",),
    "training.evaluation.adaptation.GENERIC_NARROW": ("stars:1.5",),
    "training.evaluation.adaptation.WIDTHS": (2.5,),
    "training.evaluation.scene_sets.SIDE": 192,
    "training.evaluation.empty.STARS": 16,
    "training.export.RANGE_PATCHES": 2,
    "training.adapt.KEEPS": (0.0,),
}


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(name, value)
        yield


@pytest.fixture(scope="module", name="files")
def files_fixture(_small, tmp_path_factory):
    """Darks and frames of the simulated camera, and the camera."""
    return bench.write(tmp_path_factory.mktemp("camera"), darks=4, frames=4)


@pytest.fixture(scope="module", name="model")
def model_fixture():
    return load_model("fast", "torch")


@pytest.fixture(scope="module", name="camera")
def camera_fixture(files, model):
    lines = []
    darks, frames = (read_exposures(files[i], kind, lines.append) for i, kind in ((0, "dark"), (1, "frame")))
    assert not lines
    return measure(darks, frames, [], model, lines.append), lines


def test_a_camera_is_measured_on_its_darks_and_frames(files, camera):
    (measured, lines), hot = camera, files[2].hot
    # 12 hits in each of four darks; some of them are cut by an edge, some lie on each other or are too faint.
    assert 30 <= len(measured.hits) <= 48
    assert abs(measured.hot_fraction / (hot > 0).mean() - 1) < 0.05
    assert ((measured.hot[0] > 0) == (hot > 0)).mean() > 0.9998
    assert abs(measured.fwhm - bench.FWHM) < 0.15
    # Sigma is a robust one; the tail of one pixel in a thousand is that of Student's t.
    scale = student(bench.TAILS)
    expected = scale.ppf(1 - 0.5e-3) / (scale.ppf(0.75) * 1.4826)
    noise = np.interp(1 - 1e-3, NOISE_LEVELS, measured.noise)
    assert abs(noise / expected - 1) < 0.15
    assert measured.step == 1 and len(measured.train) == 2 and len(measured.test) == 1
    text = "\n".join(lines)
    assert "hits in the darks: charge" in text and "held out: light2.fits (threshold) and light3.fits" in text


def test_hits_of_a_split_are_in_no_other_and_frames_neither(camera):
    measured, _ = camera
    skies = {split: CameraSkies(measured, split, generic=0) for split in ("train", "validation", "test")}
    for split, own in skies.items():
        numbers = [n for n in range(len(measured.hits)) if HELD_OUT.get(n % 4, "train") == split]
        assert len(own.own) == len(numbers) > 0
        assert all(one is measured.hits[n] for one, n in zip(own.own, numbers, strict=True))
    assert skies["test"].hits == skies["test"].own and len(skies["train"].hits) > len(skies["train"].own)
    others = [{stamp.tobytes() for stamp in own.others} for own in skies.values()]
    assert not others[0] and min(map(len, others[1:])) > 20 and not others[1] & others[2]
    assert "dark" in skies["train"].kinds and "dark" not in skies["test"].kinds
    assert skies["train"].skies["frame"][0] is measured.train[0]


def test_simulated_and_mirrored_skies_are_as_noisy_and_hot_as_the_camera(files, camera):
    measured, _ = camera
    skies = CameraSkies(replace(measured, density=0.0), "test", generic=0)
    plane = skies.simulate(np.random.default_rng(1), 256)
    assert abs(plane.sigma / np.median([numbers[1] for numbers in measured.levels]) - 1) < 0.25
    lone = plane.image - maximum_filter(plane.image, footprint=np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]))
    assert 0.3 < (lone > 6 * plane.sigma).mean() / measured.hot_fraction < 2
    (mirrored,) = skies.skies["mirrored"]
    hot = (files[2].hot > 10) & ~mirrored.bad
    assert hot.sum() > 20 and ((mirrored.image - mirrored.level)[hot] > 3 * mirrored.sigma).mean() > 0.9
    # No star is left, none is a hole.
    assert ((mirrored.image - mirrored.level < -12 * mirrored.sigma) & ~mirrored.bad).sum() == 0
    mixed = CameraSkies(measured, "train", generic=0.5)
    drawn = [mixed.draw(np.random.default_rng(n), 64) for n in range(12)]
    assert {sky.most_hits for sky, _ in drawn} == {None, 8} and all(sky.image.shape == (64, 64) for sky, _ in drawn)


def test_the_width_of_stars_follows_from_their_peaks():
    for fwhm in (1.2, 2.0, 4.0):
        assert abs(width_of(np.median(moffat_psf(fwhm, 4.0, 4).max((2, 3)))) / fwhm - 1) < 0.03


def test_what_cannot_be_used_is_left_out_with_a_line_each(files, tmp_path):
    darks, frames, _ = files
    content = darks[0].read_bytes()
    (tmp_path / "cut.fits").write_bytes(content[: len(content) // 2])
    (tmp_path / "junk.fits").write_bytes(b"SIMPLE  =" + bytes(range(256)) * 20)
    fits.PrimaryHDU(np.full((224, 256), 65535, np.uint16)).writeto(tmp_path / "full.fits")
    noise = np.random.default_rng(0).normal(100, 5, (300, 400)).astype(np.float32)
    fits.PrimaryHDU(noise).writeto(tmp_path / "large.fits")
    fits.PrimaryHDU(noise[:50, :50].copy()).writeto(tmp_path / "small.fits")
    # A frame of the sky that says that it is a dark, and one that says what it is.
    with fits.open(frames[3]) as hdus:
        hdus[0].header.update(IMAGETYP="Dark Frame", EXPTIME=1200.0)
        hdus.writeto(tmp_path / "light.fits")
    odd = [tmp_path / f"{name}.fits" for name in ("cut", "junk", "full", "large", "small", "light", "none\x1b")]
    lines = []
    kept = read_exposures([*darks, *odd, frames[1], darks[0]], "dark", lines.append)
    assert [exposure.path for exposure in kept] == darks
    assert len(lines) == 9 and all(line.count("\n") == 0 and ": left out: " in line for line in lines)
    said = dict(line.split(": left out: ") for line in lines)
    assert "stars per megapixel" in said[str(tmp_path / "light.fits")]
    assert "saturated" in said[str(tmp_path / "full.fits")]
    assert "smaller than" in said[str(tmp_path / "small.fits")]
    assert said[str(tmp_path / "large.fits")] == "400x300 pixels, others have 256x224"
    assert said[str(frames[1])].startswith("not a dark") and "same file" in said[str(darks[0])]
    lines.clear()
    with pytest.raises(ValueError, match="none of the 2 files given as frames can be used"):
        read_exposures([darks[0], tmp_path / "junk.fits"], "frame", lines.append)
    assert lines[0].endswith("left out: not a frame of the sky: dark frame")


@pytest.mark.parametrize("names", [["SCI"], ["N1", "N2"], ["SCI", "SCI"]])
def test_bad_pixels_are_written_where_they_are_on_the_detector(names, tmp_path):
    # Two amplifiers, with overscan between them; small ones are not looked at.
    cards_of = {"DATASECA": "[1:200,1:180]", "DATASECB": "[225:424,1:180]", "GAINA": 2.0, "GAINB": 2.0}
    hdus = [fits.PrimaryHDU(header=fits.Header({"INSTRUME": "Twocam"}))]
    rng = np.random.default_rng(0)
    hdus += [fits.ImageHDU(np.float32(rng.normal(9, 1, (180, 424))), fits.Header(cards_of), name=n) for n in names]
    for version, hdu in enumerate(hdus[1:] if len(set(names)) < len(names) else [], 1):
        hdu.ver = version
    fits.HDUList(hdus).writeto(tmp_path / "raw.fits")
    planes = [np.zeros((180, 200), np.float32) for _ in range(2 * len(names))]
    for number, plane in enumerate(planes):
        plane[10, 20 + number] = 5
    columns = [plane > 9 for plane in planes]
    columns[0][50:90, 7] = True
    found = bad_pixels(Camera(hot=planes, bad=columns))
    write_bad_pixels(tmp_path / "bad.fits", found, tmp_path / "raw.fits")
    with ObservationFrame(tmp_path / "raw.fits") as frame:
        for number, extension in enumerate(frame.extensions):
            expected = np.zeros((180, 424), bool)
            expected[10, 20 + 2 * number] = expected[10, 224 + 21 + 2 * number] = True
            expected[50:90, 7] = not number
            assert np.array_equal(detector_bad_pixels(tmp_path / "bad.fits", extension), expected)
    assert not bad_pixels(Camera()) and bad_pixels(Camera(bad=columns))[0].max() == 2
    # Columns of darks that are larger than the frames are of no use.
    other = bad_pixels(Camera(hot=planes[:1], bad=[np.ones((300, 300), bool)]))
    assert other[0].sum() == 1


def test_subtracted_darks_are_noticed_and_hot_pixels_found_in_frames_alone(files, model, tmp_path):
    darks, frames, camera = files
    clean = []
    for number, path in enumerate(frames):
        with fits.open(path) as hdus:
            noise = np.sqrt(bench.SKY + bench.READ_NOISE**2) / bench.GAIN
            image = hdus[0].data.astype(np.float32) - camera.hot * noise
            fits.PrimaryHDU(image.astype(np.float32), hdus[0].header).writeto(tmp_path / f"{number}.fits")
            clean.append(tmp_path / f"{number}.fits")
    lines = []
    found = [read_exposures(paths, "frame", lines.append) for paths in (clean, frames)]
    measured = measure(read_exposures(darks, "dark", lines.append), found[0], [], model, lines.append)
    assert measured.hot_fraction < 1e-4 and any("darks seem to be subtracted" in line for line in lines)
    alone = measure([], found[1], [], model, lines.append)
    hot = camera.hot > 8
    assert (alone.hot[0][hot] > 0).mean() > 0.9 and (alone.hot[0][camera.hot == 0] > 0).mean() < 5e-4
    assert not alone.hits and len(CameraSkies(alone, "test", generic=0).own) > 5


def test_darks_alone_and_two_frames_alone_are_enough_and_flats_show_bad_columns(files, model, tmp_path):
    darks, frames, _ = files
    lines = []
    measured = measure(read_exposures(darks, "dark", lines.append), [], [], model, lines.append)
    assert measured.of_darks and measured.fwhm is None and any(line.startswith("no frames") for line in lines)
    sky, _ = CameraSkies(measured, "train", generic=0).draw(np.random.default_rng(3), 64)
    assert np.isfinite(sky.image[~sky.bad]).all() and sky.sigma > 0
    flat = np.random.default_rng(2).normal(20000, 100, (224, 256)).astype(np.float32)
    flat[40:, 90] *= 0.6
    for number in range(2):
        hdu = fits.PrimaryHDU(flat + number)
        hdu.header["IMAGETYP"] = "Flat Field"
        hdu.writeto(tmp_path / f"flat{number}.fits")
    flats = read_exposures(sorted(tmp_path.glob("flat*.fits")), "flat", lines.append)
    measured = measure([], read_exposures(frames[:2], "frame", lines.append), flats, model, lines.append)
    assert measured.bad[0][50:, 90].mean() > 0.9 and measured.bad[0].mean() < 0.02
    assert any("last rows are held out" in line for line in lines)
    assert [len(measured.train[0].image), len(measured.test[0].image)] == [140, 56]


class Fake(CosmicRayModel):
    """A model whose probability is a given function of the image."""

    def __init__(self, function):
        self.function = function

    def predict(self, image, bad, amplifiers, sky, narrow=None):
        return np.where(bad, 0, self.function(image)).astype(np.float32)


@pytest.fixture(scope="module", name="halves")
def halves_fixture(_small):
    """Two halves of scenes of a camera whose hits are 600 electrons a pixel, and whose hot pixels are 450."""
    camera = Camera(hits=[np.full((2, 3), 900, np.float32)] * 40, levels=[(100.0, 5.0, 1.5, 7.0)])
    camera.noise = np.linspace(0, 4, 159).astype(np.float32)
    camera.density, camera.charges = 1.0, np.full(30, 100.0)
    halves = []
    for number, split in enumerate(("validation", "test")):
        skies = CameraSkies(camera, split, generic=0)
        skies.others = []
        empty = np.random.default_rng(number).normal(100, 5, (200, 200)).astype(np.float32)
        empty[10:190:20, 10:190:20] += 300
        skies.skies["mirrored"] = [Sky(empty, np.zeros(empty.shape, bool), 100.0, 5.0, 1.5)]
        halves.append(OwnScenes.of(skies, number))
    return halves


def looked(halves, function, threshold=None):
    return [Looked(Fake(function), half, threshold) for half in halves]


def step(height, probability=0.9):
    return lambda image: (image > height) * probability


def test_each_hit_is_placed_as_often_and_known_by_its_number(halves):
    for half in halves:
        counts = np.bincount(half.hits)
        assert len(counts) == 10 and counts.max() - counts.min() <= 1 and half.is_own.all()
        first = 1
        for scene, owner in zip(half.scenes, half.owners, strict=True):
            assert np.array_equal(scene.truth, owner > 0)
            numbers = np.unique(owner)[1:]
            assert numbers.min() >= first and numbers.max() < first + 8
            first += round(adaptation.DENSITY * scene.image.size / 1e6)
            charge = (scene.image - scene.sky.image).sum() * 1.5
            assert charge == pytest.approx(7 * 6 * 900, rel=0.01)
        assert first - 1 == len(half.hits)


def test_scenes_are_masked_as_they_are_by_the_model():
    # Stars as narrow as hits in noise with heavy tails.
    rng = np.random.default_rng(11)
    light, _ = simulate_sky((400, 400), rng, fwhm=1.6, stars=300, faintest=3000)
    image = np.float32(300 + light + 15 * rng.standard_t(4, light.shape))
    # Along a row, and of as uneven a charge as that of a particle; a row of one level is a defect to second weights.
    image[50:350:30, 40:60] += 500 * rng.gamma(4, 0.25, (10, 20))
    nothing = np.zeros(image.shape, bool)
    scene = Scene(Sky(image, nothing, 300.0, 19.0, 1.5), image, nothing)
    card, tensors, narrow = cards.load_both()
    ready = CosmicRayModel(card, tensors, "torch", narrow=narrow)
    looked = Looked(ready, OwnScenes([], [], np.zeros(0, int), np.zeros(0, bool), 0, [scene], narrow=True), 0.4)
    for threshold in (0.4, 0.2):
        conditions = Conditions()
        own = ready.detect(image, threshold=threshold, conditions=conditions)
        assert conditions.narrow and conditions.floors[0].any()
        (mask,) = looked.masks(threshold)
        assert own[50:350:30, 42:58].mean() > 0.5 and np.array_equal(mask, own)
        assert (ready.predict(image) > threshold).sum() > 1.1 * own.sum()


def test_placing_a_hit_often_does_not_make_many_of_it():
    hits = np.repeat(np.arange(10), 20)
    before = np.ones(200, bool)
    lost = Difference.of(before, hits != 3, hits)
    assert lost.mean == pytest.approx(-0.1) and (lost.more, lost.less) == (0, 1)
    assert lost.error == pytest.approx(np.sqrt(0.1 * 0.9 / 10), rel=0.15) and lost.low <= -0.3 and lost.high == 0
    # As many placements of as many hits are another matter.
    assert Difference.of(before, np.arange(200) % 10 != 3, np.arange(200)).error < 0.03
    # Of a pair, what one finds and the other does not cancels.
    swapped = Difference.of(hits % 2 == 0, hits % 2 == 1, hits)
    assert swapped.mean == pytest.approx(0) and (swapped.more, swapped.less) == (5, 5)


def test_what_chance_may_do_follows_from_the_number_of_hits():
    def row(count, lost):
        found = np.ones(count, bool)
        return adaptation._completeness("", found, np.arange(count) >= lost, np.arange(count), 0.02)

    # One in twenty-five may be chance, 12 of 300 are not; and a tenth never is.
    assert not row(25, 1).is_worse and row(300, 12).is_worse and not row(300, 5).is_worse and row(20, 2).is_worse
    assert "300 hits, difference -0.040 [" in row(300, 12).note


def test_a_threshold_is_for_a_rate_or_for_the_hits_if_that_is_lower(halves, monkeypatch):
    monkeypatch.setattr(adaptation, "THRESHOLDS", (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99))
    before = looked(halves, step(200), 0.5)
    # The hits are 600 ADU above the sky, what is no hit 300.
    good = Compared(before, looked(halves, lambda image: 1 / (1 + np.exp(-(image - 450) / 60))), 0.5)
    assert good.found(good.before, [0.5] * 2).all() and good.found(good.after, good.thresholds[::-1]).all()
    assert all(0.3 <= threshold <= 0.9 for threshold in good.thresholds)
    assert good.false(good.after, good.thresholds[::-1]) < 0.4 * good.false(good.before, [0.5] * 2)
    # One that is less sure of the hits must go down to them.
    poor = Compared(before, looked(halves, step(450, 0.15)), 0.5)
    assert poor.thresholds == [0.1, 0.1] and poor.found(poor.after, [0.1, 0.1]).all()
    # One that is sure of them, but not sure that others are none, goes up.
    vague = Compared(before, looked(halves, lambda image: np.where(image > 450, 0.95, 0.6 * (image > 200))), 0.5)
    assert vague.threshold == pytest.approx(0.8, abs=0.11)


def test_hits_of_the_catalogue_are_not_given_up_for_the_cameras():
    own = SimpleNamespace(is_own=np.arange(200) < 100, hits=np.arange(200))
    numbers = np.arange(200)
    before = SimpleNamespace(own=own, index=lambda _: 0, false=np.array([100]), found=np.array([numbers > 4]))
    # At the highest threshold five more of the camera's are found than before, three less of the catalogue's.
    found = np.array([numbers > -1, numbers > -1, numbers < 197])
    after = SimpleNamespace(own=own, thresholds=np.array([0.3, 0.5, 0.7]), found=found, false=np.array([80, 60, 30]))
    after.masked, after.clean = np.zeros(3), 10_000
    assert Compared([before] * 2, [after] * 2, 0.5).thresholds == [0.5, 0.5]


def test_a_model_is_accepted_if_it_is_better_here_and_not_worse_elsewhere(halves):
    before, after = looked(halves, step(200), 0.5), looked(halves, step(450))
    compared, found = Compared(before, after, 0.5), np.arange(60) > 5
    same = {"sky:1000": (found, 20.0), ("Gaussian", 2.5): 0.0}
    rows, worse = compare(compared, same, same)
    assert not worse and rows[1].before > 500 and rows[1].after < 0.1 * rows[1].before
    _, worse = compare(compared, same, same | {("Gaussian", 2.5): 0.04})
    assert worse == ["stars masked, Gaussian, FWHM 2.5 0, now 0.04"]
    _, worse = compare(compared, same, same | {"sky:1000": (np.arange(60) > 11, 20.0)})
    assert worse == ["hits found, generic sky:1000 0.9, now 0.8"]
    _, worse = compare(Compared(before, before, 0.5), same, same)
    assert len(worse) == 1 and worse[0].startswith("not better on this camera: hits found, this camera 1, now 1")
    blind = Compared(before, looked(halves, step(1e6)), 0.5)
    assert compare(blind, same, same)[1][0].startswith("hits found, this camera 1, now 0")


@pytest.fixture(name="short")
def short_fixture(monkeypatch):
    """Train on small patches, for some steps."""
    read = adapting.read_configuration
    monkeypatch.setattr(adapting, "read_configuration", lambda *a, **k: read(*a, **k, patch=32, batch=2, steps=3))


def test_a_model_that_is_better_is_written_with_all_that_it_was_made_from(files, short, monkeypatch, tmp_path):
    darks, frames, _ = files
    monkeypatch.setattr(adapting, "compare", lambda *_: ([adaptation.Row("false objects", 9.0, 2.0, 9.0, True)], []))
    options = ["--frames", *map(str, frames), "--output", str(tmp_path), "--minutes", "0.3"]
    done = CliRunner().invoke(main, ["adapt", "mine", "--darks", *map(str, darks), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    weights = tmp_path / "mine" / "mine.safetensors"
    card, _ = cards.load(weights)
    files_of = card.training["files"]
    assert [len(files_of[kind]) for kind in ("dark", "frame", "flat")] == [4, 4, 0]
    assert card.training["adapted_from"]["sha256"] == cards.read_card("fast").sha256
    assert card.trained_on.startswith("adapted from fast: ") and "hits of its darks" in card.trained_on
    assert card.training["steps"] == 3 and card.input_ranges and card.metrics["before_and_after"]
    report = (tmp_path / "mine" / "mine.txt").read_text()
    assert "accepted" in report and dict(files_of["dark"])["dark0.fits"][:16] in report
    assert (tmp_path / "mine" / "mine.png").read_bytes().startswith(b"\x89PNG")
    assert len(read_footprints(tmp_path / "mine" / "mine-hits.fits", "train")) > 20
    assert f"crattn-stage run --model {weights} " in done.output
    assert f"models register {weights} --comparison" in done.output and "--instrument Thincam" in done.output
    assert "estimate: " in done.output
    unusable = fits.getdata(tmp_path / "mine" / "mine-bad.fits")
    assert ((unusable > 0) == (files[2].hot > 0)).mean() > 0.999 and unusable.any()
    assert f'bad_pixels = "{tmp_path / "mine" / "mine-bad.fits"}" in [settings]' in done.output
    assert "without mine-bad.fits finds " in report and "first:                set bad_pixels in" in done.output
    load_model(weights, "openvino")
    # What was not adapted keeps its masks, at the new threshold.
    start, kept = cards.load("fast", narrow=True)
    _, second = cards.load(weights, narrow=True)
    shift = logit(card.threshold) - logit(start.threshold)
    assert second["head.bias"] == pytest.approx(kept["head.bias"] + shift, abs=1e-5)
    assert all(np.array_equal(second[name], kept[name]) for name in kept if name != "head.bias")
    done = CliRunner().invoke(main, ["adapt", "mine", *options])
    assert done.exit_code == 1 and "mine.safetensors exists; --overwrite replaces it" in done.output


def test_where_stars_are_as_narrow_as_hits_second_weights_are_adapted(files, short, monkeypatch, tmp_path):
    def narrow(*arguments):
        camera = measure(*arguments)
        camera.narrow = True
        return camera

    monkeypatch.setattr(adapting, "measure", narrow)
    for name in ("PSFS", "SPECTRA"):
        monkeypatch.setattr(f"training.data.library.{name}", 12)
    monkeypatch.setattr(adapting, "compare", lambda *_: ([adaptation.Row("false objects", 9.0, 2.0, 9.0, True)], []))
    lines = []
    made = adapting.adapt("mine", tmp_path, files[0], files[1], minutes=0.3, tell=lines.append)
    assert "weights for frames of such stars alone are trained" in "\n".join(lines)
    start, first, second = cards.load_both("fast")
    card, own_first, own_second = cards.load_both(tmp_path / "mine" / "mine.safetensors")
    assert card == made and all(np.array_equal(own_first[name], first[name]) for name in first)
    assert (card.threshold, card.training, card.input_ranges) == (start.threshold, start.training, start.input_ranges)
    assert card.trained_on.startswith(f"{start.trained_on}; second weights adapted from fast: ")
    assert card.narrow["training"]["adapted_from"]["sha256"] == start.sha256 and card.narrow["training"]["narrow"]
    assert card.narrow["metrics"]["before_and_after"] and card.narrow["input_ranges"]
    # Three steps lead away from the second weights, not from the first.
    away = [
        sum(float(np.abs(own_second[n] - some[n]).sum()) for n in some if n != "head.bias") for some in (first, second)
    ]
    assert 0 < away[1] < 0.2 * away[0]


def test_a_file_of_bad_columns_alone_knows_no_hot_pixels(files, tmp_path):
    lines, column = [], np.zeros((224, 256), bool)
    column[20:200, 9] = True
    camera = Camera(hot=[np.zeros(column.shape, np.float32)], bad=[column])
    found = {"frame": read_exposures(files[1], "frame", lines.append), "dark": [], "flat": []}
    assert not adapting._write_bad_pixels(tmp_path / "bad.fits", camera, found, lines.append)
    assert fits.getdata(tmp_path / "bad.fits").sum() == 2 * column.sum() and lines[-1].startswith("180 hot pixels and")


def test_known_hot_pixels_are_left_out_of_all_skies(camera):
    measured, _ = camera
    for split in ("train", "validation"):
        plain, known = (CameraSkies(measured, split, generic=0, known_hot=known) for known in (False, True))
        for kind, some in known.skies.items():
            assert len(some) == len(plain.skies[kind]) > 0 or (split, kind) == ("validation", "dark")
            for sky, before in zip(some, plain.skies[kind], strict=True):
                assert before.hot.any() and np.array_equal(sky.bad, before.bad | before.hot)
        sky = known.simulate(np.random.default_rng(3), 64)
        assert sky.hot.any() and np.array_equal(sky.bad, sky.hot)


def test_a_model_that_is_not_better_is_rejected_in_one_line(files, short, tmp_path):
    darks = []
    for path in files[0][:3]:
        with fits.open(path) as hdus:
            del hdus[0].header["EGAIN"], hdus[0].header["EXPTIME"]
            hdus.writeto(tmp_path / path.name)
            darks.append(str(tmp_path / path.name))
    options = ["--output", str(tmp_path), "--minutes", "0.3"]
    done = CliRunner().invoke(main, ["adapt", "mine", *options, "--darks", *darks], catch_exceptions=False)
    assert done.exit_code == 1
    last = done.output.strip().splitlines()[-1]
    assert last.startswith("Error: mine is rejected, and kept as ") and "mine-rejected.safetensors: " in last
    assert "no gain in the headers: 1 electron per ADU" in done.output and "no exposure time" in done.output
    assert not (tmp_path / "mine" / "mine.safetensors").exists()
    assert cards.read_card(tmp_path / "mine" / "mine-rejected.safetensors").metrics["worse"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine"], "neither darks nor frames are given"),
        (["../mine", "--darks", "x"], "not a name"),
        (["fast", "--darks", "x"], "a shipped model"),
        (["mine", "--from", "nobody", "--darks", "x"], "unknown model 'nobody'"),
        (["mine", "--darks", "x", "y"], "none of the 2 files given as darks can be used"),
    ],
)
def test_what_is_wrong_is_said(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["adapt", *arguments])
    assert done.exit_code == 1 and message in done.output.splitlines()[-1]
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--minutes=nan", "--minutes=inf", "--gain=nan", "--threads=-1"])
def test_numbers_that_are_none_are_wrong_usage(option):
    done = CliRunner().invoke(main, ["adapt", "mine", "--darks", "x", option])
    assert done.exit_code == 2 and "Invalid value" in done.output


SCRIPT = f"""
import sys
from importlib import import_module
for name, value in {SMALL!r}.items():
    module, _, attribute = name.rpartition(".")
    setattr(import_module(module), attribute, value)
from training import adapt, loop
read = adapt.read_configuration
adapt.read_configuration = lambda *a, **k: read(*a, **k, patch=32, batch=2, steps=int(sys.argv[3]))
loop.train.__defaults__ = tuple(0.0 if value == loop.CHECKPOINT_SECONDS else value for value in loop.train.__defaults__)
adapt.adapt("mine", sys.argv[1], frames=sys.argv[4:], minutes=float(sys.argv[2]))
"""


def test_an_interrupted_run_goes_on_and_one_with_other_files_does_not(files, short, monkeypatch, tmp_path):
    frames = [*map(str, files[1][:2])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "2", "100000", *frames]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run = tmp_path / "mine" / "run"
    while not (run / "checkpoint.pt").exists() and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    output, _ = running.communicate()
    assert running.returncode == -signal.SIGKILL, output
    done_before = torch.load(run / "checkpoint.pt", weights_only=True)["step"]
    noted = json.loads((run / "inputs.json").read_text())
    assert done_before >= 1 and noted["minutes"] > 0
    assert [name for name, _ in noted["files"]["frame"]] == ["light0.fits", "light1.fits"]
    with pytest.raises(ValueError, match="an interrupted run with other files; give the same, or remove the folder"):
        adapting.adapt("mine", tmp_path, frames=frames[:1])
    read = adapting.read_configuration
    monkeypatch.setattr(adapting, "read_configuration", lambda *a, **k: replace(read(*a, **k), steps=done_before + 2))
    lines = []
    # After so few steps it is better by chance only.
    with suppress(adapting.Rejected):
        adapting.adapt("mine", tmp_path, frames=frames, minutes=2, tell=lines.append)
    assert f"going on with the run in {run}" in lines
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == done_before + 2
    assert json.loads((run / "inputs.json").read_text()) == noted
