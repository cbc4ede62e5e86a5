"""Publications between nodes by way of Redis: outages, bounds, load."""

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec
import pytest
import redis

from catenary.adapters import packing
from catenary.adapters.redis import payload
from catenary.broker.limits import Limits
from catenary.errors import BackendError
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication, RemoteDisconnect
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import LIMITS, RedisNode, redis_node, until

S, T = Stream("s"), Stream("t")
QUICK_S = 0.3
"""Between canaries."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that knows everything again after a stop."""
    running = RedisServer(tmp_path)
    running.start()
    yield running
    running.stop()


async def eventually(node: RedisNode, stream: Stream, *data: object) -> None:
    """Publishes for as long as that fails."""
    async with asyncio.timeout(15):
        while True:
            try:
                await node.publish(stream, *data)
            except BackendError:
                await asyncio.sleep(0.01)
            else:
                return


def offsets(publications: list[Publication]) -> list[int]:
    return [each.position.offset for each in publications if each.position is not None]


# Between nodes


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_every_node_hears_what_any_node_publishes(
    server: RedisServer, limits: Limits | None
) -> None:
    async with redis_node(server, limits) as one, redis_node(server, limits) as other:
        await one.listen([S])
        await other.listen([S])
        await one.publish(S, 1)
        await other.publish(S, 2)
        command = RemoteDisconnect('{"user":"é"}', False)
        await one.pubsub.send((command,))  # type: ignore[misc]
        for node in (one, other):
            await until(lambda node=node: len(node.received) == 3)  # type: ignore[misc]
            assert node.data(S) == ["1", "2"]
            assert node.received[2] == command


@in_loop
async def test_writers_at_both_nodes_are_heard_in_one_order(server: RedisServer) -> None:
    async with redis_node(server) as one, redis_node(server) as other:
        for node in (one, other):
            await node.listen([S, T])

        async def write(node: RedisNode, name: str) -> None:
            for number in range(50):
                await node.publish(S, f"{name} {number}")
                await node.publish(T, f"{name} {number}", "more")

        await asyncio.gather(*(write(n, f"{n is one}{w}") for n in (one, other) for w in range(5)))
        for stream, count in ((S, 500), (T, 1000)):
            for node in (one, other):
                await until(lambda n=node, s=stream, c=count: len(n.heard(s)) == c)  # type: ignore[misc]
            assert one.heard(stream) == other.heard(stream)
            assert offsets(one.heard(stream)) == list(range(1, count + 1))
        for writer in range(5):
            mine = [each for each in one.data(S) if each.startswith(f"True{writer} ")]
            assert mine == [f"True{writer} {number}" for number in range(50)]
        kept = await other.history.since(S, 0)
        assert list(kept) == one.heard(S)[-100:]


@in_loop
async def test_a_node_receives_the_streams_its_clients_listen_to_and_no_other(
    server: RedisServer,
) -> None:
    async with redis_node(server) as one, redis_node(server) as other:
        counted = count_messages(one)
        await one.listen([S])
        for number in range(50):
            await other.publish(Stream(f"other {number}"), "x")
            await other.publish(Stream("s2"), "x")
            await other.publish(S, number)
        await until(lambda: len(one.heard(S)) == 50)
        assert counted == {b"between:s": 50}
        one.interest.unlisten(S)
        await one.listen([T])
        with redis.Redis(port=server.port) as connection:
            channels = {each for each in connection.pubsub_channels() if b"#" not in each}
        assert channels == {b"between", b"between:t"}


def count_messages(node: RedisNode) -> dict[bytes, int]:
    """Messages that reach the node, by channel, but for canaries."""
    counted: dict[bytes, int] = {}
    hear = node.pubsub._hear

    class Counting(type(node.pubsub)):  # type: ignore[misc]
        __slots__ = ()

        def _hear(self, channel: bytes, content: bytes) -> None:
            if b"#" not in channel:
                counted[channel] = counted.get(channel, 0) + 1
            hear(channel, content)

    node.pubsub.__class__ = Counting
    return counted


@in_loop
async def test_from_the_moment_it_is_live_everything_arrives(server: RedisServer) -> None:
    """However listening and publishing meet: nothing is missing, nothing comes twice."""
    async with redis_node(server) as one, redis_node(server) as other:
        numbers = itertools.count()

        async def write() -> None:
            while True:
                await other.publish(S, next(numbers))

        writer = asyncio.create_task(write())
        for _ in range(20):
            one.received.clear()
            await one.listen([S])
            promised = next(numbers)
            await until(lambda p=promised: any(int(each) > p for each in one.data(S)))  # type: ignore[misc]
            heard = one.heard(S)
            assert offsets(heard) == list(range(offsets(heard)[0], offsets(heard)[0] + len(heard)))
            assert int(heard[0].data) <= promised + 1
            one.interest.unlisten(S)
        writer.cancel()
        await asyncio.wait([writer])


@in_loop
async def test_streams_come_and_go_quickly(server: RedisServer) -> None:
    async with redis_node(server) as node:
        for _ in range(30):
            node.interest.listen(S)
            await asyncio.sleep(0)
            node.interest.unlisten(S)
            node.interest.listen(T)
            node.interest.listen(S)
            node.interest.unlisten(T)
            node.interest.unlisten(S)
        await node.listen([S])
        await node.publish(S, "here")
        await node.publish(T, "not here")
        await node.publish(S, "again")
        await until(lambda: len(node.received) == 2)
        assert node.data(S) == ["here", "again"]


# Outages


@pytest.mark.parametrize("is_kept", [True, False], ids=["data kept", "data lost"])
@in_loop
async def test_a_server_that_is_killed_under_load(
    server: RedisServer, keeping: RedisServer, is_kept: bool
) -> None:
    chosen = keeping if is_kept else server
    limits = msgspec.structs.replace(LIMITS, history_limit=10_000)
    async with redis_node(chosen, limits) as one, redis_node(chosen, limits) as other:
        for node in (one, other):
            await node.listen([S, *(Stream(f"idle {number}") for number in range(100))])
        numbers = itertools.count()
        sent: list[str] = []
        done = asyncio.Event()

        async def write(node: RedisNode) -> None:
            """What fails may have been published or not; the next number follows."""
            while not done.is_set():
                number = str(next(numbers))
                with suppress(BackendError):
                    await node.publish(S, number)
                    sent.append(number)
                await asyncio.sleep(0.001)

        writers = [asyncio.create_task(write(node)) for node in (one, other) for _ in range(3)]
        for outage in range(1, 3):
            before = len(sent)
            await until(lambda n=before: len(sent) > n + 100)  # type: ignore[misc]
            if not is_kept:
                # What is not caught up before the next loss is lost, too.
                newest = sent[-1]
                for node in (one, other):
                    await until(lambda n=node, d=newest: d in n.data(S))  # type: ignore[misc]
            chosen.stop()
            await until(lambda: one.pubsub.trouble is not None)
            await until(lambda: other.pubsub.trouble is not None)
            chosen.start()
            await one.is_up()
            await other.is_up()
            await until(lambda n=outage: one.restored == other.restored == n)  # type: ignore[misc]
        before = len(sent)
        await until(lambda: len(sent) > before + 100)
        done.set()
        await asyncio.wait(writers)
        await eventually(one, S, "last")
        for node in (one, other):
            await until(lambda n=node: n.data(S)[-1:] == ["last"])  # type: ignore[misc]
            assert len(set(node.data(S))) == len(node.data(S)), "nothing came twice"
            by_epoch = [
                offsets(list(some))
                for _, some in itertools.groupby(
                    node.heard(S), lambda each: each.position and each.position.epoch
                )
            ]
            assert len(by_epoch) == 3, "each run of the server is one epoch"
            for each in by_epoch:
                assert each == list(range(1, len(each) + 1))
            if is_kept:
                assert set(sent) <= set(node.data(S)), "what was kept is caught up"
            else:
                # Lost with the server is at most what was published when it was killed.
                assert len(set(sent) - set(node.data(S))) <= 2 * 6
        if is_kept:
            assert one.heard(S) == other.heard(S)
        assert one.counters.pubsub_reconnects_total >= 2


@in_loop
async def test_what_is_published_while_one_node_is_away_is_caught_up(server: RedisServer) -> None:
    async with redis_node(server) as one, redis_node(server) as other:
        streams = [Stream(f"s{number}") for number in range(50)]
        await one.listen(streams)
        for stream in streams[:25]:
            await other.publish(stream, "before")
        await until(lambda: len(one.received) == 25)
        cut_off(server, one)
        await until(lambda: one.pubsub.trouble is not None)
        for number in range(5):
            for stream in streams:
                await other.publish(stream, number)
        await until(lambda: len(one.received) == 275)
        for stream in streams:
            expected = ["before"] * (stream in streams[:25]) + [str(n) for n in range(5)]
            assert one.data(stream) == expected
        await one.is_up()
        await other.publish(streams[0], "after")
        await until(lambda: one.data(streams[0])[-1] == "after")
        assert one.counters.pubsub_gaps_total == 0
        assert one.counters.pubsub_caught_up_total >= 50
        assert one.restored == 1


@in_loop
async def test_what_was_there_before_it_listened_is_not_caught_up(server: RedisServer) -> None:
    async with redis_node(server) as one, redis_node(server) as other:
        await other.publish(S, "before")
        await one.listen([S])
        cut_off(server, one)
        await until(lambda: one.pubsub.trouble is not None)
        await other.publish(S, "meanwhile")
        await one.is_up()
        await other.publish(S, "after")
        await until(lambda: one.data(S)[-1:] == ["after"])
        assert one.data(S) == ["meanwhile", "after"]


@in_loop
async def test_a_new_epoch_does_not_hide_what_was_missed_of_the_old_one(
    server: RedisServer,
) -> None:
    """Its first message comes when the channel is heard again, and before it is asked what is new."""
    async with redis_node(server) as one, redis_node(server) as other:
        await one.listen([S])
        await other.publish(S, "before")
        await until(lambda: one.data(S) == ["before"])

        class Early(type(one.pubsub)):  # type: ignore[misc]
            __slots__ = ()

            async def _tell(self, command: str, channels: list[bytes]) -> None:
                await super()._tell(command, channels)
                if b"between:s" in channels:
                    other.engine.commands.run_id = b"another"
                    await other.publish(S, "new epoch")
                    await until(lambda: "new epoch" in one.data(S) or bool(self._early))

        one.pubsub.__class__ = Early
        cut_off(server, one)
        await until(lambda: one.pubsub.trouble is not None)
        await other.publish(S, "missed")
        await until(lambda: one.data(S)[-1:] == ["new epoch"])
        assert one.data(S) == ["before", "missed", "new epoch"]


def cut_off(server: RedisServer, node: RedisNode) -> None:
    """Breaks the connection that listens, as a network would; its next attempt comes later."""
    assert node.pubsub._connection is not None
    address = node.pubsub._connection._transport.get_extra_info("sockname")
    with redis.Redis(port=server.port) as connection:
        connection.client_kill(f"{address[0]}:{address[1]}")


@in_loop
async def test_who_listens_while_redis_is_away_waits_for_nothing_and_hears_later(
    server: RedisServer,
) -> None:
    server.stop()
    async with AsyncExitStack() as stack:
        node = RedisNode(server)
        await node.start()
        stack.push_async_callback(node.close)
        node.interest.listen(S)
        assert node.interest.when_live([S]) is None
        with pytest.raises(BackendError):
            await node.publish(S, 0)
        assert node.pubsub.trouble is not None
        server.start()
        await node.is_up()
        await node.publish(S, 1)
        await until(lambda: node.data(S) == ["1"])
        assert node.restored == 0, "it was never there before"


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_a_frozen_server_is_noticed_and_forgiven(
    server: RedisServer, limits: Limits | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "catenary.pubsub")
    async with redis_node(server, limits, canary_interval_s=QUICK_S) as node:
        await node.listen([S])
        server.freeze()
        began = time.monotonic()
        try:
            await until(lambda: node.pubsub.trouble is not None)
            assert time.monotonic() - began < 4 * QUICK_S
            assert node.counters.pubsub_canary_lost_total == 1
            assert "did not come back" in (node.pubsub.trouble or "")
        finally:
            server.thaw()
        await node.is_up()
        await eventually(node, S, "thawed")
        await until(lambda: "thawed" in node.data(S))
        assert node.restored == 1
    told = [record.message for record in caplog.records]
    assert [each for each in told if "arrive" in each] == [
        f"Publications do not arrive: what was sent did not come back within {QUICK_S:g} s",
        "Publications arrive again",
    ]


@in_loop
async def test_canaries_come_back_all_the_time(server: RedisServer) -> None:
    async with redis_node(server, canary_interval_s=0.02) as node:
        alive = 0

        def note() -> None:
            nonlocal alive
            alive += 1

        class Noting(type(node.following)):  # type: ignore[misc]
            __slots__ = ()

            def alive(self) -> None:
                note()

        node.following.__class__ = Noting
        await until(lambda: alive > 5)
        assert node.counters.pubsub_canary_lost_total == 0
        assert node.received == []


@in_loop
async def test_a_connection_that_hears_nothing_although_it_is_open(server: RedisServer) -> None:
    """As behind a firewall that has forgotten it: nobody tells either side."""
    async with redis_node(server, canary_interval_s=QUICK_S) as node:
        await node.listen([S])
        assert node.pubsub._connection is not None
        node.pubsub._connection._transport.pause_reading()
        await node.publish(S, "missed")
        await until(lambda: node.counters.pubsub_canary_lost_total == 1)
        await until(lambda: node.data(S) == ["missed"])
        assert node.restored == 1


@in_loop
async def test_a_redis_that_hangs_while_it_is_connected_to(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listening fails, and then connecting runs into its time limit, in the same service."""
    monkeypatch.setattr("catenary.adapters.redis.connection.CONNECT_TIMEOUT_S", QUICK_S)
    monkeypatch.setattr("catenary.adapters.redis.commands.PATIENCE_S", QUICK_S)
    async with redis_node(server, canary_interval_s=QUICK_S) as node:
        await node.listen([S])
        server.freeze()
        try:
            await until(lambda: node.counters.pubsub_reconnects_total >= 3)
        finally:
            server.thaw()
        await node.is_up()
        await eventually(node, S, "again")
        await until(lambda: node.data(S) == ["again"])
        assert node.counters.service_failures_total == 0


@pytest.mark.parametrize("name", ["Redis pub/sub", "Redis commands"])
@in_loop
async def test_a_task_that_is_cancelled_by_mistake_is_restarted(
    server: RedisServer, name: str
) -> None:
    async with redis_node(server) as node:
        await node.listen([S])
        for task in asyncio.all_tasks():
            if task.get_name() == name:
                task.cancel()
        await until(lambda: node.pubsub.trouble is not None)
        await node.is_up()
        await eventually(node, S, "again")
        await until(lambda: node.data(S) == ["again"])
        assert node.counters.service_failures_total == 1


# Bounds


@in_loop
async def test_deliveries_that_lag_behind_are_waited_for(server: RedisServer) -> None:
    async with redis_node(server, canary_interval_s=QUICK_S) as node:
        await node.listen([S])
        patience: list[asyncio.Future[None]] = []

        def caught_up() -> "asyncio.Future[None] | None":
            if len(node.received) < 10 or len(node.received) > 10_000:
                return None
            if not patience:
                patience.append(asyncio.get_running_loop().create_future())
            return patience[0]

        node.pubsub._caught_up = caught_up
        big = "x" * 1_000
        for _ in range(100):
            await node.publish(S, *([big] * 100))
        await until(lambda: bool(patience))
        read = len(node.received)
        assert 10 <= read < 5_000
        # Nobody takes that for a dead connection.
        await asyncio.sleep(3 * QUICK_S)
        assert len(node.received) == read
        assert node.counters.pubsub_canary_lost_total == 0
        node.pubsub._caught_up = lambda: None
        patience[0].set_result(None)
        await until(lambda: len(node.received) == 10_000)
        assert node.pubsub.trouble is None


@in_loop
async def test_messages_of_strangers_cost_nobody_anything(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis_node(server) as node:
        await node.listen([S])
        with redis.Redis(port=server.port) as connection:
            for raw in (b"", b"x", b"a b c", b"  \xff", b"e 1 \x94", b"e x \x94\xa0\xc0\xa0\xc2"):
                assert connection.publish("between:s", raw) == 1
                assert connection.publish("between", raw) == 1
        await node.publish(S, "good")
        await until(lambda: node.data(S) == ["good"])
        assert len(node.received) == 1
        assert node.restored == 0
    assert caplog.text.count("Not from a node") == 12


@in_loop
async def test_ten_thousand_streams_in_less_than_two_seconds(server: RedisServer) -> None:
    async with redis_node(server) as node:
        streams = [Stream(f"stream {number}") for number in range(10_000)]
        began = time.process_time()  # of the machine's other work, a test knows nothing
        await node.listen(streams)
        assert time.process_time() - began < 2
        with redis.Redis(port=server.port) as connection:
            assert len(connection.pubsub_channels()) == 10_002
        await node.publish(streams[-1], "x")
        await until(lambda: node.data(streams[-1]) == ["x"])


@pytest.mark.parametrize(("limits", "floor"), [(None, 4_000), (LIMITS, 2_000)])
@in_loop
async def test_thousands_of_messages_a_second(
    server: RedisServer, limits: Limits | None, floor: int
) -> None:
    """The floor is a fifth of what one busy core carries: a change of kind shows, a busy day not."""
    async with redis_node(server, limits) as node:
        streams = [Stream(f"s{number}") for number in range(10)]
        await node.listen(streams)
        batch = tuple(Publication(streams[n % 10], '{"text":"Hello"}') for n in range(100))
        began = time.perf_counter()
        for _ in range(100):
            sent = node.pubsub.send(batch)
            assert sent is not None
            await sent
        await until(lambda: len(node.received) == 10_000)
        assert 10_000 / (time.perf_counter() - began) > floor


# In transit


@pytest.mark.parametrize("position", [None, Position("e1f0", 2**40)])
@pytest.mark.parametrize(
    "publication",
    [
        Publication(S, ""),
        Publication(S, ' \x00{"é": 1}\n', Sid("sid 1"), "whisper", True),
    ],
)
def test_a_publication_in_transit(publication: Publication, position: Position | None) -> None:
    placed = msgspec.structs.replace(publication, position=position)
    head = payload.NOWHERE if position is None else f"{position.epoch} {position.offset} ".encode()
    assert payload.unpack(S, head + payload.pack(placed)) == placed


@pytest.mark.parametrize("raw", [b"", b" ", b"  ", b"  \xc0", b"e x \x94", b"\xff 1 \x94"])
def test_what_is_no_publication(raw: bytes) -> None:
    with pytest.raises(ValueError):
        payload.unpack(S, raw)
    with pytest.raises(ValueError):
        packing.unpack_command(raw)
