"""Replies of one connection: however many come in one read, each is taken, in order, and none of them at a time that
belongs to others."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from catenary.adapters.redis.client import connect
from catenary.adapters.redis.connection import (
    REPLIES_AT_ONCE,
    RedisConnection,
    close_client,
    open_connection,
    pack,
)
from catenary.config.addresses import RedisAddress
from tests.parts.heart import in_loop
from tests.parts.redis import redis_server
from tests.parts.redis_node import until

MANY = REPLIES_AT_ONCE * 10


@asynccontextmanager
async def opened(url: str, take: Callable[[Any], None]) -> AsyncIterator[RedisConnection]:
    client = connect(RedisAddress(url))
    connection = await open_connection(client, take)
    try:
        yield connection
    finally:
        await connection.close()
        await close_client(client)


@asynccontextmanager
async def redis_that_says(replies: bytes) -> AsyncIterator[str]:
    """Greets a client, sends some replies when it says something else, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = True
        while greeting:
            said = await reader.read(10_000)
            greeting = b"CLIENT" in said
            if greeting:
                writer.write(b"+OK\r\n" * said.count(b"CLIENT"))
        writer.write(replies)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"redis://{host}:{port}"


def integers(number: int) -> bytes:
    return b"".join(b":%d\r\n" % each for each in range(number))


@in_loop
async def test_others_get_turns_between_the_replies_of_a_large_read() -> None:
    replies: list[Any] = []
    turns: list[int] = []

    async def count_turns() -> None:
        while True:
            turns.append(len(replies))
            await asyncio.sleep(0)

    with redis_server() as server:
        async with opened(server.url, replies.append) as connection:
            counting = asyncio.create_task(count_turns())
            connection.write(pack("PING") * MANY)
            await until(lambda: len(replies) == MANY)
            counting.cancel()
    assert replies == [b"PONG"] * MANY
    steps = [after - before for before, after in itertools.pairwise(turns)]
    assert max(steps) <= REPLIES_AT_ONCE


@in_loop
async def test_a_pause_leaves_the_rest_of_a_read_for_later() -> None:
    replies: list[Any] = []
    with redis_server() as server:
        async with opened(server.url, replies.append) as connection:

            def take(reply: Any) -> None:
                replies.append(reply)
                if len(replies) == 1:
                    connection.pause()

            connection._on_reply = take
            connection.data_received(integers(MANY))
            assert len(replies) == REPLIES_AT_ONCE
            await connection_answers(server.url)
            assert len(replies) == REPLIES_AT_ONCE
            connection.write(pack("PING"))
            connection.resume()
            await until(lambda: len(replies) > MANY)
    assert replies == [*range(MANY), b"PONG"]


async def connection_answers(url: str) -> None:
    """Waits for a round trip of another connection: everything else that is due has happened then."""
    replies: list[Any] = []
    async with opened(url, replies.append) as other:
        other.write(pack("PING"))
        await until(lambda: bool(replies))


@pytest.mark.parametrize("is_paused", [False, True])
@in_loop
async def test_replies_from_before_the_end_are_taken_first(is_paused: bool) -> None:
    """Also while the owner has paused: nothing that was received is lost with the connection."""
    replies: list[Any] = []
    async with (
        redis_that_says(integers(MANY)) as url,
        opened(url, replies.append) as connection,
    ):

        def take(reply: Any) -> None:
            replies.append(reply)
            if is_paused:
                connection.pause()

        connection._on_reply = take
        connection.write(pack("GO"))
        await until(lambda: len(replies) >= REPLIES_AT_ONCE)
        await connection.close()
        assert connection.lost.done()
    taken = len(replies)
    assert replies == list(range(taken))
    assert is_paused or taken == MANY


@in_loop
async def test_a_malformed_reply_ends_the_connection() -> None:
    replies: list[Any] = []
    async with (
        redis_that_says(integers(MANY) + b"?\r\n") as url,
        opened(url, replies.append) as connection,
    ):
        connection.write(pack("GO"))
        async with asyncio.timeout(10):
            assert "expected replies of Redis" in await connection.lost
    assert replies == list(range(MANY))


@in_loop
async def test_an_owner_that_fails_ends_the_connection() -> None:
    """A reply that it has not seen would stand for the next one."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    def fail(reply: Any) -> None:
        raise RuntimeError("a fault of ours")

    with redis_server() as server:
        async with opened(server.url, fail) as connection:
            connection.write(pack("PING"))
            async with asyncio.timeout(10):
                await connection.lost
