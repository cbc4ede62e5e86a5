"""A Redis that loses, refuses or lacks something: publications fail and can be repeated, gaps are reported, nothing is wrong."""

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from catenary.errors import BackendError, BackendRefused, LostPosition
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Publication
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import LIMITS, RedisNode, redis_node, until

S = Stream("s")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    directory = tmp_path_factory.mktemp("redis")
    with redis_server(
        directory, flags=("--appendonly", "no", "--dbfilename", "dump.rdb")
    ) as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port, decode_responses=True) as client:
        client.flushall()
        yield client


async def refusal(node: RedisNode, *data: object) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await node.publish(S, *data)
    return caught.value


# Refusals that pass


def full(client: "redis.Redis") -> Callable[[], object]:
    client.config_set("maxmemory", 1)
    return lambda: client.config_set("maxmemory", 0)


def without_replicas(client: "redis.Redis") -> Callable[[], object]:
    client.config_set("min-replicas-to-write", 1)
    return lambda: client.config_set("min-replicas-to-write", 0)


def replica(client: "redis.Redis") -> Callable[[], object]:
    client.replicaof("127.0.0.1", 1)
    return lambda: client.replicaof("no", "one")


def can_not_save(client: "redis.Redis") -> Callable[[], object]:
    in_place_of_the_file = Path(str(client.config_get("dir")["dir"])) / "dump.rdb"
    (in_place_of_the_file / "x").mkdir(parents=True)
    client.config_set("save", "3600 1000000")
    client.bgsave()
    while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
        pass

    def repair() -> None:
        shutil.rmtree(in_place_of_the_file)
        client.config_set("save", "")
        client.bgsave()

    return repair


@pytest.mark.parametrize(
    ("code", "break_it"),
    [
        ("OOM", full),
        ("NOREPLICAS", without_replicas),
        ("MISCONF", can_not_save),
        ("READONLY", replica),
    ],
)
@in_loop
async def test_what_redis_refuses_for_now_can_be_published_later(
    code: str,
    break_it: Callable[["redis.Redis"], Callable[[], object]],
    server: RedisServer,
    client: "redis.Redis",
) -> None:
    async with redis_node(server) as node:
        await node.listen([S])
        await node.publish(S, 1)
        repair = break_it(client)
        try:
            for data in ((2,), (2, 3)):
                error = await refusal(node, *data)
                assert code in str(error) or "replica" in str(error)
                assert not isinstance(error, BackendRefused)
                # A node connects to no replica.
                await until(lambda: (node.engine.trouble is None) == (code != "READONLY"))
        finally:
            repair()
        await until(lambda: node.pubsub.trouble is None)
        async with asyncio.timeout(10):
            while True:
                try:
                    await node.publish(S, 4)
                    break
                except BackendError:
                    await asyncio.sleep(0.05)
        await until(lambda: node.data(S) == ["1", "4"])
        assert [each.data for each in await node.history.since(S, 0)] == ["1", "4"]


@in_loop
async def test_a_node_connects_to_a_redis_that_is_full_and_reads(
    server: RedisServer, client: "redis.Redis"
) -> None:
    async with redis_node(server) as node:
        await node.publish(S, 1)
    repair = full(client)
    try:
        async with redis_node(server) as node:
            assert [each.data for each in await node.history.since(S, 0)] == ["1"]
            assert b"." not in node.engine.commands.run_id
    finally:
        repair()


# Losses


@pytest.mark.parametrize("victim", ["test:meta:s", "test:log:s"])
@in_loop
async def test_an_evicted_key_is_a_gap_and_never_wrong_messages(
    victim: str, server: RedisServer, client: "redis.Redis"
) -> None:
    async with redis_node(server) as node:
        await node.listen([S])
        await node.publish(S, *range(1, 6))
        await until(lambda: len(node.data(S)) == 5)
        second = node.heard(S)[1].position
        assert second is not None
        client.delete(victim)
        with pytest.raises(LostPosition):
            await node.history.after(S, second)
        await node.publish(S, 6)
        with pytest.raises(LostPosition):
            await node.history.after(S, second)
        await until(lambda: len(node.data(S)) == 6)
        assert node.data(S) == list("123456")
        sixth = node.heard(S)[5].position
        assert sixth is not None
        await node.publish(S, 7)
        assert [each.data for each in await node.history.after(S, sixth)] == ["7"]


@in_loop
async def test_a_full_redis_that_evicts(
    server: RedisServer, client: "redis.Redis", caplog: pytest.LogCaptureFixture
) -> None:
    """Each history is whole from any position that it accepts."""
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory-policy", "allkeys-random")
    client.config_set("maxmemory", used + 1_500_000)
    try:
        async with redis_node(server) as node:
            assert "maxmemory-policy allkeys-random" in caplog.text
            streams = [Stream(f"s{number}") for number in range(60)]
            await node.listen(streams)
            for number in range(10):
                sent = [
                    node.pubsub.send((Publication(each, f"{number} {'x' * 4000}"),))
                    for each in streams
                ]
                await asyncio.gather(*[each for each in sent if each is not None])
            for stream in streams:
                await until(lambda stream=stream: len(node.data(stream)) == 10)  # type: ignore[misc]
                assert [int(each.split()[0]) for each in node.data(stream)] == list(range(10))
            assert client.info("stats")["evicted_keys"] > 0
            lost = 0
            for stream in streams:
                for index, each in enumerate(node.heard(stream)):
                    assert each.position is not None
                    try:
                        found = await node.history.after(stream, each.position)
                    except LostPosition:
                        lost += 1
                    else:
                        assert [one.data for one in found] == node.data(stream)[index + 1 :]
            assert lost > 0
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


@in_loop
async def test_a_policy_that_evicts_is_logged_once_and_only_if_something_is_stored(
    server: RedisServer, client: "redis.Redis", caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    client.config_set("maxmemory-policy", "volatile-lru")
    client.config_set("maxmemory", "100mb")
    try:
        async with redis_node(server, None):
            pass
        assert "maxmemory-policy" not in caplog.text
        async with redis_node(server, LIMITS) as node:
            client.client_kill_filter(_type="normal", skipme=True)
            await until(
                lambda: node.counters.pubsub_reconnects_total > 0 or not node.engine.trouble
            )
            await until(lambda: node.pubsub.trouble is None)
        assert caplog.text.count("maxmemory-policy volatile-lru") == 1
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


@in_loop
async def test_evicted_sessions_are_gone_and_members_can_join_again(
    server: RedisServer, client: "redis.Redis"
) -> None:
    async with redis_node(server) as node:
        for victim in ("test:sessions", "test:sessions:deadlines"):
            sid = Sid(victim)
            await node.sessions.save(sid, b"1\n2")
            client.delete(victim)
            assert await node.sessions.take(sid) is None
        for victim in ("test:presence:on:s", "test:presence:of:a", "test:presence:deadlines"):
            await node.presence.join(S, Sid("a"), "a", "{}")
            client.delete(victim)
            await node.presence.join(S, Sid("a"), "a", "{}")
            assert [each.id for each in await node.presence.members(S)] == ["a"]
            client.flushall()


# What is not there


@pytest.mark.parametrize("missing", ["script", "evalsha", "subscribe"])
@in_loop
async def test_a_proxy_without_a_command_is_named_in_the_error(missing: str) -> None:
    """The arguments, among them what clients have sent, are not in the error."""
    with redis_server(flags=("--rename-command", missing, "")) as proxy:
        node = RedisNode(proxy)
        await node.start()
        try:
            wanted = f"unknown command '{missing.upper()}'; Catenary needs it"
            await until(lambda: wanted in str(node.pubsub.trouble))
            assert "with args" not in str(node.pubsub.trouble)
        finally:
            await node.close()
