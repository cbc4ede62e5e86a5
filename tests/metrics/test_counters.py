"""The names and help texts of counters, which operators and dashboards read."""

import re

import pytest

from catenary.metrics.counters import Counters, described
from catenary.metrics.figures import Distribution
from catenary.metrics.registry import Registry


def test_all_start_at_zero() -> None:
    counters = Counters()
    figures = Registry(counters).figures()
    values = [each.value for figure in figures[: len(described())] for each in figure.samples]
    assert {each.count if isinstance(each, Distribution) else each for each in values} == {0}


def test_histograms_are_not_shared() -> None:
    first, second = Counters(), Counters()
    first.event_loop_lag_seconds.observe(1)
    assert second.event_loop_lag_seconds.read().count == 0


@pytest.mark.parametrize(("name", "text"), described(), ids=lambda each: each[:40])
def test_a_name_has_its_unit_and_a_text_that_fits_on_a_line(name: str, text: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*_(total|num|size|bytes|ms|seconds|clients)", name)
    assert re.fullmatch(r"[A-Z][^\n\\]*[^.\s]", text)


def test_a_misspelled_counter_is_an_error() -> None:
    counters = Counters()
    with pytest.raises(AttributeError):
        counters.clients_nun = 1  # type: ignore[attr-defined]
