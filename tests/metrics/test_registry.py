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
    names = [(each.name, each.help) for each in figures]
    assert names[: len(described())] == list(described())
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
    histogram = registry.histogram("own_seconds", "Deliveries", (0.1, 1))
    histogram.observe(0.5)
    expected = Sample(Distribution((0.1, 1), (0, 1, 0), 0.5))
    assert registry.figures()[-1] == Figure(
        "own_seconds", "Deliveries", Kind.HISTOGRAM, (expected,)
    )


def test_histograms_with_labels_are_shown_once_they_have_values() -> None:
    registry = Registry(Counters())
    calls = registry.labelled_histograms("own_seconds", "Calls", ("method", "status"), (1,))
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


def test_a_figure_may_have_another_kind_than_its_name_tells() -> None:
    registry = Registry(Counters())
    registry.register("heap_alloc_total", "Blocks", lambda: 1, kind=Kind.GAUGE)
    assert registry.figures()[-1].kind is Kind.GAUGE


def samples(registry: Registry, name: str) -> dict[str, int | float | Distribution]:
    """The samples of a figure by the value of its only label."""
    (found,) = (each for each in registry.figures() if each.name == name)
    return {each.labels[0][1]: each.value for each in found.samples}


def test_a_limit_is_shown_beside_its_use_unless_there_is_none() -> None:
    registry = Registry(Counters())
    registry.limit("max_conn", lambda: 7, 10)
    registry.limit("max_memory", lambda: 7, 0)
    assert samples(registry, "limit_used") == {"max_conn": 7}
    assert samples(registry, "limit_max") == {"max_conn": 10}
    with pytest.raises(ValueError, match="the limit max_conn is registered already"):
        registry.limit("max_conn", lambda: 7, 10)


def test_the_length_of_a_queue_is_measured_now_and_then() -> None:
    registry = Registry(Counters())
    lengths = iter([0, 5, 2_000])
    registry.queue("calls", lambda: next(lengths))
    registry.queue("deliveries", lambda: 1, 256)
    assert samples(registry, "limit_max") == {"deliveries": 256}
    for _ in range(3):
        registry.measure_queues()
    measured = samples(registry, "queue_length")["calls"]
    assert isinstance(measured, Distribution)
    assert (measured.count, measured.sum) == (3, 2_005)
