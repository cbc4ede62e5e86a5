"""A history on Redis or NATS, read page by page: the work grows with the messages that are read."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import pytest
import redis

from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication, Publishable
from catenary.node.reads import Reads
from catenary.ports import History
from tests.growth.measure import STEPS_RATIO, steps_of
from tests.parts.heart import in_loop
from tests.parts.nats_node import jetstream_server, nats_node
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import LIMITS, redis_node, until

SIZES = (100, 1_000)
PAGE = 10
LARGE = msgspec.structs.replace(LIMITS, history_limit=SIZES[-1])

Publish = Callable[[tuple[Publishable, ...]], Awaitable[object] | None]
Engine = Callable[[], AbstractAsyncContextManager[tuple[History, Publish]]]


@asynccontextmanager
async def on_redis() -> AsyncIterator[tuple[History, Publish]]:
    with redis_server() as server:
        async with redis_node(server, LARGE) as node:
            yield node.history, node.pubsub.send


@asynccontextmanager
async def on_nats() -> AsyncIterator[tuple[History, Publish]]:
    with jetstream_server() as server:
        async with nats_node(server, LARGE) as node:
            yield node.history, node.pubsub.send


async def fill(publish: Publish, stream: Stream, size: int) -> None:
    for first in range(0, size, 100):
        sent = publish(tuple(Publication(stream, str(first + each)) for each in range(100)))
        assert sent is not None
        await sent


async def pages(reads: Reads, stream: Stream) -> AsyncIterator[tuple[Publication, ...]]:
    start: int | Position = 0
    more = True
    while more:
        page = await reads.page(stream, start, PAGE)
        yield page.messages
        assert page.messages[-1].position is not None
        start, more = page.messages[-1].position, page.more


@pytest.mark.parametrize("engine", [on_redis, on_nats])
@in_loop
async def test_reading_all_pages_takes_work_in_proportion_to_the_messages(engine: Engine) -> None:
    async with engine() as (history, publish):
        reads = Reads(history, None)
        steps = []
        for size in SIZES:
            stream = Stream(f"of {size}")
            await fill(publish, stream, size)
            found: list[Publication] = []

            async def read(stream: Stream = stream, found: list[Publication] = found) -> None:
                async for page in pages(reads, stream):
                    found += page

            steps.append(await steps_of(read))
            assert [each.data for each in found] == [str(number) for number in range(size)]
        assert steps[1] <= steps[0] * STEPS_RATIO, f"steps for {SIZES} messages: {steps}"


@pytest.mark.parametrize("engine", [on_redis, on_nats])
@in_loop
async def test_a_page_takes_as_much_work_however_long_the_history_is(engine: Engine) -> None:
    async with engine() as (history, publish):
        reads = Reads(history, None)
        steps = []
        for size in SIZES:
            stream = Stream(f"of {size}")
            await fill(publish, stream, size)

            async def read(stream: Stream = stream) -> None:
                await reads.page(stream, 0, PAGE)

            steps.append(await steps_of(read))
        assert steps[1] <= steps[0] * 1.5, f"steps for {SIZES} messages: {steps}"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@in_loop
async def test_redis_reads_a_page_without_the_rest_of_the_stream(server: RedisServer) -> None:
    """Redis does nothing else meanwhile: a page takes it some 20 look-ups more than the messages."""
    async with redis_node(server, LARGE) as node:
        stream, size = Stream("s"), SIZES[-1]
        await fill(node.pubsub.send, stream, size)
        await until(lambda: node.pubsub.trouble is None)
        page = await node.history.since(stream, 0, PAGE)
        with redis.Redis(port=server.port) as connection:
            connection.config_resetstat()
            for _ in range(10):
                assert page[-1].position is not None
                page = await node.history.after(stream, page[-1].position, PAGE)
            commands = connection.info("commandstats")
        reads = sum(
            commands.get(f"cmdstat_{each}", {}).get("calls", 0) for each in ("xrange", "xrevrange")
        )
        assert reads <= 10 * 40
