"""Sessions in Redis: what the contract does not say. Several nodes, outages, bounds, real time."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
import redis

from catenary.adapters.redis.sessions import EXPIRED_AT_ONCE
from catenary.errors import BackendError
from catenary.messages.names import Sid
from tests.contracts.brokers import answer
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_deadlines import Deadlines
from tests.parts.redis_node import LIMITS, expiring_keys, redis_node, until

SHORT = msgspec.structs.replace(LIMITS, sessions_ttl_s=1)
A = Sid("a")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@in_loop
async def test_each_expired_session_is_returned_on_one_node(server: RedisServer) -> None:
    many = EXPIRED_AT_ONCE + 50
    async with redis_node(server, SHORT) as one, redis_node(server, SHORT) as other:
        for number in range(many):
            await one.sessions.save(Sid(str(number)), b"%d" % number)
        await asyncio.sleep(1.1)
        ended: list[bytes] = []
        for _ in range(2):
            for some in await asyncio.gather(
                answer(one.sessions.expire()), answer(other.sessions.expire())
            ):
                assert len(some) <= EXPIRED_AT_ONCE
                ended += some
        assert sorted(ended) == sorted(b"%d" % number for number in range(many))
        assert expiring_keys(server) == {}


@in_loop
async def test_after_an_outage_live_nodes_come_first(server: RedisServer) -> None:
    async with redis_node(server, SHORT) as one:
        await one.sessions.save(A, b"1")
        await asyncio.sleep(1.1)
        async with redis_node(server, SHORT) as other:
            assert other.sessions.expire() == ()
            await until(lambda: other.engine.commands.is_settled(1))
            assert await answer(other.sessions.expire()) == (b"1",)


@in_loop
async def test_many_are_touched(server: RedisServer) -> None:
    many = [Sid(str(number)) for number in range(2_500)]
    async with redis_node(server) as node:
        await asyncio.gather(*(node.sessions.save(sid, b"x") for sid in many))
        with redis.Redis(port=server.port, decode_responses=True) as connection:
            deadlines = Deadlines(connection, "test:sessions:deadlines")
            deadlines.shift(-30_000)
            earliest_ms = deadlines.now_ms() + 60_000
            touched = node.sessions.touch([*many, Sid("nobody")])
            assert touched is not None
            await touched
            renewed = deadlines.by_sid()
            assert sorted(renewed) == sorted(many)
            assert earliest_ms <= min(renewed.values())
            assert max(renewed.values()) <= deadlines.now_ms() + 60_000
        assert await answer(node.sessions.expire()) == ()
        assert node.sessions.touch([]) is None


@in_loop
async def test_redis_forgets_what_no_node_uses_any_more(server: RedisServer) -> None:
    async with redis_node(server) as node:
        await node.sessions.save(A, b"1")
        assert node.sessions.give_up() == ()
    with redis.Redis(port=server.port) as connection:
        kept = expiring_keys(server)
        assert len(kept) == 2
        for key in kept:
            assert 86_000 < connection.ttl(key) < 87_000
            connection.expire(key, 100)
        async with redis_node(server) as node:
            await answer(node.sessions.touch([A]))
        for key in kept:
            assert connection.ttl(key) > 86_000, "while one is used it is remembered"


@in_loop
async def test_redis_is_away(server: RedisServer) -> None:
    async with redis_node(server) as node:
        server.stop()
        with pytest.raises(BackendError):
            await node.sessions.save(A, b"1")
        with pytest.raises(BackendError):
            await answer(node.sessions.touch([A, Sid("b")]))
        with pytest.raises(BackendError):
            await node.sessions.take(A)
        assert node.sessions.expire() == ()
