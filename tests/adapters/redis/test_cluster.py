"""A real Redis Cluster under Catenary's nodes: slots move while they are used, a primary dies or hangs."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from catenary.adapters.redis.bursts import Bursts
from catenary.adapters.redis.cluster_commands import ClusterCommands
from catenary.adapters.redis.consumer import StreamEntry
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError, BackendRefused
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Publication, QueueEntry
from catenary.metrics.counters import Counters
from catenary.protocols.redis_cluster import slot_of
from tests.parts.heart import in_loop
from tests.parts.redis_cluster import ClusterNode, RedisCluster, redis_cluster, shared_redis_cluster
from tests.parts.redis_node import RedisNode, redis_node, until

S = Stream("s")
META = "test:meta:{:s}"
SLOT = slot_of(META.encode())


@pytest.fixture(scope="module")
def replicated() -> Iterator[RedisCluster]:
    with redis_cluster(has_replicas=True) as cluster:
        yield cluster


@asynccontextmanager
async def two_nodes(cluster: RedisCluster) -> AsyncIterator[tuple[RedisNode, RedisNode]]:
    async with redis_node(cluster) as one, redis_node(cluster) as other:
        yield one, other


def ends_of_a_move(cluster: RedisCluster) -> tuple[ClusterNode, ClusterNode]:
    """The node that has the slot of the stream, and another one."""
    source = cluster.primary_of(META)
    return source, next(each for each in cluster.nodes[:3] if each is not source)


async def publish_until(
    node: RedisNode, done: asyncio.Event, *, transient: bool = False
) -> list[str]:
    """Publishes numbers, some at a time, without waiting for each, until told to stop."""
    sent: list[tuple[str, asyncio.Future[object]]] = []
    number = 0
    while not done.is_set() or number == 0:
        for _ in range(5):
            number += 1
            answer = node.pubsub.send((Publication(S, str(number), transient=transient),))
            assert answer is not None
            sent.append((str(number), asyncio.ensure_future(answer)))
        await asyncio.sleep(0.002)
    await asyncio.gather(*(answer for _, answer in sent), return_exceptions=True)
    return [data for data, answer in sent if answer.exception() is None]


@in_loop
async def test_a_stream_keeps_its_order_and_its_epoch_while_its_slot_moves() -> None:
    cluster = shared_redis_cluster()
    async with two_nodes(cluster) as (one, other):
        await other.listen([S])
        await one.publish(S, "first")
        source, target = ends_of_a_move(cluster)
        done = asyncio.Event()
        publishing = asyncio.ensure_future(publish_until(one, done))
        for begin, end in ((source, target), (target, source)):
            await asyncio.to_thread(cluster.begin_move, SLOT, begin, end)
            # The keys of a stream are on two nodes for a moment: TRYAGAIN, then ASK, then MOVED.
            await asyncio.to_thread(cluster.move_keys, SLOT, begin, end, 1)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(cluster.move_keys, SLOT, begin, end)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(cluster.end_move, SLOT, begin, end)
            await asyncio.sleep(0.1)
        done.set()
        accepted = await publishing
        assert len(accepted) > 50
        assert accepted == [str(number) for number in range(1, len(accepted) + 1)]
        await until(lambda: len(other.data(S)) == len(accepted) + 1)
        assert other.data(S) == ["first", *accepted]
        assert len({each.position.epoch for each in other.heard(S) if each.position}) == 1
        newest = await one.history.since(S, 0)
        assert [each.data for each in newest][-3:] == accepted[-3:]


# Sharded pub/sub


def sent_over_the_bus(cluster: RedisCluster, what: str) -> int:
    """Messages of pub/sub that nodes have sent to other nodes."""
    sent = 0
    for node in cluster.nodes:
        for line in node.cluster_info().splitlines():
            name, _, number = line.partition(":")
            sent += int(number) if name == f"cluster_stats_messages_{what}_sent" else 0
    return sent


@in_loop
async def test_messages_do_not_leave_the_shard_of_their_stream(replicated: RedisCluster) -> None:
    async with (
        redis_node(replicated, canary_interval_s=60) as one,
        redis_node(replicated, canary_interval_s=60) as other,
    ):
        streams = [Stream(f"stream {number}") for number in range(20)]
        await other.listen(streams)
        before = {each: sent_over_the_bus(replicated, each) for each in ("publish", "publishshard")}
        for stream in streams:
            await one.publish(stream, 1, 2)
            sent = one.pubsub.send((Publication(stream, "3", transient=True),))
            assert sent is not None
            await sent
        for stream in streams:
            await until(lambda stream=stream: other.data(stream) == ["1", "2", "3"])  # type: ignore[misc]
        assert sent_over_the_bus(replicated, "publish") == before["publish"]
        # One copy for the replica of the shard. Valkey 8 does not count messages with its short header.
        copies = sent_over_the_bus(replicated, "publishshard") - before["publishshard"]
        assert copies == (0 if os.environ.get("VALKEY_SERVER") else 60)


@in_loop
async def test_what_is_not_stored_arrives_while_its_slot_moves() -> None:
    """Subscribers can't be told at the same moment as publishers where the slot is."""
    cluster = shared_redis_cluster()
    async with two_nodes(cluster) as (one, other):
        await other.listen([S])
        source, target = ends_of_a_move(cluster)
        done = asyncio.Event()
        publishing = asyncio.ensure_future(publish_until(one, done, transient=True))
        for begin, end in ((source, target), (target, source)):
            await asyncio.to_thread(cluster.begin_move, SLOT, begin, end)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(cluster.end_move, SLOT, begin, end)
            await asyncio.sleep(0.1)
        done.set()
        accepted = await publishing
        assert len(accepted) > 50
        await until(lambda: len(other.data(S)) >= len(accepted))
        assert sorted(other.data(S)) == sorted(accepted)


@pytest.mark.parametrize("how", ["moved", "cut off"])
@in_loop
async def test_a_subscription_that_ends_begins_again(how: str) -> None:
    cluster = shared_redis_cluster()
    async with two_nodes(cluster) as (one, other):
        await other.listen([S, Stream("t")])
        await one.publish(S, 1)
        source, target = ends_of_a_move(cluster)
        if how == "moved":
            await asyncio.to_thread(cluster.move, SLOT, source, target)
        else:
            source.ask("CLIENT", "KILL", "TYPE", "pubsub")
        for number in range(2, 12):
            await one.publish(S, number)
        await until(lambda: len(other.data(S)) == 11)
        assert other.data(S) == [str(number) for number in range(1, 12)]
        owner = target if how == "moved" else source
        await until(lambda: "between:{:s}" in owner.ask("PUBSUB", "SHARDCHANNELS"))
        if how == "moved":
            await asyncio.to_thread(cluster.move, SLOT, target, source)
            await one.publish(S, 12)
            await until(lambda: other.data(S)[-1] == "12")
            assert other.counters.pubsub_reconnects_total == 0
        else:
            assert other.counters.pubsub_reconnects_total == 1
        other.interest.unlisten(S)
        await until(lambda: "between:{:s}" not in source.ask("PUBSUB", "SHARDCHANNELS"))


@in_loop
async def test_servers_without_sharded_channels() -> None:
    """They are as before Redis 7; one of three has been upgraded."""
    with redis_cluster() as cluster:
        for node in cluster.nodes[1:]:
            node.stop()
            node.flags = (*node.flags, "--rename-command", "SSUBSCRIBE", "")
        await asyncio.to_thread(cluster.start_again)
        async with two_nodes(cluster) as (one, other):
            streams = [S, *(Stream(f"stream {number}") for number in range(20))]
            await other.listen(streams)
            for stream in streams:
                await one.publish(stream, 1, 2)
                await until(lambda stream=stream: other.data(stream) == ["1", "2"])  # type: ignore[misc]
            done = asyncio.Event()
            publishing = asyncio.ensure_future(publish_until(one, done))
            for place in cluster.nodes:
                owner = cluster.primary_of(META)
                if owner is not place:
                    await asyncio.to_thread(cluster.move, SLOT, owner, place)
                await asyncio.sleep(0.1)
            done.set()
            accepted = await publishing
            await one.publish(S, "last")
            await until(lambda: other.data(S)[-1] == "last")
            assert other.data(S) == ["1", "2", *accepted, "last"]


@in_loop
async def test_a_new_node_gets_a_slot() -> None:
    """It is in no answer to CLUSTER SLOTS before: the first redirection names it."""
    with redis_cluster(primaries=1) as cluster:
        async with redis_node(cluster) as node:
            await node.listen([S])
            await node.publish(S, 1)
            with redis_cluster(primaries=1, has_slots=False) as empty:
                (new,) = empty.nodes
                await asyncio.to_thread(cluster.meet, new)
                (old,) = cluster.nodes
                await asyncio.to_thread(cluster.begin_move, SLOT, old, new)
                await asyncio.to_thread(cluster.move_keys, SLOT, old, new)
                await node.publish(S, 2)
                await asyncio.to_thread(cluster.end_move, SLOT, old, new)
                await node.publish(S, 3)
                await until(lambda: node.data(S) == ["1", "2", "3"])
                assert new.ask("EXISTS", META) == 1


@pytest.mark.parametrize("how", ["killed", "frozen"])
@in_loop
async def test_a_replica_takes_over(
    replicated: RedisCluster, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with two_nodes(replicated) as (one, other):
        await other.listen([S])
        await one.publish(S, 1, 2)
        await until(lambda: len(other.data(S)) == 2)
        epoch = other.heard(S)[0].position
        victim = replicated.primary_of(META)
        await asyncio.to_thread(replicated.until_replicated)
        if how == "killed":
            await asyncio.to_thread(victim.stop)
        else:
            victim.freeze()
        await until(lambda: one.pubsub.trouble is not None)
        await eventually(one, 3)
        await until(lambda: one.pubsub.trouble is None and other.pubsub.trouble is None)
        await one.publish(S, 4)
        await until(lambda: "4" in other.data(S))
        assert [each for each in other.data(S) if each != "3"] == ["1", "2", "4"]
        # The replica may lack the newest messages: their offsets must not be assigned again.
        position = other.heard(S)[-1].position
        assert epoch is not None
        assert position is not None
        assert position.epoch != epoch.epoch
        if how == "killed":
            await asyncio.to_thread(victim.start)
        else:
            victim.thaw()
        await asyncio.to_thread(replicated.until_replicated)


async def eventually(node: RedisNode, *data: object) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await node.publish(S, *data)
            except BackendError:
                await asyncio.sleep(0.05)
            else:
                return


@in_loop
async def test_the_nodes_that_the_address_names_may_be_away_at_the_start() -> None:
    cluster = shared_redis_cluster()
    address = RedisAddress(f"redis://127.0.0.1:1,{cluster.url}")
    commands = ClusterCommands(address, (), Counters())
    assert commands.trouble == "not connected to the Redis Cluster yet"
    with pytest.raises(BackendError, match="not connected"):
        await commands.call("GET", "k")
    await commands.start()
    try:
        await until(lambda: commands.trouble is None)
        keys = [f"key-{number}" for number in range(100)]
        await asyncio.gather(*(commands.call("SET", key, key) for key in keys))
        assert await asyncio.gather(*(commands.call("GET", key) for key in keys)) == [
            key.encode() for key in keys
        ]
    finally:
        await commands.close(1)


@in_loop
async def test_a_server_that_is_no_cluster_and_a_node_that_is_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = shared_redis_cluster()
    node = RedisNode(cluster, url=f"redis://127.0.0.1:{cluster.nodes[0].port}")
    await node.start()
    await until(lambda: "redis+cluster://" in str(node.engine.trouble))
    await node.close()
    assert "a node of a Redis Cluster: write redis+cluster://HOST:PORT" in caplog.text


# Entries of a queue


def entry(number: int) -> QueueEntry:
    return QueueEntry("queue", "g", "c", f"1-{number}")


@in_loop
async def test_an_entry_is_published_once_though_its_queue_is_in_another_slot() -> None:
    cluster = shared_redis_cluster()
    async with two_nodes(cluster) as (one, other):
        streams = [Stream(name) for name in "abc"]
        await other.listen(streams)
        for number in (1, 2, 2, 1, 3):
            for node in (one, other):
                publications = tuple(
                    Publication(each, str(number), transient=each == "c") for each in streams
                )
                sent = node.pubsub.send(publications, entry(number))
                assert sent is not None
                await sent
        for stream in streams:
            await until(lambda stream=stream: len(other.data(stream)) == 3)  # type: ignore[misc]
            assert other.data(stream) == ["1", "2", "3"]


@in_loop
async def test_an_entry_after_one_that_failed_is_not_published_before_it() -> None:
    """Else the mark of the later one would hide the earlier one, when that is tried again."""
    cluster = shared_redis_cluster()
    async with redis_node(cluster) as node:
        await node.listen([S])
        owner = cluster.primary_of(META)
        published: list[bytes] = []

        def publish(raw: bytes, source: QueueEntry, trace: str = "") -> object:
            published.append(raw)
            return node.pubsub.send((Publication(S, raw.decode()),), source)

        bursts = Bursts("queue", "g", publish, Counters())  # type: ignore[arg-type]
        entries = [
            StreamEntry(b"1-%d" % number, [b"payload", b"%d" % number]) for number in range(1, 6)
        ]
        owner.ask("CONFIG", "SET", "maxmemory", "1")
        try:
            rest, failure = await bursts.publish(entries, lambda _: None)
        finally:
            owner.ask("CONFIG", "SET", "maxmemory", "0")
        assert rest == entries
        assert "OOM" in str(failure)
        rest, failure = await bursts.publish(entries, lambda _: None)
        assert (rest, failure) == ([], None)
        await until(lambda: len(node.data(S)) == 5)
        assert node.data(S) == ["1", "2", "3", "4", "5"]


@in_loop
async def test_a_batch_fails_if_a_part_does_and_a_lasting_refusal_waits_for_a_passing_one() -> None:
    cluster = shared_redis_cluster()
    async with redis_node(cluster) as node:
        streams = [Stream(f"s{number}") for number in range(12)]
        await node.listen(streams)
        owners = {each: cluster.primary_of(f"test:meta:{{:{each}}}") for each in streams}
        first = owners[streams[0]]
        first.ask("CONFIG", "SET", "maxmemory", "1")
        wrong = next(each for each in streams if owners[each] is not first)
        owners[wrong].ask("SET", f"test:meta:{{:{wrong}}}", "of somebody else")
        batch = tuple(Publication(each, "x") for each in streams)
        sent = node.pubsub.send(batch)
        assert sent is not None
        try:
            with pytest.raises(BackendError, match="OOM") as caught:
                await sent
        finally:
            first.ask("CONFIG", "SET", "maxmemory", "0")
        assert not isinstance(caught.value, BackendRefused)
        again = node.pubsub.send(batch)
        assert again is not None
        with pytest.raises(BackendRefused, match="WRONGTYPE"):
            await again


@in_loop
async def test_sessions_and_members_move_with_their_slot() -> None:
    cluster = shared_redis_cluster()
    async with two_nodes(cluster) as (one, other):
        sid = Sid("sid")
        await one.sessions.save(sid, b"1\n2")
        await one.presence.join(S, sid, "id", "{}")
        key = "test:{:between}:sessions"
        source = cluster.primary_of(key)
        target = next(each for each in cluster.nodes if each is not source)
        slot = slot_of(key.encode())
        await asyncio.to_thread(cluster.move, slot, source, target)
        try:
            assert await other.sessions.take(sid) == b"1\n2"
            (member,) = await other.presence.members(S)
            assert member.id == "id"
        finally:
            await asyncio.to_thread(cluster.move, slot, target, source)
