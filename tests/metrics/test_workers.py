"""The figures of several workers in one scrape."""

import msgspec
import pytest

from catenary.metrics.counters import Counters
from catenary.metrics.figures import Distribution, Figure, Kind, Sample
from catenary.metrics.prometheus import exposition
from catenary.metrics.registry import Registry
from catenary.metrics.workers import of_workers, pack
from tests.metrics.test_prometheus import parsed


def registry(clients: int) -> Registry:
    counters = Counters(clients_num=clients)
    counters.rpc_seconds.of("Connect", "success").observe(0.5)
    return Registry(counters)


def test_figures_survive_the_way_to_another_worker() -> None:
    figures = registry(3).figures()
    by_name = {each.name: each for each in of_workers({1: pack(figures)})}
    assert list(by_name) == ["worker_up", *(each.name for each in figures)]
    for figure in figures:
        there = by_name[figure.name]
        assert [each.value for each in there.samples] == [each.value for each in figure.samples]
        assert (there.help, there.kind) == (figure.help, figure.kind)


def test_each_worker_has_samples_of_its_own_below_one_help() -> None:
    text = exposition(of_workers({number: pack(registry(number).figures()) for number in (1, 2)}))
    assert text.count("# HELP anycable_go_clients_num ") == 1
    samples = parsed(text)
    assert samples["anycable_go_clients_num", (("worker", "1"),)] == 1
    assert samples["anycable_go_clients_num", (("worker", "2"),)] == 2
    assert ("anycable_go_clients_num", ()) not in samples, "a sum would be counted twice"
    labels = (("method", "Connect"), ("status", "success"), ("worker", "2"))
    assert samples["anycable_go_rpc_seconds_count", labels] == 1
    assert samples["anycable_go_worker_up", (("worker", "2"),)] == 1


def test_a_worker_that_does_not_answer_is_shown_as_such() -> None:
    figures = of_workers({1: None, 2: pack(registry(2).figures())})
    assert figures[0] == Figure(
        "worker_up",
        "1 for each worker that shows its metrics, 0 for others",
        Kind.GAUGE,
        (Sample(0, (("worker", "1"),)), Sample(1, (("worker", "2"),))),
    )
    assert {dict(each.labels)["worker"] for figure in figures[1:] for each in figure.samples} == {
        "2"
    }


def test_a_histogram_that_only_one_worker_has_is_shown_for_that_one() -> None:
    state = Distribution((1,), (1, 0), 0.5)
    own = Figure("own_seconds", "Own", Kind.HISTOGRAM, (Sample(state),))
    (_, shown) = of_workers({1: pack(()), 2: pack((own,))})
    assert shown.samples == (Sample(state, (("worker", "2"),)),)


def test_an_answer_that_is_no_figures_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        of_workers({1: b"\x93"})
