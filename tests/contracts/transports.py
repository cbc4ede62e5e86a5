"""Clients of every transport, for the contract of Outbound: one in memory, WebSockets and event streams on TCP
connections, and both in an ASGI host.

A transport joins by a row of ``TRANSPORTS``: something that opens one client, and reports what that client got.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, Protocol

from uvicorn.config import Config

from catenary.edge.clients import Clients
from catenary.edge.connection import ClientConnection, PortState, Stage, UvicornContext
from catenary.edge.deadlines import NoDeadlines
from catenary.edge.introductions import Introductions
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.messages.reasons import Reason
from catenary.node.encoder import Encoder
from catenary.node.session import Traits
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.ports import Goodbye, Introduction, Outbound
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.transports.asgi_event_stream import AsgiEventStream, AsgiEventStreamEndpoint
from catenary.transports.asgi_websocket import AsgiWebSocket
from catenary.transports.event_stream import EventStream, StreamLimits
from catenary.transports.event_stream_endpoint import EventStreamEndpoint
from catenary.transports.websocket import (
    Acceptance,
    WebSocketConnection,
    WebSocketLimits,
    WebSocketServices,
)
from catenary.wire.deflate import inflated
from catenary.wire.event_stream import CHUNKED, UNTIL_CLOSED
from catenary.wire.frames import BINARY, CLOSE, RSV1, TEXT
from catenary.wire.framing import PREFIXED, Framing, payloads, websocket_framing
from tests.contracts.polling_client import Got, polling
from tests.parts.event_stream import PEER, post, stream_services
from tests.parts.events import chunks_of, events_of
from tests.parts.heart import NEVER, Heart, MemoryOutbound, settle
from tests.parts.raw_socket import masked

LIMITS = WebSocketLimits(close_timeout_s=0.3, max_pending_bytes=8_000_000)
STREAM_LIMITS = StreamLimits(high_water=8_000_000, close_timeout_s=0.3)
WELCOME = b'{"type":"welcome","sid":"s"}'
PONG = b'{"type":"pong"}'
SAID = b'{"command":"ping"}'


class Client(Protocol):
    """One client of a transport, and the server's end of its connection."""

    def frame(self, message: bytes) -> bytes:
        """A message as the encoder of this client writes it."""

    def seen(self, code: int, text: str) -> tuple[int, str]:
        """The parts of a goodbye that this client receives."""

    @property
    def outbound(self) -> Outbound: ...

    async def say(self, payload: bytes) -> None:
        """Sends a message to the server, which has had time to read it."""

    async def leave(self) -> None:
        """Is gone without a word."""

    async def got(self) -> Got:
        """Waits for the end, which must come by itself, without an answer to a close frame."""


class IntroducedJson(ActionCableJson):
    """Action Cable for clients whose first message, whatever it is, introduces them."""

    def introduce(self, payload: bytes) -> Introduction:
        return Introduction()


def websocket_services(heart: Heart, *, is_introduced: bool = False) -> WebSocketServices:
    turns = Turns(CLIENTS_BUDGET_US, asyncio.get_running_loop().call_soon)
    node: Clients[Any] = heart.node
    if is_introduced:
        node = Introductions(heart.node, NoDeadlines(), heart.counters)
    return WebSocketServices(node, LIMITS, heart.counters, NoDeadlines(), turns)


# In memory


class _WebSocketClient:
    """Base of the clients over WebSockets, and of the one in memory."""

    def __init__(self, framing: Framing) -> None:
        self.frame = framing.frame

    def seen(self, code: int, text: str) -> tuple[int, str]:
        return code, text


class InMemory(_WebSocketClient):
    def __init__(self) -> None:
        super().__init__(PREFIXED)
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


# TCP connections


Enter = Callable[[ClientConnection], Stage]
"""Builds the stage of a client, as its endpoint does."""


class Opening:
    """A first stage that is exchanged at once, as if a request had come."""

    is_client = False

    def __init__(
        self,
        enter: Enter,
        opened: "asyncio.Future[Stage]",
        connection: ClientConnection,
        uvicorn: UvicornContext,
    ) -> None:
        self._enter = enter
        self._opened = opened
        self._connection = connection

    def begin(self, rest: bytes) -> None:
        stage = self._enter(self._connection)
        self._connection.enter(stage, rest)
        self._opened.set_result(stage)

    def receive(self, data: bytes) -> None: ...
    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def lost(self, exc: Exception | None) -> None: ...
    def shutdown(self) -> None: ...


class ServerEnd(ClientConnection):
    """The server's end of a connection; ``lost`` is set once it is closed."""

    def __init__(self, lost: asyncio.Event, *first: Any, **uvicorn: Any) -> None:
        super().__init__(*first, **uvicorn)
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost.set()


class ClientEnd(NamedTuple):
    """The client's end; ``lost`` is set once the server has noticed that the connection is closed."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    lost: asyncio.Event

    async def leave(self) -> None:
        self.writer.transport.abort()
        await self.lost.wait()


@asynccontextmanager
async def on_tcp(enter: Enter) -> AsyncIterator[tuple[Any, ClientEnd]]:
    """The stage of a client, and the client's end of the connection."""
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[Stage] = loop.create_future()
    lost = asyncio.Event()
    connection = functools.partial(
        ServerEnd,
        lost,
        functools.partial(Opening, enter, opened),
        config=Config("none"),
        server_state=PortState(),
        app_state={},
    )
    server = await loop.create_server(connection, "127.0.0.1", 0)
    end = ClientEnd(*await asyncio.open_connection(*server.sockets[0].getsockname()), lost)
    try:
        yield await opened, end
    finally:
        end.writer.close()
        server.close()
        await settle()


# A WebSocket on a TCP connection


class WebSocketOnTcp(_WebSocketClient):
    def __init__(
        self,
        outbound: Outbound,
        framing: Framing,
        end: ClientEnd,
        *,
        is_binary: bool,
    ) -> None:
        super().__init__(framing)
        self.outbound = outbound
        self._end = end
        self.leave = end.leave
        self._opcode = BINARY if is_binary else TEXT

    async def say(self, payload: bytes) -> None:
        self._end.writer.write(masked(payload, self._opcode))
        await settle()

    async def got(self) -> Got:
        data = await asyncio.wait_for(self._end.reader.read(), 5)
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
async def websocket(
    *, is_binary: bool = False, window_bits: int = 0, is_introduced: bool = False
) -> AsyncIterator[Client]:
    framing = websocket_framing(is_binary=is_binary, window_bits=window_bits)
    services = websocket_services(Heart(), is_introduced=is_introduced)

    def enter(connection: ClientConnection) -> WebSocketConnection:
        encoder = Encoder(IntroducedJson() if is_introduced else ActionCableJson(), framing)
        environment = Environment(Sid("s"), "ws://test/", {})
        acceptance = Acceptance(environment, encoder, Traits(NEVER), b"OPEN")
        return WebSocketConnection(services, connection.transport, acceptance)

    async with on_tcp(enter) as (stage, end):
        client = WebSocketOnTcp(stage, framing, end, is_binary=is_binary)
        if is_introduced:
            await client.say(b"I am somebody")
        yield client


# An event stream on a TCP connection


class _EventStreamClient:
    """What clients of event streams have in common. Their request has no commands, so that the response begins at once;
    they send nothing more, and see no code at the end."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing

    def frame(self, message: bytes) -> bytes:
        return self._framing.frame(b"data: " + message)

    def seen(self, code: int, text: str) -> tuple[int, str]:
        return 0, ""

    async def say(self, payload: bytes) -> None:
        raise AssertionError("expected no message: a client of an event stream sends none")


def data_of(events: bytes) -> list[bytes]:
    return [event.data.encode() for event in events_of(events)]


class EventStreamOnTcp(_EventStreamClient):
    def __init__(
        self,
        outbound: Outbound,
        end: ClientEnd,
        *,
        is_chunked: bool,
    ) -> None:
        super().__init__((CHUNKED if is_chunked else UNTIL_CLOSED).framing)
        self.outbound = outbound
        self._end = end
        self.leave = end.leave
        self._is_chunked = is_chunked

    async def got(self) -> Got:
        data = await asyncio.wait_for(self._end.reader.read(), 5)
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        if not self._is_chunked:
            return Got(data_of(body), (0, ""))
        *chunks, last = chunks_of(body)
        return Got(data_of(b"".join(chunks)), None if last else (0, ""))


@asynccontextmanager
async def event_stream(*, is_chunked: bool) -> AsyncIterator[Client]:
    heart = Heart()

    def enter(connection: ClientConnection) -> Stage:
        endpoint = EventStreamEndpoint(stream_services(heart, limits=STREAM_LIMITS))
        request = post(0, is_http_1_0=not is_chunked)
        return endpoint.open(request, PEER, connection)

    async with on_tcp(enter) as (stage, end):
        assert isinstance(stage, EventStream)
        yield EventStreamOnTcp(stage, end, is_chunked=is_chunked)


# Clients of another ASGI server


class AsgiHost:
    """The host's side of one connection: what it passes on, and what it was given to send."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[Any] = []
        self._is_gone = False
        self._serving: asyncio.Task[None]

    @asynccontextmanager
    async def serving(self, client: Any) -> AsyncIterator[None]:
        self._serving = asyncio.create_task(client.serve())
        await settle()
        try:
            yield
        finally:
            self._serving.cancel()
            await asyncio.wait([self._serving])

    async def send(self, event: Any) -> None:
        if self._is_gone:
            raise OSError("the client is gone")
        self.sent.append(event)

    async def lose(self, event: dict[str, Any]) -> None:
        """The client is gone."""
        self._is_gone = True
        self.events.put_nowait(event)
        await settle()

    async def until_served(self) -> list[Any]:
        """What was sent in all."""
        await asyncio.wait_for(self._serving, 5)
        return self.sent


class HostedWebSocket(_WebSocketClient):
    def __init__(self, *, is_binary: bool) -> None:
        super().__init__(PREFIXED)
        self._key = "bytes" if is_binary else "text"
        self._is_binary = is_binary
        self.host = AsgiHost()
        self.outbound = AsgiWebSocket(
            websocket_services(Heart()),
            self.host.events.get,
            self.host.send,
            environment=Environment(Sid("s"), "ws://test/", {}),
            encoder=Encoder(ActionCableJson(), PREFIXED),
            traits=Traits(NEVER),
            is_binary=is_binary,
        )

    async def say(self, payload: bytes) -> None:
        content = payload if self._is_binary else payload.decode()
        self.host.events.put_nowait({"type": "websocket.receive", self._key: content})
        await settle()

    async def leave(self) -> None:
        await self.host.lose({"type": "websocket.disconnect", "code": 1006})

    async def got(self) -> Got:
        accepted, *events = await self.host.until_served()
        assert accepted["type"] == "websocket.accept"
        messages: list[bytes] = []
        for event in events:
            if event["type"] == "websocket.close":
                return Got(messages, (event["code"], event["reason"]))
            assert set(event) == {"type", self._key}
            content = event[self._key]
            messages.append(content if self._is_binary else content.encode())
        return Got(messages, None)


@asynccontextmanager
async def hosted_websocket(*, is_binary: bool) -> AsyncIterator[Client]:
    client = HostedWebSocket(is_binary=is_binary)
    async with client.host.serving(client.outbound):
        yield client


class HostedEventStream(_EventStreamClient):
    def __init__(self) -> None:
        super().__init__(UNTIL_CLOSED.framing)
        self.host = AsgiHost()
        endpoint = AsgiEventStreamEndpoint(stream_services(Heart(), limits=STREAM_LIMITS))
        client = endpoint.open(
            post(0),
            PEER,
            {"type": "http"},
            self.host.events.get,
            self.host.send,
        )
        assert isinstance(client, AsgiEventStream)
        self.client = client
        self.outbound = client.stream
        self.host.events.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    async def leave(self) -> None:
        await self.host.lose({"type": "http.disconnect"})

    async def got(self) -> Got:
        start, *events = await self.host.until_served()
        assert (start["type"], start["status"]) == ("http.response.start", 200)
        assert {event["type"] for event in events} <= {"http.response.body"}
        body = b"".join(event["body"] for event in events)
        is_ended = [event["more_body"] for event in events].index(False) == len(events) - 1
        return Got(data_of(body), (0, "") if is_ended else None)


@asynccontextmanager
async def hosted_event_stream() -> AsyncIterator[Client]:
    client = HostedEventStream()
    async with client.host.serving(client.client):
        yield client


Open = Callable[[], AbstractAsyncContextManager[Client]]


class Transport(NamedTuple):
    """How a client of a transport is opened; whether messages may be any bytes; whether the client sends messages."""

    open: Open
    takes_bytes: bool
    hears: bool = True


TRANSPORTS: dict[str, Transport] = {
    "memory": Transport(in_memory, takes_bytes=True),
    **{
        f"websocket {'binary' if is_binary else 'text'}{' deflated' if bits else ''}": Transport(
            functools.partial(websocket, is_binary=is_binary, window_bits=bits),
            takes_bytes=is_binary,
        )
        for is_binary in (False, True)
        for bits in (0, 12)
    },
    "websocket after an introduction": Transport(
        functools.partial(websocket, is_introduced=True), takes_bytes=False
    ),
    "asgi text": Transport(functools.partial(hosted_websocket, is_binary=False), takes_bytes=False),
    "asgi binary": Transport(functools.partial(hosted_websocket, is_binary=True), takes_bytes=True),
    "event stream in chunks": Transport(
        functools.partial(event_stream, is_chunked=True), takes_bytes=False, hears=False
    ),
    "event stream until closed": Transport(
        functools.partial(event_stream, is_chunked=False), takes_bytes=False, hears=False
    ),
    "long polling": Transport(polling, takes_bytes=False),
    "asgi event stream": Transport(hosted_event_stream, takes_bytes=False, hears=False),
}
