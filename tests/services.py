"""The services the tests need: those that run, named by the environment, or private ones that may be stopped."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import kombu
import pytest
from sqlalchemy import create_engine, text

AMQP = os.environ.get("CRATTN_TEST_AMQP", "amqp://guest:guest@127.0.0.1:5672//")
REDIS = os.environ.get("CRATTN_TEST_REDIS", "redis://127.0.0.1:6379/7")
POSTGRESQL = os.environ.get("CRATTN_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition, seconds=60, every=0.1):
    """Wait until a condition holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while True:
        with suppress(Exception):
            if condition():
                return
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain")
        time.sleep(every)


def broker_answers(url):
    try:
        with kombu.Connection(url, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2)
        return True
    except Exception:
        return False


def database_answers(url):
    engine = create_engine(url, connect_args={"connect_timeout": 3})
    try:
        with engine.connect() as connection:
            return connection.scalar(text("select 1")) == 1
    except Exception:
        return False
    finally:
        engine.dispose()


class PrivateRedis:
    """A Redis server of the test's own, whose queue survives a restart."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--dir", str(self.folder), "--appendonly", "yes"]
        self.process = subprocess.Popen([*command, "--appendfsync", "always"], stdout=subprocess.DEVNULL)
        wait_for(lambda: broker_answers(self.url))

    def stop(self):
        self.process.terminate()
        self.process.wait()


class PrivateRabbit:
    """A RabbitMQ node of the test's own."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        config = folder / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndistribution.listener.interface = 127.0.0.1\n")
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"crattn{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        (folder / "plugins").write_text("[].\n")
        server = Path(shutil.which("rabbitmq-server")).resolve()
        # Debian's wrapper changes to the user of its own service; the script behind it does not.
        scripts = [p for p in Path("/usr/lib/rabbitmq").glob("lib/*/sbin/rabbitmq-server")]
        self.server = str(scripts[0] if scripts else server)
        self.start()

    def start(self):
        with open(self.folder / "out", "ab") as out:
            self.process = subprocess.Popen(
                [self.server], env=self.environment, stdout=out, stderr=out, start_new_session=True
            )
        wait_for(lambda: broker_answers(self.url), 90, 0.5)

    def stop(self):
        os.killpg(self.process.pid, 15)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()


class PrivatePostgres:
    """A PostgreSQL cluster of the test's own."""

    def __init__(self, folder):
        self.folder, self.port = folder / "cluster", free_port()
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        found = shutil.which("initdb")
        self.programs = Path(found).parent if found else max(Path("/usr/lib/postgresql").glob("*/bin"))
        self.folder.mkdir(parents=True)
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._do("initdb", "-D", str(self.folder), "-U", "postgres", "-A", "trust", "--no-sync")
        self.start()

    def _do(self, program, *arguments):
        # PostgreSQL does not run as root.
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        command = [*user, str(self.programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def start(self):
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder}"
        self._do("pg_ctl", "-D", str(self.folder), "-o", options, "-l", str(self.folder / "log"), "-w", "start")
        wait_for(lambda: database_answers(self.url))

    def stop(self):
        self._do("pg_ctl", "-D", str(self.folder), "-m", "immediate", "-w", "stop")


def installed(program):
    if program == "initdb" and any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        return os.getuid() == 0 or shutil.which("initdb")
    return shutil.which(program) is not None


@contextmanager
def scratch_database(server):
    """Make an empty database on a PostgreSQL server, and drop it in the end."""
    name = f"crattn_test_{os.getpid()}_{time.monotonic_ns()}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    try:
        yield server.rsplit("/", 1)[0] + f"/{name}"
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"drop database {name} with (force)"))
        engine.dispose()
