"""How many publications of a stream are accepted in a second."""

import pytest

from catenary.broker.stream_rules import StreamRules
from catenary.config.stream_rules import StreamRule
from catenary.errors import RateExceeded
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, RemoteDisconnect
from catenary.node.publication_rates import PublicationRates


class Bench:
    def __init__(self, **rates: int) -> None:
        self.now = 0.0
        rules = tuple(StreamRule(match=name, max_rate=rate) for name, rate in rates.items())
        self.rates = PublicationRates(StreamRules(rules), lambda: self.now)

    def takes(self, *streams: str) -> bool:
        try:
            self.rates.take([Publication(Stream(each), "") for each in streams])
        except RateExceeded:
            return False
        return True


def test_a_second_has_its_rate_and_the_next_one_again() -> None:
    bench = Bench(a=3)
    assert [bench.takes("a") for _ in range(5)] == [True] * 3 + [False] * 2
    bench.now = 0.4
    assert [bench.takes("a") for _ in range(2)] == [True, False]
    bench.now = 9
    assert [bench.takes("a") for _ in range(5)] == [True] * 3 + [False] * 2


def test_others_are_not_limited() -> None:
    bench = Bench(a=1)
    assert all(bench.takes("b") for _ in range(99))
    bench.rates.take([RemoteDisconnect("x", reconnect=True)])
    assert bench.takes("a")
    assert bench.takes("b")


def test_a_batch_is_accepted_whole_and_delays_the_next_one() -> None:
    bench = Bench(a=10)
    assert bench.takes(*["a"] * 25, "b")
    bench.now = 1.5
    with pytest.raises(RateExceeded) as raised:
        bench.rates.take([Publication(Stream("a"), "")])
    assert raised.value.retry_after_s == 1
    bench.now = 1.7
    assert bench.takes("a")


def test_a_refused_batch_counts_nowhere() -> None:
    bench = Bench(a=1, b=1)
    assert bench.takes("a")
    assert not bench.takes("b", "a")
    assert bench.takes("b")
