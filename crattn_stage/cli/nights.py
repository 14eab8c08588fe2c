"""``reprocess`` and ``worker``."""

import os
import signal
import sys
import time
import uuid
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import groupby

import click

from crattn_stage.cli.options import (
    DONE,
    FAILED,
    Night,
    database_option,
    engine_option,
    explained,
    mask_options,
    opened,
    overwrite_option,
    say,
    threshold_option,
    with_database,
)
from crattn_stage.errors import CrattnError, one_line, printable

#: Seconds without progress after which messages are sent again.
RESEND = 60
#: Frames that are queued before work on them begins; a range of nights goes in such portions.
PORTION = 2000
#: Priorities of the runs of one night, and of a range of nights.
TONIGHT, ARCHIVE = 5, 0


@click.command()
@click.option("--night", type=Night(), help="The observatory's own label of the night.")
@click.option("--from", "first", type=Night(), help="First night of a range.")
@click.option("--until", "last", type=Night(), help="Last night of the range.")
@click.option(
    "--root",
    envvar="CRATTN_ROOT",
    required=True,
    type=click.Path(exists=True, file_okay=False),
    help="Folder of the data, laid out SITE/INSTRUMENT/NIGHT/processed (default: CRATTN_ROOT).",
)
@click.option("--site", default="*", help="Folder of the site (default: all).")
@click.option(
    "--instrument", "instruments", multiple=True, default=["*"],
    help="Folder of the instrument (with --pattern or --list: INSTRUME or camera family); may be repeated.",
)  # fmt: skip
@click.option("--pattern", help="Shell pattern of files below --root, instead of that layout; ** crosses folders.")
@click.option(
    "--list", "list_file", type=click.File("rb"), help="File listing one path per line, instead of that layout."
)
@click.option(
    "--output-root",
    type=click.Path(file_okay=False),
    help="Output folder; the layout below --root is reproduced (default: beside each input).",
)
@click.option(
    "--model",
    help="Shipped name, or path of a .safetensors file (default: as registered for "
    "the frame, else the camera profile's, else fast).",
)
@threshold_option
@engine_option
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes on this machine.")
@click.option("--celery", is_flag=True, help="Send the frames to Celery workers instead.")
@click.option("--detach", is_flag=True, help="With --celery: do not wait for the workers.")
@click.option(
    "--ahead", type=click.IntRange(1), help="With --celery: keep at most this many frames queued (default: all)."
)
@click.option(
    "--priority",
    type=click.IntRange(0, 9),
    help="Runs of higher priority go first (default: 5 for one night, 0 for a range).",
)
@click.option("--force", is_flag=True, help="Mask frames again even if they are up to date.")
@click.option("--dry-run", is_flag=True, help="Print what would happen to each frame and why, with a time estimate.")
@overwrite_option
@mask_options
@database_option
def reprocess(model, threshold, force, dry_run, masks, url, **options):
    """Mask the frames of a night, or of a range of nights, that are out of date.

    A frame is up to date if the same file was masked with the same model,
    threshold, settings and major version, every product asked for was written,
    and the output has not changed since.  After an interruption, the same
    command resumes.  Files that it wrote itself are replaced; any other
    existing file is kept, unless --overwrite is given.

    Ctrl-C lets the frames being masked finish; a second Ctrl-C abandons them.
    With --celery, Ctrl-C stops the progress display; the workers carry on.
    """
    selection, running = _taken(_Selection, options), _taken(_Running, options)
    with explained():
        from calibration_dbs.database import UNREACHABLE, default_url
        from crattn_stage.nights.plan import plan, submit

        url = url or default_url()
        database = opened(url)
        frames, absent = _found(selection, url, database)
        asked = model, threshold, selection.root, selection.output_root, force, masks
        steps = with_database(url, lambda _: plan(database, frames, *asked))
        refused = [step for step in steps if step.error]
        for step in refused:
            say(f"{step.frame.path}: {step.error}", err=True)
        if dry_run:
            _print_plan(database, steps, running.jobs)
            sys.exit(FAILED if refused or absent else DONE)
        settled = [step for step in steps if not (step.out_of_date or step.error)]
        for step in settled:
            say(f"{step.frame.path}: skipped, {step.reason}")
        if len(refused) + len(settled) == len(steps):
            with_database(url, lambda _: submit(database, settled, selection.nights[0]))
            say(
                f"night {selection.label}: nothing is out of date; {len(settled)} skipped"
                + (f", {len(refused)} refused" if refused else "")
            )
            sys.exit(FAILED if refused or absent else DONE)
        priority = running.priority
        if priority is None:
            # Tonight before the archive.
            priority = TONIGHT if selection.night else ARCHIVE
        try:
            tally, left = _done(url, database, steps, refused, masks, running, priority)
        except UNREACHABLE as error:
            raise CrattnError(
                f"{one_line(error)}; unfinished frames stay queued, and the same command resumes"
            ) from error
        if running.celery and running.detach:
            sys.exit(FAILED if refused or absent else DONE)
        say(tally.summary(len(settled), len(refused)))
        if left:
            say(f"{left} frames are left; the same command resumes", err=True)
    sys.exit(FAILED if left or refused or absent or tally.replaced or tally.counts["failed"] else DONE)


@dataclass(frozen=True)
class _Selection:
    """The options that say which frames are meant."""

    night: str | None
    first: str | None
    last: str | None
    root: str
    site: str
    instruments: tuple
    pattern: str | None
    list_file: object
    output_root: str | None

    def __post_init__(self):
        if (self.first, self.last).count(None) != (2 if self.night else 0):
            raise click.UsageError("give either --night, or both --from and --until")
        if self.first and self.first > self.last:
            raise click.UsageError(f"--from {self.first} is after --until {self.last}")
        if self.pattern is not None and (os.path.isabs(self.pattern) or not self.pattern):
            raise click.UsageError(f"--pattern {self.pattern!r} is not a pattern of files below --root")

    @property
    def nights(self):
        """The first and the last night."""
        return self.night or self.first, self.night or self.last

    @property
    def label(self):
        """What messages call them."""
        return self.night or f"{self.first}-{self.last}"


@dataclass(frozen=True)
class _Running:
    """The options that say how runs are queued, and who does them."""

    engine: str
    jobs: int
    celery: bool
    detach: bool
    ahead: int | None
    priority: int | None
    overwrite: bool

    def __post_init__(self):
        if (self.detach or self.ahead) and not self.celery:
            raise click.UsageError("--detach and --ahead need --celery")
        if self.detach and self.ahead:
            raise click.UsageError("--ahead sends frames while others are masked; it cannot --detach")


def _taken(kind, options):
    """Return a dataclass of those of the options that are its fields."""
    return kind(**{field.name: options[field.name] for field in fields(kind)})


def _found(selection, url, database):
    """Return the frames that are meant, and what could not be looked at; print that and what is left out."""
    from crattn_stage.nights.find import find_frames

    paths, absent = _listed(selection.list_file) if selection.list_file else (None, [])
    for path in absent:
        say(f"{path}: no such file", err=True)
    where = selection.site, selection.instruments, selection.pattern, paths, selection.output_root
    frames, mentioned, unreadable = with_database(
        url, lambda _: find_frames(selection.root, *selection.nights, *where, database)
    )
    for folder, why in unreadable.items():
        say(f"{folder}: {why}", err=True)
    for frame in mentioned:
        say(f"{frame.path}: of night {frame.night}, not of {selection.label}", err=True)
    if not frames:
        raise CrattnError(_nothing_found(selection))
    return frames, [*absent, *unreadable]


def _done(url, database, steps, refused, masks, running, priority):
    """Queue runs and follow them, portion by portion; return their tally and how many are left.

    Steps that the database refuses are added to `refused`.
    """
    from crattn_stage.nights.follow import Tally
    from crattn_stage.nights.plan import submit

    tally, left = Tally(), 0
    how = {"engine": running.engine, "priority": priority, "masks": masks, "overwrite": running.overwrite}
    for portion in _portions(steps):
        runs = {}
        for date, group in groupby(portion, lambda step: step.frame.night):
            group = list(group)
            runs |= with_database(url, lambda _, g=group, d=date: submit(database, g, d, **how))
        for step in portion:
            if step.error and step not in refused:
                refused.append(step)
                say(f"{step.frame.path}: {step.error}", err=True)
        if left:
            left += len(runs)
        elif running.celery:
            left = _by_celery(database, runs, tally, running.detach, running.ahead, priority)
        elif runs:
            left = _here(url, database, runs, tally, min(running.jobs, len(runs)))
    return tally, left


def _nothing_found(selection):
    label, root, pattern = selection.label, selection.root, selection.pattern
    if selection.list_file is not None:
        return f"no frames of night {label} in {selection.list_file.name}"
    if pattern is not None:
        return f"no frames of night {label} among {os.path.join(root, pattern)}"
    layout = [os.path.join(root, selection.site, i, "NIGHT", "processed", "*.fits*") for i in selection.instruments]
    return (
        f"no frames of night {label} in {', '.join(layout)}; "
        "frames that lie elsewhere need --pattern, such as --pattern '**/*.fits.fz'"
    )


def _listed(file):
    """Return the paths that a file lists, and those of them that are no files."""
    lines = (os.fsdecode(line.strip()) for line in file)
    paths = [line for line in lines if line]
    return [path for path in paths if os.path.isfile(path)], [path for path in paths if not os.path.isfile(path)]


def _portions(steps):
    """Yield the steps in portions of as many as are queued at once, night by night."""
    steps = sorted(steps, key=lambda step: (step.frame.night, step.frame.path))
    for start in range(0, len(steps), PORTION):
        yield steps[start : start + PORTION]


def _print_plan(database, steps, jobs):
    from calibration_dbs.provenance import recent_speed

    width = max(len(printable(step.frame.path)) for step in steps)
    for step in steps:
        model = f"{step.model['name']} {step.model['sha256'][:8]}" if step.out_of_date else ""
        what = "mask" if step.out_of_date else "skip"
        say(f"{printable(step.frame.path):{width}}  {what:4}  {model:26}  {step.error or step.reason}")
    wanted = [step for step in steps if step.out_of_date]
    line, speed = f"{len(wanted):,} of {len(steps):,} frames are out of date", recent_speed(database)
    ccds, megapixels = (sum(getattr(s.frame, name) for s in wanted) for name in ("ccds", "megapixels"))
    if wanted:
        line += f"; {ccds:,} CCDs, {megapixels:,.0f} megapixels"
    if wanted and speed:
        hours = megapixels / speed / jobs / 3600
        line += f", about {hours:.1f} h on {jobs} {'worker' if jobs == 1 else 'workers'} at {speed:.2f} a second each"
    say(line)


def _here(url, database, runs, tally, jobs):
    from crattn_stage.nights.local_workers import LocalWorkers

    with (
        _patient_interrupt("finishing the frames being masked; Ctrl-C again abandons them") as asked,
        LocalWorkers(url, runs, jobs) as workers,
    ):

        def idle(left):
            if asked:
                workers.stop()
            # The workers stop by themselves when nothing is left, or when they are told to.
            return not workers.watch()

        return _show(database, runs, tally, idle)


def _by_celery(database, runs, tally, detach, ahead, priority):
    import logging

    from calibration_dbs.database import without_password
    from calibration_dbs.runs import RunIds, any_held, open_runs
    from crattn_stage.nights import tasks

    waiting, ids = deque(runs), RunIds(runs)

    def send_more(left):
        room = len(waiting) if ahead is None else max(0, ahead - (left - len(waiting)))
        portion = [waiting.popleft() for _ in range(min(room, len(waiting)))]
        try:
            tasks.send({run: runs[run] for run in portion}, priority)
        except tasks.BrokerError:
            waiting.extendleft(reversed(portion))
            raise

    try:
        send_more(len(runs))
    except tasks.BrokerError as error:
        raise CrattnError(f"{error}; the frames stay queued, and the same command resumes") from error
    say(f"{len(runs) - len(waiting)} of {len(runs)} frames sent to {without_password(tasks.BROKER)}")
    if detach:
        return 0
    progress = {"left": len(runs), "since": time.monotonic(), "patience": RESEND}

    def idle(left):
        if asked:
            return True
        try:
            send_more(left)
            if left != progress["left"]:
                progress.update(left=left, since=time.monotonic())
            elif time.monotonic() - progress["since"] > progress["patience"]:
                progress.update(since=time.monotonic())
                if not any_held(database, ids):
                    # A broker that lost its messages costs nothing: a run is done once, however often it is sent.
                    progress.update(patience=2 * progress["patience"])
                    say(
                        "no worker has picked up these frames; sending them again. Large frames need a worker with "
                        "--large.",
                        err=True,
                    )
                    sent = set(open_runs(database, ids)).difference(waiting)
                    tasks.send({run: runs[run] for run in sorted(sent)}, priority)
        except tasks.BrokerError as error:
            logging.getLogger(__name__).warning("%s", error)
        return False

    with _patient_interrupt("the workers go on; started again, this command follows them") as asked:
        return _show(database, runs, tally, idle)


def _show(database, runs, tally, idle):
    """Print runs as they end; return how many are left when no more will."""
    from tqdm import tqdm

    from calibration_dbs.runs import close_batches
    from crattn_stage.nights.follow import follow

    left, began, before = len(runs), time.monotonic(), tally.megapixels
    with tqdm(total=len(runs), unit="frame", disable=None) as bar:
        for run in follow(database, runs, idle):
            left -= 1
            tally.add(run)
            rate = (tally.megapixels - before) / (time.monotonic() - began)
            bar.set_postfix_str(f"{rate:.2f} Mpx/s", refresh=False)
            bar.update()
            bar.write(printable(_line(run)), file=sys.stderr if run.status == "failed" else sys.stdout)
    close_batches(database, runs)
    return left


def _line(run):
    if run.status == "failed":
        return f"{run.frame.path}: {run.error}"
    if run.status == "succeeded":
        return f"{run.frame.path}: CRNHIT {run.hits}, {run.verdict}{f': {run.reason}' if run.reason else ''}"
    if run.status == "superseded":
        return f"{run.frame.path}: superseded, {run.error}"
    return f"{run.frame.path}: {run.status}"


@contextmanager
def _patient_interrupt(message):
    """Yield a list that gets an element, and print a message, at the first Ctrl-C; the second one raises."""
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
        raise CrattnError("abandoned; the same command resumes") from None
    finally:
        signal.signal(signal.SIGINT, before)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--concurrency", type=click.IntRange(1), help="Frames at a time (default: one for every two CPUs).")
@click.option("--large", is_flag=True, help="Also take large frames; one such worker per machine, with enough memory.")
@click.option("--large-only", is_flag=True, help="Take only large frames.")
@database_option
@click.argument("celery_arguments", nargs=-1, type=click.UNPROCESSED)
def worker(concurrency, large, large_only, url, celery_arguments):
    """Mask frames that `reprocess --celery` sends, until told to stop.

    Further arguments go to Celery's own worker command.  The broker is
    CRATTN_BROKER.
    """
    with explained():
        from calibration_dbs.database import default_url, open_database
        from crattn_stage.processors import available_cpus

        url = url or default_url()
        # Just to see that it is there; the processes to come must not inherit a connection.
        with_database(url, open_database).dispose()
        os.environ["CRATTN_DB"] = url
        cpus = available_cpus()
        concurrency = concurrency or max(1, cpus // 2)
        # Workers that all took every CPU would fight for them.
        threads = str(max(1, cpus // concurrency))
        os.environ["CRATTN_THREADS"] = os.environ["OMP_NUM_THREADS"] = threads
        from crattn_stage.nights import tasks

        queues = [tasks.LARGE_QUEUE] if large_only else [tasks.QUEUE] + [tasks.LARGE_QUEUE] * large
        arguments = ["worker", "--loglevel=INFO", f"--concurrency={concurrency}", f"--queues={','.join(queues)}"]
        if not any(argument.startswith(("-n", "--hostname")) for argument in celery_arguments):
            # Two workers of one machine need two names.
            arguments.append(f"--hostname=crattn-{os.getpid()}-{uuid.uuid4().hex[:4]}@%h")
        tasks.app.worker_main([*arguments, *celery_arguments])
