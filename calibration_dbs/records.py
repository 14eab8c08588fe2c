"""Runs: queued, claimed by one worker at a time, finished once."""

import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.orm import Session, joinedload

from calibration_dbs.tables import Amplifier, Batch, Frame, Model, Run

#: Seconds without a sign of life after which a worker is taken for dead.
LEASE = float(os.environ.get("CRATTN_LEASE", 60))
#: The states of a run that is not over.
OPEN = ("queued", "running")
#: What a database says that is away, or has no room.
UNREACHABLE = (OperationalError, InterfaceError)
#: Seconds between tries to write a result that the database would not take.
PATIENCE = (1, 2, 4, 8, 16, 32)


class Locked(Exception):
    """Another worker has the frame."""


class Over(Exception):
    """The run is over: it has succeeded, failed or been skipped."""


class Transient(Exception):
    """A failure that may pass: the run is queued again."""


@dataclass
class Record:
    """What a run has to say of itself; filled while it goes on.

    Attributes
    ----------
    status : str
        "succeeded" unless something else is said.
    frame, run : dict
        Columns of `calibration_dbs.tables.Frame` and `calibration_dbs.tables.Run`.
    amplifiers : list of dict
        Columns of `calibration_dbs.tables.Amplifier`.
    """

    status: str = "succeeded"
    frame: dict = field(default_factory=dict)
    run: dict = field(default_factory=dict)
    amplifiers: list = field(default_factory=list)


def get_or_add(session, table, key, **values):
    """Return the row of a table with a key, made if need be, and its columns brought up to date.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`
    table : type
        Of `calibration_dbs.tables`.
    key : dict
        Unique columns.
    **values
        Further columns.

    Returns
    -------
    object
        Of the type `table`.
    """
    query = select(table).filter_by(**key)
    found = session.scalar(query)
    if found is None:
        try:
            with session.begin_nested():
                found = table(**key, **values)
                session.add(found)
        except IntegrityError:
            # Another process was first.
            found = session.scalars(query).one()
    for name, value in values.items():
        setattr(found, name, value)
    session.flush()
    return found


def open_batch(database, night):
    """Record a new batch of runs.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    night : str
        YYYYMMDD.

    Returns
    -------
    int
        Its number.
    """
    with Session(database) as session, session.begin():
        batch = Batch(night=night)
        session.add(batch)
        session.flush()
        return batch.id


def queue_run(database, path, model, target, batch=None, frame=None, **columns):
    """Ask for a frame to be masked.

    A run of the same frame, model, threshold and target that is still queued,
    or whose worker has died, is taken up again instead of a new one.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    path : str
        Of the frame.
    model : dict
        ``name``, ``architecture``, ``sha256`` and ``path``.
    target : str
        Path of what is to be written.
    batch : int, optional
        From `open_batch`.
    frame : dict, optional
        Columns of the frame.
    **columns
        Of the run: ``threshold``, ``engine``, ``version``, ``options`` and others.

    Returns
    -------
    int
        The number of the run.
    """
    model = dict(model)
    key = {"sha256": model.pop("sha256")}
    with Session(database) as session, session.begin():
        frame = get_or_add(session, Frame, {"path": path}, **(frame or {}))
        model = get_or_add(session, Model, key, **model)
        run = session.scalar(
            select(Run)
            .where(
                Run.frame_id == frame.id,
                Run.model_id == model.id,
                Run.target == target,
                Run.threshold == columns["threshold"],
                Run.status.in_(OPEN),
            )
            .limit(1)
        )
        if run is None:
            run = Run(frame=frame, model=model, status="queued", target=target, attempts=0)
            session.add(run)
        for name, value in {"batch_id": batch, **columns}.items():
            setattr(run, name, value)
        session.flush()
        return run.id


@contextmanager
def recorded_run(database, path, model, **settings):
    """Record a run from start to end, whatever happens to it.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    path : path-like
        Of the frame.
    model : dict
        ``name``, ``architecture`` and ``sha256``.
    **settings
        ``threshold`` (float, a probability), ``engine`` and ``version`` (str).

    Yields
    ------
    `Record`
        To be filled.  An exception is recorded as a failure and goes on its way.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If the run cannot be recorded.
    """
    model = dict(model)
    key = {"sha256": model.pop("sha256")}
    with Session(database) as session, session.begin():
        frame = get_or_add(session, Frame, {"path": str(path)})
        run = Run(frame=frame, model=get_or_add(session, Model, key, **model), status="running", **settings)
        session.add(run)
        session.flush()
        identity = run.id
    record = Record()
    try:
        yield record
    except BaseException as error:
        _fail(record, error)
        raise
    finally:
        _finish(database, identity, record)


@dataclass
class Job:
    """A claimed run: what is to be done, and what has come of it.

    Attributes
    ----------
    run_id : int
    path, target : str
    model : str
        A shipped name or the path of the weights file.
    sha256 : str
        Of the weights.
    threshold : float
    engine : str
    options : dict
    losses : int
        How many workers did not come back from it.
    owner : str
        Of the lock.
    record : `Record`
    """

    run_id: int
    path: str
    target: str
    model: str
    sha256: str
    threshold: float
    engine: str
    options: dict
    losses: int
    owner: str
    record: Record = field(default_factory=Record)


@contextmanager
def claimed(database, run_id, lease=None):
    """Claim a queued run and record what becomes of it.

    The frame is locked; the lock expires if its holder gives no sign of life
    for the time of the lease.  A run that another worker has begun and not
    finished is taken over, and counted as a loss.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    run_id : int
        From `queue_run`.
    lease : float, optional
        Seconds; `LEASE` without it.

    Yields
    ------
    `Job`
        `Transient`, and what is not an `Exception` (an interruption), queue
        the run again; another exception is recorded as a failure.  All go on
        their way.

    Raises
    ------
    Locked
        If another worker has the frame, or has taken it over meanwhile.
    Over
        If there is nothing to do any more.
    sqlalchemy.exc.SQLAlchemyError
        If the run cannot be recorded.
    """
    lease = LEASE if lease is None else lease
    job = _claim(database, run_id, lease)
    alive = threading.Event()
    beat = threading.Thread(target=_stay_alive, args=(database, job, lease, alive), daemon=True)
    beat.start()
    try:
        yield job
    except Transient as error:
        job.record.status, job.record.run["error"] = "queued", str(error)
        raise
    except Exception as error:
        _fail(job.record, error)
        raise
    except BaseException:
        # Interrupted, or told to stop.
        job.record.status = "queued"
        raise
    finally:
        alive.set()
        beat.join()
        if job.record.status != "succeeded":
            # Nothing was written: writing is all or nothing.
            job.record.run["output_path"] = None
        _patiently(_finish, database, job.run_id, job.record, job.owner)


def _claim(database, run_id, lease):
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    now = datetime.now(UTC)
    with Session(database) as session, session.begin():
        # The lock goes first: what is read after it is what its last holder left.
        lock = update(Frame).where(Frame.id == select(Run.frame_id).where(Run.id == run_id).scalar_subquery())
        free = or_(Frame.locked_by.is_(None), Frame.locked_until < now)
        taken = session.execute(lock.where(free).values(locked_by=owner, locked_until=now + timedelta(seconds=lease)))
        run = session.get(Run, run_id)
        if run is None or run.status not in OPEN:
            raise Over(f"run {run_id} is over")
        if not taken.rowcount:
            raise Locked(f"{run.frame.path} is being masked by {run.frame.locked_by}")
        run.losses += run.status == "running"
        run.attempts += 1
        run.status, run.started, run.finished = "running", now, None
        return Job(
            run_id,
            run.frame.path,
            run.target,
            run.model.path or run.model.name,
            run.model.sha256,
            run.threshold,
            run.engine,
            run.options or {},
            run.losses,
            owner,
        )


def _stay_alive(database, job, lease, over):
    while not over.wait(lease / 4):
        until = datetime.now(UTC) + timedelta(seconds=lease)
        try:
            with Session(database) as session, session.begin():
                session.execute(update(Frame).where(Frame.locked_by == job.owner).values(locked_until=until))
        except UNREACHABLE:
            # A database that is away has no one to give the frame to either.
            continue


def _patiently(action, *arguments):
    for seconds in PATIENCE:
        try:
            return action(*arguments)
        except UNREACHABLE:
            time.sleep(seconds)
    return action(*arguments)


def _fail(record, error):
    record.status = "failed"
    record.run["error"] = str(error) or type(error).__name__


def _finish(database, identity, record, owner=None):
    with Session(database) as session, session.begin():
        run = session.get_one(Run, identity)
        if owner is not None:
            free = update(Frame).where(Frame.locked_by == owner).values(locked_by=None, locked_until=None)
            if not session.execute(free).rowcount:
                # It gave no sign of life for so long that another worker was given the frame.
                raise Locked(f"{run.frame.path} was taken over by another worker")
        run.status = record.status
        run.finished = None if record.status == "queued" else datetime.now(UTC)
        if record.status == "succeeded":
            run.error = None
        for name, value in record.run.items():
            setattr(run, name, value)
        for name, value in record.frame.items():
            setattr(run.frame, name, value)
        run.amplifiers = [Amplifier(**columns) for columns in record.amplifiers]


def begin_output(database, job):
    """Say that a job is about to write its target, so that it can be known as ours whatever happens.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    job : `Job`

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If that cannot be recorded.
    """
    with Session(database) as session, session.begin():
        session.get_one(Run, job.run_id).output_path = job.target


def writers(database, target):
    """Return which runs have written a file, or may have, the last one first.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    target : str
        Absolute path.

    Returns
    -------
    list of tuple
        Files and their sha256 of each run; (None, None) of one that began and never came back.
    """
    query = select(Run.outputs, Run.output_sha256).where(Run.output_path == target).order_by(Run.id.desc())
    with Session(database) as session:
        return [tuple(row) for row in session.execute(query)]


def give_up(database, run_id, reason):
    """Record a run as failed that no worker will try again; one that is over stays as it is.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    run_id : int
    reason : str
    """
    with Session(database) as session, session.begin():
        run = session.get(Run, run_id)
        if run is not None and run.status in OPEN:
            run.status, run.error, run.finished = "failed", reason, datetime.now(UTC)
            run.frame.locked_by = run.frame.locked_until = None


def close_batch(database, run_id):
    """Close the batch of a run if no run of it is left to do.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    run_id : int

    Returns
    -------
    int or None
        The number of the batch, to the one caller that closed it.
    """
    with Session(database) as session, session.begin():
        batch = session.scalar(select(Run.batch_id).where(Run.id == run_id))
        left = select(Run.id).where(Run.batch_id == batch, Run.status.in_(OPEN)).limit(1)
        if batch is None or session.scalar(left) is not None:
            return None
        close = update(Batch).where(Batch.id == batch, Batch.finished.is_(None)).values(finished=datetime.now(UTC))
        return batch if session.execute(close).rowcount else None


def batch_runs(database, batch):
    """Return the numbers of the runs of a batch.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    batch : int

    Returns
    -------
    list of int
    """
    with Session(database) as session:
        return list(session.scalars(select(Run.id).where(Run.batch_id == batch).order_by(Run.id)))


def _among(runs):
    # A range, and the rest by hand: a night may have more runs than a statement may have parameters.
    return Run.id.between(min(runs), max(runs))


def open_runs(database, runs):
    """Return which of some runs are not over.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : collection of int

    Returns
    -------
    list of int
    """
    with Session(database) as session:
        found = session.scalars(select(Run.id).where(_among(runs), Run.status.in_(OPEN)).order_by(Run.id))
        return [run for run in found if run in runs]


def succeeded(database, path, sha256, threshold, target):
    """Return the runs that masked a frame with a model, a threshold and for a target, the last one first.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    path : str
        Absolute, of the frame.
    sha256 : str
        Of the model's weights.
    threshold : float
    target : str
        Absolute path of the output.

    Returns
    -------
    list of `calibration_dbs.tables.Run`
        Detached.
    """
    query = (
        select(Run)
        .join(Run.frame)
        .join(Run.model)
        .where(
            Frame.path == path,
            Model.sha256 == sha256,
            Run.threshold == threshold,
            Run.output_path == target,
            Run.status == "succeeded",
        )
        .order_by(Run.id.desc())
    )
    with Session(database, expire_on_commit=False) as session:
        return list(session.scalars(query))


def last_run(database, path):
    """Return the last run of a frame, with its model, or None.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    path : str
        Absolute, of the frame.

    Returns
    -------
    `calibration_dbs.tables.Run` or None
        Detached.
    """
    query = select(Run).join(Run.frame).where(Frame.path == path).order_by(Run.id.desc()).limit(1)
    with Session(database, expire_on_commit=False) as session:
        return session.scalar(query.options(joinedload(Run.model)))


def next_run(database, runs, leave=()):
    """Return the first of some runs that may be claimed.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : collection of int
    leave : collection of int
        Those to leave alone.

    Returns
    -------
    run : int or None
    left : bool
        Whether any of them is not over.
    """
    query = select(Run.id, Frame.locked_by, Frame.locked_until < datetime.now(UTC)).join(Run.frame)
    left = False
    with Session(database) as session:
        for run, locked, expired in session.execute(query.where(_among(runs), Run.status.in_(OPEN)).order_by(Run.id)):
            if run in runs:
                left = True
                if run not in leave and (locked is None or expired):
                    return run, True
    return None, left


def over_runs(database, runs):
    """Return which of some runs are over, with their frames and models, in the order they ended.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : collection of int

    Returns
    -------
    list of `calibration_dbs.tables.Run`
        Detached.
    """
    query = select(Run).where(_among(runs), Run.finished.is_not(None)).order_by(Run.finished, Run.id)
    with Session(database, expire_on_commit=False) as session:
        found = session.scalars(query.options(joinedload(Run.frame), joinedload(Run.model)))
        return [run for run in found if run.id in runs]


def release(database, process):
    """Free the frames of a process of this machine that is known to be dead, without waiting for its lease.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    process : int
        Its id.
    """
    owner = f"{socket.gethostname()}:{process}:"
    with Session(database) as session, session.begin():
        locked = Frame.locked_by.startswith(owner, autoescape=True)
        session.execute(update(Frame).where(locked).values(locked_by=None, locked_until=None))
