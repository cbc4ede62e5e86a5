"""docs/monitoring: alert rules and a dashboard, whose expressions name metrics that exist and use them as their kind allows."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from catenary.errors import AppFailed, AppUnavailable
from catenary.metrics.figures import Kind
from catenary.rpc.calls import AppLate, _status
from tests.docs.test_metrics import ROW, tables
from tests.parts.guide import ROOT
from tests.parts.metric_catalogue import CataloguedMetric, catalogue
from tests.parts.promql import problems, selectors

FOLDER = ROOT / "docs" / "monitoring"
DURATION = re.compile(r"\d+[smhd]")
SEVERITIES = {"critical", "warning"}


def rules() -> list[dict[str, Any]]:
    file = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    return [rule for group in file["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    file: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return file


def queries() -> Iterator[tuple[str, str]]:
    """The title of each panel with each of its queries."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def wrong(expressions: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    """The problems of expressions, by what they belong to."""
    return {name: found for name, expr in expressions if (found := problems(expr, catalogue()))}


def metrics_in(expressions: Iterator[str]) -> set[str]:
    """The metrics that the expressions name, without the suffixes of histograms, by their own names."""
    own = {series: each.name for each in catalogue().values() for series in each.series}
    return {own[used.name] for each in expressions for used in selectors(each) if used.name in own}


# Alerts


def test_rules_use_metrics_that_exist_as_their_kind_allows() -> None:
    found = wrong((rule["alert"], rule["expr"]) for rule in rules())
    assert not found, "mend these expressions of docs/monitoring/alerts.yml"


def test_an_application_that_only_raises_exceptions_fires_an_alert() -> None:
    """Answers with the status ERROR are not counted by rpc_error_total, as in anycable-go."""
    (rule,) = [rule for rule in rules() if rule["alert"] == "CatenaryApplicationFails"]
    failing, _, all_calls = rule["expr"].partition(" > ")
    (statuses,) = re.findall(r'rpc_seconds_count\{status=~"([a-z|]+)"\}', failing)
    failed = {_status(AppFailed("")), _status(AppLate("")), _status(AppUnavailable(""))}
    assert set(statuses.split("|")) == failed
    assert "rpc_seconds_count[" in all_calls


def test_each_rule_says_how_bad_it_is_what_happens_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert re.fullmatch(r"Catenary[A-Za-z]+", rule["alert"])
        assert DURATION.fullmatch(rule["for"])
        assert rule["labels"]["severity"] in SEVERITIES
        assert rule["annotations"].keys() == {"summary", "description"}
        assert all(rule["annotations"].values())


def test_a_summary_names_only_labels_that_its_expression_keeps() -> None:
    for rule in rules():
        kept = set(re.split(r"[\s,]+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert used <= kept or not kept - {""}, rule["alert"]


def test_every_metric_that_deserves_attention_has_an_alert_or_a_panel() -> None:
    """Those whose row in docs/metrics.md says when to look closer."""
    watched = metrics_in(rule["expr"] for rule in rules()) | metrics_in(
        expr for _, expr in queries()
    )
    deserve = {row[1] for row in ROW.finditer(tables()) if row[4]}
    assert deserve - watched - THE_SAME_AS_ANOTHER == set(), (
        "add a rule to docs/monitoring/alerts.yml or a panel to dashboard.json for these metrics,"
        " or leave the last column of their rows in docs/metrics.md empty"
    )


THE_SAME_AS_ANOTHER = {"mem_sys_bytes", "event_loop_lag_ms"}
"""Names of anycable-go for what ``process_resident_memory_bytes`` and ``event_loop_lag_seconds`` show better."""


# Dashboard


def test_panels_use_metrics_that_exist_as_their_kind_allows() -> None:
    assert not wrong(queries()), "mend these panels of docs/monitoring/dashboard.json"


def test_each_query_is_of_the_chosen_source_job_and_nodes() -> None:
    variables = {each["name"]: each for each in dashboard()["templating"]["list"]}
    assert variables.keys() == {"datasource", "job", "instance", "by"}
    assert variables["datasource"]["type"] == "datasource"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
    for title, expr in queries():
        for used in selectors(expr):
            assert used.labels == {"job", "instance"}, title


def test_panels_do_not_overlap_and_have_titles_and_ids_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    assert len({each["title"] for each in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


# The checker


CATALOGUE = {
    "calls_total": CataloguedMetric("calls_total", Kind.COUNTER, "Calls"),
    "clients_num": CataloguedMetric("clients_num", Kind.GAUGE, "Clients"),
    "wait_seconds": CataloguedMetric("wait_seconds", Kind.HISTOGRAM, "Waits"),
}


@pytest.mark.parametrize(
    "expression",
    [
        'sum by (instance) (rate(anycable_go_calls_total{job="x y", a=~"b{c}"}[5m])) > 0.1',
        "anycable_go_clients_num offset 10m < 0.5 * anycable_go_clients_num and on (job) (anycable_go_clients_num > 1e3)",
        "histogram_quantile(0.99, sum by (job, le) (rate(anycable_go_wait_seconds_bucket[5m]))) > 1",
        "rate(anycable_go_wait_seconds_sum[5m]) / rate(anycable_go_wait_seconds_count[5m])",
        "deriv(anycable_go_clients_num[1h]) > 0",
    ],
)
def test_a_sound_expression(expression: str) -> None:
    assert problems(expression, CATALOGUE) == []


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("anycable_go_client_num > 1", "it names anycable_go_client_num, which no server has"),
        ("anycable_go_calls_total > 1", "a counter, without rate() or increase()"),
        ("rate(anycable_go_clients_num[5m])", "it uses rate() on anycable_go_clients_num, a gauge"),
        ("rate(anycable_go_calls_total)", "it uses anycable_go_calls_total without a range"),
        ("anycable_go_clients_num[5m]", "it uses anycable_go_clients_num with a range"),
        ("rate(anycable_go_wait_seconds[5m])", "anycable_go_wait_seconds, which no server has"),
        ("sum by (le) (rate(anycable_go_wait_seconds_bucket[5m]))", "without histogram_quantile()"),
        (
            "histogram_quantile(1, sum(rate(anycable_go_wait_seconds_bucket[5m])))",
            "without keeping le",
        ),
        ("1 > 0", "it names no metric"),
        ("sum(anycable_go_clients_num", "its parentheses do not match"),
    ],
)
def test_a_faulty_expression(expression: str, problem: str) -> None:
    assert any(problem in each for each in problems(expression, CATALOGUE))
