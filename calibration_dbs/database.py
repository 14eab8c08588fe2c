"""Open the provenance database, keep its tables up to date, and read and write rows."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from platformdirs import user_config_dir
from sqlalchemy import DateTime, create_engine, event, func, literal, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.orm import Session
from tenacity import (
    RetryCallState,
    Retrying,
    retry,
    retry_if_exception_message,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential_jitter,
    wait_random,
)

from calibration_dbs.tables import VERSION_TABLE

#: What SQLAlchemy raises when a database cannot be reached or has no room.
UNREACHABLE = (OperationalError, InterfaceError)
#: How often something that may pass is tried, and the seconds in between: 1, 2, 4, ... 256, ten minutes in all.
TRIES, WAIT = 10, wait_exponential_jitter(initial=1, max=300, jitter=1)
#: Seconds after which a connection that nobody used is tried before it is used again.
IDLE = 5.0


def pause(attempt):
    """Return how long to wait after a failed attempt at something that may pass.

    Parameters
    ----------
    attempt : int
        1 after the first attempt.

    Returns
    -------
    float
        Seconds, by the one policy of this package, `WAIT`.
    """
    state = RetryCallState(None, None, (), {})
    state.attempt_number = attempt
    return WAIT(state)


def patiently(action, *arguments):
    """Call a function again while the database cannot be reached, up to `TRIES` times.

    Parameters
    ----------
    action : callable
    *arguments

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError
        If the last attempt fails, too.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(UNREACHABLE), stop=stop_after_attempt(TRIES), wait=WAIT, reraise=True
    )
    return retrying(action, *arguments)


def default_url():
    """Return the URL of the user's own provenance database.

    Returns
    -------
    str
        Of ``provenance.sqlite`` in the user's configuration folder, on Linux
        ``~/.config/crattn-stage``.
    """
    return f"sqlite:///{user_config_dir('crattn-stage', appauthor=False, roaming=True)}/provenance.sqlite"


def without_password(url):
    """Return a URL that may be printed: no password, nothing of its query.

    Parameters
    ----------
    url : str
        Of a database or a broker, or several separated by semicolons.

    Returns
    -------
    str

    Examples
    --------
    >>> from calibration_dbs.database import without_password
    >>> without_password("postgresql+psycopg://me:secret@host/provenance?sslmode=require")
    'postgresql+psycopg://me:***@host/provenance?***'
    """
    return ";".join(_without_password(one) for one in str(url).split(";"))


def _without_password(url):
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    place, question, query = rest.partition("?")
    if "@" in query:
        # The question mark may be part of a password.
        return f"{scheme}://***"
    login, at, host = place.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}{at}{host}{'?***' if question else ''}"


@retry(
    retry=retry_if_exception_message(match=".*locked"),
    stop=stop_after_delay(60),
    wait=wait_random(0.01, 0.1),
    reraise=True,
)
def _use_wal(connection):
    # The busy timeout does not hold for this: while another process makes the same change, it fails at once.
    connection.execute("PRAGMA journal_mode=WAL")


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

    Raises
    ------
    ValueError
        If the URL is malformed.
    """
    if str(url).partition("://")[2].partition("/")[0].count("@") > 1:
        raise ValueError("malformed URL: @ : / and ? in a user name or password are written %40 %3A %2F and %3F")
    try:
        url = make_url(url)
    except (ArgumentError, ValueError):
        # Their messages quote the URL, password and all.
        raise ValueError("not a SQLAlchemy URL, such as sqlite:////data/provenance.sqlite") from None
    engine = create_engine(url)

    @event.listens_for(engine, "checkin")
    def _note_use(_, record):
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _try_idle(connection, record, _):
        # SQLAlchemy's own `pool_pre_ping` asks the server each time, which is a fifth of what a claim costs.
        if time.monotonic() - record.info.get("used", time.monotonic()) > IDLE:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                # The pool makes a new connection.
                raise DisconnectionError from error

    if url.get_backend_name() == "sqlite":
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)

        @event.listens_for(engine, "connect")
        def _configure(connection, _):
            # Transactions are begun below, not by the driver.
            connection.isolation_level = None
            connection.execute("PRAGMA busy_timeout=60000")
            _use_wal(connection)
            connection.execute("PRAGMA foreign_keys=ON")
            # KiB: the inner pages of the indexes of a million runs; with its 2 MB a request took half as long again.
            connection.execute("PRAGMA cache_size=-65536")

        @event.listens_for(engine, "begin")
        def _begin(connection):
            # A transaction that reads first and writes later cannot wait for another writer; an immediate one does.
            reads = connection.get_execution_options().get("crattn_reads")
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def reading(database):
    """Yield a session that only reads: it takes no write lock, and its rows outlive it.

    Parameters
    ----------
    database : `sqlalchemy.Engine`

    Yields
    ------
    `sqlalchemy.orm.Session`
    """
    with Session(database.execution_options(crattn_reads=True), expire_on_commit=False) as session:
        yield session


@contextmanager
def writing(database):
    """Yield a session in a transaction, which is committed at the end.

    Parameters
    ----------
    database : `sqlalchemy.Engine`

    Yields
    ------
    `sqlalchemy.orm.Session`
    """
    with Session(database) as session, session.begin():
        yield session


def database_time(session):
    """Return the time by the database's clock, which all workers share.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`

    Returns
    -------
    `datetime.datetime`
        UTC.
    """
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    return session.scalar(select(func.clock_timestamp()))


def database_clock(database):
    """Return the time by the database's clock as a part of a statement, which saves asking for it.

    Parameters
    ----------
    database : `sqlalchemy.Engine`, `sqlalchemy.Connection` or `sqlalchemy.orm.Session`

    Returns
    -------
    `sqlalchemy.ColumnElement`
        The time at which the server comes to it; on SQLite, whose file is shared by the processes of one machine, that
        of this call.
    """
    database = database.get_bind() if isinstance(database, Session) else database
    if database.dialect.name == "sqlite":
        return literal(datetime.now(UTC), DateTime(timezone=True))
    return func.clock_timestamp(type_=DateTime(timezone=True))


def get_or_add(session, table, key, **values):
    """Return the row of a table with a key; add it if there is none.

    Parameters
    ----------
    session : `sqlalchemy.orm.Session`
    table : type
        Of `calibration_dbs.tables`.
    key : dict
        Unique columns.
    **values
        Further columns of a new row; an existing one stays as it is.

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
            raise RuntimeError(f"its tables belong to another version of crattn-stage: {error}") from error
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
    try:
        _bring_up_to_date(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _bring_up_to_date(engine):
    current, newest = revision(engine)
    if current == newest:
        return
    if engine.dialect.name != "sqlite":
        raise RuntimeError(f"its tables are at revision {current}, not {newest}; run crattn-stage db upgrade")
    try:
        upgrade(engine)
    except OperationalError:
        # Another process may be making the tables.
        for attempt in range(1, TRIES):
            if revision(engine)[0] == newest:
                break
            time.sleep(pause(attempt))
        else:
            raise
