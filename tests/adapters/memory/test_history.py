"""Streams that are forgotten and come back, and the bytes that all of this takes.

What any history does is in tests/contracts/test_history.py.
"""

import gc
import tracemalloc

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from catenary.adapters.memory.history import SWEEP, LocalHistory
from catenary.broker.stream_log import KEPT_EMPTY
from catenary.errors import LostPosition
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication
from catenary.ports import History
from tests.contracts.brokers import Clock

EPOCH = "2vRx"
TTL_S = 300
FORGOTTEN_S = TTL_S * (KEPT_EMPTY + 1)
"""Long enough for any stream, ticks included."""

S, T, U = Stream("s"), Stream("t"), Stream("u")


def history(clock: Clock, *, limit: int = 100, ttl_s: float = TTL_S) -> LocalHistory:
    return LocalHistory(limit=limit, ttl_s=ttl_s, epoch=EPOCH, clock=clock)


def sweep(kept: LocalHistory) -> None:
    while kept.sweep():
        pass


def offset_of(kept: LocalHistory, stream: Stream, data: str = "1") -> int:
    position = kept.append(Publication(stream, data)).position
    assert position is not None
    return position.offset


def behind(kept: LocalHistory, stream: Stream, offset: int) -> list[str] | None:
    """The messages behind an offset; None where it is lost."""
    try:
        return [each.data for each in kept.after(stream, Position(EPOCH, offset))]
    except LostPosition:
        return None


def test_it_satisfies_the_port_and_answers_at_once() -> None:
    port: History = history(Clock())
    assert port.is_immediate


def test_a_stream_that_is_used_again_begins_after_its_old_offsets() -> None:
    clock = Clock()
    kept = history(clock)
    assert [offset_of(kept, S) for _ in range(3)] == [1, 2, 3]
    clock.now += FORGOTTEN_S
    sweep(kept)
    assert kept.streams == 0
    assert offset_of(kept, S, "new") == 4
    assert behind(kept, S, 2) is None
    assert behind(kept, S, 3) == ["new"]


def test_positions_of_a_forgotten_stream_are_not_those_of_another() -> None:
    clock = Clock()
    kept = history(clock)
    for _ in range(3):
        offset_of(kept, S)
    for _ in range(7):
        offset_of(kept, T)
    clock.now += FORGOTTEN_S
    sweep(kept)
    assert behind(kept, S, 3) is None, "all that is known: it is not above 7"
    assert behind(kept, T, 7) == []
    assert behind(kept, T, 6) is None
    assert offset_of(kept, S) == offset_of(kept, U) == 8
    assert behind(kept, S, 3) is None


def test_a_stream_lives_on_with_each_message() -> None:
    clock = Clock()
    kept = history(clock)
    for number in range(1, 30):
        assert offset_of(kept, S) == number
        clock.now += TTL_S * (KEPT_EMPTY - 1)
        sweep(kept)
    assert kept.streams == 1
    assert behind(kept, S, 29) == []


def test_a_message_after_a_long_silence_ends_in_its_own_time() -> None:
    clock = Clock()
    kept = history(clock)
    offset_of(kept, S)
    clock.now += TTL_S * 2
    sweep(kept)
    offset_of(kept, S)
    size_bytes = kept.size_bytes
    clock.now += TTL_S * 1.1
    sweep(kept)
    assert kept.size_bytes < size_bytes


@pytest.mark.parametrize(("limit", "ttl_s"), [(0, TTL_S), (100, 0), (-1, -1)])
def test_nothing_is_kept_of_any_stream(limit: int, ttl_s: float) -> None:
    clock = Clock()
    kept = history(clock, limit=limit, ttl_s=ttl_s)
    offsets = []
    for _ in range(5):
        offsets.append(offset_of(kept, S))
        assert kept.since(S, 0) == ()
        assert behind(kept, S, offsets[-1]) == []
        clock.now += 1
        sweep(kept)
    assert offsets == [1, 2, 3, 4, 5]
    clock.now += FORGOTTEN_S
    sweep(kept)
    assert kept.streams == 0


def test_asking_remembers_nothing() -> None:
    kept = history(Clock())
    for number in range(100):
        behind(kept, Stream(str(number)), number)
        assert kept.since(Stream(str(number)), 0) == ()
    assert (kept.streams, kept.size_bytes) == (0, 0)


def test_a_sweep_stops_and_goes_on() -> None:
    clock = Clock()
    kept = history(clock)
    for number in range(SWEEP):
        offset_of(kept, Stream(str(number)))
    full = kept.size_bytes
    clock.now += TTL_S * 1.1
    assert kept.sweep()
    half = kept.size_bytes
    assert kept.sweep()
    assert not kept.sweep()
    assert kept.size_bytes < half < full
    assert kept.streams == SWEEP


def test_100_000_messages_leave_no_bytes() -> None:
    clock = Clock()
    streams = 4_000
    gc.collect()
    tracemalloc.start()
    try:
        kept = history(clock, limit=10)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(100_000):
            kept.append(Publication(Stream(f"chat:{number % streams}"), "x" * (number % 200)))
            clock.now += 0.001
        full, _ = tracemalloc.get_traced_memory()
        own_count = kept.size_bytes
        clock.now += FORGOTTEN_S
        sweep(kept)  # the messages
        sweep(kept)  # the streams
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert own_count == pytest.approx(full - before, rel=0.15)
    assert full - before < streams * (500 + 10 * 500), "the limit holds"
    assert (kept.streams, kept.size_bytes) == (0, 0)
    assert after - before < 20_000


def test_streams_that_come_and_go_take_no_more_than_those_of_their_time() -> None:
    clock = Clock()
    kept = history(clock)
    most = 0
    for number in range(40_000):
        kept.append(Publication(Stream(f"once:{number}"), "x"))
        clock.now += 1
        kept.sweep()
        most = max(most, kept.streams)
    assert most <= TTL_S * (KEPT_EMPTY + 1)


class HistoryAgainstJournal(RuleBasedStateMachine):
    """``journals`` is all that was ever published, with moments, and nothing is ever taken from it.

    Whatever is forgotten in between: behind a position that a client was told is exactly what was
    published since, or the position is lost, and it is not lost without need.
    """

    streams = st.sampled_from([S, T, U])

    @initialize(limit=st.integers(0, 4), ttl_s=st.sampled_from([0, 10]))
    def begin(self, limit: int, ttl_s: float) -> None:
        self.limit, self.ttl_s = limit, ttl_s
        self.clock = Clock(1_000.0)
        self.history = history(self.clock, limit=limit, ttl_s=ttl_s)
        self.journals: dict[Stream, list[tuple[int, str]]] = {S: [], T: [], U: []}
        self.moments: dict[Stream, list[float]] = {S: [], T: [], U: []}
        self.published = 0

    @rule(stream=streams, count=st.integers(1, 6))
    def append(self, stream: Stream, count: int) -> None:
        for _ in range(count):
            self.published += 1
            offset = offset_of(self.history, stream, str(self.published))
            assert all(offset > earlier for earlier, _ in self.journals[stream])
            self.journals[stream].append((offset, str(self.published)))
            self.moments[stream].append(self.clock.now)

    @rule(seconds=st.sampled_from([1, 5, 11, 99, 111, 200]), is_swept=st.booleans())
    def wait(self, seconds: float, is_swept: bool) -> None:
        self.clock.now += seconds
        if is_swept:
            sweep(self.history)

    @rule(stream=streams, back=st.integers(0, 10))
    def after(self, stream: Stream, back: int) -> None:
        journal = self.journals[stream]
        if back >= len(journal):
            return
        offset, _ = journal[-1 - back]
        expected = [data for _, data in journal[len(journal) - back :]]
        found = behind(self.history, stream, offset)
        assert found in (None, expected)
        if self.is_kept(stream, back):
            assert found == expected

    def is_kept(self, stream: Stream, back: int) -> bool:
        """Must the messages after a position be found? A position is forgotten when its stream was silent for too
        long after it, also where the stream was used again later."""
        moments = [*self.moments[stream], self.clock.now]
        if moments[-1 - back] - moments[-2 - back] >= self.ttl_s * KEPT_EMPTY:
            return False
        return back == 0 or (
            back <= self.limit and moments[-1 - back] + self.ttl_s > self.clock.now
        )

    @rule(stream=streams, ahead=st.integers(1, 10))
    def never_handed_out(self, stream: Stream, ahead: int) -> None:
        if self.journals[stream]:
            offset = self.journals[stream][-1][0] + ahead
            assert behind(self.history, stream, offset) in (None, [])

    @rule(stream=streams)
    def since(self, stream: Stream) -> None:
        found = [each.data for each in self.history.since(stream, 0)]
        journal = [data for _, data in self.journals[stream]]
        fresh = sum(each + self.ttl_s > self.clock.now for each in self.moments[stream])
        expected = min(fresh, self.limit)
        assert found == journal[len(journal) - expected :]


TestHistoryAgainstJournal = HistoryAgainstJournal.TestCase
