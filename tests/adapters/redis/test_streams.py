"""Publications from a Redis stream: a real redis-server, nodes that come, go, stall and die."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import redis

from catenary.adapters.redis.consumer import BATCH_BYTES, READER, STEP
from catenary.adapters.redis.streams import BATCH, RedisStreamBroadcasts, StreamRules
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError, BackendRefused, PublicationError, TooLarge
from catenary.messages.publications import Publication, QueueEntry, parse
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


Before = Callable[[str], Awaitable[None] | None]


class Node:
    """What a server does with the stream: ``got`` is what it published, in order.

    Like an engine, it publishes nothing behind something that failed until that is tried again.
    """

    def __init__(self, url: str, rules: StreamRules, keepalive_s: int) -> None:
        self.got: list[str] = []
        self.everybody: list[str] = self.got
        """What several nodes published, in order, where they share one."""
        self._under_way = 0
        self._has_failed = False
        self.closed = False
        self.counters = Counters()
        self.check: Callable[[str], None] = lambda text: None
        self.before: Before | None = None
        address = RedisAddress(url, keepalive_s=keepalive_s)
        self.broadcasts = RedisStreamBroadcasts(address, rules, self._publish, self.counters)

    def _publish(self, raw: bytes, entry: QueueEntry, trace: str = "") -> Awaitable[None] | None:
        self.check(raw.decode())
        if self.before is None:
            self._note(raw.decode())
            return None
        self._has_failed = self._has_failed and self._under_way > 0
        self._under_way += 1
        return self._publish_after(self.before, raw.decode())

    async def _publish_after(self, before: Before, text: str) -> None:
        try:
            if self._has_failed:
                raise BackendError("an earlier one has failed")
            first = before(text)
            if first is not None:
                await first
        except BackendRefused:
            raise
        except BackendError:
            self._has_failed = True
            raise
        finally:
            self._under_way -= 1
        self._note(text)

    def _note(self, text: str) -> None:
        self.got.append(text)
        if self.everybody is not self.got:
            self.everybody.append(text)

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


def lease(server: RedisServer) -> bytes | None:
    """Which node reads."""
    with redis.Redis(port=server.port) as connection:
        found: bytes | None = connection.get(f"{STREAM}:{GROUP}:reader")
        return found


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
async def test_entries_from_before_the_first_node_are_published(
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
async def test_a_malformed_publication_is_counted_logged_and_dropped(
    redis_: RedisServer, app: RedisStreamPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(text: str) -> None:
        if text == "garbage":
            raise PublicationError("expected {stream, data}")
        if text == "a defect":
            raise ZeroDivisionError

    async with node(redis_) as one:
        one.check = refuse
        with redis.Redis(port=redis_.port) as connection:
            connection.xadd(STREAM, {"body": "no payload" * 100})
            connection.xadd(STREAM, {"payloads": "1", "b": "2"})
        app.publish("garbage", "a defect", "good")
        assert await one.has(1) == ["good"]
        await stands_still(redis_)
        # Those that the node refuses are counted there.
        assert one.counters.failed_broadcast_msg_total == 3
    told = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len(told) == 4, told
    assert "expected a field payload" in told[0]
    assert "b'body no payloadno" in told[0]
    assert len(told[0]) < 250
    assert "it begins with b'a defect'" in told[3]


@in_loop
async def test_entries_that_can_not_be_sent_are_retried_in_order(
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
        assert attempts == ["0", "1", "2", "2", "2", "2", "3"], "nothing overtakes it"
        assert one.counters.redisx_retries_total == 3
        await stands_still(redis_)


@in_loop
async def test_a_permanently_refused_entry_is_dropped_and_later_ones_are_published(
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
async def test_all_are_published_once_and_in_order_while_nodes_come_and_go(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    everybody: list[str] = []
    readers: list[Node] = []
    number = 0

    async def publish_some(count: int) -> None:
        nonlocal number
        for _ in range(count):
            app.publish(*texts(20, number))
            number += 20
            await asyncio.sleep(0.002)

    async with AsyncExitStack() as stack:
        present = await stack.enter_async_context(node(redis_))
        present.everybody = everybody
        readers.append(present)
        for _ in range(4):
            await publish_some(10)
            # The next one asks for the lease until the present one, which leaves under load, gives it.
            following = await stack.enter_async_context(node(redis_, poll_s=0.02))
            following.everybody = everybody
            leaving = asyncio.create_task(present.close(5))
            await publish_some(10)
            await leaving
            await following.has(1)
            readers.append(following)
            present = following
        await until(lambda: len(everybody) >= number)
        await stands_still(redis_)
    assert everybody == texts(number)
    assert all(each.got for each in readers)
    assert len({text for each in readers for text in each.got}) == number


@in_loop
async def test_one_node_reads_and_the_others_wait_for_it_to_die(
    redis_: RedisServer, app: RedisStreamPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    with stream_node(redis_.url, stops_after=3, lease_s=1) as other:
        app.publish(*texts(10))
        # The fourth is never done; a moment later the first three are acknowledged all the same.
        assert await asyncio.to_thread(other.read, 4) == [b"0", b"1", b"2", b"3"]
        await until(lambda: kept(redis_) == 7)
        async with node(redis_, lease_s=1, poll_s=0.05) as one:
            app.publish("new")
            await asyncio.sleep(1.5)
            assert one.got == [], "the other lives"
            other.kill()
            # What it did not finish comes first, without a wait for more than its lease.
            assert await one.has(8) == [*texts(7, 3), "new"]
            assert one.counters.redisx_claimed_total == 7
            await stands_still(redis_)
    (told,) = [each.getMessage() for each in caplog.records if each.levelno > logging.INFO]
    assert told == "Took over 7 publications that another node did not finish"


@in_loop
async def test_entries_that_other_servers_of_the_group_left_are_claimed(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    """anycable-go, and older versions, read as consumers of their own."""
    async with node(redis_, claim_idle_s=0.5, read_block_ms=3_600_000) as one:
        await until(lambda: is_joined(redis_) and len(consumers(redis_)) == 1)
        with redis.Redis(port=redis_.port) as connection:
            # Another server takes it before the one that waits, and dies.
            raced = connection.pipeline()
            raced.xadd(STREAM, {"payload": "1"})
            raced.xreadgroup(GROUP, "other", {STREAM: ">"})
            raced.execute()
        assert one.got == []
        await until(lambda: one.got == ["1"], timeout_s=4)
        assert one.counters.redisx_claimed_total == 1
        await stands_still(redis_)


@pytest.mark.parametrize("reader", [None, READER, "other"], ids=["new", "pending", "claimed"])
@in_loop
async def test_large_entries_are_read_a_few_at_a_time(
    redis_: RedisServer, app: RedisStreamPublisher, reader: str | None
) -> None:
    """200 entries of 16 MB each would be a reply of 3 GB."""
    large = [f"{number} {'x' * (BATCH_BYTES // STEP)}" for number in range(3 * STEP)]
    go_on = asyncio.Event()

    async def wait(text: str) -> None:
        await go_on.wait()

    app.publish(*large)
    if reader is not None:
        with redis.Redis(port=redis_.port) as connection:
            connection.xgroup_create(STREAM, GROUP, id="0")
            connection.xreadgroup(GROUP, reader, {STREAM: ">"})
    async with node(redis_, claim_idle_s=0.1) as one:
        one.before = wait
        await until(lambda: one.broadcasts._batch is not None)
        batch = one.broadcasts._batch
        assert batch is not None
        assert len(batch) == STEP
        go_on.set()
        assert await one.has(3 * STEP) == large
        await stands_still(redis_)


@in_loop
async def test_other_servers_of_the_group_do_not_claim_what_a_slow_node_has(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    go_on = asyncio.Event()

    async def wait(text: str) -> None:
        if text == "1":
            await go_on.wait()

    async with node(redis_) as slow:
        slow.before = wait
        app.publish(*texts(3))
        await slow.has(1)
        with redis.Redis(port=redis_.port) as connection:
            for _ in range(15):
                # anycable-go claims what is two seconds old.
                assert connection.xautoclaim(STREAM, GROUP, "other", 2000)[1] == []
                await asyncio.sleep(0.2)
        # What is published counts as done while the next one takes its time.
        assert kept(redis_) == 2
        go_on.set()
        assert await slow.has(3) == texts(3)
        await stands_still(redis_)


@in_loop
async def test_a_slow_node_keeps_its_lease(redis_: RedisServer, app: RedisStreamPublisher) -> None:
    go_on = asyncio.Event()

    async def wait(text: str) -> None:
        if text == "1":
            await go_on.wait()

    async with node(redis_, lease_s=0.4) as slow:
        slow.before = wait
        app.publish(*texts(3))
        await slow.has(1)
        async with node(redis_, lease_s=0.4, poll_s=0.05) as other:
            await asyncio.sleep(1.5)
            go_on.set()
            assert await slow.has(3) == texts(3)
            await stands_still(redis_)
            assert other.got == []
            assert other.counters.redisx_claimed_total == 0


@in_loop
async def test_a_node_that_stalled_publishes_nothing_more(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    """The engine has what it published before, twice or not; what it has not begun is another's."""

    async def wait() -> None:
        await go_on.wait()

    go_on = asyncio.Event()
    async with node(redis_, lease_s=0.4) as stalled:
        stalled.before = lambda text: wait()
        app.publish(*texts(BATCH + 5))
        await until(lambda: is_joined(redis_) and owed(redis_) == BATCH)
        with redis.Redis(port=redis_.port) as connection:
            # The process stands still for so long that another node reads.
            connection.set(f"{STREAM}:{GROUP}:reader", "another")
            await until(lambda: stalled.broadcasts._ours_until == 0)
            go_on.set()
            await stalled.has(BATCH)
            await until(lambda: kept(redis_) == 5 and not stalled.broadcasts._is_reader)
            assert (len(stalled.got), owed(redis_)) == (BATCH, 0), "it read no more"
            # When that other one has died as well, it reads again.
            connection.delete(f"{STREAM}:{GROUP}:reader")
        assert await stalled.has(BATCH + 5) == texts(BATCH + 5)


@in_loop
async def test_a_node_that_can_not_publish_lets_another_one_try(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async def fail() -> None:
        raise BackendError("NATS is away")

    async with node(redis_) as cut_off:
        cut_off.before = lambda text: fail()
        app.publish(*texts(3))
        await until(lambda: cut_off.counters.redisx_retries_total > 0)
        async with node(redis_, poll_s=0.05) as other:
            assert await other.has(3) == texts(3)
            await stands_still(redis_)


@in_loop
async def test_the_lag_is_measured(redis_: RedisServer, app: RedisStreamPublisher) -> None:
    go_on = asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    async with node(redis_) as one:
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
        async with node(server) as one:
            one.before = wait
            app.publish(*texts(5))
            await one.has(2)
            server.stop()
            go_on.set()
            # Taken, and begun: Redis is not needed to publish it.
            await one.has(5)
            await until(lambda: one.counters.broadcaster_reconnects_total > 0)
            server.start()
            app.publish("5")
            assert await one.has(6) == texts(6)
            await stands_still(server)
            assert one.got == texts(6), "nothing twice"


@in_loop
async def test_entries_that_a_broken_connection_received_are_read_again(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    with tcp_relay(redis_.port) as relay:
        one = Node(f"redis://127.0.0.1:{relay.port}", StreamRules(), 30)
        await one.broadcasts.start()
        await until(lambda: is_joined(redis_) and len(consumers(redis_)) == 1)
        app.publish("1")
        await one.has(1)
        await until(lambda: is_blocked(redis_))
        with redis.Redis(port=redis_.port) as connection:
            # Redis has answered, and the answer has not arrived.
            raced = connection.pipeline()
            raced.xadd(STREAM, {"payload": "2"})
            raced.xreadgroup(GROUP, READER, {STREAM: ">"})
            raced.execute()
        relay.cut()
        assert await one.has(2) == ["1", "2"]
        await stands_still(redis_)
        assert one.counters.redisx_claimed_total == 0
        await one.close(5)


@in_loop
async def test_a_first_start_while_redis_is_away(redis_: RedisServer) -> None:
    redis_.stop()
    async with node(redis_) as one:
        await until(lambda: "connecting" in (one.broadcasts.trouble or ""))
        redis_.start()
        with closing(RedisStreamPublisher(redis_)) as app:
            app.publish("1")
            assert await one.has(1) == ["1"]
        assert one.counters.broadcaster_reconnects_total == 0, "no connection was lost"


@in_loop
async def test_an_outage_is_one_lost_connection(
    redis_: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with node(redis_) as one:
        await until(lambda: one.broadcasts.trouble is None)
        redis_.stop()
        await until(lambda: "attempt 8 failed" in caplog.text)
        redis_.start()
        await until(lambda: one.broadcasts.trouble is None)
        assert one.counters.broadcaster_reconnects_total == 1


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
async def test_deleted_entries_are_forgotten(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    with stream_node(redis_.url, stops_after=0, lease_s=1) as other:
        app.publish(*texts(3))
        await asyncio.to_thread(other.read, 1)
    with redis.Redis(port=redis_.port) as connection:
        connection.xtrim(STREAM, maxlen=1, approximate=False)
    async with node(redis_) as one:
        assert await one.has(1) == ["2"]
        await stands_still(redis_)


@in_loop
async def test_entries_that_were_deleted_after_they_were_read(redis_: RedisServer) -> None:
    async with node(redis_) as one:
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
async def test_closing_publishes_the_batch_and_releases_the_lease(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.01)

    async with node(redis_) as one:
        one.before = lambda text: slowly()
        app.publish(*texts(20))
        await one.has(1)
    assert one.got == texts(20)
    assert (kept(redis_), owed(redis_)) == (0, 0)
    assert lease(redis_) is None


@in_loop
async def test_a_slow_close_keeps_the_lease(redis_: RedisServer, app: RedisStreamPublisher) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.8)

    async with node(redis_, lease_s=0.4) as one:
        one.before = lambda text: slowly()
        app.publish(*texts(2))
        await until(lambda: is_joined(redis_) and owed(redis_) == 2)
        async with node(redis_, lease_s=0.4, poll_s=0.05) as other:
            await one.close(5)
            assert one.got == texts(2)
            assert other.got == []


@in_loop
async def test_closing_ends_a_wait_for_entries(redis_: RedisServer) -> None:
    async with node(redis_, read_block_ms=2000) as one:
        await until(lambda: is_joined(redis_) and bool(consumers(redis_)))
        assert await one.close(5) < 0.5
    assert lease(redis_) is None


@in_loop
async def test_entries_that_are_not_finished_at_the_end_are_left_for_others(
    redis_: RedisServer, app: RedisStreamPublisher
) -> None:
    async def fail() -> None:
        raise BackendError("away")

    async def never() -> None:
        await asyncio.Event().wait()

    for before, seconds in ((fail, 5.0), (never, 0.3)):
        async with node(redis_) as leaving:
            leaving.before = lambda text, before=before: before()
            app.publish("1")
            await until(lambda: is_joined(redis_) and owed(redis_) == 1)
            assert await leaving.close(seconds) < 2
        async with node(redis_) as heir:
            assert await heir.has(1) == ["1"]
            await stands_still(redis_)


@in_loop
async def test_closing_does_not_wait_for_an_unavailable_redis(redis_: RedisServer) -> None:
    for silence in (redis_.freeze, redis_.stop):
        async with node(redis_) as one:
            await until(lambda: is_joined(redis_))
            silence()
            assert await one.close(0.5) < 1.5
        redis_.stop()
        redis_.start()
