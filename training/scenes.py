"""Scenes with exact truth: clean skies, contaminated with real and simulated hits.

Skies are parted in space (rows of the DECam CCD, columns of the deep coadd,
seeds of the simulation) and hits by footprint, so that the validation and test
scenes share neither sky nor hit with the training ones.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation, gaussian_filter

from crattn_stage.preparation import fill, scale, sky_statistics
from crattn_stage.simulate import expose, scatter_hits, simulate_sky
from training.hits import read_footprints, simulated_hits, turned

SPLITS = ("train", "validation", "test")
#: Fractions of a sky's length at which validation and test begin.
SPLIT_EDGES = {"train": (0.0, 0.625), "validation": (0.625, 0.75), "test": (0.75, 1.0)}

DECAM_CCD = "decam/decam_r_241238_ampB.fits.fz"
DECAM_COADD = "decam/decam_g_coadd_1170s.fits.fz"
FOOTPRINTS = "cr_footprints_itl_train.fits.gz"
#: All bits of the DECam CCD's bad-pixel mask but "near a star".
DECAM_BAD = ~32
#: ADU of a 90 s exposure for one count of the coadd (from zero point 30, to about 20%).
COADD_TO_ADU = 1.0
DILATION = np.ones((3, 3), bool)


@dataclass
class Sky:
    """A clean exposure: image and sky level and noise in ADU, gain in electron/ADU."""

    image: np.ndarray
    bad: np.ndarray
    level: float
    sigma: float
    gain: float


@dataclass
class Scene:
    """A contaminated exposure with its truth, the hits' pixels dilated 3x3."""

    sky: Sky
    image: np.ndarray
    truth: np.ndarray


class Skies:
    """Draws clean skies of one split.

    Parameters
    ----------
    split : {"train", "validation", "test"}
    data : path-like, optional
        Folder with the DECam CCD, the deep coadd and the footprints; without
        it all skies and hits are simulated.
    """

    def __init__(self, split, data=None):
        self.rng = np.random.default_rng([SPLITS.index(split), 20221])
        self.kinds = {"simulated": 1.0}
        self.simulated = [
            simulate_sky(
                (512, 512),
                self.rng,
                fwhm=self.rng.choice([1.3, 1.8, 2.5, 3.5, 5.0, 8.0]) * self.rng.uniform(0.85, 1.2),
                stars=10 ** self.rng.uniform(2, 4),
                galaxies=10 ** self.rng.uniform(2, 3),
                beta=self.rng.uniform(2.3, 4.5),
                motion=_motion(self.rng),
                spikes=self.rng.choice([0, 0.01]),
            )[0]
            for _ in range(64)
        ]
        if data is None:
            self.hits = simulated_hits(3000, self.rng.integers(2**31))
            return
        data, (low, high) = Path(data), SPLIT_EDGES[split]
        self.hits = read_footprints(data / FOOTPRINTS, split)
        if split == "train":
            self.hits += simulated_hits(len(self.hits) // 2, self.rng.integers(2**31))
        with fits.open(data / DECAM_CCD) as hdus:
            image = hdus["SCI"].data.astype(np.float32)
            bad = binary_dilation((hdus["BPM"].data & DECAM_BAD) != 0, iterations=2)
            gain = hdus["SCI"].header["GAINB"]
        level, sigma = sky_statistics(image, ~bad)
        rows = slice(*(int(edge * len(image)) for edge in (low, high)))
        self.ccd = Sky(image[rows], bad[rows], level, sigma, gain)
        with fits.open(data / DECAM_COADD) as hdus:
            coadd = hdus["SCI"].data.astype(np.float32)
        columns = slice(*(int(edge * coadd.shape[1]) for edge in (low, high)))
        self.coadd = coadd[:, columns]
        self.coadd_noise = sky_statistics(self.coadd)[1]
        self.kinds = {"ccd": 0.3, "coadd": 0.35, "simulated": 0.35}

    def draw(self, rng, size):
        """Return a random `Sky` of `size` x `size` pixels."""
        kind = rng.choice(list(self.kinds), p=list(self.kinds.values()))
        if kind == "ccd":
            return self._ccd(rng, size)
        gain = 10 ** rng.uniform(0, 0.9) if kind == "simulated" or rng.random() < 0.3 else 4.0
        read_noise = 10 ** rng.uniform(0.5, 1.2)
        level = 10 ** rng.uniform(1.3, 3.7)
        noise = 0.0
        if kind == "coadd":
            crop, noise = self._coadd(rng, size)
            electrons = crop * gain
        else:
            plane = self.simulated[rng.integers(len(self.simulated))]
            electrons = _crop(plane, rng, size) * np.float32(10 ** rng.uniform(-0.5, 1.5))
        image = expose(electrons, level * gain, read_noise, gain, rng)
        sigma = np.hypot(np.sqrt(level * gain + read_noise**2) / gain, noise)
        bad = np.zeros(image.shape, bool)
        return Sky(image, bad, level, sigma, gain)

    def _ccd(self, rng, size):
        ccd = self.ccd
        row, column = (int(rng.integers(0, n - size + 1)) for n in ccd.image.shape)
        window = np.s_[row : row + size, column : column + size]
        image, level, sigma = ccd.image[window].copy(), ccd.level, ccd.sigma
        # Longer exposures (the paper's sky augmentation, Sec. 2.3) with the noise they bring.
        # Shorter ones (a < 0) only shift the level, which the input scaling takes out.
        if rng.random() < 0.7:
            extra = rng.uniform(0, 3) ** 2 * level / 2
            noise = np.sqrt(extra / ccd.gain)
            image += np.float32(extra) + rng.standard_normal(image.shape, np.float32) * np.float32(noise)
            level, sigma = level + extra, np.hypot(sigma, noise)
        return Sky(image, ccd.bad[window].copy(), level, sigma, ccd.gain)

    def exposed_coadd(self, rng, level, gain=4.0, read_noise=7.0):
        """Return the whole coadd of this split as a single exposure at a sky level in ADU."""
        image = expose(self.coadd * np.float32(COADD_TO_ADU * gain), level * gain, read_noise, gain, rng)
        sigma = np.hypot(np.sqrt(level * gain + read_noise**2) / gain, self.coadd_noise * COADD_TO_ADU)
        return Sky(image, np.zeros(image.shape, bool), level, sigma, gain)

    def _coadd(self, rng, size):
        """A crop of the deep coadd and its own noise, in ADU.

        As it is, binned to undersampled, or smoothed to bad seeing.
        """
        choice, noise = rng.random(), self.coadd_noise
        if choice < 0.25:
            crop, noise = _crop(self.coadd, rng, 2 * size), 2 * noise
            crop = crop.reshape(size, 2, size, 2).sum((1, 3))
        else:
            crop = _crop(self.coadd, rng, size)
            if choice > 0.75:
                width = rng.uniform(0.5, 2.5)
                crop, noise = gaussian_filter(crop, width), noise / (2 * np.sqrt(np.pi) * width)
        factor = COADD_TO_ADU * 10 ** rng.uniform(-0.7, 0.5)
        return crop * np.float32(factor), noise * factor


def _motion(rng):
    """Draw how the telescope moved: mostly not, else along a trail, or in one jump of the guiding."""
    kind = rng.choice(["still", "trail", "jump"], p=[0.6, 0.3, 0.1])
    end = rng.uniform(3, 40 if kind == "trail" else 8)
    angle = rng.uniform(0, 2 * np.pi)
    steps = {"still": 1, "trail": 60, "jump": 2}[kind]
    along = np.linspace(-end / 2, end / 2, steps) if steps > 1 else np.zeros(1)
    return np.column_stack([along * np.sin(angle), along * np.cos(angle)])


def _crop(plane, rng, size):
    row, column = (int(rng.integers(0, n - size + 1)) for n in plane.shape)
    return plane[row : row + size, column : column + size]


def contaminate(sky, hits, rng, spread=0.5):
    """Add hits to a sky, in electrons through the gain.

    Parameters
    ----------
    sky : `Sky`
    hits : iterable of `numpy.ndarray`
        Stamps in electrons.
    rng : `numpy.random.Generator`
    spread : float
        Charges are scaled by 10^U(-spread, spread).

    Returns
    -------
    `Scene`
    """
    stamps = [turned(hit, rng) * np.float32(10 ** rng.uniform(-spread, spread)) for hit in hits]
    charge, truth = scatter_hits(sky.image.shape, stamps, rng)
    truth = binary_dilation(truth, DILATION)
    return Scene(sky, sky.image + charge / np.float32(sky.gain), truth)


def spoil(scene, rng):
    """Add what a detector adds: saturation with bleed trails, bad columns, dead pixels; in place.

    Most of it is put on the bad-pixel mask, as a pipeline would; what is not
    teaches that dark defects are no hits.
    """
    image, bad = scene.image, scene.sky.bad
    level, size = scene.sky.level, len(scene.image)
    saturation = max(10 ** rng.uniform(4.1, 4.8), 3 * level)
    listed = rng.random() < 0.8
    saturated = image - np.where(scene.truth, image - level, 0) > saturation
    if saturated.any():
        for column in np.unique(saturated.nonzero()[1]):
            rows = saturated[:, column].nonzero()[0]
            reach = rng.integers(0, 2 * len(rows) + 2)
            saturated[max(0, rows[0] - reach) : rows[-1] + reach + 1, column] = True
        image[saturated] = saturation
        scene.truth[saturated] = False
        if listed:
            bad |= saturated
    np.minimum(image, saturation, out=image)
    if rng.random() < 0.35:
        spoiled = np.zeros_like(bad)
        for _ in range(rng.integers(1, 4)):
            column, width = rng.integers(size), rng.integers(1, 4)
            start = 0 if rng.random() < 0.6 else rng.integers(size)
            spoiled[start:, column : column + width] = True
        dead = rng.random(image.shape) < 10 ** rng.uniform(-4, -2.5)
        spoiled |= dead
        if rng.random() < 0.75:
            bad |= spoiled
            image[spoiled] = rng.choice([0, saturation, level * rng.uniform(0.3, 3)])
        else:
            image[spoiled] = rng.choice([0, level * rng.uniform(0, 0.9)])
            scene.truth[spoiled] = False


class Patches:
    """Training patches by number: the same number gives the same patch, whoever asks.

    Parameters
    ----------
    skies : `Skies`
    size : int
        Patch side in pixels.
    count : int
    seed : int
    scaling : {"asinh", "none"}
    """

    def __init__(self, skies, size, count, seed, scaling="asinh"):
        self.skies, self.size, self.count, self.seed, self.scaling = skies, size, count, seed, scaling

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        """Return (input, truth, weight), each (1, size, size) float32."""
        rng = np.random.default_rng([self.seed, index])
        sky = self.skies.draw(rng, self.size)
        hits = rng.integers(0, 9 * self.size**2 // 128**2)
        scene = contaminate(sky, [self.skies.hits[i] for i in rng.integers(0, len(self.skies.hits), hits)], rng)
        spoil(scene, rng)
        # Statistics of an amplifier differ a little from those of its parts.
        level = sky.level + rng.normal(0, 0.15) * sky.sigma
        sigma = sky.sigma * rng.lognormal(0, 0.08)
        plane = fill(scale(scene.image, level, sigma, self.scaling), sky.bad, 0.0)
        turns = rng.integers(4)
        arrays = [np.rot90(a, turns) for a in (plane, scene.truth, ~sky.bad)]
        return tuple(np.ascontiguousarray(a, np.float32)[None] for a in arrays)
