"""Measures whether memory and idle CPU per client stay the same up to 100,000 clients on one machine.

    python -m bench.scale [--clients N ...] [--seconds N]

For each number of clients a new server, with as many workers as the limit of open files asks for, and as many load
generators; clients come from 250 loopback addresses. Connected clients get nothing but pings, every 3 s. Exit status 0 if a
client costs at most a fifth more memory in the largest run than in the first one of 10,000 clients and more, and every ping
arrived; 1 if not; 2 if nothing could be measured.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from math import ceil
from typing import Final, NamedTuple

from bench.generator import Generator, Phase
from bench.plan import Checkpoint, Connected, Job, Plan, Worked
from bench.servers import BenchError, free_port, running

SIZES: Final = (1_000, 10_000, 50_000, 100_000)

SHARE: Final = 0.8
"""Of the limit of open files, for clients: the kernel distributes connections to workers by chance."""

GENERATOR_CLIENTS: Final = 15_000
SETTLE_S: Final = 5.0

COMPARED_FROM: Final = 10_000
"""With fewer clients, what a server allocates once is a large share."""

GROWTH_LIMIT: Final = 1.2

_FLAGS: Final = ("--public", "--norpc", "--broadcast_adapter=http", "--log_level=error")


class Row(NamedTuple):
    """The figures of one run; ``missed`` is pings that were due and did not arrive."""

    clients: int
    workers: int
    connects_per_s: float
    kb_per_client: float
    cpu_us_per_client_s: float
    missed: int


def measure(clients: int, seconds: float, open_files: int) -> Row:
    """Measures one number of clients. Raises BenchError."""
    workers = ceil(clients / (open_files * SHARE))
    with ExitStack() as stack:
        port, intake_port = free_port(), free_port()
        ports = ("--host=127.0.0.1", f"--port={port}", f"--http_broadcast_port={intake_port}")
        command = (sys.executable, "-m", "catenary", *_FLAGS, *ports, f"--workers={workers}")
        server = stack.enter_context(running(command, None))
        server.wait_until_listening(port, intake_port)
        load = Load(clients, seconds, port, intake_port, stack)
        load.receive(Checkpoint)
        time.sleep(SETTLE_S)
        before = server.usage()
        load.resume()
        connected = load.receive(Connected)
        ready = sum(each.ready for each in connected)
        if ready < clients:
            failure = next(each.failure for each in connected if each.failure)
            raise BenchError(f"{clients - ready} of {clients} clients did not connect: {failure}")
        time.sleep(SETTLE_S)
        settled, started = server.usage(), time.monotonic()
        load.resume()
        worked = load.receive(Worked)
        passed_s, after = time.monotonic() - started, server.usage()
        load.resume()
    return Row(
        clients=clients,
        workers=workers,
        connects_per_s=clients / max(each.seconds for each in connected),
        kb_per_client=(settled.pss_kb - before.pss_kb) / clients,
        cpu_us_per_client_s=(after.cpu_s - settled.cpu_s) * 1e6 / (clients * passed_s),
        missed=sum(each.lost for each in worked),
    )


class Load:
    """All load generators of a run, which work at the same time."""

    def __init__(
        self, clients: int, seconds: float, port: int, intake_port: int, stack: ExitStack
    ) -> None:
        count = ceil(clients / GENERATOR_CLIENTS)
        parts = [clients // count + (number < clients % count) for number in range(count)]
        self._generators = []
        for part in parts:
            plan = Plan(clients=part, work="idle", seconds=seconds)
            job = Job(plan=plan, port=port, intake_port=intake_port)
            self._generators.append(Generator(job, None, stack))
        self._threads = stack.enter_context(ThreadPoolExecutor(count))

    def receive(self, kind: type[Phase]) -> list[Phase]:
        """Waits for the same report of each. Raises BenchError."""
        return list(self._threads.map(lambda each: each.receive(kind), self._generators))

    def resume(self) -> None:
        for each in self._generators:
            each.resume()


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| clients | workers | connects per second | memory per client, KB | idle CPU per client and second, µs | pings missed |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.clients:,} | {each.workers} | {each.connects_per_s:,.0f} | {each.kb_per_client:.2f} "
        f"| {each.cpu_us_per_client_s:.1f} | {each.missed:,} |"
        for each in rows
    ]
    return "\n".join(lines)


def is_flat(rows: Sequence[Row]) -> bool:
    """Whether every ping arrived, and a client costs the same memory in the largest run as in a small one."""
    compared = [each.kb_per_client for each in rows if each.clients >= COMPARED_FROM]
    grows = bool(compared) and compared[-1] > GROWTH_LIMIT * compared[0]
    return not grows and not any(each.missed for each in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints a table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    open_files = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    try:
        rows = [measure(each, options.seconds, open_files) for each in sorted(options.clients)]
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    sys.stdout.write(table(rows) + "\n")
    return 0 if is_flat(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
