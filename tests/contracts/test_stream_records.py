"""The contract of StreamRecords, run over every adapter, with the history that it writes to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

import msgspec
import pytest

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.pubsub import LocalPubSub
from catenary.adapters.memory.stream_records import LocalStreamRecords
from catenary.errors import BackendError
from catenary.messages.names import Stream
from catenary.messages.publications import Publication
from catenary.metrics.counters import Counters
from catenary.ports import History, StreamRecords
from tests.contracts.brokers import Clock, answer
from tests.parts.heart import in_loop
from tests.parts.redis import redis_server
from tests.parts.redis_cluster import shared_redis_cluster
from tests.parts.redis_node import LIMITS, RedisNode, redis_node

S = Stream("durable/1")
GONE_S = 1


class Subject(NamedTuple):
    records: StreamRecords
    history: History
    elapse: Callable[[float], object]


@asynccontextmanager
async def in_memory() -> AsyncIterator[Subject]:
    clock = Clock()
    history = LocalHistory(limit=100, ttl_s=60, epoch="e", clock=clock)
    pubsub = LocalPubSub(lambda each: None, Counters(), history.append)
    records = LocalStreamRecords(pubsub.send, gone_s=GONE_S, clock=clock)

    async def elapse(seconds: float) -> None:
        await clock.elapse(seconds)
        records.sweep()

    yield Subject(records, history, elapse)


@asynccontextmanager
async def on_redis() -> AsyncIterator[Subject]:
    limits = msgspec.structs.replace(LIMITS, history_ttl_s=GONE_S)
    with redis_server() as server:
        async with redis_node(server, limits) as node:
            yield subject_of(node)


@asynccontextmanager
async def on_redis_cluster() -> AsyncIterator[Subject]:
    limits = msgspec.structs.replace(LIMITS, history_ttl_s=GONE_S)
    async with redis_node(shared_redis_cluster(), limits) as node:
        yield subject_of(node)


def subject_of(node: RedisNode) -> Subject:
    records, history = node.engine.stream_records, node.engine.history
    assert records is not None
    assert history is not None
    return Subject(records, history, asyncio.sleep)


Open = Callable[[], AbstractAsyncContextManager[Subject]]


@pytest.fixture(
    params=[in_memory, on_redis, on_redis_cluster], ids=["memory", "redis", "redis cluster"]
)
def opened(request: pytest.FixtureRequest) -> Open:
    found: Open = request.param
    return found


def messages(*data: str) -> tuple[Publication, ...]:
    return tuple(Publication(S, each) for each in data)


async def kept(subject: Subject) -> list[str]:
    return [each.data for each in await answer(subject.history.since(S, 0))]


@in_loop
async def test_a_record_is_written_with_its_messages_or_not_at_all(opened: Open) -> None:
    async with opened() as subject:
        records = subject.records
        assert await answer(records.read(S)) is None
        assert await answer(records.write(S, b"", b"one \x00", 60, messages("1", "2")))
        assert await answer(records.read(S)) == b"one \x00"
        assert not await answer(records.write(S, b"", b"two", 60, messages("3")))
        assert not await answer(records.write(S, b"one", b"two", 60, messages("3")))
        assert await answer(records.write(S, b"one \x00", b"two", 60, messages("3")))
        assert await answer(records.read(S)) == b"two"
        assert await kept(subject) == ["1", "2", "3"]
        assert await answer(records.read(Stream("other"))) is None


@in_loop
async def test_writers_are_serialized(opened: Open) -> None:
    async with opened() as subject:
        records = subject.records
        await answer(records.write(S, b"", b"0", 60))
        tries = [
            answer(records.write(S, b"0", b"1", 60, messages(str(number)))) for number in range(10)
        ]
        assert sorted(await asyncio.gather(*tries)) == [False] * 9 + [True]
        assert len(await kept(subject)) == 1


@in_loop
async def test_a_record_is_not_replaced_if_its_messages_are_refused() -> None:
    refused = asyncio.get_running_loop().create_future()
    refused.set_exception(BackendError("too many wait"))
    records = LocalStreamRecords(lambda each: refused, gone_s=GONE_S, clock=Clock())
    with pytest.raises(BackendError):
        await answer(records.write(S, b"", b"one", 60, messages("1")))
    assert records.read(S) is None


@in_loop
async def test_a_removed_stream_is_gone_and_then_unknown(opened: Open) -> None:
    async with opened() as subject:
        records = subject.records
        await answer(records.write(S, b"", b"one", 60))
        assert await answer(records.write(S, b"one", b"", 0))
        assert await answer(records.read(S)) == b""
        await answer(subject.elapse(GONE_S + 0.2))
        assert await answer(records.read(S)) is None


@in_loop
async def test_a_record_expires_unless_it_is_touched(opened: Open) -> None:
    async with opened() as subject:
        records = subject.records
        await answer(records.write(S, b"", b"one", 0.6))
        for _ in range(3):
            await answer(subject.elapse(0.3))
            await answer(records.touch(S, 0.6))
        assert await answer(records.read(S)) == b"one"
        await answer(subject.elapse(0.7))
        assert await answer(records.read(S)) == b""
        await answer(records.touch(S, 60))
        assert await answer(records.read(S)) == b""
        assert await answer(records.write(S, b"", b"again", 60))
        assert await answer(records.read(S)) == b"again"
