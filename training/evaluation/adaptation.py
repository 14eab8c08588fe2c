"""Whether a model that was adapted to a camera is better there, and not worse elsewhere.

Both models look at the same scenes, and each hit is placed on several of them.  What counts is the difference of both
models by hit: there are few hits, and placing one twice does not make two of it.  The held-out hits and frames are in
two halves; the threshold that is set on one half is judged on the other.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import label, maximum_filter
from scipy.special import expit, logit

from crattn_stage.fits.atomic import replacing
from crattn_stage.simulation.hits import turned
from training.data.contamination import Scene
from training.evaluation.empty import lone_stars, masked_stars
from training.evaluation.measure import Objects
from training.evaluation.peers import Peer, masker
from training.evaluation.scene_sets import make_scenes

#: Rate of clean pixels masked that a threshold is set for.
FALSE_POSITIVE_RATE = 1e-4
#: Simulated skies of the camera in each half, their side in pixels, and hits per megapixel of them, of its frames and
#: of generic scenes.
COUNT, SIDE, DENSITY = 6, 512, 200
#: Sets of generic scenes, and FWHM of stars in pixels, with which nothing may have become worse.
GENERIC, WIDTHS = ("sky:100", "sky:1000", "stars:2.5", "galaxies"), (1.5, 2.5, 4.0)
#: Sets of them for second weights, which are for frames with stars as narrow as hits alone.
GENERIC_NARROW = ("stars:1.2", "stars:1.5", "stars:1.8")
#: How much completeness may fall on the camera and on generic scenes, if chance may not be more, and in any case.
LESS_ON_CAMERA, LESS_ELSEWHERE, LESS_AT_MOST = 0.02, 0.03, 0.05
#: How much the fraction of stars masked may rise; and by what factor, and by how many a megapixel, false objects on
#: generic scenes may: 20 are fewer than a hundredth of their stars.
MORE_STARS, MORE_FACTOR, MORE_OBJECTS = 0.01, 1.25, 20.0
#: What counts as better: so much more complete at as many false objects, or false objects times this, both of those
#: of the old model at its threshold and of it at a threshold of the same completeness.
MORE_COMPLETE, FEWER = 0.01, 0.8
#: Fraction of the old model's false objects that may remain, unless that costs half of `LESS_ON_CAMERA`.
REMAINING = 0.4
#: Standard errors of a bound that holds in 95 of 100 cases, and of the margin that a threshold leaves.
ONE_SIDED, MARGIN = 1.64, 0.5
#: Draws of hits for an interval.
DRAWS = 1000
#: Thresholds that are tried, evenly in odds: what matters may be far below one half.
THRESHOLDS = expit(np.linspace(logit(0.01), logit(0.995), 20))
_AROUND = np.ones((3, 3))


@dataclass
class OwnScenes:
    """Scenes of the camera, of one half.

    Attributes
    ----------
    scenes : list of `training.data.contamination.Scene`
        Simulated skies, then frames, with held-out hits.
    owners : list of `numpy.ndarray` of int
        Of each scene: the number, from 1 through all of them, of the hit placed on a pixel (dilated 3 by 3); else 0.
    hits : `numpy.ndarray` of int
        The stamp that was placed, by the number in `owners`, less 1.
    is_own : `numpy.ndarray` of bool
        Whether it is a hit of the camera, not of the shipped catalogue.
    simulated : int
        How many scenes are simulated: on the others false objects are not counted, since the old model cleaned them.
    empty : list of `training.data.contamination.Scene`
        Mirrored frames, without a hit.
    narrow : bool
        Whether the second weights of a model, if it has any, are those that look.
    """

    scenes: list
    owners: list
    hits: np.ndarray
    is_own: np.ndarray
    simulated: int
    empty: list
    narrow: bool = False

    @classmethod
    def of(cls, skies, seed):
        """Make the scenes of a half; each hit is placed as often as any other of its kind, to one.

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
        own = skies.own or skies.hits
        stamps = [*own, *skies.others]
        turn = _in_turn(rng, len(own), len(stamps))
        scenes, owners, hits = [], [], []
        for sky in clean:
            chosen = [next(turn) for _ in range(round(DENSITY * sky.image.size / 1e6))]
            scene, owner = _placed(sky, [stamps[i] for i in chosen], rng)
            scenes.append(scene)
            owners.append(np.where(owner, owner + len(hits), 0))
            hits += chosen
        empty = [Scene(sky, sky.image, np.zeros(sky.image.shape, bool)) for sky in skies.skies["mirrored"]]
        hits = np.array(hits)
        # Scenes have more hits and fewer stars than frames.
        return cls(scenes, owners, hits, hits < len(own), COUNT, empty, bool(skies.camera.narrow))


def _in_turn(rng, own, every):
    """Give the numbers of hits, the camera's own and others in turn, each kind in an order that is drawn anew."""
    kinds = [kind for kind in (np.arange(own), np.arange(own, every)) if len(kind)]
    rounds = [iter(()) for _ in kinds]
    while True:
        for number, kind in enumerate(kinds):
            following = next(rounds[number], None)
            if following is None:
                rounds[number] = iter(rng.permutation(kind))
                following = next(rounds[number])
            yield int(following)


def _placed(sky, stamps, rng):
    """Return a scene with hits on it, whole ones where they fit in, and the number of the hit on each pixel."""
    charge, owner = np.zeros(sky.image.shape, np.float32), np.zeros(sky.image.shape, np.int32)
    for number, stamp in enumerate(stamps, 1):
        stamp = turned(stamp, rng)
        row, column = (int(rng.integers(0, max(n - m, 0) + 1)) for n, m in zip(charge.shape, stamp.shape, strict=True))
        window = np.s_[row : row + stamp.shape[0], column : column + stamp.shape[1]]
        stamp = stamp[: charge.shape[0] - row, : charge.shape[1] - column]
        charge[window] += stamp
        owner[window][stamp > 0] = number
    owner = maximum_filter(owner, 3)
    return Scene(sky, sky.image + charge / np.float32(sky.gain), owner > 0), owner


class Looked:
    """What a model makes of scenes of the camera, at each of several thresholds and its own.

    Parameters
    ----------
    model : `crattn_stage.detection.model.CosmicRayModel`
    own : `OwnScenes`
    threshold : float, optional
        One more.
    thresholds : sequence of float
        `THRESHOLDS` by default.

    Attributes
    ----------
    thresholds : `numpy.ndarray`
        Ascending.
    found : `numpy.ndarray` of bool
        (thresholds, hits placed): whether a pixel of it is masked.
    false, masked : `numpy.ndarray` of int
        (thresholds,): objects that are no hit, and clean pixels that are masked.
    area : float
        On which they are counted, megapixels.
    """

    def __init__(self, model, own, threshold=None, thresholds=None):
        self.own, self.every = own, [*own.scenes, *own.empty]
        self._masks = [masker(model, scene, own.narrow) for scene in self.every]
        thresholds = THRESHOLDS if thresholds is None else thresholds
        self.thresholds = np.unique([*thresholds, *([] if threshold is None else [threshold])])
        counted = [*own.scenes[: own.simulated], *own.empty]
        self.clean = sum(np.count_nonzero(~scene.truth & ~scene.sky.bad) for scene in counted)
        self.area = sum(np.count_nonzero(~scene.sky.bad) for scene in counted) / 1e6
        self.found = np.zeros((len(self.thresholds), len(own.hits) + 1), bool)
        self.false, self.masked = np.zeros((2, len(self.thresholds)), int)
        # The highest first: it leaves most of the sky to be mirrored.
        for number, level in [*enumerate(self.thresholds)][::-1]:
            self._look(number, self.masks(level))
        self.found = self.found[:, 1:]

    def _look(self, number, masks):
        for mask, owner in zip(masks, self.own.owners, strict=False):
            self.found[number, owner[mask]] = True
        kept = np.s_[: self.own.simulated], np.s_[len(self.own.scenes) :]
        for some in kept:
            for mask, scene in zip(masks[some], self.every[some], strict=True):
                numbers, count = label(mask, _AROUND)
                self.false[number] += count - np.count_nonzero(np.unique(numbers[scene.truth]))
                self.masked[number] += np.count_nonzero(mask & ~scene.truth)

    def masks(self, threshold):
        """Return the masks of the scenes at a threshold, as `CosmicRayModel.detect` makes them."""
        return [mask(threshold) for mask in self._masks]

    def index(self, threshold):
        """Return the number of the threshold that is nearest to one, in odds."""
        return int(np.argmin(np.abs(logit(self.thresholds) - logit(threshold))))


@dataclass
class Difference:
    """How many more of the same hits one model finds than another, as a fraction of them.

    Attributes
    ----------
    mean, error : float
        And its standard error, by hit.
    low, high : float
        Its 95% interval: hits drawn anew.
    more, less : int
        Hits that are found more often, and less often.
    """

    mean: float
    error: float
    low: float
    high: float
    more: int
    less: int

    @classmethod
    def of(cls, before, after, hits):
        """Take the difference.

        Parameters
        ----------
        before, after : `numpy.ndarray` of bool
            Whether a placed hit is found.
        hits : `numpy.ndarray` of int
            The hit that was placed.
        """
        _, hits = np.unique(hits, return_inverse=True)
        each = np.bincount(hits, after.astype(float) - before) / np.bincount(hits)
        weight = np.random.default_rng(0).multinomial(len(each), np.full(len(each), 1 / len(each)), DRAWS)
        drawn = weight @ each / len(each)
        low, high = np.percentile(drawn, [2.5, 97.5])
        return cls(
            float(each.mean()),
            float(drawn.std()),
            float(low),
            float(high),
            *map(int, ((each > 0).sum(), (each < 0).sum())),
        )

    def __str__(self):
        return (
            f"difference {self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]; {self.more} hits more, {self.less} less"
        )

    @property
    def tolerance(self):
        """By how much chance alone may make it negative."""
        return min(ONE_SIDED * self.error, LESS_AT_MOST)


class Compared:
    """An adapted model and the one that it comes from, on both halves of the scenes of the camera.

    Parameters
    ----------
    before, after : list of `Looked`
        Of the halves.
    old : float
        Threshold of the old model.

    Attributes
    ----------
    thresholds : list of float
        Of the new model, set on each half; judged on the other.
    threshold : float
        Their mean in odds.
    """

    def __init__(self, before, after, old):
        self.before, self.after, self.old = before, after, old
        self.thresholds = [self._choose(b, a) for b, a in zip(before, after, strict=True)]
        self.threshold = float(expit(np.mean(logit(self.thresholds))))
        own = [looked.own for looked in before]
        self.is_own = np.concatenate([half.is_own for half in own])
        # The halves have different hits.
        self.hits = np.concatenate([2 * half.hits + number for number, half in enumerate(own)])

    def _choose(self, before, after):
        """Set the threshold on one half: for a rate, or lower for completeness; higher where too much is masked."""
        here = before.index(self.old)
        for_rate = _lowest(after.thresholds, after.masked <= FALSE_POSITIVE_RATE * after.clean)
        few = _lowest(after.thresholds, after.false <= REMAINING * before.false[here] + 1)
        more = [_more(after.own, before.found[here], found) for found in after.found]
        safe = _highest(after.thresholds, [mean >= MARGIN * error for mean, error, _ in more])
        # Each kind is judged by itself later.
        bearable = _highest(after.thresholds, [least >= -LESS_ON_CAMERA / 2 for *_, least in more])
        return float(max(min(for_rate, safe), min(few, bearable)))

    def found(self, looked, thresholds):
        """Return whether each placed hit is found by a model, at a threshold for each half."""
        return np.concatenate([one.found[one.index(t)] for one, t in zip(looked, thresholds, strict=True)])

    def false(self, looked, thresholds):
        """Return the number of false objects at a threshold for each half."""
        return sum(int(one.false[one.index(t)]) for one, t in zip(looked, thresholds, strict=True))

    @property
    def area(self):
        """On which false objects are counted, megapixels."""
        return sum(looked.area for looked in self.before)

    @property
    def rate(self):
        """Of clean pixels that the new model masks, at the thresholds that are judged."""
        pairs = [*zip(self.after, self.thresholds[::-1], strict=True)]
        return sum(one.masked[one.index(t)] for one, t in pairs) / max(sum(one.clean for one in self.after), 1)

    def curve(self, looked):
        """Return false objects per megapixel, and completeness of the camera's hits, as one threshold falls."""
        points = [
            (self.false(looked, [t, t]) / self.area, self.found(looked, [t, t])[self.is_own].mean())
            for t in THRESHOLDS[::-1]
        ]
        return [np.array(some) for some in zip(*points, strict=True)]

    def rows(self):
        """Compare them on the camera.

        Returns
        -------
        rows : list of `Row`
        is_better : bool
        """
        old, new = [self.old] * 2, self.thresholds[::-1]
        found, found_now = self.found(self.before, old), self.found(self.after, new)
        false, false_now = self.false(self.before, old), self.false(self.after, new)
        rows = []
        for kind, what in ((self.is_own, "this camera"), (~self.is_own, "catalogue, on this camera")):
            if kind.any():
                rows.append(
                    _completeness(f"hits found, {what}", found[kind], found_now[kind], self.hits[kind], LESS_ON_CAMERA)
                )
        noise = ONE_SIDED * np.sqrt(false + false_now)
        density = np.array([false, false_now, false + max(noise, self.area)]) / self.area
        rows.append(Row("false objects per megapixel, this camera", *map(float, density), True))
        # Another threshold alone must not pass for a better model.
        at_equal = self._at_equal_false(false)
        equal = _completeness(
            "hits found at equal false objects, this camera", found, at_equal, self.hits, LESS_ON_CAMERA
        )
        false_equal = self._at_equal_found(found_now)
        noise_equal = ONE_SIDED * np.sqrt(false_equal + false_now)
        density = np.array([false_equal, false_now, false_equal + max(noise_equal, self.area)]) / self.area
        rows += [equal, Row("false objects at equal hits found, this camera", *map(float, density), True)]
        fewer = (
            false_now <= FEWER * min(false, false_equal) and min(false - noise, false_equal - noise_equal) > false_now
        )
        more = Difference.of(found, at_equal, self.hits)
        return rows, fewer or (more.mean >= MORE_COMPLETE and more.low > 0)

    def _at_equal_false(self, false):
        """Return what the new model finds at the lowest threshold with no more false objects."""
        for threshold in THRESHOLDS:
            if self.false(self.after, [threshold] * 2) <= false:
                break
        return self.found(self.after, [threshold] * 2)

    def _at_equal_found(self, found):
        """Return the false objects of the old model at the highest threshold at which it finds as many hits."""
        for threshold in THRESHOLDS[::-1]:
            if self.found(self.before, [threshold] * 2).mean() >= found.mean():
                break
        return self.false(self.before, [threshold] * 2)


def _lowest(thresholds, is_met):
    """Return the lowest threshold at which a condition is met; the highest if it is at none."""
    return thresholds[np.argmax(is_met) if is_met.any() else -1]


def _highest(thresholds, is_met):
    """Return the highest threshold at which a condition is met; the lowest if it is at none."""
    return thresholds[np.flatnonzero(is_met)[-1] if np.any(is_met) else 0]


def _more(own, before, after):
    """Return how many more hits are found, the standard error, and how many more of the kind with fewer.

    The camera's and the catalogue's count the same.
    """
    kinds = [kind for kind in (own.is_own, ~own.is_own) if kind.any()]
    some = [Difference.of(before[kind], after[kind], own.hits[kind]) for kind in kinds]
    more = [one.mean for one in some]
    return np.mean(more), np.hypot.reduce([one.error for one in some]) / len(some), min(more)


def _completeness(what, before, after, hits, least):
    """Return a row on the hits that two models find, that may be fewer by chance."""
    difference, count = Difference.of(before, after, hits), len(np.unique(hits))
    before, after = float(before.mean()), float(after.mean())
    limit = before - max(least, difference.tolerance)
    return Row(what, before, after, limit, False, f"{count} hits, {difference}")


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
    note : str
    """

    what: str
    before: float
    after: float
    limit: float
    more_is_worse: bool
    note: str = ""

    @property
    def is_worse(self):
        """Whether it is beyond the limit."""
        return (self.after - self.limit if self.more_is_worse else self.limit - self.after) > 1e-9

    def __str__(self):
        sign = "at most" if self.more_is_worse else "at least"
        text = f"{self.what:52} {self.before:10.4g} {self.after:10.4g}   {sign} {self.limit:.4g}"
        return f"{text}\n{'':4}{self.note}" if self.note else text


class Elsewhere:
    """Generic scenes and stars, on which a model must not become worse.  Everything is simulated.

    Parameters
    ----------
    skies : `training.data.library.Skies`
        Of the test split.
    fwhm : float, optional
        Of the camera's stars, pixels.
    narrow : bool
        Whether second weights are compared.
    """

    def __init__(self, skies, fwhm=None, narrow=False):
        sets = GENERIC_NARROW if narrow else GENERIC
        self.sets = {name: make_scenes(skies, name, 1, density=DENSITY) for name in sets}
        widths = sorted({*WIDTHS, *([round(fwhm, 1)] if fwhm else [])})
        self.stars = {"Gaussian": lone_stars(widths=widths), "Moffat": lone_stars(3.0, widths)}

    def figures(self, model, threshold):
        """Return hits found (bool) and false objects per megapixel by set, and the fraction of stars masked by FWHM."""
        result = {}
        for name, scenes in self.sets.items():
            masks = [model.detect(s.image, s.sky.bad, threshold) for s in scenes]
            objects = Objects.of(scenes)
            false = 0
            for mask, scene in zip(masks, scenes, strict=True):
                numbers, count = label(mask, _AROUND)
                false += count - np.count_nonzero(np.unique(numbers[scene.truth]))
            area = sum(s.image.size for s in scenes) / 1e6
            result[name] = objects.found(masks), false / area

        def scores(scenes):
            return [model.detect(s.image, s.sky.bad, threshold).astype(np.float32) for s in scenes], 0.0

        peer = Peer("", scores, 0.5)
        for kind, (scenes, stars) in self.stars.items():
            fractions = masked_stars(peer, scenes, stars)
            result |= {(kind, s.sky.fwhm): f for s, f in zip(scenes, fractions, strict=True)}
        return result


def compare(compared, elsewhere_before, elsewhere_after):
    """Compare a model with the one it was adapted from.

    Parameters
    ----------
    compared : `Compared`
        On the camera.
    elsewhere_before, elsewhere_after : dict
        From `Elsewhere.figures`.

    Returns
    -------
    rows : list of `Row`
    worse : list of str
        What is worse, or not better where it should be, in words; empty if the model is accepted.
    """
    rows, is_better = compared.rows()
    for key, old in elsewhere_before.items():
        new = elsewhere_after[key]
        if isinstance(old, tuple):
            rows.append(
                _completeness(f"hits found, generic {key}", old[0], new[0], np.arange(len(old[0])), LESS_ELSEWHERE)
            )
            most = MORE_FACTOR * old[1] + MORE_OBJECTS
            rows.append(Row(f"false objects per megapixel, generic {key}", old[1], new[1], most, True))
        else:
            kind, fwhm = key
            rows.append(Row(f"stars masked, {kind}, FWHM {fwhm:g}", old, new, old + MORE_STARS, True))
    worse = [f"{row.what} {row.before:.3g}, now {row.after:.3g}" for row in rows if row.is_worse]
    if not worse and not is_better:
        worse.append(
            "not better on this camera: " + "; ".join(f"{r.what} {r.before:.3g}, now {r.after:.3g}" for r in rows[:3])
        )
    return rows, worse


def draw(path, compared, names, size=96, most=5):
    """Draw completeness against false objects, and stamps of held-out scenes with both masks.

    Parameters
    ----------
    path : path-like
    compared : `Compared`
    names : tuple of str
        Of both models, the old one first.
    size, most : int
        Side of a stamp in pixels, and their number.
    """
    figure = Figure(figsize=(11, 4 + 2.9 * most), layout="constrained")
    FigureCanvasAgg(figure)
    top, rest = figure.subfigures(2, 1, height_ratios=[4, 2.9 * most])
    axis = top.subplots()
    models = (compared.before, compared.after)
    thresholds = (compared.old, compared.threshold)
    for looked, threshold, name, colour in zip(models, thresholds, names, ("C0", "C3"), strict=True):
        false, complete = compared.curve(looked)
        axis.plot(np.maximum(false, 0.3), complete, ".-", color=colour, label=name)
        here = compared.false(looked, [threshold] * 2) / compared.area
        found = compared.found(looked, [threshold] * 2)[compared.is_own].mean()
        axis.plot(max(here, 0.3), found, "o", ms=9, color=colour)
    axis.set(xscale="log", xlabel="false objects per megapixel", ylabel="hits found, held out")
    axis.legend(title="o at its threshold")
    axes = rest.subplots(most, 4, squeeze=False)
    masks = [looked[-1].masks(threshold) for looked, threshold in zip(models, thresholds, strict=True)]
    scenes = compared.before[-1].own.scenes
    places = _places(scenes, masks[0], size)[:most]
    for row in axes:
        for axis in row:
            axis.set_axis_off()
    for row, (number, window) in zip(axes, places, strict=False):
        scene = scenes[number]
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
