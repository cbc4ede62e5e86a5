"""Publications between nodes by way of NATS: what the contract of an engine does not say."""

import asyncio
from collections.abc import Iterator

import pytest

from catenary.adapters.nats import wire
from catenary.adapters.nats.connection import NatsConnection, connect
from catenary.adapters.nats.pubsub import NatsPubSub
from catenary.adapters.nats.subjects import token
from catenary.config.addresses import server_address
from catenary.errors import BackendError
from catenary.messages.names import Stream
from tests.parts.heart import in_loop
from tests.parts.nats_node import (
    JetStreamServer,
    NatsNode,
    jetstream_server,
    nats_node,
    until,
)

S, T = Stream("s"), Stream("t")


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


async def other_connection(server: JetStreamServer) -> NatsConnection:
    """Another client of the same server."""
    return await connect(server_address(server.url))


# Between nodes


@in_loop
async def test_a_node_receives_the_streams_its_clients_listen_to_and_no_other(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as one, nats_node(server) as other:
        counted: dict[bytes, int] = {}
        take = one.engine.connection._reader._on_message

        def count(number: int, subject: bytes, headers: bytes, payload: bytes) -> None:
            if subject.startswith(b"test.between.p."):
                counted[subject] = counted.get(subject, 0) + 1
            take(number, subject, headers, payload)

        one.engine.connection._reader._on_message = count
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


@in_loop
async def test_a_jetstream_stream_that_another_client_deletes_is_created_again(
    server: JetStreamServer,
) -> None:
    async with nats_node(server) as one, nats_node(server) as other:
        for node in (one, other):
            await node.listen([S])
        await one.publish(S, 1)
        await until(lambda: one.data(S) == other.data(S) == ["1"])
        epoch = one.engine.kept().epoch
        other_client = await other_connection(server)
        await other_client.request(f"$JS.API.STREAM.DELETE.{one.engine.kept().name}")
        await other_client.close(1)
        with pytest.raises(BackendError, match="no such stream"):
            await one.publish(S, "it is not kept")
        for node in (one, other):
            await eventually(node, S, "kept")
        for node in (one, other):
            await until(lambda n=node: n.data(S) == ["1", "kept", "kept"])  # type: ignore[misc]
            await until(lambda n=node: n.restored == 1)  # type: ignore[misc]
            assert node.engine.kept().epoch != epoch
        assert one.heard(S) == other.heard(S)


# Bounds


@in_loop
async def test_invalid_messages_of_other_clients_are_dropped(
    server: JetStreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with nats_node(server) as node:
        await node.listen([S])
        other_client = await other_connection(server)
        epoch = node.engine.kept().epoch
        for raw in (b"", b"x", b"\x94", b"\x95\xa1s\xa0\xc0\xa0\xa0"):
            for subject in (f"p.0.{token(S)}", f"h.{epoch}.{token(S)}", "c"):
                other_client.publish(f"test.between.{subject}", raw)
        other_client.publish(
            f"test.between.p.{epoch}.{token(S)}", b"", wire.header("Nats-Sequence", "é")
        )
        await other_client.flushed()
        await node.publish(S, "good")
        await until(lambda: node.data(S) == ["good"])
        assert await node.history.since(S, 0) == tuple(node.received)
        await other_client.close(1)
        assert node.restored == 0
    assert caplog.text.count("is not a publication") >= 8
    assert caplog.text.count("is not a command") == 4


@in_loop
async def test_a_canary_that_is_under_way_when_the_connection_ends_is_lost(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NatsPubSub, "_take_canary", lambda *_: None)
    async with nats_node(server, None, canary_interval_s=60) as node:
        await node.engine.connection.flushed()
        node.engine.connection.drop("silent for 5 s")
        await until(lambda: node.counters.pubsub_reconnects_total == 1)
        assert node.counters.pubsub_canary_lost_total == 1
        await node.is_up()
        await node.pubsub.close(1)
        assert node.counters.pubsub_canary_lost_total == 1, "not at the end of a node"
