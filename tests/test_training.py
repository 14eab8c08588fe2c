import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec

import astroscrappy
import numpy as np
import pytest
import torch
from astropy.io import fits
from click.testing import CliRunner
from conftest import ROOT, need
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation

from crattn_stage.models import cards as models
from crattn_stage.models.networks import build, restore
from crattn_stage.simulation.hits import FAINTEST_PIXEL, scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, moffat_psf, simulate_sky
from training.__main__ import main
from training.data.hits import hits_of_darks, read_footprints, turned, write_footprints
from training.data.scenes import (
    DILATION,
    Patches,
    Scene,
    Skies,
    Sky,
    _saturate,
    _streaks,
    cleaned,
    contaminate,
    contaminate_as_paper,
)
from training.evaluation import tables
from training.evaluation.evaluate import Objects, completeness, make_scenes, measure, star_scenes, visible
from training.evaluation.lco import read_test_set
from training.evaluation.metrics import (
    at_rates,
    at_setting,
    bootstrap,
    interval,
    operating_points,
    purity_at,
    threshold_at,
    tpr_at,
)
from training.evaluation.peers import astro_scrappy, foreign
from training.export import export, input_ranges
from training.train import RECIPES, learning_rate, train


@pytest.mark.parametrize("kind", ["track", "worm", "spot"])
def test_simulated_hits_are_charge_in_a_tight_stamp(kind):
    rng = np.random.default_rng(1)
    for _ in range(30):
        hit = simulate_hit(rng, kind)
        assert hit.dtype == np.float32 and hit[hit > 0].min() >= FAINTEST_PIXEL
        assert hit.any(0)[[0, -1]].all() and hit.any(1)[[0, -1]].all()


def test_a_track_deposits_what_a_muon_does():
    rng = np.random.default_rng(2)
    charges = [simulate_hit(rng, "track", thickness=250).sum() for _ in range(300)]
    # At least 75 pairs per micrometre through 250 micrometres.
    assert np.median(charges) > 0.9 * 75 * 250
    assert np.median([simulate_hit(rng, "track", thickness=50).sum() for _ in range(300)]) < np.median(charges) / 3


def test_psf_phases_sum_to_one_and_move_the_star():
    psf = moffat_psf(2.5, radius=10)
    assert np.allclose(psf.sum((2, 3)), 1, atol=1e-5)
    offsets = np.arange(-10, 11)
    centroids = [(psf[i, 2].sum(1) * offsets).sum() for i in range(5)]
    assert np.allclose(np.diff(centroids), 0.2, atol=0.03)


def test_a_simulated_star_is_where_it_is_said_to_be():
    rng = np.random.default_rng(5)
    plane, stars = simulate_sky((80, 80), rng, fwhm=3, stars=200, galaxies=0, faintest=1e4)
    row, column, _ = stars[np.argmax(stars[:, 2])]
    peak = np.unravel_index(plane.argmax(), plane.shape)
    assert abs(peak[0] - row) < 1 and abs(peak[1] - column) < 1


@given(shape=st.tuples(st.integers(5, 40), st.integers(5, 40)), count=st.integers(0, 6), seed=st.integers(0, 99))
def test_scattered_hits_reach_the_edges_and_no_further(shape, count, seed):
    hits = [np.full((3, 4), 100, np.float32)] * count
    charge, truth = scatter_hits(shape, hits, np.random.default_rng(seed))
    assert charge.shape == shape and np.array_equal(truth, charge > 0)
    assert (truth.any()) == (count > 0)
    assert charge.sum() <= 1200 * count


def test_footprints_are_split_by_hit(data):
    path = data / "cr_footprints_itl_train.fits.gz"
    splits = {split: read_footprints(path, split) for split in ("train", "validation", "test")}
    counts = {split: len(stamps) for split, stamps in splits.items()}
    with fits.open(path) as hdus:
        rows = hdus[1].data
        identity = np.array(rows["fp_id"])
        sizes = np.array([len(values) for values in rows["pixel_values"]])
        charge = sum(float(values.sum()) for values in rows["pixel_values"])
    pixels = {i: sizes[identity == i].sum() for i in np.unique(identity)}
    assert sum(counts.values()) == sum(size > 1 for size in pixels.values())
    kept = sum(float(s.sum()) for stamps in splits.values() for s in stamps)
    assert 0.99 < kept / charge <= 1
    # Of a few pixels, two hits may well be alike.
    digests = {split: {s.tobytes() for s in stamps if (s > 0).sum() > 4} for split, stamps in splits.items()}
    assert not digests["train"] & digests["test"] and not digests["train"] & digests["validation"]


def test_contamination_adds_charge_through_the_gain_and_dilates_the_truth():
    image = np.full((40, 40), 100, np.float32)
    sky = Sky(image, np.zeros(image.shape, bool), 100.0, 5.0, gain=4.0)
    hit = np.full((2, 3), 800, np.float32)
    scene = contaminate(sky, [hit] * 5, np.random.default_rng(0), spread=0)
    added = scene.image - image
    assert np.allclose(added[added > 0] % 200, 0) and added.max() >= 200
    assert (image == 100).all()
    assert scene.truth[added > 0].all() and scene.truth.sum() > (added > 0).sum()
    assert DILATION.shape == (3, 3)


def test_turning_keeps_the_charge():
    hit = np.arange(6, dtype=np.float32).reshape(2, 3)
    seen = {turned(hit, np.random.default_rng(seed)).tobytes() for seed in range(60)}
    assert len(seen) == 8


@pytest.fixture(scope="module", autouse=True)
def few_planes():
    """A few simulated skies are enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.data.scenes.PLANES", 6)
        yield


@pytest.fixture(scope="module")
def skies():
    return Skies("train")


def test_patches_are_the_same_whoever_asks(skies):
    again = Skies("train")
    for index in (0, 7):
        for one, other in zip(Patches(skies, 64, 10, 3)[index], Patches(again, 64, 10, 3)[index], strict=True):
            assert one.shape == (1, 64, 64) and one.dtype == np.float32
            assert np.array_equal(one, other)
    assert not np.array_equal(Patches(skies, 64, 10, 3)[0][0], Patches(skies, 64, 10, 4)[0][0])


@pytest.mark.parametrize("contamination", ["electrons", "paper"])
def test_patches_are_finite_and_hold_hits(skies, contamination):
    patches = [Patches(skies, 64, 100, 1, contamination=contamination)[i] for i in range(60)]
    assert all(np.isfinite(image).all() for image, _, _ in patches)
    share = np.mean([truth.mean() for _, truth, _ in patches])
    assert 0.001 < share < 0.05
    assert all(set(np.unique(w)) <= {0, 1} for _, _, w in patches)


def test_contamination_as_in_the_paper_scales_by_the_noise():
    image = np.full((60, 60), 100, np.float32)
    sky = Sky(image, np.zeros(image.shape, bool), 100.0, 14.0, gain=4.0)
    scene = contaminate_as_paper(sky, [np.full((2, 3), 800, np.float32)], np.random.default_rng(0), 0.25, 7.0)
    added = scene.image - scene.sky.image
    # 800 e, times 1/4, times 14 over 7; hits are counted in the unit of the image.
    assert np.allclose(added[added != 0], 400, rtol=1e-4) and scene.truth[added != 0].all()
    # The sky level is changed by a times itself, a in [-0.9, 3].
    assert np.ptp(scene.sky.image) == 0 and 10 <= scene.sky.level <= 400 and scene.sky.level == scene.sky.image[0, 0]
    assert (image == 100).all()


def test_streaks_of_satellites_are_as_wide_as_stars():
    rng = np.random.default_rng(0)
    planes = [p for p in (_streaks(rng, 64, 4.0) for _ in range(200)) if p.any()]
    assert 5 < len(planes) < 60
    for plane in planes:
        row, column = np.unravel_index(plane.argmax(), plane.shape)
        around = plane[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        # No neighbour of the ridge is far below it, as it would be in a muon's track.
        assert around.min() > 0.25 * plane.max()


def test_some_saturated_stars_get_a_low_core_between_their_rims():
    y, x = np.mgrid[:64, :64] - 32
    star = (300 + 8000 * np.exp((x**2 + y**2) / -18)).astype(np.float32)
    filled = 0
    for seed in range(200):
        sky = Sky(star, np.zeros(star.shape, bool), 300.0, 10.0, gain=4.0)
        scene = Scene(sky, star.copy(), np.zeros(star.shape, bool))
        scene.truth[36:38, 10:50] = scene.truth[5, 5:9] = True
        _saturate(scene, 60_000.0, np.random.default_rng(seed))
        core = scene.image != star
        if core.any():
            filled += 1
            # The truth says nothing of it, nor does the bad-pixel mask.
            assert not core[5, 5:9].any() and not scene.truth[core].any() and not scene.sky.bad.any()
            middle = np.flatnonzero(core[32])
            assert middle[0] <= 32 <= middle[-1] and scene.image[32, 32] < star[32, 32]
    assert 10 < filled < 50


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


def test_a_cleaned_sky_has_lost_its_hits_and_kept_its_stars():
    rng = np.random.default_rng(3)
    plane, _ = simulate_sky((150, 150), rng, fwhm=4, stars=1500, galaxies=0, faintest=3000)
    clean = expose(plane, 800, 7, 4, rng)
    charge, truth = scatter_hits(clean.shape, [simulate_hit(rng, "track") for _ in range(8)], rng)
    sky = Sky(clean + charge / 4, np.zeros(clean.shape, bool), 200.0, 7.3, 4.0)
    result = cleaned(sky)
    assert np.abs(result.image - clean)[truth].mean() < 0.1 * np.abs(sky.image - clean)[truth].mean()
    assert (result.image == sky.image).mean() > 0.95 and sky.image is not result.image


def test_learning_rate_warms_up_stays_and_falls_to_zero():
    rates = [learning_rate(step, 1000, 1.0, 0.25) for step in range(1000)]
    assert rates[0] < 0.05 and max(rates) == 1 and rates[-1] < 0.01
    assert rates[:750] == [learning_rate(step, 5000, 1.0, 0.25) for step in range(750)]


SCRIPT = """
import sys
import training.data.scenes, training.train
from dataclasses import replace
training.data.scenes.PLANES = 2
training.train.SHAPES = {"batch": (32, 2), "group": (32, 2)}
paper = training.train.RECIPES["paper"]
training.train.RECIPES["paper"] = replace(paper, shape=(32, 2), epochs=3, average=0.5)
output, steps = sys.argv[1:]
training.train.train("att-deepcr", output, steps=int(steps), save_every=1, seed=5, recipe="paper")
"""


def run_training(output, steps):
    command = [sys.executable, "-c", SCRIPT, output, str(steps)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})


def test_training_resumes_after_sigkill(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_training(whole, 9).wait() == 0
    running = run_training(parts, 9)
    checkpoint = parts / "checkpoint.pt"
    while not checkpoint.exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert torch.load(checkpoint, weights_only=True)["step"] < 9
    assert run_training(parts, 9).wait() == 0
    one, other = (torch.load(path / "checkpoint.pt", weights_only=True) for path in (whole, parts))
    assert one["step"] == other["step"] == 9
    for key in ("network", "mean"):
        for a, b in zip(one[key].values(), other[key].values(), strict=True):
            assert torch.equal(a, b)
    assert one["plateau"]["best"] == other["plateau"]["best"]
    log = (parts / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["step", *map(str, range(1, 10))]
    with pytest.raises(ValueError, match="another run"):
        train("att-deepcr", parts, steps=9, seed=6, recipe="paper")


def test_recipes_differ_as_they_say(tmp_path, monkeypatch):
    small = {"shape": (32, 2), "epochs": 2}
    monkeypatch.setitem(RECIPES, "paper", replace(RECIPES["paper"], **small, average=0.5))
    assert RECIPES["paper"].steps == 60 * 1152 and RECIPES["paper"].peak == 0.005
    need(find_spec("tensorboard"), "needs the extra `train`")
    mean = train("deepcr", tmp_path, steps=4, recipe="paper", save_every=4, tensorboard=True)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    # Two epochs, so two validations; the mean of the weights lags behind them.
    assert state["plateau"]["last_epoch"] == 2 and state["log"][1][2] == 0.005
    assert not torch.equal(mean.head.weight, state["network"]["head.weight"])
    assert torch.equal(mean.head.weight, state["mean"]["head.weight"])
    assert json.loads((tmp_path / "training.json").read_text())["contamination"] == "paper"
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"learning_rate" in events.read_bytes()


def test_ranges_are_those_of_what_a_network_sees():
    torch.manual_seed(2)
    network = build("att-deepcr", 16)
    torch.nn.init.zeros_(network.encoder2[4].weight)
    ranges = input_ranges(network)
    # What a rectifier gave is not negative, what was upsampled may be; a dead feature still has a range.
    (fine,), (skip, deep) = ranges["encoder1.3"], ranges["up1.convolutions.0"]
    assert fine[0] == 0 < fine[1] and deep[0] < 0 < deep[1] and skip[0] == 0
    assert ranges["encoder3.0"] == [[0.0, 0.001]]
    assert network.training


def test_scores_of_a_known_answer():
    score = np.array([0.9, 0.8, 0.8, 0.5, 0.2, 0.1])
    truth = np.array([True, True, False, True, False, False])
    fpr, tpr, purity, threshold = points = operating_points(score, truth)
    assert threshold.tolist() == [0.9, 0.8, 0.5, 0.2, 0.1]
    assert np.allclose(tpr, [1 / 3, 2 / 3, 1, 1, 1]) and np.allclose(fpr, [0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert np.allclose(purity, [1, 2 / 3, 3 / 4, 3 / 5, 1 / 2])
    # On the lines between the points (0, 1/3), (1/3, 2/3) and (1/3, 1).
    assert tpr_at(points, 1 / 6) == pytest.approx(1 / 2) and tpr_at(points, 0.34) == 1
    assert threshold_at(points, 0.34) == 0.5 and purity_at(points, 0.95) == 0.75
    row = at_setting(score > 0.6, truth)
    assert row == pytest.approx({"tpr": 2 / 3, "fpr": 1 / 3, "f1": 2 / 3, "iou": 0.5, "fdr": 1 / 3})


def test_intervals_hold_the_value_and_shrink_with_more_hits():
    def width(hits):
        rng = np.random.default_rng(hits)
        # Ten pixels a hit, of which all or none are found; clean pixels in regions of a hundred.
        found = np.repeat(rng.random(hits) < 0.8, 10)
        score = np.concatenate([np.where(found, 0.9, 0.1), rng.random(20000) * 0.6]).astype(np.float32)
        truth = np.arange(len(score)) < 10 * hits
        unit = np.concatenate([np.repeat(np.arange(hits), 10), np.arange(20000) // 100])
        samples = bootstrap(score, truth, unit, 0.5)
        row = at_setting(score > 0.5, truth) | at_rates(operating_points(score, truth))
        for key in ("tpr", "f1", "iou", "fdr", "fpr", "tpr_1e-4"):
            low, high = interval(samples[key])
            assert low <= row[key] <= high
        return np.ptp(interval(samples["tpr"]))

    few, many = width(50), width(800)
    # Of independent hits, not pixels: sqrt(0.8 * 0.2 / hits).
    assert few == pytest.approx(4 * np.sqrt(0.16 / 50), rel=0.3) and many < few / 2.5


def test_hits_are_counted_one_by_one():
    image = np.full((60, 60), 100, np.float32)
    sky = Sky(image, np.zeros(image.shape, bool), 100.0, 5.0, gain=2.0)
    rows, columns = [10, 40], [10, 30]
    charge, truth = np.zeros_like(image), np.zeros(image.shape, bool)
    for row, column, length, value in zip(rows, columns, (3, 12), (100, 1000), strict=True):
        charge[row, column : column + length] = value
        truth[row - 1 : row + 2, column - 1 : column + length + 1] = True
    scene = Scene(sky, image + charge / 2, truth)
    objects = Objects.of([scene, scene])
    assert objects.charge.tolist() == [300, 12000] * 2 and np.allclose(objects.length, np.hypot(1, [3, 12, 3, 12]))
    found = np.zeros(image.shape, bool)
    found[41, 41] = True
    assert objects.found([found, ~truth]).tolist() == [False, True, False, False]
    assert completeness(objects.charge, objects.found([found, truth]), (0, 1000, np.inf)) == [(0.5, 2), (1.0, 2)]


def test_what_can_be_told_from_noise():
    clean = np.zeros((20, 40), np.float32)
    sky = Sky(clean, np.zeros(clean.shape, bool), 100.0, 2.0, gain=1.0)
    image, truth = clean.copy(), np.zeros(clean.shape, bool)
    # A hit of 10 sigma, whose last pixel has half a sigma; and one of 1.5 sigma.
    image[5, 5:9], image[15, 30] = (20, 5, 1, 1), 3
    truth[4:7, 4:10], truth[14:17, 29:32] = True, True
    touching, bright = visible([Scene(sky, image, truth)])
    np.testing.assert_allclose(touching, [21 / 27, 12 / 27, 9 / 27])
    assert bright == 18 / 27


def test_star_scenes_know_their_stars():
    scenes, stars = star_scenes(200)
    for scene, cores in zip(scenes, stars, strict=True):
        assert len(cores) > 20
        values = scene.image[tuple(cores.T)]
        assert np.median(values) > scene.sky.level + 5 * scene.sky.sigma


def test_large_galaxies_light_up_a_part_of_the_sky(skies):
    (scene,) = make_scenes(skies, "galaxies", 1)
    lit = scene.sky.image > scene.sky.level + 3 * scene.sky.sigma
    assert 0.1 < lit.mean() < 0.5 and scene.truth.any()


def write_lco(path, exposures=3):
    """Write a file in the layout of the LCO cosmic-ray data set."""
    rng = np.random.default_rng(0)
    shape = (60, 70)
    hdus = fits.HDUList([fits.PrimaryHDU()])
    header = fits.Header({"GAIN": 1.0, "RDNOISE": 9.3})

    def add(data, name, version=0):
        hdus.append(fits.CompImageHDU(data, header, name=name))
        hdus[-1].ver = version

    images = [rng.normal(200, 14, shape).astype(np.float32) for _ in range(exposures)]
    hits = [np.zeros(shape, np.uint8) for _ in images]
    for number, (image, hit) in enumerate(zip(images, hits, strict=True)):
        hit[10 * number + 5, 20:30] = 1
        image[hit == 1] += 2000
    for number, image in enumerate(images):
        add(image, "SCI", number)
    add(np.ones(shape, np.uint8), "VALID_MASK", 1)
    hdus.append(fits.BinTableHDU(name="CAT"))
    for hit in hits:
        add(hit, "CR")
    for number in range(exposures):
        ignore = np.zeros(shape, np.uint8)
        ignore[:, :3], ignore[50, 50] = 1, 8 * (number == 1)
        add(ignore, "IGNORE")
    hdus.writeto(path)


def test_the_lco_data_set_is_read_and_scored(tmp_path):
    folder = tmp_path / "test_set" / "masked_fits"
    folder.mkdir(parents=True)
    write_lco(folder / "coj0m403-kb24-20190101-0147-e91_3frms_masks.fits")
    write_lco(folder / "lsc1m009-fa04-20190101-0150-e91_3frms_masks.fits")
    sets = read_test_set(tmp_path, 1)
    assert {name: len(scenes) for name, scenes in sets.items()} == {"0m4": 3, "1m0": 3}
    for number, scene in enumerate(sets["0m4"]):
        assert scene.sky.bad.sum() == 60 * 3 + (number == 1) and scene.sky.read_noise == 9.3
        assert scene.truth.sum() == 3 * 12 and scene.truth[10 * number + 4 : 10 * number + 7, 19:31].all()
    (scrappy,) = astro_scrappy([15.0], 0.5)
    result = measure("0m4", sets["0m4"], scrappy)
    assert result.row["objects"] == 1 and result.row["tpr"] > 0.9 and result.row["fpr"] < 1e-2
    text = tables.accuracy("LCO 0m4", [result])
    assert "Astro-SCRAPPY 15" in text and f"{result.row['f1']:.4f}" in text
    assert f"{result.row['fpr']:.5f}" in tables.summary([result])
    fits.PrimaryHDU().writeto(folder / "ogg2m001-ep01-20190101-0001-e91_3frms_masks.fits")
    with pytest.raises(ValueError, match="not of the LCO CR data set"):
        read_test_set(tmp_path, 1)


def test_settings_of_a_filter_share_a_run_and_agree_with_it():
    scenes = make_star_scene()
    three, five = astro_scrappy([3.0, 5.0], sigclips=())
    planes, _ = three.scores(scenes)
    assert five.scores(scenes)[0] is planes
    for peer, sigclip in ((three, 3.0), (five, 5.0)):
        found, _ = astroscrappy.detect_cosmics(
            scenes[0].image, scenes[0].sky.bad, gain=4.0, readnoise=7.0, sigclip=sigclip, sigfrac=0.1, objlim=1.0,
            satlevel=4e4,
        )  # fmt: skip
        own = binary_dilation(found, DILATION)
        # A pixel found at 5 sigma and, by its other iterations, not at 3 is rare.
        assert (own == (planes[0] > peer.threshold)).mean() > 0.999 and own.any()


def make_star_scene():
    rng = np.random.default_rng(8)
    image = expose(np.zeros((128, 128), np.float32), 1200, 7, 4, rng)
    sky = Sky(image, np.zeros(image.shape, bool), 300.0, 8.8, 4.0)
    return [contaminate(sky, [simulate_hit(rng, "track") for _ in range(6)], rng)]


def test_a_run_is_blended_with_the_model_it_started_from_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("training.export.calibrate", lambda *_: (0.5, {}))
    monkeypatch.setattr("training.export.SCENES", ())
    monkeypatch.setattr("training.export.Skies", lambda *_: None)
    monkeypatch.setattr("training.export.input_ranges", lambda *_: {})
    card, tensors = models.load("fast")
    network = restore(card, tensors)
    network.head.bias += 1
    torch.save(
        {"architecture": "att-deepcr", "channels": 16, "network": network.state_dict()}, tmp_path / "checkpoint.pt"
    )
    (tmp_path / "training.json").write_text(f'{{"started_from": "fast {card.sha256}"}}')
    blended = export(tmp_path, None, tmp_path / "models", name="mean", blend="fast")
    _, mean = models.load(tmp_path / "models" / "mean.safetensors")
    for key, value in tensors.items():
        np.testing.assert_allclose(mean[key], value + 0.5 * (key == "head.bias"), rtol=1e-6)
    assert "--blend" in blended.metrics["command"] and "mean" in blended.training["blended"]
    with pytest.raises(ValueError, match="did not start from deepcr"):
        export(tmp_path, None, tmp_path / "models", blend="deepcr")


def test_a_detector_and_its_twin_get_the_same_draws():
    scenes = make_star_scene()
    (scrappy,) = astro_scrappy([5.0], sigclips=(3.0,))
    results = [
        measure("stars", scenes, replace(scrappy, name=name, threshold=threshold))
        for name, threshold in (("att-deepcr", 4.0), ("deepcr", 4.0), ("released att-deepcr", 2.0))
    ]
    text = tables.differences("stars", results)
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert lines["att-deepcr - deepcr"].count("0.00 [0.00, 0.00]") >= 3
    assert not lines["att-deepcr - released att-deepcr"].endswith("0.00 [0.00, 0.00]")
    assert "released att-deepcr - deepcr" not in text and len(lines) == 5


def test_a_peer_runs_in_a_python_of_its_own(tmp_path):
    scenes = make_star_scene()
    planes, seconds = foreign("lacosmic").scores(scenes)
    assert seconds > 0 and planes[0].shape == scenes[0].image.shape
    row = at_setting(planes[0] > foreign("lacosmic").threshold, scenes[0].truth)
    assert row["tpr"] > 0.8 and row["fpr"] < 0.05
    with pytest.raises(ValueError, match="unknown peer"):
        foreign("nobody")
    with pytest.raises(RuntimeError, match=r"maximask: .* failed: ModuleNotFoundError"):
        foreign("maximask").scores(scenes)


@given(truth=arrays(bool, 50), score=arrays(np.float32, 50, elements=st.floats(2**-7, 1, width=32)))
def test_operating_points_agree_with_masks(truth, score):
    fpr, tpr, purity, threshold = operating_points(score, truth)
    middle = len(threshold) // 2
    row = at_setting(score >= threshold[middle], truth)
    assert row["tpr"] == pytest.approx(tpr[middle]) and row["fpr"] == pytest.approx(fpr[middle])
    assert row["fdr"] == pytest.approx(1 - purity[middle])
