"""What the runs of many nights say together; the database adds them up.

Of each exposure, the last run counts, as in `calibration_dbs.provenance.runs_of_night`; frames that
are not of the sky do not count.
"""

from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Float, String, and_, bindparam, case, cast, extract, func, null, or_, select, text

from calibration_dbs.database import reading
from calibration_dbs.provenance import NOT_NEEDED, OPEN
from calibration_dbs.tables import Amplifier, Frame, Hit, Model, Run

#: Upper limits of the bins of charge, in electrons, a quarter of a decade apart; the last bin has none.
CHARGES = tuple(round(10 ** (step / 4)) for step in range(8, 22))
#: Degrees; a hit lies along the rows or the columns of its detector if its angle to them is smaller than this.
ALONG = 7.5


@contextmanager
def snapshot(database):
    """Yield a session that reads one state of the database, whatever others write meanwhile.

    Parameters
    ----------
    database : `sqlalchemy.Engine`

    Yields
    ------
    `sqlalchemy.orm.Session`
    """
    # A transaction of SQLite is one in any case.
    is_server = database.dialect.name == "postgresql"
    with reading(database.execution_options(isolation_level="REPEATABLE READ") if is_server else database) as session:
        if is_server:
            # Compiling so many conditions takes longer than evaluating them; room to hash millions of amplifiers.
            session.execute(text("set local jit = off"))
            session.execute(text("set local work_mem = '64MB'"))
        yield session


def _newest(first, last):
    """Return the ids of the last run of each exposure of some nights, as a subquery."""
    of_frame = (
        select(func.max(Run.id).label("id"))
        .join(Run.frame)
        .where(Frame.night.between(first, last), Run.status.not_in(NOT_NEEDED))
        .group_by(Run.frame_id)
        .subquery()
    )
    # An exposure may have been masked from several folders, which its sha256 tells.
    exposure = func.coalesce(Run.input_sha256, cast(Run.id, String))
    query = select(func.max(Run.id).label("id")).join(of_frame, of_frame.c.id == Run.id).join(Run.frame)
    return query.group_by(Frame.night, exposure).subquery()


def _period(session, first, last, by_month):
    """Return the expression of the night, or of its month; a night that is no date is in no month, but by itself."""
    if not by_month:
        return Frame.night.label("period")
    nights = session.scalars(select(Frame.night).where(Frame.night.between(first, last)).distinct())
    # Written out, since PostgreSQL does not group by expressions with values of their own.
    undated = bindparam("undated", [night for night in nights if not _is_date(night)], literal_execute=True)
    return case((Frame.night.in_(undated), Frame.night), else_=func.substr(Frame.night, 1, 6)).label("period")


def _is_date(night):
    try:
        return f"{datetime.strptime(night, '%Y%m%d'):%Y%m%d}" == night
    except ValueError:
        return False


def _seconds(session):
    """Return the expression of how long a run took, in seconds."""
    if session.get_bind().dialect.name == "sqlite":
        return (func.julianday(Run.finished) - func.julianday(Run.started)) * 86400.0
    return cast(extract("epoch", Run.finished - Run.started), Float)


def _is_failure():
    return or_(Run.status == "failed", Run.verdict == "FAIL", Model.is_bad)


def _is_warning():
    return or_(Run.verdict == "WARN", Run.status.in_(OPEN))


def known_nights(session):
    """Return how many nights have frames of the sky, the first one and the last one.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`

    Returns
    -------
    count : int
    first, last : str or None
        YYYYMMDD.
    """
    nights = func.count(Frame.night.distinct()), func.min(Frame.night), func.max(Frame.night)
    return tuple(session.execute(select(*nights).where(Frame.runs.any(Run.status != "skipped"))).one())


def known_cameras(session):
    """Return the cameras of all frames.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`

    Returns
    -------
    list of `sqlalchemy.Row`
        ``site`` and ``camera``, each of which may be None.
    """
    return session.execute(select(Frame.site, Frame.camera).distinct()).all()


def totals(session, first, last, by_month=False, by_filter=True):
    """Return what the runs of each camera, filter and night amount to.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`
    first, last : str
        YYYYMMDD, both included.
    by_month : bool
        Of each month instead of each night.
    by_filter : bool
        Of each filter; of all together, with None as ``filter``, without it.

    Returns
    -------
    list of `sqlalchemy.Row`
        In the order of ``site``, ``camera``, ``period`` (YYYYMMDD; by month YYYYMM, and a night
        that is no date as it is) and ``filter``:

        * ``frames``, and ``failures`` and ``warnings`` among them;
        * ``rate``, hits per cm2 per minute, all hits over all exposures; ``fraction`` of pixels masked, likewise;
        * ``star_fraction``, ``faint_completeness``, ``bright_completeness``, ``noise_objects`` and ``seconds``, means
          of the frames that have them.

        None where no frame has one.
    """
    newest = _newest(first, last)
    exposure, succeeded = Run.area * Frame.exposure_time / 60, Run.status == "succeeded"
    has_rate = and_(succeeded, Run.hits.is_not(None), exposure > 0)
    has_pixels = and_(succeeded, Run.pixels.is_not(None), Run.megapixels > 0)
    hits, pixels = (func.sum(cast(column, Float)) for column in (Run.hits, Run.pixels))
    columns = {
        "frames": func.count(),
        "failures": func.sum(case((_is_failure(), 1), else_=0)),
        "warnings": func.sum(case((_is_failure(), 0), (_is_warning(), 1), else_=0)),
        "rate": hits.filter(has_rate) / func.sum(exposure).filter(has_rate),
        "fraction": pixels.filter(has_pixels) / (func.sum(Run.megapixels).filter(has_pixels) * 1e6),
        **{
            name: func.avg(getattr(Run, name)).filter(succeeded)
            for name in ("star_fraction", "faint_completeness", "bright_completeness", "noise_objects")
        },
        "seconds": func.avg(_seconds(session)).filter(succeeded),
    }
    keys = [Frame.site, Frame.camera, _period(session, first, last, by_month)] + ([Frame.filter] if by_filter else [])
    shown = keys if by_filter else [*keys, null().label("filter")]
    query = (
        select(*shown, *(value.label(name) for name, value in columns.items()))
        .join(newest, newest.c.id == Run.id)
        .join(Run.frame)
        .join(Run.model)
        .where(Run.status != "skipped")
        .group_by(*keys)
    )
    return sorted(session.execute(query), key=lambda row: tuple(key or "" for key in row[:4]))


def amplifier_totals(session, first, last):
    """Return how many hits each amplifier had, and how many its area let expect.

    Parameters
    ----------
    session, first, last
        As for `totals`.

    Returns
    -------
    list of `sqlalchemy.Row`
        ``site``, ``camera``, ``night``, ``extension``, ``name``, ``hits`` and ``expected``: the hits of its frames by
        the pixels searched.
    """
    newest = _newest(first, last)
    expected = cast(Run.hits, Float) * Amplifier.searched / (Run.megapixels * 1e6)
    keys = Frame.site, Frame.camera, Frame.night, Amplifier.extension, Amplifier.name
    query = (
        select(*keys, func.sum(Amplifier.hits).label("hits"), func.sum(expected).label("expected"))
        .join(newest, newest.c.id == Amplifier.run_id)
        .join(Amplifier.run)
        .join(Run.frame)
        .where(Run.status == "succeeded", Run.hits.is_not(None), Run.megapixels > 0)
        .group_by(*keys)
    )
    return session.execute(query).all()


def hit_totals(session, first, last):
    """Return the hits of each amplifier and month by charge and angle, where hits were kept.

    Parameters
    ----------
    session, first, last
        As for `totals`.

    Returns
    -------
    list of `sqlalchemy.Row`
        ``site``, ``camera``, ``period`` (as by month in `totals`), ``extension``, ``name``, ``charge`` (number of the
        bin of `CHARGES`, None where it is not known), ``hits``, and among them ``spots``, ``angles`` (those that are
        no spots), and ``rows`` and ``columns`` (those of them that lie along the rows and the columns).
    """
    newest = _newest(first, last)
    charge = case(
        (Hit.charge.is_(None), None),
        *((Hit.charge < limit, number) for number, limit in enumerate(CHARGES)),
        else_=len(CHARGES),
    ).label("charge")
    # A bin is an expression with values of its own, which cannot be grouped by but from outside.
    hits = (
        select(Frame.site, Frame.camera, _period(session, first, last, by_month=True), Hit.detector.label("extension"))
        .add_columns(Hit.amplifier.label("name"), charge, Hit.kind.label("kind"), Hit.angle)
        .join(newest, newest.c.id == Hit.run_id)
        .join(Run, Run.id == Hit.run_id)
        .join(Run.frame)
        .where(Run.status == "succeeded")
        .subquery()
    )
    keys = [hits.c[name] for name in ("site", "camera", "period", "extension", "name", "charge")]
    has_angle = and_(hits.c.angle.is_not(None), hits.c.kind != "spot")
    which = {
        "spots": hits.c.kind == "spot",
        "angles": has_angle,
        "rows": and_(has_angle, or_(hits.c.angle < ALONG, hits.c.angle >= 180 - ALONG)),
        "columns": and_(has_angle, hits.c.angle >= 90 - ALONG, hits.c.angle < 90 + ALONG),
    }
    counts = [func.sum(case((condition, 1), else_=0)).label(name) for name, condition in which.items()]
    return session.execute(select(*keys, func.count().label("hits"), *counts).group_by(*keys)).all()


def models_in_use(session, first, last):
    """Return how many frames of each camera and night each model masked.

    Parameters
    ----------
    session, first, last
        As for `totals`.

    Returns
    -------
    list of `sqlalchemy.Row`
        ``site``, ``camera``, ``night``, ``model``, ``sha256`` and ``frames``, by night and name.
    """
    newest = _newest(first, last)
    keys = Frame.site, Frame.camera, Frame.night, Model.name.label("model"), Model.sha256
    query = (
        select(*keys, func.count().label("frames"))
        .select_from(Run)
        .join(newest, newest.c.id == Run.id)
        .join(Run.frame)
        .join(Run.model)
        .where(Run.status == "succeeded")
        .group_by(*keys)
        .order_by(Frame.night, Model.name, Model.sha256)
    )
    return session.execute(query).all()


def frames_of(session, first, last):
    """Yield the last run of each exposure.

    Parameters
    ----------
    session, first, last
        As for `totals`.

    Yields
    ------
    `sqlalchemy.Row`
        By site, camera, night, time and path; ``verdict`` is that of the run, FAIL where it failed or its model is bad,
        and WARN where it is not over.
    """
    newest = _newest(first, last)
    verdict = case((_is_failure(), "FAIL"), (_is_warning(), "WARN"), else_="PASS").label("verdict")
    why = case(
        (Run.status == "failed", Run.error),
        (Run.status.in_(OPEN), "not finished"),
        (Model.is_bad, "masked by a model that was retired as bad"),
        else_=Run.reason,
    ).label("why")
    numbers = ("rate", "fraction", "star_fraction", "faint_completeness", "bright_completeness", "noise_objects")
    query = (
        select(Frame.site, Frame.camera, Frame.night, Frame.filter, Frame.observed, Frame.path, Run.output_path)
        .add_columns(verdict, why, *(getattr(Run, name) for name in numbers), _seconds(session).label("seconds"))
        .add_columns(Model.name.label("model"), Model.sha256)
        .select_from(Run)
        .join(newest, newest.c.id == Run.id)
        .join(Run.frame)
        .join(Run.model)
        .where(Run.status != "skipped")
        .order_by(Frame.site, Frame.camera, Frame.night, Frame.observed, Frame.path)
    )
    yield from session.execute(query.execution_options(yield_per=2000))
