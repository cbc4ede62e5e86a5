"""Publishing an entry of a Redis stream removes it from the stream in the same step: once, in order."""

import asyncio
from collections.abc import Iterator

import pytest
import redis

from catenary.broker.limits import Limits
from catenary.errors import BackendError, BackendRefused
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable, QueueEntry, RemoteDisconnect
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import LIMITS, RedisNode, redis_node, until

S, BAD = Stream("s"), Stream("bad")
QUEUE, GROUP, READER = "queue", "group", "reader"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def read(server: RedisServer, number: int) -> list[QueueEntry]:
    """So many entries of a queue, which a reader has got and not acknowledged."""
    with redis.Redis(port=server.port) as connection:
        if not connection.exists(QUEUE):
            connection.xgroup_create(QUEUE, GROUP, id="0", mkstream=True)
        for _ in range(number):
            connection.xadd(QUEUE, {"payload": "x"})
        ((_, entries),) = connection.xreadgroup(GROUP, READER, {QUEUE: ">"})
    return [QueueEntry(QUEUE, GROUP, READER, id_.decode()) for id_, _ in entries]


def left(server: RedisServer) -> tuple[int, int]:
    """How many entries the queue holds, and how many of them were read and not acknowledged."""
    with redis.Redis(port=server.port) as connection:
        return int(connection.xlen(QUEUE)), int(connection.xpending(QUEUE, GROUP)["pending"])


async def send(node: RedisNode, entry: QueueEntry, *publications: Publishable) -> None:
    sent = node.pubsub.send(publications, entry)
    assert sent is not None
    await sent


def said(*data: str) -> list[Publication]:
    return [Publication(S, each) for each in data]


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_an_entry_leaves_its_queue_as_it_is_published(
    server: RedisServer, limits: Limits | None
) -> None:
    async with redis_node(server, limits) as node:
        await node.listen([S])
        one, batch, command = read(server, 3)
        await send(node, one, *said("1"))
        assert left(server) == (2, 2)
        await send(node, batch, *said("2"), Publication(S, "3", transient=True), *said("4"))
        assert left(server) == (1, 1)
        await send(node, command, RemoteDisconnect('{"user":"1"}', reconnect=False))
        assert left(server) == (0, 0)
        await until(lambda: len(node.received) == 5)
        assert node.data(S) == ["1", "2", "3", "4"]
        positions = [each.position for each in node.heard(S)]
        assert [each is not None for each in positions] == [limits is not None] * 2 + [False] + [
            limits is not None
        ]


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_an_entry_that_is_sent_again_is_not_published_again(
    server: RedisServer, limits: Limits | None
) -> None:
    """Its node never heard of the outcome, or another one has taken over meanwhile."""
    async with redis_node(server, limits) as node, redis_node(server, limits) as other:
        await node.listen([S])
        (one,) = read(server, 1)
        await asyncio.gather(*(send(each, one, *said("1")) for each in (node, other, node)))
        await node.publish(S, "next")
        await until(lambda: "next" in node.data(S))
        assert node.data(S) == ["1", "next"]


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_no_entry_overtakes_an_earlier_one(
    server: RedisServer, limits: Limits | None
) -> None:
    """As where a node that hung sends on what another one is about to publish."""
    async with redis_node(server, limits) as node:
        await node.listen([S])
        first, second, third = read(server, 3)
        for late in (third, second):
            with pytest.raises(BackendError, match="an earlier entry") as caught:
                await send(node, late, *said("late"))
            assert not isinstance(caught.value, BackendRefused), "worth another try"
        assert left(server) == (3, 3)
        for number, entry in enumerate((first, second, third)):
            await send(node, entry, *said(str(number)))
        await until(lambda: len(node.data(S)) == 3)
        assert node.data(S) == ["0", "1", "2"]


@in_loop
async def test_entries_that_are_sent_with_a_failing_one_fail_with_it(
    server: RedisServer,
) -> None:
    async with redis_node(server) as node:
        await node.listen([S])
        await node.engine.commands.call("SET", "test:meta:bad", "not ours")
        bad, good = read(server, 2)
        refused, waits = await asyncio.gather(
            send(node, bad, Publication(BAD, "1")),
            send(node, good, *said("2")),
            return_exceptions=True,
        )
        assert isinstance(refused, BackendRefused)
        assert isinstance(waits, BackendError)
        assert not isinstance(waits, BackendRefused)
        assert left(server) == (2, 2), "who reads the queue drops what was refused"
        await node.engine.commands.call("XACK", QUEUE, GROUP, bad.id)
        await send(node, good, *said("2"))
        await until(lambda: node.data(S) == ["2"])


@in_loop
async def test_a_queue_that_is_gone_may_come_back(server: RedisServer) -> None:
    async with redis_node(server) as node:
        (one,) = read(server, 1)
        await node.engine.commands.call("DEL", QUEUE)
        with pytest.raises(BackendError, match="the queue is gone") as caught:
            await send(node, one, *said("1"))
        assert not isinstance(caught.value, BackendRefused)
