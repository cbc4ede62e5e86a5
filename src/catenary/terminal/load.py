"""A load generator: many clients in one process, and the publications for them.

Knows: clients and publications. Does not know: command lines, or how results are shown.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
import json
import resource
from array import array
from collections.abc import Iterator
from time import perf_counter
from typing import Final, cast

import msgspec

from catenary.auth.keys import key_bytes
from catenary.terminal.cable_socket import HandshakeRequest, address, connect
from catenary.terminal.counting import PATIENCE_S, CountingClient, EchoClient, Tally, mark

WINDOW: Final = 256
"""Maximum number of concurrent connection attempts: less than any listen backlog."""

CONNECT_TIMEOUT_S: Final = 30.0
STRAGGLERS_S: Final = 0.2
"""Time to wait after the last message, for doubled ones."""

ADDRESSES: Final = 250
"""Source addresses, 127.0.0.2 and up: each has about 28,000 ports, a minute's TIME_WAIT included."""


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The work to do.

    - ``rate``: publications per second; 0 waits for all deliveries of one before the next.
    - ``echoes``: per client; they end after ``echo_s`` if given.
    - ``payload_bytes``: padding in addition to about 25 bytes of JSON.
    - ``connect_rate``: connections per second; 0: limited by WINDOW only.
    - ``away``: publications that disconnected clients miss.
    """

    clients: int
    streams: int = 1
    publications: int = 0
    rate: float = 0
    payload_bytes: int = 100
    echoes: int = 0
    echo_s: float = 0
    idle_s: float = 0
    ping_interval_s: int = 3
    connect_rate: float = 0
    away: int = 0
    patience_s: float = PATIENCE_S


class LoadTarget(msgspec.Struct, frozen=True, kw_only=True):
    """The server under load. Clients are assigned to ``identifiers``, which belong to ``streams``, in turn.

    ``action`` is called for echoes; if it is empty, pairs of clients whisper.
    """

    opening: HandshakeRequest
    broadcast_url: str = ""
    broadcast_key: str = ""
    streams: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ("",)
    action: str = "echo"


class Latency(msgspec.Struct, frozen=True):
    """Quantiles, in milliseconds; all 0 if nothing was measured."""

    p50_ms: float = 0
    p95_ms: float = 0
    p99_ms: float = 0
    max_ms: float = 0


class ConnectResult(msgspec.Struct, frozen=True):
    """The result of connecting all clients; ``failure`` is the first error.

    ``latency`` is from opening the connection to the confirmed subscription.
    """

    ready: int
    seconds: float
    load_cpu_s: float
    failure: str = ""
    latency: Latency = Latency()


class WorkResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the work; ``load_cpu_s`` is the CPU time of the generator.

    ``refused`` publications got no 2xx response; ``closed`` connections were ended by the server;
    ``unexpected`` counts messages that no client expected.
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
    latency: Latency


class ResumeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of reconnecting all clients.

    ``seconds`` is the time from the first attempt until everything has arrived; ``latency`` is each client's
    time until it is subscribed again. ``restored`` counts resumed sessions, ``rejected_histories`` the answers
    ``reject_history``.
    """

    returned: int
    restored: int
    rejected_histories: int
    missed: int
    seconds: float
    latency: Latency
    failure: str = ""


class LoadPublisher(asyncio.Protocol):
    """Publishes over one HTTP connection; counts the responses without waiting for them."""

    __slots__ = ("_heads", "_names", "_padding", "_rest", "_transport", "accepted", "sent")

    def __init__(self, sent: list[array[float]], padding: int, target: LoadTarget) -> None:
        self.sent = sent
        self.accepted = 0
        where = address(target.broadcast_url)
        key = f"Authorization: Bearer {target.broadcast_key}\r\n" if target.broadcast_key else ""
        self._heads = (
            f"POST {where.target} HTTP/1.1\r\nHost: {where.authority}\r\n{key}"
            "Content-Type: application/json\r\nContent-Length: "
        )
        self._names = [json.dumps(stream) for stream in target.streams]
        self._padding = "x" * padding
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def publish(self, stream: int) -> None:
        """Sends the next message of a stream."""
        assert self._transport is not None
        times = self.sent[stream]
        text = f'{{\\"t\\":\\"{mark(len(times))}\\",\\"p\\":\\"{self._padding}\\"}}'
        body = f'{{"stream":{self._names[stream]},"data":"{text}"}}'
        times.append(perf_counter())
        self._transport.write(key_bytes(f"{self._heads}{len(body)}\r\n\r\n{body}"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = data.rfind(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0
        self.accepted += data.count(b"HTTP/1.1 2", 0, end)
        self._rest = data[end:]


class LoadGenerator:
    """Carries out a plan: :meth:`connect`, then :meth:`work`."""

    __slots__ = (
        "_clients",
        "_plan",
        "_publisher",
        "_publishing_s",
        "_sent",
        "_tally",
        "_target",
        "_tls",
        "connected",
    )

    def __init__(self, plan: LoadPlan, target: LoadTarget) -> None:
        self._plan = plan
        self._target = target
        self._tls = target.opening.address.tls
        self._tally = Tally(plan.patience_s)
        self._clients: list[CountingClient] = []
        self._sent = [array("d") for _ in range(plan.streams)]
        self._publisher: LoadPublisher | None = None
        self._publishing_s = 0.0
        self.connected = 0
        """Number of connections so far, reconnections included."""

    @property
    def received(self) -> int:
        return self._tally.received

    @property
    def published(self) -> int:
        return sum(map(len, self._sent))

    async def connect(self) -> ConnectResult:
        """Connects and subscribes all clients, WINDOW at a time."""
        started, cpu_s = perf_counter(), _own_cpu_s()
        times, failures = array("d"), list[str]()
        clients = self._new_clients()
        self._clients = await self._connect_all(clients, times, failures)
        seconds, cpu_s = perf_counter() - started, _own_cpu_s() - cpu_s
        ready = len(self._clients)
        return ConnectResult(ready, seconds, cpu_s, "".join(failures[:1]), latency(times))

    async def work(self) -> WorkResult:
        """Publishes, echoes or idles as planned, and counts what arrives."""
        started, cpu_s = perf_counter(), _own_cpu_s()
        if self._plan.idle_s:
            expected, received, lost = await self._listen_to_pings()
        else:
            await (self._echo() if self._plan.echoes else self._publish(self._plan.publications))
            expected, received, lost = self._expected(), self._tally.received, 0
        seconds, cpu_s = perf_counter() - started, _own_cpu_s() - cpu_s
        await asyncio.sleep(STRAGGLERS_S)
        tally, published = self._tally, self.published
        accepted = self._publisher.accepted if self._publisher else 0
        return WorkResult(
            seconds=seconds,
            load_cpu_s=cpu_s,
            expected=expected,
            received=received,
            lost=lost + max(sum(client.lost for client in self._clients), expected - received, 0),
            duplicates=tally.duplicates,
            out_of_order=tally.out_of_order,
            refused=published - accepted,
            closed=tally.closed,
            unexpected=tally.unexpected,
            published=published,
            publishing_s=self._publishing_s,
            latency=latency(tally.latencies),
        )

    async def resume(self) -> ResumeResult:
        """Disconnects all clients, publishes what they miss, and reconnects them.

        Call :meth:`work` afterwards: it counts the losses of this phase, too.
        """
        await self._publish(1)
        await asyncio.gather(*(client.away() for client in self._clients))
        for number in range(self._plan.away):
            self._publish_one(number)
        live, self._tally.latencies = self._tally.latencies, array("d")
        times, failures = array("d"), list[str]()
        started = perf_counter()
        returned = await self._connect_all(self._clients, times, failures)
        await self._tally.wait_for_total(self._expected())
        seconds = perf_counter() - started
        self._tally.latencies = live
        return ResumeResult(
            returned=len(returned),
            restored=self._tally.restored,
            rejected_histories=self._tally.rejected_histories,
            missed=self._plan.away,
            seconds=seconds,
            latency=latency(times),
            failure="".join(failures[:1]),
        )

    def leave(self) -> None:
        """Aborts all connections."""
        for client in self._clients:
            client.leave()

    # Connecting

    async def _connect_all(
        self, clients: list[CountingClient], times: array[float], failures: list[str]
    ) -> list[CountingClient]:
        """Connects these clients; returns the connected ones, in order.

        Appends to ``times`` and ``failures``.
        """
        inside: set[int] = set()
        waiting = iter(enumerate(clients))
        started = perf_counter()

        async def some(waiting: Iterator[tuple[int, CountingClient]]) -> None:
            for index, client in waiting:
                if self._plan.connect_rate:
                    due = started + index / self._plan.connect_rate
                    await asyncio.sleep(max(0, due - perf_counter()))
                began = perf_counter()
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        await self._connect(client, index)
                except (OSError, TimeoutError) as error:
                    reason = str(error) or f"not subscribed after {CONNECT_TIMEOUT_S:.0f} s"
                    failures.append(f"{self._target.opening.address.url}: {reason}")
                else:
                    times.append(perf_counter() - began)
                    inside.add(index)
                    self.connected += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(min(WINDOW, len(clients))):
                group.create_task(some(waiting))
        return [clients[index] for index in sorted(inside)]

    async def _connect(self, client: CountingClient, index: int) -> None:
        where = self._target.opening.address
        source = f"127.0.0.{2 + index % ADDRESSES}" if where.host == "127.0.0.1" else ""
        await connect(client, where, self._tls, source)
        await client.ready

    def _new_clients(self) -> list[CountingClient]:
        clients = [self._new_client(index) for index in range(self._plan.clients)]
        if self._plan.echoes and not self._target.action:
            # A whisper reaches the other clients of its stream: there are two on each.
            for one, other in zip(clients[::2], clients[1::2], strict=True):
                cast("EchoClient", one).receiver = other
                cast("EchoClient", other).receiver = one
        return clients

    def _new_client(self, index: int) -> CountingClient:
        target, identifiers = self._target, self._target.identifiers
        if self._plan.echoes:
            place = index if target.action else index // 2
            return EchoClient(
                self._tally,
                target.opening,
                identifiers[place % len(identifiers)],
                action=target.action,
                echoes=self._plan.echoes,
            )
        stream = index % self._plan.streams
        return CountingClient(self._tally, self._sent[stream], target.opening, identifiers[stream])

    # Working

    async def _publish(self, publications: int) -> None:
        """Publishes this many messages and waits for their deliveries."""
        plan = self._plan
        if not publications:
            return
        if self._publisher is None:
            await self._open_publisher()
        started = perf_counter()
        for number in range(publications):
            if plan.rate:
                await asyncio.sleep(max(0, started + number / plan.rate - perf_counter()))
            self._publish_one(number)
            if not plan.rate and not await self._tally.wait_for_total(self._expected()):
                break  # the loss is known; the rest would only wait again
        self._publishing_s += perf_counter() - started
        await self._tally.wait_for_total(self._expected())

    async def _open_publisher(self) -> None:
        where = address(self._target.broadcast_url)
        self._publisher = LoadPublisher(self._sent, self._plan.payload_bytes, self._target)
        publisher = self._publisher
        await asyncio.get_running_loop().create_connection(
            lambda: publisher, where.host, where.port, ssl=where.tls
        )

    def _publish_one(self, number: int) -> None:
        assert self._publisher is not None
        self._publisher.publish(number % self._plan.streams)

    async def _echo(self) -> None:
        speakers = [cast("EchoClient", client) for client in self._clients]
        for client in speakers if self._target.action else speakers[::2]:
            client.send_next()
        if self._plan.echo_s:
            await asyncio.sleep(self._plan.echo_s)
            for client in speakers:
                client.left = 0
        await self._tally.wait_for_total(self._expected())

    def _expected(self) -> int:
        """Number of messages that should have arrived by now; of unlimited echoes, in the end."""
        if self._plan.echoes and not self._plan.echo_s:
            return self._plan.echoes * len(self._clients)
        if self._plan.streams == 1 and not self._plan.echoes:
            return len(self._sent[0]) * len(self._clients)
        return sum(len(client.sent) for client in self._clients)

    async def _listen_to_pings(self) -> tuple[int, int, int]:
        """Pings due, received and missed. A third of an interval is allowed for jitter."""
        before = [client.pings for client in self._clients]
        await asyncio.sleep(self._plan.idle_s)
        received = [client.pings - past for client, past in zip(self._clients, before, strict=True)]
        due = int(self._plan.idle_s / self._plan.ping_interval_s - 1 / 3)
        missed = sum(max(0, due - pings) for pings in received)
        return due * len(received), sum(received), missed


def latency(seconds: array[float]) -> Latency:
    """The quantiles of these times."""
    ordered = sorted(seconds)
    shares = (0.5, 0.95, 0.99, 1.0)
    return Latency(*(_quantile(ordered, share) * 1000 for share in shares))


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[int((len(ordered) - 1) * share)] if ordered else 0.0
