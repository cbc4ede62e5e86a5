"""Publications between nodes by way of NATS: outages, bounds, load."""

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import msgspec
import pytest

from catenary.adapters.nats import wire
from catenary.adapters.nats.connection import Connection, connect
from catenary.adapters.nats.payload import pack
from catenary.adapters.nats.subjects import token
from catenary.broker.limits import Limits
from catenary.config.addresses import server_address
from catenary.errors import BackendError
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, RemoteDisconnect
from tests.parts.heart import in_loop
from tests.parts.nats_node import (
    LIMITS,
    JetStreamServer,
    NatsNode,
    jetstream_server,
    nats_node,
    until,
)

S, T = Stream("s"), Stream("t")
QUICK_S = 0.3
"""Between canaries."""


@pytest.fixture
def server() -> Iterator[JetStreamServer]:
    with jetstream_server() as running:
        yield running


async def eventually(node: NatsNode, stream: Stream, *data: object) -> None:
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


async def stranger(server: JetStreamServer) -> Connection:
    """Somebody else on the same server."""
    return await connect(server_address(server.url))


def break_off(node: NatsNode) -> None:
    """Breaks the connection as a network would."""
    connection = node.engine.connection
    assert connection._transport is not None
    connection._transport.abort()


# Between nodes


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_every_node_hears_what_any_node_publishes(
    server: JetStreamServer, limits: Limits | None
) -> None:
    async with nats_node(server, limits) as one, nats_node(server, limits) as other:
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
async def test_writers_at_both_nodes_are_heard_in_one_order(server: JetStreamServer) -> None:
    async with nats_node(server) as one, nats_node(server) as other:
        for node in (one, other):
            await node.listen([S, T])

        async def write(node: NatsNode, name: str) -> None:
            for number in range(50):
                await node.publish(S, f"{name} {number}")
                await node.publish(T, f"{name} {number}", "more")

        await asyncio.gather(*(write(n, f"{n is one}{w}") for n in (one, other) for w in range(5)))
        for stream, count in ((S, 500), (T, 1000)):
            for node in (one, other):
                await until(lambda n=node, s=stream, c=count: len(n.heard(s)) == c)  # type: ignore[misc]
            assert one.heard(stream) == other.heard(stream)
            assert offsets(one.heard(stream)) == sorted(set(offsets(one.heard(stream))))
        for writer in range(5):
            mine = [each for each in one.data(S) if each.startswith(f"True{writer} ")]
            assert mine == [f"True{writer} {number}" for number in range(50)]
        kept = await other.history.since(S, 0)
        assert list(kept) == one.heard(S)[-100:]
        assert one.counters.pubsub_caught_up_total == 0, "no gaps are seen where there are none"


@in_loop
async def test_what_is_kept_and_what_is_not_are_heard_in_the_order_of_the_calls(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as node:
        await node.listen([S, T])
        sent = []
        for number in range(300):
            stream = S if number % 5 else T
            publication = Publication(stream, str(number), transient=number % 3 == 0)
            sent.append(node.pubsub.send((publication,)))
        sent.append(node.pubsub.send((RemoteDisconnect("last", False),)))
        for each in sent:
            assert each is not None
            await each
        await until(lambda: len(node.received) == 301)
        for stream in (S, T):
            numbers = [int(each) for each in node.data(stream)]
            assert numbers == [n for n in range(300) if (S if n % 5 else T) == stream]
        assert node.received[-1] == RemoteDisconnect("last", False)


@in_loop
async def test_a_node_receives_the_streams_its_clients_listen_to_and_no_other(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as one, nats_node(server) as other:
        counted: dict[bytes, int] = {}
        take = one.engine.connection._reader._take

        def count(number: int, subject: bytes, headers: bytes, payload: bytes) -> None:
            if subject.startswith(b"test.between.p."):
                counted[subject] = counted.get(subject, 0) + 1
            take(number, subject, headers, payload)

        one.engine.connection._reader._take = count
        await one.listen([S])
        for number in range(50):
            await other.publish(Stream(f"other {number}"), "x")
            await other.publish(Stream("s2"), "x")
            await other.publish(S, number)
        await until(lambda: len(one.heard(S)) == 50)
        one.interest.unlisten(S)
        await one.listen([T])
        await other.publish(S, "not heard")
        await other.publish(T, "heard")
        await until(lambda: one.data(T) == ["heard"])
        epoch = one.engine.kept().epoch
        assert counted == {
            f"test.between.p.{epoch}.{token(S)}".encode(): 50,
            f"test.between.p.{epoch}.{token(T)}".encode(): 1,
        }


@in_loop
async def test_from_the_moment_it_is_live_everything_arrives(server: JetStreamServer) -> None:
    """However listening and publishing meet: nothing is missing, nothing comes twice."""
    async with nats_node(server) as one, nats_node(server) as other:
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
            heard = [int(each) for each in one.data(S)]
            # ``next`` above has taken a number away.
            expected = [n for n in range(heard[0], heard[-1] + 1) if n != promised]
            assert heard == expected
            assert heard[0] <= promised + 1
            one.interest.unlisten(S)
        writer.cancel()
        await asyncio.wait([writer])


@in_loop
async def test_streams_come_and_go_quickly(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
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
        assert len(node.engine.connection._hears) == 4, "answers, commands, canary, one stream"


@in_loop
async def test_names_that_a_subject_does_not_take(server: JetStreamServer) -> None:
    names = ["", " ", "*", ">", "a.b", "a b\r\nPUB x 0", "é\x00", "x" * 5_000, "x" * 5_001]
    streams = [Stream(name) for name in names]
    async with nats_node(server) as node:
        await node.listen(streams)
        for number, stream in enumerate(streams):
            await node.publish(stream, number)
        for number, stream in enumerate(streams):
            await until(lambda n=number, s=stream: node.data(s) == [str(n)])  # type: ignore[misc]
            assert await node.history.since(stream, 0) == tuple(node.heard(stream))


# Outages


@pytest.mark.parametrize("is_kept", [True, False], ids=["data kept", "data lost"])
@in_loop
async def test_a_server_that_is_killed_under_load(server: JetStreamServer, is_kept: bool) -> None:
    limits = msgspec.structs.replace(LIMITS, history_limit=10_000)
    async with nats_node(server, limits) as one, nats_node(server, limits) as other:
        for node in (one, other):
            await node.listen([S, *(Stream(f"idle {number}") for number in range(100))])
        numbers = itertools.count()
        sent: list[str] = []
        done = asyncio.Event()

        async def write(node: NatsNode) -> None:
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
            server.stop()
            await until(lambda: one.pubsub.trouble is not None)
            await until(lambda: other.pubsub.trouble is not None)
            if not is_kept:
                server.forget()
            server.start()
            await until(lambda n=outage: one.restored == other.restored == n)  # type: ignore[misc]
        before = len(sent)
        await until(lambda: len(sent) > before + 100)
        done.set()
        await asyncio.wait(writers)
        await eventually(one, S, "last")
        for node in (one, other):
            await until(lambda n=node: n.data(S)[-1:] == ["last"])  # type: ignore[misc]
            assert len(set(node.data(S))) == len(node.data(S)), "nothing came twice"
            epochs = [each.position and each.position.epoch for each in node.heard(S)]
            assert len(list(itertools.groupby(epochs))) == (1 if is_kept else 3)
            for _, some in itertools.groupby(
                node.heard(S), lambda each: each.position and each.position.epoch
            ):
                found = offsets(list(some))
                assert found == list(range(found[0], found[0] + len(found)))
            if is_kept:
                assert set(sent) <= set(node.data(S)), "what was kept is caught up"
            else:
                # Lost with the server is at most what was published when it was killed.
                assert len(set(sent) - set(node.data(S))) <= 2 * 6
        if is_kept:
            assert one.heard(S) == other.heard(S)
        assert one.counters.pubsub_reconnects_total >= 2


@in_loop
async def test_what_is_published_while_one_node_is_away_is_caught_up(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as one, nats_node(server) as other:
        streams = [Stream(f"s{number}") for number in range(50)]
        await one.listen(streams)
        for stream in streams[:25]:
            await other.publish(stream, "before")
        await until(lambda: len(one.received) == 25)
        break_off(one)
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
        assert one.counters.pubsub_caught_up_total > 0
        assert one.restored == 1


@in_loop
async def test_who_listens_while_nats_is_away_waits_for_nothing_and_hears_later(
    server: JetStreamServer,
) -> None:
    server.stop()
    async with AsyncExitStack() as stack:
        node = NatsNode(server)
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
    server: JetStreamServer, limits: Limits | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "catenary.pubsub")
    async with nats_node(server, limits, canary_interval_s=QUICK_S) as node:
        await node.listen([S])
        server.freeze()
        began = time.monotonic()
        try:
            await until(lambda: node.pubsub.trouble is not None)
            assert time.monotonic() - began < 4 * QUICK_S
            assert node.counters.pubsub_canary_lost_total == 1
            assert "has not come back" in (node.pubsub.trouble or "")
        finally:
            server.thaw()
        await node.is_up()
        await eventually(node, S, "thawed")
        await until(lambda: "thawed" in node.data(S))
        assert node.restored == 1
    told = [record.message for record in caplog.records]
    assert [each for each in told if "arrive" in each] == [
        "Publications do not arrive: what this node sends to itself has not come back within "
        f"{QUICK_S:g} s",
        "Publications arrive again",
    ]


@in_loop
async def test_a_connection_that_hears_nothing_although_it_is_open(server: JetStreamServer) -> None:
    """As behind a firewall that has forgotten it: nobody tells either side."""
    async with (
        nats_node(server, canary_interval_s=QUICK_S) as node,
        nats_node(server) as other,
    ):
        await node.listen([S])
        assert node.engine.connection._transport is not None
        node.engine.connection._transport.pause_reading()
        await other.publish(S, "missed")
        await until(lambda: node.counters.pubsub_canary_lost_total == 1)
        await until(lambda: node.data(S) == ["missed"])
        await until(lambda: node.restored == 1)


@in_loop
async def test_a_stream_of_jetstream_that_somebody_deletes_is_made_anew(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as one, nats_node(server) as other:
        for node in (one, other):
            await node.listen([S])
        await one.publish(S, 1)
        await until(lambda: one.data(S) == other.data(S) == ["1"])
        epoch = one.engine.kept().epoch
        somebody = await stranger(server)
        await somebody.ask(f"$JS.API.STREAM.DELETE.{one.engine.kept().name}")
        await somebody.close(1)
        with pytest.raises(BackendError, match="no such stream"):
            await one.publish(S, "nobody keeps it")
        for node in (one, other):
            await eventually(node, S, "kept")
        for node in (one, other):
            await until(lambda n=node: n.data(S) == ["1", "kept", "kept"])  # type: ignore[misc]
            await until(lambda n=node: n.restored == 1)  # type: ignore[misc]
            assert node.engine.kept().epoch != epoch
        assert one.heard(S) == other.heard(S)


@pytest.mark.parametrize("name", ["NATS pub/sub", "NATS between nodes"])
@in_loop
async def test_a_task_that_is_cancelled_by_mistake_is_restarted(
    server: JetStreamServer, name: str
) -> None:
    """And nothing of the run before is left that would deliver a second time."""
    async with nats_node(server) as node:
        await node.listen([S])
        for task in asyncio.all_tasks():
            if task.get_name() == name:
                task.cancel()
        await until(lambda: node.counters.service_failures_total == 1)
        await until(lambda: node.restored == 1)
        await node.is_up()
        other = await stranger(server)
        other.publish(node.engine.subjects.passing(S), pack(Publication(S, "passing")))
        await other.flushed()
        await until(lambda: bool(node.data(S)))
        await eventually(node, S, "kept")
        await until(lambda: "kept" in node.data(S))
        await other.close(1)
        assert node.data(S) == ["passing", "kept"]
        assert node.counters.service_failures_total == 1


# Bounds


@in_loop
async def test_deliveries_that_lag_behind_are_waited_for(server: JetStreamServer) -> None:
    async with (
        nats_node(server, canary_interval_s=QUICK_S) as node,
        nats_node(server) as other,
    ):
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
            await other.publish(S, *([big] * 100))
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
async def test_what_is_too_long_is_refused_alone(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        await node.listen([S])
        for transient in (True, False):
            sent = node.pubsub.send((Publication(S, "x" * 1_100_000, transient=transient),))
            assert sent is not None
            with pytest.raises(BackendError, match="max_payload"):
                await sent
        await node.publish(S, "y" * 1_000_000)
        await until(lambda: len(node.received) == 1)
        assert node.restored == 0


@in_loop
async def test_messages_of_strangers_cost_nobody_anything(
    server: JetStreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with nats_node(server) as node:
        await node.listen([S])
        somebody = await stranger(server)
        epoch = node.engine.kept().epoch
        for raw in (b"", b"x", b"\x94", b"\x95\xa1s\xa0\xc0\xa0\xa0"):
            for subject in (f"p.0.{token(S)}", f"h.{epoch}.{token(S)}", "c"):
                somebody.publish(f"test.between.{subject}", raw)
        somebody.publish(
            f"test.between.p.{epoch}.{token(S)}", b"", wire.header("Nats-Sequence", "é")
        )
        await somebody.flushed()
        await node.publish(S, "good")
        await until(lambda: node.data(S) == ["good"])
        assert await node.history.since(S, 0) == tuple(node.received)
        await somebody.close(1)
        assert node.restored == 0
    assert caplog.text.count("is no publication") >= 8
    assert caplog.text.count("is no command") == 4


@in_loop
async def test_ten_thousand_streams_in_less_than_two_seconds(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        streams = [Stream(f"stream {number}") for number in range(10_000)]
        began = time.perf_counter()
        await node.listen(streams)
        assert time.perf_counter() - began < 2
        await node.publish(streams[-1], "x")
        await until(lambda: node.data(streams[-1]) == ["x"])
        break_off(node)
        await until(lambda: node.restored == 1)
        await node.publish(streams[-1], "y")
        await until(lambda: node.data(streams[-1]) == ["x", "y"])


@pytest.mark.parametrize(("limits", "floor"), [(None, 4_000), (LIMITS, 1_600)])
@in_loop
async def test_thousands_of_messages_a_second(
    server: JetStreamServer, limits: Limits | None, floor: int
) -> None:
    """The floor is a fifth of what one busy core carries: a change of kind shows, a busy day not."""
    async with nats_node(server, limits) as node:
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
