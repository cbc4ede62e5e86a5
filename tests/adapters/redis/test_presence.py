"""Presence in Redis: what the contract does not say. Several nodes, outages, bounds, real time."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
import redis

from catenary.adapters.redis.presence import EXPIRED_AT_ONCE, RedisPresence
from catenary.errors import BackendError
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from tests.contracts.brokers import answer
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_deadlines import Deadlines
from tests.parts.redis_node import LIMITS, expiring_keys, redis_node, until

SHORT = msgspec.structs.replace(LIMITS, presence_ttl_s=1)
S, T = Stream("s"), Stream("t:é \x00")
ONE, ROSE = Sid("1 é"), Sid("of rose")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@in_loop
async def test_nothing_is_left_of_those_who_left(server: RedisServer) -> None:
    async with redis_node(server) as node:
        for number in range(20):
            await node.presence.join(S, Sid(str(number)), f"member {number % 7}", "null")
            await node.presence.join(T, Sid(str(number)), "", '"\n \x00"')
        for number in range(20):
            await node.presence.leave(S, Sid(str(number)))
            await node.presence.leave(T, Sid(str(number)))
        assert expiring_keys(server) == {}


@in_loop
async def test_the_members_of_a_node_that_died_leave_once(server: RedisServer) -> None:
    many = EXPIRED_AT_ONCE + 20
    async with redis_node(server, SHORT) as dead:
        for number in range(many):
            await dead.presence.join(S, Sid(str(number)), f"{number // 2}", "null")
    async with redis_node(server, SHORT) as one, redis_node(server, SHORT) as other:
        await one.presence.join(S, ROSE, "rose", "null")
        assert one.presence.expire() == other.presence.expire() == (), "living nodes come first"
        await until(lambda: one.engine.commands.is_settled(1))
        await answer(one.presence.touch([ROSE]))
        await until(lambda: other.engine.commands.is_settled(1))
        changes: list[PresenceChange] = []
        for _ in range(2):
            for some in await asyncio.gather(
                answer(one.presence.expire()), answer(other.presence.expire())
            ):
                changes += some
        assert {each.kind for each in changes} == {"leave"}
        assert sorted(int(each.id) for each in changes) == list(range(many // 2))
        assert await one.presence.members(S) == (Member("rose", "null"),)


@in_loop
async def test_many_are_touched(server: RedisServer) -> None:
    many = [Sid(str(number)) for number in range(2_500)]
    async with redis_node(server) as node:
        await asyncio.gather(*(node.presence.join(S, sid, sid, "1") for sid in many))
        with redis.Redis(port=server.port, decode_responses=True) as connection:
            deadlines = Deadlines(connection, "test:presence:deadlines")
            deadlines.shift(-30_000)
            earliest_ms = deadlines.now_ms() + 60_000
            touched = node.presence.touch([*many, Sid("nobody")])
            assert touched is not None
            await touched
            renewed = deadlines.by_sid()
            assert sorted(renewed) == sorted(many)
            assert earliest_ms <= min(renewed.values())
            assert max(renewed.values()) <= deadlines.now_ms() + 60_000
        assert await answer(node.presence.expire()) == ()
        assert len(await node.presence.members(S)) == 2_500
        assert node.presence.touch([]) is None


@pytest.mark.parametrize("is_renewing", [True, False])
@in_loop
async def test_redis_forgets_what_no_node_uses_any_more(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, is_renewing: bool
) -> None:
    async with redis_node(server) as node:
        await node.presence.join(S, ONE, "jack", "1")
        await node.presence.join(T, ONE, "rose", "1")
        assert len(expiring_keys(server)) == 4
        assert all(86_000_000 < left < 87_000_000 for left in expiring_keys(server).values())
        with redis.Redis(port=server.port) as connection:
            for key in expiring_keys(server):
                connection.expire(key, 100)
        monkeypatch.setattr(RedisPresence, "is_renewing", lambda self, now_s: is_renewing)
        await answer(node.presence.touch([ONE]))
        renewed = {key for key, left in expiring_keys(server).items() if left > 86_000_000}
        assert "test:presence:deadlines" in renewed
        assert len(renewed) == (4 if is_renewing else 1)


@in_loop
async def test_present_sessions_are_renewed_once_an_hour(server: RedisServer) -> None:
    async with redis_node(server, SHORT) as node:
        quarters = [node.presence.is_renewing(hours * 3600.0) for hours in (0, 0.25, 0.5, 0.75, 1)]
        assert quarters == [True, False, False, False, True]
        assert node.presence.is_renewing(3600.9)


@in_loop
async def test_redis_is_away(server: RedisServer) -> None:
    async with redis_node(server) as node:
        server.stop()
        with pytest.raises(BackendError):
            await node.presence.join(S, ONE, "jack", "1")
        with pytest.raises(BackendError):
            await node.presence.members(S)
        with pytest.raises(BackendError):
            await answer(node.presence.touch([ONE]))
        assert node.presence.expire() == ()
