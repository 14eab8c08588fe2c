"""Training patches: input, truth and weight, by number."""

import numpy as np

from crattn_stage.detection.preprocessing import fill, scale
from training.data.contamination import add_defects, contaminate, contaminate_as_paper
from training.data.skies import UNDERSAMPLED

#: How hits are added to a sky, by the name in the configuration.
CONTAMINATIONS = {"electrons": contaminate, "paper": contaminate_as_paper}

#: Fraction of the patches with an edge of the detector in the third at one side.  Beyond it lies the mirror image, as
#: in `crattn_stage.detection.tiling`: a hit beside it looks like two.
EDGES = 0.25


class Patches:
    """Training patches by number: the same number gives the same patch in every process.

    Parameters
    ----------
    skies : `training.data.library.Skies` or `training.data.camera_skies.CameraSkies`
    size : int
        Patch side in pixels.
    count : int
    seed : int
    scaling : {"asinh", "none"}
    contamination : {"electrons", "paper"}
        One of `CONTAMINATIONS`.
    """

    def __init__(self, skies, size, count, seed, scaling="asinh", contamination="electrons"):
        self.skies, self.size, self.count, self.seed, self.scaling = skies, size, count, seed, scaling
        self.contaminate = CONTAMINATIONS[contamination]
        # Made before workers fork, so that they share them.
        skies.prepare()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        """Return (input, truth, weight), each (1, size, size) float32."""
        rng = np.random.default_rng([self.seed, index])
        sky, library = self.skies.draw(rng, self.size)
        # More hits than in any exposure; fewer in undersampled skies: how common hits are is learnt, too.
        most = sky.most_hits or (3 if sky.fwhm < UNDERSAMPLED else 9)
        hits = rng.integers(0, most * self.size**2 // 128**2 + 1)
        stamps = [library[i] for i in rng.integers(0, len(library), hits)]
        scene = self.contaminate(sky, stamps, rng)
        sky = scene.sky
        add_defects(scene, rng)
        # The statistics of a whole amplifier differ a little from those of a patch.
        level = sky.level + rng.normal(0, 0.15) * sky.sigma
        sigma = sky.sigma * rng.lognormal(0, 0.08)
        plane = fill(scale(scene.image, level, sigma, self.scaling), sky.bad, level if self.scaling == "none" else 0.0)
        turns, arrays = rng.integers(4), [plane, scene.truth, ~sky.bad]
        if rng.random() < EDGES:
            arrays = _with_edge(*arrays, rng.integers(2, self.size // 3))
        arrays = [np.rot90(a, turns) for a in arrays]
        return tuple(np.ascontiguousarray(a, np.float32)[None] for a in arrays)


def _with_edge(plane, truth, weight, row):
    """Replace what is above a row by its mirror image, which has no weight."""
    rows = row + np.abs(np.arange(len(plane)) - row)
    plane, truth, weight = (a[rows] for a in (plane, truth, weight))
    weight[:row] = False
    return plane, truth, weight
