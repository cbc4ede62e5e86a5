"""The history of one stream, against a table of cases and a list of all messages as the model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from catenary.broker.stream_log import KEPT_EMPTY, LOG_BYTES, StreamLog
from catenary.errors import LostPosition
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication

EPOCH = "2vRx"
LOST = "lost"
TTL_S = 10.0

Found = list[int] | str


def log_of(count: int, *, limit: int = 100, ttl_s: float = TTL_S, newest: int = 0) -> StreamLog:
    """A log with the numbers from 1, one published each second."""
    log = StreamLog(limit=limit, ttl_s=ttl_s, epoch=EPOCH, newest=newest)
    for number in range(1, count + 1):
        log.append(message(number), float(number))
    return log


def message(number: int) -> Publication:
    return Publication(Stream("s"), str(number))


def found(log: StreamLog, offset: int, now: float, epoch: str = EPOCH) -> Found:
    """The messages after an offset."""
    try:
        return [int(each.data) for each in log.after(Position(epoch, offset), now)]
    except LostPosition:
        return LOST


@pytest.mark.parametrize(
    ("log", "offset", "now", "expected"),
    [
        (log_of(5), 2, 5, [3, 4, 5]),
        (log_of(5), 4, 5, [5]),
        (log_of(5), 5, 5, []),
        (log_of(5), 0, 5, [1, 2, 3, 4, 5]),
        (log_of(5), 6, 5, LOST),
        (log_of(5), -1, 5, LOST),
        (log_of(5, limit=3), 2, 5, [3, 4, 5]),
        (log_of(5, limit=3), 1, 5, LOST),
        (log_of(5, limit=3), 0, 5, LOST),
        (log_of(5), 1, 11, [2, 3, 4, 5]),
        (log_of(5), 0, 10.9, [1, 2, 3, 4, 5]),
        (log_of(5), 0, 11, LOST),
        (log_of(5), 4, 14.9, [5]),
        (log_of(5), 4, 15, LOST),
        (log_of(5), 5, 15, []),
        (log_of(5), 5, 1e9, []),
        (log_of(5, limit=0), 5, 5, []),
        (log_of(5, limit=0), 4, 5, LOST),
        (log_of(5, limit=-1), 4, 5, LOST),
        (log_of(5, ttl_s=0), 5, 5, []),
        (log_of(5, ttl_s=0), 4, 5, LOST),
        (log_of(0), 0, 0, []),
        (log_of(0), 1, 0, LOST),
        (log_of(0, newest=7), 7, 0, []),
        (log_of(0, newest=7), 6, 0, LOST),
        (log_of(0, newest=7), 0, 0, LOST),
        (log_of(2, newest=7), 7, 2, [1, 2]),
        (log_of(2, newest=7), 8, 2, [2]),
        (log_of(2, newest=7), 6, 2, LOST),
        (log_of(2, newest=7), 0, 2, LOST),
    ],
)
def test_after_a_position(log: StreamLog, offset: int, now: float, expected: Found) -> None:
    assert found(log, offset, now) == expected


def test_another_epoch_is_lost() -> None:
    assert found(log_of(5), 5, 5, "other") == LOST
    assert found(log_of(0), 0, 0, "other") == LOST


def test_the_error_of_a_lost_position() -> None:
    with pytest.raises(LostPosition, match=r"^expected an offset from 2 to 5, got 1$"):
        log_of(5, limit=3).after(Position(EPOCH, 1), 5)
    with pytest.raises(LostPosition, match=r"^expected the epoch '2vRx', got 'other'$"):
        log_of(5).after(Position("other", 1), 5)


@pytest.mark.parametrize(
    ("moment_s", "now", "expected"),
    [
        (0, 5, [1, 2, 3, 4, 5]),
        (3, 5, [3, 4, 5]),
        (3.1, 5, [4, 5]),
        (6, 5, []),
        (0, 13, [4, 5]),
        (0, 15, []),
    ],
)
def test_since_a_time(moment_s: float, now: float, expected: list[int]) -> None:
    assert [int(each.data) for each in log_of(5).since(moment_s, now)] == expected


def test_a_message_is_returned_and_stored_with_its_position() -> None:
    log = log_of(1)
    publication = Publication(Stream("s"), "2", Sid("1"), "whisper")
    kept = log.append(publication, 2)
    assert kept == Publication(Stream("s"), "2", Sid("1"), "whisper", position=Position(EPOCH, 2))
    assert log.after(Position(EPOCH, 1), 2) == (kept,)


def test_a_position_from_elsewhere_is_replaced() -> None:
    publication = Publication(Stream("s"), "1", position=Position("other", 99))
    assert log_of(0).append(publication, 1).position == Position(EPOCH, 1)


def test_times_do_not_decrease_when_the_clock_steps_back() -> None:
    log = log_of(3)
    for number in range(4, 9):
        log.append(message(number), 0)
    log.append(message(9), 4)
    assert [int(each.data) for each in log.since(3, 4)] == list(range(3, 10))
    assert found(log, 1, 11) == list(range(2, 10))
    assert [int(each.data) for each in log.since(0, 13)] == [9]


@pytest.mark.parametrize("limit", [0, 100])
def test_a_log_outlives_its_messages(limit: int) -> None:
    log = log_of(5, limit=limit)
    over = 5 + KEPT_EMPTY * TTL_S
    log.expire(over - 1)
    assert len(log) == 0
    assert not log.is_over(over - 1)
    assert log.deadline == over
    assert log.is_over(over)


def test_a_log_is_not_over_when_its_messages_have_expired() -> None:
    assert not log_of(5).is_over(1 + TTL_S)


def test_the_deadline_is_that_of_the_oldest_message() -> None:
    log = log_of(5)
    assert log.deadline == 1 + TTL_S
    assert log.expire(2 + TTL_S) == 2
    assert log.deadline == 3 + TTL_S
    assert not log.is_over(2 + TTL_S)
    assert log.expire(2 + TTL_S) == 0


@given(
    st.lists(st.tuples(st.floats(0, 30), st.text(max_size=50)), max_size=50),
    st.integers(-1, 20),
    st.floats(0, 40),
)
def test_the_size_is_that_of_the_stored_messages(
    messages: list[tuple[float, str]], limit: int, rest_s: float
) -> None:
    log = StreamLog(limit=limit, ttl_s=20, epoch=EPOCH)
    now = 0.0
    for pause_s, text in messages:
        now += pause_s
        log.append(Publication(Stream("s"), text), now)
    now += rest_s
    log.expire(now)
    alike = StreamLog(limit=len(log), ttl_s=20, epoch=EPOCH)
    for each in log.since(0, now):
        alike.append(each, now)
    assert log.size_bytes == alike.size_bytes
    assert log.size_bytes >= LOG_BYTES + sum(len(each.data) for each in log.since(0, now))
    log.expire(now + 20)
    assert log.size_bytes == LOG_BYTES


class LogAgainstModel(RuleBasedStateMachine):
    """``published`` has the time of each message, at the index offset - 1 - ``first``."""

    @initialize(
        limit=st.integers(0, 5), ttl_s=st.sampled_from([0, 1, 7.5]), first=st.sampled_from([0, 3])
    )
    def begin(self, limit: int, ttl_s: float, first: int) -> None:
        self.limit, self.ttl_s, self.first = limit, ttl_s, first
        self.log = StreamLog(limit=limit, ttl_s=ttl_s, epoch=EPOCH, newest=first)
        self.published: list[float] = []
        self.now = 1_000.0

    @property
    def newest(self) -> int:
        return self.first + len(self.published)

    def kept(self) -> list[int]:
        """The offsets that must be stored now."""
        offsets = range(self.first + 1, self.newest + 1)
        last = list(zip(offsets, self.published, strict=True))[-self.limit :]
        if self.limit == 0:
            return []
        return [offset for offset, moment in last if moment + self.ttl_s > self.now]

    @rule(seconds=st.sampled_from([0, 0.5, 1, 3, 7.5, 80]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 3))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.published.append(self.now)
            kept = self.log.append(message(self.newest), self.now)
            assert kept.position == Position(EPOCH, self.newest)

    @rule()
    def expire(self) -> None:
        self.log.expire(self.now)
        assert len(self.log) == len(self.kept())

    @rule(back=st.integers(-1, 8))
    def after(self, back: int) -> None:
        offset = self.newest - back
        wanted = list(range(offset + 1, self.newest + 1))
        is_there = back >= 0 and set(wanted) <= set(self.kept())
        assert found(self.log, offset, self.now) == (wanted if is_there else LOST)

    @rule(back_s=st.sampled_from([-1, 0, 0.5, 1, 5, 1000]))
    def since(self, back_s: float) -> None:
        moment = self.now - back_s
        wanted = [each for each in self.kept() if self.published[each - self.first - 1] >= moment]
        assert [int(each.data) for each in self.log.since(moment, self.now)] == wanted

    @invariant()
    def no_more_than_the_limit(self) -> None:
        assert len(self.log) <= self.limit
        assert self.log.newest == self.newest


TestLogAgainstModel = LogAgainstModel.TestCase
