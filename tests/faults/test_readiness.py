"""The answers of `/ready` that contradict docs/reliability.md."""

import pytest

from tests.faults.readiness import (
    AGAIN_S,
    MAY_CHANGE,
    STAYS_READY,
    Expected,
    Readiness,
    ReadyAnswer,
    judge,
)

BROKEN_S, MENDED_S, END_S = 10, 20, 40
WITHOUT_STORE = Expected(may_change=True, reported_within_s=3)

READY, NOT_READY, NO_ANSWER = Readiness.READY, Readiness.NOT_READY, Readiness.NO_ANSWER


def answers(*changes: tuple[float, Readiness]) -> list[ReadyAnswer]:
    """An answer each second: 200, until a change says otherwise."""
    found = []
    for moment in range(END_S):
        readiness = [READY, *(each for since_s, each in changes if since_s <= moment)][-1]
        reason = "Redis is away" if readiness is NOT_READY else ""
        found.append(ReadyAnswer(moment, moment + 0.1, readiness, reason))
    return found


@pytest.mark.parametrize(
    ("expected", "changes", "problem"),
    [
        (STAYS_READY, [], ""),
        (STAYS_READY, [(12, NOT_READY), (13, READY)], "has its store and answered 503: Redis is"),
        # After the repair, too.
        (STAYS_READY, [(25, NOT_READY), (26, READY)], "has its store and answered 503: Redis is"),
        # Before the fault, it does not count.
        (STAYS_READY, [(5, NOT_READY), (6, READY)], ""),
        (MAY_CHANGE, [(12, NOT_READY), (13, READY)], ""),
        (MAY_CHANGE, [(12, NO_ANSWER), (22, READY)], ""),
        (WITHOUT_STORE, [(13, NOT_READY), (21, READY)], ""),
        (WITHOUT_STORE, [], "had no store and answered 200 after 3.0 s"),
        (WITHOUT_STORE, [(15, NOT_READY), (21, READY)], "had no store and answered 200 after 3.0"),
        # Once said, it holds until the store is back.
        (
            WITHOUT_STORE,
            [(11, NOT_READY), (17, READY), (18, NOT_READY), (21, READY)],
            "had no store and answered 200 after 7.0 s",
        ),
        (MAY_CHANGE, [(11, NOT_READY), (20 + AGAIN_S + 2, READY)], "was not ready for good until"),
        (MAY_CHANGE, [(11, NOT_READY)], "is not ready at the end: Redis is away"),
        (MAY_CHANGE, [(11, NO_ANSWER)], "is not ready at the end: "),
    ],
)
def test_answers_that_contradict_the_docs_are_reported(
    expected: Expected, changes: list[tuple[float, Readiness]], problem: str
) -> None:
    found = judge([answers(*changes)], [expected], BROKEN_S, MENDED_S).problems
    assert bool(found) is bool(problem), found
    assert all(each.startswith(f"node 0 {problem}") for each in found)


def test_the_worst_node_counts() -> None:
    verdict = judge(
        [
            answers(),
            answers((12, NOT_READY), (15, READY)),
            answers((12, NO_ANSWER), (22, READY)),
            answers((12, NOT_READY), (24, READY), (25, NO_ANSWER), (26, READY)),
        ],
        [MAY_CHANGE] * 4,
        BROKEN_S,
        MENDED_S,
    )
    assert verdict.not_ready_s == pytest.approx(12)
    assert verdict.again_s == pytest.approx(6.1)
    assert verdict.problems == ()


def test_a_node_that_never_answered_is_not_ready() -> None:
    assert judge([[]], [MAY_CHANGE], BROKEN_S, MENDED_S).problems == (
        "node 0 is not ready at the end: no answer",
    )
