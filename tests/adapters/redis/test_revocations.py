"""Remote disconnects in Redis: what the contract does not say. Queues, and what is kept of them."""

from collections.abc import Iterator

import pytest

from catenary.broker import revocations
from catenary.errors import BackendError
from catenary.messages.publications import QueueEntry, RemoteDisconnect
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import RedisNode, redis_node, until

EVE = RemoteDisconnect("eve", reconnect=False)
QUEUE, GROUP, ME = "queue", "bx", "me"
REVOKED = "test:sessions:revoked"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


async def read_entries(node: RedisNode, number: int) -> list[QueueEntry]:
    """So many entries of a queue, which this consumer has read and not acknowledged."""
    commands = node.engine.commands
    await commands.call("XGROUP", "CREATE", QUEUE, GROUP, "$", "MKSTREAM")
    for _ in range(number):
        await commands.call("XADD", QUEUE, "*", "payload", "x")
    ((_, read),) = await commands.call("XREADGROUP", "GROUP", GROUP, ME, "STREAMS", QUEUE, ">")
    return [QueueEntry(QUEUE, GROUP, ME, name.decode()) for name, _ in read]


async def send(node: RedisNode, entry: QueueEntry) -> None:
    sent = node.pubsub.send((EVE,), entry)
    assert sent is not None
    await sent


@in_loop
async def test_the_entry_of_a_queue_leaves_it_in_the_same_step(server: RedisServer) -> None:
    async with redis_node(server) as node:
        first, second = await read_entries(node, 2)
        with pytest.raises(BackendError, match="earlier entry"):
            await send(node, second)
        assert await node.engine.commands.call("ZCARD", REVOKED) == 0
        await send(node, first)
        assert await node.engine.commands.call("XLEN", QUEUE) == 1
        await until(lambda: node.received == [EVE])
        number = node.sessions.revocations.newest
        # Again, as by a node that has not learned of the outcome.
        await send(node, first)
        await send(node, second)
        await until(lambda: node.received == [EVE, EVE])
        assert node.sessions.revocations.newest > number
        assert await node.engine.commands.call("XLEN", QUEUE) == 0


@in_loop
async def test_so_many_are_kept_and_the_newest(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catenary.adapters.redis.sessions.LIMIT", 3)
    async with redis_node(server) as node:
        for number in range(5):
            sent = node.pubsub.send((RemoteDisconnect(f"user {number}", reconnect=True),))
            assert sent is not None
            await sent
        kept = await node.engine.commands.call("ZRANGE", REVOKED, 0, -1)
        assert kept == [b"1user 2", b"1user 3", b"1user 4"]
        ttl_ms = await node.engine.commands.call("PTTL", REVOKED)
        assert ttl_ms > 1000 * revocations.LATE_S
