"""Worker processes on this machine, which take runs from the database."""

import logging
import multiprocessing
import os
import signal
import sys
import time

from calibration_dbs import runs as queue
from calibration_dbs.database import TRIES, UNREACHABLE, connect, pause
from calibration_dbs.runs import Locked, Over, RunIds, Transient
from crattn_stage.errors import CrattnError, one_line
from crattn_stage.processors import available_cpus

logger = logging.getLogger(__name__)


class LocalWorkers:
    """Worker processes, replaced when they are killed.  Use them in a ``with`` block.

    They end when the runs are over, when told to, or when this process is gone;
    they finish the frame they have first.

    Parameters
    ----------
    url : str
        Of the database.
    runs : collection of int
        From `crattn_stage.nights.plan.submit`.
    count : int
        Processes; the CPUs are shared among them.
    """

    def __init__(self, url, runs, count):
        self._database = connect(url)
        # Not forked: the parent's threads and connections are not the children's.
        self._context = multiprocessing.get_context("spawn")
        # Python takes no module from the working directory, which may be a folder of data.
        os.environ["PYTHONSAFEPATH"] = "1"
        self._job = (url, RunIds(runs), max(1, available_cpus() // count))
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
        self._database.dispose()

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
                queue.release(self._database, child.pid)
                self._children[position] = self._start()
        return any(child.is_alive() for child in self._children)


def _work(url, runs, threads, telling):
    """Do runs until none is left or this process is told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from crattn_stage.nights.execute import execute

    database, tries, not_before = connect(url), {}, {}
    while not _ended(telling):
        now = time.monotonic()
        not_before = {run: when for run, when in not_before.items() if when > now}
        run = None
        try:
            run, left = queue.next_run(database, runs, not_before)
            if not left:
                return
            if run is not None:
                execute(database, run, threads)
        except (Locked, Over, CrattnError):
            # Another worker's, or recorded.
            continue
        except (Transient, *UNREACHABLE) as error:
            tries[run] = tries.get(run, 0) + 1
            cause = one_line(error)
            if tries[run] == TRIES:
                if run is None:
                    sys.exit(f"the database: {cause}")
                queue.give_up(database, run, f"gave up after {TRIES} tries: {cause}")
                continue
            seconds = pause(tries[run])
            logger.warning("%s; trying again in %.0f s", cause, seconds)
            if run is None:
                # The database itself: nothing else can be done meanwhile.
                _sleep(seconds, telling)
            else:
                not_before[run] = time.monotonic() + seconds
            continue
        except Exception:
            # Recorded.  Log unexpected errors and continue with the next frame.
            logger.exception("run %s", run)
        tries.pop(run, None)
        tries.pop(None, None)
        if run is None:
            _sleep(0.5, telling)


def _sleep(seconds, telling):
    """Sleep, but wake when told to stop."""
    telling.poll(seconds)


def _ended(telling):
    try:
        return telling.poll() and not telling.recv()
    except (EOFError, OSError):
        return True
