"""A flood gets its first lines, and then one that counts the rest."""

import asyncio
import logging

import pytest

from catenary.logs.fields import fields_of
from catenary.logs.rate_limited import (
    KINDS,
    LINES_PER_SECOND,
    LineLimit,
    RateLimit,
    RateLimitedLogger,
)
from tests.parts.virtual_time import in_virtual_time


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def limited(clock: Clock) -> RateLimitedLogger:
    return RateLimitedLogger(logging.getLogger("catenary.test"), clock)


def test_so_many_lines_in_a_second(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = limited(clock)
    before = LineLimit.suppressed_total
    with caplog.at_level(logging.INFO, "catenary.test"):
        for number in range(LINES_PER_SECOND + 7):
            log.info("line %d", number)
        assert len(caplog.messages) == LINES_PER_SECOND
        assert LineLimit.suppressed_total - before == 7
        clock.now += 1
        log.warning("line %d", 1)
        assert caplog.messages[-2:] == ["7 log lines suppressed by the rate limit", "line 1"]
        assert fields_of(caplog.records[-2]) == {"kind": "line %d"}
        clock.now += 5
        log.info("quiet")
    assert caplog.messages[-1] == "quiet"
    assert len(caplog.messages) == LINES_PER_SECOND + 3


def test_a_flood_of_one_kind_does_not_suppress_the_others(caplog: pytest.LogCaptureFixture) -> None:
    log = limited(Clock())
    with caplog.at_level(logging.INFO, "catenary.test"):
        for number in range(2 * LINES_PER_SECOND):
            log.info("flood %d", number)
        log.info("other", event="rare", sid="s")
    assert caplog.messages[-1] == "other"
    assert fields_of(caplog.records[-1]) == {"sid": "s"}


def test_kinds_are_limited_in_number(caplog: pytest.LogCaptureFixture) -> None:
    log = limited(Clock())
    with caplog.at_level(logging.INFO, "catenary.test"):
        for number in range(KINDS + 2 * LINES_PER_SECOND):
            log.info(f"a text of its own {number}")  # noqa: G004
    assert len(caplog.messages) == KINDS + LINES_PER_SECOND


def test_levels_that_are_off_cost_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log = limited(Clock())
    with caplog.at_level(logging.INFO, "catenary.test"):
        for _ in range(2 * LINES_PER_SECOND):
            log.debug("not shown")
        log.info("shown")
    assert caplog.messages == ["shown"]


def test_tracebacks_are_lines_like_others(caplog: pytest.LogCaptureFixture) -> None:
    log = limited(Clock())
    for _ in range(LINES_PER_SECOND + 1):
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("raised")
        log.error("raised", exc_info=ValueError("no"))
    assert len(caplog.records) == LINES_PER_SECOND
    assert all(each.exc_info and each.exc_info[0] is ValueError for each in caplog.records)


@in_virtual_time
async def test_a_flood_that_is_over_is_counted_without_another_line() -> None:
    loop = asyncio.get_running_loop()
    reported: asyncio.Future[int] = loop.create_future()
    limit = LineLimit(reported.set_result, loop.time)
    for _ in range(LINES_PER_SECOND + 7):
        limit.allows()
    assert await reported == 7
    assert loop.time() == 1


def test_a_library_s_logger(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = logging.getLogger("catenary_test_library")
    log.addFilter(RateLimit(log, clock))
    for number in range(LINES_PER_SECOND + 7):
        log.warning("line %d", number)
    assert len(caplog.messages) == LINES_PER_SECOND
    clock.now += 1
    log.warning("line %d", 0)
    assert caplog.messages[-2:] == [
        "7 log lines of catenary_test_library suppressed by the rate limit",
        "line 0",
    ]


def test_a_flood_of_a_library_s_lines_does_not_suppress_its_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = logging.getLogger("catenary_test_other_library")
    log.addFilter(RateLimit(log, Clock()))
    for _ in range(2 * LINES_PER_SECOND):
        log.warning("Invalid HTTP request received.")
    log.error("Exception in ASGI application")
    assert caplog.messages[-1] == "Exception in ASGI application"


def test_kinds_of_one_text(caplog: pytest.LogCaptureFixture) -> None:
    log = limited(Clock())
    with caplog.at_level(logging.INFO, "catenary.test"):
        for _ in range(2 * LINES_PER_SECOND):
            log.info("refused", kind=" 404")
        log.info("refused", kind=" 401", status=401)
    assert fields_of(caplog.records[-1]) == {"status": 401}
