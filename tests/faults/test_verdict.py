"""The counts of a run, by the numbers that were accepted and received."""

from dataclasses import replace

import pytest

from tests.faults.readiness import ReadinessVerdict
from tests.faults.verdict import Counts, Verdict, compare, table


@pytest.mark.parametrize(
    ("accepted", "received", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], Counts(due=3, delivered=3)),
        ([1, 2, 3], [1, 3], Counts(due=3, delivered=2, lost=1)),
        ([1, 2, 3], [1, 3, 2], Counts(due=3, delivered=3, disordered=1)),
        ([1, 2, 3], [1, 2, 3, 2, 3], Counts(due=3, delivered=5, doubled=2)),
        # 2 was never answered: it may arrive at any time, or not, but not twice.
        ([1, 3], [1, 3], Counts(due=2, delivered=2)),
        ([1, 3], [1, 3, 2], Counts(due=2, delivered=3)),
        ([1, 3], [1, 2, 3, 2], Counts(due=2, delivered=4, doubled=1)),
        ([1, 2], [], Counts(due=2, lost=2)),
    ],
)
def test_accepted_numbers_are_compared_with_received_ones(
    accepted: list[int], received: list[int], expected: Counts
) -> None:
    assert compare(accepted, received) == expected


def test_a_loss_that_was_reported_to_the_client_is_a_loss() -> None:
    counts = compare([1, 2, 3], [3], was_reported=True)
    assert (counts.lost, counts.reported) == (2, 2)


def test_a_row_of_the_table_is_a_run() -> None:
    counts = Counts(due=20, delivered=19, lost=1, reported=1)
    readiness = ReadinessVerdict(3.04, 0.26)
    verdict = Verdict("redis", "kill-node", 10, 2, counts, 1.26, 0.5, readiness)
    assert table([verdict]).splitlines()[-1] == (
        "| redis | kill-node | 10 | 2 | 20 | 19 | 1 (1 reported) | 0 | 0 | 1.3 | 0.5 "
        "| 3.0 | 0.3 | as documented |"
    )


def test_a_run_is_good_when_nothing_is_missing_and_ready_answers_as_documented() -> None:
    readiness = ReadinessVerdict(0, 0)
    good = Verdict("redis", "nothing", 1, 0, Counts(due=1, delivered=1), 0, 0, readiness)
    assert good.is_good
    assert not replace(good, counts=Counts(due=1, lost=1)).is_good
    silent = replace(good, readiness=replace(readiness, problems=("node 0 is not ready",)))
    assert not silent.is_good
    assert table([silent]).endswith("| wrong |")
