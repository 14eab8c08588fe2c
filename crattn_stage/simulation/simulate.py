"""Simulated cosmic-ray hits and skies, for the demonstration and for training.

Hits are followed through the silicon in steps of `STEP` micrometres: straight
muons with Landau-like energy loss, electrons that scatter (worms), and points
of charge (spots).  Charge diffuses on its way to the gates.  All charges are in
electrons, all lengths in micrometres unless they are said to be in pixels.

Constants: Particle Data Group, "Passage of Particles Through Matter" (silicon:
radiation length 93.7 mm, 3.65 eV per electron-hole pair, about 75 pairs per
micrometre for a minimum-ionising particle).
"""

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import moyal

STEP = 5.0
PAIRS_PER_MICROMETRE = 75.0
KEV_PER_PAIR = 3.65e-3
RADIATION_LENGTH = 93.7e3
ELECTRON_MASS_KEV = 511.0
#: Fainter pixels of a hit are left out of its truth: smallest pixel of a dark-frame footprint.
FAINTEST_PIXEL = 49.0

#: How often each kind of hit occurs.
HIT_KINDS = {"track": 0.5, "worm": 0.3, "spot": 0.2}


def simulate_hit(rng, kind=None, thickness=250.0, pixel=15.0, diffusion=7.0):
    """Simulate one cosmic-ray hit.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    kind : {"track", "worm", "spot"}, optional
        Drawn from `HIT_KINDS` by default.
    thickness, pixel : float
        Silicon thickness and pixel size in micrometres; DECam by default.
    diffusion : float
        Standard deviation, in micrometres, of the charge cloud after the full thickness.

    Returns
    -------
    `numpy.ndarray`
        (h, w) float32, charge in electrons; pixels below `FAINTEST_PIXEL` are zero.
    """
    if kind is None:
        kind = rng.choice(list(HIT_KINDS), p=list(HIT_KINDS.values()))
    while True:
        position, charge = {"track": _track, "worm": _worm, "spot": _spot}[kind](rng, thickness)
        stamp = _collect(rng, position, charge, thickness, pixel, diffusion)
        if stamp is not None:
            return stamp


def _track(rng, thickness):
    """A muon: cos^2 zenith distribution, so path in the plane is thickness * tan(zenith)."""
    tangent = np.tan(np.arccos(max(rng.random(), 1e-3) ** (1 / 3)))
    length = thickness * np.hypot(1, min(tangent, 20.0))
    azimuth = rng.uniform(0, 2 * np.pi)
    s = np.arange(STEP / 2, length, STEP)
    along = s / length * thickness * min(tangent, 20.0)
    position = np.stack([along * np.cos(azimuth), along * np.sin(azimuth), s / length * thickness], 1)
    loss = moyal.rvs(loc=PAIRS_PER_MICROMETRE * STEP * 0.9, scale=5.0 * STEP, size=len(s), random_state=rng)
    charge = np.clip(loss, 0, 8e3)
    # A hard collision now and then knocks out an electron that makes its own short worm.
    if rng.random() < length / 5000:
        start = rng.integers(len(s))
        delta, delta_charge = _worm(rng, thickness, energy=rng.uniform(30, 150), start=position[start])
        position, charge = np.concatenate([position, delta]), np.concatenate([charge, delta_charge])
    return position, charge


def _worm(rng, thickness, energy=None, start=None):
    """A Compton electron of `energy` keV: multiple scattering until it stops or leaves."""
    energy = 10 ** rng.uniform(1.6, 2.9) if energy is None else energy
    point = np.array([0.0, 0.0, rng.uniform(0, thickness)]) if start is None else np.array(start)
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    positions, charges = [], []
    while energy > 0 and 0 <= point[2] <= thickness:
        momentum_beta = energy * (energy + 2 * ELECTRON_MASS_KEV) / (energy + ELECTRON_MASS_KEV)
        gamma = 1 + energy / ELECTRON_MASS_KEV
        beta2 = 1 - 1 / gamma**2
        loss = min(energy, 0.27 * STEP / beta2 * rng.lognormal(0, 0.3))
        positions.append(point)
        charges.append(loss / KEV_PER_PAIR)
        energy -= loss
        angle = 13.6e3 / momentum_beta * np.sqrt(STEP / RADIATION_LENGTH)
        direction = direction + rng.normal(0, angle, 3)
        direction /= np.linalg.norm(direction)
        point = point + STEP * direction
    return np.array(positions), np.array(charges)


def _spot(rng, thickness):
    """A point of charge at a random depth, such as an X-ray or a steep, short electron."""
    return np.array([[0.0, 0.0, rng.uniform(0, thickness)]]), np.array([10 ** rng.uniform(2.8, 4.6)])


def _collect(rng, position, charge, thickness, pixel, diffusion, parcels=12):
    """Spread charge in parcels by diffusion and count it in pixels; None if nothing is seen."""
    sigma = diffusion * np.sqrt(np.clip(position[:, 2], 0, None) / thickness)
    where = (
        np.repeat(position[:, :2], parcels, 0)
        + rng.normal(size=(len(charge) * parcels, 2)) * np.repeat(sigma, parcels)[:, None]
    )
    where = (where - where.min(0)) / pixel + rng.random(2)
    column, row = where.astype(int).T
    stamp = np.zeros((row.max() + 1, column.max() + 1), np.float32)
    np.add.at(stamp, (row, column), np.repeat(charge / parcels, parcels))
    stamp[stamp < FAINTEST_PIXEL] = 0
    if not stamp.any():
        return None
    rows, columns = stamp.any(1).nonzero()[0], stamp.any(0).nonzero()[0]
    return stamp[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def scatter_hits(shape, hits, rng):
    """Put hits at random places of an image, edges included.

    Parameters
    ----------
    shape : tuple of int
    hits : iterable of `numpy.ndarray`
        Charge stamps in electrons, as from `simulate_hit`.
    rng : `numpy.random.Generator`

    Returns
    -------
    charge : `numpy.ndarray`
        Float32 plane, electrons.
    truth : `numpy.ndarray`
        Bool plane, True where a hit left charge (not dilated).
    """
    charge = np.zeros(shape, np.float32)
    for hit in hits:
        height, width = hit.shape
        row = int(rng.integers(1 - height, shape[0]))
        column = int(rng.integers(1 - width, shape[1]))
        seen = hit[max(0, -row) : shape[0] - row, max(0, -column) : shape[1] - column]
        charge[max(0, row) : row + height, max(0, column) : column + width] += seen
    return charge, charge > 0


def moffat_psf(fwhm, beta=3.0, radius=32, oversampling=5, motion=((0.0, 0.0),), spikes=0.0):
    """Return pixel-integrated Moffat PSFs, one for each sub-pixel phase.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum in pixels, of the seeing alone.
    beta : float
        Moffat index; smaller has broader wings.
    radius : int
        Half size of the stamps in pixels.
    oversampling : int
        Phases per pixel along each axis.
    motion : sequence of (float, float)
        Offsets (row, column) in pixels at which the exposure spent equal
        times: a line of them is a trail, two are a jump of the guiding.
    spikes : float
        Share of the light in four diffraction spikes.

    Returns
    -------
    `numpy.ndarray`
        (oversampling, oversampling, 2*radius+1, 2*radius+1) float32, each of unit sum.
    """
    n = oversampling
    fine = (np.arange((2 * radius + 3) * n) - ((2 * radius + 3) * n - 1) / 2) / n
    y, x = fine[:, None], fine[None, :]
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    profile = (1 + (y**2 + x**2) / alpha**2) ** -beta
    profile /= profile.sum()
    if spikes:
        cross = sum(np.exp(-((a / 0.7) ** 2)) / (1 + (np.abs(b) / 6) ** 1.5) for a, b in ((y, x), (x, y)))
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


def simulate_sky(shape, rng, fwhm=4.0, stars=600.0, galaxies=300.0, faintest=300.0, **psf):
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
        position = rng.random((count, 2)) * (np.array(padded.shape) - 2 * radius - 1) + radius
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
    """Expose a noiseless scene.

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
