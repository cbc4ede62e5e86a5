"""A flood gets its first lines, and then one that counts the rest."""

import logging

import pytest

from catenary.node.complaints import LINES_PER_SECOND, Complaints


def test_so_many_lines_in_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    complaints = Complaints(logging.getLogger("catenary.test"), lambda: now)
    with caplog.at_level(logging.INFO, "catenary.test"):
        for number in range(LINES_PER_SECOND + 7):
            complaints.write(logging.INFO, "line %d", number)
        assert len(caplog.messages) == LINES_PER_SECOND
        now += 1
        complaints.write(logging.WARNING, "line %s", "again")
        assert caplog.messages[-2:] == ["7 lines like these were left out", "line again"]
        now += 5
        complaints.write(logging.INFO, "quiet")
    assert caplog.messages[-1] == "quiet"
    assert len(caplog.messages) == LINES_PER_SECOND + 3
