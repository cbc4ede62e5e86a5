"""Checks the limits of the whole machine, or of the container: memory, files, half-open connections.

The advice is explained in docs/tuning.md. Source: cgroups(7), proc_sys_fs(5), tcp(7).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from catenary.config.options import Options
from catenary.process.binding import BACKLOG
from catenary.terminal.doctor.findings import Finding, ok, problem, warning

MB: Final = 1_048_576
PROCESS_MB: Final = 60
"""Memory of one process before its first client, with all its libraries."""

CLIENT_BYTES: Final = 8_192
"""Memory of a client that reads what it gets: 3 KB in the process, the rest in the kernel (docs/performance.md)."""

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")


def check_system(
    options: Options, proc: Path = _PROC, cgroups: Path = _CGROUPS
) -> Iterator[Finding]:
    """The limits of the machine and of the control group."""
    yield from _memory(options, memory_limit(proc, cgroups))
    files = _number(proc / "sys/fs/file-max")
    if files is not None and files < options.server.max_conn:
        text = f"max-conn={options.server.max_conn}, and the system allows {files} open files"
        yield problem("system files", text, "sysctl -w fs.file-max=…")
    half_open = _number(proc / "sys/net/ipv4/tcp_max_syn_backlog")
    has_cookies = _number(proc / "sys/net/ipv4/tcp_syncookies") != 0
    if half_open is not None and half_open < BACKLOG and not has_cookies:
        text = f"the kernel keeps {half_open} half-open connections, without SYN cookies: bursts are refused"
        yield warning("backlog", text, f"sysctl -w net.ipv4.tcp_max_syn_backlog={BACKLOG}")


def _memory(options: Options, limit: int | None) -> Iterator[Finding]:
    if limit is None:
        return
    processes, max_conn = options.server.workers, options.server.max_conn
    before = processes * PROCESS_MB * MB
    needed = before + processes * max_conn * CLIENT_BYTES
    advice = (
        "raise memory.max: MemoryMax= in systemd, --memory in Docker, limits.memory in Kubernetes"
    )
    if limit < before:
        text = f"{limit // MB} MB are allowed; {processes} processes need {before // MB} MB without clients"
        yield problem("memory", text, advice)
    elif limit < needed:
        text = (
            f"{limit // MB} MB are allowed, and max-conn={max_conn} needs about {needed // MB} MB"
        )
        yield warning("memory", text, advice)
    else:
        clients = (limit - before) // CLIENT_BYTES
        text = f"{limit // MB} MB are allowed: enough for about {clients} clients that read what they get"
        yield ok("memory", text)


def memory_limit(proc: Path, cgroups: Path) -> int | None:
    """The memory that this process and its siblings may use, in bytes; None without a limit of a control group."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits: list[int] = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.strip("/")
        # The limit of each group above holds, too. In a container, the path may be one that only the host sees.
        for each in (group, *group.parents):
            if each.is_relative_to(root):
                found = _number(each / name)
                limits += [] if found is None else [found]
    total = _total(proc)
    # Without a limit, version 1 of control groups has an enormous one.
    return min((each for each in limits if total is None or each < total), default=None)


def _total(proc: Path) -> int | None:
    """The memory of the machine, in bytes."""
    try:
        words = (proc / "meminfo").read_text().split()
        return int(words[words.index("MemTotal:") + 1]) * 1024
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
