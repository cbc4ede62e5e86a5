"""Histories in Redis: what the contract does not say. Several nodes, outages, bounds."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
import redis

from catenary.errors import BackendError, LostPosition
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import LIMITS, RedisNode, expiring_keys, redis_node, until

S = Stream("s")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


async def append(node: RedisNode, *data: object, stream: Stream = S) -> list[Position]:
    found = []
    for each in data:
        answer = await node.engine.appender.append(Publication(stream, str(each)), b"channel")
        epoch, offset = answer.decode().split()
        found.append(Position(epoch, int(offset)))
    return found


async def everything(node: RedisNode) -> list[str]:
    return [each.data for each in await node.history.since(S, 0)]


@in_loop
async def test_nodes_that_write_at_once_share_one_order(server: RedisServer) -> None:
    async with redis_node(server) as one, redis_node(server) as other:
        mine, theirs = await asyncio.gather(
            append(one, *(f"a{n}" for n in range(50))), append(other, *(f"b{n}" for n in range(50)))
        )
        assert len({each.epoch for each in mine + theirs}) == 1
        assert sorted(each.offset for each in mine + theirs) == list(range(1, 101))
        assert mine == sorted(mine, key=lambda each: each.offset)
        kept = await one.history.since(S, 0)
        assert kept == await other.history.since(S, 0)
        assert [each.position and each.position.offset for each in kept] == list(range(1, 101))
        assert [each.data for each in kept if each.data[0] == "b"] == [f"b{n}" for n in range(50)]


@in_loop
async def test_an_unused_stream_is_forgotten_and_begins_a_new_epoch(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catenary.adapters.redis.history.SHORTEST_META_S", 1)
    limits = msgspec.structs.replace(LIMITS, history_ttl_s=0)
    async with redis_node(server, limits) as node:
        (old,) = await append(node, 1)
        assert 0 < expiring_keys(server)["test:meta:s"] <= 1000
        await until(lambda: not expiring_keys(server))
        (new,) = await append(node, 2)
        assert new.offset == 1
        assert new.epoch != old.epoch
        with pytest.raises(LostPosition):
            await node.history.after(S, old)


@in_loop
async def test_everything_kept_has_an_end(server: RedisServer) -> None:
    limits = msgspec.structs.replace(LIMITS, history_ttl_s=2)
    async with redis_node(server, limits) as node:
        await append(node, *range(3))
        await node.history.newest([Stream("idle")], begin=True)
        left = expiring_keys(server)
        assert set(left) == {"test:meta:s", "test:log:s", "test:meta:idle"}
        assert 0 < left["test:log:s"] <= 2_000
        assert 2_000 < left["test:meta:s"] <= 60_000
        assert 2_000 < left["test:meta:idle"] <= 60_000


@in_loop
async def test_old_messages_leave_a_busy_stream(server: RedisServer) -> None:
    limits = msgspec.structs.replace(LIMITS, history_ttl_s=1)
    async with redis_node(server, limits) as node:
        await append(node, *range(10))
        for number in range(12):
            await asyncio.sleep(0.1)
            await append(node, f"late {number}")
        with redis.Redis(port=server.port) as connection:
            assert connection.xlen("test:log:s") <= 12
        assert all(each.startswith("late") for each in await everything(node))


@in_loop
async def test_a_position_before_a_message_that_is_too_old_is_lost(server: RedisServer) -> None:
    """Nothing was published since that would have taken it out."""
    limits = msgspec.structs.replace(LIMITS, history_ttl_s=2)
    async with redis_node(server, limits) as node:
        old = await append(node, "old")
        await asyncio.sleep(0.9)
        new = await append(node, "new")
        assert await everything(node) == ["old", "new"]
        while (left := await everything(node)) != ["new"]:
            assert left == ["old", "new"]
            await asyncio.sleep(0.05)
        assert [each.data for each in await node.history.after(S, old[0])] == ["new"]
        with pytest.raises(LostPosition):
            await node.history.after(S, Position(new[0].epoch, 0))


@in_loop
async def test_another_run_of_the_server_is_another_epoch_and_old_messages_stay(
    server: RedisServer,
) -> None:
    """A replica that became the master, without the newest messages: it would hand out their
    offsets once more."""
    async with redis_node(server) as node:
        old = await append(node, *range(3))
        node.engine.commands.run_id = b"another"
        new = await append(node, "a", "b")
        assert [each.offset for each in new] == [1, 2]
        assert new[0].epoch == new[1].epoch != old[0].epoch
        assert await everything(node) == ["0", "1", "2", "a", "b"]
        assert [each.data for each in await node.history.after(S, new[0])] == ["b"]
        begin = Position(new[0].epoch, 0)
        assert [each.data for each in await node.history.after(S, begin)] == ["a", "b"]
        assert [each.data for each in await node.history.after(S, begin, 1)] == ["a"]
        for lost in (*old, Position(new[0].epoch, -1), Position(new[0].epoch, -3)):
            with pytest.raises(LostPosition):
                await node.history.after(S, lost)


@in_loop
async def test_a_server_that_is_promoted_again_in_the_same_run_assigns_no_offset_twice(
    server: RedisServer,
) -> None:
    """Its newest messages were lost when it became a replica of the primary between."""
    with (
        redis_server() as between,
        redis.Redis(port=server.port) as first,
        redis.Redis(port=between.port) as second,
    ):
        second.replicaof("127.0.0.1", server.port)
        async with redis_node(server) as node, redis_node(server) as other:
            old = await append(node, *range(3))
            await until(lambda: second.xlen("test:log:s") == 3)
            second.replicaof("NO", "ONE")
            (lost,) = await append(node, "lost")
            async with redis_node(between) as there:
                await until(lambda: there.engine.commands.trouble is None)
                first.replicaof("127.0.0.1", between.port)
                first.client_kill_filter(_type="normal")  # as Sentinel does
                await until(lambda: first.xlen("test:log:s") == 3)
                await until(lambda: _is_replica_of(first, second))
            first.replicaof("NO", "ONE")
            await until(
                lambda: node.engine.commands.trouble is other.engine.commands.trouble is None
            )
            (new,) = await append(node, "new")
            (newer,) = await append(other, "newer")
            (newest,) = await append(node, "newest")
            assert new.epoch == newer.epoch == newest.epoch != lost.epoch
            for each in (*old, lost):
                with pytest.raises(LostPosition):
                    await node.history.after(S, each)
            assert [each.data for each in await node.history.after(S, new)] == ["newer", "newest"]


def _is_replica_of(replica: "redis.Redis", primary: "redis.Redis") -> bool:
    """Whether it has received what the primary has."""
    there: dict[str, object] = primary.info("replication")
    here: dict[str, object] = replica.info("replication")
    return here.get("slave_repl_offset") == there["master_repl_offset"]


@in_loop
async def test_a_node_that_has_not_noticed_a_new_reign_continues_its_epochs(
    server: RedisServer,
) -> None:
    """Nodes with different views must not begin a new epoch with each message."""
    async with redis_node(server) as one, redis_node(server) as other:
        (old,) = await append(one, "old")
        run, _, since = other.engine.commands.run_id.partition(b".")
        other.engine.commands.run_id = b"%b.%d" % (run, int(since) + 1)
        positions = [
            position for node in (other, one, other, one) for position in await append(node, "new")
        ]
        assert len({each.epoch for each in positions} - {old.epoch}) == 1
        assert [each.offset for each in positions] == [1, 2, 3, 4]


@pytest.mark.parametrize("lost", ["test:log:s", "test:meta:s"])
@in_loop
async def test_a_redis_short_of_memory_may_drop_either_key(server: RedisServer, lost: str) -> None:
    async with redis_node(server) as node:
        old = await append(node, *range(5))
        with redis.Redis(port=server.port) as connection:
            connection.delete(lost)
        with pytest.raises(LostPosition):
            await node.history.after(S, old[2])
        (new,) = await append(node, "new")
        with pytest.raises(LostPosition):
            await node.history.after(S, old[2])
        assert await everything(node) == ["new"]
        assert await node.history.after(S, new) == ()


@in_loop
async def test_a_hole_is_not_taken_for_a_history(server: RedisServer) -> None:
    async with redis_node(server) as node:
        positions = await append(node, *range(5))
        with redis.Redis(port=server.port) as connection:
            ids = [entry for entry, _ in connection.xrange("test:log:s")]
            connection.xdel("test:log:s", ids[3])
        with pytest.raises(LostPosition):
            await node.history.after(S, positions[1])
        assert [each.data for each in await node.history.after(S, positions[3])] == ["4"]


@in_loop
async def test_newest_positions_of_many_streams(server: RedisServer) -> None:
    async with redis_node(server) as node:
        streams = [Stream(f"{number}\x00*") for number in range(1200)]
        (known,) = await append(node, "x", stream=streams[700])
        asked = await node.history.newest(streams, begin=False)
        assert {stream for stream, position in asked.items() if position} == {streams[700]}
        begun = await node.history.newest(streams, begin=True)
        assert list(begun) == streams
        assert begun[streams[700]] == known
        assert all(each and each.offset == 0 for each in begun.values() if each != known)
        assert await node.history.newest(streams, begin=False) == begun
        assert await node.history.newest([], begin=True) == {}
        (first,) = await append(node, "y", stream=streams[3])
        assert begun[streams[3]] == Position(first.epoch, 0)


@pytest.mark.parametrize("moment_s", [-(2**70), -1, 2**40, 2**70])
@in_loop
async def test_moments_that_are_none(server: RedisServer, moment_s: int) -> None:
    async with redis_node(server) as node:
        await append(node, 1)
        assert len(await node.history.since(S, moment_s)) == (1 if moment_s < 0 else 0)


@in_loop
async def test_data_of_another_program_is_an_error_and_no_crash(server: RedisServer) -> None:
    async with redis_node(server) as node:
        with redis.Redis(port=server.port) as connection:
            connection.xadd("test:log:s", {"m": "nonsense"})
        with pytest.raises(BackendError):
            await node.history.since(S, 0)


def large(number: int) -> Publication:
    return Publication(S, f"{number} {'x' * 60_000}")


@in_loop
async def test_a_large_history_is_read_part_by_part(server: RedisServer) -> None:
    """Redis serves nobody else during a script."""
    async with redis_node(server) as node:
        positions = [await node.engine.appender.append(large(n), b"channel") for n in range(40)]
        first = Position(positions[0].split()[0].decode(), 1)
        with redis.Redis(port=server.port) as connection:
            connection.config_resetstat()
            kept = await node.history.since(S, 0)
            assert [each.data for each in kept] == [large(n).data for n in range(40)]
            assert await node.history.after(S, first) == kept[1:]
            assert await node.history.since(S, 0, 30, newest=True) == kept[-30:]
            calls = connection.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert calls >= 3 * 3


@in_loop
async def test_messages_that_redis_drops_between_two_parts_leave_no_gap(
    server: RedisServer,
) -> None:
    async with redis_node(server) as node:
        append = node.engine.appender.append
        for number in range(100):
            position = await append(large(number), b"channel")
        first = Position(position.split()[0].decode(), 1)
        # The first part of each is read before, the others after these have made room for themselves.
        since, after = node.history.since(S, 0), node.history.after(S, first)
        dropping = [append(large(number), b"channel") for number in range(100, 150)]
        assert [each.data for each in await since] == [large(n).data for n in range(50, 100)]
        with pytest.raises(LostPosition):
            await after
        await asyncio.gather(*dropping)
