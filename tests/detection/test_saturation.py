import numpy as np

from crattn_stage.detection.saturation import saturated_stars


def test_wide_saturation_is_a_star_and_narrow_is_not():
    image = np.zeros((50, 50))
    image[10:15, 10:15] = image[5:30, 12] = 7e4
    image[40, 5:40] = image[41, 5:40] = 7e4
    stars = saturated_stars(image, 6e4)
    assert stars[10:15, 10:15].all() and stars[5:30, 12].all()
    assert not stars[40:42].any()
    assert not saturated_stars(image, None).any()
