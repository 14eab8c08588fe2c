"""Reprocessing: what is due, and how one run of it is done, here or on any worker."""

import errno
import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from billiard.exceptions import SoftTimeLimitExceeded

from calibration_dbs import records, registry
from calibration_dbs.records import UNREACHABLE, Transient
from crattn_stage import __version__
from crattn_stage.errors import CrattnError, FrameError, ModelError
from crattn_stage.fits.atomic import clear_parts, sha256
from crattn_stage.fits.names import output_path
from crattn_stage.models.baselines import BASELINES
from crattn_stage.models.cards import WEIGHTS, find, read_card
from crattn_stage.nights.find import FrameInfo
from crattn_stage.nights.isolation import mask_in_subprocess
from crattn_stage.process import Outcome, mask_file

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
class PlannedRun:
    """What is to become of a frame, and why.

    Attributes
    ----------
    frame : `crattn_stage.nights.find.FrameInfo`
    due : bool
    reason : str
    target : `pathlib.Path`
    model : dict or None
        ``name``, ``architecture``, ``sha256`` and ``path``; None for a frame that is not looked at.
    threshold : float or None
    """

    frame: FrameInfo
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
        As for `crattn_stage.models.cards.find`.

    Returns
    -------
    dict
        ``name``, ``architecture``, ``sha256`` and ``path``.

    Raises
    ------
    ModelError
        If the model is unknown or its card is no card.
    """
    card = read_card(model)
    if model in BASELINES:
        place = model
    else:
        path = find(model)
        place = path.stem if path.parent == WEIGHTS else os.path.abspath(path)
    return {"name": card.name, "architecture": card.architecture, "sha256": card.sha256, "path": place}


def plan(database, frame, model=None, threshold=None, root=None, output_root=None, force=False):
    """Decide what is to become of a frame.

    It is due unless the same input, model, threshold and major version of
    this software have already succeeded and their output is as recorded.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    frame : `crattn_stage.nights.find.FrameInfo`
    model : str or path-like, optional
        As for `crattn_stage.models.cards.find`; the registered one without it, or else the shipped default.
    threshold : float, optional
        Probability; the model card's without it.
    root, output_root : path-like, optional
        The output lies under `output_root` as the frame does under `root`; beside the frame without it.
    force : bool
        Every frame of the sky is due.

    Returns
    -------
    `PlannedRun`

    Raises
    ------
    FrameError
        If the output would replace the frame.
    ModelError
        If there is no such model, the registered one is not where it was, or
        the shipped default was retired as bad.
    """
    folder = None
    if output_root is not None:
        folder = Path(os.path.abspath(output_root)) / frame.path.parent.relative_to(os.path.abspath(root))
    step = PlannedRun(frame, True, "new", output_path(frame.path, folder))
    if os.path.realpath(step.target) == os.path.realpath(frame.path):
        raise FrameError(f"{frame.path}: its output would replace it")
    if frame.calibration_type:
        step.due, step.reason = False, f"{frame.calibration_type} frame"
        return step
    step.model = describe_model(model) if model else _chosen(database, frame)
    step.threshold = read_card(step.model["path"]).threshold if threshold is None else threshold
    if frame.error:
        step.reason = f"unreadable: {frame.error}"
    elif force:
        step.reason = "forced"
    else:
        try:
            step.due, step.reason = _due(database, step)
        except FrameError as error:
            step.reason = f"unreadable: {error}"
    return step


def _chosen(database, frame):
    row = registry.choose(database, (frame.instrument, frame.camera), frame.night)
    if row is None:
        model = describe_model()
        if registry.is_bad(database, model["sha256"]):
            raise ModelError(f"the shipped default, {model['name']}, was retired as bad; register another model")
        return model
    model = describe_model(row.path or row.name)
    if model["sha256"] != row.sha256:
        raise ModelError(f"{row.path or row.name}: has another sha256 than when it was registered")
    return model


def _due(database, step):
    path, target = str(step.frame.path), str(step.target)
    done = records.succeeded(database, path, step.model["sha256"], step.threshold, target)
    if not done:
        return True, _difference(records.last_run(database, path), step)
    digest = sha256(path)
    same = [run for run in done if run.input_sha256 == digest]
    if not same:
        return True, "the frame has changed"
    if not any(_major(run.version) == _major(__version__) for run in same):
        return True, f"masked by version {same[0].version}"
    if not any(_as_recorded(run) for run in same):
        return True, "its output is not as it was written"
    return False, f"done {same[0].finished:%Y-%m-%d %H:%M}"


def _major(version):
    return version.split(".")[0]


def _difference(last, step):
    if last is None:
        return "new"
    if last.status in records.OPEN:
        return "not finished"
    if last.status == "failed":
        return f"failed before: {last.error}"
    if last.model.sha256 != step.model["sha256"]:
        return f"masked by {last.model.name} {last.model.sha256[:8]}"
    return "another threshold" if last.threshold != step.threshold else "another output"


def _as_recorded(run):
    try:
        return bool(run.outputs) and all(sha256(path) == digest for path, digest in run.outputs.items())
    except FrameError:
        return False


def submit(database, steps, night, engine="auto", **options):
    """Queue the steps that are due.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    steps : iterable of `PlannedRun`
    night : str
        YYYYMMDD.
    engine : str
        As for `crattn_stage.load_model`.
    **options
        Of `crattn_stage.process.mask_file`.

    Returns
    -------
    dict of int to `PlannedRun`
        By the number of the run.
    """
    runs, batch = {}, None
    for step in steps:
        frame = step.frame
        if not step.due:
            # What another model was asked for, and did not come to, is off.
            records.supersede(database, str(frame.path), str(step.target))
        else:
            batch = batch or records.open_batch(database, night)
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
                options={**options, "model": step.model["path"], "force": step.reason == "forced"},
            )
            runs[run] = step
    return runs


def execute(database, run_id, threads=None, path=None):
    """Do a queued run: mask its frame, and record that.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    run_id : int
    threads : int, optional
        CPU threads of the network.
    path : str, optional
        Of the frame, to make sure that the run is of this database.

    Returns
    -------
    `crattn_stage.process.Outcome`

    Raises
    ------
    calibration_dbs.records.Locked
        If another worker has the frame.
    calibration_dbs.records.Over, calibration_dbs.records.UnknownRun
        If the run is over, or not of this database.
    calibration_dbs.records.Transient
        If the disk is full and the like: the run is queued again.
    CrattnError
        If the frame cannot be masked.  That is recorded.
    sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError
        If the database cannot be reached: the run stays as it was.
    """
    with records.claimed(database, run_id, path=path) as job:
        try:
            return _execute(database, job, threads)
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


def _execute(database, job, threads):
    target, options = Path(job.target), dict(job.options)
    force, _ = options.pop("force", False), options.pop("model", None)
    # Nobody else writes them now.
    for output in {target, target.with_name(target.name.replace("_ooi_", "_ood_"))}:
        clear_parts(output)
    if not force and _already_done(database, job):
        job.record.status = "superseded"
        return Outcome("already done")
    if job.losses >= MOST_LOSSES:
        raise FrameError(f"set aside: {job.losses} workers did not come back from it")
    target.parent.mkdir(parents=True, exist_ok=True)
    context = {"model": job.model, "threshold": job.threshold, "engine": job.engine, "threads": threads}
    # What a run of ours has written may be replaced by one of ours; what anyone has touched since may not.
    options["known"] = records.known_digests(database, job.target)
    options["ready"] = partial(records.begin_output, database, job)
    if job.losses >= LOSSES:
        try:
            return mask_in_subprocess(job.path, job.target, context, job.sha256, job.record, **options)
        except FrameError as error:
            raise FrameError(f"set aside after {job.losses} lost workers: {error}") from error
    return mask_file(job.path, target, stage_of(job.sha256, **context), job.record, **options)


def _already_done(database, job):
    """Say whether another run has done the same since this one was asked for."""
    done = records.succeeded(database, job.path, job.sha256, job.threshold, job.target)
    return any(
        run.id > job.run_id
        and run.input_sha256 == sha256(job.path)
        and _major(run.version) == _major(__version__)
        and _as_recorded(run)
        for run in done
    )


@lru_cache(2)
def stage_of(digest, **context):
    """Return the stage of a model, loaded once per process: that costs more than a small frame.

    Parameters
    ----------
    digest : str
        Sha256 of the model's weights.
    **context
        Of `crattn_stage.stage.RuntimeContext`.

    Returns
    -------
    `crattn_stage.stage.AttentionCRStage`

    Raises
    ------
    ModelError
        If the model cannot be loaded or is another one.
    """
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    stage = AttentionCRStage(RuntimeContext(**context))
    if stage.model.card.sha256 != digest:
        raise ModelError(f"{context['model']}: has another sha256 than the run was queued with")
    return stage
