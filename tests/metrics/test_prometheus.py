"""Figures in the text format of Prometheus."""

from catenary.metrics.counters import Counters, described
from catenary.metrics.prometheus import ASKED, exposition

NOTHING = dict.fromkeys(ASKED, 0)


def test_every_figure_is_shown_with_what_it_says() -> None:
    text = exposition(Counters(), NOTHING)
    for name in (*(name for name, _ in described()), *ASKED):
        assert f"# HELP anycable_go_{name} " in text
        assert f"\nanycable_go_{name} 0\n" in text


def test_what_only_grows_is_a_counter() -> None:
    text = exposition(Counters(client_msg_total=3, clients_num=2), NOTHING)
    assert "# TYPE anycable_go_client_msg_total counter\nanycable_go_client_msg_total 3\n" in text
    assert "# TYPE anycable_go_clients_num gauge\nanycable_go_clients_num 2\n" in text
    assert "# TYPE anycable_go_app_failed_total counter\n" in text
    assert "# TYPE anycable_go_mem_sys_bytes gauge\n" in text


def test_tags_become_labels() -> None:
    text = exposition(Counters(), NOTHING, ["env:prod", 'note:a "b"\\c', "empty:"])
    assert 'anycable_go_clients_num{env="prod",note="a \\"b\\"\\\\c",empty=""} 0\n' in text
