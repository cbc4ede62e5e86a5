"""Rolls clients through an upgrade while messages go out: a new server takes over the ports, and the old one drains.

    python -m bench.upgrade [--clients N] [--workers N] [--upgrades N] [--slow S] [--tls]

The servers share a Redis. Clients reconnect as soon as they are closed, and resume their sessions. Exit status 0 if no message was
lost or doubled, no connection was refused and every session was resumed; 1 if not; 2 if nothing could be measured.

The drain is quick by default: the old server closes clients as fast as the new one accepts them.
"""

import argparse
import contextlib
import resource
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench.servers import BenchError, Process, free_port, program, running
from bench.upgrade_clients import Counts, Job

CLIENTS_PER_PROCESS: Final = 9_000
STREAMS: Final = 20
PUBLICATION_S: Final = 2.0
"""Time between two messages of a stream."""

QUICK_S: Final = 120
"""The shutdown timeout of a quick drain. It takes less, unless other programs need the processors."""

SAMPLE_S: Final = 0.5
END_S: Final = 120.0


class Setup(NamedTuple):
    """The ports of the servers and of their Redis, the path of the handover socket, and the file with the certificate and its
    key (None: no TLS)."""

    clients: int
    publishers: int
    redis: int
    handover: Path
    certificate: Path | None
    workers: int
    slow_s: int


class Publisher:
    """Publishes to all streams in turn, each message on a connection of its own, until it is stopped."""

    def __init__(self, setup: Setup) -> None:
        self.totals = [0] * STREAMS
        self.refused = 0
        scheme, self._tls = "http", None
        if setup.certificate is not None:
            scheme, self._tls = "https", ssl.create_default_context(cafile=setup.certificate)
        self._url = f"{scheme}://127.0.0.1:{setup.publishers}/_broadcast"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> list[int]:
        """The number of messages of each stream."""
        self._stopped.set()
        self._thread.join()
        return self.totals

    def _run(self) -> None:
        turn = 0
        while not self._stopped.wait(PUBLICATION_S / STREAMS):
            stream = turn % STREAMS
            turn += 1
            body = {"stream": f"s{stream}", "data": f'"@@{self.totals[stream]:08d}"'}
            try:
                request = urllib.request.Request(self._url, msgspec.json.encode(body))  # noqa: S310
                urllib.request.urlopen(request, timeout=20, context=self._tls).close()  # noqa: S310
            except OSError:
                self.refused += 1
            else:
                self.totals[stream] += 1


class PeakCpu:
    """The most CPU that all servers together used in half a second, in cores."""

    def __init__(self) -> None:
        self.peak = 0.0
        self.servers: list[Process] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        before: dict[int, float] = {}
        at = time.perf_counter()
        while not self._stopped.wait(SAMPLE_S):
            used = 0.0
            for each in list(self.servers):
                with contextlib.suppress(BenchError):
                    cpu_s = each.usage().cpu_s
                    used += cpu_s - before.get(id(each), cpu_s)
                    before[id(each)] = cpu_s
            now = time.perf_counter()
            self.peak = max(self.peak, used / (now - at))
            at = now


def roll(
    clients: int, *, workers: int, upgrades: int, slow_s: int, has_tls: bool
) -> tuple[Counts, int, float]:
    """All counts together, the number of refused publications, and the peak of CPU. Raises BenchError."""
    redis = program("redis-server")
    if redis is None:
        raise BenchError("expected redis-server, found none: apt-get install redis-server")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        setup = Setup(
            *(free_port(), free_port(), free_port(), directory / "handover.sock"),
            certificate=_certificate(directory) if has_tls else None,
            workers=workers,
            slow_s=slow_s,
        )
        command = (redis, "--bind", "127.0.0.1", "--port", str(setup.redis), "--save", "")
        stack.enter_context(running(command, None)).wait_until_listening(setup.redis)
        cpu = PeakCpu()
        stack.callback(cpu.stop)
        server = stack.enter_context(running(_server(setup), None))
        server.wait_until_listening(setup.clients, setup.publishers)
        crowds = [
            stack.enter_context(running(_clients(setup, first, clients), None, talks=True))
            for first in range(0, clients, CLIENTS_PER_PROCESS)
        ]
        for crowd in crowds:
            _line(crowd)
        _report(f"{clients} clients are connected")
        publisher = Publisher(setup)
        stack.callback(publisher.stop)
        time.sleep(2 * PUBLICATION_S)  # A client without a message has no position to resume from.
        cpu.servers.append(server)
        for _ in range(upgrades):
            old = server
            server = stack.enter_context(running(_server(setup), None))
            cpu.servers.append(server)
            try:
                if old.child.wait(END_S + (slow_s or QUICK_S)) != 0:
                    raise BenchError(f"the old server failed: {old.error_output()}")
            except subprocess.TimeoutExpired:
                raise BenchError("the old server does not end") from None
            _report("the old server has ended")
        totals = msgspec.json.encode(publisher.stop()) + b"\n"
        for crowd in crowds:
            assert crowd.child.stdin is not None
            crowd.child.stdin.write(totals)
            crowd.child.stdin.flush()
        found = Counts()
        for crowd in crowds:
            part = msgspec.json.decode(_line(crowd), type=Counts)
            for reason, number in part.refused.items():
                found.refused[reason] = found.refused.get(reason, 0) + number
            for name in set(Counts.__struct_fields__) - {"refused"}:
                setattr(found, name, getattr(found, name) + getattr(part, name))
        cpu.stop()
        return found, publisher.refused, cpu.peak


def _report(text: str) -> None:
    print(f"{time.strftime('%X')} {text}", file=sys.stderr)  # noqa: T201


def _line(process: Process) -> bytes:
    assert process.child.stdout is not None
    line = process.child.stdout.readline()
    if not line:
        raise BenchError(f"the clients ended: {process.error_output()}")
    return line


def _certificate(directory: Path) -> Path:
    """A new certificate for 127.0.0.1, and its key. Raises BenchError."""
    path = directory / "certificate.pem"
    command = (
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(path), "-out", str(directory / "public.pem")),
    )
    try:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"openssl can't make a certificate: {error}") from error
    with path.open("ab") as both:
        both.write((directory / "public.pem").read_bytes())
    return path


def _server(setup: Setup) -> tuple[str, ...]:
    slow = ("--shutdown_slowdrain",) if setup.slow_s else ()
    tls: tuple[str, ...] = ()
    if setup.certificate is not None:
        tls = (f"--ssl_cert={setup.certificate}", f"--ssl_key={setup.certificate}")
    return (
        *(sys.executable, "-m", "catenary", "--public", "--norpc", "--presets=broker"),
        *("--broadcast_adapter=http", "--host=127.0.0.1", "--log_level=error"),
        *(*tls, *slow, f"--shutdown_timeout={setup.slow_s or QUICK_S}"),
        *(f"--port={setup.clients}", f"--http_broadcast_port={setup.publishers}"),
        *(f"--redis_url=redis://127.0.0.1:{setup.redis}", f"--handover_socket={setup.handover}"),
        f"--workers={setup.workers}",
    )


def _clients(setup: Setup, first: int, clients: int) -> tuple[str, ...]:
    number = min(CLIENTS_PER_PROCESS, clients - first)
    certificate = "" if setup.certificate is None else str(setup.certificate)
    job = msgspec.json.encode(Job(setup.clients, number, first, STREAMS, certificate)).decode()
    return (sys.executable, "-m", "bench.upgrade_clients", job)


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.upgrade", description=__doc__)
    parser.add_argument("--clients", type=int, default=18_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--upgrades", type=int, default=1, help="one after the other")
    parser.add_argument(
        "--slow",
        type=int,
        default=0,
        help="a slow drain with this shutdown_timeout, in seconds; 0: a quick one",
    )
    parser.add_argument("--tls", action="store_true", help="all ports with TLS")
    given = parser.parse_args(argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        counts, refused, peak = roll(
            given.clients,
            workers=given.workers,
            upgrades=given.upgrades,
            slow_s=given.slow,
            has_tls=given.tls,
        )
    except BenchError as error:
        print(f"bench.upgrade: {error}", file=sys.stderr)  # noqa: T201
        return 2
    rows = {
        "clients that returned": counts.returned,
        "sessions resumed": counts.restored,
        "messages lost": counts.lost,
        "messages doubled": counts.doubled,
        "histories rejected": counts.rejected,
        "connections refused": sum(counts.refused.values()),
        "connections closed without a message": counts.unannounced,
        "publications refused": refused,
        "away, p50": f"{_percentile(counts.away_s, 0.5):.3f} s",
        "away, p99": f"{_percentile(counts.away_s, 0.99):.3f} s",
        "peak CPU of the servers": f"{peak:.2f} cores",
    }
    for name, value in rows.items():
        print(f"{name:40}{value}")  # noqa: T201
    for reason, number in counts.refused.items():
        print(f"  {number} refused: {reason}")  # noqa: T201
    expected = given.clients * given.upgrades
    is_lossless = not any(
        (counts.lost, counts.doubled, counts.rejected, counts.refused, counts.unannounced, refused)
    )
    return 0 if is_lossless and counts.returned == counts.restored == expected else 1


if __name__ == "__main__":
    sys.exit(main())
