"""The buffer of a listener whose client reads the history: its limits, and what is reported beyond them."""

import pytest

from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication
from catenary.metrics.counters import Counters
from catenary.node import detached as limits
from catenary.node.detached import Detached

S = Stream("s")


def message(offset: int | None, data: str = "1", epoch: str = "e") -> Publication:
    position = None if offset is None else Position(epoch, offset)
    return Publication(S, data, position=position)


@pytest.fixture
def counters() -> Counters:
    return Counters()


def test_messages_are_buffered_in_order_and_then_pass_through(counters: Counters) -> None:
    detached = Detached()
    messages = [message(offset) for offset in (1, None, 2)]
    assert all(detached.takes(each, counters) for each in messages)
    assert not detached.may_rejoin
    assert detached.take() == messages
    assert detached.may_rejoin
    assert not detached.takes(message(3), counters)


def test_messages_sent_from_the_history_are_dropped_when_they_arrive(counters: Counters) -> None:
    detached = Detached()
    detached.take()
    detached.sent_up_to = Position("e", 7)
    assert not detached.may_rejoin
    taken = [detached.takes(message(offset), counters) for offset in (6, 7, None, 8)]
    assert taken == [True, True, False, False]
    assert not detached.takes(message(1, epoch="f"), counters)
    # As well where it is buffered again.
    detached.begin_buffering()
    for offset in (7, 8):
        assert detached.takes(message(offset), counters)
    assert detached.take() == [message(8)]


def test_beyond_its_limit_the_buffer_drops_what_the_history_has(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BUFFER_LIMIT", 3)
    detached = Detached()
    for offset in range(1, 8):
        assert detached.takes(message(offset), counters)
    assert counters.replay_overflows_total == 2
    assert (detached.has_overflowed, detached.has_gap, detached.has_lost) == (True, True, False)
    assert detached.first == Position("e", 1)
    detached.begin_read()
    assert not detached.has_overflowed
    assert detached.take() == [message(7)]


def test_the_data_of_what_is_buffered_has_a_limit_but_one_message_has_room(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BUFFER_BYTES", 10)
    detached = Detached()
    detached.takes(message(1, "x" * 20), counters)
    assert counters.replay_overflows_total == 0
    detached.takes(message(2, "x" * 5), counters)
    detached.takes(message(3, "x" * 5), counters)
    assert counters.replay_overflows_total == 1
    assert detached.take() == [message(2, "x" * 5), message(3, "x" * 5)]


def test_messages_that_are_in_no_history_are_lost_when_they_are_dropped(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BUFFER_LIMIT", 2)
    detached = Detached()
    for offset in (1, None, 2):
        detached.takes(message(offset), counters)
    assert detached.has_lost


@pytest.mark.parametrize(
    ("found", "overflows", "follows"),
    [
        ((), False, True),
        ((), True, False),
        ((4,), False, True),
        ((4, 5), True, True),
        ((5,), True, True),
        ((6,), False, False),
        ((6,), True, False),
    ],
)
def test_whether_the_buffer_follows_a_history(
    found: tuple[int, ...],
    overflows: bool,
    follows: bool,
    counters: Counters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first message that was buffered has the offset 5."""
    monkeypatch.setattr(limits, "BUFFER_LIMIT", 2 if overflows else 9)
    detached = Detached()
    for offset in (5, 6, 7):
        detached.takes(message(offset), counters)
    assert detached.follows(tuple(map(message, found))) is follows


def test_nothing_was_buffered_so_every_history_is_complete(counters: Counters) -> None:
    assert Detached().follows(())
    other = Detached()
    other.takes(message(None), counters)
    assert other.follows((message(9),))
