"""Provenance: what a run did, and what is asked about it later."""

from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.orm import aliased, joinedload, selectinload

from calibration_dbs.database import database_clock, database_time, get_or_add, reading, writing
from calibration_dbs.registry import find_model, model_row
from calibration_dbs.tables import Amplifier, Frame, Hit, Model, Run, fitted, is_utf8

#: The tables beneath the classes: statements on these alone load no rows and compare none.
FRAMES, RUNS = Frame.__table__, Run.__table__
#: The states of a run that is not over.
OPEN = ("queued", "running")
#: The state of a run whose frame turned out to be masked as asked for when it was its turn.
ALREADY_DONE = "already done"
#: The states of runs that were not needed.
NOT_NEEDED = ("superseded", ALREADY_DONE)
#: Rows asked about, or deleted, in one statement.
PAGE = 500


@dataclass
class Record:
    """What a run reports; filled while it goes on.

    Attributes
    ----------
    status : str
        "succeeded" unless set otherwise.
    frame, run : dict
        Columns of `calibration_dbs.tables.Frame` and `calibration_dbs.tables.Run`.
    amplifiers : list of dict
        Columns of `calibration_dbs.tables.Amplifier`.
    hits : list of dict
        Likewise of `calibration_dbs.tables.Hit`; none unless they are to be kept.
    """

    status: str = "succeeded"
    frame: dict = field(default_factory=dict)
    run: dict = field(default_factory=dict)
    amplifiers: list = field(default_factory=list)
    hits: list = field(default_factory=list)

    def fail(self, error):
        """Record an exception as the cause of a failure.

        Parameters
        ----------
        error : BaseException
        """
        self.status = "failed"
        self.run["error"] = str(error) or type(error).__name__


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
        To be filled.  An exception is recorded as a failure and raised again.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If the run cannot be recorded.
    """
    with writing(database) as session:
        frame = get_or_add(session, Frame, fitted(Frame, {"path": str(path)}))
        run = Run(
            frame=frame,
            model=model_row(session, model),
            status="running",
            started=database_time(session),
            **fitted(Run, settings),
        )
        session.add(run)
        session.flush()
        run_id, frame_id = run.id, frame.id
    record = Record()
    try:
        yield record
    except BaseException as error:
        record.fail(error)
        raise
    finally:
        with writing(database) as session:
            if record.frame:
                session.execute(update(FRAMES).where(FRAMES.c.id == frame_id).values(fitted(Frame, record.frame)))
            store(session, run_id, record)


def store(database, run_id, record, again=False):
    """Write what a run reports into its row and those of its amplifiers and hits.

    Parameters
    ----------
    database : `sqlalchemy.orm.Session` or `sqlalchemy.Connection`
        In a transaction.
    run_id : int
    record : `Record`
    again : bool
        An earlier attempt may have left amplifiers and hits.
    """
    values = {"status": record.status, "finished": None if record.status == "queued" else database_clock(database)}
    if record.status in ("succeeded", "skipped", ALREADY_DONE):
        values["error"] = None
    database.execute(update(RUNS).where(RUNS.c.id == run_id).values({**values, **fitted(Run, record.run)}))
    for table, rows in ((Amplifier, record.amplifiers), (Hit, record.hits)):
        if again:
            database.execute(delete(table.__table__).where(table.run_id == run_id))
        if rows:
            rows = [{"run_id": run_id, **fitted(table, columns)} for columns in rows]
            database.execute(insert(table.__table__), rows)


def succeeded(database, path, sha256, threshold, target):
    """Return the runs that masked a frame with a model and a threshold for a target, the last one first.

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
    with reading(database) as session:
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
    with reading(database) as session:
        return session.scalar(query.options(joinedload(Run.model)))


def nights_of_paths(database, paths):
    """Return the nights of the frames that the database knows.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    paths : list of str
        Absolute.

    Returns
    -------
    dict of str to str
        Path -> YYYYMMDD.
    """
    known, paths = {}, [path for path in paths if is_utf8(path)]
    with reading(database) as session:
        for start in range(0, len(paths), PAGE):
            query = select(Frame.path, Frame.night).where(Frame.path.in_(paths[start : start + PAGE]))
            known.update(session.execute(query.where(Frame.night.is_not(None))).all())
    return known


def known_digests(database, target):
    """Return what our runs wrote, or were about to write, for a target.

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
    with reading(database) as session:
        return {item for outputs in session.scalars(query) for item in (outputs or {}).items()}


def masked_with(database, model):
    """Yield the succeeded runs of a model, by night and path.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    model : str
        As for `calibration_dbs.registry.find_model`.

    Yields
    ------
    `sqlalchemy.Row`
        ``night``, ``path``, ``output_path`` and ``finished``; a few are in memory at a time.

    Raises
    ------
    calibration_dbs.registry.UnknownModel
        If the model is unknown or ambiguous.
    """
    with reading(database) as session:
        query = (
            select(Frame.night, Frame.path, Run.output_path, Run.finished)
            .join(Run.frame)
            .where(Run.model_id == find_model(session, model).id, Run.status == "succeeded")
            .order_by(Frame.night, Frame.path, Run.id)
        )
        yield from session.execute(query.execution_options(yield_per=PAGE))


def makers(database, sha256):
    """Return the runs that made the files of a sha256, the last one first.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    sha256 : str

    Returns
    -------
    list of tuple
        (`calibration_dbs.tables.Run`, `calibration_dbs.tables.Frame`, `calibration_dbs.tables.Model`), detached.
    """
    query = (
        select(Run, Frame, Model)
        .join(Run.frame)
        .join(Run.model)
        .where(Run.output_sha256 == sha256, Run.status == "succeeded")
        .order_by(Run.id.desc())
    )
    with reading(database) as session:
        return [tuple(row) for row in session.execute(query)]


def runs_of_night(session, night):
    """Return the last run of each exposure of a night.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`
    night : str
        YYYYMMDD.

    Returns
    -------
    list of `calibration_dbs.tables.Run`
        By path, with frames, models and amplifiers.  Of an exposure that was
        masked from several folders, which its sha256 tells, the newest run.
    """
    frames = select(Frame.id).where(Frame.night == night)
    needed = Run.frame_id.in_(frames), Run.status.not_in(NOT_NEEDED)
    last = select(func.max(Run.id)).where(*needed).group_by(Run.frame_id)
    query = select(Run).where(Run.id.in_(last)).options(joinedload(Run.frame), joinedload(Run.model))
    newest = {}
    for run in session.scalars(query.options(selectinload(Run.amplifiers)).order_by(Run.id)):
        newest[run.input_sha256 or run.id] = run
    return sorted(newest.values(), key=lambda run: run.frame.path)


def hit_rates(session, camera, site, night, count, of_night=False):
    """Return the hit rates that a camera had on its newest other nights, or on one.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`
    camera, site : str or None
    night : str
        YYYYMMDD.
    count : int
        At most so many.
    of_night : bool
        On that night, not on the others.

    Returns
    -------
    list of float
        Hits per cm2 per minute, of runs that did not fail the check of quality, by models that are not bad.
    """
    query = (
        select(Run.rate)
        .join(Run.frame)
        .join(Run.model)
        .where(Frame.camera == camera, Frame.site == site, Frame.night == night if of_night else Frame.night != night)
        .where(Run.status == "succeeded", Run.rate.is_not(None), Run.verdict != "FAIL", Model.is_bad.is_(False))
        .order_by(Frame.night.desc())
        .limit(count)
    )
    return list(session.scalars(query))


def prune(database, before, dry_run=False):
    """Delete runs that were replaced, and what old runs found in each amplifier.

    What stays: each frame's last run and last success for each target, so
    that nothing is masked again, ``trace`` knows every output as it is, and
    the usual hit rates are the same.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    before : `datetime.datetime`
        Runs that finished earlier; UTC.
    dry_run : bool
        Only count them.

    Returns
    -------
    runs, amplifiers : int
        How many rows are deleted; `amplifiers` counts those of runs that stay.
    """
    later = aliased(Run)
    same_target = or_(later.target == Run.target, later.output_path == Run.output_path)
    replaced = (
        select(later.id)
        .where(later.frame_id == Run.frame_id, later.id > Run.id)
        # What a lost worker has left on disk is known by its run until that file is replaced.
        .where(or_((Run.status != "succeeded") & Run.outputs.is_(None), (later.status == "succeeded") & same_target))
    )
    old = (Run.finished < before) & Run.status.not_in(OPEN)
    stale, counts = select(Run.id).where(old, replaced.exists()), [0, 0]
    with reading(database) as session:
        runs = list(session.scalars(stale))
        keep = set(runs)
        thinned = [run for run in session.scalars(select(Run.id).where(old)) if run not in keep]
    for ids, delete_runs in ((runs, True), (thinned, False)):
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            with (reading if dry_run else writing)(database) as session:
                count = _deleted(session, Amplifier.run_id.in_(page), Amplifier, dry_run)
                if delete_runs and not dry_run:
                    session.execute(delete(Run).where(Run.id.in_(page)))
            counts[not delete_runs] += len(page) if delete_runs else count
    return tuple(counts)


def prune_hits(database, before, dry_run=False):
    """Delete the hits of old runs.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    before : `datetime.datetime`
        Runs that finished earlier; UTC.
    dry_run : bool
        Only count them.

    Returns
    -------
    int
        How many rows are deleted.
    """
    with reading(database) as session:
        having = select(Hit.run_id).where(Hit.run_id == Run.id).exists()
        runs = list(session.scalars(select(Run.id).where(Run.finished < before, having)))
    count = 0
    for start in range(0, len(runs), PAGE):
        with (reading if dry_run else writing)(database) as session:
            count += _deleted(session, Hit.run_id.in_(runs[start : start + PAGE]), Hit, dry_run)
    return count


def _deleted(session, where, table, dry_run):
    """Delete rows of a table, or only count them; return how many."""
    if dry_run:
        return session.scalar(select(func.count()).where(where))
    return session.execute(delete(table).where(where)).rowcount


def recent_speed(database, count=200):
    """Return how fast one worker has masked lately.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    count : int
        Of the newest runs.

    Returns
    -------
    float or None
        Megapixels per second; None if nothing was masked yet.
    """
    query = select(Run.megapixels, Run.started, Run.finished).where(Run.status == "succeeded", Run.megapixels > 0)
    with reading(database) as session:
        found = session.execute(query.order_by(Run.id.desc()).limit(count)).all()
    seconds = sum((run.finished - run.started).total_seconds() for run in found)
    return sum(run.megapixels for run in found) / seconds if seconds > 0 else None
