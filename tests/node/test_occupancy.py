"""Occupied streams of a cluster: the first and the last node, counts, dead nodes, an engine that is away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.none import NoInterest
from catenary.errors import BackendError
from catenary.maybe_awaitable import settled
from catenary.messages.names import RESERVED, Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from catenary.node.occupancy import ObservedInterest, Occupancy
from catenary.node.turns import Turns
from catenary.ports import Presence
from tests.parts.heart import in_loop, settle

S, T = Stream("s"), Stream("t")
TTL_S = 10


class Noted:
    """Satisfies :class:`catenary.node.occupancy.OccupancyObserver`."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def occupied(self, stream: Stream) -> None:
        self.events.append(("occupied", stream))

    def vacated(self, stream: Stream) -> None:
        self.events.append(("vacated", stream))

    def wants_count(self, stream: Stream) -> bool:
        return stream == T

    def counted(self, stream: Stream, subscribers: int) -> None:
        self.events.append(("counted", stream, subscribers))

    def take(self) -> list[tuple[object, ...]]:
        taken, self.events = self.events, []
        return taken


class Engine(LocalPresence):
    """The presence that nodes share. It may be ``away``, before or after a call takes effect."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.away = ""
        self.calls = 0
        super().__init__(ttl_s=TTL_S, clock=lambda: self.now_s)


class Link:
    """Satisfies :class:`catenary.ports.Presence`: one node's way to the engine, with awaitables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _do(self, call: Callable[[], object]) -> object:
        await asyncio.sleep(0)
        self._engine.calls += 1
        if self._engine.away == "before":
            raise BackendError("away")
        result = call()
        if self._engine.away == "after":
            raise BackendError("no reply")
        return result

    def join(self, stream: Stream, sid: Sid, member_id: str, info: str) -> object:
        return self._do(lambda: self._engine.join(stream, sid, member_id, info))

    def leave(self, stream: Stream, sid: Sid) -> object:
        return self._do(lambda: self._engine.leave(stream, sid))

    def touch(self, sids: Collection[Sid]) -> object:
        return self._do(lambda: self._engine.touch(sids))

    def members(self, stream: Stream) -> object:
        return self._do(lambda: self._engine.members(stream))

    def streams(self, sid: Sid) -> object:
        return self._do(lambda: self._engine.streams(sid))

    def expire(self) -> tuple[PresenceChange, ...]:
        return self._engine.expire()


class OneNode:
    def __init__(self, engine: Engine, name: str, noted: Noted) -> None:
        self.subscribers: dict[Stream, int] = {}
        self.interest = ObservedInterest(NoInterest(), lambda stream: stream != "other")
        presence: Presence = Link(engine)  # type: ignore[assignment]
        self.occupancy = Occupancy(
            presence,
            self.interest,
            noted,
            subscribers=lambda stream: self.subscribers.get(stream, 0),
            turns=Turns(1_000, asyncio.get_running_loop().call_soon),
            name=Sid(name),
        )

    def set(self, stream: Stream, number: int) -> None:
        """So many subscribers, as the hub would report it."""
        before = self.subscribers.get(stream, 0)
        self.subscribers[stream] = number
        if number and not before:
            self.interest.listen(stream)
        elif before and not number:
            self.interest.unlisten(stream)

    async def is_done(self) -> None:
        """Waits until all changes are reported."""
        await settle()
        while self.interest.changed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await settle(200)


@asynccontextmanager
async def nodes(number: int) -> AsyncIterator[tuple[Engine, Noted, list[OneNode]]]:
    engine, noted = Engine(), Noted()
    async with AsyncExitStack() as stack:
        all_nodes = [OneNode(engine, f"n{index}", noted) for index in range(number)]
        for node in all_nodes:
            await node.occupancy.start()
            stack.push_async_callback(node.occupancy.close, 1)
        await settle()
        yield engine, noted, all_nodes


@in_loop
async def test_the_first_and_the_last_subscriber_of_the_cluster() -> None:
    async with nodes(2) as (engine, noted, (one, two)):
        one.set(S, 1)
        await one.is_done()
        two.set(S, 5_000)
        await two.is_done()
        assert noted.take() == [("occupied", S)]
        assert engine.calls < 10, "a crowd costs as much as one client"
        one.set(S, 0)
        await one.is_done()
        assert noted.take() == []
        two.set(S, 0)
        await two.is_done()
        assert noted.take() == [("vacated", S)]


@in_loop
async def test_streams_that_are_not_covered_cost_nothing() -> None:
    async with nodes(1) as (engine, noted, (node,)):
        before = engine.calls
        node.set(Stream("other"), 1)
        await node.is_done()
        assert noted.take() == []
        assert engine.calls == before


@in_loop
async def test_a_stream_that_comes_and_goes_at_once_is_not_reported() -> None:
    async with nodes(1) as (_, noted, (node,)):
        node.set(S, 1)
        node.set(S, 0)
        await node.is_done()
        assert noted.take() == []


@in_loop
async def test_counts_are_those_of_all_nodes() -> None:
    async with nodes(2) as (_, noted, (one, two)):
        one.set(T, 2)
        two.set(T, 3)
        await one.is_done()
        await two.is_done()
        assert noted.take()[-1] == ("counted", T, 5)
        assert [await node.occupancy.subscribers(T) for node in (one, two)] == [5, 5]
        one.set(T, 7)
        assert await one.occupancy.subscribers(T) == 10
        assert await two.occupancy.subscribers(T) == 5, "it follows at the next count"
        one.occupancy.count()
        await one.is_done()
        assert noted.take() == [("counted", T, 10)]
        assert await two.occupancy.subscribers(T) == 10
        two.occupancy.count()
        await two.is_done()
        assert noted.take() == [], "nothing has changed"
        one.set(T, 0)
        await one.is_done()
        assert noted.take() == [("counted", T, 3)]
        assert await one.occupancy.subscribers(S) == 0


@in_loop
async def test_a_listener_that_is_no_subscriber_occupies_nothing() -> None:
    """Such as a reader of a Durable Stream: the hub reports one listener, and later no other."""
    async with nodes(1) as (_, noted, (node,)):
        node.interest.listen(S)
        await node.is_done()
        assert noted.take() == []
        for number, event in ((1, "occupied"), (0, "vacated")):
            node.subscribers[S] = number
            node.occupancy.count()
            await node.is_done()
            assert noted.take() == [(event, S)]


@in_loop
async def test_the_streams_of_all_nodes() -> None:
    async with nodes(2) as (_, _, (one, two)):
        one.set(S, 1)
        for stream in (S, T):
            two.set(stream, 1)
        await one.is_done()
        await two.is_done()
        assert await one.occupancy.streams() == await two.occupancy.streams() == {S, T}


@in_loop
async def test_a_dead_node_is_removed_by_another() -> None:
    async with nodes(2) as (engine, noted, (dead, other)):
        dead.set(S, 1)
        dead.set(T, 2)
        other.set(T, 1)
        await dead.is_done()
        await other.is_done()
        noted.take()
        engine.now_s += TTL_S / 2
        await other.occupancy.touch()
        engine.now_s += TTL_S * 0.7
        for change in engine.expire():
            other.occupancy.presence_changed(change)
        await other.is_done()
        assert noted.take() == [("vacated", S), ("counted", T, 1)]
        assert await other.occupancy.streams() == {T}

        # It was only stopped, and finds out when it touches its entries.
        await dead.occupancy.touch()
        await dead.is_done()
        assert noted.take() == [("occupied", S), ("counted", T, 3)]
        assert await other.occupancy.streams() == {S, T}


@pytest.mark.parametrize("away", ["before", "after"])
@in_loop
async def test_an_engine_that_is_away_delays_reports(away: str) -> None:
    async with nodes(1) as (engine, noted, (node,)):
        engine.away = away
        node.set(S, 1)
        await asyncio.sleep(0.01)
        assert noted.take() == []
        engine.away = ""
        await node.is_done()
        assert noted.take() == [("occupied", S)]
        engine.away = away
        node.set(S, 0)
        await asyncio.sleep(0.01)
        assert noted.take() == []
        engine.away = ""
        await node.is_done()
        assert noted.take() == [("vacated", S)]


@in_loop
async def test_a_node_that_shuts_down_leaves_everything() -> None:
    async with nodes(2) as (engine, noted, (one, two)):
        for number in range(300):
            one.set(Stream(f"s{number}"), 1)
        await one.is_done()
        assert len(noted.take()) == 300
        for number in range(300):
            one.set(Stream(f"s{number}"), 0)
        await one.occupancy.close(5)
        assert len(noted.take()) == 300
        assert await two.occupancy.streams() == set()
        assert engine.sessions == 1


@in_loop
async def test_an_engine_that_lost_everything_is_told_again() -> None:
    async with nodes(1) as (engine, noted, (node,)):
        node.set(S, 1)
        await node.is_done()
        engine.now_s += TTL_S * 2
        assert engine.expire()
        noted.take()
        node.occupancy.restore()
        await node.is_done()
        assert noted.take() == [("occupied", S)]
        assert await settled(engine.members(Stream(f"{RESERVED}occupied:s"))) == (
            Member("node", "null"),
        )
