"""Counts of star cores; they are the same whatever else the process does."""

from threading import Event, Thread

import numpy as np
import pytest
import sep
from scipy.ndimage import maximum_filter

from crattn_stage.detection import sources
from crattn_stage.detection.preprocessing import measure_sky
from crattn_stage.quality.star_cores import judge_sources, star_cores
from crattn_stage.simulation.hits import simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky


def star_field(fwhm):
    rng = np.random.default_rng(3)
    scene, stars = simulate_sky((300, 300), rng, fwhm=fwhm, stars=1500, galaxies=0, faintest=4000)
    return expose(scene, 1100, 7, 4, rng), stars


@pytest.mark.parametrize("fwhm", [1.8, 3.0, 5.0])
def test_star_cores_are_found_and_masked_ones_counted(fwhm):
    image, stars = star_field(fwhm)
    nothing = np.zeros(image.shape, bool)
    found, flagged = star_cores(image, nothing)
    assert found > 40 and flagged == 0
    cores = nothing.copy()
    rows, columns = np.round(stars[:, :2]).astype(int).clip(0, 299).T
    half = np.arange(len(rows)) % 2 == 0
    for row, column in zip(rows[half], columns[half], strict=True):
        cores[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    found, flagged = star_cores(image, cores)
    assert 0.3 < flagged / found < 0.7


@pytest.mark.parametrize("fwhm", [1.8, 3.0])
def test_a_ring_around_a_peak_counts_and_a_track_beside_it_does_not(fwhm):
    image, _ = star_field(fwhm)
    nothing = np.zeros(image.shape, bool)
    found, _ = star_cores(image, nothing)
    # One star of those that are found, the brightest peak of its surroundings.
    high = (image == maximum_filter(image, 41)) & (image > np.median(image) + 300)
    high[:25] = high[-25:] = high[:, :25] = high[:, -25:] = False
    rings, tracks = nothing.copy(), nothing.copy()
    y, x = np.mgrid[-9:10, -9:10]
    far = np.hypot(y, x)
    for row, column in np.argwhere(high):
        around = np.s_[row - 9 : row + 10, column - 9 : column + 10]
        rings[around] |= (far > 0.7) & (far < 1.3 * fwhm)
        # Three pixels wide, beside the peak.
        tracks[around] |= (x > 0) & (x < 4)
    assert star_cores(image, tracks) == (found, 0)
    again, flagged = star_cores(image, rings)
    assert again == found and 3 < flagged <= high.sum()
    assert not rings[high].any()


def test_a_hit_as_wide_as_the_stars_is_no_star():
    image, _ = star_field(1.2)
    nothing = np.zeros(image.shape, bool)
    found, _ = star_cores(image, nothing)
    hits = nothing.copy()
    empty = maximum_filter(image, 15) < np.median(image) + 60
    for row, column in np.argwhere(empty[20:-20, 20:-20])[::500][:8] + 20:
        # As round and peaked as a star, but for a side where it ends at once.
        image[row : row + 3, column : column + 2] += np.array([[120, 80], [600, 560], [300, 250]], np.float32)
        hits[row : row + 3, column : column + 2] = True
    assert hits.sum() == 48
    now, flagged = star_cores(image, hits)
    assert flagged == 0 and abs(now - found) < 0.03 * found


@pytest.mark.parametrize("fwhm", [2.0, 3.5])
def test_galaxies_are_counted_by_their_nuclei_and_hits_are_none(fwhm):
    rng = np.random.default_rng(4)
    scene, _ = simulate_sky((400, 400), rng, fwhm=fwhm, stars=600, galaxies=0, faintest=4000)
    y, x = np.mgrid[-24:25, -24:25]
    disk = 3.0 * fwhm * np.exp(-np.hypot(y, 1.3 * x) / (1.5 * fwhm))
    places = [(row, column) for row in range(40, 380, 80) for column in range(40, 380, 80)]
    for row, column in places:
        around = np.s_[row - 24 : row + 25, column - 24 : column + 25]
        scene[around] = np.median(scene) + 400 * disk
    charge = np.zeros(scene.shape)
    for row, column in rng.integers(5, 340, (60, 2)):
        stamp = simulate_hit(rng)
        where = row + np.arange(stamp.shape[0]), column + np.arange(stamp.shape[1])
        if stamp.shape[0] < 50 and stamp.shape[1] < 50:
            charge[np.ix_(*where)] += stamp
    image, hits = expose(scene + charge, 1100, 7, 4, rng), charge > 0
    found = judge_sources(image, hits)
    # Those that a hit crosses may be left out, or be masked in the nucleus.
    crossed = sum(hits[row - 12 : row + 13, column - 12 : column + 13].any() for row, column in places)
    assert 25 - crossed <= found.galaxies <= 25 + 2 and found.galaxies_flagged <= crossed
    nuclei = np.zeros(image.shape, bool)
    for row, column in places[:10]:
        nuclei[row - 2 : row + 3, column - 2 : column + 3] = True
    masked = judge_sources(image, hits | nuclei)
    assert masked.galaxies_flagged >= 8 and masked.galaxies_flagged / masked.galaxies > 0.3
    assert masked.stars_flagged == found.stars_flagged


def test_an_empty_or_constant_image_has_no_stars():
    nothing = np.zeros((64, 64), bool)
    assert star_cores(np.random.default_rng(0).normal(size=(64, 64)), nothing) == (0, 0)
    assert star_cores(np.zeros((64, 64)), nothing) == (0, 0)


def test_a_sky_that_is_known_gives_the_same():
    image, _ = star_field(1.8)
    nothing = np.zeros(image.shape, bool)
    halves = [np.s_[:, :150], np.s_[:, 150:]]
    image[:, 150:] += 700
    known = star_cores(image, nothing, sections=halves, sky=measure_sky(image, nothing, halves))
    assert known == star_cores(image, nothing, sections=halves) and known[0] > 40


def test_the_buffer_of_sep_is_never_lowered(monkeypatch):
    before = sep.get_extract_pixstack()
    sep.set_extract_pixstack(before + 12_345)
    star_cores(np.random.default_rng(0).normal(size=(64, 64)), np.zeros((64, 64), bool))
    assert sep.get_extract_pixstack() == before + 12_345


class FlatBackground:
    """A background that is not taken from the object that fills the image."""

    globalrms = 1.0

    def __init__(self, image, mask):
        pass

    def subfrom(self, image):
        pass


def test_a_full_buffer_is_raised_until_the_image_fits(monkeypatch):
    # One smooth object, larger than the buffer that is enough for most images.
    row, column = np.mgrid[-1:1:700j, -1:1:700j]
    image = (1000 * np.exp(-(row**2) - column**2)).astype(np.float32)
    room = []
    monkeypatch.setattr(sources, "_make_room", lambda pixels: room.append(pixels) or sep.set_extract_pixstack(pixels))
    monkeypatch.setattr(sep, "Background", FlatBackground)
    noise, found = sources.extract(image, np.zeros(image.shape, bool), 5)
    assert room == [300_000, 700 * 701] and noise == 1.0 and len(found) <= 1


def test_another_thread_does_not_change_the_count():
    # A second thread that lowered the buffer made the count (0, 0).
    small, large = np.zeros((64, 64), np.float32), star_field(1.8)[0]
    large = np.tile(large, (3, 3))
    nothing = np.zeros(large.shape, bool)
    alone = star_cores(large, nothing)
    sep.set_extract_pixstack(1000)
    stop = Event()

    def others():
        while not stop.is_set():
            star_cores(small, np.zeros(small.shape, bool))

    thread = Thread(target=others)
    thread.start()
    try:
        together = [star_cores(large, nothing) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    assert alone[0] > 300 and together == [alone] * 5


@pytest.mark.parametrize(("hits", "stars"), [(10, 0), (30, 30)])
def test_hits_alone_are_no_stars_unless_there_are_many(hits, stars):
    """Where no star is left, hits that are alike tell nothing of stars; a mask that took all stars does."""
    rng = np.random.default_rng(6)
    image, masked = rng.normal(1000, 5, (300, 300)), np.zeros((300, 300), bool)
    for row, column in rng.permutation([(r, c) for r in range(20, 290, 40) for c in range(20, 290, 40)])[:hits]:
        image[row : row + 2, column : column + 2] += 800
        masked[row : row + 2, column : column + 2] = True
    assert star_cores(image, masked) == (stars, stars)
