"""Scenes with exact truth: a clean sky, hits added to it, and what a detector does to both."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation

from crattn_stage.simulation.hits import scatter_hits, turned
from training.data.skies import Sky

#: The truth is the pixels of the hits, dilated by this (paper, Sec. 4).
DILATION = np.ones((3, 3), bool)
#: sigma_D of the dark frames in electrons, and k of the paper's contamination.  The value of k is that of
#: MaxiMask (Paillassa et al. 2020), whose recipe the paper follows.  Charge added through the gain, the
#: physical way, has k = sigma_D / sigma_U in electrons: 0.21 under a dark sky (283 ADU), 0.08 at 2090 ADU.
DARK_NOISE, PAPER_CONTRAST = 7.0, 1 / 8


@dataclass
class Scene:
    """A contaminated exposure with its truth.

    Attributes
    ----------
    sky : `training.data.skies.Sky`
        The exposure without the hits.
    image : `numpy.ndarray`
        2-D float32, ADU, with the hits.
    truth : `numpy.ndarray` of bool
        Pixels of the hits, dilated by `DILATION`.
    """

    sky: Sky
    image: np.ndarray
    truth: np.ndarray


def contaminate(sky, hits, rng, spread=0.5):
    """Add hits to a sky, in electrons through the gain.

    Parameters
    ----------
    sky : `training.data.skies.Sky`
    hits : iterable of `numpy.ndarray`
        Stamps in electrons.
    rng : `numpy.random.Generator`
    spread : float
        Charges are scaled by 10^U(-spread, spread): 0 leaves them as they were measured.

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

    The ratio of the noise of the sky to that of the dark stands for gain and exposure time
    (Bhavanam et al. 2022, Sec. 2).  First a times the sky level is added, a uniform in
    [-0.9, 3], without the noise of a longer exposure (Sec. 2.3).

    Parameters
    ----------
    sky : `training.data.skies.Sky`
    hits : iterable of `numpy.ndarray`
        Stamps in electrons: D on the pixels of a hit.
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


def add_defects(scene, rng):
    """Add the defects of a detector, in place: saturation with bleed trails, bad columns, dead pixels.

    Most of them go on the bad-pixel mask, as in a pipeline.  Those that do not teach that
    dark pixels and the rims of saturated stars are no hits.

    Parameters
    ----------
    scene : `Scene`
    rng : `numpy.random.Generator`
    """
    image, bad = scene.image, scene.sky.bad
    level, size = scene.sky.level, len(scene.image)
    saturation = max(10 ** rng.uniform(4.1, 4.8), 3 * level)
    saturate(scene, saturation, rng)
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


def saturate(scene, saturation, rng):
    """Saturate the stars above a level, with bleed trails along columns, in place.

    One scene in eight gets stars as some pipelines and coadds leave them: a low, smooth core
    between untouched rims, and nothing on the bad-pixel mask.

    Parameters
    ----------
    scene : `Scene`
    saturation : float
        ADU.
    rng : `numpy.random.Generator`
    """
    image, level, sigma = scene.image, scene.sky.level, scene.sky.sigma
    listed = rng.random() < 0.8
    stars = np.where(scene.truth, level, image)
    highest = min(stars.max(), saturation)
    filled = highest > level + 30 * sigma and rng.random() < 0.12
    limit = level + rng.uniform(0.1, 0.9) * (highest - level) if filled else saturation
    if filled and (stars > limit).mean() > 0.04:
        # The glow of a galaxy, in which hits must still be found.
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
