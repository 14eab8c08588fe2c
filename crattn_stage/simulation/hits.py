"""Simulate the hits of cosmic rays in silicon.

A particle is followed through the silicon in steps of `STEP` micrometres: straight
muons with Landau-like energy loss (tracks), electrons that scatter (worms) and points
of charge (spots).  The charge diffuses on its way to the gates.  Charges are in
electrons and lengths in micrometres unless a docstring says pixels.

The constants are those of the Particle Data Group, "Passage of Particles Through
Matter", for silicon: radiation length 93.7 mm, 3.65 eV per electron-hole pair, and about
75 pairs per micrometre for a minimum-ionising particle.
"""

from dataclasses import dataclass

import numpy as np

STEP = 5.0
PAIRS_PER_MICROMETRE = 75.0
KEV_PER_PAIR = 3.65e-3
RADIATION_LENGTH = 93.7e3
ELECTRON_MASS_KEV = 511.0
#: Collisions of a fast muon that transfer an energy E or more, times E: keV per micrometre; and the lowest and highest
#: energy, keV, of those that are simulated one by one.  Beyond that electrons leave worms of their own.
RUTHERFORD, HARD = 0.0178, (1.0, 60.0)
#: Fainter pixels are set to zero: the smallest pixel value in the catalogue of ITL footprints, electrons.
FAINTEST_PIXEL = 49.0

#: Fraction of the hits of each kind.
HIT_KINDS = {"track": 0.5, "worm": 0.3, "spot": 0.2}


def simulate_hit(rng, kind=None, thickness=250.0, pixel=15.0, diffusion=7.0):
    """Simulate one cosmic-ray hit.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    kind : {"track", "worm", "spot"}, optional
        Drawn with the probabilities of `HIT_KINDS` by default.
    thickness, pixel : float
        Thickness of the silicon and side of a pixel, micrometres.  The default is DECam
        (250, 15); a thin front-illuminated CCD has 10 to 40 of active silicon.
    diffusion : float
        Standard deviation of the charge cloud after drifting through the full thickness,
        micrometres.

    Returns
    -------
    `numpy.ndarray`
        (h, w) float32, charge in electrons; pixels below `FAINTEST_PIXEL` are zero.

    Examples
    --------
    >>> import numpy as np
    >>> from crattn_stage.simulation.hits import simulate_hit
    >>> hit = simulate_hit(np.random.default_rng(1), "track")
    >>> hit.ndim, hit.dtype.name, bool(hit.max() > 1000)
    (2, 'float32', True)
    """
    return Sensor(thickness, pixel, diffusion).hit(rng, kind)


@dataclass(frozen=True)
class Sensor:
    """Silicon, and what hits it.

    Attributes
    ----------
    thickness, pixel, diffusion : float
        As for `simulate_hit`: of the silicon that its electric field depletes.
    beneath, diffusion_length : float
        Thickness of silicon without a field beneath that, and how far charge diffuses in it before it recombines,
        micrometres: of front-illuminated CCDs.
    kinds : tuple of float
        Fractions of the hits that are tracks, worms and spots.
    energies : (float, float, float)
        Lowest and highest energy of the electrons that leave worms, keV, and the index of their power law.
    charges : (float, float)
        Decimal logarithms of the smallest and largest charge of a spot.
    tilt : float or None
        Of the sensor against the horizon, degrees: one that stands upright sees muons aslant.  None: as many from each
        direction as if it were a sphere.
    collisions : float
        Hard collisions of muons in units of what they are in silicon: 1 gives the tail of Landau's distribution.
    """

    thickness: float = 250.0
    pixel: float = 15.0
    diffusion: float = 7.0
    beneath: float = 0.0
    diffusion_length: float = 0.0
    kinds: tuple = tuple(HIT_KINDS.values())
    energies: tuple = (10**1.6, 10**2.9, 1.0)
    charges: tuple = (2.8, 4.6)
    tilt: float | None = None
    collisions: float = 0.0

    def hit(self, rng, kind=None, faintest=FAINTEST_PIXEL):
        """Simulate one hit.

        Parameters
        ----------
        rng : `numpy.random.Generator`
        kind : {"track", "worm", "spot"}, optional
            Drawn by `kinds` by default.
        faintest : float
            Fainter pixels are set to zero, electrons.

        Returns
        -------
        `numpy.ndarray`
            (h, w) float32, charge in electrons.
        """
        if kind is None:
            kind = rng.choice(list(HIT_KINDS), p=self.kinds)
        follow = {"track": self._track, "worm": self._worm, "spot": self._spot}[kind]
        while True:
            stamp = self._collect(rng, *follow(rng), faintest)
            if stamp is not None:
                return stamp

    @property
    def depth(self):
        """Of all silicon from which charge is collected, micrometres."""
        return self.thickness + self.beneath

    def _track(self, rng):
        """Follow a muon of a cos^2 zenith distribution: its path in the plane is depth * tan(angle)."""
        from scipy.stats import moyal

        tangent = self._tangent(rng)
        length = self.depth * np.hypot(1, min(tangent, 20.0))
        azimuth = rng.uniform(0, 2 * np.pi)
        s = np.arange(STEP / 2, length, STEP)
        along = s / length * self.depth * min(tangent, 20.0)
        position = np.stack([along * np.cos(azimuth), along * np.sin(azimuth), s / length * self.depth], 1)
        loss = moyal.rvs(loc=PAIRS_PER_MICROMETRE * STEP * 0.9, scale=5.0 * STEP, size=len(s), random_state=rng)
        charge = np.clip(loss, 0, 8e3)
        if self.collisions:
            charge += self._collided(rng, len(s))
        # Hard collisions knock out electrons that leave short worms of their own.
        if rng.random() < length / 5000:
            start = rng.integers(len(s))
            delta, delta_charge = self._worm(rng, energy=rng.uniform(30, 150), start=position[start])
            position, charge = np.concatenate([position, delta]), np.concatenate([charge, delta_charge])
        return position, charge

    def _tangent(self, rng):
        """Draw the tangent of the angle between a muon and the normal of the sensor."""
        if self.tilt is None:
            return np.tan(np.arccos(max(rng.random(), 1e-3) ** (1 / 3)))
        while True:
            zenith, azimuth = np.arccos(rng.random() ** (1 / 3)), rng.uniform(0, 2 * np.pi)
            tilt = np.deg2rad(self.tilt)
            along = abs(np.cos(zenith) * np.cos(tilt) + np.sin(zenith) * np.cos(azimuth) * np.sin(tilt))
            # The sensor is as large as it looks from there.
            if rng.random() < along:
                return np.sqrt(1 - along**2) / along

    def _collided(self, rng, steps):
        """Return the pairs of hard collisions in each step: their number falls with the square of the energy."""
        low, high = HARD
        mean = self.collisions * RUTHERFORD * STEP * (1 / low - 1 / high)
        number = rng.poisson(mean, steps)
        energy = 1 / (1 / low - rng.random(number.sum()) * (1 / low - 1 / high))
        return np.bincount(np.repeat(np.arange(steps), number), energy / KEV_PER_PAIR, steps)

    def _energy(self, rng):
        low, high, index = self.energies
        if index == 1:
            return low * (high / low) ** rng.random()
        power = 1 - index
        return (low**power + rng.random() * (high**power - low**power)) ** (1 / power)

    def _worm(self, rng, energy=None, start=None):
        """Follow a Compton electron of `energy` keV, multiply scattered, until it stops or leaves the silicon."""
        energy = self._energy(rng) if energy is None else energy
        point = np.array([0.0, 0.0, rng.uniform(0, self.depth)]) if start is None else np.array(start)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        positions, charges = [], []
        while energy > 0 and 0 <= point[2] <= self.depth:
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

    def _spot(self, rng):
        """Put a point of charge at a random depth: an X-ray, or a short, steep electron."""
        return np.array([[0.0, 0.0, rng.uniform(0, self.depth)]]), np.array([10 ** rng.uniform(*self.charges)])

    def _collect(self, rng, position, charge, faintest, parcels=12):
        """Diffuse the charge in parcels and collect it in pixels; None if every pixel is too faint."""
        height = np.repeat(position[:, 2], parcels)
        sigma = self.diffusion * np.sqrt(np.clip(height, 0, self.thickness) / self.thickness)
        where = np.repeat(position[:, :2], parcels, 0) + rng.normal(size=(len(height), 2)) * sigma[:, None]
        charge = np.repeat(charge / parcels, parcels)
        if self.beneath:
            way, part = self._diffuse(rng, height - self.thickness)
            where, charge = where + way, charge * part
        where = (where - where.min(0)) / self.pixel + rng.random(2)
        column, row = where.astype(int).T
        stamp = np.zeros((row.max() + 1, column.max() + 1), np.float32)
        np.add.at(stamp, (row, column), charge)
        stamp[stamp < faintest] = 0
        if not stamp.any():
            return None
        rows, columns = stamp.any(1).nonzero()[0], stamp.any(0).nonzero()[0]
        return stamp[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    def _diffuse(self, rng, deep):
        """Return how far charge diffuses sideways that starts so deep beneath the field, and what part arrives.

        It is the flux through a plane that absorbs, from a point in half a space in which charge recombines:
        ``deep * (1 + s) * exp(-s) / distance**3`` where s is the distance over the diffusion length.
        """
        deep = np.clip(deep, 0, None)
        distance = deep / np.maximum(rng.random(len(deep)), 1e-3)
        aside, azimuth = np.sqrt(distance**2 - deep**2), rng.uniform(0, 2 * np.pi, len(deep))
        s = distance / self.diffusion_length
        return np.stack([aside * np.cos(azimuth), aside * np.sin(azimuth)], 1), (1 + s) * np.exp(-s)


#: Sensors tuned to the real hits of catalogues, see `training.evaluation.likeness`: 100 micrometres of LSST, and three
#: front-illuminated CCDs.  The numbers fit, together; they are no measurement of the silicon.
SENSORS = {
    "ITL": Sensor(
        100.0, 10.0, 4.7, kinds=(0.33, 0.53, 0.14), energies=(10.0, 1000.0, 0.95), charges=(1.9, 2.5), tilt=75.0,
        collisions=1.0,
    ),
    "KAF-3200ME": Sensor(
        4.5, 13.6, 4.3, 12.0, 8.4, (0.39, 0.45, 0.16), (23.5, 2000.0, 0.75), (2.4, 3.2), tilt=30.0, collisions=1.0
    ),
    "KAF-0402ME": Sensor(
        5.3, 9.0, 3.4, 16.0, 5.6, (0.4, 0.54, 0.06), (20.0, 2000.0, 0.86), (2.6, 3.3), tilt=90.0, collisions=1.0
    ),
    "KAF-1001E": Sensor(
        12.9, 24.0, 4.8, 15.0, 9.0, (0.4, 0.57, 0.03), (67.0, 2500.0, 0.8), (2.4, 3.8), tilt=5.0, collisions=1.0
    ),
}  # fmt: skip


def scatter_hits(shape, hits, rng):
    """Place hits at random positions in an image; some are cut by its edges.

    Parameters
    ----------
    shape : tuple of int
    hits : iterable of `numpy.ndarray`
        Charge stamps in electrons, as from `simulate_hit`.
    rng : `numpy.random.Generator`

    Returns
    -------
    charge : `numpy.ndarray`
        Of the given shape, float32, electrons.
    truth : `numpy.ndarray`
        Of the given shape, bool, True where a hit left charge (not dilated).
    """
    charge = np.zeros(shape, np.float32)
    for hit in hits:
        height, width = hit.shape
        row = int(rng.integers(1 - height, shape[0]))
        column = int(rng.integers(1 - width, shape[1]))
        seen = hit[max(0, -row) : shape[0] - row, max(0, -column) : shape[1] - column]
        charge[max(0, row) : row + height, max(0, column) : column + width] += seen
    return charge, charge > 0


def turned(hit, rng):
    """Return a stamp in one of its eight orientations, drawn at random.

    Parameters
    ----------
    hit : `numpy.ndarray`
    rng : `numpy.random.Generator`

    Returns
    -------
    `numpy.ndarray`
        A view.
    """
    hit = np.rot90(hit, rng.integers(4))
    return hit[::-1] if rng.random() < 0.5 else hit
