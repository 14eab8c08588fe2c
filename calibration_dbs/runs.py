"""The queue: runs that were asked for, each claimed by one worker at a time and finished once."""

import os
import socket
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from functools import cached_property

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import joinedload

from calibration_dbs.database import database_clock, database_time, patiently, reading, writing
from calibration_dbs.provenance import FRAMES, OPEN, PAGE, RUNS, Record, store
from calibration_dbs.registry import model_row
from calibration_dbs.tables import Batch, Frame, Model, Run, fitted

#: Seconds without a sign of life after which a worker is taken for dead.
LEASE = float(os.environ.get("CRATTN_LEASE", 60))
# Literal, since a database uses the index of open runs only where it sees that this is its condition.
_IS_OPEN = Run.status.in_(bindparam("open", OPEN, expanding=True, literal_execute=True))
#: What a run says that was superseded before it was done.
_REPLACED = "another command asked for this frame with another model, threshold, settings or output"


class Locked(Exception):
    """Another worker has the frame."""


class Over(Exception):
    """The run is over: there is nothing left to do."""


class UnknownRun(Exception):
    """The database has no such run, or it belongs to another frame."""


class Transient(Exception):
    """A failure that may pass: the run is queued again."""


class RunIds(frozenset):
    """Numbers of runs, as the functions of this module take them."""

    @cached_property
    def span(self):
        """The first and last number; an empty range for no runs."""
        return (min(self), max(self)) if self else (1, 0)


@dataclass
class Request:
    """A frame that is to be masked.

    Attributes
    ----------
    path, target : str
        Absolute, of the frame and of its output.
    model : dict
        ``name``, ``architecture``, ``sha256`` and ``path``.
    run : dict
        Columns of the run: ``threshold``, ``settings``, ``engine``, ``version``, ``options``, ``priority``
        and others.
    frame : dict
        Columns of the frame.  A night that the database knows is kept where this says None.
    """

    path: str
    target: str
    model: dict
    run: dict
    frame: dict = field(default_factory=dict)


def queue_runs(database, requests, night):
    """Ask for frames to be masked.

    An unfinished run of the same frame, model, threshold, settings and target,
    which another command asked for, is shared, with the higher priority of
    both; one of another model, threshold or settings is superseded, unless a
    worker has it.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    requests : list of `Request`
        Of different paths.
    night : str
        YYYYMMDD, of the batch that new runs belong to.

    Returns
    -------
    list of int
        The number of each request's run.
    """
    numbers, batch = [], None
    for start in range(0, len(requests), PAGE):
        page, closed = requests[start : start + PAGE], set()
        with writing(database) as session:
            models = {request.model["sha256"]: model_row(session, request.model) for request in page}
            frames = _locked_frames(session, page)
            open_runs, newest = _runs_of(session, [frame.id for frame in frames.values()])
            now = database_time(session)
            runs = []
            for request in page:
                frame, model = frames[request.path], models[request.model["sha256"]]
                known = {"night": frame.night} if request.frame.get("night") is None else {}
                for name, value in fitted(Frame, {**request.frame, **known}).items():
                    setattr(frame, name, value)
                mine = [run for run in open_runs.get(frame.id, ()) if run.target == request.target]
                wanted = _shared(mine, newest.get(frame.id), frame, model, request, now, closed)
                if wanted is None:
                    if batch is None:
                        batch = Batch(night=night, created=now)
                        session.add(batch)
                        session.flush()
                        batch = batch.id
                    wanted = Run(frame_id=frame.id, model_id=model.id, batch_id=batch, target=request.target)
                    wanted.status, wanted.attempts, wanted.started = "queued", 0, now
                    session.add(wanted)
                if wanted.status == "queued":
                    urgent = max(request.run.get("priority", 0), wanted.priority or 0)
                    for name, value in fitted(Run, {**request.run, "priority": urgent}).items():
                        setattr(wanted, name, value)
                runs.append(wanted)
            session.flush()
            numbers += [run.id for run in runs]
        close_batches(database, batches=closed)
    return numbers


def _locked_frames(session, requests):
    """Return {path: frame}, made where there was none; whoever else asks for them waits here."""
    paths = sorted(request.path for request in requests)
    insert = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert
    present = set(session.scalars(select(Frame.path).where(Frame.path.in_(paths))))
    missing = [{"path": path} for path in paths if path not in present]
    if missing:
        session.execute(insert(Frame).on_conflict_do_nothing(index_elements=["path"]), missing)
    query = select(Frame).where(Frame.path.in_(paths)).order_by(Frame.id).with_for_update()
    return {frame.path: frame for frame in session.scalars(query.execution_options(populate_existing=True))}


def _runs_of(session, frames):
    """Return the open runs of frames, {id: runs in order}, and their last runs, {id: number}."""
    of_frames, found = Run.frame_id.in_(frames), {}
    for run in session.scalars(select(Run).where(of_frames, Run.status.in_(OPEN)).order_by(Run.id)):
        found.setdefault(run.frame_id, []).append(run)
    newest = select(Run.frame_id, func.max(Run.id)).where(of_frames).group_by(Run.frame_id)
    return found, dict(session.execute(newest).all())


def _shared(runs, newest, frame, model, request, now, batches):
    """Return which of a frame's open runs does what is asked for, or None, and supersede the others."""
    wanted, free = None, _is_free(frame, now)
    asked = model.id, request.run["threshold"], request.run.get("settings") or {}
    for run in runs:
        if wanted is None and (run.model_id, run.threshold, run.settings or {}) == asked:
            wanted = run
        elif run.status == "queued" or free:
            _supersede(run, now, batches)
    if wanted is not None and wanted.id != newest and (wanted.status == "queued" or free):
        # The frame was since masked with another model: an older run must not follow a newer one.
        _supersede(wanted, now, batches)
        wanted = None
    return wanted


def _utc(time):
    # SQLite returns times without a zone; they are UTC as all of ours.
    return time and time.replace(tzinfo=time.tzinfo or UTC)


def _is_free(frame, now):
    return frame.locked_by is None or frame.locked_until is None or _utc(frame.locked_until) < now


def _supersede(run, now, batches):
    run.status, run.error, run.finished = "superseded", _REPLACED, now
    batches.add(run.batch_id)


def supersede(database, targets):
    """Close what is still open for frames that need nothing any more.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    targets : list of tuple of str
        (path of the frame, path of its output).
    """
    wanted, batches = set(targets), set()
    paths = sorted({path for path, _ in wanted})
    for start in range(0, len(paths), PAGE):
        page = paths[start : start + PAGE]
        # Mostly there is nothing to close; that is seen without a lock.
        is_open = select(Run.id).join(Run.frame).where(Frame.path.in_(page), Run.status.in_(OPEN)).limit(1)
        with reading(database) as session:
            if session.scalar(is_open) is None:
                continue
        with writing(database) as session:
            query = select(Frame).where(Frame.path.in_(page)).order_by(Frame.id).with_for_update()
            frames = {frame.id: frame for frame in session.scalars(query)}
            now = database_time(session)
            for frame_id, runs in _runs_of(session, list(frames))[0].items():
                for run in runs:
                    if (frames[frame_id].path, run.target) in wanted and _is_free(frames[frame_id], now):
                        _supersede(run, now, batches)
    close_batches(database, batches=batches)


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
    options, settings : dict
    losses, attempts : int
        How many workers were lost while they masked it, and how many began it.
    frame_id : int
    owner : str
        Of the lock.
    record : `calibration_dbs.provenance.Record`
    """

    run_id: int
    path: str
    target: str
    model: str
    sha256: str
    threshold: float
    engine: str
    options: dict
    settings: dict
    losses: int
    attempts: int
    frame_id: int
    owner: str
    record: Record = field(default_factory=Record)


@contextmanager
def claimed(database, run_id, lease=None, path=None):
    """Claim a queued run and record what becomes of it.

    The frame is locked; the lock expires if its holder gives no sign of life
    for the time of the lease, by the database's clock.  A run that another
    worker began and did not finish is taken over and counted as a loss.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    run_id : int
        From `queue_runs`.
    lease : float, optional
        Seconds; `LEASE` by default.
    path : str, optional
        Of the frame, to make sure that the run belongs to this database.

    Yields
    ------
    `Job`
        `Transient`, and exceptions that are no `Exception` (an interruption),
        queue the run again; others are recorded as a failure.  All are raised again.

    Raises
    ------
    Locked
        If another worker has the frame, or has taken it over meanwhile.
    Over
        If there is nothing left to do.
    UnknownRun
        If there is no such run.
    sqlalchemy.exc.SQLAlchemyError
        If the run cannot be recorded.
    """
    lease = LEASE if lease is None else lease
    job = _claim(database, run_id, lease, path)
    finished = threading.Event()
    beat = threading.Thread(target=_stay_alive, args=(database, job, lease, finished), daemon=True)
    beat.start()
    try:
        yield job
    except Transient as error:
        job.record.status, job.record.run["error"] = "queued", str(error)
        raise
    except Exception as error:
        job.record.fail(error)
        raise
    except BaseException:
        # Interrupted, or told to stop.
        job.record.status = "queued"
        raise
    finally:
        finished.set()
        beat.join()
        if job.record.status != "succeeded":
            # Discard results recorded before the failure.
            job.record.run = {k: v for k, v in job.record.run.items() if k in ("error", "input_sha256", "version")}
            job.record.amplifiers, job.record.hits = [], []
        patiently(_finish, database, job)


# Built once: what a statement costs here is mostly its making.
_FRAME = (
    select(FRAMES.c.id, FRAMES.c.path, FRAMES.c.locked_by, FRAMES.c.locked_until)
    .where(FRAMES.c.id == select(RUNS.c.frame_id).where(RUNS.c.id == bindparam("run_id")).scalar_subquery())
    .with_for_update()
)
_CLAIMED = (
    select(
        *(RUNS.c.status, RUNS.c.attempts, RUNS.c.losses, RUNS.c.target, RUNS.c.threshold, RUNS.c.engine),
        *(RUNS.c.options, RUNS.c.settings, Model.name, Model.path, Model.sha256),
    )
    .join(Model, Model.id == RUNS.c.model_id)
    .where(RUNS.c.id == bindparam("run_id"))
)
_RUN = update(RUNS).where(RUNS.c.id == bindparam("run_id"))
_LOCK = update(FRAMES).where(FRAMES.c.id == bindparam("frame"))
_OWN_LOCK = _LOCK.where(FRAMES.c.locked_by == bindparam("owner"))
_OWN_FRAME = select(FRAMES.c.id).where(FRAMES.c.id == bindparam("frame"), FRAMES.c.locked_by == bindparam("owner"))
_OWN_RUN = _RUN.where(RUNS.c.frame_id == _OWN_FRAME.with_for_update().scalar_subquery())


def _claim(database, run_id, lease, path=None):
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    with database.begin() as connection:
        # The lock goes first: what is read after it is what its last holder left.
        frame = connection.execute(_FRAME, {"run_id": run_id}).first()
        if frame is None or path not in (None, frame.path):
            raise UnknownRun(f"no run {run_id} of {path or 'a frame'} in this database; is it the sender's?")
        # Start the lease after the write lock is acquired.
        query = _CLAIMED.add_columns(database_clock(database).label("now"))
        run = connection.execute(query, {"run_id": run_id}).one()
        if run.status not in OPEN:
            raise Over(f"run {run_id} is over")
        now = _utc(run.now)
        if not _is_free(frame, now):
            raise Locked(f"{frame.path} is being masked by {frame.locked_by}")
        losses, attempts = run.losses + (run.status == "running"), run.attempts + 1
        lock = {"locked_by": owner, "locked_until": now + timedelta(seconds=lease)}
        connection.execute(_LOCK, {"frame": frame.id, **lock})
        begun = {"status": "running", "started": now, "finished": None, "losses": losses, "attempts": attempts}
        connection.execute(_RUN, {"run_id": run_id, **begun})
    options = run.options or {}
    model = options.get("model") or run.path or run.name
    what = run.sha256, run.threshold, run.engine, options, run.settings or {}
    return Job(run_id, frame.path, run.target, model, *what, losses, attempts, frame.id, owner)


def _stay_alive(database, job, lease, finished):
    while not finished.wait(lease / 4):
        try:
            with writing(database) as session:
                mine = {"frame": job.frame_id, "owner": job.owner}
                until = database_time(session) + timedelta(seconds=lease)
                if not session.execute(_OWN_LOCK, {**mine, "locked_until": until}).rowcount:
                    # Taken over; `begin_output` will say so.
                    return
        except SQLAlchemyError:
            # The database may be back before the lease expires.
            continue


def _finish(database, job):
    with database.begin() as connection:
        mine, frame = {"frame": job.frame_id, "owner": job.owner}, fitted(Frame, job.record.frame)
        unlocked = {**mine, **frame, "locked_by": None, "locked_until": None}
        if not connection.execute(_OWN_LOCK, unlocked).rowcount:
            # It gave no sign of life for so long that another worker was given the frame.
            raise Locked(f"{job.path} was taken over by another worker")
        store(connection, job.run_id, job.record, again=job.attempts > 1)


def begin_output(database, job, outputs):
    """Record that a job is about to rename its files into place, and make sure that it may.

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
        If it cannot be recorded.
    """
    with database.begin() as connection:
        own = {"run_id": job.run_id, "frame": job.frame_id, "owner": job.owner}
        if not connection.execute(_OWN_RUN, {**own, "outputs": outputs}).rowcount:
            raise Locked(f"{job.path} was taken over by another worker")


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
    with writing(database) as session:
        run = session.get(Run, run_id)
        if run is None:
            return
        session.refresh(run.frame, with_for_update=True)
        session.refresh(run)
        now = database_time(session)
        gone = process is not None and str(run.frame.locked_by).startswith(_process(process))
        if run.status in OPEN and (gone or _is_free(run.frame, now)):
            run.status, run.error, run.finished = "failed", fitted(Run, {"error": reason})["error"], now
            run.frame.locked_by = run.frame.locked_until = None


def _process(number):
    return f"{socket.gethostname()}:{number}:"


def release(database, process):
    """Unlock the frames of a process of this machine that is known to be dead, without waiting for its lease.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    process : int
        Its id.
    """
    with writing(database) as session:
        locked = session.execute(select(Frame.id, Frame.locked_by).where(Frame.locked_by.is_not(None))).all()
        for frame_id, owner in locked:
            if owner.startswith(_process(process)):
                mine = update(Frame).where(Frame.id == frame_id, Frame.locked_by == owner)
                session.execute(mine.values(locked_by=None, locked_until=None))


def close_batches(database, runs=(), batches=()):
    """Close the batches of some runs, and other ones, of which no run is left to do.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : collection of int
    batches : collection of int

    Returns
    -------
    list of int
        The batches that were closed; each is returned to one caller only.
    """
    found = set(batches) - {None}
    if runs:
        with reading(database) as session:
            query = select(Run.batch_id).where(_among(runs), Run.batch_id.is_not(None)).distinct()
            found.update(session.scalars(query))
    closed = []
    for batch in sorted(found):
        unfinished = select(Run.id).where(Run.batch_id == batch, Run.status.in_(OPEN)).limit(1)
        with reading(database) as session:
            if session.scalar(unfinished) is not None:
                continue
        with writing(database) as session:
            close = update(Batch).where(Batch.id == batch, Batch.finished.is_(None))
            if session.execute(close.values(finished=database_time(session))).rowcount:
                closed.append(batch)
    return closed


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
    with reading(database) as session:
        return list(session.scalars(select(Run.id).where(Run.batch_id == batch).order_by(Run.id)))


def _among(runs):
    # A range, and the rest by hand: a night may have more runs than a statement may have parameters.
    return Run.id.between(*(runs if isinstance(runs, RunIds) else RunIds(runs)).span)


def open_runs(database, runs):
    """Return which of some runs are not over.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : collection of int

    Returns
    -------
    list of int
        In order.
    """
    with reading(database) as session:
        found = session.scalars(select(Run.id).where(_among(runs), _IS_OPEN).order_by(Run.id))
        return [run for run in found if run in runs]


def next_run(database, runs, leave=()):
    """Return the first of some runs that may be claimed, those of the highest priority before others.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : `RunIds`
    leave : collection of int
        Those to leave alone.

    Returns
    -------
    run : int or None
    left : bool
        Whether any of them is not over.
    """
    query = select(Run.id, Frame.locked_by, Frame.locked_until).join(Run.frame).order_by(Run.id).limit(PAGE // 10)
    highest, left = select(func.max(Run.priority)).where(_IS_OPEN), False
    with reading(database) as session:
        now = database_time(session)
        priority = session.scalar(highest)
        # One priority after the other, so that each look is a range of the index.
        while priority is not None:
            after, last = runs.span
            while page := session.execute(
                query.where(Run.priority == priority, Run.id.between(after, last), _IS_OPEN)
            ).all():
                for row in page:
                    if row.id in runs:
                        left = True
                        if row.id not in leave and _is_free(row, now):
                            return row.id, True
                after = page[-1].id + 1
            priority = session.scalar(highest.where(Run.priority < priority))
    return None, left


def any_held(database, runs):
    """Return whether a live worker has the frame of any of some runs.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : `RunIds`

    Returns
    -------
    bool
    """
    with reading(database) as session:
        now = database_time(session)
        # Few frames are locked.
        held = select(Run.id).join(Run.frame).where(Frame.locked_by.is_not(None), Frame.locked_until > now)
        return any(run in runs for run in session.scalars(held.where(_among(runs), _IS_OPEN)))


def ended_runs(database, runs, since=None):
    """Return which of some runs are over.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : `RunIds`
    since : `datetime.datetime`, optional
        Only runs that ended later.

    Returns
    -------
    runs : list of int
        In the order they ended.
    now : `datetime.datetime`
        By the database's clock, before it was asked.
    """
    with reading(database) as session:
        now = database_time(session)
        query = select(Run.id).where(_among(runs), Run.finished.is_not(None)).order_by(Run.finished, Run.id)
        if since is not None:
            query = query.where(Run.finished >= since)
        return [run for run in session.scalars(query) if run in runs], now


def load_runs(database, runs):
    """Yield runs with their frames and models.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : list of int

    Yields
    ------
    `calibration_dbs.tables.Run`
        Detached, in the order of their numbers in `runs`.
    """
    for start in range(0, len(runs), PAGE):
        page = runs[start : start + PAGE]
        query = select(Run).where(Run.id.in_(page)).options(joinedload(Run.frame), joinedload(Run.model))
        with reading(database) as session:
            found = {run.id: run for run in session.scalars(query)}
        yield from (found[run] for run in page if run in found)
