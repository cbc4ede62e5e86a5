"""The history in JetStream: what the contract does not say. Several nodes, holes, bounds."""

import asyncio
import itertools
from collections.abc import Iterator

import msgspec
import pytest

from catenary.adapters.nats import connection as wire_connection
from catenary.adapters.nats.history import KEPT_SILENT
from catenary.adapters.nats.store import Store, Stored
from catenary.broker.limits import Limits
from catenary.errors import BackendError, LostPosition
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication
from tests.parts.heart import in_loop
from tests.parts.nats_node import (
    LIMITS,
    JetStreamServer,
    jetstream_server,
    nats_node,
    until,
)

S, T = Stream("s"), Stream("t")


@pytest.fixture
def server() -> Iterator[JetStreamServer]:
    with jetstream_server() as running:
        yield running


def numbers(publications: tuple[Publication, ...]) -> list[int]:
    return [int(each.data) for each in publications]


def assert_whole(publications: tuple[Publication, ...]) -> None:
    """One stream alone is written to: every sequence is its own."""
    for one, other in itertools.pairwise(publications):
        assert at(other).offset == at(one).offset + 1


def at(publication: Publication) -> Position:
    assert publication.position is not None
    return publication.position


@in_loop
async def test_any_node_reads_what_any_node_has_written(server: JetStreamServer) -> None:
    async with nats_node(server) as one, nats_node(server) as other:
        for number in range(10):
            await one.publish(S, number)
            await other.publish(T, number)
        kept = await other.history.since(S, 0)
        assert numbers(kept) == list(range(10))
        assert await one.history.since(S, 0) == kept
        assert await other.history.after(S, at(kept[6])) == kept[7:]
        assert await one.history.newest([S, T, Stream("none")]) == {
            S: at(kept[-1]),
            T: Position(at(kept[-1]).epoch, at(kept[-1]).offset + 1),
            Stream("none"): Position(at(kept[-1]).epoch, 0),
        }


@in_loop
async def test_the_position_of_nothing_has_all_that_follows_after_it(
    server: JetStreamServer,
) -> None:
    limits = msgspec.structs.replace(LIMITS, history_limit=3)
    async with nats_node(server, limits) as node:
        nothing = (await node.history.newest([S]))[S]
        assert await node.history.after(S, nothing) == ()
        await node.publish(S, 0, 1, 2)
        assert numbers(await node.history.after(S, nothing)) == [0, 1, 2]
        await node.publish(S, 3)
        with pytest.raises(LostPosition):
            await node.history.after(S, nothing)


@in_loop
async def test_a_history_outlives_its_nodes_and_its_server(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        await node.publish(S, 0, 1, 2)
        kept = await node.history.since(S, 0)
    server.stop()
    server.start()
    async with nats_node(server) as node:
        assert await node.history.after(S, at(kept[0])) == kept[1:]
        await node.publish(S, 3)
        assert numbers(await node.history.after(S, at(kept[0]))) == [1, 2, 3]


@in_loop
async def test_a_read_during_writes_has_no_gap(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a small history the oldest messages make room all the time, even while it is read."""
    ask = Store._next

    async def ask_for_few(
        self: Store, subject: str, sequence: int, limit: int
    ) -> tuple[list[Stored], int]:
        """As with large messages: a history takes several answers."""
        return await ask(self, subject, sequence, min(limit, 10))

    monkeypatch.setattr(Store, "_next", ask_for_few)
    limits = msgspec.structs.replace(LIMITS, history_limit=50)
    async with nats_node(server, limits) as one, nats_node(server, limits) as other:
        counter = itertools.count()
        is_done = False

        async def write() -> None:
            while not is_done:
                batch = tuple(Publication(S, str(next(counter))) for _ in range(10))
                sent = other.pubsub.send(batch)
                assert sent is not None
                await sent

        writer = asyncio.create_task(write())
        await until(lambda: next(counter) > 100)
        found, lost = 0, 0
        for _ in range(300):
            kept = await one.history.since(S, 0)
            assert_whole(kept)
            newest = (await one.history.newest([S]))[S]
            try:
                after = await one.history.after(S, newest)
            except LostPosition:
                lost += 1
                continue
            found += 1
            assert not after or at(after[0]).offset == newest.offset + 1
            assert_whole(after)
        is_done = True
        await writer
        assert found > 0
        assert lost > 0, "else it was not read under way"


@in_loop
async def test_many_requests_at_the_same_time_share_a_few_reads(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as node:
        await node.publish(S, *range(50))
        kept = await node.history.since(S, 0)
        asked = node.engine.connection._requests.requests_total
        answers = await asyncio.gather(
            *(node.history.after(S, at(kept[n % 50])) for n in range(500)),
            *(node.history.since(S, 0) for _ in range(500)),
        )
        for number, answer in enumerate(answers[:500]):
            assert answer == kept[number % 50 + 1 :]
        assert answers[500:] == [kept] * 500
        assert node.engine.connection._requests.requests_total - asked <= 6
        assert not node.history._waiting
        assert not node.history._begun


@in_loop
async def test_a_request_during_a_read_gets_a_read_of_its_own(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as node:
        await node.publish(S, 0)
        early = asyncio.ensure_future(node.history.since(S, 0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await node.publish(S, 1)
        assert numbers(await node.history.since(S, 0)) == [0, 1]
        assert numbers(await early)[:1] == [0]


@in_loop
async def test_large_messages_are_read_piece_by_piece(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        for number in range(60):
            await node.publish(S, f"{number}" + " " * 900_000)
        assert numbers(await node.history.since(S, 0)) == list(range(60))


@in_loop
async def test_positions_that_were_never_assigned(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        await node.publish(S, 1)
        epoch = node.engine.kept().epoch
        for offset in (-1, 2, 2**63, 2**64, 10**30):
            with pytest.raises(LostPosition):
                await node.history.after(S, Position(epoch, offset))


@in_loop
async def test_limits_that_are_changed_are_changed_in_jetstream(server: JetStreamServer) -> None:
    async with nats_node(server, LIMITS) as node:
        await node.publish(S, *range(10))
        epoch = node.engine.kept().epoch
    smaller = msgspec.structs.replace(LIMITS, history_limit=3, history_ttl_s=30)
    async with nats_node(server, smaller) as node:
        assert node.engine.kept().epoch == epoch
        assert numbers(await node.history.since(S, 0)) == [7, 8, 9]
        info = await node.engine.connection.request(
            f"$JS.API.STREAM.INFO.{node.engine.kept().name}", b"{}"
        )
        config = msgspec.json.decode(info.payload)["config"]
        assert config["max_msgs_per_subject"] == 4
        assert config["max_age"] == 30 * KEPT_SILENT * 1_000_000_000


@in_loop
async def test_jetstream_drops_messages_that_are_no_longer_readable(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catenary.adapters.nats.history.KEPT_SILENT", 2)
    monkeypatch.setattr("catenary.adapters.nats.history.SHORTEST_AGE_S", 1)
    limits = Limits(history_limit=5, history_ttl_s=1, sessions_ttl_s=60, presence_ttl_s=60)
    async with nats_node(server, limits) as node:
        for number in range(50):
            await node.publish(Stream(f"s{number % 5}"), number)
        found = await node.engine.kept().first("test.between.h.>", 1_000)
        assert len(found) == 5 * 6, "the limit, and one to know what is missing"
        async with asyncio.timeout(15):
            while found:
                await asyncio.sleep(0.2)
                found = await node.engine.kept().first("test.between.h.>", 1_000)


@in_loop
async def test_a_request_without_a_reply_ends(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nats_node(server) as node:
        await node.publish(S, 1)
        monkeypatch.setattr(wire_connection, "PATIENCE_S", 0.5)
        server.freeze()
        try:
            with pytest.raises(BackendError):
                await node.history.since(S, 0)
        finally:
            server.thaw()


@in_loop
async def test_a_read_that_is_cancelled_before_it_begins_does_not_block_the_next(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as node:
        await node.publish(S, 1)
        reading = asyncio.ensure_future(node.history.since(S, 0))
        await asyncio.sleep(0)
        task = node.history._waiting[S].task
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert numbers(await node.history.since(S, 0)) == [1]
