"""Exposures of one field grade each other's masks: what only one of them has is a hit, what all have is none."""

import base64
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup

from crattn_stage import __version__
from crattn_stage.cameras.facts import calibration_frame, charge_unit
from crattn_stage.comparison import cut_stamp
from crattn_stage.detection.saturation import pile_up, saturated_stars, surroundings
from crattn_stage.errors import FrameError
from crattn_stage.fits.atomic import check_targets
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.fits.wcs import sky_wcs
from crattn_stage.products.pages import templates
from crattn_stage.products.preview import drawn
from crattn_stage.quality import repeats
from crattn_stage.quality.grading import Grade, grade_mask
from crattn_stage.quality.labels import label_files, label_plane, write_labels
from crattn_stage.quality.registration import aperture_fluxes, find_stars, overlap, register, seeing
from crattn_stage.quality.truth import BRIGHT, DITHERED, find_hits, footprints, single_pixels

#: Most other exposures that one is compared with: those in which most of it lies.
MOST_OTHERS = 6
#: Most stamps of a kind.
MOST_STAMPS = 6
#: Less of an exposure than this in all others is no overlap.
LEAST_OVERLAP = 0.01
#: A mask that has no more than this fraction of the bright hits is taken for one of another sky.
HARDLY = 0.1
#: The stars of two exposures are said to differ above this fraction of their light.
DIFFER = 0.4
#: A set that did not move is not graded if more of its bright hits are single pixels, of which there are at least so
#: many, and more than this fraction flickers, or none can be seen to.
SINGLE, SINGLES, FLICKERING = 0.5, 10, 0.05
#: Fewest stars in common for a mask with as many objects.
STARS = 20


@dataclass
class Graded:
    """An exposure with the grade of its mask.

    Attributes
    ----------
    path : str
    grade : `crattn_stage.quality.grading.Grade`
    failure : str
        Why it has none; "" if it has.
    notes : list of str
        What was odd.
    warnings : list of str
        Why the grade is not to be trusted.
    fwhm : float or None
        Of its stars, pixels; of the last detector.
    stamps : dict of str to list of tuple
        (S/N, title, image, mask, others) of the worst hits "missed" and "false" objects.
    """

    path: str
    grade: Grade = field(default_factory=Grade)
    failure: str = ""
    notes: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    fwhm: float | None = None
    stamps: dict = field(default_factory=lambda: {"missed": [], "false": []})


def grade(paths, stage, labels=None, only=None, overwrite=False):
    """Grade the masks of exposures of one field by each other.

    Parameters
    ----------
    paths : list of path-like
        Two or more, of one camera and filter.
    stage : `crattn_stage.stage.AttentionCRStage` or `crattn_stage.comparison.OwnMask`
        What makes the masks.
    labels : path-like, optional
        Folder for a FITS file of each exposure that says which pixels are hits, and of which nothing is known, with
        the charge of its clear hits as `training.data.hits` reads it.  Their names are those of the exposures, which
        must differ.
    only : str, optional
        Name of the one detector to grade; all by default.
    overwrite : bool
        Replace existing labels.

    Returns
    -------
    list of `Graded`
        In the order of the paths.  An exposure that cannot be used is a failure, and the others are graded.

    Raises
    ------
    FrameError
        If fewer than two different exposures of one camera and filter can be used, two would have the same labels, or
        labels exist.
    """
    if len(paths) < 2:
        raise FrameError("one exposure has nothing to be graded by: give two or more of one field, camera and filter")
    targets = label_files(labels, paths) if labels else {}
    check_targets(targets.values(), overwrite)
    results = [Graded(str(path)) for path in paths]
    _leave_out(results)
    masks, planned = _masked(results, stage, only)
    if len(masks) < 2:
        why = "; ".join(f"{result.path}: {result.failure}" for result in results if result.failure)
        raise FrameError(f"no two exposures can be compared: {why}")
    alone = all(len(names) == 1 for names in planned.values())
    names = [next(iter(planned.values()))[0]] if alone else sorted(set().union(*planned.values()))
    truths = [{} for _ in paths]
    reasons = [[] for _ in paths]
    for name in names:
        members = [i for i, own in planned.items() if alone or name in own]
        numbers = {i: planned[i][0] if alone else name for i in members}
        _grade_detector(name, numbers, masks, results, truths if labels else None, reasons)
    for result, why in zip(results, reasons, strict=True):
        if not result.grade.judged:
            result.failure = result.failure or (why[0] if why else "nothing of it can be judged")
        elif why:
            result.notes += why
    if labels:
        for path, planes, result in zip(paths, truths, results, strict=True):
            if not result.failure:
                used = [r.path for r in results if r is not result and not r.failure]
                write_labels(targets[path], path, planes, [Path(p).name for p in used], overwrite)
    return results


def _leave_out(results):
    """Leave out what cannot be used: unreadable, twice the same, or unlike most of the others."""
    facts, seen = {}, {}
    for i, result in enumerate(results):
        try:
            with ObservationFrame(result.path) as frame:
                own, digest = _facts(frame), frame.sha256()
            if digest in seen:
                raise FrameError(f"the same exposure as {seen[digest]}")
        except FrameError as error:
            result.failure = str(error)
        else:
            seen[digest], facts[i] = result.path, own
    if not facts:
        return
    # Of equally many, those like the first that can be read.
    usual = max(facts, key=lambda i: sum(not _unlike(facts[i], other) for other in facts.values()))
    for i, own in facts.items():
        odd = _unlike(facts[usual], own)
        if odd:
            like = results[usual].path, facts[usual][odd]
            results[i].failure = f"of another {odd}, {own[odd]}, than {', '.join(like)}"


def _facts(frame):
    """Return what exposures of one field must have in common."""
    exposure = frame.exposure
    if exposure.calibration_type:
        raise FrameError(calibration_frame(exposure.calibration_type))
    if exposure.is_spectrum:
        raise FrameError("a spectrum: only images of the sky can be graded")
    return {"camera": " ".join(filter(None, (exposure.instrument, exposure.camera))), "filter": exposure.filter}


def _unlike(facts, others):
    """Return in what two exposures differ: "camera", "filter" or ""."""
    if facts["camera"] != others["camera"]:
        return "camera"
    is_known = None not in (facts["filter"], others["filter"])
    return "filter" if is_known and facts["filter"] != others["filter"] else ""


def _masked(results, stage, only):
    """Mask the exposures that can be used; return {number: {detector: pixels}} and {number: names of detectors}."""
    masks, planned = {}, {}
    for i, result in enumerate(results):
        if result.failure:
            continue
        try:
            with ObservationFrame(result.path) as frame:
                if only is not None:
                    frame.extensions = [e for e in frame.extensions if e.name == only]
                    if not frame.extensions:
                        raise FrameError(f"it has no detector {only!r}")
                detections = stage.do_stage(frame).detections
                planned[i] = [extension.name for extension in frame.extensions]
        except FrameError as error:
            result.failure = str(error)
        else:
            masks[i] = {name: d.pixels for name, d in zip(planned[i], detections, strict=True)}
    return masks, planned


def _prepared(path, name):
    """Return a detector of an exposure, ready to be compared; its exposure time; whether it has a gain, and a mask."""
    with ObservationFrame(path) as frame:
        extension = next(e for e in frame.extensions if e.name == name)
        ccd, amplifiers = frame.read(extension), frame.amplifiers(extension)
        bad = ~np.isfinite(ccd.data) | (False if ccd.mask is None else ccd.mask)
        saturated = _saturated(ccd.data, bad, frame.saturation(extension), [a.section for a in amplifiers])
        bad |= surroundings(saturated_stars(saturated, True))
        unit = charge_unit(extension.header, frame.profile)
        gains = [a.electrons_per(unit) for a in amplifiers]
        own = repeats.prepare(Path(path).name, ccd.data, bad, [a.section for a in amplifiers], gains, saturated)
        own.wcs = sky_wcs(extension.header)
        own.stars = find_stars(own.image, own.bad)
        return own, frame.exposure.exposure_time, all(gains), ccd.mask is not None and bool(ccd.mask.any())


def _saturated(image, bad, level, sections):
    """Return the pixels that are saturated, by the level that the header gives and that at which they pile up."""
    saturated = np.zeros(image.shape, bool)
    for section in sections:
        known = [own for own in (level, pile_up(image[section], bad[section])) if own is not None]
        if known:
            saturated[section] = image[section] >= min(known)
    return saturated


def _grade_detector(name, numbers, masks, results, truths, reasons):
    """Grade a detector of all exposures that have it: {number of the exposure: name there}."""
    members = list(numbers)
    prepared = [_prepared(results[i].path, own_name) for i, own_name in numbers.items()]
    exposures, seconds, has_gain, has_mask = map(list, zip(*prepared, strict=True))
    pairs = _registered(exposures)
    for own in range(len(exposures)):
        common = [r.first for (a, _), r in pairs.items() if a == own and not isinstance(r, FrameError)]
        chosen = np.unique(np.concatenate(common)).astype(int) if common else np.zeros(0, int)
        exposures[own].fwhm = seeing(exposures[own].stars, chosen, exposures[own].image.shape)
    for own, i in enumerate(members):
        usable, failures = [], []
        for other in range(len(exposures)):
            if other == own:
                continue
            registration = pairs[own, other]
            if isinstance(registration, FrameError):
                failures.append(f"with {exposures[other].name}: {registration}")
                continue
            if registration.note:
                _note(results[i].notes, f"with {exposures[other].name}: {registration.note}")
            usable.append((overlap(registration.mapping, exposures[other].image.shape, 1), other, registration))
        usable = sorted((u for u in usable if u[0] > LEAST_OVERLAP), key=lambda u: -u[0])[:MOST_OTHERS]
        if not usable:
            reasons[i].append(f"{name}: {_said(failures)}" if name else _said(failures))
            continue
        for failure in failures:
            _note(results[i].notes, failure)
        truth = _truth(own, usable, exposures, seconds, pairs, results[i])
        mask = np.zeros(exposures[own].image.shape, bool)
        mask.ravel()[masks[i][numbers[i]]] = True
        registrations = [registration for _, _, registration in usable]
        doubt = _bad_pixels_registered(truth, mask, registrations)
        doubt = doubt or _single_pixels(truth, registrations, has_mask[own])
        if doubt:
            reasons[i].append(f"{name}: {doubt}" if name else doubt)
            continue
        marked = grade_mask(exposures[own], truth, mask)
        _warn_of_sources(results[i], name, truth, marked.grade, registrations)
        results[i].grade += marked.grade
        results[i].fwhm = exposures[own].fwhm
        _keep_stamps(results[i], name, exposures[own], truth, mask, marked)
        if truths is not None:
            if not has_gain[own]:
                _note(results[i].notes, "its gain is not known: its hits are labelled, but no examples for training")
            stamps = footprints(exposures[own], truth) if has_gain[own] else None
            truths[i][name] = label_plane(exposures[own], truth), stamps


def _said(failures):
    return failures[0] if failures else "no other exposure overlaps with it"


def _note(texts, text):
    if text not in texts:
        texts.append(text)


def _registered(exposures):
    """Return the registration of each exposure in each other, or the error."""
    pairs = {}
    for a, one in enumerate(exposures):
        for b, other in enumerate(exposures):
            if a == b:
                continue
            try:
                shapes = one.image.shape, other.image.shape
                pairs[a, b] = register(one.stars, other.stars, shapes, (one.wcs, other.wcs))
            except FrameError as error:
                pairs[a, b] = error
    return pairs


def _truth(own, usable, exposures, seconds, pairs, result):
    """Return what the others say of an exposure."""
    mine = exposures[own]
    fwhm = mine.fwhm or 3.0
    planes, noises, neighbours = [], [], []
    for _, number, registration in usable:
        other = exposures[number]
        scale = _scale(mine, other, registration, seconds[own], seconds[number])
        if scale is None:
            _note(result.notes, f"with {other.name}: neither stars nor exposure times tell how much deeper it is")
            scale = 1.0
        # A sharper exposure is blurred to the seeing of this one.
        blur = np.sqrt(max(0.0, fwhm**2 - (other.fwhm or fwhm) ** 2)) / 2.355
        plane = repeats.resample(other, registration.mapping, mine.image.shape, blur if blur > 0.3 else 0.0)
        planes.append(plane * np.float32(scale))
        differ = repeats.star_difference(mine, planes[-1], mine.stars.places[registration.first], fwhm)
        if differ is not None and differ > DIFFER:
            text = f"with {other.name}: the stars differ by {differ:.0%} of their light (seeing, tracking or clouds)"
            _note(result.warnings, text)
        noises.append(float(np.median(other.noise)) * scale)
        back = pairs[number, own]
        neighbours.append((other, registration.mapping, None if isinstance(back, FrameError) else back.mapping))
    shifts = [_shift(mapping) for _, mapping, _ in neighbours]
    if max(shifts) < DITHERED:
        _note(result.notes, "not dithered: bad pixels of the detector look like sources of the sky")
    others, count = repeats.combine(planes, noises)
    return find_hits(mine, others, count, fwhm, neighbours)


def _bad_pixels_registered(truth, mask, registrations):
    """Return why it cannot be told whether stars or bad pixels were registered; "" if it can."""
    if any(r.how != "stars" or _shift(r.mapping) >= DITHERED for r in registrations):
        return ""
    bright = np.flatnonzero(np.asarray(truth.peaks) > BRIGHT) + 1
    common = max(len(r.first) for r in registrations)
    if len(bright) <= common or np.isin(bright, truth.objects[mask]).mean() > HARDLY:
        return ""
    return (
        f"nothing of it has moved, {len(bright)} places differ by more than S/N {BRIGHT:g} where {common} "
        "agree, and the mask has hardly any of them: those that agree may be bad pixels instead of stars; a WCS that "
        "holds settles it"
    )


def _single_pixels(truth, registrations, has_mask):
    """Return why hits cannot be told from hot and flickering pixels; "" if they can."""
    if has_mask or any(_shift(r.mapping) >= DITHERED for r in registrations):
        return ""
    single, bright, flickering = single_pixels(truth)
    if single < max(SINGLES, SINGLE * bright):
        return ""
    # With one other exposure, a pixel that flickers is bright in one of the two.
    if len(registrations) > 1 and flickering <= FLICKERING * single:
        return ""
    return (
        f"nothing of it has moved, and {single} of {bright} bright differences are single pixels: hits cannot be told "
        "from hot and flickering pixels; dithered exposures, or a mask of bad pixels in the frames, settle it"
    )


def _warn_of_sources(result, name, truth, grade, registrations):
    """Warn where the truth on and beside sources is not to be trusted."""
    where = f"{name}: " if name else ""
    if truth.astray:
        lie, found, expected = truth.astray
        text = (
            f"{where}{lie} of {found} differences lie on sources, where {expected:.1f} hits would: the stars differ "
            "between the exposures, and hits on these sources are not counted"
        )
        _note(result.warnings, text)
    stars = max(len(r.first) for r in registrations)
    if stars < STARS <= grade.objects:
        text = f"{where}{grade.objects} objects are masked, but with no more than {stars} stars in common to compare"
        _note(result.warnings, text)


def _shift(mapping):
    y, x = (np.array([0, n - 1]) for n in mapping.shape)
    to_x, to_y = mapping.at(x, y)
    return float(np.hypot(to_x - x, to_y - y).max())


def _scale(own, other, registration, mine, theirs):
    """Return how many times more light an exposure has than another, by the stars or the exposure times."""
    fwhm = max(own.fwhm or 3.0, other.fwhm or 3.0)
    if len(registration.first):
        one = aperture_fluxes(own.image, own.stars, registration.first, fwhm)
        two = aperture_fluxes(other.image, other.stars, registration.second, fwhm)
        good = (one > 0) & (two > 0)
        if good.sum() >= 3:
            return float(np.median(one[good] / two[good]))
    return mine / theirs if mine and theirs else None


def _keep_stamps(result, name, own, truth, mask, marked):
    """Keep stamps of the worst of each kind."""
    planes = own.image / own.noise, mask, truth.others / own.noise
    for kind, found in (("missed", marked.missed), ("false", marked.false)):
        for peak, row, column in sorted(found, reverse=True)[:MOST_STAMPS]:
            title = f"{kind}: {own.name} {name} x {column + 1}, y {row + 1}, S/N {peak:.0f}"
            result.stamps[kind].append((peak, title, *(cut_stamp(plane, row, column) for plane in planes)))
        result.stamps[kind] = sorted(result.stamps[kind], key=lambda stamp: -stamp[0])[:MOST_STAMPS]


def total(results):
    """Return the grade of all exposures together.

    Parameters
    ----------
    results : list of `Graded`

    Returns
    -------
    `crattn_stage.quality.grading.Grade`
    """
    return sum((result.grade for result in results), Grade())


def figures(grade):
    """Return the figures of a grade as a table of texts.

    Parameters
    ----------
    grade : `crattn_stage.quality.grading.Grade`

    Returns
    -------
    list of (str, str)
        What, and the figure with its 95% interval.
    """

    def fraction(kind):
        value, low, high = grade.completeness(kind)
        return "-" if value is None else f"{value:.1%} of {getattr(grade, kind):.0f} ({low:.1%} to {high:.1%})"

    rate, low, high = grade.false_rate
    return [
        ("hits found, S/N 5 to 10", fraction("faint")),
        ("hits found, S/N above 10", fraction("bright")),
        ("their pixels above 5 sigma masked", fraction("pixels")),
        ("false objects per million pixels", "-" if rate is None else f"{rate:.1f} ({low:.1f} to {high:.1f})"),
        ("objects masked", str(grade.objects)),
        ("  hits", str(grade.hit)),
        ("  false: the sky has it, or nothing there", str(grade.false)),
        ("  bad pixels of the detector", str(grade.fixed)),
        ("  cannot be judged", str(grade.unjudged)),
        ("pixels judged", f"{grade.judged / 1e6:.2f} million of {grade.searched / 1e6:.2f}"),
    ]


def as_json(results, made_by):
    """Return grades as a dict that JSON can hold.

    Parameters
    ----------
    results : list of `Graded`
    made_by : dict
        What made the masks.

    Returns
    -------
    dict
    """

    def one(grade):
        found = asdict(grade)
        for kind in ("faint", "bright", "pixels"):
            found[f"{kind}_completeness"], *found[f"{kind}_interval"] = grade.completeness(kind)
        found["false_per_megapixel"], *found["false_interval"] = grade.false_rate
        return found

    frames = [
        {"path": r.path, "failure": r.failure, "notes": r.notes, "warnings": r.warnings, "fwhm": r.fwhm, **one(r.grade)}
        for r in results
    ]
    return {"version": __version__, "masks": made_by, "total": one(total(results)), "frames": frames}


def page(results, name):
    """Return grades as one HTML page that needs no other file.

    Parameters
    ----------
    results : list of `Graded`
    name : str
        Of what made the masks.

    Returns
    -------
    str
    """
    pictures = []
    for result in results:
        for stamps in result.stamps.values():
            for _, title, image, mask, others in stamps:
                picture = drawn([[(title, image, None), (name, image, mask), ("the others", others, None)]])
                pictures.append((title, Markup(base64.b64encode(picture).decode())))
    template = templates("crattn_stage.quality").get_template("grade.html")
    return template.render(
        name=name,
        results=[(r, figures(r.grade)) for r in results],
        total=figures(total(results)),
        pictures=pictures,
        version=__version__,
    )
