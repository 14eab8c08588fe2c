import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crattn_stage.cameras import masks
from crattn_stage.cameras.profile import find_profile
from crattn_stage.errors import FrameError

BANZAI = masks.convention(find_profile("lco"), fits.Header())
DECAM_CODES, DECAM_BITS = (
    masks.convention(
        find_profile("decam-cp"), fits.Header({"PLVER": version}), fits.Header({"EXTNAME": "N4", "PRODTYPE": "dqmask"})
    )
    for version in ("V4.8.2", "V2.2.0")
)
BINARY, _, _ = masks.convention_by_values(np.array([[0, 255]], np.uint8), "MASK")
CONVENTIONS = [BANZAI, DECAM_CODES, DECAM_BITS, BINARY, masks.GENERIC, masks.CR_PLANE]
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


def test_flags_that_a_plane_is_too_narrow_for_are_not_set_in_it():
    wide = masks.MaskConvention("MASK", "int16", 512, None)
    assert np.array_equal(wide.bad_pixels(np.array([0, 1, 255], np.uint8)), [False, True, True])
    assert np.array_equal(wide.bad_pixels(np.array([0, 512, -1], np.int16)), [False, False, True])


def test_cosmic_rays_of_the_past_are_not_bad_pixels():
    assert not BANZAI.bad_pixels(np.array([8], np.uint8)).any()
    assert not DECAM_CODES.bad_pixels(np.array([5, 0], np.int16)).any()
    assert not DECAM_BITS.bad_pixels(np.array([16, 32], np.int16)).any()
    assert masks.GENERIC.bad_pixels(np.array([1, 9], np.uint8)).all()
    assert DECAM_CODES.bad_pixels(np.array([1, 3, 4], np.int16)).all()


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 1), ("uint8", 255), ("int16", 1), ("int32", -1)])
def test_a_plane_of_good_and_bad_keeps_its_value_for_bad(dtype, value):
    plane = np.array([[0, value, 0]], dtype)
    convention, writable, note = masks.convention_by_values(plane, "MASK")
    assert writable and not note
    assert convention.marked(plane, np.array([[True, True, False]])).tolist() == [[8, value, 0]]
    assert convention.bad_pixels(np.array([[8, value, 0]], dtype)).tolist() == [[False, True, False]]


def test_unknown_flags_are_bad_while_they_are_few_and_a_refusal_where_they_are_not():
    plane = np.zeros((100, 100), np.int16)
    plane[0, :3] = 1, 32, 64
    convention, writable, note = masks.convention_by_values(plane, "FLAGS")
    assert not writable and "flags of FLAGS are not known" in note
    assert np.count_nonzero(convention.bad_pixels(plane)) == 3
    plane[:20] = 64
    plane[0, 0] = 1
    with pytest.raises(FrameError, match=r"flags of the mask plane FLAGS are not known.*settles it"):
        masks.convention_by_values(plane, "FLAGS")


def test_fractions_are_no_flags():
    assert masks.as_integers(np.array([0.0, 4.0, np.nan], np.float32)).tolist() == [0, 4, 0]
    with pytest.raises(FrameError, match=r"values such as 0\.5, which are no flags"):
        masks.as_integers(np.array([0.0, 0.5], np.float32))
