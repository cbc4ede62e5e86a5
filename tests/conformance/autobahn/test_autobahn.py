"""Every case of the fuzzing client, on a connection of its own to one server process."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.conformance.autobahn.cases import CASES, CATEGORIES, category, echo_server
from tests.conformance.autobahn.play import Case, Verdict, run

NON_STRICT = {"6.4.3", "6.4.4"}
"""Text is checked frame by frame, so an error inside a frame is found when the frame is complete:
section 8.1 asks for no more, and a frame is no longer than a message may be."""

INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
"""The RFC does not specify the outcome."""

COUNTS = {
    "1": 16,
    "2": 11,
    "3": 7,
    "4": 10,
    "5": 20,
    "6": 145,
    "7": 37,
    "9": 54,
    "10": 1,
    "12": 90,
    "13": 126,
}
"""How many cases Autobahn has."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with echo_server() as port:
        yield port


@pytest.mark.parametrize("case", CASES, ids=[case.number for case in CASES])
def test_case(case: Case, port: int) -> None:
    expected = Verdict.OK
    if case.number in NON_STRICT:
        expected = Verdict.NON_STRICT
    elif case.number in INFORMATIONAL:
        expected = Verdict.INFORMATIONAL

    assert run(case, port) is expected


def test_no_case_is_missing_or_there_twice() -> None:
    assert Counter(map(category, CASES)) == COUNTS
    assert set(CATEGORIES) == set(COUNTS)
    assert len({case.number for case in CASES}) == len(CASES) == 517
