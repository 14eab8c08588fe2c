"""Pieces of spikes lie in pairs mirrored through a star, and hits do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crattn_stage.detection.saturation import saturated_stars
from crattn_stage.quality.cards import header_cards
from crattn_stage.quality.rules import RULES, verdict
from crattn_stage.quality.star_cores import judge_sources
from crattn_stage.quality.summary import Summary, Symmetry, total
from crattn_stage.quality.symmetry import bright_stars, count_pairs, pairs_through
from crattn_stage.simulation.hits import simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky

SIDE, NOISE, FULL = 600, 15.0, 60_000
RULE = next(rule for rule in RULES if rule.keyword == "CRPAIRS")


def warns(symmetry):
    judged = RULE.judge(Summary(searched=1, symmetry=symmetry), None)
    return judged is not None and judged[0] > RULE.warn


def star_with_spikes(place, peak, fwhm, angle):
    """Return the light of a bright star, and of its four spikes alone, beyond its core."""
    y, x = (axis - centre for axis, centre in zip(np.mgrid[:SIDE, :SIDE], place, strict=True))
    core = (1 + (y**2 + x**2) / fwhm**2) ** -3.0
    u, v = y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)
    arms = sum(np.exp(-((a / fwhm) ** 2 / 0.3)) / (1 + (np.abs(b) / 15) ** 1.5) for a, b in ((u, v), (v, u)))
    spikes = 4e-4 * peak * arms
    return peak * core + spikes, np.where(np.hypot(y, x) > 3 * fwhm, spikes, 0)


def field(seed):
    """Return a frame, its saturated stars, a mask of its hits, and one with pieces of spikes as well."""
    rng = np.random.default_rng(seed)
    fwhm, angle = rng.uniform(1.6, 4), rng.uniform(0, np.pi / 2)
    scene, _ = simulate_sky((SIDE, SIDE), rng, fwhm=fwhm, stars=400, galaxies=200, faintest=1000)
    light = [
        star_with_spikes(rng.uniform(60, SIDE - 60, 2), 10 ** rng.uniform(5.5, 6.5), fwhm, angle) for _ in range(4)
    ]
    spikes = np.max([spike for _, spike in light], 0) > 5 * NOISE
    cell = int(rng.integers(5, 8))
    broken = np.kron(rng.random((SIDE // cell + 1,) * 2) < 0.5, np.ones((cell, cell), bool))[:SIDE, :SIDE]
    charge = np.zeros((SIDE, SIDE))
    for row, column in rng.integers(0, SIDE - 1, (60, 2)):
        hit = simulate_hit(rng)[: SIDE - row, : SIDE - column]
        charge[row : row + hit.shape[0], column : column + hit.shape[1]] += hit
    image = expose(scene + sum(star for star, _ in light) + charge, 200, 5, 1, rng)
    hits = charge > 3 * NOISE
    image = np.minimum(image, FULL).astype(np.float32)
    return image, saturated_stars(image, FULL), hits, hits | (spikes & broken)


def test_pieces_of_spikes_warn_and_hits_do_not():
    warned = []
    for seed in range(6):
        image, saturated, hits, pieces = field(seed)
        # A mask has nothing on bad pixels.
        alone, found = (judge_sources(image, mask & ~saturated, saturated).symmetry for mask in (hits, pieces))
        assert not warns(alone) and found.stars >= 3
        warned.append(warns(found))
    assert sum(warned) >= 5


def test_random_hits_on_many_stars_do_not_warn():
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(200):
        stars, objects = rng.integers(1, 51), int(10 ** rng.uniform(1, 3.5))
        places, hits = rng.uniform(0, 1500, (stars, 2)), rng.uniform(0, 1500, (objects, 2))
        # Hits in pieces, up to four in a row.
        length = rng.integers(1, 5, objects)
        step = rng.normal(0, 5, (objects, 2))
        parts = np.concatenate([(hits + number * step)[length > number] for number in range(4)])
        draws.append(pairs_through(places, 10 ** rng.uniform(1.3, 2.4, stars), parts))
    assert not any(map(warns, draws))
    # As many are mirrored as chance says.
    pairs, chance = sum(d.pairs for d in draws), sum(d.chance for d in draws)
    assert chance > 500 and pairs == pytest.approx(chance, rel=0.1)


places = st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), max_size=60, unique=True)


@given(places, st.integers(0, 3), st.booleans())
def test_a_turned_or_mirrored_mask_has_the_same_pairs(objects, quarters, is_mirrored):
    objects = np.array(objects, float).reshape(-1, 2)
    turn = np.linalg.matrix_power(np.array([[0.0, 1], [-1, 0]]), quarters) @ np.diag([1, -1 if is_mirrored else 1])
    stars, reach = np.array([[0.0, 0], [7, -12]]), np.array([50.0, 30])
    before, after = (pairs_through(stars @ way, reach, objects @ way) for way in (np.eye(2), turn))
    assert before.pairs == after.pairs and before.chance == pytest.approx(after.chance)
    assert 0 <= before.pairs <= len(objects) / 2


def test_the_more_mirrored_the_more_pairs():
    rng = np.random.default_rng(2)
    radius, spike = rng.permutation(np.arange(8, 80, 6)), np.pi / 2 * rng.integers(0, 2, 12)
    half = np.stack([radius * np.sin(spike + 0.3), radius * np.cos(spike + 0.3)], 1)
    counts = [pairs_through(np.zeros((1, 2)), [100.0], np.concatenate([half, -half[:n]])).pairs for n in (0, 4, 12)]
    assert counts == sorted(counts) and counts[0] < 4 and counts[2] >= 11


def test_a_hit_that_a_star_cuts_in_two_is_one_pair():
    way = np.arange(5, 60)
    hit = np.stack([np.r_[way, -way], np.zeros(2 * len(way))], 1)
    halves = np.repeat([0, 1], len(way))
    assert pairs_through(np.zeros((1, 2)), [80.0], hit, halves).pairs == 1
    assert pairs_through(np.zeros((1, 2)), [80.0], hit, np.zeros_like(halves)).pairs == 0


def test_stars_are_found_by_their_centres_and_columns_are_none():
    rng = np.random.default_rng(4)
    image = rng.normal(0, NOISE, (SIDE, SIDE))
    centres = np.array([[102.3, 97.8], [301.0, 402.5], [480.4, 130.2]])
    for centre, peak in zip(centres, (3e6, 3e5, 3e4), strict=True):
        image += star_with_spikes(centre, peak, 3.0, 0.4)[0]
    image[:, 250] += 30_000
    image = np.minimum(image, FULL).astype(np.float32)
    found, reach = bright_stars(image)
    assert found == pytest.approx(centres, abs=0.5) and (np.diff(reach) < 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (20, 3000), (100, 100)])
def test_nothing_comes_of_nothing(shape):
    image, empty = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for mask in (empty, ~empty):
        assert count_pairs(image, mask) == Symmetry()
    assert judge_sources(np.full(shape, np.nan), empty).symmetry == Symmetry()
    assert not warns(Symmetry()) and not warns(Symmetry(stars=3))


def test_many_objects_are_as_many_again_and_cost_no_more():
    rng = np.random.default_rng(5)
    stars, hits = rng.uniform(0, 3000, (50, 2)), rng.uniform(0, 3000, (10_000, 2))
    found = pairs_through(stars, np.full(50, 300.0), hits)
    # Those of a few stars are enough.
    assert found == pairs_through(stars, np.full(50, 300.0), hits) and found.pairs < 1000 and not warns(found)


def test_the_verdict_and_the_card_have_the_pairs():
    quiet, spiked = Symmetry(2, 1, 0.5, 0.4), Symmetry(3, 14, 0.5, 0.3)
    why = "masked 15 pairs mirrored through bright stars, 1.0 by chance"
    # A card holds 68 characters.
    assert len(why) < 68
    both = total([Summary(searched=10_000, symmetry=quiet), Summary(searched=10_000, symmetry=spiked)])
    assert verdict(both) == ("WARN", why) and verdict(Summary(searched=10, symmetry=quiet)) == ("PASS", "")
    provenance = {"model": "m", "sha256": "ab" * 32, "threshold": 0.5, "engine": "e", "version": "0"}
    assert header_cards(both, None, provenance)["CRPAIRS"][0] == 14.0
    assert header_cards(Summary(searched=10), None, provenance)["CRPAIRS"][0] is None
