"""From an image to a probability, and to a mask: a model that is ready to run."""

from dataclasses import dataclass, replace

import numpy as np

from crattn_stage.detection import engines
from crattn_stage.detection.inputs import check_image, check_sections, check_threshold
from crattn_stage.detection.noise import drop_noise
from crattn_stage.detection.preprocessing import fill, scale
from crattn_stage.detection.spots import SUSPECT, mask_spots
from crattn_stage.detection.stars import CERTAIN, measure_stars, spare_stars
from crattn_stage.detection.tiling import even_tile, run_tiled
from crattn_stage.detection.uneven import with_sky
from crattn_stage.models.architectures import ARCHITECTURES


@dataclass
class Conditions:
    """What decides on a mask beside the probability, of one detector.

    Attributes
    ----------
    narrow : bool or None
        Whether stars are as narrow as hits.
    sharpest : float
        Fraction of the light in the peak pixel that no star exceeds, from
        `crattn_stage.detection.stars.measure_stars`; measured together with `narrow`, and infinite without it.
    floors : list of `numpy.ndarray` or None
        Of the amplifiers, from `crattn_stage.detection.noise.drop_noise`.
    """

    narrow: bool | None = None
    sharpest: float = np.inf
    floors: list | None = None


def levels(probability, threshold):
    """Return what the probability of pixels means: 0 nothing, 1 a suspect, 2 a cosmic ray, 3 and 4 a more certain one.

    Parameters
    ----------
    probability : `numpy.ndarray`
    threshold : float

    Returns
    -------
    `numpy.ndarray` of uint8
        The shape of the probability.
    """
    limits = min(threshold, SUSPECT), threshold, *(max(threshold, limit) for limit in CERTAIN)
    return sum((probability > limit).view(np.uint8) for limit in limits)


class CosmicRayModel:
    """A network with its weights, ready to run.  Safe to share between threads and across a fork.

    Parameters
    ----------
    card, tensors
        From `crattn_stage.models.cards.load`.
    engine : str
        As for `crattn_stage.detection.engines.start`.
    threads : int, optional
        As for `crattn_stage.load_model`.
    narrow : dict of str to `numpy.ndarray`, optional
        Second weights, for frames whose stars are as narrow as hits; without them the first are for all.

    Attributes
    ----------
    card : `crattn_stage.models.cards.ModelCard`
    engine : str
        What really runs, with its arithmetic, such as "openvino int8".

    Raises
    ------
    crattn_stage.errors.EngineError
        If the engine is unknown or cannot run here.
    """

    def __init__(self, card, tensors, engine="float32", threads=None, narrow=None):
        self.card = card
        self._engine = engines.start(engine, card, tensors, threads)
        self.engine = self._engine.name
        self._narrow_engine = None
        if narrow:
            own = replace(card, input_ranges=card.narrow["input_ranges"])
            self._narrow_engine = engines.start(engine, own, narrow, threads)

    @property
    def has_second_weights(self):
        """Whether there are second weights, for frames whose stars are as narrow as hits."""
        return self._narrow_engine is not None

    def predict(self, image, mask=None, amplifiers=None, sky=None, narrow=None):
        """Return the probability that each pixel was hit by a cosmic ray.

        Where stars are as narrow as hits, a model that has second weights for that looks again with them.

        Parameters
        ----------
        image : `numpy.ndarray`, `astropy.units.Quantity`, `astropy.nddata.NDData` or `astropy.nddata.CCDData`
            2-D, ADU or electron, of any real dtype and byte order; NaN is allowed.
            A mask of its own is one of bad pixels.
        mask : `numpy.ndarray` of bool, optional
            True on further bad pixels.
        amplifiers : list of tuple of `slice`, optional
            Rows and columns that each amplifier reads; its sky is measured on its own.
            The whole image is one amplifier if None.
        sky : list of `crattn_stage.detection.preprocessing.Sky`, optional
            Of the amplifiers, where it is known, and even; made even by
            `crattn_stage.detection.uneven.even_out`, and measured, if None.
        narrow : bool, optional
            Whether stars are as narrow as hits; measured if None.

        Returns
        -------
        `numpy.ndarray`
            Float32, the shape of the image.  0 on bad and NaN pixels, outside
            the amplifiers, and in an amplifier without a good pixel.

        Raises
        ------
        TypeError
            If the image or the mask has the wrong type.
        ValueError
            If the image is not 2-D, is empty, is not of real numbers or has no
            good pixel, the mask has another shape, or an amplifier has no
            pixels in the image.
        """
        image, bad = check_image(image, mask)
        sections = check_sections(amplifiers, image.shape)
        image, sky = with_sky(image, bad, sections, sky)
        plane = np.zeros(image.shape, np.float32)
        self._search(image, bad, sections, sky, self._engine_for(narrow), None, plane)
        unknown = self.has_second_weights and narrow is None
        if unknown and measure_stars(image, plane > self.card.threshold, bad, sections, sky)[0]:
            self._search(image, bad, sections, sky, self._narrow_engine, None, plane)
        return plane

    def _engine_for(self, narrow):
        """Return the engine for narrow stars, or the first one for others, and where it is not known."""
        return self._narrow_engine if narrow and self.has_second_weights else self._engine

    def detect(self, image, mask=None, threshold=None, amplifiers=None, sky=None, probability=None, conditions=None):
        """Return a mask of the cosmic rays.

        Objects that are noise are left out (`crattn_stage.detection.noise.drop_noise`), and, where stars are as
        narrow as cosmic rays, those that look like the other stars of the frame
        (`crattn_stage.detection.stars.spare_stars`).  Spots that are sharper than stars are added
        (`crattn_stage.detection.spots.mask_spots`).

        Saturated stars, unexposed borders and bad columns are not excluded here as they are
        by ``crattn-stage run``; pass them in `mask`.

        Parameters
        ----------
        image, mask, amplifiers, sky
            As for `predict`.
        threshold : float, optional
            Probability above which a pixel is a cosmic ray; the card's if None, which keeps
            false positives at 1 clean pixel in 10,000.  Lower finds fainter hits and more of
            their rims, and flags more clean pixels.  Spots are added whatever the threshold.
        probability : `numpy.ndarray`, optional
            Float32, the shape of the image: filled with what `predict` would return, at no cost but its memory.
        conditions : `Conditions`, optional
            What is known of the frame; what is not is measured, and filled in.

        Returns
        -------
        `numpy.ndarray` of bool
            The shape of the image, True on cosmic rays.

        Raises
        ------
        TypeError
            As `predict`, or if the threshold is not a number.
        ValueError
            As `predict`, or if the threshold is not between 0 and 1.
        """
        threshold = check_threshold(self.card.threshold if threshold is None else threshold)
        image, bad = check_image(image, mask)
        sections = check_sections(amplifiers, image.shape)
        image, sky = with_sky(image, bad, sections, sky)
        conditions = Conditions() if conditions is None else conditions
        found = self._find(image, bad, sections, sky, self._engine_for(conditions.narrow), threshold, probability)
        return self.sift(image, found, bad, sections, sky, threshold, probability, conditions)

    def sift(self, image, found, bad, sections, sky, threshold, probability=None, conditions=None, find=None):
        """Return a mask with spots and without noise and stars, by a second look where stars are as narrow as hits.

        Parameters
        ----------
        image : `numpy.ndarray`
            2-D, ADU or electron.
        found : `numpy.ndarray` of uint8
            `levels` of what the weights for these conditions give, the first ones where it is not known whether stars
            are narrow.
        bad : `numpy.ndarray` of bool
        sections : list of tuple of `slice`
            Of the amplifiers.
        sky : list of `crattn_stage.detection.preprocessing.Sky`
        threshold : float
        probability : `numpy.ndarray`, optional
            By the same weights; replaced by that of a second look.
        conditions : `Conditions`, optional
            As for `detect`.
        find : callable, optional
            As for `crattn_stage.detection.noise.drop_noise`; the network by default.

        Returns
        -------
        `numpy.ndarray` of bool
        """
        conditions = Conditions() if conditions is None else conditions
        mask, suspects = found > 1, found > 0
        if conditions.narrow is None:
            conditions.narrow, conditions.sharpest = measure_stars(image, mask, bad, sections, sky)
            if conditions.narrow and self.has_second_weights:
                found = self._find(image, bad, sections, sky, self._narrow_engine, threshold, probability)
                mask, suspects = found > 1, found > 0
                # By more stars: first weights mask some of them.
                _, conditions.sharpest = measure_stars(image, mask, bad, sections, sky)
        if not conditions.narrow or self.has_second_weights:
            mask_spots(image, mask, suspects, bad, sections, sky, conditions.sharpest)

        def search(*what):
            return self._find(*what, self._engine_for(conditions.narrow), threshold) > 1

        conditions.floors = drop_noise(image, mask, bad, sections, sky, find or search, conditions.floors)
        if conditions.narrow:
            # First weights mistake stars for hits with certainty.
            spare_stars(image, mask, bad, sections, sky, found if self.has_second_weights else None)
        return mask

    def _find(self, image, bad, sections, sky, engine, threshold, probability=None):
        """Return `levels` of what an engine finds, and fill a plane of probability unless it is None."""
        if probability is None:
            found = np.zeros(image.shape, np.uint8)
            return self._search(image, bad, sections, sky, engine, lambda plane: levels(plane, threshold), found)
        probability[...] = 0
        return levels(self._search(image, bad, sections, sky, engine, None, probability), threshold)

    def _search(self, image, bad, sections, sky, engine, function, result):
        """Fill a plane with the probabilities of an engine, or with what a function makes of them, and return it."""
        if not any(sky):
            raise ValueError("no good pixel")
        skies = iter(sky)
        for group in adjoining(sections):
            window = enclosing(group)
            inside = [_relative(section, window) for section in group]
            plane = self._network_input(image[window], bad[window], inside, [next(skies) for _ in group])
            self._run(plane, engine, function, out=result[window])
        result[bad] = 0
        return result

    def _network_input(self, image, bad, sections, sky):
        """Return what the network is given for amplifiers that fill a rectangle: scaled, with bad pixels filled."""
        plane, scaling = np.empty_like(image), self.card.scaling
        if scaling != "none":
            for section, own in zip(sections, sky, strict=True):
                if own is None:
                    plane[section] = 0
                else:
                    scale(image[section], *own, scaling, out=plane[section])
            # Scaled amplifiers are alike, so a pixel is filled across their border.
            return fill(plane, bad, 0.0)
        dead = np.zeros(image.shape, bool)
        for section, own in zip(sections, sky, strict=True):
            if own is None:
                dead[section] = True
            else:
                # Amplifiers of raw counts differ in level, so each is filled from its own pixels.
                fill(scale(image[section], *own, scaling, out=plane[section]), bad[section], own.level)
        # A dead amplifier continues those beside it.
        return fill(plane, dead, next((own.level for own in sky if own), 0.0)) if dead.any() else plane

    def _run(self, plane, engine, function, out):
        tile, halo = self.card.tile, self.card.halo
        run = engine.run if function is None else lambda tiles: function(engine.run(tiles))
        if ARCHITECTURES[self.card.architecture].normalisation == "batch":
            # Any tile is exact, so take the one that suits engine and plane.
            tile = even_tile(plane.shape, engine.tile, halo, engine.streams)
        run_tiled(plane, run, tile, halo, engine.batch, out)


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
