"""Tables: widths of text, cuts, alignment."""

import io
import os
import pty

import pytest

from catenary.terminal.console import Console
from catenary.terminal.table import Column, Table, columns_of, cut, shown_age, width_of

COLUMNS = (
    Column("ID", is_whole=True),
    Column("NAME"),
    Column("NUMBER", is_number=True),
    Column("NODE", is_spare=True),
)


def drawn(width: int, *rows: tuple[str, ...]) -> list[str]:
    table = Table(Console(io.StringIO(), {}), COLUMNS, {"COLUMNS": str(width)})
    return table.lines(rows)


def test_columns_are_as_wide_as_their_text() -> None:
    assert drawn(80, ("1", "Ann", "5", "a"), ("22", "B", "1,000", "b")) == [
        "ID  NAME  NUMBER  NODE",
        "1   Ann        5  a",
        "22  B      1,000  b",
    ]


def test_the_spare_column_is_cut_first_and_whole_ones_never() -> None:
    row = ("0123456789", "a long name of a client", "1", "0123456789abcdef")
    assert drawn(58, row)[1] == "0123456789  a long name of a client       1  0123456789ab…"
    assert drawn(47, row)[1] == "0123456789  a long name of a c…       1  01234…"
    assert drawn(10, row)[1].startswith("0123456789  a lon…")


def test_later_rows_are_cut_to_the_widths_of_the_first() -> None:
    table = Table(Console(io.StringIO(), {}), (Column("A"),), {"COLUMNS": "80"})
    assert table.lines([("xyz",)]) == ["A", "xyz"]
    assert table.lines([("uvwxyz",)]) == ["uv…"]


def test_foreign_text_stays_on_its_line() -> None:
    assert drawn(80, ("1", "a\nb\x1b[31m", "1", "n"))[1] == "1   a\\nb\\x1b[31m       1  n"


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("漢字", 4), ("é", 1), ("e\u0301", 1), ("", 0)]
)
def test_the_width_of_text(text: str, width: int) -> None:
    assert width_of(text) == width


def test_wide_characters_are_cut_whole() -> None:
    assert cut("漢字漢字", 4) == "漢…"
    assert cut("漢字", 4) == "漢字"


def test_the_width_of_a_terminal() -> None:
    ours, theirs = pty.openpty()
    os.close(ours)
    with os.fdopen(theirs, "w") as stream:
        console = Console(stream, {})
        assert columns_of(console, {"COLUMNS": "33"}) == 33
        assert columns_of(console, {"COLUMNS": "wide"}) == 80
    assert columns_of(Console(io.StringIO(), {}), {}) == 80


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-1, "0s"), (59.4, "59s"), (60, "1m"), (7_300, "2h"), (172_800, "2d")]
)
def test_ages(seconds: float, shown: str) -> None:
    assert shown_age(seconds) == shown
