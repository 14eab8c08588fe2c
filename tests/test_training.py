import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crattn_stage.simulate import FAINTEST_PIXEL, moffat_psf, scatter_hits, simulate_hit, simulate_sky
from training.hits import read_footprints, turned
from training.metrics import at_setting, operating_points, purity_at, threshold_at, tpr_at
from training.scenes import DILATION, Patches, Skies, Sky, contaminate
from training.train import learning_rate, train


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


def test_patches_are_finite_and_hold_hits(skies):
    patches = [Patches(skies, 64, 100, 1)[i] for i in range(60)]
    assert all(np.isfinite(image).all() for image, _, _ in patches)
    share = np.mean([truth.mean() for _, truth, _ in patches])
    assert 0.001 < share < 0.05
    assert all(set(np.unique(w)) <= {0, 1} for _, _, w in patches)


def test_learning_rate_warms_up_stays_and_falls_to_zero():
    rates = [learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] < 0.05 and max(rates) == 1 and rates[-1] < 0.01
    assert rates[:750] == [learning_rate(step, 5000, 1.0) for step in range(750)]


def test_training_resumes_where_it_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("training.train.SHAPES", {"batch": (64, 2), "group": (64, 2)})
    settings = {"steps": 6, "save_every": 2, "seed": 5}
    whole = train("att-deepcr", tmp_path / "whole", **settings)

    class Killed(Exception):
        pass

    real = torch.save
    saves = []

    def save_once(state, path):
        real(state, path)
        saves.append(path)
        if len(saves) == 2:
            raise Killed

    monkeypatch.setattr("torch.save", save_once)
    with pytest.raises(Killed):
        train("att-deepcr", tmp_path / "parts", **settings)
    monkeypatch.setattr("torch.save", real)
    parts = train("att-deepcr", tmp_path / "parts", **settings)
    for one, other in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    log = (tmp_path / "parts" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["step", "2", "4", "6"]
    with pytest.raises(ValueError, match="another run"):
        train("att-deepcr", tmp_path / "parts", steps=6, seed=6)


def test_scores_of_a_known_answer():
    score = np.array([0.9, 0.8, 0.8, 0.5, 0.2, 0.1])
    truth = np.array([True, True, False, True, False, False])
    fpr, tpr, purity, threshold = points = operating_points(score, truth)
    assert threshold.tolist() == [0.9, 0.8, 0.5, 0.2, 0.1]
    assert np.allclose(tpr, [1 / 3, 2 / 3, 1, 1, 1]) and np.allclose(fpr, [0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert np.allclose(purity, [1, 2 / 3, 3 / 4, 3 / 5, 1 / 2])
    assert tpr_at(points, 0.1) == pytest.approx(1 / 3) and tpr_at(points, 0.34) == 1
    assert threshold_at(points, 0.34) == 0.5 and purity_at(points, 0.95) == 0.75
    row = at_setting(score > 0.6, truth)
    assert row == pytest.approx({"tpr": 2 / 3, "fpr": 1 / 3, "f1": 2 / 3, "iou": 0.5, "fdr": 1 / 3})


@given(truth=arrays(bool, 50), score=arrays(np.float32, 50, elements=st.floats(0, 1, width=32)))
def test_operating_points_agree_with_masks(truth, score):
    fpr, tpr, purity, threshold = operating_points(score, truth)
    middle = len(threshold) // 2
    row = at_setting(score >= threshold[middle], truth)
    assert row["tpr"] == pytest.approx(tpr[middle]) and row["fpr"] == pytest.approx(fpr[middle])
    assert row["fdr"] == pytest.approx(1 - purity[middle])
