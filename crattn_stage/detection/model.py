"""From an image to a probability, and to a mask: a model that runs."""

import numpy as np
from astropy.nddata import NDData

from crattn_stage.detection import engines
from crattn_stage.detection.preprocessing import fill, scale, sky_statistics
from crattn_stage.detection.stars import spare_stars
from crattn_stage.detection.tiling import even_tile, run_tiled
from crattn_stage.models.architectures import ARCHITECTURES


class CosmicRayModel:
    """A model ready to run.  Safe to share between threads and across a fork.

    Parameters
    ----------
    card, tensors
        From `crattn_stage.models.cards.load`.
    engine : str
        As for `crattn_stage.detection.engines.base.start`.
    threads : int, optional
        As for `load_model`.

    Attributes
    ----------
    card : `crattn_stage.models.cards.ModelCard`
    engine : str
        What really runs, with its arithmetic: "openvino int8".
    """

    def __init__(self, card, tensors, engine="float32", threads=None):
        self.card = card
        self._engine = engines.start(engine, card, tensors, threads)
        self.engine = self._engine.name

    def predict(self, image, mask=None, amplifiers=None):
        """Return the probability that each pixel was hit.

        Parameters
        ----------
        image : array-like or `astropy.nddata.CCDData`
            2-D, ADU or electron, any real dtype and byte order; NaN allowed.
            A mask of its own counts, too.
        mask : array-like of bool, optional
            True on bad pixels.
        amplifiers : list of tuple of `slice`, optional
            Where the amplifiers read their pixels; sky level and noise are
            taken out of each on its own.  The whole image by default.

        Returns
        -------
        `numpy.ndarray`
            Float32, the shape of the image.  0 on bad and NaN pixels, outside
            the amplifiers, and in an amplifier without a good pixel.

        Raises
        ------
        ValueError
            If the image is not 2-D, is empty, is not of real numbers or has no
            good pixel, the mask has another shape, or an amplifier has no
            pixels in the image.
        """
        return self._search(*_checked(image, mask), amplifiers, self._engine.run, np.float32)

    def detect(self, image, mask=None, threshold=None, amplifiers=None):
        """Return a bool mask, True on cosmic rays.

        Where stars are as narrow as hits, objects that look like the other stars
        of the frame are left out (`crattn_stage.detection.stars.spare_stars`).

        Parameters
        ----------
        image, mask
            As for `predict`.
        threshold : float, optional
            Probability above which a pixel is a cosmic ray; the card's by default.
        amplifiers
            As for `predict`.

        Returns
        -------
        `numpy.ndarray` of bool
            The shape of the image.

        Raises
        ------
        ValueError
            As `predict`.
        """
        threshold = self.card.threshold if threshold is None else threshold
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold {threshold} is not a probability")
        image, bad = _checked(image, mask)
        found = self._search(image, bad, amplifiers, lambda tiles: self._engine.run(tiles) > threshold, bool)
        spare_stars(image, found, bad, amplifiers)
        return found

    def _search(self, image, bad, amplifiers, function, dtype):
        """Return a plane of what a function says of tiles of the network's input."""
        sections = [_section(amplifier, image.shape) for amplifier in amplifiers or [np.s_[:, :]]]
        result = np.zeros(image.shape, dtype)
        alive = False
        for group in adjoining(sections):
            window = enclosing(group)
            plane, level = np.empty_like(image[window]), 0.0
            for amplifier in group:
                inside = _relative(amplifier, window)
                if bad[amplifier].all():
                    plane[inside] = 0
                    continue
                level, sigma = sky_statistics(image[amplifier], ~bad[amplifier])
                scale(image[amplifier], level, sigma, self.card.scaling, out=plane[inside])
                alive = True
            fill(plane, bad[window], level if self.card.scaling == "none" else 0.0)
            self._run(plane, function, out=result[window])
        if not alive:
            raise ValueError("no good pixel")
        result[bad] = 0
        return result

    def _run(self, plane, function, out):
        tile, halo = self.card.tile, self.card.halo
        normalisation, _ = ARCHITECTURES[self.card.architecture]
        if normalisation == "batch":
            # Exact for any tile, so the one that suits engine and plane.
            tile = even_tile(plane.shape, self._engine.tile, halo, self._engine.streams)
        run_tiled(plane, function, tile, halo, self._engine.batch, out)


def unwrapped(image, mask):
    """Return pixels and bad pixels of an array, a masked array or a CCDData, with a further mask."""
    pixels = image.data if isinstance(image, NDData) else np.asarray(image)
    bad = np.zeros(pixels.shape, bool)
    for more in (getattr(image, "mask", None), mask):
        if more is not None and np.shape(more) not in ((), pixels.shape):
            raise ValueError(f"mask of shape {np.shape(more)} for an image of shape {pixels.shape}")
        bad |= False if more is None else np.asarray(more, bool)
    return pixels, bad


def _checked(image, mask):
    """Return an image in float32 and its bad pixels, or raise ValueError."""
    image, bad = unwrapped(image, mask)
    if image.ndim != 2 or 0 in image.shape:
        raise ValueError(f"not a 2-D image: shape {image.shape}")
    if image.dtype.kind not in "buif":
        raise ValueError(f"not a real image: dtype {image.dtype}")
    # float32 before anything else: big-endian and integer frames are common; an overflow is a bad pixel.
    with np.errstate(over="ignore"):
        image = np.ascontiguousarray(image, np.float32)
    return image, bad | ~np.isfinite(image)


def _section(section, shape):
    """Return a pair of slices as explicit, ascending ones inside the image."""
    rows, columns = (slice(*s.indices(n)) for s, n in zip(section, shape, strict=True))
    if rows.start >= rows.stop or columns.start >= columns.stop or (rows.step, columns.step) != (1, 1):
        raise ValueError(f"amplifier {section} has no pixels in an image of shape {shape}")
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)


def enclosing(sections):
    """Return the smallest pair of slices that holds all the given ones.

    Parameters
    ----------
    sections : list of tuple of `slice`
        Rows and columns of each.

    Returns
    -------
    tuple of `slice`

    Raises
    ------
    ValueError
        If there are none.
    """
    return tuple(slice(min(s[i].start for s in sections), max(s[i].stop for s in sections)) for i in (0, 1))


def adjoining(amplifiers):
    """Group amplifiers that together fill a rectangle, so that each is context for the others.

    Amplifiers with overscan between them stay alone.

    Parameters
    ----------
    amplifiers : list of tuple of `slice`
        Rows and columns of each; they do not overlap.

    Returns
    -------
    list of list of tuple of `slice`
        One group of all, or one group for each.

    Raises
    ------
    ValueError
        If there are none.
    """

    def area(section):
        return (section[0].stop - section[0].start) * (section[1].stop - section[1].start)

    if sum(map(area, amplifiers)) == area(enclosing(amplifiers)):
        return [amplifiers]
    return [[amplifier] for amplifier in amplifiers]


def _relative(section, window):
    return tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(section, window, strict=True))
