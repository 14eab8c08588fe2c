"""The registry of models: which one masks a frame, chosen by rule as a pipeline chooses its calibration frames."""

import re

from sqlalchemy import or_, select

from calibration_dbs.database import database_time, get_or_add, reading, writing
from calibration_dbs.tables import Frame, Model, Validity, fitted


class UnknownModel(LookupError):
    """No model in the database has that name or sha256, or more than one has."""


def model_row(session, model):
    """Return the row of a model, added if there is none.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`
    model : dict
        ``name``, ``architecture``, ``sha256`` and ``path``.

    Returns
    -------
    `calibration_dbs.tables.Model`
        A model that is there under another name keeps it: weights identify a model.
    """
    columns = fitted(Model, model)
    return get_or_add(session, Model, {"sha256": columns.pop("sha256")}, **columns)


def register(
    database,
    model,
    instrument=None,
    first_night=None,
    last_night=None,
    supersedes=None,
    reason=None,
    clear_bad=False,
    comparison=None,
):
    """Make a model a candidate for the frames of an instrument and a range of nights.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    model : dict
        ``name``, ``architecture``, ``sha256`` and ``path``.
    instrument : str, optional
        Camera family (decam, lco, generic) or INSTRUME; any by default.
    first_night, last_night : str, optional
        YYYYMMDD, inclusive; open by default.
    supersedes : str, optional
        Name or first digits of the sha256 of a model that is no longer chosen where this one is valid.
    reason : str, optional
    clear_bad : bool
        Accept a model that was retired as bad, and trust its masks again.
    comparison : dict, optional
        The comparison that it has passed, or why there is none, for the history; JSON can hold it.

    Returns
    -------
    str
        The name under which the database knows the model.

    Raises
    ------
    UnknownModel
        If the superseded model is unknown or ambiguous.
    ValueError
        If the model is to supersede itself or was retired as bad, or the range of nights is empty.
    """
    if first_night and last_night and first_night > last_night:
        raise ValueError(f"no night is from {first_night} until {last_night}")
    with writing(database) as session:
        row = model_row(session, model)
        if row.is_bad and not clear_bad:
            raise ValueError(f"{row.name} was retired as bad; --clear-bad registers it all the same")
        row.path, row.is_bad, row.superseded_by = model["path"], False, None
        session.flush()
        validity = {
            "instrument": instrument and instrument.lower(),
            "first_night": first_night,
            "last_night": last_night,
        }
        for same in session.scalars(select(Validity).filter_by(model=row, retired=None, **validity)):
            same.retired, same.retired_reason = database_time(session), "registered again"
        session.add(Validity(model=row, reason=reason, comparison=comparison, **validity))
        if supersedes is not None:
            old = find_model(session, supersedes)
            if old is row:
                raise ValueError(f"{row.name} cannot supersede itself")
            old.superseded_by = row
        return row.name


def retire(database, model, is_bad=False, reason=None):
    """Take a model out of the choice; models that it superseded are candidates again.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    model : str
        As for `find_model`.
    is_bad : bool
        Its masks are not to be trusted.
    reason : str, optional

    Returns
    -------
    str
        The model's name.

    Raises
    ------
    UnknownModel
        If the model is unknown or ambiguous.
    """
    with writing(database) as session:
        found = find_model(session, model)
        found.is_bad = found.is_bad or is_bad
        validities = session.scalars(select(Validity).filter_by(model=found, retired=None)).all()
        if not validities:
            # The history also lists a model that was used without being registered.
            validities = [Validity(model=found)]
            session.add_all(validities)
        for validity in validities:
            validity.retired, validity.retired_reason = database_time(session), reason
        return found.name


def find_model(session, model):
    """Return the row of a model.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`
    model : str
        Its exact name, or the first digits of its sha256.

    Returns
    -------
    `calibration_dbs.tables.Model`

    Raises
    ------
    UnknownModel
        If there is none, or more than one.
    """
    found = session.scalars(select(Model).where(Model.name == model)).all()
    if not found and re.fullmatch("[0-9a-f]{1,64}", model.lower()):
        found = session.scalars(select(Model).where(Model.sha256.startswith(model.lower()))).all()
    if len(found) != 1:
        known = ", ".join(f"{m.name} {m.sha256[:16]}" for m in found)
        raise UnknownModel(
            f"more than one model {model!r}: {known}" if found else f"no model {model!r} in the database"
        )
    return found[0]


def registered_model(database, instruments, night):
    """Choose the model for a frame.

    The candidates are registered for the frame's instrument and night, are not
    bad, and are not superseded by another candidate.  One registered for the
    instrument is preferred to one for any, then the one registered last.

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
    with reading(database) as session:
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
    with reading(database) as session:
        return [
            tuple(row) for row in session.execute(select(Validity, Model).join(Validity.model).order_by(Validity.id))
        ]


def registered(database):
    """Return the models that are registered now, for any instrument and night.

    Parameters
    ----------
    database : `sqlalchemy.Engine`

    Returns
    -------
    set of str
        Their sha256; those retired as bad are left out.
    """
    query = select(Model.sha256).join(Validity.model).where(Validity.retired.is_(None), Model.is_bad.is_(False))
    with reading(database) as session:
        return set(session.scalars(query))


def known_instruments(database):
    """Return the instruments of the frames in the database.

    Parameters
    ----------
    database : `sqlalchemy.Engine`

    Returns
    -------
    set of str
        INSTRUMEs, in lower case.
    """
    found, last = set(), ""
    with reading(database) as session:
        # From one to the next by the index: there are many frames and few cameras.
        while last is not None:
            last = session.scalar(select(Frame.camera).where(Frame.camera > last).order_by(Frame.camera).limit(1))
            found |= {last.lower()} if last else set()
    return found


def is_bad(database, sha256):
    """Return whether a model was retired as bad.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    sha256 : str
        Of its weights.

    Returns
    -------
    bool
    """
    with reading(database) as session:
        return bool(session.scalar(select(Model.is_bad).where(Model.sha256 == sha256)))
