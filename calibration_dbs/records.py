"""Runs: queued, claimed by one worker at a time, finished once."""

import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
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
    """The run is over: there is nothing to do any more."""


class UnknownRun(Exception):
    """The database has no such run, or one of another frame."""


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
    """Return the row of a table with a key, made if need be.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`
    table : type
        Of `calibration_dbs.tables`.
    key : dict
        Unique columns.
    **values
        Further columns of a new row; one that is there stays as it is.

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
    with Session(database) as session, session.begin():
        row = get_or_add(session, Frame, {"path": path})
        # Whoever else asks for this frame waits here.
        session.refresh(row, with_for_update=True)
        for name, value in (frame or {}).items():
            setattr(row, name, value)
        model = _model(session, model)
        wanted = None
        for run in session.scalars(_open_runs_of(row.id, target).order_by(Run.id)):
            if wanted is None and (run.model_id, run.threshold) == (model.id, columns["threshold"]):
                wanted = run
            elif run.status == "queued" or _free(row):
                _supersede(run)
        # What was masked since with another model would be followed by an older run.
        newest = session.scalar(select(func.max(Run.id)).where(Run.frame_id == row.id))
        if wanted is not None and wanted.id != newest and (wanted.status == "queued" or _free(row)):
            _supersede(wanted)
            wanted = None
        if wanted is None:
            wanted = Run(frame=row, model=model, status="queued", target=target, attempts=0)
            session.add(wanted)
        if wanted.status == "queued":
            for name, value in columns.items():
                setattr(wanted, name, value)
        wanted.batch_id = batch
        session.flush()
        return wanted.id


def _model(session, model):
    return get_or_add(session, Model, {"sha256": model["sha256"]}, **{k: v for k, v in model.items() if k != "sha256"})


def _open_runs_of(frame_id, target):
    return select(Run).where(Run.frame_id == frame_id, Run.target == target, Run.status.in_(OPEN))


def _free(frame):
    # SQLite gives times without a zone; they are UTC as all of ours.
    until = frame.locked_until and frame.locked_until.replace(tzinfo=UTC)
    return frame.locked_by is None or until is None or until < datetime.now(UTC)


def _supersede(run):
    run.status, run.finished = "superseded", datetime.now(UTC)


def supersede(database, path, target):
    """Close what is still open for a frame that needs nothing any more.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    path, target : str
        Of the frame and of its output.
    """
    with Session(database) as session, session.begin():
        row = session.scalar(select(Frame).where(Frame.path == path).with_for_update())
        if row is not None and _free(row):
            for run in session.scalars(_open_runs_of(row.id, target)):
                _supersede(run)


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
    with Session(database) as session, session.begin():
        frame = get_or_add(session, Frame, {"path": str(path)})
        run = Run(frame=frame, model=_model(session, model), status="running", **settings)
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
def claimed(database, run_id, lease=None, path=None):
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
    path : str, optional
        Of the frame, to make sure that the run is of this database.

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
    UnknownRun
        If there is no such run.
    sqlalchemy.exc.SQLAlchemyError
        If the run cannot be recorded.
    """
    lease = LEASE if lease is None else lease
    job = _claim(database, run_id, lease, path)
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
            # What was said before it went wrong is not so.
            job.record.run = {k: v for k, v in job.record.run.items() if k in ("error", "input_sha256", "version")}
            job.record.amplifiers = []
        _patiently(_finish, database, job.run_id, job.record, job.owner)


def _claim(database, run_id, lease, path=None):
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    now = datetime.now(UTC)
    with Session(database) as session, session.begin():
        # The lock goes first: what is read after it is what its last holder left.
        lock = update(Frame).where(Frame.id == select(Run.frame_id).where(Run.id == run_id).scalar_subquery())
        free = or_(Frame.locked_by.is_(None), Frame.locked_until < now)
        taken = session.execute(lock.where(free).values(locked_by=owner, locked_until=now + timedelta(seconds=lease)))
        run = session.get(Run, run_id)
        if run is None or path not in (None, run.frame.path):
            raise UnknownRun(f"no run {run_id} of {path or 'a frame'} in this database; is it the sender's?")
        if run.status not in OPEN:
            raise Over(f"run {run_id} is over")
        if not taken.rowcount:
            raise Locked(f"{run.frame.path} is being masked by {run.frame.locked_by}")
        run.losses += run.status == "running"
        run.attempts += 1
        run.status, run.started, run.finished = "running", datetime.now(UTC), None
        # The wait for other writers is not of the lease.
        run.frame.locked_until = run.started + timedelta(seconds=lease)
        return Job(
            run_id,
            run.frame.path,
            run.target,
            (run.options or {}).get("model") or run.model.path or run.model.name,
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
                mine = update(Frame).where(Frame.path == job.path, Frame.locked_by == job.owner)
                if not session.execute(mine.values(locked_until=until)).rowcount:
                    # Taken over; `begin_output` will say so.
                    return
        except SQLAlchemyError:
            # It may be away from here alone, and the lease run out; before anything is written that is looked at.
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
            free = (
                update(Frame)
                .where(Frame.id == run.frame_id, Frame.locked_by == owner)
                .values(locked_by=None, locked_until=None)
            )
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
        run.amplifiers = []
        # Deletes go before inserts.
        session.flush()
        run.amplifiers = [Amplifier(**columns) for columns in record.amplifiers]


def begin_output(database, job, outputs):
    """Say that a job is about to put its files in their places, and make sure that it may.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    job : `Job`
    outputs : dict
        Path -> sha256 of each file.

    Raises
    ------
    Locked
        If another worker has been given the frame meanwhile.
    sqlalchemy.exc.SQLAlchemyError
        If that cannot be recorded.
    """
    with Session(database) as session, session.begin():
        run = session.get_one(Run, job.run_id)
        session.refresh(run.frame, with_for_update=True)
        if run.frame.locked_by != job.owner:
            raise Locked(f"{job.path} was taken over by another worker")
        run.outputs = outputs


def known_digests(database, target):
    """Return what our runs have written, or were about to write, for a target.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    target : str
        Absolute path.

    Returns
    -------
    set of tuple of str
        (path, sha256) of files.
    """
    query = select(Run.outputs).where(or_(Run.target == target, Run.output_path == target), Run.outputs.is_not(None))
    with Session(database) as session:
        return {item for outputs in session.scalars(query) for item in (outputs or {}).items()}


def give_up(database, run_id, reason, process=None):
    """Record a run as failed that no worker will try again.

    One that is over, or that another worker has, stays as it is.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    run_id : int
    reason : str
    process : int, optional
        Id of a process of this machine that had it and is gone.
    """
    with Session(database) as session, session.begin():
        run = session.get(Run, run_id)
        if run is None:
            return
        session.refresh(run.frame, with_for_update=True)
        gone = process is not None and str(run.frame.locked_by).startswith(f"{socket.gethostname()}:{process}:")
        if run.status in OPEN and (gone or _free(run.frame)):
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


def any_held(database, runs):
    """Return whether a live worker has the frame of any of some runs.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : collection of int

    Returns
    -------
    bool
    """
    held = (
        select(Run.id).join(Run.frame).where(_among(runs), Run.status.in_(OPEN), Frame.locked_until > datetime.now(UTC))
    )
    with Session(database) as session:
        return any(run in runs for run in session.scalars(held))


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
    if not runs:
        return []
    query = select(Run).where(_among(runs), Run.status.not_in(OPEN)).order_by(Run.finished, Run.id)
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
