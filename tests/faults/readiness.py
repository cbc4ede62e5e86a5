"""Answers of `/ready` during a fault, compared with docs/reliability.md, "How a node joins".

Pure. Times are seconds of one clock. Knows: numbers. Does not know: engines, faults, sockets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

CLOSED_S: Final = 1.0
"""A node whose connection to its store has ended reports it at once; the rest is time to ask."""

SILENT_S: Final = 7.0
"""A node whose store does not answer reports it within 6 s; the rest is time to ask."""

AGAIN_S: Final = 15.0
"""A node is ready again at the latest this long after its store answers."""


class Readiness(Enum):
    """One answer."""

    READY = 200
    NOT_READY = 503
    NO_ANSWER = 0
    """The node was killed, is stopped, or does not accept connections yet."""


@dataclass(frozen=True)
class ReadyAnswer:
    """``asked_s`` and ``answered_s`` are moments; ``reason`` is the text of a 503."""

    asked_s: float
    answered_s: float
    readiness: Readiness
    reason: str = ""


@dataclass(frozen=True)
class Expected:
    """How `/ready` of one node has to answer during a fault.

    ``may_change`` is False for a node that the fault does not concern: it stays ready. A node without its
    store reports it within ``reported_within_s``, and until the store is back; None where it has its store.
    """

    may_change: bool
    reported_within_s: float | None = None


STAYS_READY: Final = Expected(may_change=False)
MAY_CHANGE: Final = Expected(may_change=True)


@dataclass(frozen=True)
class ReadinessVerdict:
    """Of all nodes. ``not_ready_s`` is the longest time for which one of them answered 503; ``again_s`` the time
    from the repair until the last of them was ready for good; ``problems`` name what contradicts the docs."""

    not_ready_s: float
    again_s: float
    problems: tuple[str, ...] = ()


def judge(
    nodes: Sequence[Sequence[ReadyAnswer]],
    expected: Sequence[Expected],
    broken_s: float,
    mended_s: float,
) -> ReadinessVerdict:
    """``nodes`` are the answers of each node, in the order in which they were asked for."""
    problems: list[str] = []
    not_ready_s = again_s = 0.0
    for number, (answers, expectation) in enumerate(zip(nodes, expected, strict=True)):
        after = [each for each in answers if each.asked_s >= broken_s]
        problems += (
            f"node {number} {problem}"
            for problem in (
                _changed(after, expectation),
                _not_reported(after, expectation, broken_s, mended_s),
                _not_back(after, mended_s),
            )
            if problem
        )
        not_ready_s = max(not_ready_s, _not_ready_s(after))
        again_s = max(again_s, _again_s(after, mended_s))
    return ReadinessVerdict(not_ready_s, again_s, tuple(problems))


def _changed(answers: Sequence[ReadyAnswer], expected: Expected) -> str:
    wrong = [each for each in answers if each.readiness is Readiness.NOT_READY]
    if expected.may_change or not wrong:
        return ""
    return f"has its store and answered 503: {wrong[0].reason}"


def _not_reported(
    answers: Sequence[ReadyAnswer], expected: Expected, broken_s: float, mended_s: float
) -> str:
    if expected.reported_within_s is None:
        return ""
    due_s = broken_s + expected.reported_within_s
    wrong = [
        each
        for each in answers
        if each.asked_s >= due_s
        and each.answered_s <= mended_s
        and each.readiness is Readiness.READY
    ]
    if not wrong:
        return ""
    return f"had no store and answered 200 after {wrong[0].asked_s - broken_s:.1f} s"


def _not_back(answers: Sequence[ReadyAnswer], mended_s: float) -> str:
    if not answers or answers[-1].readiness is not Readiness.READY:
        return f"is not ready at the end: {answers[-1].reason if answers else 'no answer'}"
    again_s = _again_s(answers, mended_s)
    return f"was not ready for good until {again_s:.1f} s after the repair" * (again_s > AGAIN_S)


def _not_ready_s(answers: Sequence[ReadyAnswer]) -> float:
    return sum(
        following.asked_s - each.asked_s
        for each, following in pairwise(answers)
        if each.readiness is Readiness.NOT_READY
    )


def _again_s(answers: Sequence[ReadyAnswer], mended_s: float) -> float:
    """Until the first answer after the last one that was not 200."""
    ready_s = mended_s
    for each, following in pairwise(answers):
        if each.readiness is not Readiness.READY:
            ready_s = max(ready_s, following.answered_s)
    return ready_s - mended_s
