"""Commands to Redis: a real redis-server, which comes and goes, freezes and forgets."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis
import uvloop
from redis.asyncio.connection import AbstractConnection

from catenary.adapters.redis import commands as commands_module
from catenary.adapters.redis.client import connect
from catenary.adapters.redis.commands import Commands, Script
from catenary.adapters.redis.connection import RedisConnection, close_client
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError
from catenary.metrics.counters import Counters
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import until

PUSH = Script("return redis.call('RPUSH', KEYS[1], ARGV[1])")
TWICE = Script("return ARGV[1] * 2")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@asynccontextmanager
async def open_commands(url: str, counters: Counters | None = None) -> AsyncIterator[Commands]:
    commands = Commands(connect(RedisAddress(url)), (PUSH, TWICE), counters or Counters())
    await commands.start()
    try:
        yield commands
    finally:
        await commands.close(1)


@asynccontextmanager
async def connected(server: RedisServer) -> AsyncIterator[Commands]:
    async with open_commands(server.url) as commands:
        await until(lambda: commands.trouble is None)
        yield commands


@in_loop
async def test_replies_belong_to_their_calls_and_errors_to_theirs(server: RedisServer) -> None:
    async with connected(server) as commands:
        written = commands.call("SET", "é", b"\x00\xff")
        wrong = commands.call("INCR", "é")
        read = commands.call("GET", "é")
        doubled = [commands.run(TWICE, (), number) for number in range(100)]
        missing = commands.call("GET", "nothing")
        assert await written == b"OK"
        with pytest.raises(BackendError, match="not an integer"):
            await wrong
        assert await read == b"\x00\xff"
        assert [await each for each in doubled] == [2 * number for number in range(100)]
        assert await missing is None


@in_loop
async def test_a_cancelled_call_disturbs_no_other(server: RedisServer) -> None:
    async with connected(server) as commands:
        left = commands.call("ECHO", "1")
        left.cancel()
        assert await commands.call("ECHO", "2") == b"2"


@in_loop
async def test_scripts_that_redis_forgot_run_all_the_same_and_in_order(
    server: RedisServer,
) -> None:
    async with connected(server) as commands:
        calls = []
        for number in range(5_000):
            if number % 500 == 50:
                commands.call("SCRIPT", "FLUSH")
            calls.append(commands.run(PUSH, ("list",), number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*calls)
        pushed = await commands.call("LRANGE", "list", 0, -1)
        assert pushed == [b"%d" % number for number in range(5_000)]


@in_loop
async def test_calls_stay_in_order_when_another_client_loads_the_script_meanwhile(
    server: RedisServer,
) -> None:
    async with connected(server) as commands:
        with redis.Redis(port=server.port) as other:
            other.script_flush()
            first = commands.run(PUSH, ("list",), 1)
            blocked = commands.call("BLPOP", "gate", 5)
            await until(lambda: bool(commands._without_script))
            other.script_load(PUSH.source)
            second = commands.run(PUSH, ("list",), 2)
            await asyncio.sleep(0)
            other.rpush("gate", "open")
        await asyncio.gather(first, blocked, second)
        assert await commands.call("LRANGE", "list", 0, -1) == [b"1", b"2"]


@in_loop
async def test_calls_fail_at_once_while_redis_is_away_and_work_when_it_is_back(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "catenary.redis")
    async with connected(server) as commands:
        first_run = commands.run_id
        server.stop()
        with pytest.raises(BackendError, match="Redis is away"):
            await commands.call("PING")
        async with asyncio.timeout(0.1):
            with pytest.raises(BackendError, match="Redis is away"):
                await commands.call("PING")
        assert commands.trouble is not None
        assert not commands.is_settled(0)
        server.start()
        await until(lambda: commands.trouble is None)
        assert await commands.run(TWICE, (), 2) == 4
        assert commands.run_id not in {b"", first_run}
        assert not commands.is_settled(0), "for a second others come first"
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "Connected to Redis",
        "Redis is away",
        "Connected to Redis",
    ]


@in_loop
async def test_a_start_before_redis(server: RedisServer) -> None:
    server.stop()
    async with open_commands(server.url) as commands:
        with pytest.raises(BackendError, match="not connected"):
            await commands.call("PING")
        server.start()
        await until(lambda: commands.trouble is None)
        assert await commands.call("PING") == b"PONG"


@in_loop
async def test_a_redis_that_does_not_answer_is_given_up(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "REPLY_TIMEOUT_S", 0.4)
    async with connected(server) as commands:
        server.freeze()
        try:
            calls = [commands.call("PING"), commands.call("PING")]
            for each in calls:
                with pytest.raises(BackendError, match=r"no reply within 0\.4 s"):
                    await each
        finally:
            server.thaw()
        await until(lambda: commands.trouble is None)
        assert await commands.call("PING") == b"PONG"


def test_a_reply_that_arrived_while_the_loop_was_busy_is_read(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop calls the timers that have become due during a read before it reads again."""
    monkeypatch.setattr(commands_module, "REPLY_TIMEOUT_S", 0.4)

    async def hold() -> object:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as pair:
            work, busy = map(pair.enter_context, socket.socketpair())
            async with connected(server) as commands:

                def receive_work() -> None:
                    work.recv(1)
                    server.thaw()
                    time.sleep(0.5)

                loop.add_reader(work, receive_work)
                server.freeze()
                reply = asyncio.ensure_future(commands.call("PING"))
                await asyncio.sleep(0.05)  # until it is sent
                busy.send(b"1")
                try:
                    return await reply
                finally:
                    loop.remove_reader(work)

    assert uvloop.run(hold()) == b"PONG"


@in_loop
async def test_calls_from_before_close_are_answered(server: RedisServer) -> None:
    async with connected(server) as commands:
        calls = [commands.call("INCR", "count") for _ in range(1000)]
    assert await calls[-1] == 1000
    with pytest.raises(BackendError):
        await commands.call("PING")


@in_loop
async def test_commands_that_wait_have_a_limit(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = Counters()
    async with open_commands(server.url, counters) as commands:
        await until(lambda: commands.trouble is None)
        monkeypatch.setattr(commands_module, "PENDING_LIMIT", 3)
        three = [commands.call("PING") for _ in range(3)]
        with pytest.raises(BackendError, match="too many"):
            await commands.call("PING")
        await asyncio.gather(*three)
        monkeypatch.setattr(commands_module, "PENDING_BYTES_LIMIT", 1000)
        big = commands.call("ECHO", "x" * 1000)
        with pytest.raises(BackendError, match="too many"):
            await commands.call("PING")
        await big
        assert await commands.call("PING") == b"PONG"
        assert counters.pubsub_refused_total == 2


@in_loop
async def test_a_master_that_became_a_replica_is_left(server: RedisServer) -> None:
    async with connected(server) as commands:
        with redis.Redis(port=server.port) as other:
            other.replicaof("127.0.0.1", "1")
            with pytest.raises(BackendError, match="READONLY"):
                await commands.run(PUSH, ("list",), 1)
            other.replicaof("NO", "ONE")
        await until(lambda: commands.trouble is not None)
        await until(lambda: commands.trouble is None)
        assert await commands.run(PUSH, ("list",), 1) == 1


@in_loop
async def test_passwords_and_databases_and_no_password_in_any_word(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with redis.Redis(port=server.port) as other:
        other.config_set("requirepass", "correct-horse")
    url = f"redis://:battery-staple@127.0.0.1:{server.port}/3"
    async with open_commands(url) as commands:
        await until(lambda: "password" in (commands.trouble or ""))
        assert "battery-staple" not in (commands.trouble or "")
    assert "battery-staple" not in caplog.text
    async with open_commands(url.replace("battery-staple", "correct-horse")) as commands:
        await until(lambda: commands.trouble is None)
        await commands.call("SET", "key", "in 3")
    with redis.Redis(port=server.port, password="correct-horse", db=3) as other:
        assert other.get("key") == b"in 3"
    assert "correct-horse" not in caplog.text


@in_loop
async def test_a_user_who_may_not_ask_for_the_run_gets_along(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as other:
        other.acl_setuser("node", enabled=True, nopass=True, keys="*", commands=["+@all", "-info"])
    async with open_commands(f"redis://node:any@127.0.0.1:{server.port}") as commands:
        await until(lambda: commands.trouble is None)
        assert commands.run_id == b""
        assert await commands.run(TWICE, (), 1) == 2


@in_loop
async def test_a_connection_is_closed_even_if_whoever_closes_it_is_cancelled(
    server: RedisServer,
) -> None:
    """Else redis-py complains of it when it is collected, wherever that happens."""
    client = connect(RedisAddress(server.url))
    opened: AbstractConnection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    await opened.connect()  # type: ignore[no-untyped-call]
    closing = asyncio.ensure_future(RedisConnection(opened, lambda _: None).close())
    await asyncio.sleep(0)  # it has begun
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not opened.is_connected
    await close_client(client)
