"""Batch reprocessing by Celery: the app, its one task, and their configuration.

A message is the number of a run and the path of its frame; what is to be done
is in the database.  A message may therefore come twice, or too late, or be
sent again, and the frame is still masked once.
"""

import os

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, Task
from celery.exceptions import InvalidTaskError
from celery.signals import after_setup_logger, after_setup_task_logger, worker_process_init
from celery.utils.log import get_task_logger
from celery.worker import state
from celery.worker.request import Request
from kombu.exceptions import OperationalError

from calibration_dbs import runs as queue
from calibration_dbs.database import TRIES, UNREACHABLE, connect, default_url, pause, without_password
from calibration_dbs.runs import Locked, Over, Transient, UnknownRun
from crattn_stage.errors import CrattnError, PrintableFormatter, one_line

logger = get_task_logger(__name__)

BROKER = os.environ.get("CRATTN_BROKER", "amqp://guest:guest@127.0.0.1:5672//")
QUEUE = os.environ.get("CRATTN_QUEUE", "crattn")
LARGE_QUEUE = f"{QUEUE}-large"
#: Megapixels above which a frame goes to the queue for large ones.
LARGE = float(os.environ.get("CRATTN_LARGE", 100))
#: Seconds that one frame may take.  The soft limit, a little less, is an exception in the task.
TIME_LIMIT = float(os.environ.get("CRATTN_TIME_LIMIT", 1200))
#: Seconds of the longest countdown of a message.
LONGEST_WAIT = 300

app = Celery("crattn", broker=BROKER)
#: Highest priority of a run.
MOST_URGENT = 9

app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_soft_time_limit=0.9 * TIME_LIMIT,
    task_time_limit=TIME_LIMIT,
    # Frames in work when the connection breaks are finished; their messages come again and find nothing to do.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_send_task_events=True,
    # A process counts as up when it has imported what it needs.
    worker_proc_alive_timeout=300,
    enable_utc=True,
)
_REDIS = ("redis", "rediss", "sentinel")
if BROKER.startswith(_REDIS):
    # Redis gives a message to another worker after that time, even while one works on it.
    app.conf.broker_transport_options = {
        "visibility_timeout": 2 * TIME_LIMIT + LONGEST_WAIT,
        "priority_steps": list(range(MOST_URGENT + 1)),
        "queue_order_strategy": "priority",
    }
elif BROKER.startswith(("amqp", "pyamqp")):
    # RabbitMQ confirms that it has a message; without that, one may be lost on the way.
    app.conf.broker_transport_options = {"confirm_publish": True}
    app.conf.task_queue_max_priority = MOST_URGENT


@worker_process_init.connect
def _get_ready(**_):
    # Before the first frame, whose time limit is not for imports.
    import crattn_stage.nights.execute
    import crattn_stage.stage  # noqa: F401


@after_setup_logger.connect
@after_setup_task_logger.connect
def _print_safely(logger, **_):
    for handler in logger.handlers:
        handler.setFormatter(PrintableFormatter(handler.formatter))


class BrokerError(CrattnError):
    """The message broker cannot be used; the message names it without its password."""


class _MaskRequest(Request):
    """Discard messages that are none of ours, and record what a task cannot: that it was killed for taking too long."""

    def __init__(self, *arguments, **keywords):
        try:
            super().__init__(*arguments, **keywords)
        except (TypeError, ValueError) as error:
            # Celery lets it end the worker, and the message goes to the next one.
            raise InvalidTaskError(one_line(error)) from error
        if self.kwargs or not _is_ours(self.args):
            raise InvalidTaskError("not the number of a run and the path of a frame")
        # A message carries the limits of its sender; the worker's apply.
        self.time_limits = None, None

    def on_timeout(self, soft, timeout):
        if not soft and not state.should_terminate:
            run_id, _ = self.args
            # The children of this process must not inherit a connection.
            database = connect(_url())
            reason = f"took longer than {timeout:g} s and was killed"
            try:
                queue.give_up(database, run_id, reason, self.worker_pid)
                _end_batch(database, run_id)
            except UNREACHABLE as error:
                logger.error("run %s %s; the database: %s", run_id, reason, one_line(error))
            finally:
                database.dispose()
        super().on_timeout(soft, timeout)


def _is_ours(arguments):
    if not isinstance(arguments, (list, tuple)) or len(arguments) != 2:
        return False
    run, path = arguments
    return type(run) is int and 0 < run < 2**31 and isinstance(path, str)


class _MaskTask(Task):
    Request = _MaskRequest


def _url():
    return os.environ.get("CRATTN_DB") or default_url()


_engines = {}


def _database():
    # One for each process: a connection does not survive a fork.
    if os.getpid() not in _engines:
        _engines[os.getpid()] = connect(_url())
    return _engines[os.getpid()]


@app.task(bind=True, base=_MaskTask, name="crattn.mask", max_retries=None)
def mask(self, run_id, path):
    """Do a queued run.

    Parameters
    ----------
    run_id : int
        From `crattn_stage.nights.plan.submit`.
    path : str
        Of the frame.

    Raises
    ------
    celery.exceptions.Retry
        If what went wrong may pass.
    """
    from crattn_stage.nights.execute import execute

    database = _database()
    threads = int(os.environ.get("CRATTN_THREADS", 0)) or None
    try:
        try:
            logger.info("run %s: %s", run_id, execute(database, run_id, threads, path).message)
        except UnknownRun as error:
            logger.error("%s", error)
            return
        except Over as error:
            logger.info("%s", error)
        except CrattnError as error:
            logger.warning("run %s: %s", run_id, error)
        except Transient as error:
            if self.request.retries + 1 < TRIES:
                raise
            queue.give_up(database, run_id, f"gave up after {TRIES} tries: {error}")
        _end_batch(database, run_id)
    except (Locked, SoftTimeLimitExceeded) as error:
        # Not a retry: that another worker has the frame is no failure, however long it takes.  What the time
        # limit interrupted outside of the masking is looked at again when the lease has expired.
        logger.info("run %s: %s", run_id, error)
        same = self.request.delivery_info["routing_key"]
        priority = self.request.delivery_info.get("priority")
        mask.apply_async((run_id, path), countdown=queue.LEASE / 2, queue=same, priority=priority)
    except (Transient, *UNREACHABLE) as error:
        # A database that is away is waited for without end: nothing could be recorded.
        seconds = min(LONGEST_WAIT, pause(self.request.retries + 1))
        logger.warning("run %s: %s; trying again in %.0f s", run_id, one_line(error), seconds)
        raise self.retry(exc=error, countdown=seconds) from error
    except Exception:
        # Recorded as the run's failure.  Log unexpected errors and continue with the next frame.
        logger.exception("run %s", run_id)
        _end_batch(database, run_id)


def _end_batch(database, run_id):
    for batch in queue.close_batches(database, [run_id]):
        from crattn_stage.nights.follow import summary

        for line in summary(database, queue.batch_runs(database, batch)).split("\n"):
            logger.info("batch %s: %s", batch, line)


def message_priority(priority):
    """Return how the broker is told of a priority: to RabbitMQ 9 is the most urgent, to Redis 0.

    Parameters
    ----------
    priority : int
        0 to 9, the most urgent.

    Returns
    -------
    int
    """
    return MOST_URGENT - priority if BROKER.startswith(_REDIS) else priority


def send(runs, priority=0):
    """Send queued runs to the workers.

    Parameters
    ----------
    runs : dict of int to `crattn_stage.nights.plan.PlannedRun`
        As from `crattn_stage.nights.plan.submit`.
    priority : int
        As for `crattn_stage.nights.plan.submit`.

    Raises
    ------
    BrokerError
        If the broker cannot be reached.
    """
    try:
        with app.producer_pool.acquire(block=True) as producer:
            errors = (OperationalError, *producer.connection.connection_errors, *producer.connection.channel_errors)
            try:
                for run, step in runs.items():
                    large = step.frame.megapixels > LARGE
                    arguments = (run, str(step.frame.path))
                    to = LARGE_QUEUE if large else QUEUE
                    mask.apply_async(arguments, queue=to, producer=producer, priority=message_priority(priority))
            except errors as error:
                raise BrokerError(f"the broker {without_password(BROKER)}: {one_line(error)}") from error
    except (ImportError, KeyError, ValueError) as error:
        # Of its URL.
        raise BrokerError(f"the broker {without_password(BROKER)}: {type(error).__name__}") from error
