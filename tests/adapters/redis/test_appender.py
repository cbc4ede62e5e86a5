"""Appending and publishing: batches, and publications that Redis refuses permanently, which is not an outage."""

from collections.abc import Iterator, Sequence

import pytest
import redis

from catenary.adapters.redis import commands as commands_module
from catenary.adapters.redis.commands import Commands
from catenary.broker.limits import Limits
from catenary.errors import BackendError, BackendRefused
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable, RemoteDisconnect
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import LIMITS, RedisNode, redis_node, until

S, T, BAD = Stream("s"), Stream("t"), Stream("bad")
OTHERS = RemoteDisconnect('{"user":"1"}', False)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def admin(server: RedisServer) -> redis.Redis:
    return redis.Redis(port=server.port)


async def spoil(node: RedisNode, key: str) -> None:
    """Puts something else where the history of a stream keeps its messages."""
    await node.publish(BAD, "before")
    await node.engine.commands.call("SET", key, "not ours")


def forbid(server: RedisServer, stream: Stream) -> str:
    """A user who may do everything but publish on one stream: the URL to log in with."""
    with admin(server) as connection:
        connection.acl_setuser(
            "node",
            enabled=True,
            passwords=["+secret"],
            categories=["+@all"],
            keys=["*"],
            channels=["between", "between#*", *(f"between:{each}" for each in (S, T))],
            reset=True,
        )
    assert stream not in (S, T)
    return f"redis://node:secret@127.0.0.1:{server.port}"


async def refusal(node: RedisNode, *publications: Publishable) -> BackendError:
    sent = node.pubsub.send(publications)
    assert sent is not None
    with pytest.raises(BackendError) as caught:
        await sent
    return caught.value


async def kept(node: RedisNode, stream: Stream) -> list[str]:
    return [each.data for each in await node.history.since(stream, 0)]


def said(stream: Stream, *data: str, transient: bool = False) -> Sequence[Publication]:
    return [Publication(stream, each, transient=transient) for each in data]


@pytest.mark.parametrize("key", ["test:meta:bad", "test:log:bad"])
@in_loop
async def test_a_key_of_another_kind_refuses_its_stream_alone(
    server: RedisServer, key: str
) -> None:
    async with redis_node(server) as node:
        await spoil(node, key)
        await node.listen([S])
        error = await refusal(node, Publication(BAD, "1"))
        assert isinstance(error, BackendRefused)
        assert "WRONGTYPE" in str(error)
        await node.publish(S, 1)
        await until(lambda: node.data(S) == ["1"])


@pytest.mark.parametrize("key", ["test:meta:bad", "test:log:bad"])
@in_loop
async def test_of_a_batch_nothing_is_kept_or_sent_where_one_is_refused(
    server: RedisServer, key: str
) -> None:
    async with redis_node(server) as node:
        await spoil(node, key)
        await node.listen([S, T])
        batch = (*said(S, "1"), *said(BAD, "2"), *said(T, "3", transient=True), *said(S, "4"))
        error = await refusal(node, *batch)
        assert isinstance(error, BackendRefused)
        assert "WRONGTYPE" in str(error)
        await node.publish(S, "next")
        await until(lambda: node.data(S) == ["next"])
        assert node.data(T) == []
        assert [each.position.offset for each in node.heard(S) if each.position] == [1]
        assert await kept(node, S) == ["next"]


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_a_stream_that_the_user_may_not_publish_to(
    server: RedisServer, limits: Limits | None
) -> None:
    url = forbid(server, BAD)
    async with redis_node(server, limits, url=url) as node:
        await node.listen([S])
        assert isinstance(await refusal(node, *said(BAD, "1")), BackendRefused)
        batch = (*said(S, "1"), *said(BAD, "2"), *said(S, "3"))
        error = await refusal(node, *batch)
        assert isinstance(error, BackendRefused)
        assert "NOPERM" in str(error)
        await node.publish(S, "next")
        await until(lambda: node.data(S) == ["next"])
        if limits is not None:
            assert await kept(node, BAD) == []
            assert await kept(node, S) == ["next"]


@in_loop
async def test_a_refused_publication_leaves_no_gap_in_the_offsets(server: RedisServer) -> None:
    url = forbid(server, BAD)
    async with redis_node(server) as free, redis_node(server, url=url) as node:
        await free.listen([BAD])
        await free.publish(BAD, "1")
        assert isinstance(await refusal(node, *said(BAD, "no")), BackendRefused)
        await free.publish(BAD, "2")
        await until(lambda: free.data(BAD) == ["1", "2"])
        assert [each.position.offset for each in free.heard(BAD) if each.position] == [1, 2]


@in_loop
async def test_a_redis_that_does_not_say_what_it_takes(server: RedisServer) -> None:
    with admin(server) as connection:
        connection.acl_setuser(
            "node",
            enabled=True,
            passwords=["+secret"],
            categories=["+@all"],
            commands=["-config"],
            keys=["*"],
            channels=["*"],
            reset=True,
        )
    async with redis_node(server, url=f"redis://node:secret@127.0.0.1:{server.port}") as node:
        commands = node.engine.commands
        assert isinstance(commands, Commands)
        assert commands._max_argument_bytes == commands_module.MAX_ARGUMENT_BYTES
        await node.listen([S])
        await node.publish(S, 1)
        await until(lambda: node.data(S) == ["1"])


@in_loop
async def test_a_full_redis_is_an_outage(server: RedisServer) -> None:
    async with redis_node(server) as node:
        await node.listen([S])
        with admin(server) as connection:
            connection.config_set("maxmemory", 1)
            error = await refusal(node, *said(S, "1"))
            assert "OOM" in str(error)
            assert not isinstance(error, BackendRefused)
            error = await refusal(node, *said(S, "1", "2"))
            assert not isinstance(error, BackendRefused)
            connection.config_set("maxmemory", 0)
        await node.publish(S, "room again")
        await until(lambda: node.data(S) == ["room again"])


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_a_batch_in_its_order_whatever_is_in_it(
    server: RedisServer, limits: Limits | None
) -> None:
    async with redis_node(server, limits) as node:
        await node.listen([S, T])
        batch: tuple[Publishable, ...] = (
            *said(S, "1"),
            *said(T, "2", transient=True),
            *said(S, "3", transient=True),
            OTHERS,
            *said(T, "4"),
            *said(S, "5"),
        )
        sent = node.pubsub.send(batch)
        assert sent is not None
        await sent
        await until(lambda: len(node.received) == len(batch))
        heard = [each.data if isinstance(each, Publication) else "gone" for each in node.received]
        assert heard == ["1", "2", "3", "gone", "4", "5"]
        if limits is not None:
            assert await kept(node, S) == ["1", "5"]
            assert await kept(node, T) == ["4"]
