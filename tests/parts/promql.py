"""As much of PromQL as alert rules and dashboards need to be checked: which metrics an expression names, and how it uses them.

Source: "Querying basics", "Operators" and "Functions" of the Prometheus documentation. Variables of Grafana are taken as values.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from catenary.metrics.figures import Kind
from tests.parts.metric_catalogue import CataloguedMetric

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_SELECTOR = re.compile(
    r"(?P<before>[a-z_]+\s*\(\s*)?\b(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)\b(?!\s*\()"
    r"(?P<labels>\{[^{}]*\})?(?P<range>\[[^\]]*\])?"
)
_LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}

_OF_PROMETHEUS = {"up": Kind.GAUGE}
"""Whether a process answers."""

OF_COUNTERS = {"rate", "irate", "increase", "resets"}
OF_GAUGES = {"delta", "deriv", "predict_linear", "avg_over_time", "max_over_time", "min_over_time"}
OF_EITHER = {"changes", "absent_over_time", "last_over_time"}


class Selector(NamedTuple):
    """One use of a metric: its name, the function right around it, its labels, whether it is a range."""

    name: str
    function: str
    labels: frozenset[str]
    is_range: bool


def selectors(expression: str) -> Iterator[Selector]:
    """The metrics that an expression names."""
    plain = _GROUPING.sub("", _TEXT.sub('""', expression))
    for found in _SELECTOR.finditer(plain):
        name = found["name"]
        if name.lower() in _WORDS or (
            found.start("name") and plain[found.start("name") - 1] == "$"
        ):
            continue
        function = (found["before"] or "").rstrip(" (\n\t")
        labels = frozenset(_LABEL.findall(found["labels"] or ""))
        yield Selector(name, function, labels, found["range"] is not None)


def problems(expression: str, catalogue: Mapping[str, CataloguedMetric]) -> list[str]:
    """What is wrong with the use of metrics in an expression; Prometheus would only find nothing."""
    found = list(selectors(expression))
    kinds = {series: each.kind for each in catalogue.values() for series in each.series}
    kinds |= _OF_PROMETHEUS
    wrong = [
        f"it names {each.name}, which no server has" for each in found if each.name not in kinds
    ]
    for each in found:
        kind = kinds.get(each.name)
        grows = kind in {Kind.COUNTER, Kind.HISTOGRAM}
        if kind is not None and grows and each.function not in OF_COUNTERS | OF_EITHER:
            wrong.append(f"it uses {each.name}, a {kind}, without rate() or increase()")
        if kind is Kind.GAUGE and each.function in OF_COUNTERS:
            wrong.append(f"it uses {each.function}() on {each.name}, a gauge")
        if each.is_range is not (each.function in OF_COUNTERS | OF_GAUGES | OF_EITHER):
            wrong.append(f"it uses {each.name} {'with' if each.is_range else 'without'} a range")
    if not found:
        wrong.append("it names no metric")
    has_buckets = any(each.name.endswith("_bucket") for each in found)
    if has_buckets is not ("histogram_quantile" in expression):
        wrong.append("it uses buckets without histogram_quantile(), or the reverse")
    if has_buckets and not re.search(r"sum by \([^)]*\ble\b", expression):
        wrong.append("it sums buckets without keeping le")
    if expression.count("(") != expression.count(")"):
        wrong.append("its parentheses do not match")
    return wrong
