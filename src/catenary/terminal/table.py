"""Tables that fit a terminal: columns as wide as their text, the longest of them cut where the width ends.

Knows: text, widths. Does not know: what is shown.
"""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from catenary.terminal.console import Console, printable

GAP: Final = 2
_ELLIPSIS: Final = "…"
_LEAST: Final = 6
"""Columns are not cut below this width, unless they are the last."""

FALLBACK_COLUMNS: Final = 80


class Column(msgspec.Struct, frozen=True):
    """A column with its title. ``is_number`` aligns it at the right; it and ``is_whole`` are never cut, ``is_spare`` is cut before
    others."""

    title: str
    is_number: bool = False
    is_whole: bool = False
    is_spare: bool = False
    style: str = ""


class Table:
    """Prints rows under titles. The widths come from the first rows; later ones are cut to them."""

    def __init__(
        self, console: Console, columns: Sequence[Column], environ: Mapping[str, str]
    ) -> None:
        self._console = console
        self._columns = columns
        self._width = columns_of(console, environ)
        self._widths: list[int] | None = None

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Prints rows: one text for each column."""
        self._console.say("\n".join(self.lines(rows)))

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """The lines of rows, after the titles the first time."""
        shown = [[printable(text) for text in row] for row in rows]
        lines: list[str] = []
        if self._widths is None:
            self._widths = self._fitted(shown)
            titles = [column.title for column in self._columns]
            lines.append(self._console.painted("bold", self._line(titles)))
        lines += [self._line(row, is_painted=True) for row in shown]
        return lines

    def _fitted(self, rows: Sequence[Sequence[str]]) -> list[int]:
        """The width of each column."""
        widths = [
            max(map(width_of, (column.title, *(row[number] for row in rows))))
            for number, column in enumerate(self._columns)
        ]
        room = self._width - GAP * (len(widths) - 1)
        while sum(widths) > room:
            cut = [
                number
                for number, column in enumerate(self._columns)
                if not column.is_number and not column.is_whole and widths[number] > _LEAST
            ]
            if not cut:
                break
            spare = [number for number in cut if self._columns[number].is_spare]
            widths[max(spare or cut, key=widths.__getitem__)] -= 1
        return widths

    def _line(self, row: Sequence[str], *, is_painted: bool = False) -> str:
        assert self._widths is not None
        cells: list[str] = []
        for column, width, text in zip(self._columns, self._widths, row, strict=True):
            shown = cut(text, width) if not column.is_number else text
            padding = " " * (width - width_of(shown))
            if is_painted and column.style:
                shown = self._console.painted(column.style, shown)
            cells.append(f"{padding}{shown}" if column.is_number else f"{shown}{padding}")
        return (" " * GAP).join(cells).rstrip()


def columns_of(console: Console, environ: Mapping[str, str]) -> int:
    """The width of a terminal: that of COLUMNS, or of the device."""
    text = environ.get("COLUMNS", "")
    if text.isdecimal() and int(text):
        return int(text)
    try:
        return os.get_terminal_size(console.stream.fileno()).columns or FALLBACK_COLUMNS
    except (OSError, ValueError):
        return FALLBACK_COLUMNS


def width_of(text: str) -> int:
    """The cells that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_cells(each) for each in text)


def cut(text: str, width: int) -> str:
    """The beginning of a text that fits, with an ellipsis if it is not all of it."""
    if width_of(text) <= width:
        return text
    kept, room = "", width - 1
    for each in text:
        room -= _cells(each)
        if room < 0:
            break
        kept += each
    return kept + _ELLIPSIS


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shown_age(seconds: float) -> str:
    """A duration for people: ``5s``, ``3m``, ``2h``, ``4d``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
