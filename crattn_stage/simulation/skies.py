"""Simulate point spread functions, skies and exposures."""

import numpy as np
from scipy.signal import fftconvolve


def moffat_psf(fwhm, beta=3.0, radius=32, oversampling=5, motion=((0.0, 0.0),), spikes=0.0, angle=0.0, width=0.7):
    """Return pixel-integrated Moffat PSFs, one for each sub-pixel phase.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum in pixels, of the seeing alone.
    beta : float
        Moffat index.  The smaller, the broader the wings: 2.5 to 4.5 is usual seeing, 10
        is nearly Gaussian, and infinity is a Gaussian.
    radius : int
        Half size of the stamps in pixels.
    oversampling : int
        Sub-pixel phases per pixel along each axis.
    motion : sequence of (float, float)
        Offsets (row, column) in pixels at which the exposure spent equal
        times: a line of them makes a trail, two a jump of the guiding, a ring a donut.
    spikes : float
        Fraction of the light in four diffraction spikes.
    angle : float
        Of the spikes, radians from rows and columns.
    width : float
        Distance from the axis of a spike at which it has fallen to 1/e, pixels.

    Returns
    -------
    `numpy.ndarray`
        (oversampling, oversampling, 2*radius+1, 2*radius+1) float32, each of unit sum.
    """
    n = oversampling
    fine = (np.arange((2 * radius + 3) * n) - ((2 * radius + 3) * n - 1) / 2) / n
    y, x = fine[:, None], fine[None, :]
    if np.isinf(beta):
        profile = np.exp(-4 * np.log(2) * (y**2 + x**2) / fwhm**2)
    else:
        alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
        profile = (1 + (y**2 + x**2) / alpha**2) ** -beta
    profile /= profile.sum()
    if spikes:
        u, v = (y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)) if angle else (y, x)
        cross = sum(np.exp(-((a / width) ** 2)) / (1 + (np.abs(b) / 6) ** 1.5) for a, b in ((u, v), (v, u)))
        profile += spikes * cross / cross.sum()
    if len(motion) > 1:
        path = np.zeros_like(profile)
        row, column = np.round(np.asarray(motion) * n + len(fine) // 2).astype(int).clip(0, len(fine) - 1).T
        np.add.at(path, (row, column), 1.0)
        profile = fftconvolve(profile, path, mode="same").clip(0)
    size = 2 * radius + 1
    phases = np.empty((n, n, size, size), np.float32)
    for i in range(n):
        for j in range(n):
            # Phase 0 ... n-1 moves the star by (phase - (n-1)/2)/n pixels up and right.
            top, left = n + (n - 1) // 2 - i, n + (n - 1) // 2 - j
            cut = profile[top : top + size * n, left : left + size * n]
            phases[i, j] = cut.reshape(size, n, size, n).sum((1, 3))
    return phases / phases.sum((2, 3), keepdims=True)


def simulate_sky(shape, rng, fwhm=4.0, stars=600.0, galaxies=300.0, faintest=300.0, shift=(0.0, 0.0), **psf):
    """Simulate a noiseless sky of stars and galaxies, without background.

    Parameters
    ----------
    shape : tuple of int
    rng : `numpy.random.Generator`
    fwhm : float
        Seeing in pixels.
    stars, galaxies : float
        Objects per million pixels.
    faintest : float
        Total charge of the faintest object in electrons; counts fall as charge^-0.8.
    shift : tuple of float
        Rows and columns, less than 1, by which all objects are moved: the same generator gives the same sky again.
    **psf
        Further arguments of `moffat_psf`.

    Returns
    -------
    plane : `numpy.ndarray`
        Float32, electrons.
    star_positions : `numpy.ndarray`
        (n, 3): row, column (pixels, centre of the first pixel is 0) and charge (electron).
    """
    radius = 32
    padded = np.zeros((shape[0] + 2 * radius, shape[1] + 2 * radius), np.float32)
    psf = moffat_psf(fwhm, radius=radius, **psf)
    n = len(psf)
    megapixels = padded.size / 1e6

    def draw(density):
        count = rng.poisson(density * megapixels)
        room = np.array(padded.shape) - 2 * radius - 1
        position = np.clip(rng.random((count, 2)) * room + shift, 0, room) + radius
        return position, faintest * rng.random(count) ** (-1 / 0.8)

    offset = np.arange(-radius, radius + 1)
    position, charge = draw(galaxies)
    for (y, x), q in zip(position, np.minimum(charge, 3e5), strict=True):
        row, column = round(y), round(x)
        scale = rng.lognormal(0.6, 0.5)
        ratio, angle = rng.uniform(0.3, 1), rng.uniform(0, np.pi)
        dy, dx = offset[:, None] - (y - row), offset[None, :] - (x - column)
        u = (dx * np.cos(angle) + dy * np.sin(angle)) / scale
        v = (dy * np.cos(angle) - dx * np.sin(angle)) / scale / ratio
        profile = np.exp(-1.68 * np.hypot(u, v))
        padded[row - radius : row + radius + 1, column - radius : column + radius + 1] += q * profile / profile.sum()
    padded = fftconvolve(padded, psf[n // 2, n // 2], mode="same").clip(0).astype(np.float32)

    position, charge = draw(stars)
    charge = np.minimum(charge, 1e7)
    for (y, x), q in zip(position, charge, strict=True):
        row, column = round(y), round(x)
        i, j = int((y - row + 0.5) * n) % n, int((x - column + 0.5) * n) % n
        padded[row - radius : row + radius + 1, column - radius : column + radius + 1] += q * psf[i, j]
    inside = slice(radius, -radius)
    return padded[inside, inside], np.column_stack([position - radius, charge])


def expose(electrons, sky, read_noise, gain, rng):
    """Expose a noiseless scene: add background, photon noise and read noise.

    Parameters
    ----------
    electrons : `numpy.ndarray`
        Noiseless charge without background, electrons.
    sky, read_noise : float
        Background per pixel and read noise, electrons.
    gain : float
        Electrons per ADU.
    rng : `numpy.random.Generator`

    Returns
    -------
    `numpy.ndarray`
        Float32 image in ADU.
    """
    # Above some hundred electrons Poisson is Gaussian to the accuracy needed, and 10 times faster.
    mean = electrons + np.float32(sky)
    noise = rng.standard_normal(mean.shape, np.float32) * np.sqrt(np.maximum(mean, 0) + read_noise**2)
    return (mean + noise) / np.float32(gain)
