"""The names and help texts of counters, which operators and dashboards read."""

import re

import pytest

from catenary.metrics.counters import Counters, described


def test_all_start_at_zero() -> None:
    counters = Counters()
    assert {getattr(counters, name) for name, _ in described()} == {0}


@pytest.mark.parametrize(("name", "text"), described(), ids=lambda each: each[:40])
def test_a_name_has_its_unit_and_a_text_that_fits_on_a_line(name: str, text: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*_(total|num|size|bytes|ms)", name)
    assert re.fullmatch(r"[A-Z][^\n\\]*[^.\s]", text)


def test_a_misspelled_counter_is_an_error() -> None:
    counters = Counters()
    with pytest.raises(AttributeError):
        counters.clients_nun = 1  # type: ignore[attr-defined]
