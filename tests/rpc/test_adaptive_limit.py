"""The adaptive limit against a modelled application, in simulated time. test_adaptive_concurrency.py has real ones."""

import heapq
import random
from dataclasses import dataclass, field

import pytest

from catenary.rpc.adaptive_limit import AdaptiveLimit, AdaptiveRules

RULES = AdaptiveRules()
BACKOFF_S = 0.01
TIMEOUT_S = 3.0


@dataclass
class Model:
    """An application with ``workers``, each busy for about ``service_s`` with a call, and a queue, unless it ``refuses``
    calls beyond them. ``offered`` callers call again at once; those above the limit are the backlog."""

    workers: int
    service_s: float = 0.02
    refuses: bool = False
    hangs: bool = False
    offered: int = 1000
    rules: AdaptiveRules = RULES
    procedure: str = "Command"
    now: float = 0.0
    answered: int = 0
    refused: int = 0
    history: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limit = AdaptiveLimit(self.rules, self.now)
        self._random = random.Random(1)
        self._ends: list[tuple[float, int, float, str]] = []
        self._queue: list[tuple[float, str]] = []
        self._number = 0
        self._busy = 0
        self._working = 0

    def run(self, seconds: float) -> list[int]:
        """Simulates; returns the limit after each answer."""
        end, self.history = self.now + seconds, []
        self._fill()
        while self._ends and self._ends[0][0] <= end:
            self.now, _, began_at, kind = heapq.heappop(self._ends)
            self._busy -= 1
            if kind.startswith("refused"):
                # The call keeps its slot and makes another attempt.
                self._busy += 1
                self._attempt(began_at, int(kind.removeprefix("refused")))
            elif kind == "late":
                self.limit.overloaded(self.now)
            else:
                self._working -= 1
                self.answered += 1
                self._start_next()
                if kind != "repeated":
                    self.limit.answered(
                        kind,
                        self.now - began_at,
                        self.now,
                        busy=min(self.limit.limit, self.offered),
                        has_backlog=self.offered > self.limit.limit,
                    )
            self.history.append(self.limit.limit)
            self._fill()
        self.now = end
        return self.history

    def _fill(self) -> None:
        while self._busy < min(self.limit.limit, self.offered):
            self._busy += 1
            self._attempt(self.now, 0)

    def _attempt(self, began_at: float, retries: int) -> None:
        if self.hangs:
            self._end(self.now + TIMEOUT_S, began_at, "late")
        elif self._working < self.workers:
            self._work(began_at, "repeated" if retries else self.procedure)
        elif self.refuses:
            self.refused += 1
            self.limit.overloaded(self.now, is_first=not retries)
            delay_s = min(BACKOFF_S * 2**retries, 0.5)
            self._end(self.now + delay_s, began_at, f"refused{retries + 1}")
        else:
            self._queue.append((began_at, self.procedure))

    def _start_next(self) -> None:
        if self._queue and self._working < self.workers:
            self._work(*self._queue.pop(0))

    def _work(self, began_at: float, procedure: str) -> None:
        self._working += 1
        takes_s = self.service_s * self._random.uniform(0.7, 1.6)
        self._end(self.now + takes_s, began_at, procedure)

    def _end(self, at: float, began_at: float, kind: str) -> None:
        self._number += 1
        heapq.heappush(self._ends, (at, self._number, began_at, kind))


def median(limits: list[int]) -> int:
    return sorted(limits)[len(limits) // 2]


def test_it_grows_with_a_backlog_up_to_its_maximum() -> None:
    model = Model(workers=1000)
    assert model.limit.limit == 25
    assert model.run(5)[-1] == 100


def test_it_stays_without_a_backlog() -> None:
    model = Model(workers=1000, offered=20)
    assert set(model.run(40)) == {25}


def test_it_finds_the_workers_of_an_application_that_refuses_calls() -> None:
    model = Model(workers=10, refuses=True)
    model.run(5)
    model.answered = model.refused = 0
    limits = model.run(20)
    assert 8 <= median(limits) <= 11
    assert model.answered > 0.85 * 20 * 10 / (model.service_s * 1.15), "the workers are busy"
    assert model.refused < 0.05 * model.answered


def test_it_finds_the_workers_of_an_application_that_queues_calls() -> None:
    """By its latency alone."""
    model = Model(workers=10)
    model.run(3)
    model.answered = 0
    limits = model.run(10)
    assert 10 <= median(limits) <= 25
    assert model.answered > 0.9 * 10 * 10 / (model.service_s * 1.15), "the workers are busy"


@pytest.mark.parametrize("refuses", [True, False])
def test_it_follows_an_application_that_grows_and_shrinks(refuses: bool) -> None:
    model = Model(workers=10, refuses=refuses)
    small = median(model.run(6)[-1000:])
    model.workers = 60
    large = median(model.run(20)[-1000:])
    model.workers = 10
    again = median(model.run(10)[-1000:])
    assert max(small, again) < 26
    assert large >= 50


def test_it_shrinks_to_its_minimum_while_calls_time_out_and_grows_again() -> None:
    model = Model(workers=50)
    assert model.run(10)[-1] > 40
    model.hangs = True
    assert model.run(20)[-1] == 5
    model.hangs = False
    assert model.run(10)[-1] > 40


def test_an_application_that_became_slower_is_measured_again() -> None:
    """Its latency is no sign of a queue then, and the limit must not stay at its minimum."""
    model = Model(workers=1000)
    model.run(10)
    model.service_s = 0.2
    assert model.run(15)[-1] == 100


def test_a_rush_of_slower_calls_is_no_rise_of_latency() -> None:
    model = Model(workers=1000)
    assert model.run(10)[-1] == 100
    model.procedure, model.service_s = "Connect", 0.2
    limits = model.run(4)
    assert limits.count(100) > 0.9 * len(limits), "but for the window that measures them"


def test_latency_of_few_calls_at_once_shrinks_nothing() -> None:
    model = Model(workers=1000, offered=5)
    model.run(5)
    model.service_s = 0.5
    assert set(model.run(20)) == {25}


def test_one_late_call_of_many_costs_one_slot() -> None:
    limit = AdaptiveLimit(RULES, 0.0)
    limit.overloaded(0.05)
    for number in range(40):
        limit.answered("Command", 0.01, 0.06 + number / 1000, busy=25, has_backlog=True)
    assert limit.limit == 25, "the window has not ended"
    assert limit.answered("Command", 0.01, 0.11, busy=25, has_backlog=True)
    assert limit.limit == 24


def test_results_of_the_former_limit_are_ignored() -> None:
    limit = AdaptiveLimit(RULES, 0.0)
    assert not any(
        limit.answered("Command", 5.0, 0.2, busy=25, has_backlog=True) for _ in range(100)
    )
    assert limit.limit == 25


@pytest.mark.parametrize("hangs", [False, True])
def test_it_keeps_within_its_bounds(hangs: bool) -> None:
    rules = AdaptiveRules(initial=3, minimum=2, maximum=4)
    model = Model(workers=1, rules=rules, refuses=True, hangs=hangs)
    assert {*model.run(20)} <= {2, 3, 4}
