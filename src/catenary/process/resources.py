"""The resources of the process: CPU time, open files, memory, the garbage collector.

Knows: the system's limits. Does not know: what uses them.
"""

import contextlib
import gc
import os
import resource
import threading
import time
from pathlib import Path
from typing import Final

_FILES: Final = Path("/proc/self/fd")


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


def max_open_files() -> int:
    """The limit of open files in force."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class OpenFiles:
    """Counts the open files. Linux before 6.2 has to list them, which takes 2 µs each: a thread does that, and
    :meth:`read` returns what the one before has counted."""

    __slots__ = ("_counting", "_number")

    def __init__(self) -> None:
        self._number = _listed()
        self._counting: threading.Thread | None = None

    def read(self) -> int:
        """The number of open files; 0 where the system has no /proc."""
        with contextlib.suppress(OSError):
            number = _FILES.stat().st_size
            if number > 0:
                return number
        if self._counting is None or not self._counting.is_alive():
            self._counting = threading.Thread(target=self._count, daemon=True)
            self._counting.start()
        return self._number

    def _count(self) -> None:
        self._number = _listed()


def _listed() -> int:
    try:
        return len(os.listdir(_FILES))  # noqa: PTH208  (no objects for 20,000 files)
    except OSError:
        return 0


def cpu_seconds() -> float:
    """CPU time of this process in user and kernel mode."""
    return time.process_time()


def started_at() -> float:
    """When this process was started, in seconds since 1970; the present time where the system has no /proc."""
    now = time.time()
    try:
        # Field 22, in ticks since boot; the name of the program, in parentheses, may contain spaces.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return now
    return now - age_s


def resident_bytes() -> int:
    """Resident memory of this process; its maximum so far where the system has no /proc."""
    pages = _pages()
    if not pages:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages[1] * resource.getpagesize()


def virtual_bytes() -> int:
    """Virtual memory of this process; 0 where the system has no /proc."""
    pages = _pages()
    return pages[0] * resource.getpagesize() if pages else 0


def _pages() -> list[int]:
    try:
        return [int(each) for each in Path("/proc/self/statm").read_text().split()[:2]]
    except OSError:
        return []


def memory_bytes(name: str) -> int:
    """A part of the memory of this process, by its name in /proc/self/status, such as VmData; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(next(found, "0")) * 1024
