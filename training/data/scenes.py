"""Scenes with exact truth: clean skies, contaminated with real and simulated hits.

Skies are parted in space (rows of the DECam CCD, columns of the deep coadd,
seeds of the simulation) and hits by footprint, so that the validation and test
scenes share neither sky nor hit with the training ones.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import astroscrappy
import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation, gaussian_filter

from crattn_stage.detection.preprocessing import fill, scale, sky_statistics
from crattn_stage.detection.saturation import saturated_stars
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.simulation.simulate import expose, scatter_hits, simulate_sky
from training.data.hits import read_footprints, simulated_hits, turned

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
#: sigma_D of the dark frames in electrons, and k of the paper's contamination.  The value of k is that of
#: MaxiMask (Paillassa et al. 2020), whose recipe the paper follows.  Charge added through the gain, the
#: physical way, has k = sigma_D / sigma_U in electrons: 0.21 under a dark sky (283 ADU), 0.08 at 2090 ADU.
DARK_NOISE, PAPER_CONTRAST = 7.0, 1 / 8
#: Simulated skies of a split, and their side in pixels.
PLANES, PLANE = 480, 320
#: Seeing (FWHM, pixels) below which a star can be as narrow as a hit.
UNDERSAMPLED = 2.2


@dataclass
class Sky:
    """A clean exposure: image, sky level and noise in ADU, gain in electron/ADU, seeing (FWHM, px), read noise (e)."""

    image: np.ndarray
    bad: np.ndarray
    level: float
    sigma: float
    gain: float
    fwhm: float = 4.0
    read_noise: float = 7.0


@dataclass
class Scene:
    """A contaminated exposure with its truth, the hits' pixels dilated 3x3."""

    sky: Sky
    image: np.ndarray
    truth: np.ndarray


def read_skies(path):
    """Read a real frame: one sky for each amplifier, without overscan, as it is.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of `Sky`
        Bad where its mask says so and where stars saturate; a gain or read noise
        that its header lacks is 1 e/ADU, 7 e.
    """
    skies = []
    with ObservationFrame(path) as frame:
        for extension, ccd in frame.ccds():
            bad = ~np.isfinite(ccd.data) | (False if ccd.mask is None else ccd.mask)
            bad |= saturated_stars(ccd.data, frame.saturation(extension))
            for amplifier in frame.amplifiers(extension):
                image = np.ascontiguousarray(ccd.data[amplifier.section], np.float32)
                where = bad[amplifier.section]
                level, sigma = sky_statistics(image, ~where)
                gain, read_noise = amplifier.gain or 1.0, amplifier.read_noise or 7.0
                skies.append(Sky(image, where, level, sigma, gain, read_noise=read_noise))
    return skies


def cleaned(sky):
    """Take the cosmic rays out of a real sky, as in the paper (Sec. 2).

    Astro-SCRAPPY finds them; a pixel that it flags becomes the median of the
    others in the 5x5 around it.

    Parameters
    ----------
    sky : `Sky`

    Returns
    -------
    `Sky`
    """
    image = np.where(sky.bad, np.float32(sky.level), sky.image)
    found, _ = astroscrappy.detect_cosmics(image, sky.bad, gain=sky.gain, readnoise=sky.read_noise, sigclip=4.5)
    found = binary_dilation(found, DILATION)
    holes = np.pad(np.where(found | sky.bad, np.nan, sky.image), 2, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(holes, (5, 5))[found].reshape(-1, 25)
    seen = np.isfinite(around).any(1)
    values = np.full(len(around), sky.level, np.float32)
    values[seen] = np.nanmedian(around[seen], 1)
    image = sky.image.copy()
    image[found] = values
    return replace(sky, image=image)


class Skies:
    """Draws clean skies of one split.

    Parameters
    ----------
    split : {"train", "validation", "test"}
    data : path-like, optional
        Folder with the DECam CCD, the deep coadd and the footprints; without
        it all skies and hits are simulated.
    hits : path-like, optional
        Catalogue of footprints, as from `training.data.hits.write_footprints`; that
        of `data` without it.
    frames : sequence of path-like
        Further real frames, `cleaned`; the split parts their rows.
    """

    def __init__(self, split, data=None, hits=None, frames=()):
        self.split = SPLITS.index(split)
        self.kinds = {"simulated": 1.0}
        rng = np.random.default_rng([self.split, 20221])
        catalogue = hits or (data and Path(data) / FOOTPRINTS)
        self.hits = read_footprints(catalogue, split) if catalogue else []
        if not catalogue or split == "train":
            self.hits += simulated_hits(len(self.hits) // 2 or 3000, rng.integers(2**31))
        low, high = SPLIT_EDGES[split]
        self.ccds = [_rows(cleaned(sky), low, high) for path in frames for sky in read_skies(path)]
        if self.ccds:
            self.kinds = {"ccd": 0.3, "simulated": 0.7}
        if data is None:
            return
        data = Path(data)
        with fits.open(data / DECAM_CCD) as hdus:
            image = hdus["SCI"].data.astype(np.float32)
            bad = binary_dilation((hdus["BPM"].data & DECAM_BAD) != 0, iterations=2)
            gain = hdus["SCI"].header["GAINB"]
        level, sigma = sky_statistics(image, ~bad)
        self.ccd = _rows(Sky(image, bad, level, sigma, gain), low, high)
        self.ccds.append(self.ccd)
        with fits.open(data / DECAM_COADD) as hdus:
            coadd = hdus["SCI"].data.astype(np.float32)
        columns = slice(*(int(edge * coadd.shape[1]) for edge in (low, high)))
        self.coadd = coadd[:, columns]
        self.coadd_noise = sky_statistics(self.coadd)[1]
        self.kinds = {"ccd": 0.25, "coadd": 0.3, "simulated": 0.45}

    @cached_property
    def simulated(self):
        """Noiseless simulated skies in electrons, each with the FWHM of its seeing."""
        return [_simulated(np.random.default_rng([self.split, number])) for number in range(PLANES)]

    def draw(self, rng, size):
        """Return a random `Sky` of `size` x `size` pixels."""
        kind = rng.choice(list(self.kinds), p=list(self.kinds.values()))
        if kind == "ccd":
            return self._ccd(rng, size)
        gain = 10 ** rng.uniform(-0.1, 0.9) if kind == "simulated" or rng.random() < 0.3 else 4.0
        read_noise = 10 ** rng.uniform(0.5, 1.3)
        level = 10 ** rng.uniform(0.7, 3.7)
        noise = 0.0
        if kind == "coadd":
            crop, noise, fwhm = self._coadd(rng, size)
            electrons = crop * gain
        else:
            plane, fwhm = self.simulated[rng.integers(len(self.simulated))]
            electrons = _crop(plane, rng, size) * np.float32(10 ** rng.uniform(-0.5, 1.5))
        sigma = np.hypot(np.sqrt(level * gain + read_noise**2) / gain, noise)
        electrons = electrons + (_streaks(rng, size, fwhm) + _glow(rng, size)) * np.float32(sigma * gain)
        image = expose(electrons, level * gain, read_noise, gain, rng) + _background(rng, size) * np.float32(sigma)
        if kind == "simulated" and rng.random() < 0.5:
            # What a detector would measure: in a crowded field that is not the sky alone.
            level, sigma = sky_statistics(image)
        return Sky(image, np.zeros(image.shape, bool), level, sigma, gain, fwhm)

    def _ccd(self, rng, size):
        ccd = self.ccds[rng.integers(len(self.ccds))]
        row, column = (int(rng.integers(0, n - size + 1)) for n in ccd.image.shape)
        window = np.s_[row : row + size, column : column + size]
        image, level, sigma = ccd.image[window].copy(), ccd.level, ccd.sigma
        # Longer exposures (the paper's sky augmentation, Sec. 2.3, and further) with the noise they bring.
        # Shorter ones (a < 0) only shift the level, which the input scaling takes out.
        if rng.random() < 0.7:
            extra = rng.uniform(0, 4) ** 2 * level / 2
            noise = np.sqrt(extra / ccd.gain)
            image += np.float32(extra) + rng.standard_normal(image.shape, np.float32) * np.float32(noise)
            level, sigma = level + extra, np.hypot(sigma, noise)
        light = (_streaks(rng, size, 4.4) + _glow(rng, size)) * np.float32(sigma)
        image += light + rng.standard_normal(image.shape, np.float32) * np.sqrt(light / np.float32(ccd.gain))
        image += _background(rng, size) * np.float32(sigma)
        return Sky(image, ccd.bad[window].copy(), level, sigma, ccd.gain)

    def exposed_coadd(self, rng, level, gain=4.0, read_noise=7.0):
        """Return the whole coadd of this split as a single exposure at a sky level in ADU."""
        image = expose(self.coadd * np.float32(COADD_TO_ADU * gain), level * gain, read_noise, gain, rng)
        sigma = np.hypot(np.sqrt(level * gain + read_noise**2) / gain, self.coadd_noise * COADD_TO_ADU)
        return Sky(image, np.zeros(image.shape, bool), level, sigma, gain)

    def _coadd(self, rng, size):
        """A crop of the deep coadd and its own noise, in ADU, and about its seeing.

        As it is, binned to undersampled, or smoothed to bad seeing.
        """
        choice, noise, fwhm = rng.random(), self.coadd_noise, 4.0
        if choice < 0.25:
            crop, noise = _crop(self.coadd, rng, 2 * size), 2 * noise
            crop, fwhm = crop.reshape(size, 2, size, 2).sum((1, 3)), 2.0
        else:
            crop = _crop(self.coadd, rng, size)
            if choice > 0.75:
                width = rng.uniform(0.5, 2.5)
                crop, noise = gaussian_filter(crop, width), noise / (2 * np.sqrt(np.pi) * width)
                fwhm = np.hypot(fwhm, 2.35 * width)
        factor = COADD_TO_ADU * 10 ** rng.uniform(-0.7, 0.5)
        return crop * np.float32(factor), noise * factor, fwhm


def _rows(sky, low, high):
    rows = slice(*(int(edge * len(sky.image)) for edge in (low, high)))
    return replace(sky, image=sky.image[rows], bad=sky.bad[rows])


def _simulated(rng):
    """Simulate one noiseless sky; one in twelve undersampled, where a star is most like a hit."""
    fwhm = rng.uniform(1.0, UNDERSAMPLED) if rng.random() < 0.08 else 10 ** rng.uniform(0.35, 0.95)
    plane, _ = simulate_sky(
        (PLANE, PLANE),
        rng,
        fwhm=fwhm,
        # A star is told from a hit by the stars around it: a narrow one needs neighbours.
        stars=10 ** rng.uniform(2.7 if fwhm < UNDERSAMPLED else 2, 4.3),
        galaxies=10 ** rng.uniform(1.5, 3),
        beta=rng.choice([rng.uniform(2.3, 4.5), rng.uniform(4.5, 10)]),
        motion=_motion(rng, fwhm),
        spikes=rng.choice([0, 0.01]),
    )
    return plane, fwhm


def _motion(rng, fwhm):
    """Draw where a star's light went: a slight drift, a trail, one jump of the guiding, or an out-of-focus ring."""
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


def _streaks(rng, size, fwhm):
    """Trails of satellites and asteroids, as wide as the stars, in units of the sky noise."""
    plane = np.zeros((size, size), np.float32)
    if rng.random() > 0.12:
        return plane
    y, x = np.mgrid[:size, :size].astype(np.float32)
    for _ in range(rng.integers(1, 3)):
        # One short, narrow streak alone is a hit as far as anyone can tell; across the frame it is a satellite.
        whole = rng.random() < 0.5
        half = 2 * size if whole else rng.uniform(4, 40)
        sigma = max(fwhm, 1.5 if whole else 3.0) * rng.uniform(1, 1.5) / 2.35
        angle, (row, column) = rng.uniform(0, np.pi), rng.uniform(0, size, 2)
        along = (y - row) * np.sin(angle) + (x - column) * np.cos(angle)
        across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
        off = np.maximum(np.abs(along) - half, 0)
        plane += np.float32(10 ** rng.uniform(0, 2)) * np.exp((across**2 + off**2) / np.float32(-2 * sigma**2))
    return plane


def _glow(rng, size):
    """Now and then a `large_galaxy`: hits on it are hits."""
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


def _background(rng, size):
    """What the sky level does not take out: gradient, fringes, a step between amplifiers; in units of its noise."""
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


def contaminate_as_paper(sky, hits, rng, k=PAPER_CONTRAST, dark_noise=DARK_NOISE):
    """Add hits to a sky by the paper's equation, C = U + k (sigma_U / sigma_D) D, and its augmentation.

    The noise of the sky over that of the dark replaces gain and exposure time
    (Bhavanam et al. 2022, Sec. 2).  Before, a times the sky level is added, a
    uniform in [-0.9, 3], without the noise of a longer exposure (Sec. 2.3).

    Parameters
    ----------
    sky : `Sky`
    hits : iterable of `numpy.ndarray`
        Stamps in electrons, D where the mask is.
    rng : `numpy.random.Generator`
    k, dark_noise : float
        k, and sigma_D in electrons.

    Returns
    -------
    `Scene`
    """
    factor = np.float32(k * sky.sigma / dark_noise)
    charge, truth = scatter_hits(sky.image.shape, [turned(hit, rng) * factor for hit in hits], rng)
    brighter = np.float32(rng.uniform(-0.9, 3) * sky.level)
    sky = replace(sky, image=sky.image + brighter, level=sky.level + brighter)
    return Scene(sky, sky.image + charge, binary_dilation(truth, DILATION))


def spoil(scene, rng):
    """Add what a detector adds: saturation with bleed trails, bad columns, dead pixels; in place.

    Most of it is put on the bad-pixel mask, as a pipeline would; what is not
    teaches that dark defects and the rims of stars are no hits.
    """
    image, bad = scene.image, scene.sky.bad
    level, size = scene.sky.level, len(scene.image)
    saturation = max(10 ** rng.uniform(4.1, 4.8), 3 * level)
    _saturate(scene, saturation, rng)
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


def _saturate(scene, saturation, rng):
    """Cut stars off at a level, with bleed trails along columns; in place.

    Pipelines and coadds fill some saturated stars: now and then the brightest get a low, smooth core
    between rims that are left as they were, on no bad-pixel mask.
    """
    image, level, sigma = scene.image, scene.sky.level, scene.sky.sigma
    listed = rng.random() < 0.8
    stars = np.where(scene.truth, level, image)
    highest = min(stars.max(), saturation)
    filled = highest > level + 30 * sigma and rng.random() < 0.12
    limit = level + rng.uniform(0.1, 0.9) * (highest - level) if filled else saturation
    if filled and (stars > limit).mean() > 0.04:
        # No star, but the glow of a galaxy, on which hits are to be found.
        filled, limit = False, saturation
    saturated = stars > limit
    if saturated.any():
        stretch = rng.uniform(0, 1.5)
        for column in np.unique(saturated.nonzero()[1]):
            rows = saturated[:, column].nonzero()[0]
            reach = round(stretch * len(rows)) if filled else rng.integers(0, 2 * len(rows) + 2)
            saturated[max(0, rows[0] - reach) : rows[-1] + reach + 1, column] = True
        image[saturated] = saturation
        if filled:
            noise = rng.normal(0, rng.uniform(0, 1) * sigma, image.shape)
            image[saturated] = (level + rng.uniform(0.1, 1) * (limit - level) + noise)[saturated]
        elif listed:
            scene.sky.bad |= saturated
        scene.truth[saturated] = False
    np.minimum(image, saturation, out=image)


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
    contamination : {"electrons", "paper"}
        `contaminate` or `contaminate_as_paper`.
    """

    def __init__(self, skies, size, count, seed, scaling="asinh", contamination="electrons"):
        self.skies, self.size, self.count, self.seed, self.scaling = skies, size, count, seed, scaling
        self.contaminate = {"electrons": contaminate, "paper": contaminate_as_paper}[contamination]
        # Before workers fork, so that they share them.
        _ = skies.simulated

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        """Return (input, truth, weight), each (1, size, size) float32."""
        rng = np.random.default_rng([self.seed, index])
        sky = self.skies.draw(rng, self.size)
        # More hits than in any exposure, to learn from; fewer where a star can be taken for one, as
        # the network learns how common they are, too.
        most = 3 if sky.fwhm < UNDERSAMPLED else 9
        hits = rng.integers(0, most * self.size**2 // 128**2 + 1)
        stamps = [self.skies.hits[i] for i in rng.integers(0, len(self.skies.hits), hits)]
        scene = self.contaminate(sky, stamps, rng)
        sky = scene.sky
        spoil(scene, rng)
        # Statistics of an amplifier differ a little from those of its parts.
        level = sky.level + rng.normal(0, 0.15) * sky.sigma
        sigma = sky.sigma * rng.lognormal(0, 0.08)
        plane = fill(scale(scene.image, level, sigma, self.scaling), sky.bad, level if self.scaling == "none" else 0.0)
        turns = rng.integers(4)
        arrays = [np.rot90(a, turns) for a in (plane, scene.truth, ~sky.bad)]
        return tuple(np.ascontiguousarray(a, np.float32)[None] for a in arrays)
