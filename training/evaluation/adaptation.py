"""Whether a model that was adapted to a camera is better there, and not worse elsewhere."""

from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import label
from scipy.special import expit, logit

from crattn_stage.detection.stars import spare_stars
from crattn_stage.fits.atomic import replacing
from training.data.contamination import Scene, contaminate
from training.evaluation.empty import lone_stars, masked_stars
from training.evaluation.measure import Objects
from training.evaluation.peers import Peer
from training.evaluation.scene_sets import make_scenes

#: Rate of clean pixels masked that a threshold is set for.
FALSE_POSITIVE_RATE = 1e-4
#: Simulated skies of the camera, their side in pixels, and hits per megapixel of them and of its frames.
COUNT, SIDE, DENSITY = 6, 512, 160
#: Sets of generic scenes, and FWHM of stars in pixels, with which nothing may have become worse.
GENERIC, WIDTHS = ("sky:100", "sky:1000", "stars:2.5", "galaxies"), (1.5, 2.5, 4.0)
#: How much completeness may fall on the camera and on generic scenes; how much the
#: fraction of stars masked may rise; and by what factor, and by how many a megapixel, false objects on generic
#: scenes may: 20 are fewer than a hundredth of their stars.
LESS_ON_CAMERA, LESS_ELSEWHERE, MORE_STARS, MORE_FACTOR, MORE_OBJECTS = 0.02, 0.03, 0.01, 1.25, 20.0
#: What counts as better: so much more complete at as many false objects, or false objects times this, both of those
#: of the old model at its threshold and of it at a threshold of the same completeness.
MORE_COMPLETE, FEWER = 0.01, 0.8
#: Fraction of the old model's false objects that may remain for the sake of completeness.
REMAINING = 0.1
#: Thresholds that are tried, lowest and highest.
LOWEST, HIGHEST = 0.01, 0.995
#: Thresholds of the curve that is drawn.
DRAWN = (0.995, 0.98, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1)
_AROUND = np.ones((3, 3))


@dataclass
class OwnScenes:
    """Scenes of the camera, of one split.

    Attributes
    ----------
    scenes : list of `training.data.contamination.Scene`
        Simulated skies, then frames, with held-out hits.
    simulated : int
        How many of them are simulated: on the others false objects are not counted, since the old model cleaned them.
    empty : list of `training.data.contamination.Scene`
        Mirrored frames, without a hit.
    """

    scenes: list
    simulated: int
    empty: list

    @classmethod
    def of(cls, skies, seed):
        """Make the scenes of a split.

        Parameters
        ----------
        skies : `training.data.camera_skies.CameraSkies`
        seed : int

        Returns
        -------
        `OwnScenes`
        """
        rng = np.random.default_rng([seed, 20229])
        clean = [skies.simulate(rng, SIDE) for _ in range(COUNT)] + skies.skies["frame"]
        scenes = []
        for sky in clean:
            chosen = rng.integers(0, len(skies.own or skies.hits), round(DENSITY * sky.image.size / 1e6))
            scenes.append(contaminate(sky, [(skies.own or skies.hits)[i] for i in chosen], rng, spread=0))
        empty = [Scene(sky, sky.image, np.zeros(sky.image.shape, bool)) for sky in skies.skies["mirrored"]]
        return cls(scenes, COUNT, empty)


class Looked:
    """What a model makes of scenes of the camera.

    Parameters
    ----------
    model : `crattn_stage.detection.model.CosmicRayModel`
    own : `OwnScenes`
    """

    def __init__(self, model, own):
        self.own, self.objects = own, Objects.of(own.scenes)
        self.every = [*own.scenes, *own.empty]
        self.planes = [model.predict(scene.image, scene.sky.bad) for scene in self.every]
        self.area = sum((~s.sky.bad).sum() for s in [*own.scenes[: own.simulated], *own.empty]) / 1e6

    def masks(self, threshold):
        """Return the masks at a threshold, as `CosmicRayModel.detect` makes them."""
        masks = [plane > threshold for plane in self.planes]
        for mask, scene in zip(masks, self.every, strict=True):
            spare_stars(scene.image, mask, scene.sky.bad)
        return masks

    def at(self, threshold):
        """Return completeness by object, false objects per megapixel, and false positive rate at a threshold."""
        masks = self.masks(threshold)
        found = self.objects.found(masks[: len(self.own.scenes)])
        false, pixels, clean = 0, 0, 0
        for number, (mask, scene) in enumerate(zip(masks, self.every, strict=True)):
            if number < self.own.simulated or number >= len(self.own.scenes):
                numbers, count = label(mask, _AROUND)
                false += count - np.count_nonzero(np.unique(numbers[scene.truth]))
                pixels += np.count_nonzero(mask & ~scene.truth)
                clean += np.count_nonzero(~scene.truth & ~scene.sky.bad)
        return float(found.mean()), false / self.area, pixels / max(clean, 1)

    def threshold(self, completeness, false):
        """Return the lowest of three thresholds: for `FALSE_POSITIVE_RATE`, for a completeness, for false objects.

        Parameters
        ----------
        completeness : float
            That is to be reached.
        false : float
            False objects per megapixel that may remain.

        Returns
        -------
        float
        """
        every = [*zip(self.planes[: self.own.simulated], self.every, strict=False)]
        every += [*zip(self.planes[len(self.own.scenes) :], self.own.empty, strict=True)]
        clean = np.concatenate([plane[~scene.sky.bad & ~scene.truth] for plane, scene in every])
        for_rate = np.quantile(clean, 1 - FALSE_POSITIVE_RATE)
        highest = np.zeros(len(self.objects.charge) + 1)
        for numbers, plane in zip(self.objects.numbers, self.planes, strict=False):
            np.maximum.at(highest, numbers.ravel(), plane.ravel())
        needed = int(np.ceil(completeness * len(self.objects.charge)))
        for_hits = np.sort(highest[1:])[::-1][max(needed - 1, 0)] * (1 - 1e-6)
        return float(np.clip(min(for_rate, for_hits, self.threshold_for(false)), LOWEST, HIGHEST))

    def threshold_for(self, false):
        """Return the lowest threshold at which no more false objects remain, per megapixel."""
        low, high = LOWEST, HIGHEST
        for _ in range(7):
            # In odds: what matters may be far below one half.
            middle = float(expit((logit(low) + logit(high)) / 2))
            low, high = (low, middle) if self.at(middle)[1] <= false else (middle, high)
        return high

    def complete_at(self, false):
        """Return the completeness at a number of false objects per megapixel, and not more."""
        return self.at(self.threshold_for(false))[0]

    def false_at(self, completeness):
        """Return the false objects per megapixel at a completeness, or a little more of it."""
        low, high = LOWEST, HIGHEST
        for _ in range(7):
            middle = float(expit((logit(low) + logit(high)) / 2))
            low, high = (middle, high) if self.at(middle)[0] >= completeness else (low, middle)
        return self.at(low)[1]

    def curve(self):
        """Return false objects per megapixel and completeness as the threshold falls, for the figure."""
        points = [self.at(threshold) for threshold in DRAWN]
        return [point[1] for point in points], [point[0] for point in points]


@dataclass
class Row:
    """One figure before and after.

    Attributes
    ----------
    what : str
    before, after : float
    limit : float
        That the figure after must keep to.
    more_is_worse : bool
    """

    what: str
    before: float
    after: float
    limit: float
    more_is_worse: bool

    @property
    def is_worse(self):
        """Whether it is beyond the limit."""
        return self.after > self.limit if self.more_is_worse else self.after < self.limit

    def __str__(self):
        sign = "at most" if self.more_is_worse else "at least"
        return f"{self.what:52} {self.before:10.4g} {self.after:10.4g}   {sign} {self.limit:.4g}"


class Elsewhere:
    """Generic scenes and stars, on which a model must not become worse.  Everything is simulated.

    Parameters
    ----------
    skies : `training.data.library.Skies`
        Of the test split.
    fwhm : float, optional
        Of the camera's stars, pixels.
    """

    def __init__(self, skies, fwhm=None):
        self.sets = {name: make_scenes(skies, name, 1) for name in GENERIC}
        widths = sorted({*WIDTHS, *([round(fwhm, 1)] if fwhm else [])})
        self.stars = {"Gaussian": lone_stars(widths=widths), "Moffat": lone_stars(3.0, widths)}

    def figures(self, model, threshold):
        """Return completeness and false objects per megapixel by set, and the fraction of stars masked by FWHM."""
        result = {}
        for name, scenes in self.sets.items():
            masks = [model.detect(s.image, s.sky.bad, threshold) for s in scenes]
            objects = Objects.of(scenes)
            false = 0
            for mask, scene in zip(masks, scenes, strict=True):
                numbers, count = label(mask, _AROUND)
                false += count - np.count_nonzero(np.unique(numbers[scene.truth]))
            area = sum(s.image.size for s in scenes) / 1e6
            result[name] = float(objects.found(masks).mean()), false / area

        def scores(scenes):
            return [model.detect(s.image, s.sky.bad, threshold).astype(np.float32) for s in scenes], 0.0

        peer = Peer("", scores, 0.5)
        for kind, (scenes, stars) in self.stars.items():
            fractions = masked_stars(peer, scenes, stars)
            result |= {(kind, s.sky.fwhm): f for s, f in zip(scenes, fractions, strict=True)}
        return result


def compare(before, after, elsewhere_before, elsewhere_after, thresholds):
    """Compare a model with the one it was adapted from.

    Parameters
    ----------
    before, after : `Looked`
        At the held-out scenes of the camera.
    elsewhere_before, elsewhere_after : dict
        From `Elsewhere.figures`.
    thresholds : tuple of float
        Of both.

    Returns
    -------
    rows : list of `Row`
    worse : list of str
        What is worse, or not better where it should be, in words; empty if the model is accepted.
    """
    (complete, false, _), (complete_now, false_now, _) = before.at(thresholds[0]), after.at(thresholds[1])
    equal = after.complete_at(false)
    # Another threshold alone must not pass for a better model.
    false_equal = before.false_at(complete_now)
    rows = [
        Row("completeness, this camera", complete, complete_now, complete - LESS_ON_CAMERA, False),
        Row("false objects per megapixel, this camera", false, false_now, max(false, 1.0), True),
        Row("completeness at equal false objects, this camera", complete, equal, complete - LESS_ON_CAMERA, False),
    ]
    fewer = "false objects at equal completeness, this camera"
    rows.append(Row(fewer, false_equal, false_now, max(false_equal, 1.0), True))
    for key, old in elsewhere_before.items():
        new = elsewhere_after[key]
        if isinstance(old, tuple):
            rows.append(Row(f"completeness, generic {key}", old[0], new[0], old[0] - LESS_ELSEWHERE, False))
            most = MORE_FACTOR * old[1] + MORE_OBJECTS
            rows.append(Row(f"false objects per megapixel, generic {key}", old[1], new[1], most, True))
        else:
            kind, fwhm = key
            rows.append(Row(f"stars masked, {kind}, FWHM {fwhm:g}", old, new, old + MORE_STARS, True))
    worse = [f"{row.what} {row.before:.3g}, now {row.after:.3g}" for row in rows if row.is_worse]
    is_better = false_now <= FEWER * min(false, false_equal) or equal >= complete + MORE_COMPLETE
    if not worse and not is_better:
        worse.append(
            f"not better on this camera: completeness {complete:.3g}, now {complete_now:.3g}, "
            f"false objects per megapixel {false:.3g}, now {false_now:.3g}"
        )
    return rows, worse


def draw(path, before, after, thresholds, names, size=96, most=5):
    """Draw completeness against false objects, and stamps of held-out scenes with both masks.

    Parameters
    ----------
    path : path-like
    before, after : `Looked`
    thresholds : tuple of float
    names : tuple of str
        Of both models.
    size, most : int
        Side of a stamp in pixels, and their number.
    """
    figure = Figure(figsize=(11, 4 + 2.9 * most), layout="constrained")
    FigureCanvasAgg(figure)
    top, rest = figure.subfigures(2, 1, height_ratios=[4, 2.9 * most])
    axis = top.subplots()
    for looked, threshold, name, colour in zip((before, after), thresholds, names, ("C0", "C3"), strict=True):
        false, complete = looked.curve()
        axis.plot(np.maximum(false, 0.3), complete, ".-", color=colour, label=name)
        here = looked.at(threshold)
        axis.plot(max(here[1], 0.3), here[0], "o", ms=9, color=colour)
    axis.set(xscale="log", xlabel="false objects per megapixel", ylabel="hits found, held out")
    axis.legend(title="o at its threshold")
    axes = rest.subplots(most, 4, squeeze=False)
    masks = [looked.masks(threshold) for looked, threshold in zip((before, after), thresholds, strict=True)]
    places = _places(before.own.scenes, masks[0], size)[:most]
    for row in axes:
        for axis in row:
            axis.set_axis_off()
    for row, (number, window) in zip(axes, places, strict=False):
        scene = before.own.scenes[number]
        image = np.arcsinh((scene.image[window] - scene.sky.level) / (2 * scene.sky.sigma))
        panels = [("held-out scene", image), ("hits", scene.truth[window])]
        panels += [(name, mask[number][window]) for name, mask in zip(names, masks, strict=True)]
        for axis, (title, plane) in zip(row, panels, strict=True):
            style = {"cmap": "gray", "vmin": -1.5, "vmax": 4.5} if plane.dtype != bool else {"cmap": "Reds"}
            axis.imshow(plane, origin="lower", interpolation="nearest", **style)
            axis.set_title(title, fontsize=9, parse_math=False)
    with replacing([path], overwrite=True) as (stream,):
        figure.savefig(stream, format="png", dpi=90)


def _places(scenes, masks, size):
    """Return scene and window of stamps, one a scene: where the old model masks most that is no hit, and hits are."""
    places = []
    for number, scene in enumerate(scenes):
        rows, columns = (range(0, n - size + 1, size) for n in scene.image.shape)
        windows = [np.s_[r : r + size, c : c + size] for r in rows for c in columns]
        if windows:
            wrong = masks[number] & ~scene.truth
            best = max(windows, key=lambda w: (scene.truth[w].any(), int(wrong[w].sum())))
            places.append((number, best))
    return places
