"""Two ways to mask the same frames, compared: what is gained and lost, and whether the second is worse."""

import base64
import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup
from scipy.ndimage import binary_dilation, find_objects, label, maximum

from crattn_stage import __version__
from crattn_stage.cameras.facts import calibration_frame
from crattn_stage.detection.preprocessing import measure_sky, significance
from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.fits.source import open_regular
from crattn_stage.products.pages import templates
from crattn_stage.products.preview import drawn
from crattn_stage.quality.summary import Summary, total
from crattn_stage.stage import SearchedDetector, judge

#: Ranges of the peak of an object in units of the noise: name and upper end.
RANGES = (("S/N below 5", 5.0), ("S/N 5 to 10", 10.0), ("S/N above 10", np.inf))
#: Half side of a stamp, pixels, and most stamps of objects lost and gained.
HALF, MOST_STAMPS = 16, 6
#: Differences must be this many standard deviations from chance.
SIGNIFICANT = 2.0
#: No real frame has hits on more of its pixels than this; where they are masked, no hits can be added.
EVERYTHING = 0.05
#: Fewer bright hits than this cannot tell a loss of a few percent.
FEWEST = 50


@dataclass(frozen=True)
class Limits:
    """By how much the second may be worse.

    Attributes
    ----------
    bright, faint : float
        Fall of the completeness of added hits with a peak above 10, and of 5 to 10, times the noise.
    stars : float
        Rise of the fraction of star cores, or of galaxy nuclei, masked.
    noise : float
        Rise of the objects per million pixels of mirrored sky.
    lost : float
        Fraction of the objects above 10 times the noise that only the first masks; used where one is the frame's own
        mask, to which no hits can be added.
    """

    bright: float = 0.02
    faint: float = 0.05
    stars: float = 0.01
    noise: float = 5.0
    lost: float = 0.05


@dataclass
class Comparison:
    """What two masks of the same frames have in common, and not.

    Attributes
    ----------
    names : tuple of str
        Of the first and the second.
    models : list of dict
        What made the masks of the first and the second: ``model``, and of a stage ``sha256``, ``card`` (as from
        `card_digest`) and ``threshold``, None for the model's own.
    frames : list of str
        Their paths.
    inputs : list of dict
        Of each of them ``path``, ``sha256`` and ``camera``, a list of its family and name.
    first, second : `crattn_stage.quality.summary.Summary`
    common, lost, gained : `collections.Counter`
        Objects by range of S/N: masked by both, only by the first, only by the second.
    failures : list of str
        Frames that could not be compared, with the reason.
    stamps : dict of str to list of tuple
        (S/N, title, image, first mask, second mask) of the brightest objects "lost" and "gained".
    """

    names: tuple
    models: list = field(default_factory=list)
    inputs: list = field(default_factory=list)
    frames: list = field(default_factory=list)
    first: Summary = field(default_factory=lambda: Summary(area=0.0))
    second: Summary = field(default_factory=lambda: Summary(area=0.0))
    common: Counter = field(default_factory=Counter)
    lost: Counter = field(default_factory=Counter)
    gained: Counter = field(default_factory=Counter)
    failures: list = field(default_factory=list)
    stamps: dict = field(default_factory=lambda: {"lost": [], "gained": []})


class OwnMask:
    """The mask that a frame has already, in the place of a stage."""

    def do_stage(self, frame):
        """Count what the file itself marks as cosmic rays.

        Parameters
        ----------
        frame : `crattn_stage.fits.frame.ObservationFrame`

        Returns
        -------
        `crattn_stage.fits.frame.ObservationFrame`
            With `detections`.

        Raises
        ------
        FrameError
            If it has no mask plane.
        """
        frame.detections = []
        for extension, ccd in frame.ccds():
            found = frame.masked(extension)
            if found is None:
                raise FrameError(f"{extension.name or 'its image'} has no mask of cosmic rays to compare with")
            searched, amplifiers = _good(ccd), frame.amplifiers(extension)
            detector = SearchedDetector(extension.name, ccd.data, amplifiers, searched, found & searched)
            frame.detections.append(judge(detector))
        return frame


def compare(paths, first, second, names):
    """Mask frames in two ways and compare.

    Parameters
    ----------
    paths : list of path-like
    first, second : `crattn_stage.stage.AttentionCRStage` or `OwnMask`
        The same hits are added for both.
    names : tuple of str

    Returns
    -------
    `Comparison`
        A frame that cannot be masked is a failure, and the others go on.
    """
    result = Comparison(tuple(names), [_identity(stage) for stage in (first, second)])
    for path in paths:
        try:
            _compare(result, path, first, second)
        except FrameError as error:
            result.failures.append(f"{path}: {error}")
        else:
            result.frames.append(str(path))
    return result


def _identity(stage):
    if isinstance(stage, OwnMask):
        return {"model": "own"}
    card = stage.model.card
    given = stage.runtime_context.threshold
    return {"model": card.name, "sha256": card.sha256, "card": card_digest(card), "threshold": given}


def card_digest(card):
    """Return the sha256 of what a card says but the name: the same weights with another scaling are another model.

    Parameters
    ----------
    card : `crattn_stage.models.cards.ModelCard`

    Returns
    -------
    str
        Hexadecimal, 64 digits.
    """
    text = json.dumps({**asdict(card), "name": ""}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _compare(result, path, first, second):
    detections = []
    for stage in (first, second):
        with ObservationFrame(path) as frame:
            if frame.exposure.calibration_type:
                raise FrameError(calibration_frame(frame.exposure.calibration_type))
            detections.append(stage.do_stage(frame).detections)
    with ObservationFrame(path) as frame:
        for (extension, ccd), a, b in zip(frame.ccds(), *detections, strict=True):
            masks = []
            for detection in (a, b):
                masks.append(np.zeros(extension.shape, bool))
                masks[-1].ravel()[detection.pixels] = True
            sections = [amplifier.section for amplifier in frame.amplifiers(extension)]
            good = _good(ccd)
            scaled = significance(ccd.data, sections, measure_sky(ccd.data, ~good, sections))
            _count(result, f"{Path(path).name} {extension.name}".strip(), scaled, *masks)
        exposure = frame.exposure
        source = {"path": str(path), "sha256": frame.sha256(), "camera": [exposure.instrument, exposure.camera]}
    result.inputs.append(source)
    result.first = total([result.first, *(d.summary for d in detections[0])])
    result.second = total([result.second, *(d.summary for d in detections[1])])


def _good(ccd):
    return np.isfinite(ccd.data) if ccd.mask is None else np.isfinite(ccd.data) & ~ccd.mask


def _count(result, name, significance, first, second):
    """Count the objects of two masks of a detector, and keep stamps of those that only one has."""
    for kind, mine, other in (("lost", first, second), ("gained", second, first)):
        numbers, count = label(mine, np.ones((3, 3)))
        if not count:
            continue
        index = np.arange(1, count + 1)
        peaks = maximum(significance, numbers, index)
        shared = np.isin(index, numbers[binary_dilation(other, np.ones((3, 3)))])
        boxes = find_objects(numbers)
        for peak, is_shared in zip(peaks, shared, strict=True):
            level = next(title for title, upper in RANGES if peak < upper)
            if not is_shared:
                getattr(result, kind)[level] += 1
            elif kind == "lost":
                result.common[level] += 1
        alone = np.flatnonzero(~shared)
        for number in alone[np.argsort(-peaks[alone])][:MOST_STAMPS]:
            row, column = ((s.start + s.stop) // 2 for s in boxes[number])
            title = f"{kind}: {name} x {column + 1}, y {row + 1}, S/N {peaks[number]:.0f}"
            cut = (cut_stamp(plane, row, column) for plane in (significance, first, second))
            result.stamps[kind].append((float(peaks[number]), title, *cut))
        result.stamps[kind] = sorted(result.stamps[kind], key=lambda stamp: -stamp[0])[:MOST_STAMPS]


def cut_stamp(plane, row, column):
    """Return the surroundings of a pixel, filled up beyond the border.

    Parameters
    ----------
    plane : `numpy.ndarray`
        2-D.
    row, column : int

    Returns
    -------
    `numpy.ndarray`
        (2 HALF + 1, 2 HALF + 1), a copy.
    """
    around = [np.clip([c - HALF, c + HALF + 1], 0, n) for c, n in zip((row, column), plane.shape, strict=True)]
    fill = [(a - c + HALF, c + HALF + 1 - b) for c, (a, b) in zip((row, column), around, strict=True)]
    return np.pad(plane[tuple(slice(*ends) for ends in around)], fill)


def reasons(comparison, limits):
    """Say in what the second is worse than the first.

    Parameters
    ----------
    comparison : `Comparison`
    limits : `Limits`

    Returns
    -------
    list of str
        Empty if it is not; a difference that can be chance does not count.

    Raises
    ------
    FrameError
        If there are too few hits to tell.
    """
    first, second = comparison.first, comparison.second
    injected = all(s.injected.faint + s.injected.bright for s in (first, second))
    compared = (
        min(first.injected.bright, second.injected.bright)
        if injected
        else comparison.common[RANGES[2][0]] + comparison.lost[RANGES[2][0]]
    )
    if second.fraction > max(EVERYTHING, 2 * first.fraction):
        return [f"masks {second.fraction:.1%} of all pixels, not {first.fraction:.1%}"]
    if compared < FEWEST:
        what = "added" if injected else "masked"
        raise FrameError(
            f"only {compared} bright hits were {what}: too few to compare, {FEWEST} are needed; "
            "give more frames" + (", or more hits by --injections" if injected else "")
        )
    found = []
    if injected:
        for kind, limit in (("bright", limits.bright), ("faint", limits.faint)):
            rates = [getattr(s.injected, f"{kind}_found") for s in (first, second)]
            tried = [getattr(s.injected, kind) for s in (first, second)]
            if _rise(*rates[::-1], *tried[::-1]) > limit:
                was, now = (n / of for n, of in zip(rates, tried, strict=True))
                found.append(f"finds {now:.1%} of the {kind} hits that were added, not {was:.1%}")
        counts = [s.injected.mirrored_objects for s in (first, second)]
        was, now = (s.injected.noise_objects or 0.0 for s in (first, second))
        if now - was > limits.noise and counts[1] - counts[0] > SIGNIFICANT * max(1, sum(counts)) ** 0.5:
            found.append(f"masks noise: {now:.0f} objects per million pixels, not {was:.0f}")
    else:
        lost = comparison.lost[RANGES[2][0]] / compared
        if lost > limits.lost:
            found.append(f"misses {lost:.1%} of the objects of S/N above 10")
    if _rise(first.stars_flagged, second.stars_flagged, first.stars, second.stars) > limits.stars:
        found.append(f"masks {second.star_fraction:.1%} of star cores, not {first.star_fraction or 0:.1%}")
    if _rise(first.galaxies_flagged, second.galaxies_flagged, first.galaxies, second.galaxies) > limits.stars:
        found.append(f"masks {second.galaxy_fraction:.1%} of galaxy nuclei, not {first.galaxy_fraction or 0:.1%}")
    return found


def _rise(first, second, of_first, of_second):
    """Return by how much a fraction rose, 0 where that can be chance."""
    if not of_first or not of_second:
        return 0.0
    smooth = [((n + 1) / (of + 2), of) for n, of in ((first, of_first), (second, of_second))]
    error = sum(p * (1 - p) / of for p, of in smooth) ** 0.5
    rise = second / of_second - first / of_first
    return rise if rise > SIGNIFICANT * error else 0.0


def figures(comparison):
    """Return the figures of a comparison as a table of texts.

    Parameters
    ----------
    comparison : `Comparison`

    Returns
    -------
    list of (str, str, str)
        What, the first's and the second's.
    """

    def share(n, of):
        return f"{n / of:.1%} of {of}" if of else "-"

    sides = comparison.first, comparison.second
    rows = [
        ("objects masked", *(str(s.hits) for s in sides)),
        ("pixels masked", *(f"{s.fraction:.4%}" for s in sides)),
        ("star cores masked", *(share(s.stars_flagged, s.stars) for s in sides)),
        ("galaxy nuclei masked", *(share(s.galaxies_flagged, s.galaxies) for s in sides)),
    ]
    for title, kind in (
        ("added hits found, S/N 5 to 10", "faint"),
        ("added hits found, S/N above 10", "bright"),
        ("added hits found, on sources", "on_sources"),
        ("their pixels above 3 sigma masked", "pixels"),
    ):
        rows.append((title, *(share(getattr(s.injected, f"{kind}_found"), getattr(s.injected, kind)) for s in sides)))
    noise = (s.injected.noise_objects for s in sides)
    rows.append(("noise objects per million pixels", *("-" if n is None else f"{n:.1f}" for n in noise)))
    for level, _ in RANGES:
        rows.append((f"only there, {level}", str(comparison.lost[level]), str(comparison.gained[level])))
        rows.append((f"in both, {level}", *[str(comparison.common[level])] * 2))
    return rows


def as_json(comparison, worse, limits):
    """Return a comparison as a dict that JSON can hold.

    Parameters
    ----------
    comparison : `Comparison`
    worse : list of str
        From `reasons`.
    limits : `Limits`
        That they are by.

    Returns
    -------
    dict
    """
    kept_as_they_are = ("names", "models", "frames", "inputs", "common", "lost", "gained", "failures")
    kept = {name: getattr(comparison, name) for name in kept_as_they_are}
    kept["limits"] = asdict(limits)
    kept.update(first=asdict(comparison.first), second=asdict(comparison.second))
    return {"version": __version__, "worse": worse, **kept}


def page(comparison, worse):
    """Return a comparison as one HTML page that needs no other file.

    Parameters
    ----------
    comparison : `Comparison`
    worse : list of str
        From `reasons`.

    Returns
    -------
    str
    """
    pictures = []
    for stamps in comparison.stamps.values():
        for _, title, image, first, second in stamps:
            panels = zip((title, *comparison.names), (None, first, second), strict=True)
            picture = drawn([[(name, image, mask) for name, mask in panels]])
            pictures.append((title, Markup(base64.b64encode(picture).decode())))
    template = templates("crattn_stage.quality").get_template("comparison.html")
    return template.render(
        names=comparison.names,
        frames=comparison.frames,
        failures=comparison.failures,
        figures=figures(comparison),
        worse=worse,
        pictures=pictures,
        version=__version__,
    )


def passed(path, card, trusted, needed, instrument=None):
    """Return the record of a comparison that a model has passed.

    Parameters
    ----------
    path : path-like
        What ``compare --json`` wrote.
    card : `crattn_stage.models.cards.ModelCard`
        Of the model, which must be the second.
    trusted : collection of str
        Sha256 of weights, or of cards as from `card_digest`, of the models with which it may be compared.
    needed : int
        Fewest different frames.
    instrument : str, optional
        Camera family or INSTRUME for which the model is registered: only its frames count.

    Returns
    -------
    dict
        For the history: ``file`` and its ``sha256``, ``first``, ``frames`` (how many) and ``cameras``.

    Raises
    ------
    FrameError
        If it is no comparison of this model with a trusted one, at their own thresholds and the usual limits; if the
        model is worse, or the frames are too few.
    """
    try:
        with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as stream:
            content = stream.read()
    except (FrameError, OSError) as error:
        raise FrameError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        found = json.loads(content)
        (first, second), worse, limits = found["models"], list(found["worse"]), Limits(**found["limits"])
        inputs = [source for source in found["inputs"] if instrument is None or _is_of(source["camera"], instrument)]
        digests = {str(source["sha256"]) for source in inputs}
        cameras = sorted({" ".join(filter(None, source["camera"])) for source in inputs})
        names = [str(side["model"]) for side in (first, second)]
        thresholds = [side.get("threshold") for side in (first, second)]
        looser = [name for name, most in asdict(Limits()).items() if not asdict(limits)[name] <= most]
        is_trusted = not {first.get("sha256"), first.get("card")}.isdisjoint(trusted)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FrameError(
            f"{path}: not a comparison that `crattn-stage compare --json` of this version wrote"
        ) from error
    if (second.get("sha256"), second.get("card")) != (card.sha256, card_digest(card)):
        raise FrameError(f"{path}: compares {names[0]} with {names[1]}, not with the model {card.sha256[:16]} as it is")
    if not is_trusted:
        raise FrameError(f"{path}: {names[0]}, which it was compared with, is neither shipped nor registered")
    if any(threshold is not None for threshold in thresholds):
        raise FrameError(f"{path}: the models were not compared at their own thresholds")
    if worse:
        raise FrameError(f"{path}: {names[1]} is worse than {names[0]}: it {'; it '.join(map(str, worse))}")
    if looser:
        raise FrameError(f"{path}: the limit of --{looser[0]} is looser than usual")
    if len(digests) < needed:
        of = f" of {instrument}" if instrument else ""
        raise FrameError(f"{path}: it has {len(digests)} different frames{of}, {needed} are needed (--frames-needed)")
    return {
        "file": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "first": names[0],
        "frames": len(digests),
        "cameras": cameras,
    }


def _is_of(camera, instrument):
    return instrument.lower() in {str(name).lower() for name in camera}
