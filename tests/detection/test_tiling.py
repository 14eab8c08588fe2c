import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crattn_stage.api import load_model
from crattn_stage.detection.tiling import centres, even_tile, run_tiled
from crattn_stage.models.architectures import ARCHITECTURES, STRIDE
from crattn_stage.models.networks import build

HALO = 24


@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    step=st.integers(1, 40).map(lambda n: n * STRIDE),
    halo=st.integers(0, 8).map(lambda n: n * STRIDE),
)
def test_centres_cover_each_pixel_once(shape, step, halo):
    count = np.zeros(shape, int)
    for section in centres(shape, step + 2 * halo, halo):
        count[section] += 1
    assert (count == 1).all()


@given(shape=st.tuples(st.integers(1, 90), st.integers(1, 90)), batch=st.integers(1, 5))
def test_stitching_puts_each_pixel_where_it_was(shape, batch):
    plane = np.random.default_rng(0).random(shape).astype(np.float32)
    assert np.array_equal(run_tiled(plane, lambda tiles: tiles, 32, 8, batch), plane)
    assert np.array_equal(run_tiled(plane, lambda tiles: tiles, (24, 40), 8, batch), plane)


@pytest.mark.parametrize(
    ("shape", "streams", "tiles"),
    [
        ((512, 512), 1, 4),
        ((300, 200), 2, 2),
        ((300, 200), 4, 4),
        ((384, 1100), 2, 6),
        ((100, 1100), 2, 4),
        ((5, 3), 4, 1),
        ((2048, 4096), 2, 66),
    ],
)
def test_no_stream_is_left_idle(shape, streams, tiles):
    tile = even_tile(shape, 432, 24, streams)
    assert len(centres(shape, tile, 24)) == tiles and max(tile) <= 432


@given(
    shape=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    step=st.integers(2, 200).map(lambda n: n * STRIDE),
    halo=st.integers(0, 8).map(lambda n: n * STRIDE),
)
def test_even_tiles_waste_less_than_a_stride_each(shape, step, halo):
    tile = even_tile(shape, step + 2 * halo, halo)
    assert max(tile) <= step + 2 * halo
    for n, side in zip(shape, tile, strict=True):
        count = -(-n // (side - 2 * halo))
        assert count == -(-n // step) and count * (side - 2 * halo) - n < count * STRIDE


@pytest.mark.parametrize(("tile", "halo"), [(48, 24), (50, 8), (64, 6), (16, 24)])
def test_tile_and_halo_that_do_not_fit_are_refused(tile, halo):
    with pytest.raises(ValueError, match="do not fit"):
        centres((100, 100), tile, halo)


def full_frame(network, plane):
    """Evaluate the mirrored plane in one piece."""
    after = [HALO - n % -STRIDE for n in plane.shape]
    padded = np.pad(plane, [(HALO, extra) for extra in after], mode="reflect")
    with torch.no_grad():
        result = network(torch.from_numpy(padded)[None, None])[0, 0].numpy()
    return result[HALO : HALO + plane.shape[0], HALO : HALO + plane.shape[1]]


def random_network(name):
    """A network with weights and batch-norm statistics that are not those it starts with."""
    torch.manual_seed(7)
    network = build(name, channels=8)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(4, 1, 64, 64) * 3)
    return network.double().eval()


BATCH_NORM = {name: random_network(name) for name, (kind, _) in ARCHITECTURES.items() if kind == "batch"}


@pytest.mark.parametrize("name", BATCH_NORM)
@settings(max_examples=6)
@given(shape=st.tuples(st.integers(25, 150), st.integers(25, 150)), tile=st.sampled_from([52, 64, 96, (60, 104)]))
def test_batch_norm_tiled_is_full_frame(name, shape, tile):
    # In double precision: what is tested is the geometry, to the last digit that rounding leaves.
    plane = np.random.default_rng(sum(shape)).normal(size=shape) * 3
    network = BATCH_NORM[name]

    def function(tiles):
        with torch.no_grad():
            return network(torch.from_numpy(tiles).double()[:, None])[:, 0].numpy()

    tiled = run_tiled(plane.astype(np.float32).astype(float), function, tile, HALO)
    whole = full_frame(network, plane.astype(np.float32).astype(float))
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-7 * np.abs(whole).max())


@pytest.mark.parametrize("name", BATCH_NORM)
def test_a_halo_too_small_is_noticed(name):
    plane = np.random.default_rng(1).normal(size=(120, 120)) * 3
    network = BATCH_NORM[name]

    def function(tiles):
        with torch.no_grad():
            return network(torch.from_numpy(tiles).double()[:, None])[:, 0].numpy()

    difference = np.abs(run_tiled(plane, function, 48, 12) - full_frame(network, plane)).max()
    assert difference > 5e-6


def test_group_norm_mask_depends_little_on_where_tiles_lie():
    """The shipped group-norm model, on the same sky cut at another phase."""
    from crattn_stage.simulation.hits import scatter_hits, simulate_hit
    from crattn_stage.simulation.skies import expose, simulate_sky

    rng = np.random.default_rng(4)
    scene, _ = simulate_sky((360, 360), rng)
    charge, _ = scatter_hits(scene.shape, [simulate_hit(rng) for _ in range(40)], rng)
    image = expose(scene + charge, 1100, 7, 4, rng)
    detector = load_model("att-cosmic-conn")
    whole = detector.predict(image)
    moved = detector.predict(image[104:, 76:])
    inner = np.s_[HALO:-HALO, HALO:-HALO]
    changed = (whole[104:, 76:][inner] > detector.card.threshold) != (moved[inner] > detector.card.threshold)
    masked = (whole[104:, 76:][inner] > detector.card.threshold).sum()
    assert masked > 300
    assert changed.sum() < 0.05 * masked
