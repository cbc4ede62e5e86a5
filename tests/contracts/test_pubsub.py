"""The contract of PubSub, run over every adapter."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import pytest

from catenary.adapters.memory.pubsub import LocalPubSub
from catenary.broker.limits import Limits
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable, RemoteDisconnect
from catenary.metrics.counters import Counters
from catenary.ports import PubSub
from tests.contracts.brokers import answer
from tests.parts.heart import in_loop
from tests.parts.nats_node import jetstream_server, nats_node
from tests.parts.redis import redis_server
from tests.parts.redis_cluster import shared_redis_cluster
from tests.parts.redis_node import LIMITS, redis_node

Deliver = Callable[[Publishable], None]
Open = Callable[[Deliver, Sequence[Stream]], AbstractAsyncContextManager[PubSub]]

STREAMS = [Stream(name) for name in ("s", "é", "s0", "s1", "s2", "a:b *>.\x00")]
"""The node listens to these streams in all tests."""


@asynccontextmanager
async def local(deliver: Deliver, streams: Sequence[Stream]) -> AsyncIterator[PubSub]:
    yield LocalPubSub(deliver, Counters())


def on_redis(limits: Limits | None) -> Open:
    @asynccontextmanager
    async def opened(deliver: Deliver, streams: Sequence[Stream]) -> AsyncIterator[PubSub]:
        with redis_server() as server:
            async with redis_node(server, limits, deliver=deliver) as node:
                await node.listen(streams)
                yield node.pubsub

    return opened


def on_redis_cluster(limits: Limits | None) -> Open:
    @asynccontextmanager
    async def opened(deliver: Deliver, streams: Sequence[Stream]) -> AsyncIterator[PubSub]:
        async with redis_node(shared_redis_cluster(), limits, deliver=deliver) as node:
            await node.listen(streams)
            yield node.pubsub

    return opened


def on_nats(limits: Limits | None) -> Open:
    @asynccontextmanager
    async def opened(deliver: Deliver, streams: Sequence[Stream]) -> AsyncIterator[PubSub]:
        with jetstream_server() as server:
            async with nats_node(server, limits, deliver=deliver) as node:
                await node.listen(streams)
                yield node.pubsub

    return opened


ADAPTERS: dict[str, Open] = {
    "memory": local,
    "redis": on_redis(None),
    "redis, kept": on_redis(LIMITS),
    "redis cluster": on_redis_cluster(None),
    "redis cluster, kept": on_redis_cluster(LIMITS),
    "nats": on_nats(None),
    "nats, kept": on_nats(LIMITS),
}


@pytest.fixture(params=list(ADAPTERS))
def opened(request: pytest.FixtureRequest) -> Open:
    return ADAPTERS[request.param]


class Delivered:
    """The deliveries, without positions: not every adapter returns them."""

    def __init__(self) -> None:
        self.publications: list[Publishable] = []
        self._came = asyncio.Event()

    def __call__(self, publication: Publishable) -> None:
        if isinstance(publication, Publication):
            publication = msgspec.structs.replace(publication, position=None)
        self.publications.append(publication)
        self._came.set()

    async def all(self, number: int) -> list[Publishable]:
        """Returns when so many have come."""
        async with asyncio.timeout(10):
            while len(self.publications) < number:
                self._came.clear()
                await self._came.wait()
        return self.publications

    def on(self, stream: Stream) -> list[Publishable]:
        return [
            each
            for each in self.publications
            if isinstance(each, Publication) and each.stream == stream
        ]


def numbered(numbers: range) -> tuple[Publication, ...]:
    return tuple(Publication(Stream(f"s{n % 3}"), json.dumps(n)) for n in numbers)


async def send(pubsub: PubSub, *publications: Publishable) -> None:
    await answer(pubsub.send(publications))


@pytest.mark.parametrize(
    "publication",
    [
        Publication(Stream("s"), "{}"),
        Publication(Stream("é"), "no JSON", None, "whisper", True),
        Publication(Stream("a:b *>.\x00"), " \x00\n é", None, "x"),
        RemoteDisconnect('{"user":1}', True),
    ],
)
@in_loop
async def test_what_is_sent_is_delivered_as_it_was(opened: Open, publication: Publishable) -> None:
    delivered = Delivered()
    async with opened(delivered, STREAMS) as pubsub:
        await send(pubsub, publication)
        assert await delivered.all(1) == [publication]


@in_loop
async def test_everything_is_delivered_in_the_order_of_its_stream(opened: Open) -> None:
    delivered = Delivered()
    async with opened(delivered, STREAMS) as pubsub:
        for start in range(0, 99, 11):
            await send(pubsub, *numbered(range(start, start + 11)))
        await delivered.all(99)
        for number in range(3):
            sent = list(numbered(range(number, 99, 3)))
            assert delivered.on(Stream(f"s{number}")) == sent


@in_loop
async def test_calls_take_effect_in_their_order_whether_they_are_awaited_or_not(
    opened: Open,
) -> None:
    delivered = Delivered()
    async with opened(delivered, STREAMS) as pubsub:
        sent = [answer(pubsub.send((each,))) for each in numbered(range(0, 300, 3))]
        for each in reversed(sent):
            await each
        assert await delivered.all(100) == list(numbered(range(0, 300, 3)))


LARGE = 1_000
"""More than any adapter sends in one turn of the event loop."""


@in_loop
async def test_a_large_batch_keeps_its_place_among_smaller_ones(opened: Open) -> None:
    """Though it takes several turns of the event loop."""
    delivered = Delivered()
    async with opened(delivered, STREAMS) as pubsub:
        parts = (range(3), range(3, LARGE), range(LARGE, LARGE + 1), range(LARGE + 1, 2 * LARGE))
        sent = [answer(pubsub.send(numbered(part))) for part in parts]
        for each in reversed(sent):
            await each
        await delivered.all(2 * LARGE)
        for number in range(3):
            expected = list(numbered(range(number, 2 * LARGE, 3)))
            assert delivered.on(Stream(f"s{number}")) == expected


@in_loop
async def test_a_large_batch_is_sent_though_its_publisher_leaves(opened: Open) -> None:
    delivered = Delivered()
    async with opened(delivered, STREAMS) as pubsub:
        leaving = asyncio.ensure_future(answer(pubsub.send(numbered(range(LARGE)))))
        await asyncio.sleep(0)
        leaving.cancel()
        await send(pubsub, *numbered(range(LARGE, LARGE + 3)))
        assert len(await delivered.all(LARGE + 3)) == LARGE + 3


@in_loop
async def test_nothing_is_nothing(opened: Open) -> None:
    delivered = Delivered()
    async with opened(delivered, STREAMS) as pubsub:
        await send(pubsub)
        await send(pubsub, Publication(STREAMS[0], "something"))
        assert len(await delivered.all(1)) == 1


@in_loop
async def test_what_is_sent_during_a_delivery_comes_behind_on_its_stream(opened: Open) -> None:
    delivered = Delivered()
    question, reply = Publication(Stream("s"), "1"), Publication(Stream("s"), "2")
    sent = []

    def deliver(publication: Publishable) -> None:
        delivered(publication)
        if isinstance(publication, Publication) and publication.data == question.data:
            sent.append(pubsub.send((reply,)))

    async with opened(deliver, STREAMS) as pubsub:
        await send(pubsub, question)
        assert await delivered.all(2) == [question, reply]
        for each in sent:
            await answer(each)
