"""Skies on which networks mask what is no hit: narrow stars, spikes, cusps, close pairs, lines, noise of every kind.

Each function draws one thing at random, as those of `training.data.skies`.  Lengths are in
pixels; planes are in electrons, or in units of the sky noise where a docstring says so.
"""

import numpy as np
from scipy.signal import fftconvolve

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.simulation.skies import expose, moffat_psf
from crattn_stage.simulation.spectra import KINDS, simulate_spectrum
from training.data.skies import PLANE, Sky, background

#: Point spread functions and spectra of a split.
PSFS, SPECTRA = 160, 80
#: Half side of a star's stamp.
RADIUS = 40
#: FWHM below which a star looks like a hit, pixels.
NARROW = 2.0


def draw_psf(rng):
    """Draw a point spread function: Gaussian or Moffat, with or without spikes at an angle.

    Parameters
    ----------
    rng : `numpy.random.Generator`

    Returns
    -------
    psf : `numpy.ndarray`
        As from `crattn_stage.simulation.skies.moffat_psf`, of half side `RADIUS`.
    fwhm : float
    """
    # Evenly in the logarithm: most of what goes wrong is narrow.
    fwhm = 10 ** rng.uniform(np.log10(1.2), np.log10(5))
    beta = np.inf if rng.random() < 0.5 else rng.uniform(2.3, 6)
    psf = moffat_psf(
        fwhm,
        beta,
        RADIUS,
        spikes=0.03 * rng.random() if rng.random() < 0.5 else 0,
        angle=rng.uniform(0, np.pi / 2),
        # A spike is as wide as the seeing, or as the core of a telescope in space.
        width=fwhm * rng.uniform(0.4, 0.8),
    )
    return psf, fwhm


def add_stars(plane, position, charge, psf):
    """Add stars to a plane, in place.

    Parameters
    ----------
    plane : `numpy.ndarray`
        2-D float32, electrons.
    position : `numpy.ndarray`
        (n, 2): row and column; those outside count, too.
    charge : `numpy.ndarray`
        (n,) electrons.
    psf : `numpy.ndarray`
        As from `crattn_stage.simulation.skies.moffat_psf`.
    """
    n, radius = len(psf), psf.shape[2] // 2
    for (y, x), q in zip(position, charge, strict=True):
        row, column = round(y), round(x)
        i, j = int((y - row + 0.5) * n) % n, int((x - column + 0.5) * n) % n
        top, left = row - radius, column - radius
        rows = slice(max(0, top), max(0, row + radius + 1))
        columns = slice(max(0, left), max(0, column + radius + 1))
        target = plane[rows, columns]
        stamp = psf[i, j, rows.start - top :, columns.start - left :]
        target += np.float32(q) * stamp[: target.shape[0], : target.shape[1]]


def stars(rng, size, psf, fwhm, noise):
    """Draw stars of S/N 20 to 30,000, a third of them in close pairs.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    size : int
        Side of the plane.
    psf, fwhm
        As from `draw_psf`.
    noise : float
        Of the sky, electrons per pixel.

    Returns
    -------
    `numpy.ndarray`
        (size, size) float32, electrons.
    """
    plane = np.zeros((size, size), np.float32)
    # A narrow star alone cannot be told from a hit.
    fewest = 0.8 if fwhm < NARROW else 0
    count = rng.poisson(10 ** rng.uniform(fewest, 1.7) * size**2 / 128**2)
    position = rng.uniform(-8, size + 8, (count, 2))
    charge = charge_of(10 ** rng.uniform(1.3, 4.5, count), fwhm, noise)
    add_stars(plane, position, charge, psf)
    paired = rng.random(count) < 0.33
    angle, distance = rng.uniform(0, 2 * np.pi, count), fwhm * rng.uniform(0.5, 3, count)
    offset = np.column_stack([np.sin(angle), np.cos(angle)]) * distance[:, None]
    add_stars(plane, (position + offset)[paired], (charge * 10 ** rng.uniform(-1, 0, count))[paired], psf)
    return plane


def charge_of(signal_to_noise, fwhm, noise):
    """Return the charge of a star of a S/N by a matched filter, which sees 4 pi sigma^2 pixels of sky.

    Parameters
    ----------
    signal_to_noise : float or `numpy.ndarray`
    fwhm : float
        Of the star, pixels.
    noise : float
        Of the sky, electrons per pixel.

    Returns
    -------
    float or `numpy.ndarray`
        Electrons.

    Examples
    --------
    >>> f"{charge_of(10, 2.5, 30):.0f}"
    '1180'
    """
    area = 4 * np.pi * (fwhm / 2.355) ** 2
    return signal_to_noise**2 / 2 + np.sqrt(signal_to_noise**4 / 4 + signal_to_noise**2 * area * noise**2)


def spikes(rng, size, fwhm, noise):
    """Draw the four diffraction spikes of a bright star on the plane or beside it, at any angle.

    Parameters
    ----------
    rng, size, fwhm, noise
        As for `stars`.

    Returns
    -------
    `numpy.ndarray`
        (size, size) float32, electrons.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    row, column = rng.uniform(-60, size + 60, 2)
    angle, width = rng.uniform(0, np.pi / 2), fwhm * rng.uniform(0.4, 0.8)
    u = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
    v = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
    length = rng.uniform(4, 20)
    arms = sum(np.exp(-((a / width) ** 2)) / (1 + (np.abs(b) / length) ** 1.5) for a, b in ((u, v), (v, u)))
    return np.float32(noise * 10 ** rng.uniform(1, 3.5)) * arms


def cusped_galaxies(rng, size, psf, fwhm, noise):
    """Draw galaxies of a Sersic index of 1 to 6, half of them with a nucleus.

    Parameters
    ----------
    rng, size, psf, fwhm, noise
        As for `stars`.

    Returns
    -------
    `numpy.ndarray`
        (size, size) float32, electrons.
    """
    margin = RADIUS
    side = size + 2 * margin
    y, x = np.mgrid[:side, :side].astype(np.float32)
    plane = np.zeros((side, side), np.float32)
    for _ in range(rng.integers(1, 5)):
        row, column = rng.uniform(margin, size + margin, 2)
        angle, ratio, index = rng.uniform(0, np.pi), rng.uniform(0.25, 1), rng.uniform(1, 6)
        scale = fwhm * 10 ** rng.uniform(-0.3, 0.9)
        along = (y - row) * np.sin(angle) + (x - column) * np.cos(angle)
        across = ((y - row) * np.cos(angle) - (x - column) * np.sin(angle)) / ratio
        # A cusp is as high as its own pixel makes it: within it the light is that of a quarter of it.
        radius = np.maximum(np.hypot(along, across), 0.25) / scale
        profile = np.exp(-(2 * index - 1 / 3) * radius ** np.float32(1 / index))
        charge = charge_of(10 ** rng.uniform(1.5, 3.7), fwhm, noise)
        plane += np.float32(charge) * profile / profile.sum()
        if rng.random() < 0.5:
            plane[round(row), round(column)] += charge * 10 ** rng.uniform(-1.5, 0)
    n = len(psf)
    plane = fftconvolve(plane, psf[n // 2, n // 2], mode="same").clip(0)
    return plane[margin:-margin, margin:-margin].astype(np.float32)


def noise_plane(rng, size):
    """Draw noise: Gaussian or Student's t of 4 to 10 degrees of freedom, of a width of its own in each pixel.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    size : int
        Side of the plane.

    Returns
    -------
    `numpy.ndarray`
        (size, size) float32, in units of the sky noise.
    """
    shape = size, size
    plane = rng.standard_normal(shape, np.float32) if rng.random() < 0.55 else rng.standard_t(rng.uniform(4, 10), shape)
    if rng.random() < 0.2:
        plane = plane * rng.lognormal(0, rng.uniform(0, 0.35), shape)
    return np.float32(plane)


def hot_pixels(rng, size):
    """Draw hot pixels and random telegraph noise, single pixels, none in seven planes of ten.

    There are several within what a network sees: one alone cannot be told from a faint hit, and a network that has
    seen many of those misses hits of 5 to 10 sigma.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    size : int
        Side of the plane.

    Returns
    -------
    `numpy.ndarray`
        (size, size) float32, in units of the sky noise; up to 0.6% of the pixels are not 0.
    """
    plane = np.zeros((size, size), np.float32)
    if rng.random() < 0.7:
        return plane
    fraction = 10 ** rng.uniform(-3, -2.2)
    hot = rng.random(plane.shape) < fraction
    height = 10 ** rng.uniform(0.4, rng.uniform(1, 2.5), hot.sum())
    # A telegraph pixel is high or low, and a dark that caught it high leaves it low.
    plane[hot] = height * np.where(rng.random(hot.sum()) < 0.2, -1, 1)
    return plane


def lines(rng, size):
    """Draw columns and rows with a level of their own, and partial columns, none in most skies.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    size : int
        Side of the plane.

    Returns
    -------
    `numpy.ndarray`
        (size, size) float32, in units of the sky noise.
    """
    plane = np.zeros((size, size), np.float32)
    if rng.random() < 0.15:
        plane += rng.normal(0, rng.uniform(0, 0.7), size)
    if rng.random() < 0.15:
        plane += rng.normal(0, rng.uniform(0, 0.7), (size, 1))
    if rng.random() < 0.2:
        for _ in range(rng.integers(1, 4)):
            start = 0 if rng.random() < 0.5 else rng.integers(size)
            plane[start:, rng.integers(size)] += 10 ** rng.uniform(0, 1.5) * rng.choice([-0.3, 1])
    return plane if rng.random() < 0.5 else plane.T


def hard_sky(rng, size, psfs, spectra=()):
    """Draw a hard sky.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    size : int
        Side, pixels.
    psfs : list
        From `draw_psf`.
    spectra : list
        From `draw_spectrum`; one sky in twelve is of them.

    Returns
    -------
    `training.data.skies.Sky`
        Level and noise as `crattn_stage.detection.preprocessing.sky_statistics` finds them
        where there are no objects: it is the tails that make the noise heavy.
    """
    if spectra and rng.random() < 1 / 12:
        return _spectrum(rng, size, *spectra[rng.integers(len(spectra))])
    psf, fwhm = psfs[rng.integers(len(psfs))]
    gain, read_noise, level = 10 ** rng.uniform(-0.1, 0.9), 10 ** rng.uniform(0.5, 1.3), 10 ** rng.uniform(0.7, 3.7)
    noise = np.sqrt(level * gain + read_noise**2)
    light = np.zeros((size, size), np.float32)
    if rng.random() < 0.75:
        light += stars(rng, size, psf, fwhm, noise)
    if rng.random() < 0.25:
        light += cusped_galaxies(rng, size, psf, fwhm, noise)
    if rng.random() < 0.12:
        light += spikes(rng, size, fwhm, noise)
    if rng.random() < 0.25:
        # A ghost, a halo, nebulosity: smooth light.
        light += np.float32(noise) * background(rng, size).clip(0)
    empty = (noise_plane(rng, size) + hot_pixels(rng, size) + lines(rng, size)) * np.float32(noise / gain)
    image = empty + np.float32(level) + light / np.float32(gain)
    # Photon noise of the light alone: that of the sky is there.
    image += rng.standard_normal(image.shape, np.float32) * np.sqrt(light) / np.float32(gain)
    if rng.random() < 0.4:
        step = rng.choice([1, 2, 4])
        # Quantised, but not below half of its noise: such a camera shows nothing.
        if step < 3 * noise / gain:
            image = np.float32(step) * np.round(image / np.float32(step))
            empty = step * np.round(empty / step)
    offset, sigma = sky_statistics(empty)
    return Sky(image, np.zeros(image.shape, bool), level + offset, sigma, gain, fwhm, read_noise)


def draw_spectrum(rng):
    """Draw a two-dimensional spectrum: a long slit, fibres, orders of an echelle, or a lamp.

    Parameters
    ----------
    rng : `numpy.random.Generator`

    Returns
    -------
    electrons : `numpy.ndarray`
        (`PLANE`, `PLANE`) float32, noiseless.
    fwhm : float
        Of lines and traces, pixels.
    """
    fwhm = 10 ** rng.uniform(np.log10(1.4), np.log10(5))
    return simulate_spectrum((PLANE, PLANE), rng, rng.choice(KINDS), fwhm).electrons, fwhm


def _spectrum(rng, size, electrons, fwhm):
    """Return a part of an exposed spectrum, with level and noise of the whole."""
    gain, read_noise = rng.uniform(0.8, 2.5), 10 ** rng.uniform(0.4, 1.1)
    image = expose(electrons * np.float32(10 ** rng.uniform(-0.5, 0.5)), 0, read_noise, gain, rng)
    level, sigma = sky_statistics(image)
    row, column = rng.integers(0, PLANE - size + 1, 2)
    image = image[row : row + size, column : column + size]
    return Sky(image, np.zeros(image.shape, bool), level, sigma, gain, fwhm, read_noise)
