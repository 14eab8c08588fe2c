"""Worker processes on this machine, which take runs from the database."""

import logging
import multiprocessing
import os
import signal
import sys
import time

from calibration_dbs import records
from calibration_dbs.database import connect
from calibration_dbs.records import UNREACHABLE, Locked, Over, Transient
from crattn_stage.detection.engines.base import available_cores
from crattn_stage.errors import CrattnError

logger = logging.getLogger(__name__)
#: Tries of a run whose failure may pass, and seconds before the first retry; each further one waits twice as long.
TRIES, FIRST_WAIT = 8, 2


class LocalWorkers:
    """Worker processes, replaced when they are killed.  Use them in a ``with`` block.

    They end when the runs are over, when they are told to, or when this process is gone;
    a frame in work is finished first.

    Parameters
    ----------
    url : str
        Of the database.
    runs : collection of int
        From `crattn_stage.nights.runs.submit`.
    count : int
        Processes; the cores are shared among them.
    """

    def __init__(self, url, runs, count):
        self._database = connect(url)
        # Not forked: the parent's threads and connections are not the children's.
        self._context = multiprocessing.get_context("spawn")
        threads = max(1, available_cores() // count)
        self._job = (url, frozenset(runs), threads)
        # The children wait for the end of this pipe; it ends with this process, whatever happens to it.
        self._listening, self._telling = self._context.Pipe(duplex=False)
        self._children = [self._start() for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.stop()
        if kind is not None:
            for child in self._children:
                child.terminate()
        for child in self._children:
            child.join()

    def _start(self):
        child = self._context.Process(target=_work, args=(*self._job, self._listening), daemon=True)
        # Ctrl-C goes to the whole group; the parent decides, from the first moment on.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        child.start()
        signal.signal(signal.SIGINT, before)
        return child

    def stop(self):
        """Tell the workers to finish the frames they have and to end."""
        self._telling.close()

    def watch(self):
        """Replace workers that were killed.

        Returns
        -------
        bool
            Whether any is at work.
        """
        for position, child in enumerate(self._children):
            if child.exitcode not in (None, 0) and not self._telling.closed:
                logger.warning("worker %s ended with %s; another one takes its place", child.pid, child.exitcode)
                records.release(self._database, child.pid)
                self._children[position] = self._start()
        return any(child.is_alive() for child in self._children)


def _work(url, runs, threads, telling):
    """Do runs until none is left or nobody wants more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from crattn_stage.nights.runs import execute

    database, tries, not_before = connect(url), {}, {}
    while not _ended(telling):
        waiting = [run for run, when in not_before.items() if when > time.monotonic()]
        run = None
        try:
            run, left = records.next_run(database, runs, waiting)
            if not left:
                return
            if run is not None:
                execute(database, run, threads)
        except (Locked, Over, CrattnError):
            # Another's, or recorded.
            continue
        except (Transient, *UNREACHABLE) as error:
            tries[run] = tries.get(run, 0) + 1
            seconds = FIRST_WAIT * 2 ** (tries[run] - 1)
            cause = str(getattr(error, "orig", error)).strip().split("\n")[0]
            logger.warning("%s; trying again in %s s", cause, seconds)
            not_before[run] = time.monotonic() + seconds
            if run is None:
                # The database itself: nothing else can be done meanwhile.
                _sleep(seconds, telling)
            if tries[run] == TRIES:
                if run is None:
                    sys.exit(f"the database: {cause}")
                records.give_up(database, run, f"gave up after {TRIES} tries: {cause}")
            continue
        except Exception:
            # A defect of ours, recorded; it must not cost the night.
            logger.exception("run %s", run)
            not_before[run] = time.monotonic() + 60
        tries.pop(None, None)
        if run is None:
            _sleep(0.5, telling)


def _sleep(seconds, telling):
    """Wait, but not beyond the end."""
    telling.poll(seconds)


def _ended(telling):
    try:
        return telling.poll() and not telling.recv()
    except (EOFError, OSError):
        return True
