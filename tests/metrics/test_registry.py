"""The registry of figures."""

import pytest

from catenary.metrics.counters import Counters, described
from catenary.metrics.registry import Figure, Registry


def test_counters_come_first_with_their_present_values() -> None:
    counters = Counters()
    registry = Registry(counters)
    counters.client_msg_total = 3
    figures = registry.figures()
    assert [(each.name, each.help) for each in figures] == list(described())
    assert {each.name: each.value for each in figures}["client_msg_total"] == 3


def test_a_registered_figure_is_read_when_somebody_looks_and_not_before() -> None:
    registry = Registry(Counters())
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return len(reads)

    registry.register("looks_num", "Looks", read)
    assert reads == []
    assert registry.figures()[-1] == Figure("looks_num", "Looks", 1)
    assert registry.figures()[-1].value == 2


@pytest.mark.parametrize("name", ["clients_num", "own_num"])
def test_a_name_is_registered_once(name: str) -> None:
    registry = Registry(Counters())
    registry.register("own_num", "Own", lambda: 1)
    with pytest.raises(ValueError, match=f"the figure {name} is registered already"):
        registry.register(name, "Another", lambda: 2)


@pytest.mark.parametrize(("name", "is_counter"), [("a_total", True), ("a_num", False)])
def test_the_name_tells_a_counter_from_a_gauge(name: str, *, is_counter: bool) -> None:
    assert Figure(name, "", 0).is_counter is is_counter
