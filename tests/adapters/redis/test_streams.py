"""Publications from a Redis stream: a real redis-server, nodes that come, go, stall and die."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import redis

from catenary.adapters.redis.streams import BATCH, RedisStreamBroadcasts, StreamRules
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError, PublicationError, TooLarge
from catenary.messages.publications import Publication, parse
from catenary.metrics.counters import Counters
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, RedisStreamPublisher, redis_server
from tests.parts.stream_node import stream_node
from tests.parts.tcp_relay import tcp_relay

STREAM = "__anycable__"
GROUP = "bx"


@pytest.fixture
def redis_() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def app(redis_: RedisServer) -> Iterator[RedisStreamPublisher]:
    with closing(RedisStreamPublisher(redis_)) as publisher:
        yield publisher


class Node:
    """What a server does with the stream: ``got`` is what it published, in order."""

    def __init__(self, url: str, rules: StreamRules, keepalive_s: int) -> None:
        self.got: list[str] = []
        self.closed = False
        self.counters = Counters()
        self.before: Callable[[str], Awaitable[None] | None] = lambda text: None
        address = RedisAddress(url, keepalive_s=keepalive_s)
        self.broadcasts = RedisStreamBroadcasts(address, rules, self._publish, self.counters)

    def _publish(self, raw: bytes) -> Awaitable[None] | None:
        first = self.before(raw.decode())
        if first is not None:
            return self._publish_after(first, raw.decode())
        self.got.append(raw.decode())
        return None

    async def _publish_after(self, first: Awaitable[None], text: str) -> None:
        await first
        self.got.append(text)

    async def close(self, timeout_s: float) -> float:
        """How long it took, in seconds."""
        began = time.monotonic()
        if not self.closed:
            self.closed = True
            await self.broadcasts.close(timeout_s)
        return time.monotonic() - began

    async def has(self, number: int) -> list[str]:
        await until(lambda: len(self.got) >= number)
        return self.got


@asynccontextmanager
async def node(
    server: RedisServer, query: str = "", keepalive_s: int = 30, **rules: Any
) -> AsyncIterator[Node]:
    node = Node(server.url + query, StreamRules(**rules), keepalive_s)
    await node.broadcasts.start()
    try:
        yield node
    finally:
        await node.close(5)


async def until(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        await asyncio.sleep(0.01)


def texts(number: int, start: int = 0) -> list[str]:
    return [str(n) for n in range(start, start + number)]


def consumers(server: RedisServer) -> list[Any]:
    with redis.Redis(port=server.port) as connection:
        found: list[Any] = connection.xinfo_consumers(STREAM, GROUP)
        return found


def is_joined(server: RedisServer) -> bool:
    """Is the group there?"""
    with redis.Redis(port=server.port) as connection:
        return bool(connection.exists(STREAM)) and bool(connection.xinfo_groups(STREAM))


def kept(server: RedisServer) -> int:
    """How many entries the stream holds."""
    with redis.Redis(port=server.port) as connection:
        return int(connection.xlen(STREAM))


def owed(server: RedisServer) -> int:
    """How many entries were taken and not acknowledged."""
    return sum(each["pending"] for each in consumers(server))


def is_blocked(server: RedisServer) -> bool:
    """Does somebody wait for an entry?"""
    with redis.Redis(port=server.port) as connection:
        return int(connection.info("clients")["blocked_clients"]) == 1


async def stands_still(server: RedisServer) -> None:
    """Nothing is left in the stream, nobody owes anything."""
    await until(lambda: kept(server) == 0 and owed(server) == 0)


# What is published


@pytest.mark.parametrize("query", ["", "?protocol=2", "?protocol=3"])
@in_loop
async def test_publications_arrive_in_order_and_leave_the_stream(
    redis_: RedisServer, app: RedisStreamPublisher, query: str
) -> None:
    async with node(redis_, query) as one:
        await until(lambda: is_joined(redis_))
        app.publish(*texts(3 * BATCH))
        assert await one.has(3 * BATCH) == texts(3 * BATCH)
        await stands_still(redis_)


@in_loop
async def test_an_entry_as_an_application_writes_it_is_a_publication(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async with node(redis_) as one:
        app.broadcast("my_stream", {"text": "é"})
        with redis.Redis(port=redis_.port) as connection:
            fields = {"sent_by": "a test", "payload": '{"stream":"s","data":"1"}', "at": "noon"}
            connection.execute_command("XADD", STREAM, "*", *sum(fields.items(), ()))
        first, second = await one.has(2)
        (publication,) = parse(first)
        assert isinstance(publication, Publication)
        assert (publication.stream, json.loads(publication.data)) == ("my_stream", {"text": "é"})
        assert second == '{"stream":"s","data":"1"}'


@in_loop
async def test_what_was_published_before_any_node_came_is_taken(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    app.publish(*texts(5))
    async with node(redis_) as one:
        assert await one.has(5) == texts(5)


@in_loop
async def test_a_stream_and_a_group_of_other_names(redis_: RedisServer) -> None:
    with closing(RedisStreamPublisher(redis_, "mine")) as app:
        async with node(redis_, stream="mine", group="us") as one:
            app.publish("1")
            assert await one.has(1) == ["1"]
            with redis.Redis(port=redis_.port) as connection:
                (group,) = connection.xinfo_groups("mine")
            assert group["name"] == b"us"


@in_loop
async def test_what_is_no_publication_is_counted_told_and_dropped(
    redis_: RedisServer, app: RedisStreamPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(text: str) -> None:
        if text == "garbage":
            raise PublicationError("expected {stream, data}")
        if text == "a defect":
            raise ZeroDivisionError

    async with node(redis_) as one:
        one.before = refuse
        with redis.Redis(port=redis_.port) as connection:
            connection.xadd(STREAM, {"body": "no payload" * 100})
            connection.xadd(STREAM, {"payloads": "1", "b": "2"})
        app.publish("garbage", "a defect", "good")
        assert await one.has(1) == ["good"]
        await stands_still(redis_)
        # Those that the node refuses are counted there.
        assert one.counters.failed_broadcast_msg_total == 3
    told = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len(told) == 3
    assert "expected a field payload" in told[0]
    assert "b'body no payloadno" in told[0]
    assert len(told[0]) < 250
    assert "it begins with b'a defect'" in told[2]


@in_loop
async def test_what_cannot_be_sent_is_tried_again_in_order(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    attempts: list[str] = []

    async def fail() -> None:
        raise BackendError("the history is away")

    def fail_for_a_while(text: str) -> Awaitable[None] | None:
        attempts.append(text)
        return fail() if text == "2" and attempts.count("2") < 4 else None

    async with node(redis_) as one:
        one.before = fail_for_a_while
        app.publish(*texts(4))
        await until(lambda: attempts.count("2") == 2)
        # What was published is done; what was not is still there.
        assert one.got == ["0", "1"]
        assert kept(redis_) == 2
        assert await one.has(4) == texts(4)
        assert attempts == ["0", "1", "2", "2", "2", "2", "3"]
        assert one.counters.redisx_retries_total == 3
        await stands_still(redis_)


@in_loop
async def test_what_is_refused_for_good_is_dropped_and_what_is_behind_it_goes_on(
    redis_: RedisServer, app: RedisStreamPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[str] = []

    async def refuse() -> None:
        raise TooLarge("expected at most 1048320 bytes, got 1100013")

    def refuse_one(text: str) -> Awaitable[None] | None:
        attempts.append(text)
        return refuse() if text == "1" else None

    async with node(redis_) as one:
        one.before = refuse_one
        app.publish(*texts(3))
        assert await one.has(2) == ["0", "2"]
        await stands_still(redis_)
        assert (kept(redis_), owed(redis_)) == (0, 0)
        assert attempts == texts(3)
        counters = one.counters
        assert (counters.refused_publications_total, counters.redisx_retries_total) == (1, 0)
    (told,) = [each.getMessage() for each in caplog.records if each.levelno > logging.INFO]
    assert told == (
        "Publication refused: expected at most 1048320 bytes, got 1100013; it begins with b'1'"
    )


# Several nodes


@in_loop
async def test_each_is_published_once_while_nodes_come_and_go(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.0005)

    everybody: list[Node] = []
    number = 0
    async with node(redis_, claim_idle_s=1) as steady:
        steady.before = lambda text: slowly()
        everybody.append(steady)
        for _ in range(4):
            async with (
                node(redis_, claim_idle_s=1) as first,
                node(redis_, claim_idle_s=1) as second,
            ):
                everybody += [first, second]
                first.before = second.before = lambda text: slowly()
                for _ in range(30):
                    app.publish(*texts(20, number))
                    number += 20
                    await asyncio.sleep(0.005)
                await until(lambda: bool(first.got) and bool(second.got))
        await until(lambda: sum(len(each.got) for each in everybody) >= number)
        await stands_still(redis_)
        assert len(consumers(redis_)) == 1
    assert sorted(int(n) for each in everybody for n in each.got) == list(range(number))
    for each in everybody:
        assert each.got == sorted(each.got, key=int)
        assert each.counters.redisx_claimed_total == 0


@in_loop
async def test_what_a_killed_node_did_not_finish_is_claimed(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    with stream_node(redis_.url, stops_after=3, claim_idle_s=1) as other:
        app.publish(*texts(10))
        # The fourth is never done; a second later the first three are acknowledged.
        assert await asyncio.to_thread(other.read, 4) == [b"0", b"1", b"2", b"3"]
        await until(lambda: kept(redis_) == 7)
        async with node(redis_, claim_idle_s=1) as one:
            app.publish("new")
            await one.has(1)
            await asyncio.sleep(1.5)
            assert one.got == ["new"], "the other lives"
            other.kill()
            assert await one.has(8) == ["new", *texts(7, 3)]
            assert one.counters.redisx_claimed_total == 7
            await stands_still(redis_)


@in_loop
async def test_who_waits_long_for_something_new_claims_all_the_same(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async with node(redis_, claim_idle_s=0.5, read_block_ms=3_600_000) as one:
        await until(lambda: is_joined(redis_) and len(consumers(redis_)) == 1)
        with redis.Redis(port=redis_.port) as connection:
            # Somebody takes it before the one that waits, and is not heard of again.
            raced = connection.pipeline()
            raced.xadd(STREAM, {"payload": "1"})
            raced.xreadgroup(GROUP, "other", {STREAM: ">"})
            raced.execute()
        assert owed(redis_) == 1
        assert one.got == []
        await until(lambda: one.got == ["1"], timeout_s=3)


@in_loop
async def test_a_slow_node_keeps_what_it_has_taken(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    go_on = asyncio.Event()

    async def wait(text: str) -> None:
        if text == "1":
            await go_on.wait()

    async with node(redis_, claim_idle_s=0.4) as slow:
        slow.before = wait
        app.publish(*texts(3))
        await slow.has(1)
        async with node(redis_, claim_idle_s=0.4) as other:
            await asyncio.sleep(1.5)
            # What is published counts as done while the next one takes its time.
            assert kept(redis_) == 2
            go_on.set()
            assert await slow.has(3) == texts(3)
            await stands_still(redis_)
            assert other.got == []
            assert other.counters.redisx_claimed_total == 0


@in_loop
async def test_a_node_that_stalled_does_not_publish_what_others_claimed(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    def stall(text: str) -> None:
        if text == "1":
            # The whole process stands still; meanwhile somebody else claims.
            time.sleep(0.6)
            with redis.Redis(port=redis_.port) as connection:
                connection.xautoclaim(STREAM, GROUP, "other", 400)

    async with node(redis_, claim_idle_s=0.4) as stalled:
        stalled.before = stall
        app.publish(*texts(4))
        await stalled.has(2)
        # What was published is acknowledged; the rest is that other's, until it is dead, too.
        await until(lambda: kept(redis_) == 2)
        (other,) = [each for each in consumers(redis_) if each["name"] == b"other"]
        assert other["pending"] == 2
        assert await stalled.has(4) == texts(4)
        assert stalled.counters.redisx_claimed_total == 2


@in_loop
async def test_consumers_of_nodes_long_gone_are_removed_unless_they_owe_something(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    with stream_node(redis_.url, stops_after=10, claim_idle_s=60) as idle:
        app.publish("1")
        await asyncio.to_thread(idle.read, 1)
        await until(lambda: kept(redis_) == 0)
    with stream_node(redis_.url, stops_after=0, claim_idle_s=60) as owing:
        app.publish("2")
        await asyncio.to_thread(owing.read, 1)
    before = {each["pending"]: each["name"] for each in consumers(redis_)}
    async with node(redis_, forget_idle_s=0.2, claim_idle_s=60):
        await until(lambda: before[0] not in {each["name"] for each in consumers(redis_)})
    (left,) = consumers(redis_)
    assert (left["name"], left["pending"]) == (before[1], 1), "removed, it would be lost"


@in_loop
async def test_nodes_that_have_nothing_to_do_are_not_taken_for_gone(
    redis_: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rules: dict[str, Any] = {"forget_idle_s": 1, "claim_idle_s": 0.8}
    async with node(redis_, **rules), node(redis_, **rules):
        await until(lambda: is_joined(redis_) and len(consumers(redis_)) == 2)
        await asyncio.sleep(2)
        assert len(consumers(redis_)) == 2
    assert "Removed" not in caplog.text


@in_loop
async def test_what_waits_in_the_stream_is_measured(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    go_on = asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    async with node(redis_, claim_idle_s=1) as one:
        app.publish("0")
        await one.has(1)
        one.before = lambda text: wait()
        app.publish(*texts(BATCH + 300, 1))
        await until(lambda: one.counters.redisx_lag_num == 300)
        assert owed(redis_) == BATCH, "no more is taken than what is under way"
        go_on.set()
        assert await one.has(BATCH + 301) == texts(BATCH + 301)
        await until(lambda: one.counters.redisx_lag_num == 0)


# Redis comes and goes


@in_loop
async def test_redis_comes_back_without_its_data(redis_: RedisServer) -> None:
    async with node(redis_) as one:
        for round_ in range(3):
            with closing(RedisStreamPublisher(redis_)) as app:
                # Before the node has come back, too: the group is made for all there is.
                app.publish(str(round_))
                assert await one.has(round_ + 1) == texts(round_ + 1)
            redis_.stop()
            await until(lambda n=round_: one.counters.broadcaster_reconnects_total > n)  # type: ignore[misc]
            redis_.start()


@in_loop
async def test_redis_comes_back_with_its_data(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def wait(text: str) -> None:
        if text == "2":
            await go_on.wait()

    with redis_server(tmp_path) as server, closing(RedisStreamPublisher(server)) as app:
        async with node(server, claim_idle_s=60) as one:
            one.before = wait
            app.publish(*texts(5))
            await one.has(2)
            server.stop()
            go_on.set()
            # Taken, and still ours: Redis is not needed to publish it.
            await one.has(5)
            await until(lambda: one.counters.broadcaster_reconnects_total > 0)
            server.start()
            app.publish("5")
            assert await one.has(6) == texts(6)
            await stands_still(server)
            assert one.got == texts(6), "nothing twice"


@in_loop
async def test_what_redis_gave_to_a_connection_that_broke_is_asked_for_again(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    with tcp_relay(redis_.port) as relay:
        one = Node(f"redis://127.0.0.1:{relay.port}", StreamRules(claim_idle_s=60), 30)
        await one.broadcasts.start()
        await until(lambda: is_joined(redis_) and len(consumers(redis_)) == 1)
        app.publish("1")
        await one.has(1)
        await until(lambda: is_blocked(redis_))
        # Redis does not hear of it, and answers to nobody.
        relay.cut(half_open=True)
        app.publish("2")
        assert owed(redis_) == 1
        assert await one.has(2) == ["1", "2"]
        await stands_still(redis_)
        assert one.counters.redisx_claimed_total == 0
        await one.close(5)


@in_loop
async def test_a_first_start_while_redis_is_away(redis_: RedisServer) -> None:
    redis_.stop()
    async with node(redis_) as one:
        await until(lambda: one.counters.broadcaster_reconnects_total > 1)
        redis_.start()
        with closing(RedisStreamPublisher(redis_)) as app:
            app.publish("1")
            assert await one.has(1) == ["1"]


@pytest.mark.parametrize("loss", ["FLUSHALL", "DEL __anycable__", "XGROUP DESTROY __anycable__ bx"])
@in_loop
async def test_a_group_that_is_gone_is_made_again(
    redis_: RedisServer, app: RedisStreamPublisher, loss: str
) -> None:
    async with node(redis_) as one:
        app.publish("1")
        await one.has(1)
        with redis.Redis(port=redis_.port) as connection:
            connection.execute_command(*loss.split())
        app.publish("2")
        assert await one.has(2) == ["1", "2"]
        await stands_still(redis_)


@in_loop
async def test_a_redis_that_says_nothing_for_a_while(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async with node(redis_, keepalive_s=1, read_block_ms=100) as one:
        app.publish("1")
        await one.has(1)
        redis_.freeze()
        try:
            await until(lambda: one.counters.broadcaster_reconnects_total > 0)
        finally:
            redis_.thaw()
        app.publish(*texts(50, 2))
        assert sorted(await one.has(51), key=int) == texts(51, 1)
        await stands_still(redis_)


@in_loop
async def test_entries_that_somebody_deleted_are_forgotten(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    with stream_node(redis_.url, stops_after=0, claim_idle_s=60) as other:
        app.publish(*texts(3))
        await asyncio.to_thread(other.read, 1)
    with redis.Redis(port=redis_.port) as connection:
        connection.xtrim(STREAM, maxlen=1, approximate=False)
    async with node(redis_, claim_idle_s=0.2) as one:
        assert await one.has(1) == ["2"]
        await stands_still(redis_)


@in_loop
async def test_entries_that_were_deleted_after_they_were_claimed(redis_: RedisServer) -> None:
    """Redis 6.2 lets them be claimed; later ones do only where they were claimed before."""
    async with node(redis_, claim_idle_s=60) as one:
        failing = True

        async def fail() -> None:
            raise BackendError("away")

        one.before = lambda text: fail() if failing else None
        with redis.Redis(port=redis_.port) as connection:
            connection.xadd(STREAM, {"payload": "1"})
            await until(lambda: one.counters.redisx_retries_total > 0)
            connection.xtrim(STREAM, maxlen=0, approximate=False)
            failing = False
            connection.xadd(STREAM, {"payload": "2"})
        assert await one.has(1) == ["2"]
        await stands_still(redis_)


# The end


@in_loop
async def test_who_closes_publishes_what_it_has_and_leaves_the_group(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.01)

    async with node(redis_) as one:
        one.before = lambda text: slowly()
        app.publish(*texts(20))
        await one.has(1)
    assert one.got == texts(20)
    assert kept(redis_) == 0
    assert consumers(redis_) == []


@in_loop
async def test_who_takes_long_to_close_keeps_what_it_has(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.8)

    async with node(redis_, claim_idle_s=0.4) as one:
        one.before = lambda text: slowly()
        app.publish(*texts(2))
        await until(lambda: is_joined(redis_) and owed(redis_) == 2)
        async with node(redis_, claim_idle_s=0.4) as other:
            await one.close(5)
            assert one.got == texts(2)
            assert other.got == []
    assert consumers(redis_) == []


@in_loop
async def test_who_closes_while_it_waits_does_not_wait_on(redis_: RedisServer) -> None:
    async with node(redis_, read_block_ms=2000) as one:
        await until(lambda: is_joined(redis_) and bool(consumers(redis_)))
        assert await one.close(5) < 0.5
    assert consumers(redis_) == []


@in_loop
async def test_what_cannot_be_finished_before_the_end_is_left_for_others(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async def fail() -> None:
        raise BackendError("away")

    async def never() -> None:
        await asyncio.Event().wait()

    for before, seconds in ((fail, 5.0), (never, 0.3)):
        async with node(redis_) as leaving:
            leaving.before = lambda text, before=before: before()  # type: ignore[misc]
            app.publish("1")
            await until(lambda: is_joined(redis_) and owed(redis_) == 1)
            assert await leaving.close(seconds) < 2
        async with node(redis_, claim_idle_s=0.2) as heir:
            assert await heir.has(1) == ["1"]
            await stands_still(redis_)


@in_loop
async def test_who_closes_does_not_wait_for_a_redis_that_is_away(redis_: RedisServer) -> None:
    for silence in (redis_.freeze, redis_.stop):
        async with node(redis_) as one:
            await until(lambda: is_joined(redis_))
            silence()
            assert await one.close(0.5) < 1.5
        redis_.stop()
        redis_.start()
