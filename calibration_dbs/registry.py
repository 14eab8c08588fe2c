"""Which model is to mask a frame: registered models, chosen by rule as a pipeline chooses its masters."""

from datetime import UTC, datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from calibration_dbs.records import get_or_add
from calibration_dbs.tables import Frame, Model, Run, Validity


class UnknownModel(LookupError):
    """A name or sha256 that is of no model in the database, or of several."""


def register(database, model, instrument=None, first_night=None, last_night=None, supersedes=None, reason=None):
    """Make a model a candidate for the frames of an instrument and a range of nights.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    model : dict
        ``name``, ``architecture``, ``sha256`` and ``path``.
    instrument : str, optional
        Camera family (decam, lco, generic) or INSTRUME; any without it.
    first_night, last_night : str, optional
        YYYYMMDD, both included; open without them.
    supersedes : str, optional
        Name or first digits of the sha256 of a model that is not chosen any more where this one is valid.
    reason : str, optional

    Raises
    ------
    UnknownModel
        If the superseded model is unknown or not one alone.
    """
    model = dict(model)
    key = {"sha256": model.pop("sha256")}
    with Session(database) as session, session.begin():
        model = get_or_add(session, Model, key, is_bad=False, superseded_by=None, **model)
        validity = {
            "instrument": instrument and instrument.lower(),
            "first_night": first_night,
            "last_night": last_night,
        }
        for same in session.scalars(select(Validity).filter_by(model=model, retired=None, **validity)):
            same.retired = datetime.now(UTC)
        session.add(Validity(model=model, reason=reason, **validity))
        if supersedes is not None:
            find_model(session, supersedes).superseded_by = model


def retire(database, model, is_bad=False, reason=None):
    """Take a model out of the choice.

    Models that it superseded are candidates again.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    model : str
        As for `find_model`.
    is_bad : bool
        Its masks are not to be trusted.
    reason : str, optional

    Raises
    ------
    UnknownModel
        If the model is unknown or not one alone.
    """
    with Session(database) as session, session.begin():
        found = find_model(session, model)
        found.is_bad = found.is_bad or is_bad
        for validity in session.scalars(select(Validity).filter_by(model=found, retired=None)):
            validity.retired = datetime.now(UTC)
            validity.reason = reason or validity.reason


def find_model(session, model):
    """Return the row of a model.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`
    model : str
        Its name, or the first digits of its sha256.

    Returns
    -------
    `calibration_dbs.tables.Model`

    Raises
    ------
    UnknownModel
        If there is none, or more than one.
    """
    found = session.scalars(select(Model).where(or_(Model.name == model, Model.sha256.startswith(model.lower())))).all()
    if len(found) != 1:
        known = ", ".join(f"{m.name} {m.sha256[:16]}" for m in found)
        raise UnknownModel(
            f"more than one model {model!r}: {known}" if found else f"no model {model!r} in the database"
        )
    return found[0]


def choose(database, instruments, night):
    """Choose the model for a frame.

    Of the models that are registered for its instrument and night, are not
    bad, and are not superseded by another of them: one registered for the
    instrument before one for any, then the one registered last.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    instruments : iterable of str
        The frame's camera family and INSTRUME.
    night : str or None
        YYYYMMDD; models with a range of nights are no candidates without it.

    Returns
    -------
    `calibration_dbs.tables.Model` or None
        Detached.  None if no model is registered for the frame.
    """
    instruments = [name.lower() for name in instruments if name]
    any_first, any_last = Validity.first_night.is_(None), Validity.last_night.is_(None)
    query = (
        select(Validity, Model)
        .join(Validity.model)
        .where(
            Validity.retired.is_(None),
            Model.is_bad.is_(False),
            or_(Validity.instrument.is_(None), Validity.instrument.in_(instruments)),
            any_first if night is None else or_(any_first, Validity.first_night <= night),
            any_last if night is None else or_(any_last, Validity.last_night >= night),
        )
    )
    with Session(database, expire_on_commit=False) as session:
        candidates = session.execute(query).all()
        valid = {model.id for _, model in candidates}
        candidates = [(v, model) for v, model in candidates if model.superseded_by_id not in valid]
        best = max(candidates, key=lambda pair: (pair[0].instrument is not None, pair[0].id), default=(None, None))
        return best[1]


def history(database):
    """Return the validities of all models, the oldest first.

    Parameters
    ----------
    database : `sqlalchemy.Engine`

    Returns
    -------
    list of tuple
        (`calibration_dbs.tables.Validity`, `calibration_dbs.tables.Model`), detached.
    """
    with Session(database, expire_on_commit=False) as session:
        return [
            tuple(row) for row in session.execute(select(Validity, Model).join(Validity.model).order_by(Validity.id))
        ]


def masked_with(database, model):
    """Return the succeeded runs of a model, by night and path.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    model : str
        As for `find_model`.

    Returns
    -------
    list of tuple
        (`calibration_dbs.tables.Run`, `calibration_dbs.tables.Frame`), detached.

    Raises
    ------
    UnknownModel
        If the model is unknown or not one alone.
    """
    with Session(database, expire_on_commit=False) as session:
        query = (
            select(Run, Frame)
            .join(Run.frame)
            .where(Run.model == find_model(session, model), Run.status == "succeeded")
            .order_by(Frame.night, Frame.path, Run.id)
        )
        return [tuple(row) for row in session.execute(query)]


def maker(database, sha256):
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
    with Session(database, expire_on_commit=False) as session:
        return [tuple(row) for row in session.execute(query)]
