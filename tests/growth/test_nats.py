"""NATS: publishing and receiving take work in proportion to the messages, and a share of it in each turn of the loop.

The server is a process of its own; what starts and stops a node is counted, too, and takes as much for any size.
"""

from collections.abc import Iterator

import pytest

from catenary.adapters.nats.outbox import WINDOW
from catenary.broker.limits import Limits
from catenary.errors import BackendError
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, QueueEntry
from tests.growth.measure import (
    LARGER_TURN,
    STEPS_RATIO,
    Case,
    Work,
    assert_turns_bounded,
    count,
)
from tests.parts.nats_node import LIMITS, JetStreamServer, jetstream_server, nats_node, until

SIZE = 2_000
"""Twice the window: each turn does all kinds of work by then."""

STREAMS = [Stream(f"s{number}") for number in range(10)]
ENGINES = pytest.mark.parametrize("limits", [None, LIMITS], ids=["not kept", "kept"])


@pytest.fixture
def server() -> Iterator[JetStreamServer]:
    with jetstream_server() as running:
        yield running


def a_batch(server: JetStreamServer, limits: Limits | None) -> Case:
    """From the call until all of it has come back."""

    def case(size: int) -> Work:
        batch = tuple(Publication(STREAMS[number % 10], f"{number}") for number in range(size))

        async def work() -> None:
            async with nats_node(server, limits) as node:
                await node.listen(STREAMS)
                sent = node.pubsub.send(batch)
                assert sent is not None
                await sent
                await until(lambda: len(node.received) == size)

        return work

    return case


def publications_wait_as_the_connection_ends(
    server: JetStreamServer, entry: QueueEntry | None
) -> Case:
    """Ten batches, which are prepared by then; with an ``entry`` they are of a queue."""

    def case(size: int) -> Work:
        batch = tuple(Publication(STREAMS[0], "1") for _ in range(size // 10))

        async def work() -> None:
            async with nats_node(server) as node:
                outbox = node.pubsub._outbox
                assert outbox is not None
                server.freeze()
                try:
                    sent = [outbox.send(batch, entry) for _ in range(10)]
                    await until(lambda: outbox._under_way == WINDOW and not outbox._tasks)
                    node.engine.connection.drop("the test")
                    for each in sent:
                        with pytest.raises(BackendError):
                            await each
                    await until(lambda: not outbox._line)
                finally:
                    server.thaw()

        return work

    return case


@ENGINES
def test_a_batch(server: JetStreamServer, limits: Limits | None) -> None:
    case = a_batch(server, limits)
    less, more = count(case, SIZE), count(case, SIZE * 10)
    assert more.steps <= less.steps * STEPS_RATIO, f"expected near linear work: {less}, {more}"
    assert more.longest_turn <= less.longest_turn * LARGER_TURN, f"expected turns: {less}, {more}"


@pytest.mark.parametrize("entry", [None, QueueEntry("queue", "group", "reader", "1-0")])
def test_no_turn_grows_with_what_waits_as_the_connection_ends(
    server: JetStreamServer, entry: QueueEntry | None
) -> None:
    assert_turns_bounded(publications_wait_as_the_connection_ends(server, entry), size=SIZE)
