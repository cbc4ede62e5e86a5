"""Redis: batches, bursts and replies, however large: no turn of the event loop grows with them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
import redis
from redis.asyncio.connection import AbstractConnection

from catenary.adapters.interest import StreamInterest
from catenary.adapters.none import NoHistory
from catenary.adapters.packing import NumberedCommand
from catenary.adapters.redis.connection import RedisConnection
from catenary.adapters.redis.streams import RedisStreamBroadcasts, StreamRules
from catenary.adapters.send_queue import SendQueue
from catenary.adapters.stream_recovery import StreamRecovery
from catenary.broker.limits import Limits
from catenary.config.addresses import RedisAddress
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication, Publishable, QueueEntry
from catenary.metrics.counters import Counters
from tests.growth.measure import Case, Work, assert_near_linear, assert_turns_bounded
from tests.growth.test_wire import in_pieces
from tests.parts.heart import Heart
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import LIMITS, RedisNode, redis_node, until

STREAMS = [Stream(f"s{number}") for number in range(10)]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def batch(size: int) -> tuple[Publication, ...]:
    return tuple(Publication(STREAMS[each % 10], str(each)) for each in range(size))


# Sending


@pytest.mark.parametrize("entry", [None, QueueEntry("gone", "g", "c", "")])
@pytest.mark.parametrize("limits", [None, LIMITS])
def test_no_turn_grows_with_a_batch_that_is_sent(
    server: RedisServer, limits: Limits | None, entry: QueueEntry | None
) -> None:
    def case(size: int) -> Work:
        publications = batch(size)

        async def send() -> None:
            async with redis_node(server, limits) as node:
                sent = node.pubsub.send(publications, entry)
                assert sent is not None
                await sent

        return send

    assert_turns_bounded(case)


def many_small_sends_after_a_large_one(size: int) -> Work:
    queue = SendQueue(Counters())

    async def nothing() -> None:
        pass

    async def work() -> None:
        for _ in range(size):
            last = queue.add(1, nothing)
        await last

    return work


def test_work_on_sends_that_wait_is_near_linear() -> None:
    assert_near_linear(many_small_sends_after_a_large_one)


# Receiving


class _Transport(asyncio.Transport):
    """Nothing leaves; reading is paused and resumed without effect."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass


class _Opened:
    """What redis-py opens."""

    def __init__(self) -> None:
        self._writer = self
        self.transport = _Transport()


def reads(pieces: Iterable[bytes], replies: int = 1) -> Work:
    """A connection reads them, and takes so many replies."""

    async def work() -> None:
        taken: list[object] = []
        connection = RedisConnection(cast("AbstractConnection", _Opened()), taken.append)
        for piece in pieces:
            connection.data_received(piece)
        while len(taken) < replies:  # noqa: ASYNC110  (the turns are what is measured)
            await asyncio.sleep(0)

    return work


def a_text_byte_by_byte(size: int) -> Work:
    return reads(in_pieces(b"$%d\r\n%s\r\n" % (size, b"x" * size)))


def a_text_in_pieces(size: int) -> Work:
    return reads(in_pieces(b"$%d\r\n%s\r\n" % (size * 100, b"x" * size * 100), 100))


def a_large_array_byte_by_byte(size: int) -> Work:
    return reads(in_pieces(b"*%d\r\n%s" % (size, b":1\r\n" * size)))


def a_large_array_at_once(size: int) -> Work:
    return reads([b"*%d\r\n%s" % (size, b"$1\r\nx\r\n" * size)])


def many_arrays_byte_by_byte(size: int) -> Work:
    return reads(in_pieces(b"*1\r\n:1\r\n" * size), size)


def many_messages_at_once(size: int) -> Work:
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$60\r\n%s\r\n" % (b"x" * 60)
    return reads([message * size], size)


@pytest.mark.parametrize(
    "case",
    [
        a_text_byte_by_byte,
        a_text_in_pieces,
        a_large_array_byte_by_byte,
        a_large_array_at_once,
        many_arrays_byte_by_byte,
        many_messages_at_once,
    ],
)
def test_work_on_replies_is_near_linear(case: Case) -> None:
    assert_near_linear(case)


def test_no_turn_grows_with_the_messages_of_a_read() -> None:
    assert_turns_bounded(many_messages_at_once)


# After an outage


@asynccontextmanager
async def listening(node: RedisNode, number: int) -> AsyncIterator[None]:
    """Some streams at a time, so that the turns of the test itself are short."""
    for start in range(0, number, 200):
        await node.listen(Stream(f"s{each}") for each in range(start, start + 200))
        await asyncio.sleep(0)
    yield


def cut_off(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as connection:
        connection.client_kill_filter(_type="pubsub")


@pytest.mark.parametrize("limits", [None, LIMITS])
def test_no_turn_grows_with_the_streams_of_a_node_whose_connection_is_lost(
    server: RedisServer, limits: Limits | None
) -> None:
    def case(size: int) -> Work:
        async def lose() -> None:
            async with redis_node(server, limits) as node, listening(node, size * 2):
                cut_off(server)
                await until(lambda: node.restored == 1, 60)

        return lose

    assert_turns_bounded(case)


def test_no_turn_grows_with_the_messages_that_arrive_before_a_node_follows(
    server: RedisServer,
) -> None:
    def case(size: int) -> Work:
        early = deque[Publication | NumberedCommand](
            Publication(Stream("s1"), str(each), position=Position("e", each + 1))
            for each in range(size)
        )

        async def follow() -> None:
            async with redis_node(server) as node, listening(node, 200):
                node.pubsub._early = early
                await node.pubsub._resume([])
                assert len(node.received) == size

        return follow

    assert_turns_bounded(case)


class HistoryOf(NoHistory):
    """Some messages of one stream."""

    def __init__(self, messages: tuple[Publication, ...]) -> None:
        super().__init__()
        self._messages = messages

    def after(
        self, stream: Stream, position: Position, limit: int | None = None
    ) -> tuple[Publication, ...]:
        return self._messages


def test_no_turn_grows_with_the_messages_that_a_node_has_missed() -> None:
    def case(size: int) -> Work:
        stream = STREAMS[0]
        missed = tuple(
            Publication(stream, str(each), position=Position("e", each + 1)) for each in range(size)
        )
        interest, received = StreamInterest(), list[Publishable]()
        recovery = StreamRecovery(interest, received.append, HistoryOf(missed), Counters())
        interest.listen(stream)
        recovery.begin_stream(stream, Position("e", 0))

        async def catch_up() -> None:
            recovery.receive(missed[-1], size - 1)
            while len(received) < size:  # noqa: ASYNC110  (the turns are what is measured)
                await asyncio.sleep(0)

        return catch_up

    assert_turns_bounded(case)


# A backlog in a Redis stream


def backlog(server: RedisServer, entries: Iterable[str]) -> None:
    with redis.Redis(port=server.port) as connection:
        connection.flushall()
        pipeline = connection.pipeline(transaction=False)
        for each in entries:
            pipeline.xadd("__anycable__", {"payload": each})
        pipeline.execute()


def message(number: int) -> str:
    return f'{{"stream":"s","data":"{number}"}}'


@pytest.mark.parametrize("batch_size", [1, 100])
def test_no_turn_grows_with_the_backlog_of_a_redis_stream(
    server: RedisServer, batch_size: int
) -> None:
    def case(size: int) -> Work:
        heart = Heart()
        texts = [message(each) for each in range(size * 2)]
        batches = [texts[start : start + batch_size] for start in range(0, len(texts), batch_size)]
        backlog(server, (each[0] if batch_size == 1 else f"[{','.join(each)}]" for each in batches))

        async def publish() -> None:
            broadcasts = RedisStreamBroadcasts(
                RedisAddress(server.url),
                StreamRules(),
                heart.node.publications.publish_in_turns,
                heart.counters,
            )
            await broadcasts.start()
            await until(lambda: heart.counters.publications_total == len(texts), 60)
            await broadcasts.close(5)

        return publish

    assert_turns_bounded(case)
