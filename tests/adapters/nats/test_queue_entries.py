"""Publications of queue entries: JetStream stores them once, and nothing overtakes them."""

import asyncio
from collections.abc import Iterator

import pytest

from catenary.adapters.nats import connection
from catenary.adapters.nats.store import DUPLICATES_S, S
from catenary.errors import BackendError
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable, QueueEntry
from tests.parts.heart import in_loop
from tests.parts.nats_node import JetStreamServer, NatsNode, jetstream_server, nats_node, until

ONE, TWO = Stream("one"), Stream("two")


@pytest.fixture
def server() -> Iterator[JetStreamServer]:
    with jetstream_server() as running:
        yield running


def entry(number: int) -> QueueEntry:
    return QueueEntry("a queue\nof any name", "group", "reader", f"{number}-0")


def said(stream: Stream, *data: str) -> list[Publication]:
    return [Publication(stream, each) for each in data]


async def send(node: NatsNode, number: int, *publications: Publishable) -> None:
    sent = node.pubsub.send(publications, entry(number))
    assert sent is not None
    await sent


@in_loop
async def test_an_entry_that_is_sent_again_is_stored_and_received_once(
    server: JetStreamServer,
) -> None:
    """By another node, too, and of a batch each."""
    async with nats_node(server) as node, nats_node(server) as other:
        await node.listen([ONE, TWO])
        batch = (*said(ONE, "1", "2"), *said(TWO, "3"))
        for each in (node, other, node):
            await send(each, 1, *batch)
        await send(node, 2, *said(ONE, "1"))
        await node.publish(ONE, "last")
        await until(lambda: "last" in node.data(ONE))
        assert node.data(ONE) == ["1", "2", "1", "last"]
        assert node.data(TWO) == ["3"]


@in_loop
async def test_ids_are_known_for_longer_than_a_takeover_takes(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        reply = await node.engine.connection.request("$JS.API.STREAM.INFO.test_between_H", b"{}")
        assert f'"duplicate_window":{DUPLICATES_S * S}'.encode() in reply.payload


@in_loop
async def test_entries_that_were_sent_after_a_failing_one_fail_with_it(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not kept before what failed is sent again: then all of it comes, once and in order."""
    monkeypatch.setattr(connection, "PATIENCE_S", 0.5)
    async with nats_node(server) as node:
        await node.listen([ONE])
        server.freeze()
        try:
            outcomes = await asyncio.gather(
                *(send(node, number, *said(ONE, str(number))) for number in range(3)),
                return_exceptions=True,
            )
        finally:
            server.thaw()
        assert [type(each) for each in outcomes] == [BackendError] * 3
        await node.is_up()
        await until(lambda: node.data(ONE) == ["0"])
        for number in range(3):
            await send(node, number, *said(ONE, str(number)))
        await node.publish(ONE, "last")
        await until(lambda: "last" in node.data(ONE))
        assert node.data(ONE) == ["0", "1", "2", "last"]
