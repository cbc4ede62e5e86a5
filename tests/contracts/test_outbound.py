"""The contract of Outbound, run over the WebSocket, on a real connection, and over the one in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import pytest
import uvloop

from catenary.edge.deadlines import NoDeadlines
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.messages.reasons import Reason
from catenary.node.session import Traits
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.ports import Goodbye, Outbound
from catenary.transports.websocket import Acceptance, WebSocketConnection, WebSocketLimits
from catenary.wire.frames import close_frame, text_frame
from tests.parts.heart import NEVER, Heart, MemoryOutbound, settle

CLOSE_TIMEOUT_S = 0.3


class InMemory:
    def __init__(self) -> None:
        self._outbound = MemoryOutbound()
        self.outbound: Outbound = self._outbound

    async def everything(self) -> bytes:
        """What the client has got at the end, with the goodbye."""
        goodbye = self._outbound.goodbye
        end = b"" if goodbye is None else close_frame(goodbye.code, goodbye.text)
        return b"".join(self._outbound.frames) + end

    async def hang_up(self) -> None:
        """The client is gone."""
        self._outbound.close(Goodbye(Reason.REMOTE, 1006, ""))


class OverTcp:
    """A WebSocketConnection whose client is a plain stream that never answers a close frame."""

    def __init__(
        self,
        connection: WebSocketConnection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.outbound: Outbound = connection
        self._reader = reader
        self._writer = writer

    async def everything(self) -> bytes:
        # A connection that does not end is an error here: the answer to the close never comes.
        return await asyncio.wait_for(self._reader.read(), 5)

    async def hang_up(self) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0.05)


class Handing(asyncio.Protocol):
    """Hands each connection to a WebSocketConnection, as the door does."""

    def __init__(self, heart: Heart, opened: "asyncio.Future[WebSocketConnection]") -> None:
        self._heart = heart
        self._opened = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass.
        transport = cast("asyncio.Transport", transport)
        limits = WebSocketLimits(close_timeout_s=CLOSE_TIMEOUT_S)
        connection = WebSocketConnection(
            self._heart.node,
            limits,
            self._heart.counters,
            set(),
            late_messages=NoDeadlines(),
            turns=Turns(CLIENTS_BUDGET_US, asyncio.get_running_loop().call_soon),
        )
        environment = Environment(Sid("s"), "ws://test/", {})
        transport.set_protocol(connection)
        connection.begin(
            transport, Acceptance(environment, self._heart.encoder, Traits(NEVER), b"OPEN"), b""
        )
        self._opened.set_result(connection)


@asynccontextmanager
async def in_memory() -> AsyncIterator[InMemory]:
    yield InMemory()


@asynccontextmanager
async def over_tcp() -> AsyncIterator[OverTcp]:
    heart = Heart()
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[WebSocketConnection] = loop.create_future()
    server = await loop.create_server(lambda: Handing(heart, opened), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        connection = await opened
        welcome = text_frame(b'{"type":"welcome","sid":"s"}')
        assert await reader.readexactly(4 + len(welcome)) == b"OPEN" + welcome
        yield OverTcp(connection, reader, writer)
    finally:
        writer.close()
        server.close()
        await settle()


Way = InMemory | OverTcp
WAYS: dict[str, Callable[[], AbstractAsyncContextManager[Way]]] = {
    "memory": in_memory,
    "websocket": over_tcp,
}


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Callable[[], AbstractAsyncContextManager[Way]]:
    return WAYS[request.param]


Ways = Callable[[], AbstractAsyncContextManager[Way]]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(scenario, 10))


FRAMES = [text_frame(b"%d" % n) for n in range(300)]


def test_writes_arrive_in_order_and_the_goodbye_behind_them(way: Ways) -> None:
    async def scenario() -> None:
        async with way() as made:
            for each in FRAMES:
                made.outbound.write(each)
            made.outbound.close(Goodbye(Reason.REMOTE, 1001, "bye"))
            assert await made.everything() == b"".join(FRAMES) + close_frame(1001, "bye")

    run(scenario())


def test_the_goodbye_waits_for_what_the_kernel_did_not_take(way: Ways) -> None:
    large = text_frame(b"x" * 900_000)

    async def scenario() -> None:
        async with way() as made:
            for _ in range(4):
                made.outbound.write(large)
                await asyncio.sleep(0)
            made.outbound.close(Goodbye(Reason.REMOTE, 1000, ""))
            assert await made.everything() == large * 4 + close_frame(1000, "")

    # Less than the limit in the buffer: the client reads nothing until everything().
    run(scenario())


def test_after_the_goodbye_everything_is_ignored(way: Ways) -> None:
    async def scenario() -> None:
        async with way() as made:
            made.outbound.close(Goodbye(Reason.REMOTE, 1000, "first"))
            made.outbound.write(FRAMES[0])
            made.outbound.close(Goodbye(Reason.REMOTE, 1001, "second"))
            made.outbound.pause_reading()
            made.outbound.resume_reading()
            assert await made.everything() == close_frame(1000, "first")
            made.outbound.write(FRAMES[0])
            made.outbound.close(Goodbye(Reason.REMOTE, 1001, "third"))

    run(scenario())


def test_nothing_raises_where_the_client_is_gone(way: Ways) -> None:
    async def scenario() -> None:
        async with way() as made:
            await made.hang_up()
            for _ in range(20):
                made.outbound.write(FRAMES[0])
                await asyncio.sleep(0)
            made.outbound.pause_reading()
            made.outbound.resume_reading()
            made.outbound.close(Goodbye(Reason.REMOTE, 1000, ""))

    run(scenario())


def test_holding_and_resuming_may_be_repeated(way: Ways) -> None:
    async def scenario() -> None:
        async with way() as made:
            for _ in range(3):
                made.outbound.pause_reading()
                made.outbound.pause_reading()
                made.outbound.resume_reading()
                made.outbound.resume_reading()
            made.outbound.write(FRAMES[0])
            made.outbound.pause_reading()
            made.outbound.close(Goodbye(Reason.REMOTE, 1000, ""))
            assert await made.everything() == FRAMES[0] + close_frame(1000, "")

    run(scenario())


# Large answers

BYE = Goodbye(Reason.REMOTE, 1000, "bye")


async def all_sent(sent: Awaitable[None] | None) -> None:
    if sent is not None:
        await sent


def slices_of(size: int) -> list[bytes]:
    return [text_frame(b"%d" % number + b"x" * 60_000) for number in range(size)]


def test_slices_arrive_between_what_was_written_before_and_after(way: Ways) -> None:
    slices = slices_of(5)

    async def scenario() -> None:
        async with way() as made:
            made.outbound.write(FRAMES[0])
            first = made.outbound.write_slices(iter(slices))
            made.outbound.write(FRAMES[1])
            made.outbound.write(FRAMES[2])
            second = made.outbound.write_slices(iter(slices[:2]))
            made.outbound.write(FRAMES[3])
            await all_sent(first)
            await all_sent(second)
            made.outbound.write(FRAMES[4])
            made.outbound.close(BYE)
            expected = [FRAMES[0], *slices, *FRAMES[1:3], *slices[:2], *FRAMES[3:5]]
            assert await made.everything() == b"".join(expected) + close_frame(BYE.code, BYE.text)

    run(scenario())


def test_an_answer_may_be_larger_than_what_may_wait_for_a_client(way: Ways) -> None:
    slices = slices_of(100)

    async def scenario() -> None:
        async with way() as made:
            sent = made.outbound.write_slices(iter(slices))
            reading = asyncio.ensure_future(made.everything())
            await all_sent(sent)
            made.outbound.close(BYE)
            assert await reading == b"".join(slices) + close_frame(BYE.code, BYE.text)

    run(scenario())


def test_the_goodbye_follows_the_slices(way: Ways) -> None:
    slices = slices_of(3)

    async def scenario() -> None:
        async with way() as made:
            made.outbound.write_slices(iter(slices))
            made.outbound.close(BYE)
            assert made.outbound.write_slices(iter(slices)) is None
            assert await made.everything() == b"".join(slices) + close_frame(BYE.code, BYE.text)

    run(scenario())


def test_an_answer_that_cannot_be_encoded_ends_and_others_follow(way: Ways) -> None:
    def failing() -> Iterator[bytes]:
        yield FRAMES[0]
        raise ValueError("no such text")

    async def scenario() -> None:
        async with way() as made:
            with pytest.raises(ValueError, match="no such text"):
                await all_sent(made.outbound.write_slices(failing()))
            made.outbound.write(FRAMES[1])
            made.outbound.close(BYE)
            expected = b"".join(FRAMES[:2]) + close_frame(BYE.code, BYE.text)
            assert await made.everything() == expected

    run(scenario())


def test_nobody_waits_for_slices_to_a_client_that_is_gone(way: Ways) -> None:
    async def scenario() -> None:
        async with way() as made:
            sent = made.outbound.write_slices(iter(slices_of(1000)))
            await made.hang_up()
            await all_sent(sent)
            assert made.outbound.write_slices(iter(FRAMES)) is None

    run(scenario())
