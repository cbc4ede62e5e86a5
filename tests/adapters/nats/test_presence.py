"""Presence in JetStream: what the contract does not say. Several nodes, outages, bounds."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from catenary.adapters.nats.presence import ENDED_AT_ONCE, RENEWED_S
from catenary.adapters.nats.store import Store, Stored
from catenary.errors import BackendError
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from tests.contracts.brokers import Clock
from tests.parts.heart import in_loop
from tests.parts.nats_node import (
    LIMITS,
    JetStreamServer,
    NatsNode,
    jetstream_server,
    nats_node,
    until,
)

TTL_S = 3
"""Not shorter: a node that JetStream does not answer for so long is counted as dead, rightly."""

SHORT = msgspec.structs.replace(LIMITS, presence_ttl_s=TTL_S)
BOTH = msgspec.structs.replace(SHORT, sessions_ttl_s=TTL_S)
S, T = Stream("s"), Stream("t:é \x00")
ONE, TWO, ROSE = Sid("1 é"), Sid("two"), Sid("of rose")


@pytest.fixture
def server() -> Iterator[JetStreamServer]:
    with jetstream_server() as running:
        yield running


def joined(member_id: str, info: str = "null") -> PresenceChange:
    return PresenceChange(S, "join", member_id, info)


def left(member_id: str) -> PresenceChange:
    return PresenceChange(S, "leave", member_id)


async def expired_by(*nodes: NatsNode, until_: int) -> list[PresenceChange]:
    """Returns the members that nodes remove, once they are so many."""
    changes: list[PresenceChange] = []
    async with asyncio.timeout(20):
        while len(changes) < until_:
            for some in await asyncio.gather(*(node.presence.expire() for node in nodes)):
                changes += some
            await asyncio.sleep(0.02)
    return changes


@in_loop
async def test_no_record_is_left_after_a_leave(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        for number in range(20):
            await node.presence.join(S, Sid(str(number)), f"member {number % 7}", "null")
            await node.presence.join(T, Sid(str(number)), "", '"\n \x00"')
        assert len(await node.records()) == 40 + 7 + 1, "of the sessions, and the rosters"
        for number in range(20):
            await node.presence.leave(S, Sid(str(number)))
            await node.presence.leave(T, Sid(str(number)))
        assert await node.records() == []
        assert not node.presence._own
        assert not node.presence._sessions
        assert not node.presence._locks._last
        assert not node.presence._rosters._sole


@in_loop
async def test_the_members_of_a_node_that_died_leave_once(server: JetStreamServer) -> None:
    many = ENDED_AT_ONCE + 20
    async with nats_node(server, BOTH) as dead:
        await asyncio.gather(
            *(dead.presence.join(S, Sid(str(n)), f"{n // 2}", "null") for n in range(many))
        )
        await dead.presence.join(S, TWO, "rose", "null")
    async with nats_node(server, BOTH) as one, nats_node(server, BOTH) as other:
        assert await one.presence.join(S, ROSE, "rose", "null") is None
        assert await one.presence.expire() == await other.presence.expire() == ()
        changes: list[PresenceChange] = []
        async with asyncio.timeout(20):
            while await one.presence.members(S) != (Member("rose", "null"),):
                one.presence.touch([ROSE])
                for some in await asyncio.gather(one.presence.expire(), other.presence.expire()):
                    changes += some
                await asyncio.sleep(0.02)
        assert {each.kind for each in changes} == {"leave"}
        assert sorted(int(each.id) for each in changes) == list(range(many // 2))
        assert len(await one.records()) == 2, "of the session and the roster"
        await one.nodes_are(2)


@in_loop
async def test_members_from_before_an_outage_do_not_join_again(server: JetStreamServer) -> None:
    """As the node does after each: every present member joins once more."""
    async with nats_node(server) as one, nats_node(server) as other:
        await one.presence.join(S, ONE, "jack", "1")
        await one.presence.join(S, TWO, "jack", "1")
        server.stop()
        await until(lambda: one.pubsub.trouble is not None)
        server.start()
        await until(lambda: one.restored == other.restored == 1)
        assert await one.presence.join(S, ONE, "jack", "1") is None
        assert await one.presence.join(S, TWO, "jack", "2") == PresenceChange(
            S, "update", "jack", "2"
        )
        server.stop()
        await until(lambda: one.pubsub.trouble is not None)
        server.forget()
        server.start()
        await until(lambda: one.restored == other.restored == 2)
        assert await other.presence.members(S) == ()
        assert await one.presence.join(S, ONE, "jack", "2") == joined("jack", "2")
        assert await one.presence.join(S, TWO, "jack", "2") is None
        assert await other.presence.members(S) == (Member("jack", "2"),)
        assert await one.presence.leave(S, ONE) is None
        assert await one.presence.leave(S, TWO) == left("jack")


@in_loop
async def test_a_leave_during_an_outage_is_made_up_for(server: JetStreamServer) -> None:
    async with nats_node(server, SHORT) as node:
        await node.presence.join(S, ONE, "jack", "1")
        await node.presence.join(T, ONE, "jack", "1")
        server.stop()
        await until(lambda: node.pubsub.trouble is not None)
        with pytest.raises(BackendError):
            await node.presence.leave(S, ONE)
        with pytest.raises(BackendError):
            await node.presence.join(S, ROSE, "rose", "null")
        with pytest.raises(BackendError):
            await node.presence.members(S)
        with pytest.raises(BackendError):
            await node.presence.expire()
        server.start()
        await until(lambda: node.restored == 1)
        changes = await expired_by(node, until_=2)
        assert set(changes) == {left("jack"), PresenceChange(T, "leave", "jack")}
        assert await node.presence.members(S) == ()
        assert await node.records() == []


@in_loop
async def test_a_leave_after_the_data_was_lost_deletes_no_record_of_others(
    server: JetStreamServer,
) -> None:
    """The sequences begin again: that of the roster belongs to another record."""
    async with nats_node(server) as one, nats_node(server) as other:
        await one.presence.join(S, ONE, "jack", "1")
        server.stop()
        await until(lambda: one.pubsub.trouble is not None)
        server.forget()
        server.start()
        await until(lambda: one.restored == other.restored == 1)
        for number in range(10):
            await other.presence.join(T, Sid(str(number)), f"member {number}", "null")
        before = await one.records()
        await one.presence.leave(S, ONE)
        assert await one.records() == before


class LossyStore(Store):
    """A store of which the reply to the first deletion is lost."""

    has_lost = False

    async def delete(self, sequence: int) -> bool:
        is_deleted = await super().delete(sequence)
        if not self.has_lost:
            self.has_lost = True
            raise BackendError("NATS: no answer")
        return is_deleted


@in_loop
async def test_a_leave_whose_reply_was_lost_is_announced(server: JetStreamServer) -> None:
    """Also if sessions expire before it is tried again."""
    async with nats_node(server, SHORT) as node:
        await node.presence.join(S, ONE, "jack", "null")
        await until(lambda: node.presence._nodes.is_settled(TTL_S))
        store = node.engine.records()
        lossy = LossyStore(store._connection, store.name, {}, lambda epoch: {})
        node.presence._rosters._records = lambda: lossy
        node.presence.touch([ONE])
        with pytest.raises(BackendError):
            await node.presence.leave(S, ONE)
        assert await expired_by(node, until_=1) == [left("jack")]
        assert await node.records() == []


@in_loop
async def test_a_crowd_of_one_stream(server: JetStreamServer) -> None:
    """More than JetStream answers in one go."""
    async with nats_node(server) as one, nats_node(server) as other:
        many = 1_500
        for start in range(0, many, 500):
            await asyncio.gather(
                *(
                    one.presence.join(S, Sid(str(n)), str(n), '{"name":"Ann"}')
                    for n in range(start, start + 500)
                )
            )
        members = await other.presence.members(S)
        assert sorted(int(each.id) for each in members) == list(range(many))


@in_loop
async def test_many_are_touched_without_a_message(server: JetStreamServer) -> None:
    clock = Clock()
    async with nats_node(server, clock=clock) as node:
        sids = [Sid(str(number)) for number in range(200)]
        await asyncio.gather(*(node.presence.join(S, sid, sid, "1") for sid in sids))
        asked = node.engine.connection._requests.requests_total
        for _ in range(5):
            await clock.elapse(50)
            node.presence.touch([*sids, Sid("unknown")])
        assert node.engine.connection._requests.requests_total - asked <= 5, "heartbeats alone"
        assert await node.presence.expire() == ()
        assert len(await node.presence.members(S)) == 200


@in_loop
async def test_records_of_long_present_sessions_are_renewed(server: JetStreamServer) -> None:
    """JetStream drops records that no node has renewed for a day."""
    clock = Clock()
    long = msgspec.structs.replace(LIMITS, presence_ttl_s=RENEWED_S)
    async with nats_node(server, long, clock=clock) as node:
        await node.presence.join(S, ONE, "jack", "1")
        await node.presence.join(S, TWO, "rose", "2")
        before = await node.engine.records().newest(["test.between.r.m.>"])
        for _ in range(3):
            await clock.elapse(RENEWED_S / 2)
            node.presence.touch([ONE, TWO])
        await node.presence.settle()
        after = await node.engine.records().newest(["test.between.r.m.>"])
        assert min(each.sequence for each in after) > max(each.sequence for each in before)
        assert await node.presence.members(S) == (Member("jack", "1"), Member("rose", "2"))


class LaggingStore(Store):
    """A store whose reads without the leader are answered by a replica that knows nothing after a moment."""

    @property
    def may_lag(self) -> bool:
        return True

    async def newest(self, subjects: list[str]) -> list[Stored]:
        return self.past

    @classmethod
    async def since_now(cls, store: Store, subject: str) -> "LaggingStore":
        """The same JetStream stream, read as it is now."""
        lagging = cls(store._connection, store.name, {}, lambda epoch: {})
        lagging.past = await store.newest([subject])
        return lagging

    past: list[Stored]


@pytest.mark.parametrize("is_known", [False, True], ids=["before the join", "before the leave"])
@in_loop
async def test_a_replica_that_lags_keeps_nobody_among_the_members(
    is_known: bool, server: JetStreamServer
) -> None:
    async with nats_node(server) as node:
        store, every = node.engine.records(), f"{node.engine.subjects.members}>"
        lagging = await LaggingStore.since_now(store, every)
        assert await node.presence.join(S, ONE, "jack", "null") == joined("jack")
        if is_known:
            lagging = await LaggingStore.since_now(store, every)
            assert lagging.past
        node.presence._records = lambda: lagging
        assert await node.presence.leave(S, ONE) == left("jack")
        assert await store.newest([every]) == []
