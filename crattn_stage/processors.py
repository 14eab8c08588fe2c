"""The processors of this machine."""

import os


def available_cpus():
    """Return how many CPUs this process may use.

    Returns
    -------
    int
        Those of its affinity (``taskset``, a batch system), not all of the machine.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
