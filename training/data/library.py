"""The library that training and evaluation draw from: real and simulated skies and hits, split in three.

Skies are split in space (rows of CCDs, columns of the deep coadd, seeds of the simulation)
and hits by footprint, so that validation and test scenes share neither sky nor hit with the
training ones.
"""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation, gaussian_filter

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.simulation.skies import expose
from training.data.frames import cleaned, read_skies
from training.data.hard_skies import PSFS, SPECTRA, draw_psf, draw_spectrum, hard_sky
from training.data.hits import read_footprints, simulated_hits
from training.data.skies import UNDERSAMPLED, Sky, background, glow, star_field, streaks

SPLITS = ("train", "validation", "test")
#: Fractions of a sky's length at which each split begins and ends.
SPLIT_EDGES = {"train": (0.0, 0.625), "validation": (0.625, 0.75), "test": (0.75, 1.0)}

DECAM_CCD = "decam/decam_r_241238_ampB.fits.fz"
DECAM_COADD = "decam/decam_g_coadd_1170s.fits.fz"
FOOTPRINTS = "cr_footprints_itl_train.fits.gz"
#: Of thin, front-illuminated CCDs.
THIN_FOOTPRINTS = tuple(f"cr_footprints_sbig_{camera}.fits.gz" for camera in ("st10", "st402", "stl1001"))
#: All bits of the DECam CCD's bad-pixel mask but "near a star".
DECAM_BAD = ~32
#: ADU of a 90 s exposure for one count of the coadd (from zero point 30, to about 20%).
COADD_TO_ADU = 1.0
#: Simulated skies of a split, and simulated hits where there are no others.
PLANES, SIMULATED_HITS = 480, 3000
#: How often each kind of sky is drawn, relative to the others that there are.
KINDS = {"ccd": 0.25, "coadd": 0.3, "simulated": 0.45}


@dataclass(frozen=True)
class Sources:
    """The real data that skies and hits come from.  Each is optional: what is missing is simulated.

    Attributes
    ----------
    ccd, coadd : `pathlib.Path` or None
        `DECAM_CCD` and `DECAM_COADD`.
    hits : tuple of `pathlib.Path`
        Catalogues of footprints, as from `training.data.hits.write_footprints`.
    frames : tuple of `pathlib.Path`
        Real frames.
    thin : tuple of `pathlib.Path`
        Those of `THIN_FOOTPRINTS`.
    """

    ccd: Path | None = None
    coadd: Path | None = None
    hits: tuple = ()
    frames: tuple = ()
    thin: tuple = ()

    @classmethod
    def find(cls, folder=None, hits=(), frames=()):
        """Find the files of a data folder.

        Parameters
        ----------
        folder : path-like, optional
            With `DECAM_CCD`, `DECAM_COADD`, `FOOTPRINTS` and `THIN_FOOTPRINTS`, or some of them.
        hits : path-like or sequence of path-like
            Catalogues to use in place of the folder's.
        frames : sequence of path-like

        Returns
        -------
        `Sources`
        """
        found = {
            name: Path(folder) / name
            for name in (DECAM_CCD, DECAM_COADD, FOOTPRINTS, *THIN_FOOTPRINTS)
            if folder and (Path(folder) / name).is_file()
        }
        hits = [hits] if isinstance(hits, (str, os.PathLike)) else list(hits or ())
        hits = hits or [found[name] for name in (FOOTPRINTS,) if name in found]
        thin = tuple(found[name] for name in THIN_FOOTPRINTS if name in found)
        return cls(found.get(DECAM_CCD), found.get(DECAM_COADD), tuple(map(Path, hits)), tuple(map(Path, frames)), thin)

    def missing(self):
        """Return a sentence for each source that is not there, on what is done without it.

        Returns
        -------
        list of str
        """
        return [
            text
            for there, text in (
                (self.ccd, f"No {DECAM_CCD}: no sky of a DECam CCD, and no scenes 'r'."),
                (self.coadd, f"No {DECAM_COADD}: no sky of the deep coadd, and no scenes 'z' and 'coadd:LEVEL'."),
                (self.hits, "No catalogue of footprints: all hits are simulated."),
            )
            if not there
        ]

    def description(self, hard=False):
        """Return what a network that is trained on these sources has seen, for its card.

        Parameters
        ----------
        hard : bool
            Whether skies are from `training.data.hard_skies`, too.

        Returns
        -------
        str
        """
        skies = ["DECam r sky (DES exposure 241238, CCD 1, amplifier B, rows 1-2560)"] * bool(self.ccd)
        skies += [f"real frames ({', '.join(path.name for path in self.frames)})"] * bool(self.frames)
        skies += ["single exposures simulated from a deep DECam g coadd"] * bool(self.coadd) + ["simulated skies"]
        skies += ["simulated skies of narrow stars, spikes, cusps and noise with heavy tails"] * hard
        named = {FOOTPRINTS: "cosmic-ray footprints of LSST ITL sensor darks"}
        hits = [named.get(path.name, f"cosmic-ray footprints of {path.name}") for path in self.hits]
        hits += ["cosmic-ray footprints of thin SBIG CCDs"] * bool(hard and self.thin)
        return (
            f"{_listed(skies)}; contaminated with {_listed([*hits, 'simulated hits'])}; "
            "saturated stars, bleed trails, bad columns and dead pixels added"
        )


def _listed(words):
    """Return words as in a sentence."""
    return ", ".join(words[:-1]) + " and " * (len(words) > 1) + words[-1]


class Skies:
    """Draw clean skies, and hits, of one split.

    Parameters
    ----------
    split : {"train", "validation", "test"}
    data : path-like, optional
        Folder of real data, as for `Sources.find`; without it all skies and hits are simulated.
    hits : path-like or sequence of path-like, optional
        Catalogues of footprints in place of the folder's.
    frames : sequence of path-like
        Further real frames, `training.data.frames.cleaned`; the split takes its part of their rows.
    hard : float
        Fraction of skies from `training.data.hard_skies`, half of them with hits of thin CCDs.
    narrow : bool
        Undersampled skies only.
    planes : int, optional
        Number of simulated skies; `PLANES` by default.  Each takes a tenth of a second.

    Attributes
    ----------
    sources : `Sources`
    hits : list of `numpy.ndarray`
        Stamps of charge, electrons.  Simulated ones if no catalogue has any for this split;
        in training, half as many again.
    thin_hits : list of `numpy.ndarray`
        Those of the folder's catalogues of thin CCDs.
    ccd : `training.data.skies.Sky` or None
        This split's rows of the DECam CCD.
    frames : list of `training.data.skies.Sky`
        Those of the further frames.
    coadd : `numpy.ndarray` or None
        This split's columns of the deep coadd, counts.
    """

    def __init__(self, split, data=None, hits=(), frames=(), hard=0.0, narrow=False, planes=None):
        self.split, self.hard, self.narrow, self._planes = SPLITS.index(split), hard, narrow, planes
        self.sources = Sources.find(data, hits, frames)
        rng = np.random.default_rng([self.split, 20221])
        self.hits = [stamp for path in self.sources.hits for stamp in read_footprints(path, split)]
        if not self.hits or split == "train":
            self.hits += simulated_hits(len(self.hits) // 2 or SIMULATED_HITS, rng.integers(2**31))
        self.thin_hits = [stamp for path in self.sources.thin for stamp in read_footprints(path, split)]
        edges = SPLIT_EDGES[split]
        self.frames = _clean_frames(self.sources.frames, edges)
        self.ccd = rows_of(_read_decam_ccd(self.sources.ccd), *edges) if self.sources.ccd else None
        self.coadd, self.coadd_noise = None, 0.0
        if self.sources.coadd:
            self.coadd = _read_coadd(self.sources.coadd, *edges)
            self.coadd_noise = sky_statistics(self.coadd)[1]
        self.ccds = [*self.frames, *([self.ccd] if self.ccd else [])]
        there = {"ccd": bool(self.ccds) and not narrow, "coadd": self.coadd is not None, "simulated": True}
        total = sum(weight for kind, weight in KINDS.items() if there[kind])
        self.kinds = {kind: weight / total for kind, weight in KINDS.items() if there[kind]}

    @cached_property
    def simulated(self):
        """Noiseless simulated skies in electrons, each with the FWHM of its seeing."""
        count = self._planes or PLANES
        return [star_field(np.random.default_rng([self.split, number]), self.narrow) for number in range(count)]

    @cached_property
    def psfs(self):
        """Point spread functions of the hard skies, each with its FWHM."""
        return self._wanted(draw_psf(np.random.default_rng([self.split, number, 20])) for number in range(PSFS))

    @cached_property
    def spectra(self):
        """Noiseless spectra in electrons of the hard skies, each with the FWHM of its lines."""
        return self._wanted(draw_spectrum(np.random.default_rng([self.split, number, 22])) for number in range(SPECTRA))

    def _wanted(self, drawn):
        """Return those of a width that is wanted, of pairs with their FWHM."""
        return [pair for pair in drawn if pair[1] < UNDERSAMPLED or not self.narrow]

    def prepare(self):
        """Simulate now what is otherwise simulated when it is first needed, as before a fork."""
        _ = self.simulated, (self.psfs, self.spectra) if self.hard else None

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
        if self.hard and rng.random() < self.hard:
            hits = self.thin_hits if self.thin_hits and rng.random() < 0.5 else self.hits
            return hard_sky(rng, size, self.psfs, self.spectra), hits
        return self._draw_sky(rng, size), self.hits

    def _draw_sky(self, rng, size):
        kind = rng.choice(list(self.kinds), p=list(self.kinds.values()))
        if kind == "ccd":
            return self._draw_real(rng, size)
        gain = 10 ** rng.uniform(-0.1, 0.9) if kind == "simulated" or rng.random() < 0.3 else 4.0
        read_noise = 10 ** rng.uniform(0.5, 1.3)
        level = 10 ** rng.uniform(0.7, 3.7)
        noise = 0.0
        if kind == "coadd":
            crop, noise, fwhm = self._draw_coadd(rng, size)
            electrons = crop * gain
        else:
            plane, fwhm = self.simulated[rng.integers(len(self.simulated))]
            electrons = _crop(plane, rng, size) * np.float32(10 ** rng.uniform(-0.5, 1.5))
        sigma = np.hypot(np.sqrt(level * gain + read_noise**2) / gain, noise)
        electrons = electrons + (streaks(rng, size, fwhm) + glow(rng, size)) * np.float32(sigma * gain)
        image = expose(electrons, level * gain, read_noise, gain, rng) + background(rng, size) * np.float32(sigma)
        if kind == "simulated" and rng.random() < 0.5:
            # As it would be measured: in a crowded field that is not the sky alone.
            level, sigma = sky_statistics(image)
        return Sky(image, np.zeros(image.shape, bool), level, sigma, gain, fwhm)

    def _draw_real(self, rng, size):
        ccd = self.ccds[rng.integers(len(self.ccds))]
        row, column = (int(rng.integers(0, n - size + 1)) for n in ccd.image.shape)
        window = np.s_[row : row + size, column : column + size]
        image, level, sigma = ccd.image[window].copy(), ccd.level, ccd.sigma
        # Longer exposures (the paper's sky augmentation, Sec. 2.3, and further) with the noise they bring.
        # Shorter ones (a < 0) would only shift the level, which the input scaling takes out.
        if rng.random() < 0.7:
            extra = rng.uniform(0, 4) ** 2 * level / 2
            noise = np.sqrt(extra / ccd.gain)
            image += np.float32(extra) + rng.standard_normal(image.shape, np.float32) * np.float32(noise)
            level, sigma = level + extra, np.hypot(sigma, noise)
        light = (streaks(rng, size, 4.4) + glow(rng, size)) * np.float32(sigma)
        image += light + rng.standard_normal(image.shape, np.float32) * np.sqrt(light / np.float32(ccd.gain))
        image += background(rng, size) * np.float32(sigma)
        return Sky(image, ccd.bad[window].copy(), level, sigma, ccd.gain)

    def exposed_coadd(self, rng, level, gain=4.0, read_noise=7.0):
        """Expose the whole coadd of this split as a single exposure.

        Parameters
        ----------
        rng : `numpy.random.Generator`
        level : float
            Sky level, ADU.
        gain, read_noise : float
            Electrons per ADU, and electrons.

        Returns
        -------
        `training.data.skies.Sky`
        """
        image = expose(self.coadd * np.float32(COADD_TO_ADU * gain), level * gain, read_noise, gain, rng)
        sigma = np.hypot(np.sqrt(level * gain + read_noise**2) / gain, self.coadd_noise * COADD_TO_ADU)
        return Sky(image, np.zeros(image.shape, bool), level, sigma, gain)

    def _draw_coadd(self, rng, size):
        """Return a crop of the coadd and its noise, in ADU, and its seeing: as it is, binned, or smoothed."""
        choice, noise, fwhm = rng.random() * (0.25 if self.narrow else 1), self.coadd_noise, 4.0
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


def _clean_frames(paths, edges):
    """Read real frames, clean them, and return the rows of a split."""
    if not paths:
        return []
    # Imported here, and run by the reference engine, so that the same frames always give the same skies.
    from crattn_stage.api import load_model

    model = load_model(engine="float32")
    return [rows_of(cleaned(sky, model), *edges) for path in paths for sky in read_skies(path)]


def _read_decam_ccd(path):
    with fits.open(path) as hdus:
        image = hdus["SCI"].data.astype(np.float32)
        bad = binary_dilation((hdus["BPM"].data & DECAM_BAD) != 0, iterations=2)
        gain = hdus["SCI"].header["GAINB"]
    level, sigma = sky_statistics(image, ~bad)
    return Sky(image, bad, level, sigma, gain)


def _read_coadd(path, low, high):
    with fits.open(path) as hdus:
        coadd = hdus["SCI"].data.astype(np.float32)
    return coadd[:, int(low * coadd.shape[1]) : int(high * coadd.shape[1])]


def rows_of(sky, low, high):
    """Return the rows of a sky between two fractions of its height, as a `training.data.skies.Sky`."""
    rows = slice(*(int(edge * len(sky.image)) for edge in (low, high)))
    return replace(sky, image=sky.image[rows], bad=sky.bad[rows])


def _crop(plane, rng, size):
    row, column = (int(rng.integers(0, n - size + 1)) for n in plane.shape)
    return plane[row : row + size, column : column + size]
