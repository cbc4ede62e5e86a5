"""Sessions in JetStream: what the contract does not say. Several nodes, outages, bounds."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from catenary.adapters.nats.sessions import ENDED_AT_ONCE, RENEWED_S
from catenary.errors import BackendError, TooLarge
from catenary.messages.names import Sid
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

SHORT = msgspec.structs.replace(LIMITS, sessions_ttl_s=TTL_S, presence_ttl_s=TTL_S)
A, B = Sid("a"), Sid("b")


@pytest.fixture
def server() -> Iterator[JetStreamServer]:
    with jetstream_server() as running:
        yield running


async def ended_by(node: NatsNode, number: int) -> list[bytes]:
    """Returns the sessions that a node ends, once they are so many."""
    ended: list[bytes] = []
    async with asyncio.timeout(20):
        while len(ended) < number:
            ended += await node.sessions.expire()
            await asyncio.sleep(0.02)
    return ended


@in_loop
async def test_calls_for_a_session_take_effect_in_their_order(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        calls = [
            node.sessions.save(A, b"1"),
            node.sessions.save(A, b"2", is_new=False),
            node.sessions.take(A),
            node.sessions.save(A, b"3", is_new=False),
            node.sessions.take(A),
            node.sessions.save(A, b"4"),
            node.sessions.take(A),
        ]
        assert await asyncio.gather(*calls) == [None, None, b"2", None, None, None, b"4"]


@in_loop
async def test_one_that_is_touched_costs_no_message(server: JetStreamServer) -> None:
    clock = Clock()
    async with nats_node(server, clock=clock) as node:
        await asyncio.gather(*(node.sessions.save(Sid(str(n)), b"x") for n in range(100)))
        asked = node.engine.connection._requests.requests_total
        for _ in range(5):
            await clock.elapse(50)
            node.sessions.touch([Sid(str(n)) for n in range(100)])
        assert node.engine.connection._requests.requests_total - asked <= 5, "heartbeats alone"
        assert await node.sessions.expire() == ()
        assert await node.sessions.take(Sid("7")) == b"x"


@in_loop
async def test_sessions_of_a_dead_node_are_ended_once(server: JetStreamServer) -> None:
    many = ENDED_AT_ONCE + 20
    async with nats_node(server, SHORT) as dead:
        await asyncio.gather(*(dead.sessions.save(Sid(str(n)), b"%d" % n) for n in range(many)))
    async with nats_node(server, SHORT) as one, nats_node(server, SHORT) as other:
        await one.sessions.save(A, b"of the living")
        assert await one.sessions.take(Sid("0")) == b"0", "it can still be resumed"
        assert await one.sessions.expire() == await other.sessions.expire() == ()
        ended: list[bytes] = []
        async with asyncio.timeout(20):
            while len(ended) < many - 1:
                one.sessions.touch([A])
                for some in await asyncio.gather(one.sessions.expire(), other.sessions.expire()):
                    assert len(some) <= ENDED_AT_ONCE
                    ended += some
                await asyncio.sleep(0.02)
        assert sorted(ended) == sorted(b"%d" % number for number in range(1, many))
        assert await other.sessions.take(A) == b"of the living"
        assert await one.records() == []
        # Of the dead node itself nothing is left either.
        await one.nodes_are(2)


@in_loop
async def test_a_session_of_a_dead_node_can_not_be_resumed_for_ever(
    server: JetStreamServer,
) -> None:
    async with nats_node(server, SHORT) as dead:
        await dead.sessions.save(A, b"1")
    async with nats_node(server, SHORT) as node:
        nodes = node.engine._nodes
        assert nodes is not None
        await until(lambda: bool(nodes.dead(TTL_S)))
        assert await node.sessions.take(A) is None
        assert await ended_by(node, 1) == [b"1"]


@in_loop
async def test_the_sessions_of_a_living_node_are_its_own_to_end(server: JetStreamServer) -> None:
    async with nats_node(server, SHORT) as one, nats_node(server, SHORT) as other:
        await one.sessions.save(A, b"1")
        await asyncio.sleep(TTL_S + 0.5)
        assert await other.sessions.expire() == ()
        assert await ended_by(one, 1) == [b"1"]
        assert await one.records() == []


@in_loop
async def test_after_an_outage_living_nodes_keep_their_sessions(server: JetStreamServer) -> None:
    async with nats_node(server, SHORT) as one, nats_node(server, SHORT) as other:
        await one.sessions.save(A, b"1")
        server.stop()
        await until(lambda: one.pubsub.trouble is not None)
        with pytest.raises(BackendError):
            await one.sessions.save(B, b"2")
        with pytest.raises(BackendError):
            await one.sessions.take(A)
        with pytest.raises(BackendError):
            await one.sessions.expire()
        one.sessions.touch([A])
        await asyncio.sleep(TTL_S + 0.2)  # longer than sessions last
        server.start()
        await until(lambda: one.restored == other.restored == 1)
        assert await one.sessions.expire() == await other.sessions.expire() == ()
        one.sessions.touch([A])
        await one.sessions.save(B, b"2")
        assert await other.sessions.take(B) == b"2"
        assert await ended_by(one, 1) == [b"1"]
        assert await other.sessions.expire() == ()


@in_loop
async def test_after_a_loss_sequences_are_not_taken_for_those_of_before(
    server: JetStreamServer,
) -> None:
    async with nats_node(server, SHORT) as node:
        await node.sessions.save(A, b"1")
        await node.sessions.save(A, b"1", is_new=False)
        server.stop()
        await until(lambda: node.pubsub.trouble is not None)
        server.forget()
        server.start()
        await until(lambda: node.restored == 1)
        await asyncio.gather(*(node.sessions.save(Sid(str(n)), b"other") for n in range(5)))
        await node.sessions.save(A, b"2", is_new=False)
        assert await node.sessions.take(A) is None, "it was lost"
        assert await ended_by(node, 5) == [b"other"] * 5


@in_loop
async def test_records_of_long_living_sessions_are_renewed(server: JetStreamServer) -> None:
    """JetStream drops records that no node has renewed for a day."""
    clock = Clock()
    long = msgspec.structs.replace(LIMITS, sessions_ttl_s=RENEWED_S)
    async with nats_node(server, long, clock=clock) as node:
        await node.sessions.save(A, b"1")
        before = await node.engine.records().newest(["test.between.r.s.>"])
        for _ in range(3):
            await clock.elapse(RENEWED_S / 2)
            node.sessions.touch([A])
        await node.sessions.settle()
        after = await node.engine.records().newest(["test.between.r.s.>"])
        assert after[0].sequence > before[0].sequence
        await node.sessions.save(A, b"2", is_new=False)
        assert await node.sessions.take(A) == b"2"


@in_loop
async def test_a_session_that_is_too_large_is_refused_alone(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        with pytest.raises(TooLarge, match="max_payload"):
            await node.sessions.save(A, b"x" * 1_100_000)
        with pytest.raises(TooLarge, match="max_payload"):
            await node.sessions.save(A, b"small\n" + b"x" * 1_100_000)
        await node.sessions.save(A, b"x" * 1_000_000)
        assert len(await node.sessions.take(A) or b"") == 1_000_000


# In lines


LINES = b"\n".join(b"line %d" % number for number in range(40))


@in_loop
async def test_lines_of_a_session_go_with_it_and_together_may_be_larger_than_a_message(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as one, nats_node(server) as other:
        large = b"\n".join(b"%d" % number * 100_000 for number in range(10, 40))
        await one.sessions.save(A, large)
        assert len(await one.records()) == 30
        assert await other.sessions.take(A) == large
        assert await one.records() == []


@in_loop
async def test_lines_of_a_session_that_another_node_took_are_not_left(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as one, nats_node(server) as other:
        await one.sessions.save(A, LINES)
        assert await other.sessions.take(A) == LINES
        # Not known here yet: lines are written without their session, until it is saved or has left.
        await one.sessions.amend(A, {7: b"late"})
        assert await other.sessions.take(A) is None
        await one.sessions.save(A, LINES, is_new=False)
        assert await one.records() == []


@in_loop
async def test_lines_that_a_dead_node_has_left_end_with_their_session(
    server: JetStreamServer,
) -> None:
    async with nats_node(server, SHORT) as one:
        async with nats_node(server, SHORT) as dead:
            await dead.sessions.save(A, LINES)
            await dead.sessions.save(B, LINES)
            assert await one.sessions.take(B) == LINES
            await dead.sessions.amend(B, {3: b"without a session"})
        assert await ended_by(one, 1) == [LINES]
        await one.nodes_are(1)
        assert await one.records() == []


@in_loop
async def test_lines_are_renewed_with_their_session(server: JetStreamServer) -> None:
    clock = Clock()
    limits = msgspec.structs.replace(LIMITS, sessions_ttl_s=int(RENEWED_S))
    async with nats_node(server, limits, clock=clock) as node:
        await node.sessions.save(A, LINES)
        before = await node.engine.records().newest(["test.between.r.l.>"])
        for _ in range(3):
            await clock.elapse(RENEWED_S / 2)
            node.sessions.touch([A])
        await node.sessions.settle()
        after = await node.engine.records().newest(["test.between.r.l.>"])
        assert len(after) == len(before) == 39
        assert min(each.sequence for each in after) > max(each.sequence for each in before)
        assert await node.sessions.take(A) == LINES


@in_loop
async def test_nothing_is_taken_when_nats_is_back_before_what_was_missed_is_known(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as one:
        assert one.sessions.is_caught_up
        await one.sessions.save(A, b"1")
        server.stop()
        await until(lambda: not one.sessions.is_caught_up)
        server.start()
        await until(lambda: one.sessions.is_caught_up)
        assert await one.sessions.take(A) == b"1"
