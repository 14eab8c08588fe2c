"""Open the provenance database and keep its tables up to date."""

import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from calibration_dbs.tables import VERSION_TABLE


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
            # Transactions are begun below, not by the driver.
            connection.isolation_level = None
            for pragma in ("busy_timeout=60000", "journal_mode=WAL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection):
            # A transaction that reads first and writes later cannot wait for another writer; this one does.
            connection.exec_driver_sql("BEGIN IMMEDIATE")

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
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # SQLite changes a table by making it anew; dropping the old one must not delete what refers to it.
            connection.connection.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise RuntimeError(f"its tables are of another version of crattn-stage: {error}") from error
        finally:
            # Not back to the pool: the next user wants foreign keys.
            connection.invalidate()


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
