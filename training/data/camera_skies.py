"""Skies of one camera: its own frames, and simulated ones that are like them, mixed with the generic skies."""

from dataclasses import replace

import numpy as np

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.quality.injection import catalogue
from crattn_stage.simulation.hits import SENSORS
from crattn_stage.simulation.skies import moffat_psf
from training.data.camera import draw_noise
from training.data.hard_skies import RADIUS, add_stars, charge_of, cusped_galaxies, draw_psf, lines, spikes
from training.data.library import SPLITS, Skies
from training.data.skies import Sky, background, glow, streaks

#: Fraction of the patches that are generic skies, so that nothing is forgotten.
GENERIC = 0.35
#: How often each kind of the camera's own skies is drawn, relative to the others that there are.
KINDS = {"simulated": 0.55, "frame": 0.15, "mirrored": 0.15, "dark": 0.15}
#: Number of a hit modulo 4 -> its split; the others train.  There are few, and those held out decide.
HELD_OUT = {1: "validation", 3: "test"}
#: Fraction of the hits that are the camera's own, and most copies of each to reach it.
OWN, MOST_COPIES = 0.7, 40
#: Simulated hits beside them, point spread functions, and simulated generic skies of a split.
FILLERS, PSFS, PLANES = 400, 24, 120
#: Most hits in 128 x 128 pixels of the camera's skies: there are few patches to learn its hits from.
MOST_HITS = 8


class CameraSkies:
    """Draw clean skies of a camera, or generic ones, and the hits that go on them.

    Parameters
    ----------
    camera : `training.data.camera.Camera`
    split : {"train", "validation", "test"}
        Of hits and of frames; simulated skies have different seeds in each.
    generic : float
        Fraction of `training.data.library.Skies`; 0 for the camera alone.
    pixel : float, optional
        Side of a pixel in micrometres, for simulated hits; any by default.
    size : int
        Largest side of what is drawn, pixels: smaller frames are left out.
    known_hot : bool
        Whether hot pixels are known to be bad, as with the file of `training.data.bad_pixels`.

    Attributes
    ----------
    hits : list of `numpy.ndarray`
        Stamps of charge, electrons: those of the camera, and simulated ones in training or where there are none.
    own, others : list of `numpy.ndarray`
        Those of the camera alone; and, to validate and test beside them, those of the shipped catalogue.
    """

    def __init__(self, camera, split, generic=GENERIC, pixel=None, size=128, known_hot=False):
        self.camera, self.split, self.fraction, self.known_hot = camera, SPLITS.index(split), generic, known_hot
        # Darks are not held out one by one: they are for training.
        skies = {
            "frame": getattr(camera, split),
            "mirrored": camera.mirrored.get(split, []),
            "dark": camera.darks if split == "train" else [],
        }
        self.skies = {
            kind: [self._listed(s) for s in some if min(s.image.shape) >= size] for kind, some in skies.items()
        }
        self.generic = Skies(split, hard=0.5, narrow=bool(camera.narrow), planes=PLANES) if generic else None
        rng = np.random.default_rng([self.split, 20228])
        # Without darks those of others, as they are.
        self.own = _of_split(camera.hits or catalogue(), split)
        self.others = _of_split(catalogue(), split) if camera.hits and split != "train" else []
        fillers = [_filler(rng, pixel) for _ in range(FILLERS)] if split == "train" or not self.own else []
        copies = min(MOST_COPIES, round(OWN / (1 - OWN) * len(fillers) / max(len(self.own), 1))) if fillers else 1
        self.hits = self.own * max(copies, 1) + fillers
        chosen = {kind: weight for kind, weight in KINDS.items() if kind == "simulated" or self.skies[kind]}
        self.kinds = {kind: weight / sum(chosen.values()) for kind, weight in chosen.items()}
        self.psfs = [_psf(np.random.default_rng([self.split, number, 21]), camera.fwhm) for number in range(PSFS)]

    def prepare(self):
        """Simulate now what is otherwise simulated when it is first needed."""
        if self.generic:
            self.generic.prepare()

    def draw(self, rng, size):
        """Draw a clean sky, and the hits that go on such skies.

        Parameters
        ----------
        rng : `numpy.random.Generator`
        size : int
            Side, pixels.

        Returns
        -------
        sky : `training.data.skies.Sky`
        hits : list of `numpy.ndarray`
        """
        if self.fraction and rng.random() < self.fraction:
            return self.generic.draw(rng, size)
        kind = rng.choice(list(self.kinds), p=list(self.kinds.values()))
        if kind == "simulated":
            sky = self.simulate(rng, size)
        else:
            some = self.skies[kind]
            sky = _cut(some[rng.integers(len(some))], rng, size)
            if kind != "frame":
                self._add_light(sky, rng)
        sky.most_hits = MOST_HITS
        return sky, self.hits

    def simulate(self, rng, size):
        """Simulate a sky of the camera: its noise, its hot pixels, stars as wide and as many as on its frames.

        Parameters
        ----------
        rng : `numpy.random.Generator`
        size : int
            Side, pixels.

        Returns
        -------
        `training.data.skies.Sky`
        """
        camera = self.camera
        level, sigma, gain, read_noise = camera.levels[rng.integers(len(camera.levels))]
        sigma = sigma * 10 ** rng.normal(0, 0.05)
        noise = draw_noise(camera, rng, (size, size)) * np.float32(sigma)
        if camera.of_darks:
            # A sky brings light and its noise.
            sky = 10 ** rng.uniform(-1, 1.5) * max(sigma * gain, 1.0) ** 2
            noise = noise + rng.standard_normal(noise.shape, np.float32) * np.float32(np.sqrt(sky) / gain)
            level, sigma = level + sky / gain, np.hypot(sigma, np.sqrt(sky) / gain)
        if rng.random() < 0.3:
            noise = noise + (lines(rng, size) + background(rng, size)) * np.float32(sigma)
        hot = None
        if len(camera.hot_heights):
            hot = rng.random(noise.shape) < camera.hot_fraction * 10 ** rng.uniform(-0.3, 0.3)
            noise[hot] += rng.choice(camera.hot_heights, hot.sum()) * np.float32(rng.lognormal(0, 0.2))
        offset, width = sky_statistics(noise)
        image, nothing = noise + np.float32(level), np.zeros(noise.shape, bool)
        sky = Sky(image, nothing, level + offset, width, gain, 4.0, read_noise, hot=hot)
        self._add_light(sky, rng)
        if camera.step:
            sky.image = np.rint(sky.image)
        return self._listed(sky)

    def _listed(self, sky):
        """Return a sky with its hot pixels among the bad ones, if they are known."""
        return replace(sky, bad=sky.bad | sky.hot) if self.known_hot and sky.hot is not None else sky

    def _add_light(self, sky, rng):
        """Add stars, and now and then galaxies, spikes, trails and glows to a sky, in place, with their noise."""
        size, camera = len(sky.image), self.camera
        psf, fwhm = self.psfs[rng.integers(len(self.psfs))]
        noise = sky.sigma * sky.gain
        light = np.zeros(sky.image.shape, np.float32)
        density = max(camera.density, 100.0) * 10 ** rng.uniform(-0.5, 0.3)
        count = rng.poisson(density * size**2 / 1e6)
        if len(camera.charges) >= 20:
            charge = rng.choice(camera.charges, count) * 10 ** rng.uniform(-0.7, 0.2, count)
        else:
            charge = charge_of(10 ** rng.uniform(1, 3.5, count), fwhm, noise)
        add_stars(light, rng.uniform(-8, size + 8, (count, 2)), charge, psf)
        if rng.random() < 0.2:
            light += cusped_galaxies(rng, size, psf, fwhm, noise)
        if rng.random() < 0.05:
            light += spikes(rng, size, fwhm, noise)
        light += (streaks(rng, size, fwhm) + glow(rng, size) * (rng.random() < 0.5)) * np.float32(noise)
        shot = rng.standard_normal(light.shape, np.float32) * np.sqrt(light)
        sky.image = sky.image + (light + shot) / np.float32(sky.gain)
        sky.fwhm = fwhm


def _of_split(stamps, split):
    """Return the hits of a split that have more than one pixel."""
    return [
        stamp
        for number, stamp in enumerate(stamps)
        if HELD_OUT.get(number % 4, "train") == split and np.count_nonzero(stamp) > 1
    ]


def _cut(sky, rng, size):
    row, column = (int(rng.integers(0, n - size + 1)) for n in sky.image.shape)
    window = np.s_[row : row + size, column : column + size]
    return replace(sky, image=sky.image[window].copy(), bad=sky.bad[window].copy(), hot=None)


def _filler(rng, pixel):
    """Simulate a hit that may or may not be as the camera's: its silicon is not known."""
    sensor = list(SENSORS.values())[rng.integers(len(SENSORS))]
    pixel = pixel if pixel and 2 < pixel < 50 else float(rng.choice([5, 9, 13.5, 15]))
    thick = {"thickness": float(rng.choice([100, 250]))} if not sensor.beneath else {}
    sensor = replace(sensor, pixel=pixel, diffusion=rng.uniform(3, 8), tilt=rng.uniform(0, 90), **thick)
    while True:
        stamp = sensor.hit(rng)
        # One that is longer than a patch would only be slow.
        if np.count_nonzero(stamp) > 1 and max(stamp.shape) < 400:
            return stamp


def _psf(rng, fwhm):
    """Return a point spread function about as wide as measured, or of any width, and its FWHM."""
    if not fwhm:
        return draw_psf(rng)
    fwhm = float(np.clip(fwhm * rng.lognormal(0, 0.08), 0.8, 12))
    beta = np.inf if rng.random() < 0.4 else rng.uniform(2.5, 6)
    fraction = 0.02 * rng.random() if rng.random() < 0.3 else 0
    return moffat_psf(fwhm, beta, RADIUS, spikes=fraction, angle=rng.uniform(0, np.pi / 2), width=fwhm * 0.6), fwhm
