"""Simulate two-dimensional spectra: long slits, many fibres, echelles and arcs, with lines and traces that curve.

Dispersion is along rows (x) until a scene is turned.  A spectrum is written as a function of the pixel along the
dispersion, and each pixel of the detector looks up its own; profiles across it are integrated over pixels.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

#: What can be simulated.
KINDS = ("long-slit", "fibres", "echelle", "arc")
#: Sub-pixels of a spectrum.
_FINE = 8
_SIGMA = 2 * np.sqrt(2 * np.log(2))


@dataclass
class Spectrum:
    """A noiseless exposure of a spectrograph.

    Attributes
    ----------
    electrons : `numpy.ndarray`
        2-D float32.
    smooth : `numpy.ndarray`
        The part of it that is no line and no trace: sky continuum and scattered light.
    """

    electrons: np.ndarray
    smooth: np.ndarray


def simulate_spectrum(shape, rng, kind="long-slit", fwhm=2.5):
    """Simulate a noiseless exposure of a spectrograph.

    Parameters
    ----------
    shape : tuple of int
    rng : `numpy.random.Generator`
    kind : {"long-slit", "fibres", "echelle", "arc"}
        An arc is a long slit, or fibres, lit by a lamp: lines without traces.
    fwhm : float
        Of lines and of traces, pixels; 1.5 to 4 is usual.

    Returns
    -------
    `Spectrum`
        Dispersed along rows or columns, either way round.

    Raises
    ------
    ValueError
        If there is no such kind.

    Examples
    --------
    >>> spectrum = simulate_spectrum((200, 300), np.random.default_rng(1), "echelle", fwhm=2.0)
    >>> spectrum.electrons.shape, bool((spectrum.electrons >= spectrum.smooth).all())
    ((200, 300), True)
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of spectrum {kind!r}; known: {', '.join(KINDS)}")
    turned = rng.random() < 0.5
    make = {"long-slit": _long_slit, "fibres": _fibres, "echelle": _echelle, "arc": _arc}[kind]
    electrons, smooth = make(shape[::-1] if turned else shape, rng, fwhm)
    flips = (slice(None, None, rng.choice([-1, 1])), slice(None, None, rng.choice([-1, 1])))
    planes = [(plane.T if turned else plane)[flips] for plane in (np.maximum(electrons, smooth), smooth)]
    return Spectrum(*(np.ascontiguousarray(plane, np.float32) for plane in planes))


def _lines(length, rng, fwhm, density, brightest, spread=1.2):
    """Return a spectrum of emission lines, in electrons, at every sub-pixel from -length / 4 to 5/4 length.

    The density is in lines per pixel.  Half of the lines stand in groups, as those of OH do.
    """
    grid = np.arange(-length / 4, length * 5 / 4, 1 / _FINE)
    count = rng.poisson(density * 1.5 * length) + 3
    place = rng.uniform(grid[0], grid[-1], count)
    groups = rng.uniform(grid[0], grid[-1], max(1, count // 12))
    grouped = rng.random(count) < 0.5
    place[grouped] = rng.choice(groups, grouped.sum()) + rng.normal(0, 12 * fwhm, grouped.sum())
    height = brightest * np.minimum(rng.lognormal(-3, spread, count), 1)
    spectrum = np.zeros(len(grid))
    for x, h in zip(place, height, strict=True):
        near = slice(*np.searchsorted(grid, (x - 5 * fwhm, x + 5 * fwhm)))
        # The mean over a pixel, at its centre.
        spectrum[near] += h * _inside(grid[near] - x, fwhm) / _inside(0.0, fwhm)
    return grid, spectrum


def _inside(distance, fwhm):
    """Return the fraction of a Gaussian profile inside a pixel at a distance from its centre."""
    scale = _SIGMA / np.sqrt(2) / fwhm
    return 0.5 * (erf((distance + 0.5) * scale) - erf((distance - 0.5) * scale))


def _wave(length, rng, amplitude, lowest=0.0):
    """Return a smooth positive curve around 1, one value a pixel."""
    x = np.linspace(-1, 1, length)
    curve = sum(rng.normal(0, amplitude / (k + 1)) * np.cos(k * x * np.pi / 2 + rng.uniform(0, 6)) for k in range(1, 5))
    return np.maximum(1 + curve, lowest)


def _star(length, rng, fwhm, level):
    """Return the spectrum of an object at every sub-pixel: a continuum with absorption, perhaps emission lines."""
    grid = np.arange(-length / 4, length * 5 / 4, 1 / _FINE)
    spectrum = np.interp(grid, np.linspace(grid[0], grid[-1], 200), _wave(200, rng, 0.4, 0.1)) * level
    for _ in range(rng.poisson(length / 40)):
        width, depth = fwhm * rng.choice([1, 1, 1.5, 4]), rng.uniform(0.05, 0.85)
        spectrum *= 1 - depth * np.exp(-0.5 * ((grid - rng.uniform(grid[0], grid[-1])) * _SIGMA / width) ** 2)
    if rng.random() < 0.3:
        for _ in range(rng.integers(1, 5)):
            width, height = fwhm * rng.choice([1, 1.3, 3]), level * 10 ** rng.uniform(-0.3, 0.8)
            spectrum += height * np.exp(-0.5 * ((grid - rng.uniform(0, length)) * _SIGMA / width) ** 2)
    return grid, spectrum


def _bend(shape, rng, tilt, curvature):
    """Return by how much lines are shifted along the dispersion at each pixel: tilt and curvature, slowly varying."""
    y = np.linspace(-1, 1, shape[0])[:, None]
    x = np.linspace(-1, 1, shape[1])[None, :]
    slope, bow = rng.uniform(-tilt, tilt), rng.uniform(-curvature, curvature)
    return shape[0] / 2 * (slope * (1 + 0.3 * x) * y + bow * (1 + 0.3 * x) * y**2)


def _looked_up(spectrum, where):
    grid, values = spectrum
    return np.interp(where.ravel(), grid, values).reshape(where.shape)


def _slit(shape, rng, softness=0.6):
    """Return the illumination of a slit that ends on the detector, and whether a row is inside."""
    y = np.arange(shape[0])
    low, high = shape[0] * rng.uniform(0.02, 0.12), shape[0] * rng.uniform(0.88, 0.98)
    edges = 0.5 * (erf((y - low) / softness) - erf((y - high) / softness))
    return (edges * _wave(shape[0], rng, 0.05, 0.5))[:, None], (y > low + 4) & (y < high - 4)


def _long_slit(shape, rng, fwhm):
    length = shape[1]
    bend = _bend(shape, rng, 0.04, 0.04)
    where = np.arange(length)[None, :] - bend
    light, inside = _slit(shape, rng)
    sky = _lines(length, rng, fwhm, rng.uniform(0.02, 0.12), 10 ** rng.uniform(2.5, 4.3))
    continuum = 10 ** rng.uniform(0.8, 2.4) * _wave(length, rng, 0.3, 0.2)[None, :]
    scattered = 10 ** rng.uniform(0.3, 1.3)
    smooth = light * continuum + scattered
    plane = smooth + light * _looked_up(sky, where)
    for _ in range(rng.integers(1, 6)):
        level, y = 10 ** rng.uniform(1.3, 4.2), rng.choice(np.flatnonzero(inside))
        centre = (
            y + rng.uniform(-12, 12) * np.linspace(-1, 1, length) + rng.uniform(-4, 4) * np.linspace(-1, 1, length) ** 2
        )
        plane += _trace(shape, centre, fwhm * rng.uniform(1, 1.5)) * _looked_up(_star(length, rng, fwhm, level), where)
    for _ in range(rng.integers(0, 4)):
        # A galaxy's emission line, without a continuum: as compact as a cosmic ray may be.
        y, x, height = rng.choice(np.flatnonzero(inside)), rng.uniform(0, length), 10 ** rng.uniform(1.5, 3.3)
        across = _trace(shape, np.full(length, y), fwhm * rng.uniform(1, 4))
        plane += height * across * np.exp(-0.5 * ((where - x) * _SIGMA / fwhm / rng.uniform(1, 2)) ** 2)
    return plane, smooth


def _trace(shape, centre, fwhm):
    """Return the profile of a trace, 1 at the pixel that it is centred on."""
    return _inside(np.arange(shape[0])[:, None] - centre[None, :], fwhm) / _inside(0.0, fwhm)


def _fibres(shape, rng, fwhm, arc=None):
    rows, length = shape
    where = np.arange(length)[None, :] - _bend(shape, rng, 0.03, 0.08)
    sky = arc or _lines(length, rng, fwhm, rng.uniform(0.02, 0.1), 10 ** rng.uniform(2.3, 3.8))
    spacing = fwhm * rng.uniform(2.5, 4.5)
    bow, tilt = length * rng.uniform(-0.015, 0.015), length * rng.uniform(-0.008, 0.008)
    x = np.linspace(-1, 1, length)
    smooth = np.full(shape, 10 ** rng.uniform(0.5, 1.5))
    plane = smooth.copy()
    continuum = 10 ** rng.uniform(0.8, 1.8)
    y = rng.uniform(5, 25)
    while y < rows - 5:
        # Gaps between bundles, and dead fibres.
        y += spacing * (rng.integers(2, 5) if rng.random() < 0.04 else 1)
        if rng.random() < 0.03:
            continue
        through = rng.uniform(0.7, 1.1)
        centre = y + tilt * x + bow * x**2
        near = slice(max(0, int(centre.min() - 4 * fwhm)), max(0, int(centre.max() + 4 * fwhm)))
        profile = _inside(np.arange(rows)[near, None] - centre[None, :], fwhm) / _inside(0.0, fwhm)
        if not profile.size:
            continue
        light = _looked_up(sky, where[near])
        if not arc:
            light = light + continuum
            if rng.random() < 0.8:
                light = light + _looked_up(_star(length, rng, fwhm, 10 ** rng.uniform(1, 3.7)), where[near])
        plane[near] += through * profile * light
    return plane, smooth


def _echelle(shape, rng, fwhm):
    rows, length = shape
    x = np.linspace(-1, 1, length)
    smooth = np.full(shape, 10 ** rng.uniform(0.5, 1.3)) * _wave(rows, rng, 0.2, 0.3)[:, None]
    plane = smooth.copy()
    slit = rng.uniform(3, 8) * fwhm
    fibre = rng.random() < 0.4
    y, gap = rng.uniform(-20, 20), slit * rng.uniform(1.2, 2)
    bow, tilt = length * rng.uniform(-0.06, 0.06), length * rng.uniform(-0.04, 0.04)
    slant = rng.uniform(-0.15, 0.15)
    level = 10 ** rng.uniform(1.8, 4)
    while y < rows + 60:
        y += slit + gap
        gap *= rng.uniform(1.0, 1.05)
        centre = y + tilt * x + bow * x**2
        across = np.arange(rows)[:, None] - centre[None, :]
        blaze = np.sinc(np.clip((x - rng.uniform(-0.15, 0.15)) * 0.85, -1, 1)) ** 2 + 0.03
        where = np.arange(length)[None, :] - slant * across
        near = np.abs(across) < slit + 6 * fwhm
        light = np.zeros(shape)
        star = _star(length, rng, fwhm, level)
        offset = 0.0 if fibre else rng.uniform(-0.2, 0.2) * slit
        light[near] = (_inside(across - offset, fwhm * 1.2) / _inside(0.0, fwhm * 1.2))[near] * _looked_up(
            star, where[near]
        )
        if not fibre:
            sky = _lines(length, rng, fwhm, 0.02, level * 10 ** rng.uniform(-1.3, 0))
            edges = 0.5 * (erf((across + slit / 2) / 0.6) - erf((across - slit / 2) / 0.6))
            light[near] += edges[near] * (0.02 * level + _looked_up(sky, where[near]))
        plane += light * blaze[None, :]
    return plane, smooth


def _arc(shape, rng, fwhm):
    lamp = _lines(shape[1], rng, fwhm, rng.uniform(0.03, 0.1), 10 ** rng.uniform(3.5, 4.6), 1.6)
    if rng.random() < 0.4:
        return _fibres(shape, rng, fwhm, lamp)
    light, _ = _slit(shape, rng)
    smooth = np.full(shape, 10 ** rng.uniform(0.5, 1.5))
    where = np.arange(shape[1])[None, :] - _bend(shape, rng, 0.04, 0.04)
    return smooth + light * _looked_up(lamp, where), smooth
