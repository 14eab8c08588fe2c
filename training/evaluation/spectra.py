"""What a mask of cosmic rays does to spectra: hits found, and lines and traces flagged."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label, maximum

#: Hits that count have a peak above this, in units of the noise of its pixel.
LEAST_PEAK = 10
_AROUND = np.ones((3, 3))


@dataclass
class Tally:
    """Counts over scenes of spectra.

    Attributes
    ----------
    hits, found : int
        Hits with a peak above `LEAST_PEAK`, and those of which a pixel is masked.
    sharp, flagged : int
        Pixels of lines and traces away from hits, and those of them that are masked.
    other, other_flagged : int
        The same of all other pixels away from hits.
    """

    hits: int = 0
    found: int = 0
    sharp: int = 0
    flagged: int = 0
    other: int = 0
    other_flagged: int = 0

    def add(self, scene, mask):
        """Count a scene.

        Parameters
        ----------
        scene : `training.data.contamination.Scene`
            Of a spectrum.
        mask : `numpy.ndarray` of bool
        """
        sky = scene.sky
        noise = np.sqrt(np.maximum(sky.image * sky.gain, 0) + sky.read_noise**2) / sky.gain
        numbers, count = label(scene.truth, _AROUND)
        index = np.arange(1, count + 1)
        if count:
            bright = maximum((scene.image - sky.image) / noise, numbers, index) > LEAST_PEAK
            self.hits += int(bright.sum())
            self.found += int((maximum(mask, numbers, index).astype(bool) & bright).sum())
        sharp, other = sky.sharp & ~scene.truth, ~sky.sharp & ~scene.truth
        self.sharp += int(sharp.sum())
        self.flagged += int((mask & sharp).sum())
        self.other += int(other.sum())
        self.other_flagged += int((mask & other).sum())

    def cells(self):
        """Return percentages as text: hits found, and pixels flagged of lines and traces, and of the rest."""
        return [
            f"{100 * self.found / max(self.hits, 1):.1f}",
            f"{100 * self.flagged / max(self.sharp, 1):.3f}",
            f"{100 * self.other_flagged / max(self.other, 1):.3f}",
        ]


def tallies(scenes, results):
    """Count what methods do to spectra.

    Parameters
    ----------
    scenes : list of `training.data.contamination.Scene`
        Of spectra.
    results : list of `training.evaluation.measure.Result`
        On them.

    Returns
    -------
    dict of str to dict of str to `Tally`
        Method -> kind of spectrum -> counts; of all kinds as "all".
    """
    found = {}
    for result in results:
        found[result.peer] = own = {"all": Tally()}
        for scene, mask in zip(scenes, result.masks, strict=True):
            for kind in ("all", scene.sky.kind):
                own.setdefault(kind, Tally()).add(scene, mask)
    return found
