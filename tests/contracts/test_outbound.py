"""The contract of Outbound, run over every transport: WebSockets and event streams, on real connections and in an
ASGI host, and the one in memory. A transport joins by a row of :data:`tests.contracts.transports.TRANSPORTS`.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from catenary.messages.reasons import Reason
from catenary.ports import Goodbye
from tests.contracts.transports import (
    PONG,
    SAID,
    TRANSPORTS,
    WELCOME,
    Client,
    Open,
    Transport,
)


@pytest.fixture(params=list(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> Transport:
    return TRANSPORTS[request.param]


@pytest.fixture
def opened(transport: Transport) -> Open:
    return transport.open


def run(scenario: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(scenario, 15))


def goodbye(code: int, text: str) -> Goodbye:
    return Goodbye(Reason.REMOTE, code, text)


def test_messages_arrive_whole_and_in_order_however_they_are_joined(
    transport: Transport,
) -> None:
    sent = [b"", "é\u00ff".encode(), b"x" * 125, b"x" * 126, b"long " * 20_000]
    sent += [b"%d" % number for number in range(300)]
    if transport.takes_bytes:
        sent += [b"\xff", bytes(range(256)), b"\x00" * 4, b"\xff" * 300]

    async def scenario() -> None:
        async with transport.open() as client:
            size = 1
            rest = sent
            while rest:
                batch, rest = rest[:size], rest[size:]
                client.outbound.write(b"".join(map(client.frame, batch)))
                size = size % 7 + 1
            client.outbound.close(goodbye(1001, "bye"))
            assert await client.got() == ([WELCOME, *sent], client.seen(1001, "bye"))

    run(scenario())


def test_the_goodbye_waits_for_what_was_not_sent_yet(opened: Open) -> None:
    # It can't be compressed, and a client reads nothing before got(): most of it waits in the server.
    noise = b"".join(b"%x" % zlib.crc32(b"%d" % number) for number in range(100_000))

    async def scenario() -> None:
        async with opened() as client:
            for _ in range(4):
                client.outbound.write(client.frame(noise))
                await asyncio.sleep(0)
            client.outbound.close(goodbye(1000, ""))
            assert await client.got() == ([WELCOME, *[noise] * 4], client.seen(1000, ""))

    run(scenario())


def test_after_the_goodbye_everything_is_ignored(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            outbound, late = client.outbound, client.frame(b"late")
            outbound.close(goodbye(1000, "first"))
            outbound.write(late)
            outbound.close(goodbye(1001, "second"))
            outbound.pause_reading()
            outbound.resume_reading()
            assert await client.got() == ([WELCOME], client.seen(1000, "first"))
            outbound.write(late)
            outbound.close(goodbye(1001, "third"))

    run(scenario())


def test_nothing_raises_where_the_client_is_gone(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            await client.leave()
            for _ in range(20):
                client.outbound.write(client.frame(b"x"))
                await asyncio.sleep(0)
            client.outbound.pause_reading()
            client.outbound.resume_reading()
            client.outbound.close(goodbye(1000, ""))

    run(scenario())


@pytest.mark.parametrize("name", [name for name, each in TRANSPORTS.items() if each.hears])
def test_nothing_is_read_until_every_pause_is_undone(name: str) -> None:
    opened = TRANSPORTS[name].open

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
            client.outbound.write(client.frame(b"1"))
            client.outbound.resume_reading()
            await client.say(SAID)
            client.outbound.write(client.frame(b"2"))
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
            client.outbound.write(client.frame(b"x"))
            client.outbound.close(goodbye(1000, ""))
            assert await client.got() == ([WELCOME, b"x"], client.seen(1000, ""))

    run(scenario())


# Large answers


async def all_sent(sent: Awaitable[None] | None) -> None:
    if sent is not None:
        await sent


def large(number: int) -> list[bytes]:
    """Messages that can hardly be compressed."""
    noise = b"".join(b"%x" % zlib.crc32(b"%d" % each) for each in range(7_500))
    return [b"%d" % each + noise for each in range(number)]


def framed(client: Client, messages: list[bytes]) -> Iterator[bytes]:
    """Each message is framed when it is asked for, as an encoder does."""
    return map(client.frame, messages)


def test_slices_arrive_between_what_was_written_before_and_after(opened: Open) -> None:
    slices = large(5)

    async def scenario() -> None:
        async with opened() as client:
            outbound, frame = client.outbound, client.frame
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
            assert await client.got() == (expected, client.seen(1000, "bye"))

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
            if got.goodbye is None:  # the client in memory does not wait for the end
                got = await client.got()
            assert got == ([WELCOME, *slices], client.seen(1000, "bye"))

    run(scenario())


def test_the_goodbye_follows_the_slices(opened: Open) -> None:
    slices = large(3)

    async def scenario() -> None:
        async with opened() as client:
            client.outbound.write_slices(framed(client, slices))
            client.outbound.close(goodbye(1000, "bye"))
            assert client.outbound.write_slices(framed(client, slices)) is None
            assert await client.got() == ([WELCOME, *slices], client.seen(1000, "bye"))

    run(scenario())


def test_an_answer_that_cannot_be_encoded_ends_and_others_follow(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            frame = client.frame

            def failing() -> Iterator[bytes]:
                yield frame(b"a")
                raise ValueError("no such text")

            with pytest.raises(ValueError, match="no such text"):
                await all_sent(client.outbound.write_slices(failing()))
            client.outbound.write(frame(b"b"))
            client.outbound.close(goodbye(1000, "bye"))
            assert await client.got() == ([WELCOME, b"a", b"b"], client.seen(1000, "bye"))

    run(scenario())


def test_nobody_waits_for_slices_to_a_client_that_is_gone(opened: Open) -> None:
    async def scenario() -> None:
        async with opened() as client:
            sent = client.outbound.write_slices(framed(client, large(1000)))
            await client.leave()
            await all_sent(sent)
            assert client.outbound.write_slices(framed(client, [b"x"])) is None

    run(scenario())
