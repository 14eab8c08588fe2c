"""Scenes with exact truth to measure on: held-out hits on held-out or simulated skies, by name."""

import hashlib
import re

import numpy as np

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.simulation.skies import expose, simulate_sky
from crattn_stage.simulation.spectra import simulate_spectrum
from training.data.contamination import Scene, contaminate
from training.data.skies import Sky, large_galaxy

#: Hits per million pixels.
DENSITY = 70
#: Seeing of the star scenes, FWHM in pixels, and the least S/N of a star that counts.
SEEINGS, LEAST_SN = (1.2, 1.6, 2.2, 3.2, 5.0, 8.0), 20
NUMBER = re.compile(r"\d+(\.\d+)?")
#: Side of simulated scenes, pixels.
SIDE = 1024
#: Sky (ADU), gain (e/ADU), read noise (e) and noise (ADU) of simulated fields.
LEVEL, GAIN, READ_NOISE = 300.0, 4.0, 7.0
NOISE = np.sqrt(LEVEL * GAIN + READ_NOISE**2) / GAIN


def make_scenes(skies, name, count, seed=0, density=DENSITY):
    """Make scenes with footprints as they are.

    Parameters
    ----------
    skies : `training.data.library.Skies`
        Of the validation or test split.
    name : str
        One of `KINDS`, with a number behind a colon where it takes one: "r", "z",
        "coadd:300", "frames", "sky:300", "stars:1.5", "galaxies", "thin:2.5", "spectra:2", "arcs:2".
    count : int
        Realisations of hits and, but for "r" and "frames", of noise.
    seed : int
    density : float
        Hits per million pixels.

    Returns
    -------
    list of `training.data.contamination.Scene`

    Raises
    ------
    ValueError
        If there are no such scenes, or the skies have not got what they need.
    """
    kind, _, number = name.partition(":")
    if kind not in KINDS or (number and not NUMBER.fullmatch(number)) or bool(number) > (kind in NUMBERED):
        raise ValueError(f"unknown scenes {name!r}; known: {', '.join(KINDS)}, and {', '.join(NUMBERED)} with :NUMBER")
    make, reason, value = KINDS[kind], lacking(skies, name), [float(number)] if number else []
    if reason:
        raise ValueError(f"scenes {name!r}: {reason}")
    scenes = []
    for realisation in range(count):
        rng = np.random.default_rng([seed, realisation, _number_of(name)])
        for sky in make(skies, rng, *value):
            library = skies.thin_hits if kind == "thin" else skies.hits
            hits = rng.integers(0, len(library), round(density * sky.image.size / 1e6))
            scenes.append(contaminate(sky, [library[i] for i in hits], rng, spread=0))
    return scenes


def clean_skies(skies, name, rng):
    """Return the clean skies of a kind of scenes.

    Parameters
    ----------
    skies, name
        As for `make_scenes`.
    rng : `numpy.random.Generator`

    Returns
    -------
    list of `training.data.skies.Sky`
    """
    kind, _, number = name.partition(":")
    return KINDS[kind](skies, rng, *([float(number)] if number else []))


def lacking(skies, name):
    """Return why scenes cannot be made of skies, or None.

    Parameters
    ----------
    skies : `training.data.library.Skies`
    name : str
        As for `make_scenes`.

    Returns
    -------
    str or None
    """
    needs = {
        "r": (skies.ccd, "there is no DECam CCD in the data folder"),
        "z": (skies.coadd, "there is no deep coadd in the data folder"),
        "coadd": (skies.coadd, "there is no deep coadd in the data folder"),
        "frames": (skies.frames or None, "no frames are given"),
        "thin": (skies.thin_hits or None, "there are no footprints of thin CCDs in the data folder"),
    }
    there, reason = needs.get(name.partition(":")[0], (True, None))
    return reason if there is None else None


def _number_of(name):
    """Return a number for a name, so that no two sets of scenes share noise and hits."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _real(skies, rng):
    """Return the held-out rows of the DECam CCD, sky 282 ADU."""
    ccd = skies.ccd
    return [Sky(ccd.image.copy(), ccd.bad.copy(), ccd.level, ccd.sigma, ccd.gain)]


def _exposed_coadd(skies, rng, level=2090.0):
    """Return the held-out columns of the deep coadd, exposed at a sky level in ADU."""
    return [skies.exposed_coadd(rng, level)]


def _frames(skies, rng):
    """Return the held-out rows of the frames that were given, cleaned."""
    return [sky for sky in skies.frames if not sky.bad.all()]


def _sky(skies, rng, level=LEVEL):
    """Return a simulated sky of stars and galaxies at a sky level in ADU."""
    plane, _ = simulate_sky((SIDE, SIDE), rng, fwhm=4.0)
    return [_exposed(plane, rng, 4.0, level)]


def _stars(skies, rng, fwhm=4.0):
    """Return a simulated star field of a seeing in pixels."""
    return [_star_field(rng, fwhm, SIDE)[0]]


def _thin(skies, rng, fwhm=2.5):
    """Return a simulated sky of a camera with a thin CCD, and a seeing in pixels."""
    plane, _ = simulate_sky((SIDE, SIDE), rng, fwhm=fwhm, stars=1000)
    return [_exposed(plane, rng, fwhm)]


def _galaxies(skies, rng):
    """Return a simulated sky of which large galaxies light up a quarter."""
    return [_galaxy_field(rng, SIDE)]


def _spectra(skies, rng, fwhm=2.5, kinds=("long-slit", "fibres", "echelle")):
    """Return simulated spectra with lines and traces of a width in pixels, one of each kind."""
    return [_spectrum(rng, kind, fwhm) for kind in kinds]


def _arcs(skies, rng, fwhm=2.5):
    """Return the spectrum of a lamp with lines of a width in pixels."""
    return _spectra(skies, rng, fwhm, ("arc",))


def _spectrum(rng, kind, fwhm):
    gain, read_noise = rng.uniform(0.8, 2.5), rng.uniform(2.5, 8)
    spectrum = simulate_spectrum((SIDE, SIDE), rng, kind, fwhm)
    image = expose(spectrum.electrons, 0, read_noise, gain, rng)
    # What stands above its own noise.
    sharp = spectrum.electrons - spectrum.smooth > np.sqrt(spectrum.electrons + read_noise**2)
    return Sky(image, np.zeros(image.shape, bool), *sky_statistics(image), gain, fwhm, read_noise, sharp, kind)


#: Kind of scenes -> function of (skies, random generator[, number]) that returns their clean skies.
KINDS = {
    "r": _real,
    "z": _exposed_coadd,
    "coadd": _exposed_coadd,
    "frames": _frames,
    "sky": _sky,
    "stars": _stars,
    "galaxies": _galaxies,
    "thin": _thin,
    "spectra": _spectra,
    "arcs": _arcs,
}
#: Kinds that take a number.
NUMBERED = ("coadd", "sky", "stars", "thin", "spectra", "arcs")


def _star_field(rng, fwhm, size):
    """Simulate a star field: its `training.data.skies.Sky`, and row, column and charge of its stars."""
    plane, stars = simulate_sky((size, size), rng, fwhm=fwhm, stars=3000, galaxies=0, faintest=1000 * fwhm)
    return _exposed(plane, rng, fwhm), stars


def _galaxy_field(rng, size, fwhm=4.4):
    """Simulate a sky with 16 large galaxies in a megapixel: its `training.data.skies.Sky`."""
    plane, _ = simulate_sky((size, size), rng, fwhm=fwhm)
    for _ in range(round(16 * size**2 / 1e6)):
        plane += large_galaxy(rng, size) * np.float32(NOISE * GAIN)
    return _exposed(plane, rng, fwhm)


def _exposed(plane, rng, fwhm, level=LEVEL):
    """Expose a noiseless plane in electrons at a sky level in ADU."""
    image = expose(plane, level * GAIN, READ_NOISE, GAIN, rng)
    noise = np.sqrt(level * GAIN + READ_NOISE**2) / GAIN
    return Sky(image, np.zeros(image.shape, bool), level, noise, GAIN, fwhm, READ_NOISE)


def star_scenes(size=400, seed=20224):
    """Simulate star fields without a hit, one for each of `SEEINGS`.

    Parameters
    ----------
    size : int
        Side of the fields, pixels.
    seed : int

    Returns
    -------
    scenes : list of `training.data.contamination.Scene`
    stars : list of `numpy.ndarray`
        (n, 2) int: row and column of the cores of stars of S/N above `LEAST_SN`.
    """
    scenes, stars = [], []
    for number, fwhm in enumerate(SEEINGS):
        sky, found = _star_field(np.random.default_rng([seed, number]), fwhm, size)
        scenes.append(Scene(sky, sky.image, np.zeros(sky.image.shape, bool)))
        core, charge = np.rint(found[:, :2]).astype(int), found[:, 2]
        # Noise of a matched filter: over an area of 4 pi sigma^2 pixels.
        noise = np.sqrt(charge + 4 * np.pi * (fwhm / 2.355) ** 2 * (sky.sigma * sky.gain) ** 2)
        inside = ((core >= 0) & (core < size)).all(1)
        stars.append(core[inside & (charge > LEAST_SN * noise)])
    return scenes, stars
