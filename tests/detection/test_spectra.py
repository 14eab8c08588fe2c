"""Cosmic rays on two-dimensional spectra."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crattn_stage import load_model
from crattn_stage.detection import spectra
from crattn_stage.detection.preprocessing import measure_sky
from crattn_stage.simulation.hits import simulate_hit
from crattn_stage.simulation.skies import expose
from crattn_stage.simulation.spectra import KINDS, simulate_spectrum

WHOLE = [np.s_[:, :]]


@pytest.fixture(scope="module")
def fast():
    return load_model("fast", engine="openvino")


def probability(model, image, bad=None, sections=WHOLE):
    bad = np.zeros(image.shape, bool) if bad is None else bad
    return spectra.probability(model, image, bad, sections, measure_sky(image, bad, sections))


def spectrum(kind, fwhm, seed, side=400, read_noise=4.0):
    """Return an exposure without hits in electrons, its noise, and where its lines and traces are."""
    rng = np.random.default_rng(seed)
    noiseless = simulate_spectrum((side, side), rng, kind, fwhm)
    noise = np.sqrt(noiseless.electrons + read_noise**2)
    return expose(noiseless.electrons, 0, read_noise, 1.0, rng), noise, noiseless.electrons - noiseless.smooth > noise


@pytest.mark.parametrize("fwhm", [1.5, 2.5, 4.0])
def test_lines_and_traces_stay_and_hits_are_found(fast, fwhm):
    found = hits = flagged = sharp = 0
    for seed, kind in enumerate(("long-slit", "echelle")):
        image, noise, lines = spectrum(kind, fwhm, seed)
        rng, truth = np.random.default_rng(seed), []
        for place in rng.integers(20, 380, (12, 2)):
            hit = simulate_hit(rng, "track")
            window = tuple(slice(p, min(p + n, 400)) for p, n in zip(place, hit.shape, strict=True))
            image[window] += hit[: window[0].stop - place[0], : window[1].stop - place[1]]
            if (hit.max() > 10 * noise[window]).any():
                truth.append(window)
        masked = probability(fast, image) > fast.card.threshold
        clean = lines.copy()
        for window in truth:
            found += masked[window].any()
            clean[tuple(slice(max(0, s.start - 2), s.stop + 2) for s in window)] = False
        hits += len(truth)
        flagged += (masked & clean).sum()
        sharp += clean.sum()
    assert hits > 8 and found >= 0.9 * hits and flagged < 0.002 * sharp


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.3, -0.5])
def test_tilted_traces_are_followed(slope, monkeypatch):
    row, column = np.indices((300, 200))
    trace = 2000 * np.exp(-0.5 * ((row - 150 - slope * (column - 100)) / 0.7) ** 2)
    image = expose(trace.astype(np.float32), 100, 4.0, 1.0, np.random.default_rng(0))
    on = trace > 100
    for picture, mask in ((image, on), (image.T, on.T)):
        left = spectra.residuals(np.ascontiguousarray(picture), np.zeros(picture.shape, bool))
        assert np.percentile(np.abs(left[mask]), 99) < 5
    # Running medians along rows and columns alone leave most of a steep one.
    monkeypatch.setattr(spectra, "STRAIGHT", np.inf)
    left = spectra.residuals(image, np.zeros(image.shape, bool))
    assert (np.percentile(np.abs(left[on]), 99) > 5) == (abs(slope) > 0.2)


def test_residuals_are_noise_in_its_own_units_whatever_the_gain_and_the_bias():
    image, _, lines = spectrum("long-slit", 2.5, 5)
    left = spectra.residuals(image, np.zeros(image.shape, bool))
    spread = 1.4826 * np.median(np.abs(left))
    assert 0.6 < spread < 1.3 and 1.4826 * np.median(np.abs(left[lines])) < 1.5
    again = spectra.residuals(image / 3.0 + 2000.0, np.zeros(image.shape, bool))
    assert np.abs(again - left).max() < 0.02 * np.abs(left).max()


def test_amplifiers_and_bad_pixels_are_kept_apart(fast):
    image, _, _ = spectrum("long-slit", 3.0, 6)
    image[:, 200:] += 5000
    bad = np.zeros(image.shape, bool)
    bad[100:105] = True
    image[100:105] = np.nan
    sections = [np.s_[0:400, 0:190], np.s_[0:400, 200:400]]
    found = probability(fast, image, bad, sections) > fast.card.threshold
    assert not found[bad].any() and not found[:, 190:200].any() and found.sum() < 60


@given(st.integers(1, 24), st.integers(1, 24), st.sampled_from([0.0, 1e-30, 1.0, 65535.0, 1e30, -1e30]))
def test_residuals_of_any_shape_and_value_are_finite(rows, columns, value):
    image = np.random.default_rng(rows).normal(0, 1, (rows, columns)).astype(np.float32)
    image[rows // 2, columns // 2] = value
    assert np.isfinite(spectra.residuals(image, np.zeros(image.shape, bool))).all()
    assert np.isfinite(spectra.residuals(np.full_like(image, value), np.zeros(image.shape, bool))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_simulated_spectra_are_what_they_say(kind):
    made = simulate_spectrum((120, 300), np.random.default_rng(2), kind, 2.0)
    assert made.electrons.shape == (120, 300) and made.electrons.dtype == np.float32
    assert np.isfinite(made.electrons).all() and (made.electrons >= made.smooth).all() and made.smooth.min() >= 0
    assert (made.electrons - made.smooth).max() > 100
    with pytest.raises(ValueError, match="unknown kind of spectrum 'prism'; known: long-slit"):
        simulate_spectrum((9, 9), np.random.default_rng(0), "prism")
