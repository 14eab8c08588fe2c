"""One queued run, done here or on any worker."""

import errno
from functools import partial
from pathlib import Path

from billiard.exceptions import SoftTimeLimitExceeded

from calibration_dbs import provenance, runs
from calibration_dbs.database import UNREACHABLE
from calibration_dbs.runs import Transient
from crattn_stage.errors import CrattnError, FrameError, one_line
from crattn_stage.nights.plan import what_changed
from crattn_stage.nights.separate_process import mask_in_subprocess
from crattn_stage.process import Outcome, mask_file, stage_of
from crattn_stage.products.settings import from_json

#: After this many lost workers a frame is masked in a process of its own, to learn whether it is to blame.
LOSSES = 2
#: After this many it is set aside in any case.
MOST_LOSSES = 25
#: Errors of the operating system that pass: a full disk, a file server that is away.
PASSING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN),
}


def execute(database, run_id, threads=None, path=None):
    """Do a queued run: mask its frame, and record the result.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    run_id : int
    threads : int, optional
        CPU threads of the network.
    path : str, optional
        Of the frame, to make sure that the run belongs to this database.

    Returns
    -------
    `crattn_stage.process.Outcome`

    Raises
    ------
    calibration_dbs.runs.Locked
        If another worker has the frame.
    calibration_dbs.runs.Over, calibration_dbs.runs.UnknownRun
        If the run is over, or not of this database.
    calibration_dbs.runs.Transient
        If the disk is full and the like: the run is queued again.
    CrattnError
        If the frame cannot be masked.  That is recorded.
    sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError
        If the database cannot be reached: the run stays as it was.
    """
    with runs.claimed(database, run_id, path=path) as job:
        try:
            return _execute(database, job, threads)
        except SoftTimeLimitExceeded as error:
            raise FrameError("took longer than the time limit") from error
        except UNREACHABLE as error:
            raise Transient(f"the database: {one_line(error)}") from error
        except (CrattnError, OSError) as error:
            cause = error
            while cause is not None and getattr(cause, "errno", None) not in PASSING:
                cause = cause.__cause__
            if cause is not None:
                raise Transient(one_line(error)) from error
            if isinstance(error, CrattnError):
                raise
            raise FrameError(f"{error.filename or job.target}: {error.strerror or one_line(error)}") from error


def _execute(database, job, threads):
    target, options = Path(job.target), dict(job.options)
    force, refused = options.pop("force", False), options.pop("refused", None)
    options.pop("model", None)
    masks = from_json(options.pop("masks", None))
    inputs = options.pop("inputs", None) or [job.path]
    if refused:
        raise FrameError(refused)
    if not force and _is_done(database, job, inputs):
        job.record.status = provenance.ALREADY_DONE
        return Outcome("already done")
    if job.losses >= MOST_LOSSES:
        raise FrameError(
            f"set aside: {job.losses} workers were lost while they masked it; run `crattn-stage run` on it alone to "
            "see why"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    context = {"model": job.model, "threshold": job.threshold, "engine": job.engine, "threads": threads, "masks": masks}
    # Overwrite only files whose checksum we recorded.
    options["known"] = provenance.known_digests(database, job.target)
    options["before_rename"] = partial(runs.begin_output, database, job)
    if job.losses >= LOSSES:
        try:
            return mask_in_subprocess(job.path, job.target, context, job.sha256, job.record, **options)
        except FrameError as error:
            raise FrameError(
                f"set aside after {job.losses} lost workers: {error}; run `crattn-stage run` on it alone to see why"
            ) from error
    return mask_file(job.path, target, stage_of(job.sha256, **context), job.record, **options)


def _is_done(database, job, inputs):
    """Tell whether the same has been done since the frame was found out of date."""
    done = provenance.succeeded(database, job.path, job.sha256, job.threshold, job.target)
    return bool(done) and not what_changed(inputs, done, job.settings)
