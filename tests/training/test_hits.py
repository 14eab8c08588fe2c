import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from crattn_stage.simulation.hits import FAINTEST_PIXEL, scatter_hits, simulate_hit, turned
from training.data.hits import read_footprints


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


def test_turning_keeps_the_charge():
    hit = np.arange(6, dtype=np.float32).reshape(2, 3)
    seen = [turned(hit, np.random.default_rng(seed)) for seed in range(60)]
    assert len({(stamp.shape, stamp.tobytes()) for stamp in seen}) == 8
    assert all(sorted(stamp.ravel()) == sorted(hit.ravel()) for stamp in seen)
