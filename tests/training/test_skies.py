import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import binary_dilation
from scipy.special import erf
from training_support import few_planes_fixture, skies_fixture  # noqa: F401

from crattn_stage import load_model
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, moffat_psf, simulate_sky
from training.data.frames import cleaned, read_skies
from training.data.hard_skies import (
    add_stars,
    charge_of,
    cusped_galaxies,
    draw_psf,
    draw_spectrum,
    hard_sky,
    hot_pixels,
    noise_plane,
    spikes,
)
from training.data.hits import write_footprints
from training.data.library import Skies, Sources
from training.data.skies import Sky, streaks
from training.evaluation.scene_sets import make_scenes


def test_psf_phases_sum_to_one_and_move_the_star():
    psf = moffat_psf(2.5, radius=10)
    assert np.allclose(psf.sum((2, 3)), 1, atol=1e-5)
    offsets = np.arange(-10, 11)
    centroids = [(psf[i, 2].sum(1) * offsets).sum() for i in range(5)]
    assert np.allclose(np.diff(centroids), 0.2, atol=0.03)


def test_a_simulated_star_is_where_it_is_said_to_be():
    rng = np.random.default_rng(5)
    plane, stars = simulate_sky((80, 80), rng, fwhm=3, stars=200, galaxies=0, faintest=1e4)
    row, column, _ = stars[np.argmax(stars[:, 2])]
    peak = np.unravel_index(plane.argmax(), plane.shape)
    assert abs(peak[0] - row) < 1 and abs(peak[1] - column) < 1


def test_streaks_of_satellites_are_as_wide_as_stars():
    rng = np.random.default_rng(0)
    planes = [p for p in (streaks(rng, 64, 4.0) for _ in range(200)) if p.any()]
    assert 5 < len(planes) < 60
    for plane in planes:
        row, column = np.unravel_index(plane.argmax(), plane.shape)
        around = plane[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        # No neighbour of the ridge is far below it, as it would be in a muon's track.
        assert around.min() > 0.25 * plane.max()


@pytest.mark.parametrize("fwhm", [4.0, 1.2])
def test_a_cleaned_sky_has_lost_its_hits_and_kept_its_stars(fwhm):
    rng = np.random.default_rng(3)
    plane, stars = simulate_sky((150, 150), rng, fwhm=fwhm, stars=1500, galaxies=0, faintest=3000)
    clean = expose(plane, 800, 7, 4, rng)
    charge, truth = scatter_hits(clean.shape, [simulate_hit(rng, "track") for _ in range(8)], rng)
    sky = Sky(clean + charge / 4, np.zeros(clean.shape, bool), 200.0, 7.3, 4.0)
    result = cleaned(sky, load_model("fast", "float32"))
    assert np.abs(result.image - clean)[truth].mean() < 0.15 * np.abs(sky.image - clean)[truth].mean()
    changed = result.image != sky.image
    assert changed.mean() < 0.05 and sky.image is not result.image
    # At 1.2 pixels Astro-SCRAPPY takes nine stars of ten for hits.
    cores = tuple(np.rint(stars[stars[:, 2] > 8000, :2]).astype(int).clip(0, 149).T)
    clear = ~binary_dilation(truth, iterations=3)[cores]
    assert clear.sum() > 10 and not changed[cores][clear].any()


def test_large_galaxies_light_up_a_part_of_the_sky(skies):
    (scene,) = make_scenes(skies, "galaxies", 1)
    lit = scene.sky.image > scene.sky.level + 3 * scene.sky.sigma
    assert 0.1 < lit.mean() < 0.5 and scene.truth.any()


def test_what_a_data_folder_lacks_is_said_and_simulated(tmp_path):
    sources = Sources.find(tmp_path)
    assert len(sources.missing()) == 3 and "DECam" not in sources.description()
    assert Skies("test", tmp_path).kinds == {"simulated": 1.0}


def test_a_catalogue_without_a_hit_for_a_split_is_made_up_for(tmp_path):
    write_footprints(tmp_path / "mine.fits", [np.full((2, 2), 900, np.float32)] * 3)
    assert len(Skies("train", hits=tmp_path / "mine.fits").hits) == 4
    assert len(Skies("test", hits=tmp_path / "mine.fits").hits) == 3000
    assert "mine.fits" in Sources.find(hits=tmp_path / "mine.fits").description()


def test_frames_of_ones_own_are_measured_on(tmp_path):
    rng = np.random.default_rng(3)
    plane, _ = simulate_sky((480, 300), rng, fwhm=3)
    hdu = fits.PrimaryHDU(expose(plane, 800, 7, 2.0, rng))
    hdu.header["EGAIN"] = 2.0
    hdu.writeto(tmp_path / "mine.fits")
    skies = Skies("test", frames=[tmp_path / "mine.fits"])
    (scene,) = make_scenes(skies, "frames", 1)
    assert scene.image.shape == (120, 300) and scene.sky.gain == 2 and scene.truth.any()
    assert read_skies(tmp_path / "mine.fits")[0].image.shape == (480, 300)
    assert "mine.fits" in skies.sources.description()


def test_a_gaussian_psf_has_no_wings_and_spikes_turn():
    psf = moffat_psf(2.5, np.inf, radius=12)[2, 2]
    edges = erf(2 * np.sqrt(np.log(2)) / 2.5 * np.array([-0.5, 0.5, 1.5, 2.5]))
    assert np.isclose(psf[12, 14] / psf[12, 12], (edges[3] - edges[2]) / (edges[1] - edges[0]), rtol=0.02)
    assert psf[12, 20] < 1e-9
    straight, turned = (moffat_psf(2.5, radius=12, spikes=0.05, angle=a)[2, 2] for a in (0.0, np.pi / 4))
    assert straight[12, 22] > 2 * turned[12, 22] and turned[19, 19] > 2 * straight[19, 19]


def test_stars_of_a_given_signal_have_it_wherever_they_are():
    psf = moffat_psf(2.0, radius=12)
    plane = np.zeros((40, 60), np.float32)
    # One of them beyond the edge, one far outside.
    add_stars(plane, [(20, 30), (-3, 5), (400, 400)], [1e4, 1e4, 1e4], psf)
    assert plane.argmax() == 20 * 60 + 30 and 1e4 < plane.sum() < 1.4e4 and plane[0, 5] > 0
    charge = charge_of(np.array([20, 1000]), 2.0, 30.0)
    noise = np.sqrt(charge + 4 * np.pi * (2 / 2.355) ** 2 * 900)
    assert np.allclose(charge / noise, [20, 1000])


def test_noise_of_hard_skies_has_heavy_tails_and_hot_pixels_are_single():
    tails = [(noise_plane(np.random.default_rng(n), 128) < -4).mean() for n in range(12)]
    assert min(tails) < 2e-4 and max(tails) > 1e-3
    hot = [(hot_pixels(np.random.default_rng(n), 128) != 0).mean() for n in range(40)]
    assert 5 < sum(h == 0 for h in hot) < 35 and 1e-3 < max(hot) < 8e-3


def test_spikes_and_cusps_are_where_light_is_brightest():
    rng = np.random.default_rng(4)
    psf, fwhm = draw_psf(rng)
    galaxies = cusped_galaxies(rng, 64, psf, fwhm, 30.0)
    assert galaxies.shape == (64, 64) and galaxies.max() > 30 and (galaxies >= 0).all()
    arms = spikes(rng, 64, fwhm, 30.0)
    assert arms.shape == (64, 64) and np.isfinite(arms).all() and arms.max() > 3 * np.median(arms)


def test_some_hard_skies_are_spectra():
    rng = np.random.default_rng(5)
    psfs, spectra = [draw_psf(rng)], [draw_spectrum(rng)]
    electrons, fwhm = spectra[0]
    assert 1.4 <= fwhm <= 5 and electrons.min() >= 0 and electrons.max() > 100
    drawn = [hard_sky(np.random.default_rng(n), 64, psfs, spectra) for n in range(120)]
    of_spectra = [sky for sky in drawn if sky.fwhm == fwhm]
    assert 3 <= len(of_spectra) <= 22 and not any(sky.fwhm == fwhm for sky in (hard_sky(rng, 64, psfs) for _ in drawn))
    # The level is that of the whole: a part on a trace stands above it.
    assert len({round(sky.level, 3) for sky in of_spectra}) == len(of_spectra)
    assert all(sky.image.shape == (64, 64) and np.isfinite(sky.image).all() and sky.sigma > 0 for sky in of_spectra)


def test_hard_skies_come_with_hits_of_thin_sensors(tmp_path, monkeypatch):
    monkeypatch.setattr("training.data.library.PSFS", 3)
    monkeypatch.setattr("training.data.library.SPECTRA", 2)
    write_footprints(tmp_path / "cr_footprints_sbig_st402.fits.gz", [np.full((2, 2), 900, np.float32)] * 20)
    skies = Skies("train", tmp_path, hard=1.0)
    drawn = [skies.draw(np.random.default_rng(number), 64) for number in range(16)]
    assert len(skies.thin_hits) == 16 and 2 < sum(hits is skies.thin_hits for _, hits in drawn) < 14
    for sky, _ in drawn:
        assert sky.image.dtype == np.float32 and np.isfinite(sky.image).all() and sky.sigma > 0
    assert "thin SBIG" in skies.sources.description(hard=True) and "thin" not in skies.sources.description()
    (scene,) = make_scenes(Skies("test", tmp_path), "thin:2.5", 1)
    # 70 hits in a million pixels, of 2 by 2 pixels, dilated.
    assert 60 * 16 < scene.truth.sum() < 80 * 16
