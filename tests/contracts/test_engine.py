"""The contract of an engine: the promises of several nodes on one server to their clients and publishers.

One port at a time: ``test_pubsub.py``, ``test_history.py``, ``test_session_cache.py``, ``test_presence.py``. This
suite is about the ports together, when servers die or hang, connections break, and much is published.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import msgspec
import pytest

from catenary.broker.limits import Limits
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from catenary.messages.publications import Publication, RemoteDisconnect
from catenary.ports import PEER_BYTES
from tests.contracts.brokers import answer
from tests.contracts.engines import ENGINES, Engine, EngineNode, MemoryNode, OneNode
from tests.parts.heart import in_loop
from tests.parts.nats_node import until
from tests.parts.ports import free_port
from tests.parts.redis_node import LIMITS
from tests.parts.rough_proxy import RoughProxy, rough_proxy
from tests.parts.tcp_relay import TcpRelay, tcp_relay

S, T = Stream("s"), Stream("t")
ONE, TWO, ROSE = Sid("1 é"), Sid("2"), Sid("of rose")
QUICK_S = 0.3
"""Between canaries."""


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


async def eventually(node: EngineNode, stream: Stream, *data: object) -> None:
    """Publishes for as long as that fails."""
    async with asyncio.timeout(15):
        while True:
            try:
                await node.publish(stream, *data)
            except BackendError:
                await asyncio.sleep(0.01)
            else:
                return


async def refusal(node: EngineNode, *publications: Publication) -> BackendError:
    sent = node.pubsub.send(publications)
    assert sent is not None
    with pytest.raises(BackendError) as caught:
        await sent
    return caught.value


def offsets(publications: list[Publication]) -> list[int]:
    return [each.position.offset for each in publications if each.position is not None]


def epochs(publications: list[Publication]) -> list[str]:
    """In their order, each run of equal ones once."""
    found = [each.position.epoch for each in publications if each.position is not None]
    return [epoch for epoch, _ in itertools.groupby(found)]


@asynccontextmanager
async def two_nodes(
    engine: Engine, limits: Limits | None = LIMITS
) -> AsyncIterator[tuple[EngineNode, EngineNode]]:
    async with (
        engine.server(True) as server,
        engine.node(server, limits) as one,
        engine.node(server, limits) as other,
    ):
        yield one, other


@pytest.fixture(params=[name for name, engine in ENGINES.items() if engine.has_links])
def linked(request: pytest.FixtureRequest) -> Engine:
    """An engine whose nodes a proxy can separate from the server."""
    return ENGINES[request.param]


@asynccontextmanager
async def behind_a_relay(engine: Engine) -> AsyncIterator[tuple[EngineNode, EngineNode, TcpRelay]]:
    """Two nodes, and a relay to the server that the first of them uses alone."""
    async with engine.server(True) as server:
        with tcp_relay(server.port) as relay:
            async with (
                engine.node(server, port=relay.port) as one,
                engine.node(server) as other,
            ):
                yield one, other, relay


@contextmanager
def unreachable(relay: TcpRelay) -> Iterator[None]:
    """Connections break, and new ones are refused."""
    server_port = relay.target_port
    relay.aim(free_port())
    relay.cut()
    try:
        yield
    finally:
        relay.aim(server_port)


@contextmanager
def silent(proxy: RoughProxy) -> Iterator[None]:
    """Connections stay open, and nothing from the server arrives."""
    proxy.rough.is_silent_down = True
    try:
        yield
    finally:
        proxy.rough.is_silent_down = False


# One order, for a node that is alone, too


@asynccontextmanager
async def any_node(name: str) -> AsyncIterator[OneNode]:
    if name == "memory":
        yield MemoryNode()
        return
    async with ENGINES[name].server(True) as server, ENGINES[name].node(server) as node:
        yield node


@pytest.mark.parametrize("name", ["memory", *ENGINES])
@in_loop
async def test_stored_and_transient_publications_arrive_in_the_order_of_the_calls(
    name: str,
) -> None:
    async with any_node(name) as node:
        await node.listen([S, T])
        sent = []
        for number in range(300):
            stream = S if number % 5 else T
            publication = Publication(stream, str(number), transient=number % 3 == 0)
            sent.append(node.pubsub.send((publication,)))
        sent.append(node.pubsub.send((RemoteDisconnect("last", False),)))
        for each in sent:
            if each is not None:
                await each
        await until(lambda: len(node.received) == 301)
        for stream in (S, T):
            numbers = [int(each) for each in node.data(stream)]
            assert numbers == [n for n in range(300) if (S if n % 5 else T) == stream]
        assert node.received[-1] == RemoteDisconnect("last", False)


@pytest.mark.parametrize("name", ["memory", *ENGINES])
@in_loop
async def test_the_history_is_the_end_of_what_arrived_and_no_longer_than_its_limit(
    name: str,
) -> None:
    async with any_node(name) as node:
        await node.listen([S])
        for start in range(0, 250, 50):
            await node.publish(S, *range(start, start + 50))
        await until(lambda: len(node.received) == 250)
        stored = await answer(node.history.since(S, 0))
        assert list(stored) == node.heard(S)[-LIMITS.history_limit :]


@in_loop
async def test_a_message_to_a_node_reaches_that_node_in_order(engine: Engine) -> None:
    heard: dict[str, list[bytes]] = {"one": [], "other": []}
    async with two_nodes(engine, None) as (one, other):
        one.pubsub.on_message, other.pubsub.on_message = heard["one"].append, heard["other"].append
        assert one.pubsub.node != other.pubsub.node
        sent = [b"%d" % number for number in range(200)]
        sent += [bytes(range(256)), b"", b"x" * PEER_BYTES, b"last"]
        one.pubsub.send_to("0123456789abcdef", b"to nobody")
        for each in sent:
            one.pubsub.send_to(other.pubsub.node, each)
        await until(lambda: heard["other"][-1:] == [b"last"])
        other.pubsub.send_to(one.pubsub.node, b"back")
        await until(lambda: heard["one"] == [b"back"])
        assert heard["other"] == sent
    one.pubsub.send_to(other.pubsub.node, b"to one that is gone")


@in_loop
async def test_every_node_receives_what_any_node_publishes(engine: Engine) -> None:
    for limits in (None, LIMITS):
        async with two_nodes(engine, limits) as (one, other):
            await one.listen([S])
            await other.listen([S])
            await one.publish(S, 1)
            await other.publish(S, 2)
            command = RemoteDisconnect('{"user":"é"}', False)
            await answer(one.pubsub.send((command,)))
            for node in (one, other):
                await until(lambda node=node: len(node.received) == 3)  # type: ignore[misc]
                assert node.data(S) == ["1", "2"]
                where = node.received[2:] if engine.has_one_order else node.received
                assert command in where


@in_loop
async def test_publishers_at_both_nodes_are_received_in_one_order(engine: Engine) -> None:
    async with two_nodes(engine) as (one, other):
        for node in (one, other):
            await node.listen([S, T])

        async def write(node: EngineNode, name: str) -> None:
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
        stored = await answer(other.history.since(S, 0))
        assert list(stored) == one.heard(S)[-100:]
        assert one.counters.pubsub_caught_up_total == 0, "no gaps are seen where there are none"


@in_loop
async def test_from_the_moment_it_is_live_everything_arrives(engine: Engine) -> None:
    """However listening and publishing meet: nothing is missing, nothing comes twice."""
    async with two_nodes(engine) as (one, other):
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
            received = [int(each) for each in one.data(S)]
            # ``next`` above has taken a number away.
            assert received == [n for n in range(received[0], received[-1] + 1) if n != promised]
            assert received[0] <= promised + 1
            one.interest.unlisten(S)
        writer.cancel()
        await asyncio.wait([writer])


@in_loop
async def test_streams_come_and_go_quickly(engine: Engine) -> None:
    async with engine.server(True) as server, engine.node(server) as node:
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


@pytest.mark.parametrize("keeps", [True, False], ids=["data kept", "data lost"])
@in_loop
async def test_a_server_that_is_killed_under_load(engine: Engine, keeps: bool) -> None:
    limits = msgspec.structs.replace(LIMITS, history_limit=10_000)
    async with (
        engine.server(keeps) as server,
        engine.node(server, limits) as one,
        engine.node(server, limits) as other,
    ):
        for node in (one, other):
            await node.listen([S, *(Stream(f"idle {number}") for number in range(100))])
        numbers = itertools.count()
        sent: list[str] = []
        done = asyncio.Event()

        async def write(node: EngineNode) -> None:
            """A number whose publication fails may have been published or not; the next number follows."""
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
            if not keeps:
                # A message that a node has not caught up with before the next loss is lost, too.
                newest = sent[-1]
                for node in (one, other):
                    await until(lambda n=node, d=newest: d in n.data(S))  # type: ignore[misc]
            await server.kill()
            await until(lambda: one.pubsub.trouble is not None)
            await until(lambda: other.pubsub.trouble is not None)
            await server.start()
            await until(lambda n=outage: one.restored == other.restored == n)  # type: ignore[misc]
        before = len(sent)
        await until(lambda: len(sent) > before + 100)
        done.set()
        await asyncio.wait(writers)
        await eventually(one, S, "last")
        for node in (one, other):
            await until(lambda n=node: n.data(S)[-1:] == ["last"])  # type: ignore[misc]
            assert len(set(node.data(S))) == len(node.data(S)), "nothing came twice"
            for epoch in epochs(node.heard(S)):
                mine = [
                    each for each in node.heard(S) if each.position and each.position.epoch == epoch
                ]
                found = offsets(mine)
                assert found == list(range(found[0], found[0] + len(found)))
            if keeps:
                assert set(sent) <= set(node.data(S)), "what was kept is caught up"
            else:
                assert len(epochs(node.heard(S))) == 3, (
                    "a server that lost its data begins an epoch"
                )
                # The server loses at most the publications that were under way when it was killed.
                assert len(set(sent) - set(node.data(S))) <= 2 * 6
        if keeps:
            assert one.heard(S) == other.heard(S)
        assert one.counters.pubsub_reconnects_total >= 2


@in_loop
async def test_what_is_published_while_one_node_is_away_is_caught_up(linked: Engine) -> None:
    async with behind_a_relay(linked) as (one, other, relay):
        streams = [Stream(f"s{number}") for number in range(50)]
        await other.publish(streams[30], "before it listened")
        await one.listen(streams)
        for stream in streams[:25]:
            await other.publish(stream, "before")
        await until(lambda: len(one.received) == 25)
        with unreachable(relay):
            await until(lambda: one.pubsub.trouble is not None)
            for number in range(5):
                for stream in streams:
                    await other.publish(stream, number)
        # No later message reveals the gap.
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
async def test_a_node_that_starts_while_the_server_is_away_receives_later(engine: Engine) -> None:
    async with engine.server(True) as server:
        await server.kill()
        node = engine.build(server, LIMITS, 3, None)
        await node.start()
        try:
            node.interest.listen(S)
            assert node.interest.when_live([S]) is None
            with pytest.raises(BackendError):
                await node.publish(S, 0)
            assert node.pubsub.trouble is not None
            await server.start()
            await node.is_up()
            await eventually(node, S, 1)
            await until(lambda: node.data(S) == ["1"])
            assert node.restored == 0, "it was never there before"
        finally:
            await node.close()


@in_loop
async def test_the_way_through_the_server_is_measured(engine: Engine) -> None:
    async with engine.server(False) as server, engine.node(server, canary_interval_s=0.02) as node:
        canaries = node.counters.pubsub_canary_seconds
        await until(lambda: canaries.read().count > 2)
        assert 0 < canaries.read().sum < 10
        assert node.received == []


@in_loop
async def test_a_frozen_server_is_noticed_and_logged_once(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        engine.server(True) as server,
        engine.node(server, canary_interval_s=QUICK_S) as node,
    ):
        await node.listen([S])
        caplog.set_level(logging.INFO, "catenary.pubsub")
        caplog.clear()  # a machine that is busy may have connected at the second attempt
        server.freeze()
        began = time.monotonic()
        try:
            await until(lambda: node.pubsub.trouble is not None)
            assert time.monotonic() - began < 4 * QUICK_S
            assert node.counters.pubsub_canary_lost_total == 1
        finally:
            server.thaw()
        await node.is_up()
        await eventually(node, S, "thawed")
        await until(lambda: "thawed" in node.data(S))
        assert node.restored == 1
        logged = [each for each in caplog.records if each.name == "catenary.pubsub"]
        assert logged[0].levelno == logging.WARNING
        assert len(logged) == 2, "that it is away, and that it is back"


@in_loop
async def test_a_connection_on_which_nothing_arrives_is_replaced(linked: Engine) -> None:
    """A firewall that has forgotten a connection reports nothing to either side."""
    async with linked.server(True) as server, linked.node(server) as other:
        with rough_proxy(server.port) as proxy:
            async with linked.node(server, port=proxy.port, canary_interval_s=QUICK_S) as node:
                await node.listen([S])
                with silent(proxy):
                    await other.publish(S, "missed")
                    await until(lambda: node.counters.pubsub_canary_lost_total == 1)
                await until(lambda: node.data(S) == ["missed"])
                await until(lambda: node.restored == 1)


@in_loop
async def test_a_task_that_is_cancelled_by_mistake_is_restarted(engine: Engine) -> None:
    """And nothing of the run before is left that would deliver a second time."""
    async with engine.server(True) as server, engine.node(server) as node:
        await node.listen([S])
        names = [each.name for each in node.supervisor.services]
        assert names
        for failures, name in enumerate(names, 1):
            for task in asyncio.all_tasks():
                if task.get_name() == name:
                    task.cancel()
            await until(lambda n=failures: node.counters.service_failures_total == n)  # type: ignore[misc]
            await node.is_up()
            await eventually(node, S, name)
            await until(lambda n=name: n in node.data(S))  # type: ignore[misc]
        assert node.data(S) == names
        assert node.counters.service_failures_total == len(names)


# Refusals


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_a_refusal_that_a_repetition_cannot_change_is_told_from_an_outage(
    engine: Engine, limits: Limits | None
) -> None:
    async with engine.server(True) as server, engine.node(server, limits) as node:
        await node.listen([S, T])
        large = "x" * 1_100_000
        small, transient = Publication(S, "1"), Publication(T, large, transient=True)
        assert isinstance(await refusal(node, Publication(T, large)), TooLarge)
        assert isinstance(await refusal(node, transient), TooLarge)
        for middle in (Publication(T, large), transient):
            assert isinstance(await refusal(node, small, middle, small), TooLarge)
        await node.publish(S, "y" * 1_000_000)
        await until(lambda: len(node.received) == 1)
        assert node.restored == 0
        await server.kill()
        await until(lambda: node.pubsub.trouble is not None)
        assert not isinstance(await refusal(node, small), BackendRefused)


# Bounds


@in_loop
async def test_the_server_is_read_no_faster_than_deliveries_go_out(engine: Engine) -> None:
    async with (
        engine.server(True) as server,
        engine.node(server, canary_interval_s=1) as node,
        engine.node(server) as other,
    ):
        await node.listen([S])
        patience: list[asyncio.Future[None]] = []

        def caught_up() -> "asyncio.Future[None] | None":
            if len(node.received) < 10 or len(node.received) > 10_000:
                return None
            if not patience:
                patience.append(asyncio.get_running_loop().create_future())
            return patience[0]

        node.pubsub._caught_up = caught_up  # type: ignore[attr-defined]
        big = "x" * 1_000
        for _ in range(100):
            await other.publish(S, *([big] * 100))
        await until(lambda: bool(patience))
        read = len(node.received)
        assert 10 <= read < 5_000
        # The next canary is sent within one second, and would be missed after another.
        await asyncio.sleep(2.5)
        assert len(node.received) == read
        assert node.counters.pubsub_canary_lost_total == 0
        node.pubsub._caught_up = lambda: None  # type: ignore[attr-defined]
        patience[0].set_result(None)
        await until(lambda: len(node.received) == 10_000)
        assert node.pubsub.trouble is None


@in_loop
async def test_ten_thousand_streams_in_less_than_two_seconds(linked: Engine) -> None:
    async with behind_a_relay(linked) as (node, _, relay):
        streams = [Stream(f"stream {number}") for number in range(10_000)]
        began = time.process_time()  # other work on the machine does not count
        await node.listen(streams)
        assert time.process_time() - began < 2
        await node.publish(streams[-1], "x")
        await until(lambda: node.data(streams[-1]) == ["x"])
        relay.cut()
        await until(lambda: node.restored == 1)
        await eventually(node, streams[-1], "y")
        await until(lambda: node.data(streams[-1]) == ["x", "y"])


@pytest.mark.parametrize(("limits", "floor"), [(None, 4_000), (LIMITS, 1_600)])
@in_loop
async def test_thousands_of_messages_a_second(
    engine: Engine, limits: Limits | None, floor: int
) -> None:
    """The floor is a fifth of the rate of one core: only a change of the mechanism fails it, not a busy machine."""
    async with engine.server(True) as server, engine.node(server, limits) as node:
        streams = [Stream(f"s{number}") for number in range(10)]
        await node.listen(streams)
        batch = tuple(Publication(streams[n % 10], '{"text":"Hello"}') for n in range(100))
        began = time.perf_counter()
        for _ in range(100):
            await answer(node.pubsub.send(batch))
        await until(lambda: len(node.received) == 10_000)
        assert 10_000 / (time.perf_counter() - began) > floor


# Sessions and members of several nodes


@in_loop
async def test_one_of_two_nodes_takes_a_session(engine: Engine) -> None:
    async with two_nodes(engine) as (one, other):
        for number in range(20):
            sid = Sid(f"é \x00{number}")
            await answer(one.sessions.save(sid, b"%d" % number))
            taken = await asyncio.gather(
                answer(one.sessions.take(sid)), answer(other.sessions.take(sid))
            )
            assert sorted(each or b"" for each in taken) == [b"", b"%d" % number]


@in_loop
async def test_a_session_that_was_taken_is_not_stored_again_by_its_former_node(
    engine: Engine,
) -> None:
    async with two_nodes(engine) as (one, other):
        await answer(one.sessions.save(ONE, b"1"))
        await answer(one.sessions.save(ONE, b"2", is_new=False))
        assert await answer(other.sessions.take(ONE)) == b"2"
        await answer(one.sessions.save(ONE, b"3", is_new=False))
        assert await answer(other.sessions.take(ONE)) is None


@in_loop
async def test_joins_and_leaves_at_several_nodes_at_once_are_announced_once(engine: Engine) -> None:
    streams = [Stream(f"s{number}") for number in range(30)]
    async with two_nodes(engine) as (one, other):

        async def joins(node: EngineNode, sid: Sid) -> list[PresenceChange | None]:
            return await all_of(node.presence.join(each, sid, "all", "null") for each in streams)

        async def leaves(node: EngineNode, sid: Sid) -> list[PresenceChange | None]:
            return await all_of(node.presence.leave(each, sid) for each in streams)

        async def all_of(
            changes: Iterable[Awaitable[PresenceChange | None] | PresenceChange | None],
        ) -> list[PresenceChange | None]:
            return list(await asyncio.gather(*map(answer, changes)))

        async def kinds_of(
            *calls: Coroutine[Any, Any, list[PresenceChange | None]],
        ) -> list[list[str]]:
            """The changes of each stream."""
            answers = await asyncio.gather(*calls)
            return [[each.kind for each in of_one if each] for of_one in zip(*answers, strict=True)]

        for _ in range(3):
            came = await kinds_of(joins(one, ONE), joins(other, TWO))
            assert came == [["join"]] * len(streams)
            went = await kinds_of(leaves(one, ONE), leaves(other, TWO))
            assert went == [["leave"]] * len(streams)
        # One session leaves while another one joins: the member stays, or it leaves and joins again.
        await joins(one, ONE)
        passed = await kinds_of(leaves(one, ONE), joins(other, TWO))
        assert all(each in ([], ["leave", "join"]) for each in passed), passed
        for each in streams:
            assert await answer(one.presence.members(each)) == (Member("all", "null"),)
        assert await kinds_of(leaves(other, TWO)) == [["leave"]] * len(streams)


@in_loop
async def test_a_member_is_present_through_several_nodes(engine: Engine) -> None:
    async with two_nodes(engine) as (one, other):
        joined, update = (
            PresenceChange(S, "join", "jack", "1"),
            PresenceChange(S, "update", "jack", "2"),
        )
        assert await answer(one.presence.join(S, ONE, "jack", "1")) == joined
        rose = PresenceChange(S, "join", "rose", "null")
        assert await answer(other.presence.join(S, ROSE, "rose", "null")) == rose
        assert await answer(other.presence.join(S, TWO, "jack", "1")) is None
        present = (Member("jack", "1"), Member("rose", "null"))
        assert await answer(other.presence.members(S)) == present
        assert await answer(one.presence.leave(S, ONE)) is None
        # It keeps its place although the session that came first has gone.
        assert await answer(one.presence.members(S)) == present
        assert await answer(other.presence.join(S, TWO, "jack", "2")) == update
        assert await answer(other.presence.leave(S, TWO)) == PresenceChange(S, "leave", "jack")
        assert await answer(one.presence.members(S)) == (Member("rose", "null"),)
