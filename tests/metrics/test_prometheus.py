"""Figures in the text format of Prometheus, also as Prometheus' own parser reads it."""

from prometheus_client.parser import text_string_to_metric_families

from catenary.metrics.counters import Counters
from catenary.metrics.figures import Distribution, Figure, Kind, Sample
from catenary.metrics.prometheus import exposition
from catenary.metrics.registry import Registry

CLIENTS = Figure("clients_num", "Clients", Kind.GAUGE, (Sample(2),))
MESSAGES = Figure("client_msg_total", "Messages", Kind.COUNTER, (Sample(3),))
CONNECTS = (("method", "Connect"),)
CALLS = Figure(
    "rpc_seconds",
    "Calls",
    Kind.HISTOGRAM,
    (Sample(Distribution((0.1, 1), (2, 3, 1), 5.5), CONNECTS),),
)


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_figure_has_its_help_its_type_and_its_value() -> None:
    assert exposition([CLIENTS, MESSAGES]) == (
        "# HELP anycable_go_clients_num Clients\n"
        "# TYPE anycable_go_clients_num gauge\n"
        "anycable_go_clients_num 2\n"
        "# HELP anycable_go_client_msg_total Messages\n"
        "# TYPE anycable_go_client_msg_total counter\n"
        "anycable_go_client_msg_total 3\n"
    )


def test_a_histogram_has_cumulative_buckets_a_sum_and_a_count() -> None:
    text = exposition([CALLS])
    assert text.startswith("# HELP anycable_go_rpc_seconds Calls\n# TYPE anycable_go_rpc_seconds h")
    name = "anycable_go_rpc_seconds"
    assert parsed(text) == {
        (f"{name}_bucket", (("le", "0.1"), *CONNECTS)): 2,
        (f"{name}_bucket", (("le", "1"), *CONNECTS)): 5,
        (f"{name}_bucket", (("le", "+Inf"), *CONNECTS)): 6,
        (f"{name}_sum", CONNECTS): 5.5,
        (f"{name}_count", CONNECTS): 6,
    }


def test_a_figure_without_samples_keeps_its_help() -> None:
    (family,) = text_string_to_metric_families(
        exposition([Figure("rpc_seconds", "Calls", Kind.HISTOGRAM, ())])
    )
    assert (family.name, family.type, family.samples) == (
        "anycable_go_rpc_seconds",
        "histogram",
        [],
    )


def test_figures_of_the_process_have_the_names_of_prometheus_client_libraries() -> None:
    cpu = Figure("process_cpu_seconds_total", "CPU", Kind.COUNTER, (Sample(1.5),))
    assert exposition([cpu]).endswith("\nprocess_cpu_seconds_total 1.5\n")


def test_tags_become_labels() -> None:
    text = exposition([CLIENTS], ["env:prod", 'note:a "b"\\c', "empty:"])
    assert text.endswith('\nanycable_go_clients_num{env="prod",note="a \\"b\\"\\\\c",empty=""} 2\n')


def test_a_tag_does_not_repeat_a_label_of_a_figure() -> None:
    calls = Figure("calls_total", "Calls", Kind.COUNTER, (Sample(1, CONNECTS),))
    text = exposition([calls, CLIENTS], ["method:GET"])
    assert 'calls_total{method="Connect"} 1\n' in text
    assert 'clients_num{method="GET"} 2\n' in text


def test_everything_a_registry_holds_is_read_by_prometheus() -> None:
    registry = Registry(Counters())
    registry.histogram("own_seconds", 'A "text" with \\ and\nanother line', (0.1, 1)).observe(2)
    registry.labelled("info", "Labels", ("text",), {('a "b"\\\nc',): 1}.items)
    families = {
        each.name: each
        for each in text_string_to_metric_families(exposition(registry.figures(), ["env:ä"]))
    }
    # The parser removes the suffix of counters.
    names = [f"anycable_go_{each.name.removesuffix('_total')}" for each in registry.figures()]
    assert list(families) == names
    assert families["anycable_go_own_seconds"].documentation == (
        'A "text" with \\ and\nanother line'
    )
    assert families["anycable_go_info"].samples[0].labels == {"text": 'a "b"\\\nc', "env": "ä"}
