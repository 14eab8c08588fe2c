import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from astropy.nddata import CCDData
from conftest import sky_image, with_track
from scipy.ndimage import binary_dilation

from crattn_stage import load_model
from crattn_stage.detection import preprocessing
from crattn_stage.detection.model import CosmicRayModel, levels
from crattn_stage.models import cards
from crattn_stage.simulation.hits import simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky


@pytest.fixture(scope="module")
def detector():
    return load_model("att-deepcr")


@pytest.mark.parametrize("model", ["att-deepcr", "att-cosmic-conn"])
def test_a_track_is_found_and_sky_is_not(model):
    image, hit = with_track(sky_image((140, 130)))
    found = load_model(model).detect(image)
    assert found.dtype == bool and found.shape == image.shape
    assert found[hit].mean() > 0.95
    assert found.sum() < 5 * hit.sum()


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", ">i2", "<u2", ">i4", "u1"])
def test_every_dtype_and_byte_order_gives_the_same(detector, dtype):
    image, _ = with_track(sky_image(level=100), height=120)
    image = np.rint(image)
    assert np.array_equal(detector.predict(image.astype(dtype)), detector.predict(image))


def test_bad_and_nan_pixels_get_zero_and_leave_the_rest_alone(detector):
    image, hit = with_track(sky_image())
    clean = detector.predict(image)
    spoiled, mask = image.copy(), np.zeros(image.shape, bool)
    spoiled[90:95, 60:80] = np.nan
    spoiled[:, 5] = 65535
    mask[:, 5] = True
    result = detector.predict(spoiled, mask)
    assert np.isfinite(result).all()
    assert (result[mask | np.isnan(spoiled)] == 0).all()
    assert (result[hit] > 0.5).mean() > 0.95
    far = np.s_[:60, 32:]
    assert np.abs(result[far] - clean[far]).max() < 0.2
    assert not (result > detector.card.threshold)[:, :10].any()


def test_the_input_is_not_changed(detector):
    image, _ = with_track(sky_image())
    mask = np.zeros(image.shape, bool)
    mask[3, 3] = True
    before = image.copy()
    detector.predict(image, mask)
    assert np.array_equal(image, before) and mask.sum() == 1


@pytest.mark.parametrize(
    ("image", "cause"),
    [
        (np.zeros(5), "not a 2-D image"),
        (np.zeros((2, 3, 4)), "not a 2-D image"),
        (np.zeros((0, 4)), "not a 2-D image"),
        (np.full((8, 8), np.nan), "no good pixel"),
        (np.zeros((4, 4), complex), "not a real image"),
        (np.array([["a"]]), "not a real image"),
        (np.full((4, 4), None), "not a real image: dtype object"),
    ],
)
def test_what_is_no_image_is_refused(detector, image, cause):
    with pytest.raises(ValueError, match=cause):
        detector.predict(image)
    with pytest.raises(ValueError, match=cause):
        detector.detect(image)


def test_a_mask_of_another_shape_is_refused(detector):
    with pytest.raises(ValueError, match=r"mask of shape \(3, 3\)"):
        detector.predict(sky_image(), np.zeros((3, 3), bool))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 5), (23, 25)])
@pytest.mark.parametrize("model", ["att-deepcr", "att-cosmic-conn"])
def test_tiny_images_work(model, shape):
    assert load_model(model).predict(sky_image(shape)).shape == shape


def test_amplifiers_of_other_level_and_gain_join_without_a_seam(detector):
    image, hit = with_track(sky_image((120, 120)), start=50)
    left, right = (slice(0, 120), slice(0, 60)), (slice(0, 120), slice(60, 120))
    split = image.copy()
    split[right] = (split[right] - 300) * 1.7 + 2400
    one = detector.detect(image)
    two = detector.detect(split, amplifiers=[left, right])
    assert (one != two).sum() <= 2
    assert two[hit].mean() > 0.95
    # Without the amplifiers the step is a wall of 200 sigma.
    assert detector.predict(split, amplifiers=[left])[right].max() == 0


@pytest.mark.parametrize("section", [np.s_[5:5, :], np.s_[300:, :], np.s_[::2, :]])
def test_an_amplifier_without_pixels_is_refused(detector, section):
    with pytest.raises(ValueError, match="no pixels in an image"):
        detector.predict(sky_image(), amplifiers=[section])


def test_masks_of_ccddata_and_masked_arrays_count(detector):
    image, hit = with_track(sky_image())
    assert not detector.detect(CCDData(image, unit="adu", mask=hit))[hit].any()
    assert not detector.detect(np.ma.array(image, mask=hit))[hit].any()
    assert not detector.detect(image, hit)[hit].any()
    assert detector.detect(np.ma.array(image))[hit].any()


@pytest.mark.parametrize("threshold", ["0.5", [0.5], 1j, np.array([0.5])])
def test_a_threshold_is_a_number(detector, threshold):
    with pytest.raises(TypeError, match=r"threshold .* is a .*; give a number between 0 and 1"):
        detector.detect(sky_image(), threshold=threshold)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_is_a_probability(detector, threshold):
    with pytest.raises(ValueError, match="not a probability"):
        detector.detect(sky_image(), threshold=threshold)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.5, [0, 1, 1, 2, 2, 3, 4]), (0.985, [0, 1, 1, 1, 1, 1, 4]), (0.03, [0, 2, 2, 2, 2, 3, 4])],
)
def test_nothing_below_the_threshold_is_certain(threshold, expected):
    probability = np.array([0.02, 0.1, 0.4, 0.6, 0.9, 0.98, 0.995], np.float32)
    assert levels(probability, threshold).tolist() == expected


def test_one_dead_amplifier_does_not_cost_the_other(detector):
    image, hit = with_track(sky_image((120, 120)), start=10, length=12)
    image[:, 60:] = np.nan
    halves = [(slice(0, 120), slice(0, 60)), (slice(0, 120), slice(60, 120))]
    found = detector.detect(image, amplifiers=halves)
    assert found[hit].mean() > 0.9 and not found[:, 60:].any()


@pytest.mark.parametrize("model", ["att-deepcr", "att-cosmic-conn"])
def test_hits_at_the_edge_are_found_as_well_as_elsewhere(model):
    detector, rng, size = load_model(model), np.random.default_rng(1), 232
    border = np.ones((size, size), bool)
    border[4:-4, 4:-4] = False
    at_edge, elsewhere, false = [], [], 0
    for _ in range(3):
        scene, _ = simulate_sky((size, size), rng)
        charge = np.zeros(scene.shape, np.float32)
        for number in range(24):
            hit = simulate_hit(rng)[:100, :100]
            row, column = (int(rng.integers(0, size - n + 1)) for n in hit.shape)
            if number < 12:
                # Up to 3 pixels from each of the four edges.
                near = int(rng.integers(0, 4))
                far_row, far_column = (size - n - near for n in hit.shape)
                places = [(near, column), (far_row, column), (row, near), (row, far_column)]
                row, column = places[number % 4]
            charge[row : row + hit.shape[0], column : column + hit.shape[1]] += hit
        truth = charge > 150
        found = detector.detect(expose(scene + charge, 1100, 7, 4, rng))
        at_edge.append(found[truth & border])
        elsewhere.append(found[truth & ~border])
        false += (found & border & ~binary_dilation(truth, np.ones((5, 5)))).sum()
    at_edge, elsewhere = np.concatenate(at_edge), np.concatenate(elsewhere)
    assert at_edge.size > 150 and at_edge.mean() > elsewhere.mean() - 0.02
    assert false < 0.05 * at_edge.size


def test_threads_share_a_detector(detector):
    images = [with_track(sky_image(seed=seed))[0] for seed in range(4)]
    alone = [detector.predict(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.predict, images))
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(alone, together, strict=True))


def _predict_in_child(detector, image, queue):
    queue.put(detector.predict(image))


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_predicts_the_same_and_ends(engine):
    detector = load_model("att-deepcr", engine)
    image, _ = with_track(sky_image((260, 260)))
    here = detector.predict(image)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_predict_in_child, args=(detector, image, queue))
    child.start()
    try:
        there = queue.get(timeout=60)
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
    assert np.allclose(here, there, atol=1e-6)


FORKING = """
import os, sys
import numpy as np
from crattn_stage import load_model
image = np.random.default_rng(0).normal(300, 8, (200, 200))
detector = load_model("att-deepcr", "openvino")
here = detector.predict(image)
child = os.fork()
if child == 0:
    own = load_model("att-deepcr", "openvino").predict(image)
    sys.exit(7 if np.array_equal(own, here) and np.array_equal(detector.predict(image), here) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_worker_that_leaves_by_the_door_does_not_hang():
    # multiprocessing leaves by os._exit, other servers clean up: then models end, whose threads are the parent's.
    out = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.strip() == "7"


class Recorder:
    """An engine that keeps what it is given and finds nothing."""

    name, tile, batch, streams = "recorder", 256, 4, 1

    def __init__(self):
        self.tiles = []

    def run(self, tiles):
        self.tiles.append(tiles.copy())
        return np.zeros_like(tiles)


@pytest.fixture
def raw_model(monkeypatch):
    """A model that is fed raw counts, and what its network was given."""
    engine = Recorder()
    monkeypatch.setattr("crattn_stage.detection.engines.start", lambda *_: engine)
    card, tensors = cards.load("deepcr")
    return CosmicRayModel(replace(card, scaling="none"), tensors), engine


def test_bad_raw_counts_are_filled_from_their_own_amplifier(raw_model):
    model, engine = raw_model
    image = np.concatenate([sky_image((120, 80), 300), sky_image((120, 80), 9000)], axis=1)
    bad = np.zeros(image.shape, bool)
    # Wider than what is looked at around a pixel, and at the border of the amplifiers.
    bad[20:100, 10:80] = bad[20:100, 80:150] = True
    image[bad] = 65535
    halves = [np.s_[:, :80], np.s_[:, 80:]]
    model.predict(image, bad, halves)
    (given,) = (tiles[0, 24:144, 24:184] for tiles in engine.tiles)
    assert np.abs(given[:, :80] - 300).max() < 50
    assert np.abs(given[:, 80:] - 9000).max() < 50


def test_a_dead_amplifier_of_raw_counts_continues_its_neighbour(raw_model):
    model, engine = raw_model
    image = np.concatenate([np.full((120, 80), np.nan), sky_image((120, 80), 300)], axis=1)
    found = model.predict(image, amplifiers=[np.s_[:, :80], np.s_[:, 80:]])
    (given,) = (tiles[0, 24:144, 24:184] for tiles in engine.tiles)
    assert np.abs(given - 300).max() < 50 and not found[:, :80].any()


def test_the_sky_is_measured_once(detector, monkeypatch):
    image, _ = with_track(sky_image())
    halves = [np.s_[:, :50], np.s_[:, 50:]]
    calls = []
    statistics = preprocessing.sky_statistics
    monkeypatch.setattr(preprocessing, "sky_statistics", lambda *a: calls.append(a) or statistics(*a))
    expected = detector.detect(image, amplifiers=halves)
    assert len(calls) == 2
    sky = preprocessing.measure_sky(image, np.zeros(image.shape, bool), halves)
    calls.clear()
    assert np.array_equal(detector.detect(image, amplifiers=halves, sky=sky), expected) and calls == []


@pytest.mark.parametrize("dtype", ["<f4", ">f8", ">i2", "u1"])
def test_the_sky_of_any_dtype_is_that_of_float32(dtype):
    image = np.rint(sky_image(level=100)).astype(dtype)
    nothing, whole = np.zeros(image.shape, bool), [np.s_[:, :]]
    assert preprocessing.measure_sky(image, nothing, whole) == preprocessing.measure_sky(
        image.astype(np.float32), nothing, whole
    )
