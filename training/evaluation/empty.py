"""Fields without a hit: whatever is masked there is wrong."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.simulation.skies import moffat_psf
from training.data.contamination import Scene
from training.data.hard_skies import add_stars, charge_of
from training.data.skies import Sky
from training.evaluation.scene_sets import GAIN, LEVEL, NOISE, READ_NOISE

#: Side of a field of noise, pixels.
SIDE = 2048
#: FWHM of the stars in pixels, how many there are of each, their distance in pixels, and their S/N.
WIDTHS, STARS, DISTANCE, SIGNALS = (1.5, 2.0, 2.5, 3.0, 4.0), 300, 40, (20, 10_000)
#: A star counts as masked if a pixel so many FWHM from its centre is.
NEAR = 1.5
_AROUND = np.ones((3, 3))


@dataclass
class Field:
    """A field without a hit.

    Attributes
    ----------
    name : str
    scene : `training.data.contamination.Scene`
        Its truth is False everywhere.
    expected : `numpy.ndarray` of bool
        Hot pixels: objects that touch one are not counted.
    """

    name: str
    scene: Scene
    expected: np.ndarray


def noise_fields(side=SIDE, seed=20225):
    """Simulate noise of several kinds, of a sky of `LEVEL` ADU unless the name says otherwise.

    Parameters
    ----------
    side : int
        Pixels.
    seed : int

    Returns
    -------
    list of `Field`
        Gaussian; Poisson of 5 e at 1 e/ADU, as integers; Student's t of 10, 5 and 4 degrees of freedom; 0.5% hot
        pixels and as much telegraph noise; and noise of 1.5 ADU in steps of 4.
    """
    rng = np.random.default_rng(seed)
    shape = side, side
    nothing = np.zeros(shape, bool)
    hot = rng.random(shape) < 0.01
    heights = 10 ** rng.uniform(0.5, 2.5, shape) * np.where(rng.random(shape) < 0.25, -1, 1)
    kinds = [
        ("Gaussian", LEVEL + NOISE * rng.standard_normal(shape), nothing),
        ("Poisson, 5 e", rng.poisson(5.0, shape), nothing),
        *((f"t, {dof} dof", LEVEL + NOISE * rng.standard_t(dof, shape), nothing) for dof in (10, 5, 4)),
        ("hot pixels", LEVEL + NOISE * (rng.standard_normal(shape) + hot * heights), hot),
        ("steps of 4", 4 * np.round((LEVEL + 1.5 * rng.standard_normal(shape)) / 4), nothing),
    ]
    return [Field(name, _scene(image), expected) for name, image, expected in kinds]


def _scene(image, fwhm=4.0):
    image = image.astype(np.float32)
    level, sigma = sky_statistics(image)
    return Scene(
        Sky(image, np.zeros(image.shape, bool), level, sigma, GAIN, fwhm, READ_NOISE),
        image,
        np.zeros(image.shape, bool),
    )


def false_objects(peer, fields):
    """Count the objects that a peer masks in fields of noise.

    Parameters
    ----------
    peer : `training.evaluation.peers.Peer`
    fields : list of `Field`

    Returns
    -------
    list of float
        Objects per million pixels, those on hot pixels left out.
    """
    planes, _ = peer.scores([field.scene for field in fields])
    counts = []
    for field, plane in zip(fields, planes, strict=True):
        numbers, count = label(plane > peer.threshold, _AROUND)
        counts.append((count - np.count_nonzero(np.unique(numbers[field.expected]))) / plane.size * 1e6)
    return counts


def lone_stars(beta=np.inf, widths=WIDTHS, seed=20226):
    """Simulate fields of stars that are apart from each other, pixel-integrated, evenly in the logarithm of S/N.

    Parameters
    ----------
    beta : float
        Moffat index; infinity for Gaussians.
    widths : sequence of float
        FWHM of the fields, pixels.
    seed : int

    Returns
    -------
    scenes : list of `training.data.contamination.Scene`
        One for each width.
    stars : list of `numpy.ndarray`
        (n, 2): row and column, pixels.
    """
    scenes, stars = [], []
    across = int(np.ceil(np.sqrt(STARS)))
    for number, fwhm in enumerate(widths):
        rng = np.random.default_rng([seed, number])
        position = np.argwhere(np.ones((across, across)))[:STARS] + rng.uniform(0.3, 0.7, (STARS, 2))
        position *= DISTANCE
        plane = np.zeros((across * DISTANCE, across * DISTANCE), np.float32)
        charge = charge_of(np.geomspace(*SIGNALS, STARS), fwhm, NOISE * GAIN)
        add_stars(plane, position, charge, moffat_psf(fwhm, beta, radius=DISTANCE))
        noise = rng.standard_normal(plane.shape, np.float32) * np.sqrt(plane + (NOISE * GAIN) ** 2)
        scenes.append(_scene((plane + noise) / GAIN + LEVEL, fwhm))
        stars.append(position)
    return scenes, stars


def masked_stars(peer, scenes, stars):
    """Return, for each field, the fraction of stars that a peer masks, core, ring or a pixel of a wing.

    Parameters
    ----------
    peer : `training.evaluation.peers.Peer`
    scenes, stars
        From `lone_stars`.

    Returns
    -------
    list of float
    """
    fractions = []
    for scene, plane, position in zip(scenes, peer.scores(scenes)[0], stars, strict=True):
        mask = plane > peer.threshold
        # From each pixel to the next that is masked.
        distance = distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
        fractions.append(float((distance[tuple(np.rint(position).astype(int).T)] <= NEAR * scene.sky.fwhm).mean()))
    return fractions
