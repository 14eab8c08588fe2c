"""``reprocess`` and ``worker``."""

import logging
import os
import signal
import sys
import time
from contextlib import contextmanager
from datetime import datetime

import click

from crattn_stage.cli.options import (
    DONE,
    FAILED,
    database_option,
    engine_option,
    explained,
    overwrite_option,
    threshold_option,
    with_database,
    without_password,
)
from crattn_stage.errors import CrattnError
from crattn_stage.settings import default_database

#: Seconds between looks at the database, and after which messages that nothing came of are sent again.
LOOK, RESEND = 0.5, 60


class Night(click.ParamType):
    """A night: YYYYMMDD, or with hyphens."""

    name = "YYYYMMDD"

    def convert(self, value, parameter, context):
        try:
            return datetime.strptime(value.replace("-", ""), "%Y%m%d").strftime("%Y%m%d")
        except ValueError:
            self.fail(f"{value!r} is not a date YYYYMMDD", parameter, context)


@click.command()
@click.option("--night", required=True, type=Night(), help="The observatory's own label of the night.")
@click.option(
    "--root",
    envvar="CRATTN_ROOT",
    required=True,
    type=click.Path(exists=True, file_okay=False),
    help="Folder of the data, laid out SITE/INSTRUMENT/NIGHT/processed; CRATTN_ROOT without it.",
)
@click.option("--site", default="*", help="Folder of the site; all without it.")
@click.option("--instrument", default="*", help="Folder of the instrument (with --pattern: INSTRUME or camera family).")
@click.option("--pattern", help="Shell pattern of files below --root, instead of that layout; ** crosses folders.")
@click.option(
    "--output-root", type=click.Path(file_okay=False), help="Output goes below it as input lies below --root."
)
@click.option(
    "--model", help="Shipped name, or path of a .safetensors file; the one registered for the frame without it."
)
@threshold_option
@engine_option
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes on this machine.")
@click.option("--celery", is_flag=True, help="Send the frames to Celery workers instead.")
@click.option("--detach", is_flag=True, help="With --celery: do not wait for the workers.")
@click.option("--force", is_flag=True, help="Mask again what is done.")
@click.option("--dry-run", is_flag=True, help="Say what would happen to each frame, and why.")
@overwrite_option
@click.option("--mask-extension", is_flag=True, help="Add a CRMASK plane of the cosmic rays alone.")
@database_option
def reprocess(
    night, root, site, instrument, pattern, output_root, model, threshold, engine, jobs, celery, detach, force,
    dry_run, url, **options,
):  # fmt: skip
    """Mask the frames of a night that are due.

    A frame is due unless the same file, model, threshold and major version
    have already succeeded and the output is still as it was written.  Started
    again after a stop, it goes on where it was.  An output of its own is
    replaced; any other existing file is kept, unless --overwrite.

    Ctrl-C lets the frames in work finish; a second one abandons them.  With
    --celery it ends the watching, not the work.
    """
    if detach and not celery:
        raise click.UsageError("--detach is of --celery")
    if pattern is not None and (os.path.isabs(pattern) or not pattern):
        raise click.UsageError(f"--pattern {pattern!r} is not a pattern of files below --root")
    with explained():
        from calibration_dbs.database import open_database
        from crattn_stage.nights.find import find_frames
        from crattn_stage.nights.runs import plan, submit

        url = url or default_database()
        database = with_database(url, open_database)
        frames, mentioned = find_frames(root, night, site, instrument, pattern, output_root)
        for frame in mentioned:
            click.echo(f"{frame.path}: of night {frame.night}, not of {night}", err=True)
        if not frames:
            raise CrattnError(f"no frames of night {night} below {root}")
        steps = with_database(
            url, lambda _: [plan(database, frame, model, threshold, root, output_root, force) for frame in frames]
        )
        if dry_run:
            _tell(steps)
            sys.exit(DONE)
        for step in steps:
            if not step.due:
                click.echo(f"{step.frame.path}: skipped, {step.reason}")
        runs = with_database(url, lambda _: submit(database, steps, night, engine, **options))
        if not runs:
            click.echo(f"night {night}: nothing is due")
            sys.exit(DONE)
        try:
            if celery:
                finished = _by_celery(database, runs, detach)
            else:
                finished = _here(url, database, runs, min(jobs, len(runs)))
        except (*_lost_connections(),) as error:
            cause = str(getattr(error, "orig", None) or error).split("\n")[0]
            raise CrattnError(f"{cause}; what is not done stays queued, the same command goes on") from error
    sys.exit(finished)


def _lost_connections():
    from kombu.exceptions import OperationalError

    from calibration_dbs.records import UNREACHABLE

    return (OperationalError, *UNREACHABLE)


def _tell(steps):
    width = max(len(str(step.frame.path)) for step in steps)
    for step in steps:
        model = f"{step.model['name']} {step.model['sha256'][:8]}" if step.due else ""
        click.echo(f"{step.frame.path!s:{width}}  {'mask' if step.due else 'skip':4}  {model:26}  {step.reason}")
    click.echo(f"{sum(step.due for step in steps)} of {len(steps)} frames are due")


def _here(url, database, runs, jobs):
    from crattn_stage.nights.local_workers import LocalWorkers

    with (
        _patient_interrupt("finishing the frames in work; Ctrl-C again abandons them") as asked,
        LocalWorkers(url, runs, jobs) as workers,
    ):

        def idle():
            if asked:
                workers.stop()
            # The workers stop by themselves when nothing is left, or when they are told to.
            return not workers.watch()

        return _follow(database, runs, idle)


def _by_celery(database, runs, detach):
    from calibration_dbs.records import any_held, open_runs
    from crattn_stage.nights import tasks

    tasks.send(runs)
    click.echo(f"{len(runs)} frames sent to {without_password(tasks.BROKER)}")
    if detach:
        return DONE
    progress = {"left": len(runs), "since": time.monotonic(), "patience": RESEND}

    def idle():
        left = open_runs(database, runs)
        if len(left) != progress["left"] or any_held(database, runs):
            progress.update(left=len(left), since=time.monotonic())
        elif time.monotonic() - progress["since"] > progress["patience"]:
            # A broker that has lost its messages costs nothing: a run is done once, however often it is asked for.
            progress.update(since=time.monotonic(), patience=2 * progress["patience"])
            click.echo("no worker takes them; sent again.  Large frames need a worker with --large.", err=True)
            try:
                tasks.send({run: runs[run] for run in left})
            except _lost_connections() as error:
                logging.getLogger(__name__).warning("the broker: %s", error)
        return bool(asked)

    with _patient_interrupt("the workers go on; started again, this command follows them") as asked:
        return _follow(database, runs, idle)


def _follow(database, runs, idle):
    """Show runs as they end, until all have or `idle` says that none will."""
    from tqdm import tqdm

    from calibration_dbs.records import UNREACHABLE, close_batch, over_runs
    from crattn_stage.quality.night_report import summary

    shown, megapixels, began = set(), 0.0, time.monotonic()
    with tqdm(total=len(runs), unit="frame", disable=None) as bar:
        while True:
            try:
                last = idle()
                over = over_runs(database, runs)
            except UNREACHABLE as error:
                logging.getLogger(__name__).warning("the database: %s", str(error.orig).strip().split("\n")[0])
                time.sleep(2)
                continue
            for run in over:
                if run.id in shown:
                    continue
                shown.add(run.id)
                megapixels += run.megapixels or 0
                bar.set_postfix_str(f"{megapixels / (time.monotonic() - began):.2f} Mpx/s", refresh=False)
                bar.update()
                _show(run, bar)
            if last or len(shown) == len(runs):
                break
            time.sleep(LOOK)
    if shown:
        close_batch(database, next(iter(shown)))
    click.echo(summary(database, runs, failures=False))
    failed = any(run.status == "failed" for run in over)
    if len(shown) < len(runs):
        click.echo(f"{len(runs) - len(shown)} frames are left; the same command goes on", err=True)
        failed = True
    return FAILED if failed else DONE


def _show(run, bar):
    if run.status == "failed":
        bar.write(f"{run.frame.path}: {run.error}", file=sys.stderr)
    elif run.status == "succeeded":
        reason = f": {run.reason}" if run.reason else ""
        bar.write(f"{run.frame.path}: CRNHIT {run.hits}, {run.verdict}{reason}")
    else:
        bar.write(f"{run.frame.path}: {run.status}")


@contextmanager
def _patient_interrupt(message):
    """Yield a list that gets an element, and say something, at the first Ctrl-C; the second one raises."""
    asked = []

    def handle(number, stack):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        click.echo(message, err=True)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    except KeyboardInterrupt:
        raise CrattnError("abandoned; the same command goes on") from None
    finally:
        signal.signal(signal.SIGINT, before)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--concurrency", type=click.IntRange(1), help="Frames at a time; one per core pair without it.")
@click.option("--large", is_flag=True, help="Take large frames, too; alone on a machine with the memory for them.")
@click.option("--large-only", is_flag=True, help="Take nothing but large frames.")
@database_option
@click.argument("celery_arguments", nargs=-1, type=click.UNPROCESSED)
def worker(concurrency, large, large_only, url, celery_arguments):
    """Mask frames that `reprocess --celery` sends, until told to stop.

    Further arguments go to Celery's own worker command.  The broker is
    CRATTN_BROKER.
    """
    with explained():
        from calibration_dbs.database import open_database
        from crattn_stage.detection.engines.base import available_cores

        url = url or default_database()
        # Just to see that it is there; the processes to come must not inherit a connection.
        with_database(url, open_database).dispose()
        os.environ["CRATTN_DB"] = url
        cores = available_cores()
        concurrency = concurrency or max(1, cores // 2)
        # Workers that all took every core would fight for them.
        threads = str(max(1, cores // concurrency))
        os.environ["CRATTN_THREADS"] = os.environ["OMP_NUM_THREADS"] = threads
        from crattn_stage.nights import tasks

        queues = [tasks.LARGE_QUEUE] if large_only else [tasks.QUEUE] + [tasks.LARGE_QUEUE] * large
        arguments = ["worker", "--loglevel=INFO", f"--concurrency={concurrency}", f"--queues={','.join(queues)}"]
        tasks.app.worker_main([*arguments, *celery_arguments])
