"""The circuit breaker: which attempts it admits while the application is away."""

from catenary.rpc.circuit_breaker import CircuitBreaker


def test_after_the_first_failure_every_attempt_is_admitted_for_a_while() -> None:
    breaker = CircuitBreaker(patience_s=3)
    assert breaker.record_failure(now=10)
    assert not breaker.record_failure(now=11)
    assert all(breaker.admits(12.9) for _ in range(3))


def test_an_open_circuit_admits_one_probe_at_a_time() -> None:
    breaker = CircuitBreaker(patience_s=3)
    breaker.record_failure(now=10)
    assert breaker.admits(13)
    assert not breaker.admits(13)
    breaker.end_probe()
    assert breaker.admits(14)
    breaker.record_failure(14)
    assert breaker.is_open(14)  # a failed probe does not close it


def test_an_answer_closes_the_circuit() -> None:
    breaker = CircuitBreaker(patience_s=3)
    breaker.record_failure(now=10)
    assert breaker.record_answer()
    assert not breaker.record_answer()
    assert all(breaker.admits(20) for _ in range(3))
