"""Progress of long work: a bar in a terminal, a logged line now and then elsewhere."""

import logging
import sys
import time

from tqdm import tqdm

log = logging.getLogger(__name__)

#: Seconds between two lines outside a terminal.
INTERVAL = 30.0


class Progress:
    """Report the progress of a loop.

    Parameters
    ----------
    total : int
        Steps in all.
    done : int
        Steps done before.
    what : str
        What is counted.
    interval : float, optional
        Seconds between two lines outside a terminal; `INTERVAL` by default.
    """

    def __init__(self, total, done=0, what="step", interval=None):
        self.total, self.done, self.what = total, done, what
        self.interval = INTERVAL if interval is None else interval
        self._start, self._began = done, time.monotonic()
        self._told = self._began
        self._bar = tqdm(total=total, initial=done, unit=what) if sys.stderr.isatty() else None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._bar is not None:
            self._bar.close()

    def advance(self, limit=None, **figures):
        """Count one step.

        Parameters
        ----------
        limit : float, optional
            Seconds after which the loop ends, whatever is left of it.
        **figures
            Numbers to show, such as ``loss=0.021``.
        """
        self.done += 1
        now = time.monotonic()
        pace = (now - self._began) / (self.done - self._start)
        total, left = self.total, (self.total - self.done) * pace
        if limit is not None and limit < left:
            total, left = self.done + round(limit / pace), max(limit, 0.0)
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in figures.items()}, refresh=False)
            self._bar.total = total
            self._bar.update()
            return
        if now - self._told < self.interval and self.done < total:
            return
        self._told = now
        shown = "".join(f", {name} {value:.4g}" for name, value in figures.items())
        log.info("%s %d of %d%s, %.0f s left", self.what, self.done, total, shown, left)
