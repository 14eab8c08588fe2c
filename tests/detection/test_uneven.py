"""Hits are found where the light of the sky varies by many times the noise, as before a flat field."""

import numpy as np
import pytest
from scipy.ndimage import label, maximum

from crattn_stage import load_model
from crattn_stage.detection.uneven import even_out, variation
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky

SHAPE = (640, 640)
WHOLE = [np.s_[:, :]]
ROW, COLUMN = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[0]
LIGHT = {
    "even": 1 + 0 * ROW,
    "twilight": 1 - 0.5 * ROW,
    "vignetting": 1 - 0.5 * ((ROW - 0.5) ** 2 + (COLUMN - 0.5) ** 2) * 2,
    "fringes": 1 - 0.1 * np.sin(25 * COLUMN + 10 * ROW),
    "a step between amplifiers that no header names": np.where(COLUMN < 0.48, 1, 0.8),
}


def exposed(light, seed=5):
    rng = np.random.default_rng(seed)
    scene, _ = simulate_sky(SHAPE, rng, fwhm=2.5, stars=1500, galaxies=200)
    charge, truth = scatter_hits(SHAPE, [simulate_hit(rng, thickness=100) for _ in range(120)], rng)
    image = expose((scene + 20_000) * light + charge, 0, 10, 4, np.random.default_rng(7))
    noise = np.sqrt((scene + 20_000) * light + 100)
    hits, count = label(truth, np.ones((3, 3)))
    bright = maximum(charge / noise, hits, np.arange(1, count + 1)) > 10
    return image, hits, np.flatnonzero(bright) + 1


@pytest.mark.parametrize("light", LIGHT.values(), ids=LIGHT)
@pytest.mark.parametrize("name", ["fast", "att-deepcr"])
def test_hits_are_found_whatever_the_light(name, light):
    image, hits, bright = exposed(light)
    mask = load_model(name, engine="openvino").detect(image)
    assert len(bright) > 60 and maximum(mask, hits, bright).mean() > 0.97
    touched = np.unique(label(mask, np.ones((3, 3)))[0][hits > 0])
    assert label(mask, np.ones((3, 3)))[1] - np.count_nonzero(touched) < 8


def test_an_even_sky_is_left_as_it_is():
    image, _, _ = exposed(LIGHT["even"])
    bad = np.zeros(SHAPE, bool)
    assert variation(image, ~bad) < 1 and even_out(image, bad, WHOLE) is image
    # Nothing to tell by.
    assert variation(image[:100, :100], ~bad[:100, :100]) == variation(image, bad) == 0


@pytest.mark.parametrize("dtype", [np.float32, ">f8", np.int32, np.uint16])
def test_each_amplifier_keeps_its_level_and_the_image_its_pixels(dtype):
    image = exposed(LIGHT["twilight"])[0].astype(dtype)
    halves = [np.s_[:, :320], np.s_[:, 320:]]
    image[:, 320:] += 1000
    given = image.copy()
    bad = np.zeros(SHAPE, bool)
    bad[:200, :100] = True
    even = even_out(image, bad, halves)
    assert np.array_equal(image, given) and even.dtype == np.float32
    for half in halves:
        assert np.median(even[half]) == pytest.approx(np.median(image[half]), rel=0.05)
        assert variation(even[half], ~bad[half]) < 1 < variation(image[half].astype(np.float32), ~bad[half])


def test_damaged_pixels():
    image = exposed(LIGHT["twilight"])[0].astype(float)
    image[::50, ::50], image[5::50, 5::50] = np.nan, 1e300
    even = even_out(image, np.zeros(SHAPE, bool), WHOLE)
    assert variation(even, np.isfinite(even)) < 1
    assert even_out(np.full(SHAPE, np.nan), np.zeros(SHAPE, bool), WHOLE).shape == SHAPE
