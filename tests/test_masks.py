import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crattn_stage.cameras import masks

CONVENTIONS = [masks.BANZAI, masks.DECAM_CODES, masks.DECAM_BITS, masks.GENERIC, masks.CR_PLANE]
cosmic_rays = arrays(bool, (6, 7))


def planes(convention):
    top = 255 if convention.dtype == "uint8" else 2**11
    values = st.integers(0, top) if convention.bits else st.integers(0, 8)
    return arrays(convention.dtype, (6, 7), elements=values)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: f"{c.extension}-{c.cosmic_ray}")
@given(data=st.data(), found=cosmic_rays, earlier=cosmic_rays)
def test_marking_sets_clears_and_keeps(convention, data, found, earlier):
    plane = data.draw(planes(convention))
    before = plane.copy()
    once = convention.marked(plane, found)
    assert np.array_equal(plane, before)
    assert once.dtype == plane.dtype
    # Whatever an earlier run marked, this one's result is the same.
    assert np.array_equal(convention.marked(convention.marked(plane, earlier), found), once)
    if convention.bits:
        assert np.array_equal(convention.cosmic_rays(once), found)
        assert np.array_equal(
            once & ~np.array(convention.cosmic_ray, plane.dtype), plane & ~np.array(convention.cosmic_ray, plane.dtype)
        )
    else:
        others = (plane != 0) & (plane != convention.cosmic_ray)
        assert np.array_equal(once[others], plane[others])
        assert np.array_equal(convention.cosmic_rays(once), found & ~others)
    # Bad pixels are the same before and after, so that a second run sees what the first saw.
    assert np.array_equal(convention.bad_pixels(once), convention.bad_pixels(plane))


def test_cosmic_rays_of_the_past_are_not_bad_pixels():
    assert not masks.BANZAI.bad_pixels(np.array([8], np.uint8)).any()
    assert not masks.DECAM_CODES.bad_pixels(np.array([5, 0], np.int16)).any()
    assert not masks.DECAM_BITS.bad_pixels(np.array([16, 32], np.int16)).any()
    assert masks.GENERIC.bad_pixels(np.array([1, 9], np.uint8)).all()
    assert masks.DECAM_CODES.bad_pixels(np.array([1, 3, 4], np.int16)).all()
