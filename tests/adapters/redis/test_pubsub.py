"""Publications between nodes by way of Redis: what the contract of an engine does not say."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
import redis

from catenary.adapters import packing
from catenary.adapters.redis import payload
from catenary.errors import BackendError
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication
from tests.parts.heart import in_loop
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import RedisNode, redis_node, until

S, T = Stream("s"), Stream("t")
QUICK_S = 0.3
"""Between canaries."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


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


# Between nodes


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
    on_message = node.pubsub._on_message

    class Counting(type(node.pubsub)):  # type: ignore[misc]
        __slots__ = ()

        def _on_message(self, channel: bytes, content: bytes) -> None:
            if b"#" not in channel:
                counted[channel] = counted.get(channel, 0) + 1
            on_message(channel, content)

    node.pubsub.__class__ = Counting
    return counted


# Outages


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

            async def _send_command(self, command: str, channels: list[bytes]) -> None:
                await super()._send_command(command, channels)
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
async def test_canaries_come_back_all_the_time(server: RedisServer) -> None:
    async with redis_node(server, canary_interval_s=0.02) as node:
        alive = 0

        def note() -> None:
            nonlocal alive
            alive += 1

        class Noting(type(node.recovery)):  # type: ignore[misc]
            __slots__ = ()

            def note_alive(self) -> None:
                note()

        node.recovery.__class__ = Noting
        await until(lambda: alive > 5)
        assert node.counters.pubsub_canary_lost_total == 0
        assert node.received == []


@in_loop
async def test_a_redis_that_hangs_while_it_is_connected_to(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listening fails, and then connecting runs into its time limit, in the same service."""
    monkeypatch.setattr("catenary.adapters.redis.connection.CONNECT_TIMEOUT_S", QUICK_S)
    monkeypatch.setattr("catenary.adapters.redis.commands.REPLY_TIMEOUT_S", QUICK_S)
    async with redis_node(server, canary_interval_s=QUICK_S) as node:
        await node.listen([S])
        server.freeze()
        try:
            await until(lambda: "no answer in time" in (node.pubsub.trouble or ""))
            assert node.counters.pubsub_reconnects_total == 1, "attempts are no losses"
        finally:
            server.thaw()
        await node.is_up()
        await eventually(node, S, "again")
        await until(lambda: node.data(S) == ["again"])
        assert node.counters.service_failures_total == 0


# Bounds


@in_loop
async def test_messages_of_other_programs_are_ignored(
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
    assert caplog.text.count("not from a node") == 12


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
