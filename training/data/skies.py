"""What a clean sky can hold: simulated stars and galaxies, trails, glows, gradients and fringes.

Each function draws one thing at random, so that it can be tested and switched off by
itself.  Lengths are in pixels; planes are in units of the sky noise where a docstring says so.
"""

from dataclasses import dataclass

import numpy as np

from crattn_stage.simulation.skies import simulate_sky

#: Seeing (FWHM, pixels) below which a star can be as narrow as a hit.
UNDERSAMPLED = 2.2
#: Side of a simulated sky, pixels.
PLANE = 320


@dataclass
class Sky:
    """A clean exposure.

    Attributes
    ----------
    image : `numpy.ndarray`
        2-D float32, ADU.
    bad : `numpy.ndarray` of bool
        True on pixels that are not to be used.
    level, sigma : float
        Sky level and noise, ADU.
    gain : float
        Electrons per ADU.
    fwhm : float
        Seeing, pixels.
    read_noise : float
        Electrons.
    sharp : `numpy.ndarray` of bool, optional
        True on the lines and traces of a spectrum.
    kind : str
        Of a spectrum, as in `crattn_stage.simulation.spectra.KINDS`.
    most_hits : int or None
        Most hits in 128 x 128 pixels of a training patch; None for as many as are usual on such a sky.
    hot : `numpy.ndarray` of bool, optional
        True on its hot pixels, where they are known.
    """

    image: np.ndarray
    bad: np.ndarray
    level: float
    sigma: float
    gain: float
    fwhm: float = 4.0
    read_noise: float = 7.0
    sharp: np.ndarray | None = None
    kind: str = ""
    most_hits: int | None = None
    hot: np.ndarray | None = None


def star_field(rng, narrow=False):
    """Simulate the stars and galaxies of one noiseless sky, one in six of them undersampled.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    narrow : bool
        Whether it is undersampled in any case.

    Returns
    -------
    plane : `numpy.ndarray`
        (`PLANE`, `PLANE`) float32, electrons.
    fwhm : float
        Seeing, pixels.
    """
    fwhm = rng.uniform(1.0, UNDERSAMPLED) if rng.random() < 0.16 or narrow else 10 ** rng.uniform(0.35, 0.95)
    plane, _ = simulate_sky(
        (PLANE, PLANE),
        rng,
        fwhm=fwhm,
        # Only its neighbours tell a narrow star from a hit.
        stars=10 ** rng.uniform(2.7 if fwhm < UNDERSAMPLED else 2, 4.3),
        galaxies=10 ** rng.uniform(1.5, 3),
        beta=rng.choice([rng.uniform(2.3, 4.5), rng.uniform(4.5, 10)]),
        motion=motion(rng, fwhm),
        spikes=rng.choice([0, 0.01]),
    )
    return plane, fwhm


def motion(rng, fwhm):
    """Draw how the telescope moved: a slight drift, a trail, a jump of the guiding, or a defocused ring.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    fwhm : float
        Seeing, pixels.

    Returns
    -------
    `numpy.ndarray`
        (n, 2) offsets in row and column, pixels, as for `crattn_stage.simulation.skies.moffat_psf`.
    """
    kind = rng.choice(["drift", "trail", "jump", "ring"], p=[0.5, 0.35, 0.08, 0.07])
    if kind == "ring":
        outer = rng.uniform(4, 14)
        y, x = np.mgrid[-14:15, -14:15] * 1.0
        radius = np.hypot(y, x)
        inside = (radius < outer) & (radius > rng.uniform(0.2, 0.6) * outer)
        return np.column_stack([y[inside], x[inside]])
    end = {"drift": rng.uniform(0, 0.7 * fwhm), "trail": rng.uniform(3, 45), "jump": rng.uniform(2, 8)}[kind]
    angle = rng.uniform(0, 2 * np.pi)
    along = np.linspace(-end / 2, end / 2, 2 if kind == "jump" else 90)
    return np.column_stack([along * np.sin(angle), along * np.cos(angle)])


def streaks(rng, size, fwhm):
    """Draw trails of satellites and asteroids, as wide as the stars; none in most skies.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    size : int
        Side of the plane, pixels.
    fwhm : float
        Seeing, pixels.

    Returns
    -------
    `numpy.ndarray`
        (size, size) float32, in units of the sky noise.
    """
    plane = np.zeros((size, size), np.float32)
    if rng.random() > 0.12:
        return plane
    y, x = np.mgrid[:size, :size].astype(np.float32)
    for _ in range(rng.integers(1, 3)):
        # A short, narrow streak alone cannot be told from a hit; one across the frame is a satellite.
        whole = rng.random() < 0.5
        half = 2 * size if whole else rng.uniform(4, 40)
        sigma = max(fwhm, 1.5 if whole else 3.0) * rng.uniform(1, 1.5) / 2.35
        angle, (row, column) = rng.uniform(0, np.pi), rng.uniform(0, size, 2)
        along = (y - row) * np.sin(angle) + (x - column) * np.cos(angle)
        across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
        off = np.maximum(np.abs(along) - half, 0)
        plane += np.float32(10 ** rng.uniform(0, 2)) * np.exp((across**2 + off**2) / np.float32(-2 * sigma**2))
    return plane


def glow(rng, size):
    """Draw a `large_galaxy` in one sky of five, so that hits on bright, smooth light stay hits.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    size : int
        Side of the plane, pixels.

    Returns
    -------
    `numpy.ndarray`
        (size, size) float32, in units of the sky noise.
    """
    return large_galaxy(rng, size) if rng.random() < 0.2 else np.zeros((size, size), np.float32)


def large_galaxy(rng, size):
    """Simulate the smooth light of a large galaxy, or of the halo of a very bright star.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    size : int
        Side of the plane, pixels.

    Returns
    -------
    `numpy.ndarray`
        2-D float32, in units of the sky noise: 2 to 200 in the middle, anywhere on the plane; 8 to 80 pixels wide.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    row, column = rng.uniform(0, size, 2)
    angle, ratio, scale = rng.uniform(0, np.pi), rng.uniform(0.3, 1), np.float32(10 ** rng.uniform(0.9, 1.9))
    along = (y - row) * np.sin(angle) + (x - column) * np.cos(angle)
    across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
    distance = np.hypot(along, across / ratio).astype(np.float32) / scale
    profile = np.exp(-distance) if rng.random() < 0.6 else (1 + distance**2) ** np.float32(-1.5)
    return np.float32(10 ** rng.uniform(0.3, 2.3)) * profile


def background(rng, size):
    """Draw what a single sky level does not describe: a gradient, fringes, a step between amplifiers.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    size : int
        Side of the plane, pixels.

    Returns
    -------
    `numpy.ndarray`
        (size, size) float32, in units of the sky noise.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    plane = np.zeros((size, size), np.float32)
    if rng.random() < 0.3:
        plane += np.float32(rng.normal(0, 2)) * x + np.float32(rng.normal(0, 2)) * y
    if rng.random() < 0.1:
        phase = rng.normal(0, 60, 2) * size / 256
        bent = phase[0] * x + phase[1] * y + rng.normal(0, 20) * (x * x + rng.normal() * x * y)
        plane += np.float32(rng.exponential(0.7)) * np.sin(bent.astype(np.float32))
    if rng.random() < 0.1:
        plane[:, rng.integers(size) :] += np.float32(rng.normal(0, 3))
    return plane
