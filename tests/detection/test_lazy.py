"""Dask arrays stay lazy and give the masks of numpy arrays."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from conftest import sky_image, with_track
from hypothesis import given, settings
from hypothesis import strategies as st

from crattn_stage import clean_cosmics, cosmicray_attention, detect_cosmics
from crattn_stage.detection.lazy import _aligned, is_lazy
from crattn_stage.simulation.skies import simulate_sky

da = pytest.importorskip("dask.array")
MODEL = {"model": "fast", "engine": "openvino"}


def computed(mask):
    return mask.compute(scheduler="synchronous")


@st.composite
def chunks(draw, side):
    sizes = []
    while sum(sizes) < side:
        sizes.append(draw(st.integers(1, 90)))
    sizes[-1] -= sum(sizes) - side
    return tuple(sizes)


@settings(max_examples=6)
@given(st.data(), st.integers(24, 150), st.integers(24, 150), st.sampled_from([1.4, 4.0]), st.integers(0, 99))
def test_any_chunks_give_the_mask_of_a_numpy_array(data, height, width, fwhm, seed):
    rng = np.random.default_rng(seed)
    plane, _ = simulate_sky((height, width), rng, fwhm=fwhm, stars=3000)
    image = (plane + rng.normal(300, 8, plane.shape)).astype(">f4")
    for _ in range(8):
        row, column = rng.integers(0, height), rng.integers(0, width - 12)
        image[row, column : column + 12] += 900
    bad = rng.random(image.shape) < 0.01
    bad[: height // 3, : width // 5] = True
    image[rng.random(image.shape) < 0.005] = np.nan
    lazy = da.from_array(image, chunks=(data.draw(chunks(height)), data.draw(chunks(width))))
    found = detect_cosmics(lazy, mask=bad, **MODEL)
    assert found.chunks == lazy.chunks and found.dtype == bool
    assert np.array_equal(computed(found), detect_cosmics(image, mask=bad, **MODEL))


def test_nothing_is_computed_before_it_is_asked_for():
    calls = []

    def block(block_info=None):
        calls.append(1)
        return sky_image((60, 60))

    lazy = da.map_blocks(block, chunks=((60, 60), (60, 60)), dtype=np.float32, meta=np.zeros((0, 0), np.float32))
    found = detect_cosmics(lazy, **MODEL)
    assert is_lazy(found) and not calls
    computed(found)
    assert len(calls) == 4


def test_stars_are_spared_in_the_whole_image(monkeypatch):
    image, hit = with_track(sky_image((150, 130)))

    def spare(pixels, found, bad, sections, sky, certainty):
        assert np.array_equal(pixels, image) and found[hit].mean() > 0.9 and bad.shape == image.shape
        assert certainty.shape == image.shape
        assert sky[0].level == pytest.approx(300, abs=2)
        found[:, :40] = False

    monkeypatch.setattr("crattn_stage.detection.model.measure_stars", lambda *_: (True, np.inf))
    monkeypatch.setattr("crattn_stage.detection.model.spare_stars", spare)
    found = computed(detect_cosmics(da.from_array(image, chunks=50), **MODEL))
    assert not found[:, :40].any() and found[hit & (np.arange(130) >= 40)].mean() > 0.9


def test_spots_are_added_in_the_whole_image(monkeypatch):
    image, _ = with_track(sky_image((150, 130)))
    sharp = 50 * np.float32([[9, 20, 9], [20, 50, 20], [9, 20, 9]])
    for row, column in ((50, 50), (99, 20), (20, 100)):
        image[row - 1 : row + 2, column - 1 : column + 2] += sharp
    # All that is not certain is suspect.
    monkeypatch.setattr("crattn_stage.detection.model.measure_stars", lambda *_: (False, 0.15))
    monkeypatch.setattr("crattn_stage.detection.model.SUSPECT", -1)
    found = detect_cosmics(image, threshold=1, **MODEL)
    assert found[[50, 99, 20], [50, 20, 100]].all()
    assert np.array_equal(computed(detect_cosmics(da.from_array(image, chunks=50), threshold=1, **MODEL)), found)


@pytest.mark.parametrize(("model", "engine"), [("cosmic-conn", "float32"), ("astroscrappy", "auto")])
def test_what_depends_on_tiles_sees_the_whole_image(model, engine):
    image, _ = with_track(sky_image((90, 110)))
    found = detect_cosmics(da.from_array(image, chunks=(40, 50)), model=model, engine=engine)
    assert np.array_equal(computed(found), detect_cosmics(image, model=model, engine=engine))
    assert found.chunks[0] == (40, 40, 10)


def test_a_ccddata_of_dask_is_masked_with_its_bad_pixels():
    image, hit = with_track(sky_image())
    bad = np.zeros(image.shape, bool)
    bad[:, 35] = True
    ccd = CCDData(da.from_array(image, chunks=50), unit="adu", mask=bad)
    found = computed(detect_cosmics(ccd, **MODEL))
    assert np.array_equal(found, detect_cosmics(image, mask=bad, **MODEL)) and found[hit & ~bad].mean() > 0.8


@pytest.mark.parametrize("function", [clean_cosmics, lambda a, **k: detect_cosmics(a, clean=True, **k)])
def test_dask_arrays_are_not_cleaned(function):
    with pytest.raises(TypeError, match=r"a dask array is not cleaned; compute\(\) it first"):
        function(da.zeros((60, 60)), **MODEL)
    with pytest.raises(TypeError, match="a Array is neither a CCDData nor a numpy array"):
        cosmicray_attention(da.zeros((60, 60)), **MODEL)


def test_what_is_no_image_is_refused_at_once():
    with pytest.raises(ValueError, match="not a 2-D image"):
        detect_cosmics(da.zeros((2, 60, 60)), **MODEL)
    with pytest.raises(ValueError, match="not a real image: dtype complex128"):
        detect_cosmics(da.zeros((60, 60), dtype=complex), **MODEL)
    with pytest.raises(ValueError, match=r"mask of shape \(3, 3\)"):
        detect_cosmics(da.zeros((60, 60)), mask=np.zeros((3, 3), bool), **MODEL)
    with pytest.raises(TypeError, match="a mask of dtype float64"):
        detect_cosmics(da.zeros((60, 60)), mask=da.zeros((60, 60)), **MODEL)
    some = da.zeros(60)
    with pytest.raises(ValueError, match="of unknown shape"):
        detect_cosmics(da.zeros((60, 60))[some == 0], **MODEL)
    with pytest.raises(ValueError, match="no good pixel"):
        computed(detect_cosmics(da.full((60, 60), np.nan), **MODEL))


def test_blocks_begin_on_multiples_of_the_stride_and_hold_an_overlap():
    for sizes in ((30,), (100, 3, 50, 80), (1,) * 200, (41, 39)):
        blocks = _aligned(sizes, 40)
        assert sum(blocks) == sum(sizes) and not any(n % 4 for n in np.cumsum(blocks)[:-1])
        assert len(blocks) == 1 or min(blocks) >= 40
