"""Results, as a table for people and as data for programs.

A figure is the median of its rounds; a ratio is ours divided by theirs.
Knows: results. Does not know: how they were measured.
"""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from bench.scenarios import OURS, THEIRS, Figure, Result, Scenario
from bench.servers import Contestant
from catenary import __version__

BUSY: Final = 0.9
"""From this share of a core on, the table notes that the generator and the application were busy."""

COARSE_S: Final = 0.2
"""Below this, ticks of 10 ms cause an error of more than about 5 %."""


SPREAD: Final = 0.3
"""From this spread on, as a share of the median, the table notes that rounds disagree."""

KEPT_UP: Final = 0.8
"""From this share of the offered deliveries on, the rate may be limited by the offer."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table; None for a missing value."""

    scenario: str
    figure: str
    title: str
    ours: float | None
    theirs: float | None
    ratio: float | None


class Machine(msgspec.Struct, frozen=True):
    """The machine of a run; ``load_average`` is that of the minute before."""

    system: str
    python: str
    cores: int
    load_average: float


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, for ``--json``: the table's rows and each single result."""

    format: int = 2
    version: str = __version__
    machine: Machine
    servers: tuple[Contestant, ...]
    rows: tuple[Row, ...]
    results: tuple[Result, ...]
    complete: bool


def this_machine() -> Machine:
    """The machine of this process, now."""
    return Machine(
        platform.platform(),
        platform.python_version(),
        len(os.sched_getaffinity(0)),
        os.getloadavg()[0],
    )


def is_complete(results: Iterable[Result]) -> bool:
    """Whether everything arrived once and in order in every round."""
    return not any(result.problems for result in results)


def rows(scenarios: Sequence[Scenario], results: Sequence[Result]) -> tuple[Row, ...]:
    """One for each figure of each scenario."""
    return tuple(
        _row(scenario.name, figure, results)
        for scenario in scenarios
        for figure in scenario.figures
    )


def _row(scenario: str, figure: Figure, results: Sequence[Result]) -> Row:
    ours, theirs = (_median(scenario, figure.name, name, results) for name in (OURS, THEIRS))
    # Growth may be 0 or negative: then a ratio means nothing.
    ratio = ours / theirs if ours is not None and theirs and min(ours, theirs) > 0 else None
    return Row(
        scenario=scenario,
        figure=figure.name,
        title=figure.title,
        ours=ours,
        theirs=theirs,
        ratio=ratio,
    )


def _median(scenario: str, figure: str, server: str, results: Sequence[Result]) -> float | None:
    values = [
        result.figures[figure]
        for result in results
        if (result.scenario, result.server) == (scenario, server) and figure in result.figures
    ]
    return statistics.median(values) if values else None


def table(
    scenarios: Sequence[Scenario], results: Sequence[Result], servers: Sequence[Contestant]
) -> str:
    """The rows, the counts of lost messages, and notes on doubtful figures."""
    names = [server.name for server in servers]
    lines = [_line("scenario", "figure", [*names, "ratio"] if len(names) > 1 else names)]
    for scenario in scenarios:
        for row in rows((scenario,), results):
            cells = [row.ours, row.theirs, row.ratio] if len(names) > 1 else [row.ours]
            lines.append(_line(row.scenario, row.title, [number(cell) for cell in cells]))
        arrivals = [_arrival(scenario.name, name, results) for name in names]
        lines.append(_line(scenario.name, "lost / twice / out of order", arrivals))
    return "\n".join([*lines, "", *_notes(scenarios, results)]).rstrip()


def _line(scenario: str, title: str, cells: Sequence[str]) -> str:
    return f"{scenario:13} {title:36}" + "".join(f" {cell:>14}" for cell in cells)


def number(value: float | None) -> str:
    """A figure as text."""
    if value is None:
        return "–"  # noqa: RUF001  (a dash for a missing value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"


def _arrival(scenario: str, server: str, results: Iterable[Result]) -> str:
    worked = [
        result.worked
        for result in results
        if (result.scenario, result.server) == (scenario, server) and result.worked is not None
    ]
    counts = ("lost", "duplicates", "out_of_order")
    return " / ".join(f"{sum(getattr(each, count) for each in worked):,}" for count in counts)


def _notes(scenarios: Iterable[Scenario], results: Sequence[Result]) -> list[str]:
    """Problems of each round, and reasons to doubt a server's figures."""
    figures = {scenario.name: scenario.figures for scenario in scenarios}
    pairs = dict.fromkeys((result.scenario, result.server) for result in results)
    notes = [
        f"{result.scenario}, {result.server}, round {result.round}: INCOMPLETE: {problem}"
        for result in results
        for problem in result.problems
    ]
    for scenario, server in pairs:
        own = [each for each in results if (each.scenario, each.server) == (scenario, server)]
        doubts = (*_doubts(own), *_disagreements(figures[scenario], own))
        notes += [f"{scenario}, {server}: {doubt}" for doubt in doubts]
    return notes


def _doubts(results: Sequence[Result]) -> Iterable[str]:
    """Reasons to doubt the figures of one scenario and server, each from its worst round."""
    busiest = max(results, key=lambda result: result.load_share)
    if busiest.load_share > BUSY:
        has_backend = busiest.plan.echoes or busiest.plan.intake != "http"
        who = "load generator and its backend were" if has_backend else "load generator was"
        yield (
            f"the {who} busy {busiest.load_share:.0%} of the time, the server "
            f"{busiest.server_share:.0%}: latencies and rates are not the server's alone"
        )
    measured = [result.server_cpu_s for result in results if result.worked is not None]
    if measured and min(measured) < COARSE_S:
        yield f"only {min(measured):.2f} s of CPU, counted in steps of 0.01 s"
    rate = results[0].plan.rate
    held = [each.published_per_s for each in results if each.published_per_s]
    if rate and held and min(held) < 0.95 * rate:
        yield f"published {min(held):,.0f} times per second instead of {rate:,.0f}"
    offered = rate * results[0].plan.clients / results[0].plan.streams
    fastest = max(result.figures.get("deliveries_per_s", 0) for result in results)
    is_single = results[0].plan.streams == 1 or results[0].plan.work == "flood"
    if is_single and rate and fastest > KEPT_UP * offered:
        yield f"{offered:,.0f} deliveries per second were offered: the rate is not the server's limit"


def _disagreements(figures: Iterable[Figure], results: Sequence[Result]) -> Iterable[str]:
    """Figures whose rounds differ so much that their median means little."""
    for figure in figures:
        values = [each.figures[figure.name] for each in results if figure.name in each.figures]
        if values and max(values) - min(values) > SPREAD * abs(statistics.median(values)):
            span = f"{number(min(values))} to {number(max(values))}"
            yield f"rounds disagree: {figure.title}: {span}"
