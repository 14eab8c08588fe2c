"""No warnings while a file is read, whatever other threads do."""

import threading
import warnings
from contextlib import contextmanager


class _Quiet:
    """Suppress warnings while any thread reads.

    The filters of the warnings module belong to the process, so the first thread that comes
    sets them and the last one that leaves restores them; none waits for another.
    """

    def __init__(self):
        self._lock, self._count, self._caught = threading.Lock(), 0, None

    @contextmanager
    def __call__(self):
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if not self._count:
                    self._caught.__exit__(None, None, None)


quiet = _Quiet()
