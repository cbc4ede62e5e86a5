"""The resources of the process: open files, memory, the garbage collector.

Knows: the system's limits. Does not know: what uses them.
"""

import contextlib
import gc
import resource
from pathlib import Path


def freeze_gc() -> None:
    """Excludes everything that exists now from garbage collection, and makes collections rarer.

    Sessions are freed by reference counts; cycles are rare, so scans for them may be, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def raise_open_files() -> int:
    """Raises the soft limit of open files to the hard limit; returns the limit in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def resident_bytes() -> int:
    """Resident memory of this process; its maximum so far where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()
