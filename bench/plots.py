"""Drawings of results: bars for figures, curves for series; one SVG for each scenario.

Colours follow the reader's light or dark scheme. Source: SVG 1.1, Media Queries 5 (CSS).
Knows: results. Does not know: how they were measured.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

import msgspec

from bench.report import Document, Row, number
from bench.scenarios import OURS, THEIRS, Scenario

WIDTH: Final = 720
MARGIN: Final = 24
BAR_FROM: Final = 290
BAR_TO: Final = 610
BAR_HEIGHT: Final = 14
HEAD: Final = 92
GROUP_GAP: Final = 14
CURVE_HEIGHT: Final = 200
CURVE_FROM: Final = 90
"""The left edge of a curve; the numbers of its axis are left of it."""

STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 17px; font-weight: 600; }
  .quiet { fill: #59636e; }
  .paper { fill: #ffffff; }
  .axis { stroke: #d1d9e0; stroke-width: 1; }
  .ours { fill: #0a66c2; }
  .theirs { fill: #b4690e; }
  polyline { fill: none; stroke-width: 2; }
  polyline.ours { fill: none; stroke: #0a66c2; }
  polyline.theirs { fill: none; stroke: #b4690e; stroke-dasharray: 6 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .quiet { fill: #9198a1; }
    .paper { fill: #0d1117; }
    .axis { stroke: #3d444d; }
    .ours { fill: #58a6ff; }
    .theirs { fill: #e3a14d; }
    polyline.ours { stroke: #58a6ff; }
    polyline.theirs { stroke: #e3a14d; }
  }
"""

_CLASSES: Final = {OURS: "ours", THEIRS: "theirs"}


class Point(msgspec.Struct, frozen=True):
    """One value of a series, ``at_s`` seconds after the start."""

    at_s: float
    value: float


def scenario(drawn: Scenario, document: Document) -> str:
    """Draws the figures of a scenario, each as a group of bars, and its series as curves."""
    names = [server.name for server in document.servers]
    rows = [row for row in document.rows if row.scenario == drawn.name]
    parts, top = [_head(drawn, names)], HEAD
    for row in rows:
        parts.append(_group(row, names, top))
        top += GROUP_GAP + _group_height(names)
    if drawn.series:
        series = {name: _series(drawn, name, document) for name in names}
        parts.append(_curves("memory, MB", series, top))
        top += CURVE_HEIGHT + 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" '
        f'height="{top}" role="img" aria-label="{escape(drawn.name)}: {escape(drawn.summary)}">\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{top}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _head(drawn: Scenario, names: Sequence[str]) -> str:
    parts = [
        _text(MARGIN, 32, f"{drawn.name}, {drawn.plan.clients:,} clients", "title"),
        _text(MARGIN, 52, drawn.summary, "quiet"),
    ]
    left = MARGIN
    for name in names:
        parts.append(_box(left, 64, 10, 10, _CLASSES[name]))
        parts.append(_text(left + 16, 74, name))
        left += 130
    return "\n".join(parts)


# Bars


def _group_height(names: Sequence[str]) -> int:
    return (BAR_HEIGHT + 4) * len(names)


def _group(row: Row, names: Sequence[str], top: float) -> str:
    """A figure of all servers. Each group has its own scale, because each figure has its own unit."""
    values = {OURS: row.ours, THEIRS: row.theirs}
    most = max((value for value in values.values() if value is not None), default=0)
    parts = [_text(MARGIN, top + _group_height(names) / 2 + 3, row.title)]
    for index, name in enumerate(names):
        value, y = values[name], top + index * (BAR_HEIGHT + 4)
        share = max(value, 0) / most if value is not None and most > 0 else 0
        length = share * (BAR_TO - BAR_FROM)
        parts.append(_box(BAR_FROM, y, length, BAR_HEIGHT, _CLASSES[name]))
        parts.append(_text(BAR_FROM + length + 6, y + BAR_HEIGHT - 2, number(value)))
    return "\n".join(parts)


# Curves


def _series(drawn: Scenario, server: str, document: Document) -> list[Point]:
    """The series of a server's last round that has one."""
    for result in reversed(document.results):
        if (result.scenario, result.server) == (drawn.name, server) and result.samples:
            return [Point(each.at_s, each.pss_kb / 1024) for each in result.samples]
    return []


def _curves(title: str, series: dict[str, list[Point]], top: float) -> str:
    """Curves over seconds; the vertical axis begins at 0, so that growth looks as large as it is."""
    points = [point for each in series.values() for point in each]
    if not points:
        return _text(MARGIN, top + 20, f"{title}: nothing", "quiet")
    end_s = max(point.at_s for point in points) or 1.0
    most = 1.1 * max(point.value for point in points) or 1.0
    area_top, bottom, right = top + 30, top + 30 + CURVE_HEIGHT, WIDTH - MARGIN
    parts = [_text(MARGIN, top + 16, title)]
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - area_top)
        parts.append(
            f'<line class="axis" x1="{CURVE_FROM}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        )
        parts.append(_text(CURVE_FROM - 8, y + 4, number(share * most), "quiet", anchor="end"))
    for share in (0, 1):
        anchor = "end" if share else "start"
        x = CURVE_FROM + share * (right - CURVE_FROM)
        parts.append(_text(x, bottom + 18, f"{share * end_s:.3g} s", "quiet", anchor=anchor))
    for name, curve in series.items():
        places = " ".join(
            f"{CURVE_FROM + point.at_s / end_s * (right - CURVE_FROM):.1f},"
            f"{bottom - point.value / most * (bottom - area_top):.1f}"
            for point in curve
        )
        parts.append(f'<polyline class="{_CLASSES[name]}" points="{places}"/>')
    return "\n".join(parts)


# Shapes


def _box(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="2"/>'
    )


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
