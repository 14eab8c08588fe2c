"""Open the provenance database, write runs to it, and ask it."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from calibration_dbs.tables import VERSION_TABLE, Amplifier, Frame, Model, Run


def connect(url):
    """Return an engine for a database.

    SQLite gets write-ahead logging, foreign keys and a busy timeout of 60 s;
    the folder of its file is made.

    Parameters
    ----------
    url : str
        A SQLAlchemy URL.

    Returns
    -------
    `sqlalchemy.Engine`
    """
    url = make_url(url)
    engine = create_engine(url, pool_pre_ping=True)
    if url.get_backend_name() == "sqlite":
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)

        @event.listens_for(engine, "connect")
        def _configure(connection, _):
            for pragma in ("journal_mode=WAL", "foreign_keys=ON", "busy_timeout=60000"):
                connection.execute(f"PRAGMA {pragma}")

    return engine


def _alembic():
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def revision(engine):
    """Return the revision of our tables in a database (None without them) and the newest there is.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`

    Returns
    -------
    current : str or None
    newest : str

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If the database cannot be reached.
    """
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return context.get_current_revision(), ScriptDirectory.from_config(_alembic()).get_current_head()


def upgrade(engine):
    """Bring our tables to the newest revision; other tables are left alone.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`

    Raises
    ------
    RuntimeError
        If a newer version of this package has made the tables.
    sqlalchemy.exc.SQLAlchemyError
        If the database cannot be reached or written.
    """
    config = _alembic()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise RuntimeError(f"its tables are of another version of crattn-stage: {error}") from error


def open_database(url):
    """Return an engine for a database whose tables are up to date.

    A SQLite file is made and upgraded by itself; a server's database only by
    ``crattn-stage db upgrade``.

    Parameters
    ----------
    url : str
        As for `connect`.

    Returns
    -------
    `sqlalchemy.Engine`

    Raises
    ------
    RuntimeError
        If a server's database is not at the newest revision, or any is at
        one that this version does not know.
    sqlalchemy.exc.SQLAlchemyError, OSError
        If it cannot be reached or written.
    """
    engine = connect(url)
    current, newest = revision(engine)
    if current != newest:
        if engine.dialect.name != "sqlite":
            raise RuntimeError(f"its tables are at revision {current}, not {newest}; run crattn-stage db upgrade")
        try:
            upgrade(engine)
        except OperationalError:
            # Another process may be making the tables; it has the busy timeout to finish.
            for _ in range(60):
                if revision(engine)[0] == newest:
                    break
                time.sleep(1)
            else:
                raise
    return engine


def _get_or_add(session, table, key, **values):
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
    dict
        To be filled: ``status``, ``frame`` and ``run`` (columns of `Frame` and
        `Run`), ``amplifiers`` (list of columns of `Amplifier`).  An exception
        is recorded as a failure and goes on its way.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If the run cannot be recorded.
    """
    with Session(database) as session, session.begin():
        run = Run(
            frame=_get_or_add(session, Frame, {"path": str(path)}),
            model=_get_or_add(
                session, Model, {"sha256": model["sha256"]}, name=model["name"], architecture=model["architecture"]
            ),
            status="running",
            **settings,
        )
        session.add(run)
        session.flush()
        identity = run.id
    outcome = {"status": "succeeded", "frame": {}, "run": {}, "amplifiers": []}
    try:
        yield outcome
    except BaseException as error:
        outcome["status"] = "failed"
        outcome["run"]["error"] = str(error) or type(error).__name__
        raise
    finally:
        with Session(database) as session, session.begin():
            run = session.get_one(Run, identity)
            run.status, run.finished = outcome["status"], datetime.now(UTC)
            for name, value in outcome["run"].items():
                setattr(run, name, value)
            for name, value in outcome["frame"].items():
                setattr(run.frame, name, value)
            run.amplifiers = [Amplifier(**columns) for columns in outcome["amplifiers"]]
