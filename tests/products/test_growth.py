import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crattn_stage.products.growth import grow


@st.composite
def scenes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probability = rng.random((12, 15), np.float32) ** draw(st.sampled_from([0.5, 1, 3]))
    allowed = rng.random((12, 15)) > draw(st.sampled_from([0.0, 0.2]))
    return probability, (probability > 0.9) & allowed, allowed


@given(scenes(), st.integers(0, 4), st.floats(0.01, 0.85))
def test_growth_holds_the_mask_and_more_the_further_it_goes(scene, pixels, threshold):
    probability, mask, allowed = scene
    before = mask.copy()
    grown = grow(mask, pixels, probability, threshold, allowed)
    assert not (before & ~grown).any() and not (grown & ~allowed).any() and np.array_equal(mask, before)
    assert not (grown & ~grow(mask, pixels + 1, probability, threshold, allowed)).any()
    assert not (grown & ~grow(mask, pixels, probability, threshold / 2, allowed)).any()
    assert not (grow(mask, pixels, allowed=allowed) & ~grown).any()


@given(scenes(), st.floats(0.01, 0.85))
def test_what_joins_is_above_the_lower_threshold_and_connected(scene, threshold):
    from scipy.ndimage import label

    probability, mask, allowed = scene
    grown = grow(mask, 0, probability, threshold, allowed)
    assert (probability[grown & ~mask] > threshold).all()
    numbers, count = label(grown, np.ones((3, 3)))
    assert set(np.unique(numbers[mask])) == set(range(1, count + 1))
    # All that could have joined did.
    numbers, _ = label(mask | (allowed & (probability > threshold)), np.ones((3, 3)))
    assert np.array_equal(grown, np.isin(numbers, np.unique(numbers[mask])))
