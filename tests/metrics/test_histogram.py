"""Histograms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.metrics.figures import Distribution
from catenary.metrics.histogram import UNSORTED, Histogram, LabelledHistograms


def test_a_value_belongs_to_the_first_bucket_whose_bound_it_does_not_exceed() -> None:
    histogram = Histogram((1, 10))
    for value in (0, 1, 1.5, 10, 10.5, 1e9):
        histogram.observe(value)
    assert histogram.read() == Distribution((1, 10), (2, 2, 2), 23 + 1e9)
    assert (histogram.read().cumulative, histogram.read().count) == ((2, 4, 6), 6)


def test_equal_values_are_counted_at_once() -> None:
    histogram = Histogram((1, 10))
    histogram.observe_equal(3, 1000)
    assert histogram.read() == Distribution((1, 10), (0, 1000, 0), 3000)


@given(st.lists(st.floats(0, 1e6)), st.lists(st.floats(0, 1e6), min_size=1, unique=True))
def test_values_are_counted_as_one_by_one(values: list[float], bounds: list[float]) -> None:
    together, single = Histogram(sorted(bounds)), Histogram(sorted(bounds))
    for value in values:
        together.observe(value)
        single.observe_equal(value, 1)
    assert together.read().counts == single.read().counts
    assert together.read().sum == pytest.approx(single.read().sum)


def test_values_do_not_wait_for_ever() -> None:
    histogram = Histogram((1, 10))
    for value in range(3 * UNSORTED):
        histogram.observe(value)
        assert len(histogram._unsorted) < UNSORTED
    assert histogram.read() == Distribution(
        (1, 10), (2, 9, 3 * UNSORTED - 11), sum(range(3 * UNSORTED))
    )


def test_a_state_that_was_read_does_not_change() -> None:
    histogram = Histogram((1,))
    before = histogram.read()
    histogram.observe(0.5)
    assert (before.count, histogram.read().count) == (0, 1)


@pytest.mark.parametrize("bounds", [(), (1, 1), (2, 1)])
def test_bounds_grow(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected bounds that grow"):
        Histogram(bounds)


def test_each_combination_of_labels_has_a_histogram() -> None:
    histograms = LabelledHistograms(("method", "status"), (1,))
    histograms.of("Connect", "success").observe(0.5)
    histograms.of("Connect", "success").observe(2)
    histograms.of("Connect", "error").observe(0.5)
    assert histograms.read() == {
        ("Connect", "success"): Distribution((1,), (1, 1), 2.5),
        ("Connect", "error"): Distribution((1,), (1, 0), 0.5),
    }
    with pytest.raises(ValueError, match="expected values of"):
        histograms.of("Connect")
