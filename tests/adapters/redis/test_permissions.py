"""The ACL users of docs/redis.md may do what Catenary does with their options, and nothing else."""

import asyncio
import re
from collections.abc import Awaitable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from catenary.adapters.redis.broadcasts import RedisBroadcasts
from catenary.adapters.redis.names import RedisNames
from catenary.adapters.redis.streams import RedisStreamBroadcasts, StreamRules
from catenary.channels.publishers.redis import RedisPublisher, RedisStreamPublisher
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Publication, RemoteDisconnect
from catenary.metrics.counters import Counters
from tests.contracts.brokers import answer
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_cluster import RedisCluster, redis_cluster
from tests.parts.redis_node import RedisNode, until

S = Stream("s")
NAMES = RedisNames("catenary:__anycable_internal__", "__anycable_internal__")
"""As a server has them with its defaults."""

PAGE = Path(__file__).parents[3] / "docs" / "redis.md"


def documented(cluster: bool) -> list[str]:
    """The rules of the user in the page."""
    lines = re.findall(
        r"ACL SETUSER (\w+) (.*?)\n```", PAGE.read_text().replace("\\\n", " "), re.DOTALL
    )
    found = dict(lines)["clustered" if cluster else "catenary"]
    return list(found.split())


async def use_everything(node: RedisNode, url: str) -> None:
    """Calls all that a server with a broker, all adapters and all options calls, and all that a publisher calls."""
    await node.listen([S])
    await node.publish(S, 1)
    await node.publish(S, 2, 3)
    await answer(node.pubsub.send((Publication(S, "4", transient=True),)))
    await answer(node.pubsub.send((RemoteDisconnect("{}", True),)))
    (first, *_) = await node.history.since(S, 0)
    assert first.position is not None
    await node.history.after(S, first.position)
    await node.history.after(S, first.position, 1)
    await node.history.since(S, 0, 1)
    sid = Sid("sid")
    await node.sessions.save(sid, b"1\n2\n3")
    await node.sessions.save(sid, b"1\n2")
    await node.sessions.amend(sid, {1: b"3"})
    await answer(node.sessions.touch([sid]))
    await node.presence.join(S, sid, "id", "{}")
    await answer(node.presence.touch([sid]))
    await node.presence.members(S)
    await node.presence.streams(sid)
    commands = node.engine.commands
    commands.up_since_s -= 1000
    await until(lambda: node.sessions.revocations.newest > 0)
    await answer(node.sessions.expire())
    await answer(node.presence.expire())
    await node.presence.leave(S, sid)
    assert await node.sessions.take(sid) == b"1\n3"
    node.interest.unlisten(S)
    records = node.engine.stream_records
    assert records is not None
    assert await records.write(S, b"", b"r", 10, (Publication(S, "5"),))
    await records.touch(S, 10)
    assert await records.read(S) == b"r"
    assert await records.write(S, b"r", b"", 10)
    got: list[bytes] = []

    def publish(raw: bytes, *_: Any, **__: Any) -> Awaitable[None] | None:
        got.append(raw)
        return None

    address = RedisAddress(url, keepalive_s=1)
    queue = RedisStreamBroadcasts(
        address, StreamRules(lease_s=0.3, claim_idle_s=0.1), publish, Counters()
    )
    channel = RedisBroadcasts(RedisAddress(url, keepalive_s=1), "__anycable__", publish, Counters())
    await queue.start()
    await channel.start()
    to_queue, to_channel = RedisStreamPublisher(url), RedisPublisher(url)
    await asyncio.to_thread(to_queue.publish, b"queued")
    await until(lambda: b"queued" in got)
    while b"sent" not in got:
        await asyncio.to_thread(to_channel.publish, b"sent")
        await asyncio.sleep(0.02)
    await asyncio.sleep(
        1.3
    )  # the channel is pinged, the lease is renewed, the lag is measured, entries of others are claimed
    await queue.close(1)
    await channel.close(1)
    to_queue.close()
    to_channel.close()


def used(client: "redis.Redis") -> set[str]:
    """The commands that were run since the statistics were reset, as ACL rules name them."""
    return {name.removeprefix("cmdstat_") for name in client.info("commandstats")}


RARE = {
    *("xclaim", "hscan"),  # while a batch takes long; members of nodes that died
    "asking",  # while a slot moves
    "client|setname",  # ?client_name=
    "ping",  # of an idle channel
    "unsubscribe",  # in a cluster from before Redis 7
}


@pytest.mark.parametrize("is_cluster", [False, True], ids=["one server", "cluster"])
@in_loop
async def test_the_documented_user_may_do_all_and_nothing_else(is_cluster: bool) -> None:
    rules = [each.replace("PASSWORD", "s3cret") for each in documented(is_cluster)]
    with ExitStack() as stack:
        server: RedisCluster | RedisServer
        if is_cluster:
            server = stack.enter_context(redis_cluster())
            ports = [each.port for each in server.nodes]
        else:
            server = stack.enter_context(redis_server())
            ports = [server.port]
        clients = [
            stack.enter_context(redis.Redis(port=port, decode_responses=True)) for port in ports
        ]
        for client in clients:
            client.execute_command("ACL", "SETUSER", "catenary", *rules)
            client.execute_command("CONFIG", "RESETSTAT")
        url = server.url.replace("//", "//catenary:s3cret@")
        node = RedisNode(server, url=url, canary_interval_s=0.3, names=NAMES)
        await node.start()
        try:
            await node.is_up()
            await use_everything(node, url)
        finally:
            await node.close()
        found = set[str]().union(*map(used, clients))
        refused = [
            line
            for client in clients
            for line in client.acl_log()
            if line["object"] != "client|setinfo"  # of redis-py, which goes on without
        ]
    assert refused == []
    allowed = {each.removeprefix("+") for each in rules if each.startswith("+")}
    assert allowed - found - RARE == set()


@in_loop
async def test_a_missing_permission_is_named() -> None:
    with redis_server() as server, redis.Redis(port=server.port) as client:
        rules = [each.replace("PASSWORD", "s3cret") for each in documented(cluster=False)]
        url = server.url.replace("//", "//catenary:s3cret@")

        async def refusal(*more: str) -> str:
            client.execute_command("ACL", "SETUSER", "catenary", "reset", *rules, *more)
            node = RedisNode(server, url=url, names=NAMES)
            await node.start()
            try:
                await until(lambda: "NOPERM" in str(node.pubsub.trouble) or not node.pubsub.trouble)
                if node.pubsub.trouble is not None:
                    return node.pubsub.trouble
                await node.publish(S, 1)
            except BackendError as error:
                return str(error)
            finally:
                await node.close()
            return ""

        assert await refusal() == ""
        assert "script" in await refusal("-script")
        assert "evalsha" in await refusal("-evalsha")
        assert "subscribe" in await refusal("-subscribe")
        # Redis 7.0 does not say which command of a script it refuses; Valkey does.
        error = await refusal("-xadd")
        assert "catenary doctor names it" in error or "'xadd'" in error
        assert "publish" in (await refusal("resetchannels")).lower() or "channel" in await refusal(
            "resetchannels"
        )
        assert "key" in await refusal("resetkeys")
