"""Tables and drawings of results, and the sizes of scenarios."""

import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from bench import plots, readme, report
from bench.plan import Plan
from bench.report import Document
from bench.scenarios import (
    OURS,
    SCENARIOS,
    THEIRS,
    Result,
    Sample,
    Scenario,
    prolonged,
    resized,
    shortened,
)
from bench.servers import Contestant

ROOT = Path(__file__).parents[2]
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def document(
    scenario: Scenario, ours: float, theirs: float, problems: tuple[str, ...] = ()
) -> Document:
    """Results of one round in which every figure is the same; ``problems`` are theirs."""
    results = tuple(
        Result(
            scenario=scenario.name,
            server=name,
            round=1,
            plan=scenario.plan,
            figures={figure.name: value for figure in scenario.figures},
            samples=tuple(
                Sample(name="", at_s=at, cpu_s=0, pss_kb=int(1024 * value), load_cpu_s=0)
                for at in (0.0, 1.0)
            ),
            problems=problems if name == THEIRS else (),
        )
        for name, value in ((OURS, ours), (THEIRS, theirs))
    )
    return Document(
        machine=report.this_machine(),
        servers=(Contestant(OURS, ()), Contestant(THEIRS, ())),
        rows=report.rows([scenario], results),
        results=results,
        complete=report.is_complete(results),
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_drawing_has_a_bar_for_each_figure_and_server(scenario: Scenario) -> None:
    svg = ET.fromstring(plots.scenario(scenario, document(scenario, 3.0, 12.0)))
    space = {"svg": "http://www.w3.org/2000/svg"}
    boxes = [box for box in svg.iterfind("svg:rect", space) if float(box.get("height", 0)) == 14]
    ours = [float(box.get("width", 0)) for box in boxes if box.get("class") == "ours"]
    theirs = [float(box.get("width", 0)) for box in boxes if box.get("class") == "theirs"]
    assert len(ours) == len(theirs) == len(scenario.figures)
    assert all(4 * mine == pytest.approx(other) for mine, other in zip(ours, theirs, strict=True))
    assert len(svg.findall("svg:polyline", space)) == (2 if scenario.series else 0)
    style = svg.findtext("svg:style", "", space)
    assert "prefers-color-scheme: dark" in style


def test_missing_and_negative_figures_can_be_drawn() -> None:
    soak = BY_NAME["soak"]
    results = msgspec.structs.replace(document(soak, -2.0, 0.0), results=())
    ET.fromstring(plots.scenario(soak, results))
    (growth, *_) = results.rows
    assert growth.ratio is None


def test_the_table_of_the_readme_comes_from_data() -> None:
    made = document(BY_NAME["fanout"], 5.71, 11.6)
    written = msgspec.json.decode(msgspec.json.encode(made), type=Document)
    assert readme.table(written).splitlines() == [
        "| | catenary | anycable-go | ratio |",
        "|---|---|---|---|",
        "| fan-out to 5,000 clients: CPU per delivery | 5.7 µs | 12 µs | 0.49 |",
        "| fan-out to 5,000 clients: p99 | 5.7 ms | 12 ms | 0.49 |",
    ]


def test_figures_of_incomplete_rounds_are_marked() -> None:
    made = readme.table(document(BY_NAME["resume"], 100, 200, ("4 twice",)))
    assert "| 100 µs | 200 µs\\* | 0.50 |" in made
    assert made.endswith("\\* messages were lost, doubled or out of order in this run")


def test_every_line_of_the_readme_has_a_measured_figure() -> None:
    figures = {(scenario.name, each.name) for scenario in SCENARIOS for each in scenario.figures}
    assert {(line.scenario, line.figure) for line in readme.LINES} <= figures


DRAWINGS = sorted((ROOT / "docs" / "figures").glob("*.svg"))


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_of_the_docs_has_the_words_of_the_benchmark(path: Path) -> None:
    scenario = BY_NAME[path.stem]
    words = [each.text for each in ET.parse(path).iter() if each.tag.endswith("text")]
    assert words[1] == scenario.summary
    assert {figure.title for figure in scenario.figures} <= set(words)


def test_the_table_of_the_docs_has_the_titles_of_the_benchmark() -> None:
    docs = (ROOT / "docs" / "performance.md").read_text().splitlines()
    start = docs.index("| | catenary | anycable-go | ratio |") + 2
    end = docs.index("", start)
    assert [line.split(" | ")[0].removeprefix("| ") for line in docs[start:end]] == [
        line.title.format(clients=f"{BY_NAME[line.scenario].plan.clients:,}")
        for line in readme.LINES
    ]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_all_sizes_of_a_plan_are_consistent(scenario: Scenario) -> None:
    small, large = shortened(scenario.plan), prolonged(scenario.plan, 6 * scenario.plan.seconds)
    for plan in (small, large, resized(scenario.plan, 7)):
        assert plan.streams <= max(plan.clients, 1)
        assert plan.publications >= plan.streams or not plan.publications
        if plan.work == "flood":
            assert plan.publications >= plan.rate * plan.seconds
    assert small.clients <= 200
    assert large.seconds == 6 * scenario.plan.seconds


def test_private_streams_follow_the_number_of_clients() -> None:
    plan = resized(Plan(clients=10, streams=10, publications=40), 3)
    assert (plan.clients, plan.streams, plan.publications) == (3, 3, 12)
