"""What is out of date, and why; and the runs that are queued for it."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path

from sqlalchemy.exc import DBAPIError, OperationalError
from tqdm import tqdm

from calibration_dbs import provenance, registry, runs
from calibration_dbs.tables import LONGEST_PATH, is_utf8
from crattn_stage import __version__
from crattn_stage.cameras.facts import calibration_frame
from crattn_stage.errors import FrameError, ModelError, one_line
from crattn_stage.fits.atomic import sha256
from crattn_stage.fits.names import output_path
from crattn_stage.models.baselines import BASELINES
from crattn_stage.models.cards import WEIGHTS, find, read_card
from crattn_stage.nights.headers import FrameInfo
from crattn_stage.processors import available_cpus
from crattn_stage.products.protect import read_areas
from crattn_stage.products.settings import DEFAULT, difference


@dataclass
class PlannedRun:
    """What will be done with a frame, and why.

    Attributes
    ----------
    frame : `crattn_stage.nights.headers.FrameInfo`
    out_of_date : bool
    reason : str
    target : `pathlib.Path`
    model : dict or None
        ``name``, ``architecture``, ``sha256`` and ``path``; None for a calibration frame.
    threshold : float or None
    settings : dict
        What the database keeps of the others, `crattn_stage.products.settings.MaskSettings.recorded`.
    error : str
        Why the frame can be neither masked nor recorded; "" if it can.
    forced : bool
        Masked even if the same has been done by the time it is its turn.
    """

    frame: FrameInfo
    out_of_date: bool
    reason: str
    target: Path
    model: dict | None = None
    threshold: float | None = None
    settings: dict = field(default_factory=dict)
    error: str = ""
    forced: bool = False


def describe_model(model=None):
    """Return what the database stores of a model.

    Parameters
    ----------
    model : str or path-like, optional
        As for `crattn_stage.models.cards.read_card`.

    Returns
    -------
    dict
        ``name``, ``architecture``, ``sha256`` and ``path``, which is the name of a shipped model or a baseline.

    Raises
    ------
    ModelError
        If the model is unknown or its card is malformed.
    """
    card = read_card(model)
    place = card.name
    if card.architecture not in BASELINES:
        path = find(model)
        place = path.stem if path.parent == WEIGHTS else os.path.abspath(path)
    return {"name": card.name, "architecture": card.architecture, "sha256": card.sha256, "path": place}


def plan(database, frames, model=None, threshold=None, root=None, output_root=None, force=False, masks=DEFAULT):
    """Decide which frames are out of date.

    A frame is out of date unless the same input (image and companion mask),
    model, threshold, settings and major version of this software have already
    succeeded, with the products that are asked for, and their output is as recorded.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    frames : list of `crattn_stage.nights.headers.FrameInfo`
    model : str or path-like, optional
        As for `crattn_stage.models.cards.find`; by default the one registered
        for the frame, or else the shipped default.
    threshold : float, optional
        Probability; by default the camera profile's, or else the model card's.
    root, output_root : path-like, optional
        The output lies under `output_root` as the frame does under `root`; by default beside the frame.
    force : bool
        Every frame of the sky is out of date.
    masks : `crattn_stage.products.settings.MaskSettings`

    Returns
    -------
    list of `PlannedRun`
        In the order of `frames`.

    Raises
    ------
    ModelError
        If there is no such model, a registered one is not where it was, or
        the shipped default was retired as bad.
    FrameError
        If a file of areas to protect cannot be read.
    """
    for path in masks.protect:
        # Errors in them come before the first frame.
        read_areas(path)
    if model:
        chosen = describe_model(model)
        model_for = lambda *_: chosen  # noqa: E731
    else:
        model_for = cache(partial(_registered, database))
    card_threshold = cache(lambda path: read_card(path).threshold)

    def plan_one(frame):
        folder, astray = None, ""
        if output_root is not None and frame.path.is_relative_to(os.path.abspath(root)):
            folder = Path(os.path.abspath(output_root)) / frame.path.parent.relative_to(os.path.abspath(root))
        elif output_root is not None:
            astray = f"lies outside {root}, so that it has no place under {output_root}; give another --root"
        planned = PlannedRun(frame, True, "new", output_path(frame.path, folder))
        planned.error = astray or _obstacle(planned)
        if planned.error or (frame.calibration_type and not (masks.arcs and frame.is_arc)):
            planned.out_of_date, planned.reason = False, calibration_frame(frame.calibration_type)
            return planned
        columns = frame.columns
        planned.model = model_for(columns.get("instrument"), columns.get("camera"), columns.get("night"), frame.model)
        planned.threshold = frame.threshold if threshold is None else threshold
        if planned.threshold is None:
            planned.threshold = card_threshold(planned.model["path"])
        try:
            planned.settings = masks.recorded(frame.mask_settings)
            if frame.error:
                planned.reason = f"unreadable: {frame.error}"
            elif force:
                planned.reason, planned.forced = "forced", True
            else:
                planned.out_of_date, planned.reason = _compare(database, planned)
        except FrameError as error:
            planned.reason = f"unreadable: {error}"
        return planned

    with ThreadPoolExecutor(min(8, available_cpus())) as pool:
        # Their time goes into checksums, which threads share.
        steps = pool.map(plan_one, frames)
        return list(tqdm(steps, "planning", len(frames), unit="frame", disable=None, leave=False))


def _obstacle(planned):
    for path in (planned.frame.path, planned.target):
        if not is_utf8(path):
            return "file name is not valid UTF-8; rename it"
        length = len(os.fsencode(path))
        if length > LONGEST_PATH:
            return f"its path has {length} bytes; the database takes {LONGEST_PATH}"
    if os.path.realpath(planned.target) == os.path.realpath(planned.frame.path):
        return "its output would overwrite the input; give another --output-root"
    return ""


def _registered(database, instrument, camera, night, own):
    """Return the model registered for a frame, else that of its camera's profile, else the shipped default."""
    row = registry.registered_model(database, (instrument, camera), night)
    if row is None:
        model = describe_model(own)
        if registry.is_bad(database, model["sha256"]):
            which = "the model of its camera profile" if own else "the shipped default"
            raise ModelError(f"{which}, {model['name']}, was retired as bad; register another model")
        return model
    model = describe_model(row.path or row.name)
    if model["sha256"] != row.sha256:
        raise ModelError(f"{row.path or row.name}: has another sha256 than when it was registered")
    return model


def _compare(database, planned):
    path, target = str(planned.frame.path), str(planned.target)
    done = provenance.succeeded(database, path, planned.model["sha256"], planned.threshold, target)
    if not done:
        return True, _difference(provenance.last_run(database, path), planned)
    why = what_changed(planned.frame.inputs, done, planned.settings)
    return (True, why) if why else (False, f"done {done[0].finished:%Y-%m-%d %H:%M}")


def what_changed(inputs, done, settings):
    """Return why the runs that masked a frame do not count any more.

    Parameters
    ----------
    inputs : list of path-like
        The frame and its companion mask file, where it has one.
    done : list of `calibration_dbs.tables.Run`
        As from `calibration_dbs.provenance.succeeded`, at least one.
    settings : dict
        That are wanted, `crattn_stage.products.settings.MaskSettings.recorded`.

    Returns
    -------
    str
        "" if one of them counts.

    Raises
    ------
    FrameError
        If the frame cannot be read.
    """
    digest = sha256(*inputs)
    same = [run for run in done if run.input_sha256 == digest]
    if not same:
        return "the frame has changed" if len(inputs) == 1 else "the frame or its mask file has changed"
    alike = [run for run in same if not difference(settings, run.settings)]
    if not alike:
        return difference(settings, same[0].settings)
    if not any(_major(run.version) == _major(__version__) for run in alike):
        return f"masked by version {alike[0].version}"
    if not any(_is_as_recorded(run) for run in alike):
        return "its output is not as it was written"
    return ""


def _major(version):
    return version.split(".")[0]


def _difference(last, planned):
    if last is None:
        return "new"
    if last.status in provenance.OPEN:
        return "not finished"
    if last.status == "failed":
        return f"failed before: {last.error}"
    if last.status == "skipped":
        return "skipped before"
    if last.model.sha256 != planned.model["sha256"]:
        return f"masked by {last.model.name} {last.model.sha256[:8]}"
    return "another threshold" if last.threshold != planned.threshold else "another output"


def _is_as_recorded(run):
    try:
        return bool(run.outputs) and all(sha256(path) == digest for path, digest in run.outputs.items())
    except FrameError:
        return False


def submit(database, steps, night, engine="auto", priority=0, masks=DEFAULT, **options):
    """Queue the runs of frames that are out of date.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    steps : list of `PlannedRun`
        Their `error` is set where the database does not take a frame.
    night : str
        YYYYMMDD, of frames whose own is unknown.
    engine : str
        As for `crattn_stage.load_model`.
    priority : int
        0 to 9; runs of a higher one go first.
    masks : `crattn_stage.products.settings.MaskSettings`
        As for `plan`.
    **options
        Of `crattn_stage.process.mask_file`.

    Returns
    -------
    dict of int to `PlannedRun`
        By the number of the run.
    """
    # A run of another model, queued for a frame that turned out to be up to date, is not needed any more.
    settled = [(str(s.frame.path), str(s.target)) for s in steps if not (s.out_of_date or s.error)]
    runs.supersede(database, settled)
    wanted = [step for step in steps if step.out_of_date]
    options["masks"] = asdict(masks)
    request = partial(_request, night=night, engine=engine, priority=priority, options=options)
    return dict(_queued(database, wanted, night, request))


def _queued(database, steps, night, request):
    """Yield (number of the run, step); a frame that the database refuses costs no other frame its run."""
    try:
        numbers = runs.queue_runs(database, [request(step) for step in steps], night)
        yield from zip(numbers, steps, strict=True)
    except OperationalError:
        raise
    except (DBAPIError, ValueError) as error:
        if len(steps) == 1:
            steps[0].error = f"the database refuses it: {one_line(error)}"
            return
        middle = len(steps) // 2
        for half in (steps[:middle], steps[middle:]):
            yield from _queued(database, half, night, request)


def _request(step, night, engine, priority, options):
    frame = step.frame
    inputs = [str(path) for path in frame.inputs]
    options = {**options, "model": step.model["path"], "force": step.forced, "inputs": inputs}
    if frame.is_hostile:
        options["refused"] = frame.error
    return runs.Request(
        str(frame.path),
        str(step.target),
        step.model,
        {
            "threshold": step.threshold,
            "settings": step.settings,
            "engine": engine,
            "priority": priority,
            "version": __version__,
            "megapixels": frame.megapixels,
            "options": options,
        },
        {**frame.columns, "night": frame.night or night},
    )
