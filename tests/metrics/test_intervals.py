"""Reports by intervals: what of each kind of figure is reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.metrics.counters import Counters
from catenary.metrics.figures import Distribution
from catenary.metrics.histogram import Histogram
from catenary.metrics.intervals import Intervals, Reading, quantile
from catenary.metrics.registry import Registry

BOUNDS = (0.1, 0.2, 0.4)


def of(figure: str, readings: list[Reading]) -> dict[str, float]:
    """The numbers of a figure by their names."""
    return {each.name: each.value for each in readings if each.figure == figure}


def test_a_counter_becomes_its_increase_and_a_gauge_stays() -> None:
    counters = Counters()
    registry, intervals = Registry(counters), Intervals()
    counters.rpc_call_total, counters.clients_num = 3, 7
    first = intervals.report(registry.figures())
    assert of("rpc_call_total", first) == {"rpc_call_total": 3}
    assert of("clients_num", first) == {"clients_num": 7}
    counters.rpc_call_total, counters.clients_num = 5, 2
    second = intervals.report(registry.figures())
    assert Reading("rpc_call_total", "rpc_call_total", (), 2, is_increase=True) in second
    assert Reading("clients_num", "clients_num", (), 2, is_increase=False) in second
    assert of("rpc_call_total", intervals.report(registry.figures())) == {"rpc_call_total": 0}


def test_writers_have_intervals_of_their_own() -> None:
    counters = Counters()
    registry, often, seldom = Registry(counters), Intervals(), Intervals()
    for _ in range(3):
        counters.rpc_call_total += 1
        assert of("rpc_call_total", often.report(registry.figures())) == {"rpc_call_total": 1}
    assert of("rpc_call_total", seldom.report(registry.figures())) == {"rpc_call_total": 3}


def test_each_combination_of_labels_has_an_increase_of_its_own() -> None:
    registry, intervals = Registry(Counters()), Intervals()
    values = {("connect",): 1}
    registry.labelled("calls_total", "Calls", ("method",), values.items)
    intervals.report(registry.figures())
    values |= {("connect",): 4, ("command",): 2}
    found = [each for each in intervals.report(registry.figures()) if each.figure == "calls_total"]
    assert [(each.labels, each.value) for each in found] == [
        ((("method", "connect"),), 3),
        ((("method", "command"),), 2),
    ]


def test_a_histogram_becomes_the_number_the_mean_and_quantiles_of_the_interval() -> None:
    registry, intervals = Registry(Counters()), Intervals()
    histogram = registry.histogram("wait_seconds", "Waits", BOUNDS)
    histogram.observe_equal(9, 100)
    intervals.report(registry.figures())
    histogram.observe_equal(0.05, 98)
    histogram.observe_equal(0.3, 2)
    found = of("wait_seconds", intervals.report(registry.figures()))
    assert found["wait_seconds_count"] == 100
    assert found["wait_seconds_mean"] == pytest.approx(0.055)
    assert found["wait_seconds_p50"] == pytest.approx(0.051, abs=0.001)
    assert found["wait_seconds_p90"] == pytest.approx(0.092, abs=0.001)
    assert found["wait_seconds_p99"] == pytest.approx(0.3)


def test_a_histogram_without_values_in_the_interval_has_no_quantiles() -> None:
    registry, intervals = Registry(Counters()), Intervals()
    registry.histogram("wait_seconds", "Waits", BOUNDS)
    for _ in range(2):
        assert of("wait_seconds", intervals.report(registry.figures())) == {"wait_seconds_count": 0}


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ((0, 0, 0, 0), 0.5, 0),
        ((10, 0, 0, 0), 0.5, 0.05),
        ((0, 10, 0, 0), 0.5, 0.15),
        ((5, 0, 5, 0), 0.5, 0.1),
        ((0, 0, 0, 3), 0.5, 0.4),
        ((0, 0, 9, 1), 0.99, 0.4),
    ],
)
def test_a_quantile_is_interpolated_within_its_bucket(
    counts: tuple[int, ...], share: float, value: float
) -> None:
    assert quantile(Distribution(BOUNDS, counts, 0), share) == pytest.approx(value)


@given(st.lists(st.floats(0, 0.4), min_size=1), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value(values: list[float], share: float) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    found = quantile(histogram.read(), share)
    assert 0 <= found <= next(bound for bound in BOUNDS if max(values) <= bound)
