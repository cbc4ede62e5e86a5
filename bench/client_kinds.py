"""Measures the cost of an event-stream client and of a Pusher client relative to one of Action Cable over a WebSocket.

    python -m bench.client_kinds [--clients N] [--publications N] [--rounds N]

Memory and connects are measured with one server per kind. Deliveries are measured on one server with clients of all kinds,
alternating within each round, so that other load on the machine affects all alike.
Exit status 0 if all ratios are within their limits, 1 if not, 2 if nothing could be measured.
"""

import argparse
import asyncio
import resource
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Final, NamedTuple, Protocol, cast

import uvloop

from bench.crowd import ADDRESSES
from bench.publishers import HttpPublisher
from bench.servers import BenchError, Process, free_port, running, split_cores
from catenary.terminal.counting import MARK, Tally

PAYLOAD_BYTES: Final = 100
SETTLE_S: Final = 1.0
DEADLINE_S: Final = 60.0
WINDOW: Final = 256
"""Clients that connect at once."""

_FLAGS: Final = (
    *("--public", "--norpc", "--sse", "--broadcast_adapter=http", "--log_level=error"),
    *("--pusher_app_id=app", "--pusher_app_key=key", "--pusher_secret=secret", "--broker=none"),
    *("--ping_interval=3600", "--pusher_activity_timeout=3600"),
)


class Kind(NamedTuple):
    """One kind of client: what it sends when it is connected, and after the response to that; the words of the server that
    welcome it and confirm its subscription; the limits of its ratios to the first kind, and of its CPU to connect (0: none)."""

    name: str
    opening: str
    subscribe: Callable[[int], bytes]
    welcome: bytes = b"welcome"
    confirmation: bytes = b"confirm_subscription"
    memory_limit: float = 1
    delivery_limit: float = 1
    connect_limit: float = 0


def _frame(payload: bytes) -> bytes:
    """A text frame of a client; a mask of zeros changes nothing (RFC 6455, section 5.3)."""
    assert len(payload) < 126
    return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def _upgrade(target: str, more: str = "") -> str:
    return (
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )


WEBSOCKET: Final = Kind(
    "Action Cable",
    _upgrade("/cable", "Sec-WebSocket-Protocol: actioncable-v1-json\r\n"),
    lambda stream: _frame(
        b'{"command":"subscribe",'
        b'"identifier":"{\\"channel\\":\\"$pubsub\\",\\"stream_name\\":\\"s%d\\"}"}' % stream
    ),
)
EVENT_STREAM: Final = Kind(
    "event stream",
    "GET /events?stream=s{stream} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    lambda _: b"",
    memory_limit=1.3,
    delivery_limit=1.1,
)
PUSHER: Final = Kind(
    "Pusher",
    _upgrade("/app/key?protocol=7&client=js&version=8.6.0&flash=false"),
    lambda stream: _frame(
        b'{"event":"pusher:subscribe","data":{"auth":"","channel":"s%d"}}' % stream
    ),
    welcome=b"connection_established",
    confirmation=b"subscription_succeeded",
    memory_limit=1.15,
    delivery_limit=1.15,
    connect_limit=1.15,
)
KINDS: Final = (WEBSOCKET, EVENT_STREAM, PUSHER)
"""Clients of a kind subscribe to the stream whose number is its index."""


class Client(asyncio.Protocol):
    """Connects, subscribes, and counts messages."""

    def __init__(self, kind: Kind, stream: int, tally: Tally) -> None:
        self._kind = kind
        self._stream = stream
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._kind.opening.replace("{stream}", str(self._stream)).encode())

    def data_received(self, data: bytes) -> None:
        if self.ready.done():
            self._tally.add_received(data.count(MARK))
            return
        had_welcome = self._kind.welcome in self._head
        self._head += data
        if self._kind.confirmation in self._head:
            self._head = b""
            self.ready.set_result(None)
        elif self._kind.welcome in self._head and not had_welcome and self._transport is not None:
            self._transport.write(self._kind.subscribe(self._stream))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(BenchError(f"a client was refused: {self._head[:80]!r}"))

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Server(NamedTuple):
    """A server, and its ports for clients and for publications."""

    process: Process
    port: int
    intake_port: int


@contextmanager
def serving(*flags: str) -> Iterator[Server]:
    """Runs a new server with additional flags, pinned to a core."""
    port, intake_port = free_port(), free_port()
    ports = ("--host=127.0.0.1", f"--port={port}", f"--http_broadcast_port={intake_port}")
    command = (sys.executable, "-m", "catenary", *_FLAGS, *flags, *ports)
    with running(command, split_cores().server) as process:
        process.wait_until_listening(port, intake_port)
        time.sleep(SETTLE_S)
        yield Server(process, port, intake_port)


class Connecting(Protocol):
    """A client whose ``ready`` is done when it is connected and subscribed."""

    ready: asyncio.Future[None]


async def connect_all(port: int, clients: Sequence[Connecting]) -> None:
    """Connects clients, which are asyncio protocols, and waits until they are ready. Raises BenchError."""
    loop = asyncio.get_running_loop()
    waiting = iter(enumerate(clients))

    async def some() -> None:
        for index, client in waiting:
            source = (f"127.0.0.{2 + index % ADDRESSES}", 0)
            await loop.create_connection(
                lambda client=client: client,  # type: ignore[misc]
                "127.0.0.1",
                port,
                local_addr=source,
            )
            await client.ready

    try:
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(some() for _ in range(WINDOW)))
    except (TimeoutError, OSError) as error:
        raise BenchError(f"expected all clients within {DEADLINE_S:g} s: {error!r}") from error


async def connect(server: Server, kind: Kind, count: int, tally: Tally) -> list[Client]:
    """Connects and subscribes ``count`` clients of a kind. Raises BenchError."""
    stream = KINDS.index(kind)
    clients = [Client(kind, stream, tally) for _ in range(count)]
    await connect_all(server.port, clients)
    return clients


async def client_cost(kind: Kind, count: int) -> tuple[float, float]:
    """The memory of one idle client of a kind, in KB, and the CPU of its connect and subscription, in µs."""
    with serving() as server:
        empty = server.process.usage()
        clients = await connect(server, kind, count, Tally())
        connected = server.process.usage()
        await asyncio.sleep(SETTLE_S)
        full = server.process.usage()
        for client in clients:
            client.leave()
    cpu_us = (connected.cpu_s - empty.cpu_s) * 1e6 / count
    return (full.pss_kb - empty.pss_kb) / count, cpu_us


async def delivery_us(count: int, publications: int, rounds: int) -> list[tuple[float, ...]]:
    """CPU of a delivery in µs, by kind, in each round."""
    with serving() as server:
        tally = Tally()
        clients = [each for kind in KINDS for each in await connect(server, kind, count, tally)]
        sent = [array("d") for _ in KINDS]
        publisher = HttpPublisher(sent, PAYLOAD_BYTES)
        await asyncio.get_running_loop().create_connection(
            lambda: publisher, "127.0.0.1", server.intake_port
        )

        async def block(stream: int) -> float:
            before = server.process.usage().cpu_s
            for _ in range(publications):
                expected = tally.received + count
                publisher.publish(stream)
                if not await tally.wait_for_total(expected):
                    raise BenchError(f"expected {expected} messages, got {tally.received}")
            return (server.process.usage().cpu_s - before) * 1e6 / (publications * count)

        for stream in range(len(KINDS)):
            await block(stream)  # warms up
        found = [
            tuple([await block(stream) for stream in range(len(KINDS))]) for _ in range(rounds)
        ]
        publisher.close()
        for client in clients:
            client.leave()
    return found


class Row(NamedTuple):
    """A figure for Action Cable and another kind, the median of its rounds, and the median of their ratios."""

    title: str
    first: float
    other: float
    ratio: float
    limit: float


def row(title: str, rounds: Sequence[tuple[float, float]], limit: float) -> Row:
    return Row(
        title,
        median(each[0] for each in rounds),
        median(each[1] for each in rounds),
        median(each[1] / each[0] for each in rounds),
        limit,
    )


def table(rows: Sequence[Row]) -> str:
    lines = ["| | Action Cable | this kind | ratio | limit |", "|---|---|---|---|---|"]
    lines += [
        f"| {each.title} | {each.first:.2f} | {each.other:.2f} | {each.ratio:.2f} "
        f"| {each.limit or 'none'} |"
        for each in rows
    ]
    return "\n".join(lines)


async def measured(clients: int, publications: int, rounds: int) -> list[Row]:
    costs = [[await client_cost(kind, clients) for kind in KINDS] for _ in range(rounds)]
    deliveries = await delivery_us(clients, publications, rounds)
    rows = []
    for index, kind in enumerate(KINDS[1:], 1):
        memory = [(each[0][0], each[index][0]) for each in costs]
        cpu = [(each[0][1], each[index][1]) for each in costs]
        delivered = [(each[0], each[index]) for each in deliveries]
        rows += [
            row(f"{kind.name}: memory of an idle client, KB", memory, kind.memory_limit),
            row(f"{kind.name}: CPU of connect and subscription, µs", cpu, kind.connect_limit),
            row(f"{kind.name}: CPU of a delivery, µs", delivered, kind.delivery_limit),
        ]
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints a table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.client_kinds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, default=4000, help="of each kind")
    parser.add_argument("--publications", type=int, default=50, help="in each round, to each kind")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rows = runner.run(measured(options.clients, options.publications, options.rounds))
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    sys.stdout.write(table(rows) + "\n")
    return 0 if all(each.ratio <= each.limit for each in rows if each.limit) else 1


if __name__ == "__main__":
    sys.exit(main())
