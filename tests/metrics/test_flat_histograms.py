"""Histograms among plain numbers."""

from catenary.metrics.figures import Distribution
from catenary.metrics.flat_histograms import flattened, summarized

STATE = Distribution((0.1, 1.0), (98, 1, 1), 12.5)


def flat(state: Distribution) -> dict[str, float]:
    return {"d_count": state.count, "d_sum": state.sum, **flattened("d", state)}


def test_buckets_have_the_names_and_values_of_prometheus() -> None:
    assert flattened("d", STATE) == {
        'd_bucket{le="0.1"}': 98,
        'd_bucket{le="1.0"}': 99,
        'd_bucket{le="+Inf"}': 100,
    }


def test_a_summary_replaces_the_buckets_after_their_sum() -> None:
    found = summarized({"a": 1, **flat(STATE), "z_sum": 2}, {})
    assert list(found) == ["a", "d_count", "d_sum", "d_mean", "d_p50", "d_p99", "z_sum"]
    assert found["d_mean"] == 0.125
    assert 0.05 <= found["d_p50"] <= 0.1
    assert found["d_p99"] == 1.0


def test_nodes_can_be_added() -> None:
    one, other = flat(STATE), flat(Distribution((0.1, 1.0), (0, 300, 0), 200.0))
    total = summarized({name: one[name] + other[name] for name in one}, {})
    assert (total["d_count"], total["d_mean"]) == (400, 212.5 / 400)
    assert 0.1 < total["d_p50"] < 1.0


def test_a_summary_is_of_the_values_since_the_figures_before() -> None:
    later = flat(Distribution((0.1, 1.0), (98, 5, 1), 14.5))
    found = summarized(later, flat(STATE))
    assert (found["d_count"], found["d_mean"]) == (104, 0.5)
    assert 0.1 < found["d_p50"] < found["d_p99"] <= 1.0


def test_without_a_value_there_is_no_summary() -> None:
    assert list(summarized(flat(STATE), flat(STATE))) == ["d_count", "d_sum"]
    # The server has started again.
    assert list(summarized(flat(Distribution((0.1, 1.0), (1, 0, 0), 0.1)), flat(STATE))) == [
        "d_count",
        "d_sum",
    ]
