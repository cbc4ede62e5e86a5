"""The load generator: a process of its own, so that what it costs is nobody's figure.

    python -m bench.load JOB

JOB is JSON of :class:`Job`. It prints a :class:`Connected` line when all clients have subscribed,
waits for a line, does its work, prints a :class:`Worked` line, waits again, ends. Whoever started it
measures the server while it waits.
Knows: clients and publications. Does not know: the server's process, or what a scenario is called.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
import gc
import resource
import sys
from array import array
from collections.abc import Iterator
from time import perf_counter
from typing import Final, cast

import msgspec
import uvloop

from bench.client import CableClient, Echoer, Listener, Tally, mark

WINDOW: Final = 256
"""How many clients may be connecting at once: less than any listen backlog."""

CONNECT_TIMEOUT_S: Final = 30.0
STRAGGLERS_S: Final = 0.2
"""How long to listen on after the last message, for what comes twice."""

ADDRESSES: Final = 250
"""Source addresses, 127.0.0.2 and up: each has about 28,000 ports, a minute's TIME_WAIT included."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The work. ``rate`` is publications per second; 0 waits for all deliveries of each.

    ``echoes`` is for each client; ``payload_bytes`` is padding beside about 25 bytes of JSON.
    """

    clients: int
    streams: int = 1
    publications: int = 0
    rate: float = 0
    payload_bytes: int = 100
    echoes: int = 0
    idle_s: float = 0
    ping_interval_s: int = 3


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A plan and where to carry it out, on 127.0.0.1."""

    plan: Plan
    port: int
    broadcast_port: int


class Connected(msgspec.Struct, frozen=True):
    """All clients are there, or have failed (``failure``: the first one's)."""

    ready: int
    seconds: float
    load_cpu_s: float
    failure: str = ""


class Worked(msgspec.Struct, frozen=True, kw_only=True):
    """What was done and what arrived of it; ``load_cpu_s`` is what the generator itself used.

    ``refused`` publications were not answered with 2xx; ``closed`` connections ended by themselves;
    ``unexpected`` counts what arrived and nobody waited for.
    """

    seconds: float
    load_cpu_s: float
    expected: int
    received: int
    lost: int
    duplicates: int
    out_of_order: int
    refused: int
    closed: int
    unexpected: int
    published: int
    publishing_s: float
    p50_ms: float
    p99_ms: float


class Publisher(asyncio.Protocol):
    """Publishes over one HTTP connection, without waiting for the answers but counting them."""

    __slots__ = ("_padding", "_rest", "_transport", "accepted", "sent")

    def __init__(self, sent: list[array[float]], padding: int) -> None:
        self.sent = sent
        self.accepted = 0
        self._padding = "x" * padding
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def publish(self, stream: int) -> None:
        """Sends the next message of a stream."""
        assert self._transport is not None
        times = self.sent[stream]
        text = f'{{\\"t\\":\\"{mark(len(times))}\\",\\"p\\":\\"{self._padding}\\"}}'
        body = f'{{"stream":"s{stream}","data":"{text}"}}'
        head = (
            "POST /_broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        times.append(perf_counter())
        self._transport.write((head + body).encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = data.rfind(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0
        self.accepted += data.count(b"HTTP/1.1 2", 0, end)
        self._rest = data[end:]


class Load:
    """One job being carried out: :meth:`connect`, then :meth:`work`."""

    __slots__ = ("_clients", "_job", "_plan", "_publisher", "_sent", "_tally")

    def __init__(self, job: Job) -> None:
        self._job = job
        self._plan = job.plan
        self._tally = Tally()
        self._clients: list[CableClient] = []
        self._sent = [array("d") for _ in range(job.plan.streams)]
        self._publisher = Publisher(self._sent, job.plan.payload_bytes)

    async def connect(self) -> Connected:
        """Connects and subscribes all clients, WINDOW at a time."""
        started, cpu_s = perf_counter(), _own_cpu_s()
        waiting = iter(range(self._plan.clients))
        failures: list[str] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(min(WINDOW, self._plan.clients)):
                group.create_task(self._connect_some(waiting, failures))
        seconds, cpu_s = perf_counter() - started, _own_cpu_s() - cpu_s
        return Connected(len(self._clients), seconds, cpu_s, "".join(failures[:1]))

    async def work(self) -> Worked:
        """Does what the plan says."""
        started, cpu_s = perf_counter(), _own_cpu_s()
        publishing_s = 0.0
        if self._plan.idle_s:
            expected, received, lost = await self._listen_to_pings()
        else:
            publishing_s = await (self._echo() if self._plan.echoes else self._publish())
            expected, received, lost = self._expected(), self._tally.received, 0
        seconds, cpu_s = perf_counter() - started, _own_cpu_s() - cpu_s
        await asyncio.sleep(STRAGGLERS_S)
        tally, ordered = self._tally, sorted(self._tally.latencies)
        published = sum(map(len, self._sent))
        return Worked(
            seconds=seconds,
            load_cpu_s=cpu_s,
            expected=expected,
            received=received,
            lost=lost + max(sum(client.lost for client in self._clients), expected - received, 0),
            duplicates=tally.duplicates,
            out_of_order=tally.out_of_order,
            refused=published - self._publisher.accepted,
            closed=tally.closed,
            unexpected=tally.unexpected,
            published=published,
            publishing_s=publishing_s,
            p50_ms=_quantile(ordered, 0.5) * 1000,
            p99_ms=_quantile(ordered, 0.99) * 1000,
        )

    def leave(self) -> None:
        """Breaks all connections."""
        for client in self._clients:
            client.leave()

    # Connecting

    async def _connect_some(self, waiting: Iterator[int], failures: list[str]) -> None:
        for index in waiting:
            client = self._client(index)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._connect(client, f"127.0.0.{2 + index % ADDRESSES}")
            except (OSError, TimeoutError) as error:
                failures.append(str(error) or f"not subscribed after {CONNECT_TIMEOUT_S:.0f} s")
            else:
                self._clients.append(client)

    async def _connect(self, client: CableClient, source: str) -> None:
        await asyncio.get_running_loop().create_connection(
            lambda: client, "127.0.0.1", self._job.port, local_addr=(source, 0)
        )
        await client.ready

    def _client(self, index: int) -> CableClient:
        if self._plan.echoes:
            return Echoer(self._tally, self._plan.echoes)
        stream = index % self._plan.streams
        return Listener(self._tally, self._sent[stream], stream)

    # Working

    async def _publish(self) -> float:
        """Publishes all and waits for them; how long the publishing alone took."""
        plan = self._plan
        if not plan.publications:
            return 0.0
        await asyncio.get_running_loop().create_connection(
            lambda: self._publisher, "127.0.0.1", self._job.broadcast_port
        )
        started = perf_counter()
        for number in range(plan.publications):
            if plan.rate:
                await asyncio.sleep(max(0, started + number / plan.rate - perf_counter()))
            self._publisher.publish(number % plan.streams)
            if not plan.rate and not await self._tally.arrival_of(self._expected()):
                break  # what is lost is known; the rest would only wait again
        publishing_s = perf_counter() - started
        await self._tally.arrival_of(self._expected())
        return publishing_s

    async def _echo(self) -> float:
        for client in self._clients:
            cast("Echoer", client).say_next()
        await self._tally.arrival_of(self._expected())
        return 0.0

    def _expected(self) -> int:
        """How many messages should have arrived by now, or, of echoes, should in the end."""
        if self._plan.echoes:
            return self._plan.echoes * len(self._clients)
        if self._plan.streams == 1:
            return len(self._sent[0]) * len(self._clients)
        return sum(len(client.sent) for client in self._clients)

    async def _listen_to_pings(self) -> tuple[int, int, int]:
        """Pings due, heard, and missed. A third of an interval is allowed for jitter."""
        before = [client.pings for client in self._clients]
        await asyncio.sleep(self._plan.idle_s)
        heard = [client.pings - past for client, past in zip(self._clients, before, strict=True)]
        due = int(self._plan.idle_s / self._plan.ping_interval_s - 1 / 3)
        missed = sum(max(0, due - pings) for pings in heard)
        return due * len(heard), sum(heard), missed


async def carry_out(job: Job) -> None:
    """Speaks with whoever started this process: a line each way around both phases."""
    load = Load(job)
    _say(await load.connect())
    await _answer()
    gc.collect()
    gc.disable()  # its pauses would be told as the server's latency
    _say(await load.work())
    await _answer()
    load.leave()


def _say(value: Connected | Worked) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


async def _answer() -> None:
    """Waits for a line; clients are served meanwhile."""
    await asyncio.to_thread(sys.stdin.readline)


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[int((len(ordered) - 1) * share)] if ordered else 0.0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(carry_out(msgspec.json.decode(sys.argv[1], type=Job)))
