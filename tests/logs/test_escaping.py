r"""Untrusted text in the log stays on one line, sends no commands to a terminal, and is short."""

import logging
import sys
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.logs.escaping import (
    ARGUMENT_CHARS,
    MESSAGE_CHARS,
    TRACEBACK_CHARS,
    escaped,
    message_of,
    traceback_of,
)
from catenary.logs.formats import JsonFormatter, TextFormatter


def record(text: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("catenary.test", logging.WARNING, "", 1, text, args, exc_info)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is: é☃🎉 'a' \"b\" \\n", "as it is: é☃🎉 'a' \"b\" \\n"),
        ("a\nb\r\nc\x0b\x0c", "a\\nb\\r\\nc\\x0b\\x0c"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("\u202eevil\u2066\u200f", "\\u202eevil\\u2066\\u200f"),
        ("\u2028\u2029\ufeff\u200b", "\\u2028\\u2029\\ufeff\\u200b"),
        ("\ud83c\x00\t", "\\ud83c\\x00\\t"),
    ],
)
def test_what_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown
    assert message_of(record("got %s", text)) == f"got {shown}"
    assert message_of(record(f"got {text}")) == f"got {shown}", "without arguments, too"
    assert message_of(record("%s", ValueError(text))) == shown
    assert message_of(record("%(what)s", {"what": text})) == shown


@given(st.text(st.characters() | st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp"])))
def test_a_line_is_one_line_of_printable_text(text: str) -> None:
    for line in (
        TextFormatter().format(record("%s", text)),
        msgspec.json.decode(JsonFormatter().format(record("%s", text)))["msg"],
    ):
        assert len(line.splitlines()) <= 1
        assert not {unicodedata.category(each) for each in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_pieces_are_short_and_so_is_the_line() -> None:
    message = message_of(record("sid=%s: %r, %.3s, %d", "x" * 9_000, ["y" * 9_000], "abcdef", 5))
    assert message.startswith("sid=" + "x" * ARGUMENT_CHARS + "… (9000 characters): ['yyy")
    assert message.endswith("… (9004 characters), abc, 5")
    assert len(message) < 2 * ARGUMENT_CHARS + 100
    assert len(message_of(record("x" * 9_000))) < MESSAGE_CHARS + 30
    assert len(message_of(record(" ".join(["%s"] * 20), *["\n" * 999] * 20))) < MESSAGE_CHARS + 30


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001
        return caught


def chained() -> BaseException:
    try:
        try:
            raise KeyError("a\n2026-01-01T00:00:00.000Z ERROR   server: forged 1")
        except KeyError as error:
            error.add_note("note\n2026-01-01T00:00:00.000Z ERROR   server: forged 2")
            raise ValueError("b\r2026-01-01T00:00:00.000Z ERROR   server: forged 3") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        raised(ValueError("a\n\n2026-01-01T00:00:00.000Z ERROR   server: forged\x1b[2J")),
        chained(),
        raised(
            ExceptionGroup(
                "g\n2026 forged", [raised(OSError("a\n2026 forged")), raised(KeyError("\u202e"))]
            )
        ),
        raised(SyntaxError("a\n2026 forged", ("b\n2026 forged", 1, 1, "c\x1b\n2026 forged", 1, 2))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_traceback_can_t_begin_a_line(error: BaseException) -> None:
    first, *rest = TextFormatter().format(record("failed", error=error)).split("\n")
    assert first.endswith("failed")
    assert rest[0].strip("+ ").startswith(("Traceback", "Exception Group Traceback"))
    for line in rest:
        assert line.startswith("  ")
        assert line.isprintable()
    trace = msgspec.json.decode(JsonFormatter().format(record("failed", error=error)))["traceback"]
    assert trace.split("\n") == rest


def test_a_traceback_is_short() -> None:
    long = traceback_of(record("failed", error=raised(ValueError("x" * 10**6))))
    assert len(long) < 3_000
    many = ExceptionGroup("many", [ValueError(f"{number} " + "x" * 400) for number in range(500)])
    assert len(traceback_of(record("failed", error=many))) < TRACEBACK_CHARS + 30


def test_frames_are_shown() -> None:
    shown = traceback_of(record("failed", error=raised(ValueError("why"))))
    assert __file__ in shown
    assert "raise error" in shown
    assert shown.endswith("\n  ValueError: why")


def test_no_traceback() -> None:
    assert traceback_of(record("x")) == ""
    outside = logging.LogRecord("x", 30, "", 1, "x", (), sys.exc_info())
    assert traceback_of(outside) == ""
