import numpy as np
import pytest
from training_support import few_planes_fixture, flat_sky, skies_fixture  # noqa: F401

from training.data.contamination import DILATION, Scene, contaminate, contaminate_as_paper, saturate
from training.data.library import Skies
from training.data.patches import Patches
from training.data.skies import Sky


def test_contamination_adds_charge_through_the_gain_and_dilates_the_truth():
    sky = flat_sky()
    image = sky.image.copy()
    hit = np.full((2, 3), 800, np.float32)
    scene = contaminate(sky, [hit] * 5, np.random.default_rng(0), spread=0)
    added = scene.image - image
    assert np.allclose(added[added > 0] % 200, 0) and added.max() >= 200
    assert (sky.image == 100).all()
    assert scene.truth[added > 0].all() and scene.truth.sum() > (added > 0).sum()
    assert DILATION.shape == (3, 3)


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


def test_beyond_an_edge_of_a_patch_lies_its_mirror_image_without_weight(skies, monkeypatch):
    inside = [Patches(skies, 64, 100, 1)[i] for i in range(30)]
    monkeypatch.setattr("training.data.patches.EDGES", 1.0)
    for (plain, _, _), arrays in zip(inside, [Patches(skies, 64, 100, 1)[i] for i in range(30)], strict=True):
        image, truth, weight = (a[0] for a in arrays)
        # Which side the edge is at follows from where all the weight is gone.
        turns = next(n for n in range(4) if not np.rot90(weight, n)[:2].any())
        image, truth, weight, plain = (np.rot90(a, turns) for a in (image, truth, weight, plain[0]))
        edge = weight.any(1).argmax()
        assert 2 <= edge < 64 // 3
        assert np.array_equal(image[:edge], image[2 * edge : edge : -1])
        assert np.array_equal(truth[:edge], truth[2 * edge : edge : -1])
        assert np.array_equal(image[edge:], plain[edge:])


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


def test_some_saturated_stars_get_a_low_core_between_their_rims():
    y, x = np.mgrid[:64, :64] - 32
    star = (300 + 8000 * np.exp((x**2 + y**2) / -18)).astype(np.float32)
    filled = 0
    for seed in range(200):
        sky = Sky(star, np.zeros(star.shape, bool), 300.0, 10.0, gain=4.0)
        scene = Scene(sky, star.copy(), np.zeros(star.shape, bool))
        scene.truth[36:38, 10:50] = scene.truth[5, 5:9] = True
        saturate(scene, 60_000.0, np.random.default_rng(seed))
        core = scene.image != star
        if core.any():
            filled += 1
            # The truth says nothing of it, nor does the bad-pixel mask.
            assert not core[5, 5:9].any() and not scene.truth[core].any() and not scene.sky.bad.any()
            middle = np.flatnonzero(core[32])
            assert middle[0] <= 32 <= middle[-1] and scene.image[32, 32] < star[32, 32]
    assert 10 < filled < 50
