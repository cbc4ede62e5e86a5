"""What a node measures: how long deliveries and handshakes take, and how many clients a publication reaches."""

import pytest

from catenary.adapters.memory.sessions import LocalSessions
from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.names import Sid
from catenary.metrics.histogram import Histogram
from catenary.node import decisions, delivery_queue, hub
from catenary.node.hub import TURN
from catenary.node.session import Traits
from tests.node.test_hub import NEWS, House
from tests.parts.heart import NEVER, Heart, in_loop, settle


class Clock:
    """Stands for time.perf_counter in the modules of the node."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        for module in (decisions, delivery_queue, hub):
            monkeypatch.setattr(module, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def measured(histogram: Histogram) -> tuple[int, float]:
    """How many values were observed, and their sum."""
    state = histogram.read()
    return state.count, round(state.sum, 6)


def clients(house: House) -> list[int]:
    """How many publications reached 0, 1, up to 10, up to 100, … clients."""
    return list(house.counters.delivery_clients.read().counts)


def test_a_publication_without_listeners_reaches_nobody() -> None:
    house = House()
    house.publish("hello")
    assert clients(house)[:2] == [1, 0]
    assert measured(house.counters.delivery_seconds) == (0, 0)


@pytest.mark.parametrize(("number", "expected"), [(1, [0, 1, 0]), (3, [0, 0, 1])])
def test_a_delivery_is_measured_once_for_all_clients(number: int, expected: list[int]) -> None:
    house = House()
    for index in range(number):
        house.member(NEWS, identifier=f"id-{index}")
    house.publish("hello")
    assert clients(house)[:3] == expected
    assert house.counters.delivery_clients.read().sum == number
    assert house.counters.delivery_seconds.read().count == 1


def test_the_client_that_is_excluded_is_not_counted() -> None:
    house = House()
    house.member(NEWS, sid="a")
    house.publish("hello", exclude_socket=Sid("a"))
    assert clients(house)[:2] == [0, 0]
    house.member(NEWS, sid="b")
    house.publish("hello", exclude_socket=Sid("a"))
    assert clients(house)[:2] == [0, 1]


def test_publications_are_measured_from_the_arrival_of_the_first_of_their_batch(
    clock: Clock,
) -> None:
    house = House()
    for _ in range(TURN + 1):
        house.member(NEWS)
    house.publish(1)  # arrives at 100, and takes more than a turn
    clock.now = 101
    house.publish(2)
    clock.now = 102
    house.publish(3)  # the same batch as 2
    clock.now = 104
    assert measured(house.counters.delivery_seconds) == (0, 0)
    house.run()
    assert measured(house.counters.delivery_seconds) == (3, 4 + 2 * 3)
    assert house.counters.delivery_clients.read().sum == 3 * (TURN + 1)


def test_each_publication_that_excludes_a_client_has_an_arrival_of_its_own(clock: Clock) -> None:
    house = House()
    for index in range(TURN + 1):
        house.member(NEWS, sid=f"m-{index}")
    house.publish(1)  # at 100
    for number in range(3):
        clock.now += 1
        house.publish(number, exclude_socket=Sid("m-0"))  # at 101, 102, 103
    clock.now = 110
    house.publish(4)
    house.publish(5)
    assert measured(house.counters.delivery_seconds) == (0, 0)
    house.run()
    assert measured(house.counters.delivery_seconds) == (6, 10 + 9 + 8 + 7)
    assert house.hub.waiting_num == 0


@in_loop
async def test_the_time_until_the_welcome_is_measured(clock: Clock) -> None:
    heart = Heart()
    waiting = heart.application.later("connect")
    clock.now = 105
    heart.connect(traits=Traits(NEVER, asked_at=102))
    assert measured(heart.counters.handshake_seconds) == (0, 0)
    clock.now = 109
    waiting.set_result(Decision(identifiers="x"))
    await settle()
    assert measured(heart.counters.handshake_seconds) == (1, 7)


@in_loop
async def test_a_resumed_session_is_measured(clock: Clock) -> None:
    sessions = LocalSessions(ttl_s=10, clock=lambda: 0.0)
    heart = Heart(sessions=sessions)
    first = heart.connect("a", traits=Traits(NEVER, is_resumable=True, asked_at=100))
    first.leave()
    clock.now = 103
    traits = Traits(NEVER, is_resumable=True, resumes=Sid("a"), asked_at=101)
    again = heart.connect("b", traits=traits)
    assert again.heard[0]["restored"] is True
    assert measured(heart.counters.handshake_seconds) == (2, 2)


@in_loop
async def test_clients_that_are_not_admitted_are_not_measured() -> None:
    heart = Heart()
    heart.application.prepare(
        "connect", AppFailed("broken"), Decision(verdict=Verdict.FAILURE), Decision(identifiers="x")
    )
    for _ in range(2):
        heart.connect(traits=Traits(NEVER, asked_at=1))
    heart.connect()  # asked at an unknown time
    assert measured(heart.counters.handshake_seconds) == (0, 0)
