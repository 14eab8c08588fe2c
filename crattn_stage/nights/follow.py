"""Follow queued runs to their end, and sum them up."""

import logging
import time
from collections import Counter
from datetime import timedelta

from calibration_dbs import runs as queue
from calibration_dbs.database import UNREACHABLE, pause
from calibration_dbs.provenance import ALREADY_DONE
from calibration_dbs.runs import RunIds
from crattn_stage.errors import one_line, printable
from crattn_stage.quality.rules import LEVELS

logger = logging.getLogger(__name__)
#: Seconds between looks at the database; seconds by which a commit may follow the time it records; and
#: seconds without news after which all runs are looked at, should a commit have taken longer.
LOOK, MARGIN, RECOUNT = 0.5, timedelta(seconds=5), 10


def follow(database, runs, idle):
    """Yield runs as they end, until all have or no more will.

    Only runs that ended lately are read, so the cost grows as the number of runs.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : collection of int
        From `crattn_stage.nights.plan.submit`.
    idle : callable
        Called with the number of runs that are not over, between looks at the
        database; returns True when no more runs will end.

    Yields
    ------
    `calibration_dbs.tables.Run`
        With frame and model.
    """
    runs = RunIds(runs)
    pending, since, counted, failures = set(runs), None, -RECOUNT, 0
    while pending:
        try:
            last = idle(len(pending))
            everything = last or time.monotonic() - counted > RECOUNT
            ended, now = queue.ended_runs(database, runs, None if everything else since)
            ended = [run for run in ended if run in pending]
            loaded = list(queue.load_runs(database, ended))
        except UNREACHABLE as error:
            failures += 1
            logger.warning("the database: %s", one_line(error))
            time.sleep(min(5, pause(failures)))
            continue
        failures, since = 0, now - MARGIN
        if everything or ended:
            counted = time.monotonic()
        pending.difference_update(ended)
        yield from loaded
        if last:
            return
        if pending:
            time.sleep(LOOK)


class Tally:
    """Runs that ended, counted one by one.

    Attributes
    ----------
    counts, verdicts : `collections.Counter`
        By status, and of those that succeeded by verdict.
    megapixels : float
    """

    def __init__(self):
        self.counts, self.verdicts = Counter(), Counter()
        self.megapixels = 0.0
        self._began = self._ended = None

    @property
    def replaced(self):
        """Runs that were superseded since another command asked for something else."""
        return self.counts["superseded"]

    def add(self, run):
        """Count a run.

        Parameters
        ----------
        run : `calibration_dbs.tables.Run`
            That is over.
        """
        self.counts[run.status] += 1
        if run.status == "succeeded":
            self.verdicts[run.verdict] += 1
            self.megapixels += run.megapixels or 0
            self._began = min(self._began or run.started, run.started)
            self._ended = max(self._ended or run.finished, run.finished)

    def summary(self, skipped=0, refused=0):
        """Return what became of the runs.

        Parameters
        ----------
        skipped : int
            Frames that needed no run.
        refused : int
            Frames that could not have one.

        Returns
        -------
        str
            Two lines; one where none succeeded.
        """
        skipped += self.counts["skipped"] + self.counts[ALREADY_DONE]
        parts = [f"{self.counts['succeeded']} succeeded", f"{self.counts['failed']} failed"]
        parts += [f"{self.replaced} superseded by another command"] if self.replaced else []
        parts += [f"{skipped} skipped"] if skipped else []
        parts += [f"{refused} refused"] if refused else []
        text = ", ".join(parts)
        if self._began is None:
            return text
        seconds = (self._ended - self._began).total_seconds()
        rate = self.megapixels / max(seconds, 1e-3)
        verdicts = ", ".join(f"{self.verdicts[level]} {level}" for level in LEVELS)
        return f"{text}; {self.megapixels:.1f} megapixels in {seconds:.0f} s, {rate:.2f} per second\n{verdicts}"


def summary(database, runs):
    """Return what became of some runs, with a line for each that failed.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    runs : collection of int

    Returns
    -------
    str
    """
    tally, failures = Tally(), []
    ended, _ = queue.ended_runs(database, RunIds(runs))
    for run in queue.load_runs(database, ended):
        tally.add(run)
        if run.status == "failed":
            failures.append(printable(f"{run.frame.path}: {run.error}"))
    return "\n".join([tally.summary(), *failures])
