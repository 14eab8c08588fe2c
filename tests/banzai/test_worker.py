"""BANZAI's own task, worker and broker."""

import os
import subprocess
import sys
import uuid

import pytest
from banzai import dbs
from banzai.scheduling import process_image
from conftest import need
from kombu import Connection
from pipeline import RAW, REDUCED, SLOTS, context, planes, quick, runs
from services import AMQP, REDIS, broker_answers, wait_for

pytest_plugins = "pipeline"
pytestmark = pytest.mark.filterwarnings("ignore")

BROKERS = {"rabbitmq": AMQP, "redis": REDIS}


@pytest.fixture(params=BROKERS)
def worker(request, tmp_path):
    """A connection to a broker and the name of a queue of our own, at which a worker of BANZAI's listens."""
    url, queue = BROKERS[request.param], f"crattn-{uuid.uuid4().hex[:12]}"
    need(broker_answers(url), f"needs a broker at {url}; CRATTN_TEST_AMQP and CRATTN_TEST_REDIS are their URLs")
    connection = Connection(url)
    environment = os.environ | {"TASK_HOST": url, "CELERY_TASK_QUEUE_NAME": queue}
    command = [sys.executable, "-m", "celery", "-A", "banzai.main", "worker", "-Q", queue, "-c", "1", "-n", queue]
    with open(tmp_path / "worker.log", "w") as log:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle", "-l", "info"],
            env=environment, cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield connection, queue
        finally:
            process.terminate()
            process.wait(60)
            with connection.channel() as channel:
                channel.queue_delete(queue)
            connection.release()


def test_process_image(worker, raw, sqlite, tmp_path):
    connection, queue = worker
    path, _ = raw
    bad = path.with_name(RAW.replace("0001", "0002"))
    bad.write_bytes(path.read_bytes())
    stages = quick(SLOTS["stock"])
    with connection.Producer() as producer:
        for frame, changes in ((bad, {"CRATTN_MODEL": "nowhere.safetensors"}), (path, {})):
            made = vars(context(sqlite, tmp_path, stages, **changes))
            process_image.apply_async(args=({"path": str(frame)}, made), queue=queue, producer=producer)
    written = tmp_path / "elp" / "fa05" / "20211007" / "processed" / REDUCED
    wait_for(lambda: dbs.get_processed_image(RAW, sqlite).success, 120)
    header, _, mask, _ = planes(written)
    assert header["L1STATCR"] == 1 and header["CRNPIX"] == ((mask & 8) != 0).sum() > 0
    # The other one is no success, neither theirs nor ours.
    record = dbs.get_processed_image(bad.name, sqlite)
    assert (record.success, record.tries) == (False, 1)
    assert [(run.frame.path, run.status) for run in runs(sqlite)] == [(bad.name, "failed"), (RAW, "succeeded")]
