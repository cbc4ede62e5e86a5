"""Entries of a Redis stream in bursts: how many are begun in one turn, and what each may do to the others."""

import asyncio
from collections.abc import Awaitable

from catenary.adapters.redis.bursts import BURST_BYTES, Bursts
from catenary.adapters.redis.consumer import StreamEntry
from catenary.errors import PublicationError
from catenary.messages.publications import QueueEntry
from catenary.metrics.counters import Counters
from catenary.node.batches import LARGE_BYTES
from tests.parts.heart import in_loop


class Publisher:
    """Begins each publication when it is told to, and finishes it a turn later."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.traces: list[str] = []
        self.done: list[bytes] = []
        self.refused: set[bytes] = set()
        self.counters = Counters()
        self.bursts = Bursts("stream", "group", self._publish, self.counters)

    def _publish(self, raw: bytes, entry: QueueEntry, trace: str = "") -> Awaitable[None] | None:
        self.begun.append(raw)
        self.traces.append(trace)
        return self._publish_later(raw)

    async def _publish_later(self, raw: bytes) -> None:
        await asyncio.sleep(0)
        if raw in self.refused:
            raise PublicationError("refused when it was read to its end")

    def note(self, entry: StreamEntry) -> None:
        assert entry.fields is not None
        self.done.append(entry.fields[1])

    async def publish(self, *payloads: bytes) -> list[int]:
        """Publishes all; how many publications each burst had."""
        left = [
            StreamEntry(b"%d-0" % number, [b"payload", each])
            for number, each in enumerate(payloads)
        ]
        numbers = []
        while left:
            unfinished = await self.bursts.publish(left, self.note)
            assert unfinished.failure is None
            numbers.append(len(left) - len(unfinished.entries))
            left = unfinished.entries
        return numbers


@in_loop
async def test_a_burst_has_no_more_bytes_than_are_read_in_one_turn() -> None:
    one = Publisher()
    quarter = BURST_BYTES // 4
    payloads = [b"%d" % each + b"x" * quarter for each in range(8)]
    assert await one.publish(*payloads) == [3, 3, 2]
    assert one.done == payloads


@in_loop
async def test_a_large_entry_is_a_burst_of_its_own() -> None:
    """It is read in turns: what is begun beside it might be sent before it."""
    assert BURST_BYTES <= LARGE_BYTES, "what the node reads in turns is always alone"
    one = Publisher()
    large = b"x" * BURST_BYTES
    assert await one.publish(b"1", b"2", large, large, b"3", b"4") == [2, 1, 1, 2]
    assert one.begun == one.done == [b"1", b"2", large, large, b"3", b"4"]


@in_loop
async def test_an_entry_that_is_refused_after_it_was_begun_is_dropped() -> None:
    one = Publisher()
    one.refused = {b"2"}
    await one.publish(b"1", b"2", b"3")
    assert one.done == [b"1", b"2", b"3"]
    assert one.counters.failed_broadcast_msg_total == 0, "the node has counted it"
