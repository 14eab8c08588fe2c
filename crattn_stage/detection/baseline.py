"""Astro-SCRAPPY behind the interface of a model, to compare with."""

import contextlib
import ctypes
import os

import numpy as np
from scipy.ndimage import binary_dilation

from crattn_stage.detection.inputs import check_image, check_sections, check_threshold
from crattn_stage.detection.uneven import with_sky


class AstroScrappyModel:
    """Astro-SCRAPPY, amplifier by amplifier, with the settings of `crattn_stage.models.baselines.BASELINES`.

    It is given the image with the sky at 0, a gain of 1 and the noise of the sky as read noise:
    gain and read noise are not known to a model, and this is their sum on the sky.  In pixels much
    brighter than the sky its noise is that of counts in electrons.  Its mask is grown by a pixel on
    all sides, as the networks' is by their training.  Safe to share between threads and across a fork.

    Parameters
    ----------
    card : `crattn_stage.models.cards.ModelCard`

    Attributes
    ----------
    card : `crattn_stage.models.cards.ModelCard`
    engine : str
        Package and version.
    """

    def __init__(self, card):
        self.card = card
        self._settings = dict(card.training["settings"])
        self._grow = self._settings.pop("grow")
        self._maker = os.getpid()
        self.engine = f"astroscrappy {card.code_version}"

    def predict(self, image, mask=None, amplifiers=None, sky=None, narrow=None):
        """Return 1 on cosmic rays and 0 elsewhere, as float32.

        Parameters
        ----------
        image, mask, amplifiers, sky, narrow
            As for `crattn_stage.detection.model.CosmicRayModel.predict`; nothing depends on the last.

        Returns
        -------
        `numpy.ndarray`
            The shape of the image.

        Raises
        ------
        TypeError, ValueError
            As `crattn_stage.detection.model.CosmicRayModel.predict`.
        """
        return self._search(image, mask, amplifiers, sky).astype(np.float32)

    def detect(self, image, mask=None, threshold=None, amplifiers=None, sky=None, probability=None, conditions=None):
        """Return a mask of the cosmic rays; any threshold below 1 gives the same.

        Parameters
        ----------
        image, mask, threshold, amplifiers, sky, probability, conditions
            As for `crattn_stage.detection.model.CosmicRayModel.detect`; nothing depends on the last.

        Returns
        -------
        `numpy.ndarray` of bool
            The shape of the image.

        Raises
        ------
        TypeError, ValueError
            As `crattn_stage.detection.model.CosmicRayModel.detect`.
        """
        threshold = check_threshold(self.card.threshold if threshold is None else threshold)
        found = self._search(image, mask, amplifiers, sky)
        if probability is not None:
            probability[...] = found
        return found & (threshold < 1)

    def _search(self, image, mask, amplifiers, sky):
        import astroscrappy

        if os.getpid() != self._maker:
            _use_one_thread()
        image, bad = check_image(image, mask)
        sections = check_sections(amplifiers, image.shape)
        image, sky = with_sky(image, bad, sections, sky)
        if not any(sky):
            raise ValueError("no good pixel")
        found = np.zeros(image.shape, bool)
        for section, own in zip(sections, sky, strict=True):
            if own is None:
                continue
            # Bad pixels may be infinite.
            pixels = np.where(bad[section], 0, image[section])
            pixels[~bad[section]] -= np.float32(own.level)
            # Pixels near the end of float32 overflow in its Laplacian.
            with np.errstate(over="ignore", invalid="ignore"):
                hits, _ = astroscrappy.detect_cosmics(
                    np.ascontiguousarray(pixels, np.float32),
                    inmask=np.ascontiguousarray(bad[section]),
                    gain=1.0,
                    readnoise=own.sigma,
                    # Saturated stars are among the bad pixels.
                    satlevel=np.inf,
                    **self._settings,
                )
            found[section] = binary_dilation(hits, np.ones((self._grow, self._grow)))
        return found & ~bad


def _use_one_thread():
    """Keep Astro-SCRAPPY in a forked child from waiting for OpenMP's threads, which are the parent's."""
    from astroscrappy.utils import median_utils

    # Built without OpenMP, it has no threads and no such function.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(median_utils.__file__).omp_set_num_threads(1)
