"""A thousand workers and ten years of a camera: where it saturates, and what it costs.

``python -m benchmarks.scale --url URL --broker URL --seconds S`` measures what a claim costs a
real PostgreSQL database, with the real code and a sleep in place of the masking, and what a
message costs a real broker.  Then it simulates workers that share one database, one broker
and one file system, each of which serves one request after the other.  With ``--url`` alone, only
claims are measured: how many a second, and the CPU time of the database and of the workers.
Prints JSON.
"""

import heapq
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import numpy as np

#: Programs of the servers whose CPU time is read from /proc.
DATABASE, BROKERS = ("postgres",), ("beam.smp", "redis-server")
#: Of a run: taking the message, claiming the run, reading, masking, writing, recording.
STEPS = ("broker", "database", "disk", "mask", "disk", "database")


def server_seconds(programs):
    """Return the CPU seconds that all processes of some programs have used since they started."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, fields = (folder / "stat").read_text().rsplit(")", 1)
        except OSError:
            continue
        if name.partition("(")[2] in programs:
            # Own time and that of children which ended.
            ticks += sum(int(value) for value in fields.split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _claim_all(url, numbers, threads, seconds, barrier, used):
    """Claim some runs in threads and finish each after a sleep, as a Celery worker's processes do."""
    from calibration_dbs import runs
    from calibration_dbs.database import connect

    database, lock = connect(url), threading.Lock()
    waiting = list(numbers)

    def work():
        while True:
            with lock:
                if not waiting:
                    return
                run = waiting.pop()
            with runs.claimed(database, run) as job:
                time.sleep(seconds)
                runs.begin_output(database, job, {job.target: "ab" * 32})
                job.record.run.update(hits=100, verdict="PASS", rate=25.0, area=4.0)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    barrier.wait(300)
    before = time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    used.put(time.process_time() - before)
    database.dispose()


def measure_claims(url, count, processes, threads, seconds):
    """Queue, claim and finish runs in an upgraded database; return rates and CPU times.

    Parameters
    ----------
    url : str
    count : int
        Runs.
    processes, threads : int
        Workers are ``processes * threads``; a process keeps five connections.
    seconds : float
        That a worker sleeps in place of masking.

    Returns
    -------
    dict
    """
    from calibration_dbs.database import open_database
    from calibration_dbs.runs import Request, queue_runs

    database, stamp = open_database(url), time.time_ns()
    model = {"name": "m", "architecture": "deepcr", "sha256": "ab" * 32, "path": "m"}
    columns = {"threshold": 0.5, "engine": "float32", "version": "0", "options": {}}
    paths = [f"/{stamp}/{number}.fits" for number in range(count)]
    numbers = queue_runs(database, [Request(path, f"{path}.out", model, columns) for path in paths], "20990101")
    database.dispose()
    context = multiprocessing.get_context("spawn")
    barrier, used = context.Barrier(processes + 1), context.SimpleQueue()
    children = [
        context.Process(target=_claim_all, args=(url, numbers[first::processes], threads, seconds, barrier, used))
        for first in range(processes)
    ]
    for child in children:
        child.start()
    # One that cannot start must not hold the others.
    barrier.wait(300)
    began, before = time.perf_counter(), server_seconds(DATABASE)
    for child in children:
        child.join()
    wall = time.perf_counter() - began
    if any(child.exitcode for child in children):
        raise RuntimeError("a worker failed")
    client = sum(used.get() for _ in children)
    return {
        "workers": processes * threads,
        "claims": count,
        "claims_per_second": round(count / wall, 1),
        "database_cpu_ms_per_claim": round((server_seconds(DATABASE) - before) / count * 1e3, 2),
        "worker_cpu_ms_per_claim": round(client / count * 1e3, 2),
    }


def measure_messages(broker, count):
    """Send messages as ``reprocess --celery`` does and take them back; return what each costs.

    Parameters
    ----------
    broker : str
        URL.
    count : int

    Returns
    -------
    dict
    """
    script = f"""
import time
from pathlib import Path
from crattn_stage.nights import tasks
from crattn_stage.nights.headers import FrameInfo
from crattn_stage.nights.plan import PlannedRun
step = PlannedRun(FrameInfo(Path("/data/x.fits")), True, "", Path("/data/y.fits"))
began = time.perf_counter()
tasks.send(dict.fromkeys(range({count}), step))
sent = time.perf_counter()
with tasks.app.connection_for_read() as connection:
    queue = tasks.app.amqp.queues[tasks.QUEUE](connection.default_channel)
    for _ in range({count}):
        queue.get().ack()
    taken = time.perf_counter()
    queue.delete()
print(sent - began, taken - sent)
"""
    environment = {**os.environ, "CRATTN_BROKER": broker, "CRATTN_QUEUE": f"crattn-benchmark-{os.getpid()}"}
    before = server_seconds(BROKERS)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    sent, taken = map(float, done.stdout.split())
    return {
        "messages": count,
        "sent_per_second": round(count / sent),
        "taken_per_second": round(count / taken),
        "broker_cpu_ms_per_message": round((server_seconds(BROKERS) - before) / count * 1e3, 2),
    }


def simulate(workers, exposures, service, mask, spread=0.1, seed=0):
    """Simulate workers that share servers, each of which serves one request after the other.

    Parameters
    ----------
    workers, exposures : int
    service : dict of str to float
        Seconds that the broker, the database and the disk need for one step of `STEPS`.
    mask : float
        Seconds that a worker needs to mask an exposure.
    spread : float
        Standard deviation of the latter, as a fraction.
    seed : int

    Returns
    -------
    seconds : float
        Until the last exposure is recorded.
    busy : dict of str to float
        Fraction of that time for which each server, and the average worker, was at work.

    Examples
    --------
    >>> seconds, busy = simulate(10, 1000, {"broker": 0.0, "database": 0.0, "disk": 1.0}, mask=8.0)
    >>> round(seconds / 2000, 1), f"{busy['disk']:.0%}"  # the disk serves twice a second for each exposure
    (1.0, '100%')
    """
    masking = iter(np.maximum(0, np.random.default_rng(seed).normal(mask, spread * mask, exposures)))
    free, waiting, end, masked = dict.fromkeys(service, 0.0), exposures, 0.0, 0.0
    events = []
    for worker in range(min(workers, exposures)):
        # Not all at once: their first messages come one by one.
        heapq.heappush(events, (0.0, worker, 0))
        waiting -= 1
    while events:
        now, worker, step = heapq.heappop(events)
        if STEPS[step] == "mask":
            seconds = next(masking)
            masked += seconds
            done = now + seconds
        else:
            done = free[STEPS[step]] = max(now, free[STEPS[step]]) + service[STEPS[step]]
        step += 1
        if step == len(STEPS):
            end = max(end, done)
            if not waiting:
                continue
            waiting, step = waiting - 1, 0
        heapq.heappush(events, (done, worker, step))
    busy = {name: exposures * STEPS.count(name) * seconds / end for name, seconds in service.items()}
    return float(end), {**busy, "workers": masked / (workers * end)}


@click.command()
@click.option("--url", required=True, help="An empty PostgreSQL database.")
@click.option("--broker", help="URL of RabbitMQ or Redis; only claims are measured without it.")
@click.option("--seconds", type=float, help="That one worker needs for an exposure, file to file; likewise.")
@click.option("--megabytes", default=476.0, show_default=True, help="Of a packed exposure.")
@click.option("--gigabytes-per-second", "bandwidth", default=5.0, show_default=True, help="Of the shared file system.")
@click.option("--cores", default=2, show_default=True, help="Of one worker.")
@click.option("--price", default=0.04, show_default=True, help="Of one core for one hour.")
@click.option("--exposures", default=500_000, show_default=True)
@click.option("--claims", default=2000, show_default=True)
@click.option("--processes", default=8, show_default=True)
@click.option("--threads", default=5, show_default=True)
@click.option("--sleep", default=0.1, show_default=True, help="In place of masking, for the measured claims.")
def main(url, broker, seconds, megabytes, bandwidth, cores, price, exposures, claims, processes, threads, sleep):
    """Measure claims and messages, and simulate an archive with them."""
    from calibration_dbs.database import connect, upgrade
    from calibration_dbs.runs import LEASE

    database = connect(url)
    upgrade(database)
    database.dispose()
    claimed = measure_claims(url, claims, processes, threads, sleep)
    if broker is None or seconds is None:
        click.echo(json.dumps({"claims": claimed}, indent=2))
        return
    messages = measure_messages(broker, claims)
    # One core of each server; of a claim's transactions the database sees half before and half after the masking.
    service = {
        "broker": messages["broker_cpu_ms_per_message"] / 1e3,
        "database": claimed["database_cpu_ms_per_claim"] / 2e3,
        "disk": megabytes / 1e3 / bandwidth,
    }
    rows = []
    for workers in (1, 10, 100, 300, 1000, 3000):
        # A sign of life is one transaction of the four of a claim.
        beats = workers / (LEASE / 4) * service["database"] / 2
        loaded = {**service, "database": service["database"] / max(1 - beats, 1e-3)}
        took, busy = simulate(workers, exposures, loaded, seconds)
        rows.append(
            {
                "workers": workers,
                "days": round(took / 86400, 2),
                "exposures_per_hour": round(exposures / took * 3600),
                "busy": {name: round(part, 3) for name, part in busy.items()},
                "core_hours": round(workers * cores * took / 3600),
                "cost": round(workers * cores * took / 3600 * price),
            }
        )
    click.echo(json.dumps({"claims": claimed, "messages": messages, "service_s": service, "archive": rows}, indent=2))


if __name__ == "__main__":
    main()
