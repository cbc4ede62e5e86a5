"""docs/metrics.md explains every metric; its commands are run in test_guides.py."""

import re

from catenary.config.stream_rules import StreamRule
from tests.parts.guide import ROOT
from tests.parts.metric_catalogue import catalogue

PAGE = ROOT / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.+?) \| (.*?) ?\|$", re.MULTILINE)


def rows() -> dict[str, str]:
    """The whole rows of the tables of metrics, by name."""
    return {found[1]: found[0] for found in ROW.finditer(tables())}


def tables() -> str:
    """The part of the page that has the tables of metrics."""
    _, _, found = PAGE.read_text().partition("\n## All metrics\n")
    return found


def test_the_page_explains_each_metric_in_the_words_of_the_registry() -> None:
    expected = {
        name: f"| `{name}` | {metric.kind} | {metric.help} | "
        for name, metric in catalogue().items()
    }
    found = rows()
    missing = [
        f"{row}|" for name, row in expected.items() if not found.get(name, "").startswith(row)
    ]
    assert not missing, (
        "docs/metrics.md: add these rows to the tables of their subjects, or mend the ones with their"
        " names; the last column says when to look closer:\n" + "\n".join(missing)
    )


def test_the_page_explains_no_other_metrics() -> None:
    assert rows().keys() - catalogue().keys() == set(), "docs/metrics.md: remove these rows"


def test_no_metric_is_explained_twice() -> None:
    found = [each[1] for each in ROW.finditer(tables())]
    assert len(found) == len(set(found))


def test_pages_name_metrics_that_exist() -> None:
    """By the units at their ends. docs/differences.md also names those of anycable-go."""
    name = re.compile(r"`(?:anycable_go_)?([a-z][a-z0-9_]*_(?:total|num|seconds|bytes))`")
    pages = {ROOT / "README.md", ROOT / "ARCHITECTURE.md", *ROOT.glob("docs/*.md")}
    pages.remove(ROOT / "docs" / "differences.md")
    keys = set(StreamRule.__struct_fields__)
    found = {
        each.name: set(name.findall(each.read_text())) - catalogue().keys() - keys for each in pages
    }
    assert {page: names for page, names in found.items() if names} == {}
