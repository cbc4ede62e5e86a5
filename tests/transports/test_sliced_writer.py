"""Large answers: a slice at a time, as the client reads, and an end for one that does not."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest

from catenary.messages.reasons import Reason
from catenary.ports import SLICE_BYTES, Goodbye
from catenary.transports import sliced_writer
from catenary.transports.websocket import WebSocketLimits
from catenary.wire.frames import CLOSE, close_frame, frame
from tests.parts.heart import in_loop, settle
from tests.parts.memory_socket import OpenWebSocket

LIMIT = 4 * SLICE_BYTES
BUDGET = 10_000


class Open(OpenWebSocket):
    """Counts the slices that were asked for."""

    def __init__(self, budget: int = BUDGET) -> None:
        limits = WebSocketLimits(max_pending_bytes=LIMIT, close_timeout_s=0.1)
        super().__init__(limits=limits, budget=budget)
        self.encoded = 0

    def slices(self, size: int) -> Iterator[bytes]:
        for _ in range(size):
            self.encoded += 1
            yield b"s" * SLICE_BYTES

    @property
    def too_slow(self) -> int:
        return self.heart.counters.disconnected_slow_clients_total


@in_loop
async def test_a_client_that_reads_is_sent_some_slices_in_each_turn() -> None:
    opened = Open(budget=3 * (SLICE_BYTES // sliced_writer.BYTES_PER_US + sliced_writer.STEP_US))
    sent = opened.connection.write_slices(opened.slices(9))
    seen = [opened.encoded]
    while opened.encoded < 9:
        await asyncio.sleep(0)
        seen.append(opened.encoded)
    in_a_turn = [after - before for before, after in pairwise(seen)]
    assert max(in_a_turn) == 3
    assert sent is not None
    await sent
    assert opened.connection.write == opened.socket.write


@in_loop
async def test_nothing_is_encoded_for_a_client_that_does_not_read() -> None:
    opened = Open()
    opened.socket.is_stuck = True
    opened.connection.write_slices(opened.slices(100))
    await settle()
    assert opened.encoded == 2
    opened.socket.read(SLICE_BYTES)
    await settle()
    assert opened.encoded == 2
    opened.socket.read()
    await settle()
    assert opened.encoded == 4
    opened.socket.is_stuck = False
    opened.socket.read()
    await settle(200)
    assert (opened.encoded, len(opened.socket.taken)) == (100, 100 * SLICE_BYTES)
    assert opened.too_slow == 0


@in_loop
async def test_an_answer_is_over_when_the_client_has_room_for_the_next() -> None:
    opened = Open()
    opened.socket.is_stuck = True
    sent = asyncio.ensure_future(opened.connection.write_slices(opened.slices(2)) or settle())
    await settle()
    assert not sent.done()
    opened.socket.read()
    await settle()
    assert sent.done()


@in_loop
async def test_other_writes_follow_the_reply_and_count_as_waiting() -> None:
    opened = Open()
    opened.socket.is_stuck = True
    opened.connection.write_slices(opened.slices(3))
    for _ in range(4):
        opened.connection.write(b"w" * SLICE_BYTES)
    await settle()
    assert opened.too_slow == 0
    opened.connection.write(b"w")
    opened.connection.write(b"w")
    assert not opened.session.closed, "never in the middle of a delivery"
    await settle()
    assert opened.too_slow == 1
    assert opened.session.closed
    opened.socket.is_stuck = False
    opened.socket.read()
    await settle()
    taken = bytes(opened.socket.taken)
    assert taken.startswith(b"s" * 3 * SLICE_BYTES + b"w" * (4 * SLICE_BYTES + 2))
    assert taken.endswith(close_frame(1000, "Slow client"))


@in_loop
async def test_a_client_that_takes_nothing_for_long_is_too_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sliced_writer, "STALL_S", 0.4)
    opened = Open()
    opened.socket.is_stuck = True
    opened.connection.write_slices(opened.slices(100))
    for _ in range(8):
        await asyncio.sleep(0.06)
        opened.socket.read(1000)
    assert opened.too_slow == 0
    async with asyncio.timeout(5):
        while not opened.too_slow:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while "abort" not in opened.socket.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert opened.encoded == 2
    opened.connection.lost(None)


@in_loop
async def test_one_that_reads_is_never_too_slow_whatever_it_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sliced_writer, "STALL_S", 0.01)
    opened = Open()
    for _ in range(20):
        await (opened.connection.write_slices(opened.slices(10)) or settle())
    await asyncio.sleep(0.03)
    assert (opened.encoded, opened.too_slow) == (200, 0)


@pytest.mark.parametrize("is_stuck", [False, True])
@in_loop
async def test_its_own_close_is_answered_after_the_answer(is_stuck: bool) -> None:
    opened = Open()
    opened.socket.is_stuck = is_stuck
    opened.connection.write_slices(opened.slices(5))
    opened.connection.receive(b"\x88\x82\0\0\0\0\x03\xe8")
    assert opened.socket.calls == []
    await settle()
    opened.socket.is_stuck = False
    opened.socket.read()
    await settle()
    assert opened.socket.calls == ["close"]
    assert opened.socket.taken == b"s" * 5 * SLICE_BYTES + frame(CLOSE, b"\x03\xe8")


@in_loop
async def test_a_client_that_closed_its_sending_side_still_gets_the_reply() -> None:
    opened = Open()
    opened.connection.write_slices(opened.slices(5))
    assert opened.connection.eof() is True
    assert opened.socket.calls == []
    await settle()
    assert (opened.socket.calls, len(opened.socket.taken)) == (["close"], 5 * SLICE_BYTES)


@in_loop
async def test_the_close_frame_of_an_error_follows_the_reply() -> None:
    opened = Open()
    opened.connection.write_slices(opened.slices(5))
    opened.connection.receive(b"\xff\xff\xff\xff")
    await settle()
    assert opened.socket.calls == ["eof"]
    assert bytes(opened.socket.taken).startswith(b"s" * 5 * SLICE_BYTES + b"\x88")


@in_loop
async def test_nothing_is_left_of_a_writer() -> None:
    opened = Open()
    opened.socket.is_stuck = True
    sent = opened.connection.write_slices(opened.slices(100))
    await settle()
    opened.socket.abort()
    opened.connection.lost(None)
    assert sent is not None
    await sent
    await settle()
    assert opened.encoded == 2
    assert opened.connection._heavy is not None
    assert opened.connection._heavy.writer is None


@in_loop
async def test_a_session_may_be_closed_in_the_middle_of_an_answer() -> None:
    opened = Open()
    opened.connection.write_slices(opened.slices(5))
    opened.connection.close(Goodbye(Reason.REMOTE, 1000, "bye"))
    await settle()
    assert bytes(opened.socket.taken) == b"s" * 5 * SLICE_BYTES + close_frame(1000, "bye")
