"""Batch reprocessing by Celery: the app, its one task, and how it is set up.

A message is the number of a run; what is to be done stands in the database.
So a message may come twice, or too late, or be sent again, and the frame is
still masked once.
"""

import os
import random

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, Task
from celery.utils.log import get_task_logger
from celery.worker.request import Request

from calibration_dbs import records
from calibration_dbs.database import connect
from calibration_dbs.records import UNREACHABLE, Locked, Over, Transient
from crattn_stage.errors import CrattnError
from crattn_stage.settings import default_database

logger = get_task_logger(__name__)

BROKER = os.environ.get("CRATTN_BROKER", "amqp://guest:guest@127.0.0.1:5672//")
QUEUE = os.environ.get("CRATTN_QUEUE", "crattn")
LARGE_QUEUE = f"{QUEUE}-large"
#: Megapixels above which a frame goes to the queue for large ones.
LARGE = float(os.environ.get("CRATTN_LARGE", 100))
#: Seconds that one frame may take.  The soft limit, a little less, is an exception in the task.
TIME_LIMIT = float(os.environ.get("CRATTN_TIME_LIMIT", 1200))
#: Retries of what may pass, and the longest wait before one, seconds: a quarter of an hour in all.
RETRIES, LONGEST_WAIT = 10, 300

app = Celery("crattn", broker=BROKER)
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
    enable_utc=True,
)
if BROKER.startswith(("redis", "rediss", "sentinel")):
    # Redis gives a message to another worker after that time, whether or not it is being worked on.
    app.conf.broker_transport_options = {"visibility_timeout": 2 * TIME_LIMIT + LONGEST_WAIT}


class _MaskRequest(Request):
    """Records what the task itself cannot: that it was killed for taking too long."""

    def on_timeout(self, soft, timeout):
        super().on_timeout(soft, timeout)
        if not soft:
            (run_id,) = self.args
            # The children of this process must not inherit a connection.
            database = connect(_url())
            records.give_up(database, run_id, f"took longer than {timeout:g} s and was killed")
            _end_batch(database, run_id)
            database.dispose()


class _MaskTask(Task):
    Request = _MaskRequest


def _url():
    return os.environ.get("CRATTN_DB") or default_database()


_engines = {}


def _database():
    # One for each process: a connection does not survive a fork.
    if os.getpid() not in _engines:
        _engines[os.getpid()] = connect(_url())
    return _engines[os.getpid()]


@app.task(bind=True, base=_MaskTask, name="crattn.mask", max_retries=None)
def mask(self, run_id):
    """Do a queued run.

    Parameters
    ----------
    run_id : int
        From `crattn_stage.reprocess.submit`.

    Raises
    ------
    celery.exceptions.Retry
        If what went wrong may pass.
    """
    from crattn_stage.reprocess import perform

    database = _database()
    threads = int(os.environ.get("CRATTN_THREADS", 0)) or None
    try:
        try:
            outcome = perform(database, run_id, threads)
            logger.info("run %s: %s", run_id, outcome.message)
        except Over as error:
            logger.info("%s", error)
        except CrattnError as error:
            logger.warning("run %s: %s", run_id, error)
        _end_batch(database, run_id)
    except Locked as error:
        logger.info("%s", error)
        # Not a retry: that another worker has the frame is no failure, however long it takes.
        mask.apply_async((run_id,), countdown=records.LEASE / 4, queue=self.request.delivery_info["routing_key"])
    except SoftTimeLimitExceeded:
        # Between two steps of the recording: the lease will expire, and the run be taken up again.
        raise
    except (Transient, *UNREACHABLE) as error:
        if self.request.retries < RETRIES:
            seconds = min(LONGEST_WAIT, 2**self.request.retries) * random.uniform(0.8, 1.2)
            logger.warning("run %s: %s; trying again in %.0f s", run_id, error, seconds)
            raise self.retry(exc=error, countdown=seconds) from error
        records.give_up(database, run_id, f"gave up after {RETRIES} retries: {error}")
        _end_batch(database, run_id)
    except Exception:
        # A defect of ours: recorded as the run's failure.
        logger.exception("run %s", run_id)
        _end_batch(database, run_id)


def _end_batch(database, run_id):
    batch = records.close_batch(database, run_id)
    if batch is not None:
        from crattn_stage.night_report import summary

        logger.info("%s", summary(database, records.batch_runs(database, batch)))


def send(runs, megapixels):
    """Send queued runs to the workers.

    Parameters
    ----------
    runs : iterable of int
    megapixels : callable
        Run -> size of its frame.

    Raises
    ------
    kombu.exceptions.OperationalError
        If the broker cannot be reached.
    """
    with app.producer_pool.acquire(block=True) as producer:
        for run in runs:
            queue = LARGE_QUEUE if megapixels(run) > LARGE else QUEUE
            mask.apply_async((run,), queue=queue, producer=producer)
