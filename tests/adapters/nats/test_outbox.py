"""Publications on their way out: in order, once, whole or not at all, and a share of them in each turn of the loop."""

import asyncio
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from catenary.adapters.nats.outbox import Outbox
from catenary.adapters.nats.subjects import token
from catenary.broker.limits import Limits
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.messages.names import Stream
from catenary.messages.publications import (
    BATCH_LIMIT,
    Publication,
    Publishable,
    QueueEntry,
    RemoteDisconnect,
)
from tests.parts.heart import in_loop
from tests.parts.nats import nats_server
from tests.parts.nats_node import (
    LIMITS,
    JetStreamServer,
    NatsNode,
    jetstream_server,
    nats_node,
    until,
)

S, T, BAD = Stream("s"), Stream("t"), Stream("bad")
ENGINES = pytest.mark.parametrize("limits", [None, LIMITS], ids=["not kept", "kept"])


@pytest.fixture
def server() -> Iterator[JetStreamServer]:
    with jetstream_server() as running:
        yield running


def outbox(node: NatsNode) -> Outbox:
    assert node.pubsub._outbox is not None
    return node.pubsub._outbox


def send(node: NatsNode, *publications: Publishable) -> Awaitable[None]:
    sent = node.pubsub.send(publications)
    assert sent is not None
    return sent


def numbered(stream: Stream, numbers: range, *, transient: bool = False) -> list[Publication]:
    return [Publication(stream, str(number), transient=transient) for number in numbers]


def texts(numbers: range) -> list[str]:
    return list(map(str, numbers))


async def failure(sent: Awaitable[None]) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await sent
    return caught.value


@ENGINES
@in_loop
async def test_the_largest_batch_arrives_whole_and_once_and_nothing_overtakes_it(
    server: JetStreamServer, limits: Limits | None
) -> None:
    half = BATCH_LIMIT // 2
    async with nats_node(server, limits) as node:
        await node.listen([S, T])
        mixed = zip(numbered(S, range(half)), numbered(T, range(half)), strict=True)
        sent = [
            send(node, *(each for pair in mixed for each in pair)),
            send(node, *numbered(S, range(half, half + 2))),
            send(node, *numbered(S, range(half + 2, half + 3), transient=True)),
            send(node, *numbered(S, range(half + 3, half + 1_000))),
            send(node, *numbered(T, range(half, half + 1))),
        ]
        await asyncio.gather(*sent)
        await until(lambda: len(node.received) == BATCH_LIMIT + 1_001)
        assert node.data(S) == texts(range(half + 1_000))
        assert node.data(T) == texts(range(half + 1))


@in_loop
async def test_unkept_messages_wait_for_those_before_them_on_their_stream(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as node:
        await node.listen([S])
        batch = [
            Publication(S, str(number), transient=number % 3 > 0) for number in range(BATCH_LIMIT)
        ]
        await send(node, *batch)
        await until(lambda: len(node.received) == BATCH_LIMIT)
        assert node.data(S) == texts(range(BATCH_LIMIT))


@in_loop
async def test_a_remote_disconnect_waits_for_a_large_batch(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        await node.listen([S])
        command = RemoteDisconnect("jack", reconnect=False)
        await asyncio.gather(send(node, *numbered(S, range(5_000))), send(node, command))
        await until(lambda: command in node.received)
        assert node.data(S) == texts(range(5_000))


@ENGINES
@in_loop
async def test_of_a_large_batch_with_one_message_that_is_too_large_nothing_is_sent(
    server: JetStreamServer, limits: Limits | None
) -> None:
    async with nats_node(server, limits) as node:
        await node.listen([S, T])
        batch = (*numbered(S, range(5_000)), Publication(T, "x" * 1_100_000))
        refused, after = send(node, *batch), send(node, *numbered(S, range(1)))
        assert isinstance(await failure(refused), TooLarge)
        await after
        await send(node, *numbered(S, range(1, 1_000)))
        await until(lambda: len(node.received) == 1_000)
        assert node.data(S) == texts(range(1_000))
        assert outbox(node)._line_num == outbox(node)._line_bytes == 0


@ENGINES
@in_loop
async def test_a_large_batch_to_where_this_user_may_not_publish_is_refused(
    tmp_path: Path, limits: Limits | None
) -> None:
    file = tmp_path / "nats.conf"
    denied = f'"test.between.*.*.{token(BAD)}", "test.between.*.{token(BAD)}"'
    file.write_text(
        "authorization: { users: [ { user: node, password: secret, permissions: "
        f'{{ publish: {{ allow: ">", deny: [{denied}] }}, subscribe: ">" }} }} ] }}'
    )
    with nats_server("-c", str(file), store_dir=tmp_path / "store") as strict:
        url = strict.url.replace("//", "//node:secret@")
        async with nats_node(strict, limits, url=url) as node:
            batch = (*numbered(BAD, range(2)), *numbered(S, range(2_000)))
            assert isinstance(await failure(send(node, *batch)), BackendRefused)
            await send(node, *numbered(S, range(2_000)))


@ENGINES
@in_loop
async def test_an_ended_connection_fails_large_batches_that_wait_and_those_under_way(
    server: JetStreamServer, limits: Limits | None
) -> None:
    async with nats_node(server, limits) as node:
        sent = [send(node, *numbered(S, range(BATCH_LIMIT))) for _ in range(2)]
        await until(lambda: outbox(node)._under_way > 0)
        node.engine.connection.drop("the test")
        for each in sent:
            assert not isinstance(await failure(each), BackendRefused)


@in_loop
async def test_a_large_batch_of_a_queue_entry_is_kept_once(server: JetStreamServer) -> None:
    entry = QueueEntry("queue", "group", "reader", "1-0")
    async with nats_node(server) as node:
        await node.listen([S])
        for _ in range(2):
            sent = node.pubsub.send(tuple(numbered(S, range(2_000))), entry)
            assert sent is not None
            await sent
        await node.publish(S, "last")
        await until(lambda: "last" in node.data(S))
        assert node.data(S) == [*texts(range(2_000)), "last"]


@in_loop
async def test_everything_goes_out_before_a_node_closes(server: JetStreamServer) -> None:
    async with nats_node(server) as other:
        await other.listen([S])
        async with nats_node(server) as node:
            send(node, *numbered(S, range(5_000)))
            await outbox(node).settle()
        await until(lambda: len(other.received) == 5_000)
        assert other.data(S) == texts(range(5_000))


# Limits of what waits


@in_loop
async def test_of_a_batch_that_finds_no_room_to_wait_nothing_is_sent(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catenary.adapters.nats.outbox.WAITING_LIMIT", 100)
    async with nats_node(server) as node:
        await node.listen([S])
        server.freeze()
        try:
            before = send(node, *numbered(S, range(1_050)))
            await until(lambda: outbox(node)._line_num == 50)
            error = await failure(send(node, *(Publication(S, "no") for _ in range(51))))
            assert not isinstance(error, BackendRefused)
            assert node.counters.pubsub_refused_total == 51
            after = send(node, *numbered(S, range(1_050, 1_100)))
        finally:
            server.thaw()
        await asyncio.gather(before, after)
        await until(lambda: len(node.received) == 1_100)
        assert node.data(S) == texts(range(1_100))


@in_loop
async def test_a_flood_waits_in_line_and_what_is_beyond_the_line_is_refused(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catenary.adapters.nats.outbox.WAITING_LIMIT", 5_000)
    async with nats_node(server) as node:
        await node.listen([S])
        sent = [send(node, *numbered(S, range(number, number + 1))) for number in range(7_000)]
        refused = 0
        for each in sent:
            try:
                await each
            except BackendError:
                refused += 1
        assert refused == node.counters.pubsub_refused_total == 1_000
        await until(lambda: len(node.received) == 6_000)
        assert node.data(S) == texts(range(6_000))


@pytest.mark.parametrize("kind", ["number", "bytes"])
@in_loop
async def test_a_large_batch_finds_room_once_the_others_have_gone(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its size in bytes is known when it has been prepared."""
    name, limit = ("WAITING_LIMIT", 3_000) if kind == "number" else ("WAITING_LIMIT_BYTES", 60_000)
    monkeypatch.setattr(f"catenary.adapters.nats.outbox.{name}", limit)
    async with nats_node(server) as node:
        await node.listen([S])
        batch = numbered(S, range(5_000))
        server.freeze()
        try:
            first, second = send(node, *batch), send(node, *batch)
            await failure(second)
        finally:
            server.thaw()
        assert node.counters.pubsub_refused_total == 5_000
        await first
        await send(node, *batch)
        await until(lambda: len(node.received) == 10_000)
