"""The table of the README, from results in JSON.

Knows: the figures in it, and their titles. Does not know: how they were measured.
"""

from typing import Final

import msgspec

from bench.report import Document, Row, number
from bench.scenarios import OURS, THEIRS, Result


class Line(msgspec.Struct, frozen=True):
    """One line of the table; ``{clients}`` in its title is their number."""

    scenario: str
    figure: str
    title: str
    unit: str = ""


MARK: Final = "\\*"

LINES: Final = (
    Line("fanout", "cpu_us_per_delivery", "fan-out to {clients} clients: CPU per delivery", "µs"),
    Line("fanout", "p99_ms", "fan-out to {clients} clients: p99", "ms"),
    Line(
        "extended",
        "cpu_us_per_delivery",
        "the same with history and tokens: CPU per delivery",
        "µs",
    ),
    Line("extended", "kb_per_connection", "memory per such connection", "KB"),
    Line(
        "pusher",
        "cpu_us_per_delivery",
        "fan-out to {clients} Pusher clients: CPU per delivery",
        "µs",
    ),
    Line("pusher", "kb_per_connection", "memory per Pusher connection", "KB"),
    Line("private", "cpu_us_per_delivery", "{clients} private streams: CPU per delivery", "µs"),
    Line("burst", "deliveries_per_s", "deliveries per second at saturation"),
    Line("workers", "deliveries_per_cpu_s", "two cores: deliveries per CPU second"),
    Line("connect", "cpu_us_per_connect", "connect and subscribe: CPU", "µs"),
    Line("connect", "kb_per_connection", "memory per connection", "KB"),
    Line(
        "idle",
        "cpu_us_per_client_s",
        "{clients} idle clients: CPU per client and second, pings included",
        "µs",
    ),
    Line("idle", "lag_ms", "{clients} idle clients: longest pause of the event loop", "ms"),
    Line("resume", "cpu_us_per_resume", "{clients} cut off at once: CPU per resumed client", "µs"),
    Line(
        "resume",
        "p99_ms",
        "{clients} cut off at once: time until everything has arrived, p99",
        "ms",
    ),
    Line("resume", "twice", "{clients} cut off at once: messages that arrived twice"),
    Line(
        "jitter",
        "p99_ms",
        "{clients} cut off for 2 s each, in a minute: from the return until everything has arrived, p99",
        "ms",
    ),
    Line(
        "jitter",
        "twice",
        "{clients} cut off for 2 s each, in a minute: messages that arrived twice",
    ),
    Line("rpc", "cpu_us_per_delivery", "an echo through a gRPC application: CPU", "µs"),
    *(
        Line(
            f"intake-{name}",
            "deliveries_per_s",
            f"20,000 publications per second over {way}: arrived",
        )
        for name, way in (
            ("http", "HTTP"),
            ("redis", "Redis pub/sub"),
            ("redisx", "a Redis stream"),
            ("nats", "NATS"),
        )
    ),
    Line(
        "soak",
        "growth_kb_per_cycle",
        "{clients} clients connect and leave repeatedly: memory growth per cycle",
        "KB",
    ),
    Line("soak", "blocks_per_client", "objects that remain per client after that"),
)


def table(document: Document) -> str:
    """The table in Markdown, with the lines whose figures are in the results.

    Figures of rounds in which messages were lost, doubled or out of order are marked.
    """
    names = [server.name for server in document.servers]
    is_compared = THEIRS in names
    head = ["", *names, *(["ratio"] if is_compared else [])]
    lines = [_line(head), "|" + "---|" * len(head)]
    rows = {(row.scenario, row.figure): row for row in document.rows}
    for line in LINES:
        row = rows.get((line.scenario, line.figure))
        if row is not None and row.ours is not None:
            lines.append(_line(_cells(line, row, document, is_compared=is_compared)))
    if any(MARK in line for line in lines):
        lines += ["", f"{MARK} messages were lost, doubled or out of order in this run"]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _cells(line: Line, row: Row, document: Document, *, is_compared: bool) -> list[str]:
    mine = [result for result in document.results if result.scenario == line.scenario]
    title = line.title.format(clients=f"{mine[0].plan.clients:,}")
    cells = [title, _cell(row.ours, line, OURS, mine)]
    if is_compared:
        cells.append(_cell(row.theirs, line, THEIRS, mine))
        cells.append("–" if row.ratio is None else f"{row.ratio:.2f}")  # noqa: RUF001
    return cells


def _cell(value: float | None, line: Line, server: str, results: list[Result]) -> str:
    is_marked = any(each.problems for each in results if each.server == server)
    if value is None:
        return number(None)
    parts = [_rounded(value), *([line.unit] if line.unit else [])]
    return " ".join(parts) + (MARK if is_marked else "")


def _rounded(value: float) -> str:
    """At least two significant digits."""
    if abs(value) >= 10 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}"
