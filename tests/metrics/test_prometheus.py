"""Figures in the text format of Prometheus."""

from catenary.metrics.prometheus import exposition
from catenary.metrics.registry import Figure

CLIENTS = Figure("clients_num", "Clients", 2)


def test_a_figure_has_its_help_its_type_and_its_value() -> None:
    assert exposition([CLIENTS, Figure("client_msg_total", "Messages", 3)]) == (
        "# HELP anycable_go_clients_num Clients\n"
        "# TYPE anycable_go_clients_num gauge\n"
        "anycable_go_clients_num 2\n"
        "# HELP anycable_go_client_msg_total Messages\n"
        "# TYPE anycable_go_client_msg_total counter\n"
        "anycable_go_client_msg_total 3\n"
    )


def test_tags_become_labels() -> None:
    text = exposition([CLIENTS], ["env:prod", 'note:a "b"\\c', "empty:"])
    assert text.endswith('\nanycable_go_clients_num{env="prod",note="a \\"b\\"\\\\c",empty=""} 2\n')
