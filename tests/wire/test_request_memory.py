"""The memory of incomplete requests: which one is refused, and that every byte is counted once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import RequestRefused
from catenary.metrics.counters import Counters
from catenary.wire.request_memory import PendingBody, RequestMemory


class Waiting:
    """A holder that notes that it gave up."""

    def __init__(self, name: str, given_up: list[str]) -> None:
        self._name = name
        self._given_up = given_up

    def give_up(self) -> None:
        self._given_up.append(self._name)


def test_those_that_have_waited_longest_give_way() -> None:
    counters, gone = Counters(), list[str]()
    memory = RequestMemory(100, counters)
    first, second, third = (Waiting(name, gone) for name in ("first", "second", "third"))
    memory.hold(first, 40)
    memory.hold(second, 60)
    assert not gone
    memory.hold(first, 41)
    assert gone == ["first"], "it grew last, and yet it has waited longest"
    memory.hold(third, 40)
    memory.release(second)
    memory.release(second)
    memory.hold(first, 60)
    assert gone == ["first"]
    memory.hold(second, 100)
    assert gone == ["first", "third", "first"]
    assert (counters.refused_requests_total, counters.pending_requests_bytes) == (3, 100)


def test_one_that_is_too_large_alone_gives_way_itself() -> None:
    gone = list[str]()
    memory = RequestMemory(100, Counters())
    memory.hold(Waiting("small", gone), 10)
    memory.hold(Waiting("large", gone), 101)
    assert gone == ["small", "large"]


def test_there_may_be_no_limit() -> None:
    gone = list[str]()
    memory = RequestMemory(0, Counters())
    memory.hold(Waiting("large", gone), 2**40)
    assert not gone


@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(1, 60))), max_size=60)
)
def test_the_counter_is_the_sum_of_all_sizes(steps: list[tuple[int, int | None]]) -> None:
    counters = Counters()
    memory = RequestMemory(100, counters)
    held: dict[int, int] = {}

    class Owner:
        def __init__(self, number: int) -> None:
            self.number = number

        def give_up(self) -> None:
            del held[self.number]

    owners = [Owner(number) for number in range(6)]
    for number, size in steps:
        if size is None:
            memory.release(owners[number])
            held.pop(number, None)
        else:
            held[number] = size
            memory.hold(owners[number], size)
        assert counters.pending_requests_bytes == sum(held.values()) <= 100


def test_a_body_in_pieces() -> None:
    counters = Counters()
    body = PendingBody(RequestMemory(100, counters), 30, lambda: None)
    for _ in range(30):
        body.add(b"x")
    assert counters.pending_requests_bytes == 30
    with pytest.raises(RequestRefused) as refused:
        body.add(b"x")
    assert refused.value.status == 413
    assert body.taken() == b"x" * 30
    body.close()
    assert counters.pending_requests_bytes == 0


def test_a_body_that_gives_way_keeps_nothing() -> None:
    memory, interrupted = RequestMemory(100, Counters()), list[str]()
    first = PendingBody(memory, 100, lambda: interrupted.append("first"))
    second = PendingBody(memory, 100, lambda: interrupted.append("second"))
    first.add(b"x" * 60)
    second.add(b"x" * 60)
    assert (interrupted, first.is_given_up, first.taken()) == (["first"], True, b"")
    with pytest.raises(RequestRefused) as refused:
        first.add(b"y")
    assert refused.value.status == 503
