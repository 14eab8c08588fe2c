"""Reprocessing: what is due, and how one run of it is done, here or on any worker."""

import errno
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from billiard.exceptions import SoftTimeLimitExceeded

from calibration_dbs import records, registry
from calibration_dbs.records import UNREACHABLE, Transient
from crattn_stage import __version__
from crattn_stage.atomic import clear_parts
from crattn_stage.errors import CrattnError, FrameError, ModelError
from crattn_stage.isolation import mask_apart
from crattn_stage.models import WEIGHTS, find, read_card
from crattn_stage.nights import Sighting
from crattn_stage.process import mask_file, output_path, sha256

#: After so many workers that did not come back, a frame is masked in a process of its own: is it to blame?
LOSSES = 2
#: After so many it is set aside in any case.
MOST_LOSSES = 25
#: What the operating system says of things that pass: a full disk, a file server that is away.
PASSING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN),
}


@dataclass
class Step:
    """What is to become of a frame, and why.

    Attributes
    ----------
    frame : `crattn_stage.nights.Sighting`
    due : bool
    reason : str
    target : `pathlib.Path`
    model : dict or None
        ``name``, ``architecture``, ``sha256`` and ``path``; None for a frame that is not looked at.
    threshold : float or None
    """

    frame: Sighting
    due: bool
    reason: str
    target: Path
    model: dict | None = None
    threshold: float | None = None


def describe_model(model=None):
    """Return what the database is told of a model.

    Parameters
    ----------
    model : str or path-like, optional
        As for `crattn_stage.models.find`.

    Returns
    -------
    dict
        ``name``, ``architecture``, ``sha256`` and ``path``.

    Raises
    ------
    ModelError
        If the model is unknown or its card is no card.
    """
    path, card = find(model), read_card(model)
    place = path.stem if path.parent == WEIGHTS else str(path.absolute())
    return {"name": card.name, "architecture": card.architecture, "sha256": card.sha256, "path": place}


def plan(database, frame, model=None, threshold=None, root=None, output_root=None, force=False):
    """Decide what is to become of a frame.

    It is due unless the same input, model, threshold and major version of
    this software have already succeeded and their output is as recorded.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    frame : `crattn_stage.nights.Sighting`
    model : str or path-like, optional
        As for `crattn_stage.models.find`; the registered one without it, or else the shipped default.
    threshold : float, optional
        Probability; the model card's without it.
    root, output_root : path-like, optional
        The output lies under `output_root` as the frame does under `root`; beside the frame without it.
    force : bool
        Every frame of the sky is due.

    Returns
    -------
    `Step`

    Raises
    ------
    ModelError
        If there is no such model, or the registered one is not where it was.
    """
    folder = (
        None
        if output_root is None
        else Path(output_root).absolute() / frame.path.parent.relative_to(Path(root).absolute())
    )
    step = Step(frame, True, "new", output_path(frame.path, folder))
    if frame.not_science:
        step.due, step.reason = False, f"{frame.not_science} frame"
        return step
    step.model = describe_model(model) if model else _chosen(database, frame)
    step.threshold = read_card(step.model["path"]).threshold if threshold is None else threshold
    if frame.error:
        step.reason = f"unreadable: {frame.error}"
    elif force:
        step.reason = "forced"
    else:
        step.due, step.reason = _due(database, step)
    return step


def _chosen(database, frame):
    row = registry.choose(database, (frame.instrument, frame.camera), frame.night)
    if row is None:
        return describe_model()
    model = describe_model(row.path or row.name)
    if model["sha256"] != row.sha256:
        raise ModelError(f"{row.path or row.name}: has another sha256 than when it was registered")
    return model


def _due(database, step):
    path, target = str(step.frame.path), str(step.target)
    done = records.succeeded(database, path, step.model["sha256"], step.threshold, target)
    if not done:
        return True, _difference(records.last_run(database, path), step)
    same = [run for run in done if run.input_sha256 == sha256(path)]
    if not same:
        return True, "the frame has changed"
    if not any(run.version.split(".")[0] == __version__.split(".")[0] for run in same):
        return True, f"masked by version {same[0].version}"
    if not any(_as_recorded(run.outputs, run.output_sha256) for run in same):
        return True, "its output is not as it was written"
    return False, f"done {same[0].finished:%Y-%m-%d %H:%M}"


def _difference(last, step):
    if last is None:
        return "new"
    if last.status in ("queued", "running"):
        return "not finished"
    if last.status == "failed":
        return f"failed before: {last.error}"
    if last.model.sha256 != step.model["sha256"]:
        return f"masked by {last.model.name} {last.model.sha256[:8]}"
    return "another threshold" if last.threshold != step.threshold else "another output"


def _as_recorded(outputs, digest):
    try:
        return bool(outputs) and sha256(*outputs) == digest
    except FrameError:
        return False


def submit(database, steps, night, engine="auto", **options):
    """Queue the steps that are due.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    steps : iterable of `Step`
    night : str
        YYYYMMDD.
    engine : str
        As for `crattn_stage.load_detector`.
    **options
        Of `crattn_stage.process.mask_file`.

    Returns
    -------
    batch : int
    runs : dict of int to `Step`
    """
    batch = records.open_batch(database, night)
    runs = {}
    for step in steps:
        if step.due:
            frame = step.frame
            columns = {
                "instrument": frame.instrument or None,
                "camera": frame.camera,
                "site": frame.site,
                "night": frame.night or night,
                "observation_type": frame.observation_type or None,
                "exposure_time": frame.exposure_time,
            }
            run = records.queue_run(
                database,
                str(frame.path),
                step.model,
                str(step.target),
                batch,
                columns,
                threshold=step.threshold,
                engine=engine,
                version=__version__,
                megapixels=frame.megapixels,
                options=options,
            )
            runs[run] = step
    return batch, runs


def perform(database, run_id, threads=None):
    """Do a queued run: mask its frame, and record that.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    run_id : int
    threads : int, optional
        CPU threads of the network.

    Returns
    -------
    `crattn_stage.process.Outcome`

    Raises
    ------
    calibration_dbs.records.Locked
        If another worker has the frame.
    calibration_dbs.records.Over
        If the run is over.
    calibration_dbs.records.Transient
        If the disk is full and the like: the run is queued again.
    CrattnError
        If the frame cannot be masked.  That is recorded.
    sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError
        If the database cannot be reached: the run stays as it was.
    """
    with records.claimed(database, run_id) as job:
        try:
            return _perform(database, job, threads)
        except SoftTimeLimitExceeded as error:
            raise FrameError("took longer than the time limit") from error
        except UNREACHABLE as error:
            raise Transient(f"the database: {error.orig}") from error
        except (CrattnError, OSError) as error:
            cause = error
            while cause is not None and getattr(cause, "errno", None) not in PASSING:
                cause = cause.__cause__
            if cause is None:
                raise
            raise Transient(str(error)) from error


def _perform(database, job, threads):
    target = Path(job.target)
    if job.losses:
        clear_parts(target)
    earlier = records.writers(database, job.target)
    # What a run of ours has written may be replaced by one of ours; what anyone has touched since may not.
    ours = any(digest is None or _as_recorded(outputs, digest) for outputs, digest in earlier)
    overwrite = ours or job.options.get("overwrite", False)
    if os.path.lexists(target) and not overwrite:
        raise FrameError(f"{target} exists and is not as this database knows it; --overwrite replaces it")
    if job.losses >= MOST_LOSSES:
        raise FrameError(f"set aside: {job.losses} workers did not come back from it")
    target.parent.mkdir(parents=True, exist_ok=True)
    records.begin_output(database, job)
    context = {"model": job.model, "threshold": job.threshold, "engine": job.engine, "threads": threads}
    options = {**job.options, "overwrite": overwrite}
    if job.losses >= LOSSES:
        try:
            return mask_apart(job.path, job.target, context, job.record, **options)
        except FrameError as error:
            raise FrameError(f"set aside after {job.losses} lost workers: {error}") from error
    return mask_file(job.path, target, _stage(job.sha256, **context), job.record, **options)


@cache
def _stage(digest, **context):
    # Once per process: loading costs more than a small frame.
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    stage = AttentionCRStage(RuntimeContext(**context))
    if stage.detector.card.sha256 != digest:
        raise ModelError(f"{context['model']}: has another sha256 than the run was queued with")
    return stage
