"""The contract of Outbound, run over every transport: WebSockets on real connections, clients of an ASGI host, and
the one in memory.

A transport joins by a row of ``TRANSPORTS``: something that opens one client, and tells what that client got.
"""

import asyncio
import functools
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, Protocol

import pytest
import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from catenary.edge.connection import ClientConnection, Host
from catenary.edge.deadlines import NoDeadlines
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.messages.reasons import Reason
from catenary.node.encoder import Encoder
from catenary.node.session import Traits
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.ports import Goodbye, Outbound
from catenary.protocols.actioncable import ActionCableJson
from catenary.transports.asgi_websocket import AsgiWebSocket
from catenary.transports.websocket import (
    Acceptance,
    WebSocketConnection,
    WebSocketLimits,
    WebSocketServices,
)
from catenary.wire.deflate import inflated
from catenary.wire.frames import BINARY, CLOSE, RSV1, TEXT
from catenary.wire.framing import PREFIXED, Framing, payloads, websocket_framing
from tests.parts.heart import NEVER, Heart, MemoryOutbound, settle
from tests.parts.raw_socket import masked

LIMITS = WebSocketLimits(close_timeout_s=0.3, max_pending_bytes=8_000_000)
WELCOME = b'{"type":"welcome","sid":"s"}'
PONG = b'{"type":"pong"}'
SAID = b'{"command":"ping"}'


class Got(NamedTuple):
    """What a client has got when all is over: messages, and how it ended."""

    messages: list[bytes]
    goodbye: tuple[int, str] | None


class Client(Protocol):
    """One client of a transport, and the server's way to it."""

    framing: Framing

    @property
    def outbound(self) -> Outbound: ...

    async def say(self, payload: bytes) -> None:
        """Sends a message to the server, which has had time to read it."""

    async def leave(self) -> None:
        """Is gone without a word."""

    async def got(self) -> Got:
        """Waits for the end, which must come by itself, without an answer to a close frame."""


def services(heart: Heart) -> WebSocketServices:
    turns = Turns(CLIENTS_BUDGET_US, asyncio.get_running_loop().call_soon)
    return WebSocketServices(heart.node, LIMITS, heart.counters, NoDeadlines(), turns)


# In memory


class InMemory:
    framing = PREFIXED

    def __init__(self) -> None:
        self.outbound = MemoryOutbound()
        self._heart = Heart()
        encoder = Encoder(ActionCableJson(), PREFIXED)
        environment = Environment(Sid("s"), "ws://test/", {})
        self._session = self._heart.node.admit(environment, encoder, self.outbound, Traits(NEVER))
        self._unread: list[bytes] = []

    async def say(self, payload: bytes) -> None:
        self._unread.append(payload)
        self._read()

    def _read(self) -> None:
        while self._unread and not self.outbound.is_paused:
            self._heart.node.receive(self._session, self._unread.pop(0))

    async def leave(self) -> None:
        self.outbound.close(Goodbye(Reason.REMOTE, 1006, ""))

    async def got(self) -> Got:
        self._read()
        goodbye = self.outbound.goodbye
        end = None if goodbye is None else (goodbye.code, goodbye.text)
        return Got(list(payloads(b"".join(self.outbound.frames))), end)


@asynccontextmanager
async def in_memory() -> AsyncIterator[Client]:
    yield InMemory()


# A WebSocket on a TCP connection


class Opening:
    """A first stage that opens a WebSocket at once, as if its handshake had come."""

    is_client = False

    def __init__(
        self,
        heart: Heart,
        framing: Framing,
        opened: "asyncio.Future[WebSocketConnection]",
        connection: ClientConnection,
        host: Host,
    ) -> None:
        self._heart = heart
        self._framing = framing
        self._opened = opened
        self._connection = connection

    def begin(self, rest: bytes) -> None:
        encoder = Encoder(ActionCableJson(), self._framing)
        environment = Environment(Sid("s"), "ws://test/", {})
        acceptance = Acceptance(environment, encoder, Traits(NEVER), b"OPEN")
        websocket = WebSocketConnection(
            services(self._heart), self._connection.transport, acceptance
        )
        self._connection.enter(websocket, rest)
        self._opened.set_result(websocket)

    def receive(self, data: bytes) -> None: ...
    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def lost(self, exc: Exception | None) -> None: ...
    def shutdown(self) -> None: ...


class OverTcp:
    def __init__(
        self,
        outbound: Outbound,
        framing: Framing,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_binary: bool,
    ) -> None:
        self.outbound = outbound
        self.framing = framing
        self._reader = reader
        self._writer = writer
        self._opcode = BINARY if is_binary else TEXT

    async def say(self, payload: bytes) -> None:
        self._writer.write(masked(payload, self._opcode))
        await asyncio.sleep(0.05)

    async def leave(self) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0.05)

    async def got(self) -> Got:
        data = await asyncio.wait_for(self._reader.read(), 5)
        assert data.startswith(b"OPEN")
        messages: list[bytes] = []
        for first, payload in frames(data[4:]):
            if first & 0x0F == CLOSE:
                return Got(messages, (int.from_bytes(payload[:2], "big"), payload[2:].decode()))
            assert first & 0x0F == self._opcode
            messages.append(inflated(payload, 2**24) if first & RSV1 else payload)
        return Got(messages, None)


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """The frames of a server (RFC 6455, section 5.2): first byte and payload."""
    found, at = [], 0
    while at < len(data):
        size, body = data[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, body = int.from_bytes(data[body : body + width], "big"), body + width
        found.append((data[at], data[body : body + size]))
        at = body + size
    return found


@asynccontextmanager
async def over_tcp(*, is_binary: bool, window_bits: int = 0) -> AsyncIterator[Client]:
    loop = asyncio.get_running_loop()
    framing = websocket_framing(is_binary=is_binary, window_bits=window_bits)
    opened: asyncio.Future[WebSocketConnection] = loop.create_future()
    connection = functools.partial(
        ClientConnection,
        functools.partial(Opening, Heart(), framing, opened),
        config=Config("none"),
        server_state=ServerState(),
        app_state={},
    )
    server = await loop.create_server(connection, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield OverTcp(await opened, framing, reader, writer, is_binary=is_binary)
    finally:
        writer.close()
        server.close()
        await settle()


# A client of another ASGI server


class Hosted:
    framing = PREFIXED

    def __init__(self, *, is_binary: bool) -> None:
        self._key = "bytes" if is_binary else "text"
        self._is_binary = is_binary
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent: list[Any] = []
        self._is_gone = False
        self.outbound = self._connection = AsgiWebSocket(
            services(Heart()),
            self._events.get,
            self._send,
            environment=Environment(Sid("s"), "ws://test/", {}),
            encoder=Encoder(ActionCableJson(), PREFIXED),
            traits=Traits(NEVER),
            is_binary=is_binary,
        )
        self._serving = asyncio.create_task(self._connection.serve())

    async def _send(self, event: Any) -> None:
        if self._is_gone:
            raise OSError("the client is gone")
        self._sent.append(event)

    async def say(self, payload: bytes) -> None:
        content = payload if self._is_binary else payload.decode()
        self._events.put_nowait({"type": "websocket.receive", self._key: content})
        await settle()

    async def leave(self) -> None:
        self._is_gone = True
        self._events.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await settle()

    async def got(self) -> Got:
        await asyncio.wait_for(self._serving, 5)
        messages: list[bytes] = []
        assert self._sent[0]["type"] == "websocket.accept"
        for event in self._sent[1:]:
            if event["type"] == "websocket.close":
                return Got(messages, (event["code"], event["reason"]))
            assert set(event) == {"type", self._key}
            content = event[self._key]
            messages.append(content if self._is_binary else content.encode())
        return Got(messages, None)


@asynccontextmanager
async def hosted(*, is_binary: bool) -> AsyncIterator[Client]:
    client = Hosted(is_binary=is_binary)
    await settle()
    yield client
    client._serving.cancel()
    await asyncio.wait([client._serving])


Open = Callable[[], AbstractAsyncContextManager[Client]]

TRANSPORTS: dict[str, tuple[Open, bool]] = {
    "memory": (in_memory, True),
    **{
        f"websocket {'binary' if is_binary else 'text'}{' deflated' if bits else ''}": (
            functools.partial(over_tcp, is_binary=is_binary, window_bits=bits),
            is_binary,
        )
        for is_binary in (False, True)
        for bits in (0, 12)
    },
    "asgi text": (functools.partial(hosted, is_binary=False), False),
    "asgi binary": (functools.partial(hosted, is_binary=True), True),
}


@pytest.fixture(params=list(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> tuple[Open, bool]:
    return TRANSPORTS[request.param]


@pytest.fixture
def opened(transport: tuple[Open, bool]) -> Open:
    return transport[0]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(scenario, 15))


def goodbye(code: int, text: str) -> Goodbye:
    return Goodbye(Reason.REMOTE, code, text)


def test_messages_arrive_whole_and_in_order_however_they_are_joined(
    transport: tuple[Open, bool],
) -> None:
    opened, takes_bytes = transport
    sent = [b"", "é\u00ff".encode(), b"x" * 125, b"x" * 126, b"long " * 20_000]
    sent += [b"%d" % number for number in range(300)]
    if takes_bytes:
        sent += [b"\xff", bytes(range(256)), b"\x00" * 4, b"\xff" * 300]

    async def scenario() -> None:
        async with opened() as client:
            size = 1
            rest = sent
            while rest:
                batch, rest = rest[:size], rest[size:]
                client.outbound.write(b"".join(map(client.framing.frame, batch)))
                size = size % 7 + 1
            client.outbound.close(goodbye(1001, "bye"))
            assert await client.got() == ([WELCOME, *sent], (1001, "bye"))

    run(scenario())


def test_the_goodbye_waits_for_what_was_not_sent_yet(opened: Open) -> None:
    # Nobody could compress it, and a client reads nothing before got(): most waits in the server.
    noise = b"".join(b"%x" % zlib.crc32(b"%d" % number) for number in range(100_000))

    async def scenario() -> None:
        async with opened() as client:
            for _ in range(4):
                client.outbound.write(client.framing.frame(noise))
                await asyncio.sleep(0)
            client.outbound.close(goodbye(1000, ""))
            assert await client.got() == ([WELCOME, *[noise] * 4], (1000, ""))

    run(scenario())


def test_after_the_goodbye_everything_is_ignored(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            outbound, late = client.outbound, client.framing.frame(b"late")
            outbound.close(goodbye(1000, "first"))
            outbound.write(late)
            outbound.close(goodbye(1001, "second"))
            outbound.pause_reading()
            outbound.resume_reading()
            assert await client.got() == ([WELCOME], (1000, "first"))
            outbound.write(late)
            outbound.close(goodbye(1001, "third"))

    run(scenario())


def test_nothing_raises_where_the_client_is_gone(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            await client.leave()
            for _ in range(20):
                client.outbound.write(client.framing.frame(b"x"))
                await asyncio.sleep(0)
            client.outbound.pause_reading()
            client.outbound.resume_reading()
            client.outbound.close(goodbye(1000, ""))

    run(scenario())


def test_nothing_is_read_until_every_pause_is_undone(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            # A host's next event is awaited already.
            client.outbound.pause_reading()
            await client.say(SAID)
            client.outbound.resume_reading()
            client.outbound.pause_reading()
            client.outbound.pause_reading()
            await client.say(SAID)
            await client.say(SAID)
            client.outbound.resume_reading()
            await client.say(SAID)
            client.outbound.write(client.framing.frame(b"1"))
            await asyncio.sleep(0.05)
            client.outbound.resume_reading()
            await client.say(SAID)
            client.outbound.write(client.framing.frame(b"2"))
            client.outbound.close(goodbye(1000, ""))
            messages = (await client.got()).messages
        between = messages[messages.index(b"1") : messages.index(b"2")]
        assert messages.count(PONG) == 5
        assert between.count(PONG) >= 3

    run(scenario())


def test_a_close_is_answered_although_reading_is_paused(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            client.outbound.pause_reading()
            client.outbound.write(client.framing.frame(b"x"))
            client.outbound.close(goodbye(1000, ""))
            assert await client.got() == ([WELCOME, b"x"], (1000, ""))

    run(scenario())


# Large answers


async def all_sent(sent: Awaitable[None] | None) -> None:
    if sent is not None:
        await sent


def large(number: int) -> list[bytes]:
    """Messages that nobody could compress well."""
    noise = b"".join(b"%x" % zlib.crc32(b"%d" % each) for each in range(7_500))
    return [b"%d" % each + noise for each in range(number)]


def framed(client: Client, messages: list[bytes]) -> Iterator[bytes]:
    return iter([client.framing.frame(each) for each in messages])


def test_slices_arrive_between_what_was_written_before_and_after(opened: Open) -> None:
    slices = large(5)

    async def scenario() -> None:
        async with opened() as client:
            outbound, frame = client.outbound, client.framing.frame
            outbound.write(frame(b"a"))
            first = outbound.write_slices(framed(client, slices))
            outbound.write(frame(b"b"))
            outbound.write(frame(b"c"))
            second = outbound.write_slices(framed(client, slices[:2]))
            outbound.write(frame(b"d"))
            await all_sent(first)
            await all_sent(second)
            outbound.write(frame(b"e"))
            outbound.close(goodbye(1000, "bye"))
            expected = [WELCOME, b"a", *slices, b"b", b"c", *slices[:2], b"d", b"e"]
            assert await client.got() == (expected, (1000, "bye"))

    run(scenario())


def test_an_answer_may_be_larger_than_what_may_wait_for_a_client(opened: Open) -> None:
    slices = large(200)

    async def scenario() -> None:
        async with opened() as client:
            sent = client.outbound.write_slices(framed(client, slices))
            reading = asyncio.ensure_future(client.got())
            await all_sent(sent)
            client.outbound.close(goodbye(1000, "bye"))
            got = await reading
            # One that has nothing to read from tells what it has got so far.
            assert got if got.goodbye is None else got == ([WELCOME, *slices], (1000, "bye"))

    run(scenario())


def test_the_goodbye_follows_the_slices(opened: Open) -> None:
    slices = large(3)

    async def scenario() -> None:
        async with opened() as client:
            client.outbound.write_slices(framed(client, slices))
            client.outbound.close(goodbye(1000, "bye"))
            assert client.outbound.write_slices(framed(client, slices)) is None
            assert await client.got() == ([WELCOME, *slices], (1000, "bye"))

    run(scenario())


def test_an_answer_that_cannot_be_encoded_ends_and_others_follow(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            frame = client.framing.frame

            def failing() -> Iterator[bytes]:
                yield frame(b"a")
                raise ValueError("no such text")

            with pytest.raises(ValueError, match="no such text"):
                await all_sent(client.outbound.write_slices(failing()))
            client.outbound.write(frame(b"b"))
            client.outbound.close(goodbye(1000, "bye"))
            assert await client.got() == ([WELCOME, b"a", b"b"], (1000, "bye"))

    run(scenario())


def test_nobody_waits_for_slices_to_a_client_that_is_gone(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            sent = client.outbound.write_slices(framed(client, large(1000)))
            await client.leave()
            await all_sent(sent)
            assert client.outbound.write_slices(framed(client, [b"x"])) is None

    run(scenario())
