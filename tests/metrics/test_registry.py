"""The registry of figures."""

import pytest

from catenary.metrics.counters import Counters, described
from catenary.metrics.figures import Distribution, Figure, Kind, Sample
from catenary.metrics.registry import Registry


def test_counters_come_first_with_their_present_values() -> None:
    counters = Counters()
    registry = Registry(counters)
    counters.client_msg_total = 3
    figures = registry.figures()
    assert [(each.name, each.help) for each in figures] == list(described())
    assert {each.name: each.samples for each in figures}["client_msg_total"] == (Sample(3),)


def test_a_registered_figure_is_read_when_somebody_looks_and_not_before() -> None:
    registry = Registry(Counters())
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return len(reads)

    registry.register("looks_num", "Looks", read)
    assert reads == []
    assert registry.figures()[-1] == Figure("looks_num", "Looks", Kind.GAUGE, (Sample(1),))
    assert registry.figures()[-1].samples == (Sample(2),)


def test_a_figure_with_labels_has_a_sample_for_each_combination() -> None:
    registry = Registry(Counters())
    refusals = {("origin", "ws"): 2}
    registry.labelled("refusals_total", "Refusals", ("reason", "transport"), refusals.items)
    refusals["limit", "sse"] = 1
    assert registry.figures()[-1] == Figure(
        "refusals_total",
        "Refusals",
        Kind.COUNTER,
        (
            Sample(2, (("reason", "origin"), ("transport", "ws"))),
            Sample(1, (("reason", "limit"), ("transport", "sse"))),
        ),
    )


def test_a_histogram_is_shown_with_what_was_observed() -> None:
    registry = Registry(Counters())
    histogram = registry.histogram("delivery_seconds", "Deliveries", (0.1, 1))
    histogram.observe(0.5)
    expected = Sample(Distribution((0.1, 1), (0, 1, 0), 0.5))
    assert registry.figures()[-1] == Figure(
        "delivery_seconds", "Deliveries", Kind.HISTOGRAM, (expected,)
    )


def test_histograms_with_labels_are_shown_once_they_have_values() -> None:
    registry = Registry(Counters())
    calls = registry.labelled_histograms("rpc_seconds", "Calls", ("method", "status"), (1,))
    assert registry.figures()[-1].samples == ()
    calls.of("Connect", "success").observe(0.5)
    labels = (("method", "Connect"), ("status", "success"))
    assert registry.figures()[-1].samples == (Sample(Distribution((1,), (1, 0), 0.5), labels),)


@pytest.mark.parametrize("name", ["clients_num", "own_num"])
def test_a_name_is_registered_once(name: str) -> None:
    registry = Registry(Counters())
    registry.register("own_num", "Own", lambda: 1)
    message = f"the figure {name} is registered already"
    with pytest.raises(ValueError, match=message):
        registry.register(name, "Another", lambda: 2)
    with pytest.raises(ValueError, match=message):
        registry.labelled(name, "Another", ("label",), {}.items)
    with pytest.raises(ValueError, match=message):
        registry.histogram(name, "Another", (1,))
    with pytest.raises(ValueError, match=message):
        registry.labelled_histograms(name, "Another", ("label",), (1,))


@pytest.mark.parametrize(("name", "kind"), [("a_total", Kind.COUNTER), ("a_num", Kind.GAUGE)])
def test_the_name_tells_a_counter_from_a_gauge(name: str, kind: Kind) -> None:
    registry = Registry(Counters())
    registry.register(name, "Text", lambda: 1)
    assert registry.figures()[-1].kind is kind
