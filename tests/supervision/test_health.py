"""Health checks: states, since when, and whether a node is ready."""

import pytest

from catenary.supervision.health import CheckResult, HealthChecks, is_ready, reported


class Clock:
    """Unix time that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_since_is_the_moment_at_which_a_state_was_first_read() -> None:
    clock, reasons = Clock(), dict[str, str | None](redis=None)
    checks = HealthChecks(clock)
    checks.add("redis", reported("Redis is unavailable", lambda: reasons["redis"]))

    def result() -> CheckResult:
        (found,) = checks.results()
        return found

    ok = CheckResult("redis", "ok", "", "", "2027-01-15T08:00:00.000Z", is_blocking=True)
    assert result() == ok
    clock.now += 1.5
    assert result() == ok
    reasons["redis"] = "refused by 10.0.0.1"
    failing = result()
    assert (failing.state, failing.since) == ("failing", "2027-01-15T08:00:01.500Z")
    assert (failing.summary, failing.reason) == ("Redis is unavailable", "refused by 10.0.0.1")
    clock.now += 60
    reasons["redis"] = "another reason"
    assert (result().since, result().reason) == (failing.since, "another reason")
    reasons["redis"] = None
    assert (result().state, result().since) == ("ok", "2027-01-15T08:01:01.500Z")
    assert (result().summary, result().reason) == ("", "")


def test_only_a_blocking_check_that_fails_makes_a_node_unready() -> None:
    reasons = dict[str, str | None](redis=None, lag="too late")
    checks = HealthChecks()
    checks.add("nats", None)
    checks.add("redis", reported("Redis is unavailable", lambda: reasons["redis"]))
    checks.add("lag", reported("the event loop is late", lambda: reasons["lag"]), is_blocking=False)
    assert [each.state for each in checks.results()] == ["off", "ok", "failing"]
    assert is_ready(checks.results())
    reasons["redis"] = "refused"
    assert not is_ready(checks.results())


def test_a_name_is_registered_once() -> None:
    checks = HealthChecks()
    checks.add("redis", None)
    with pytest.raises(ValueError, match="redis is registered already"):
        checks.add("redis", None)
