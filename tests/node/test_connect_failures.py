"""The share of clients that could not connect because the application failed."""

from catenary.messages.environment import Environment, Ingress
from catenary.messages.names import Sid
from catenary.messages.reasons import Reason
from catenary.node.connect_failures import BUCKETS, ConnectFailures, FailureRules

CLIENT = Environment(Sid("a"), "/cable", {})
OF_A_REALM = Environment(Sid("b"), "/app/key", {}, ingress=Ingress(realm="pusher"))


class Watch:
    """Failures by a clock that a test sets: half of at least 4 calls within 30 s are too many."""

    def __init__(self) -> None:
        self.now = 0.0
        self.failures = ConnectFailures(FailureRules(50, 30, 4), lambda: self.now)

    def admit(self, times: int = 1) -> None:
        for _ in range(times):
            self.failures.connected(CLIENT, is_resumed=False)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.failures.rejected(CLIENT, Reason.AUTH_ERROR, "")

    @property
    def trouble(self) -> str | None:
        return self.failures.trouble


def test_too_few_calls_say_nothing() -> None:
    watch = Watch()
    assert watch.trouble is None
    watch.fail(3)
    assert watch.trouble is None
    watch.fail()
    assert watch.trouble == "4 of 4 Connect calls failed in the last 30 s"


def test_the_share_counts() -> None:
    watch = Watch()
    watch.admit(5)
    watch.fail(4)
    assert watch.trouble is None
    watch.fail()
    assert watch.trouble == "5 of 10 Connect calls failed in the last 30 s"
    watch.admit()
    assert watch.trouble is None


def test_a_rejection_by_the_application_is_an_answer() -> None:
    watch = Watch()
    for _ in range(10):
        watch.failures.rejected(CLIENT, Reason.AUTH_FAILED, "")
    assert watch.trouble is None
    watch.fail(9)
    assert watch.trouble is None


def test_clients_that_the_application_does_not_decide_about_do_not_count() -> None:
    watch = Watch()
    for _ in range(10):
        watch.failures.connected(CLIENT, is_resumed=True)
        watch.failures.connected(OF_A_REALM, is_resumed=False)
        watch.failures.rejected(OF_A_REALM, Reason.AUTH_ERROR, "")
        watch.failures.rejected(CLIENT, Reason.UNAUTHORIZED, "")
    watch.fail(3)
    assert watch.trouble is None
    watch.fail()
    assert watch.trouble is not None


def test_calls_expire_with_the_window() -> None:
    watch = Watch()
    watch.fail(4)
    watch.now = 29.9
    assert watch.trouble is not None
    watch.now = 30.0
    assert watch.trouble is None
    watch.fail(2)
    watch.now = 45
    watch.fail(2)
    assert watch.trouble is not None
    watch.now = 60
    assert watch.trouble is None


def test_memory_does_not_grow_with_the_calls() -> None:
    watch = Watch()
    for _ in range(10_000):
        watch.now += 0.1
        watch.fail()
    assert len(watch.failures._buckets) <= BUCKETS + 1
