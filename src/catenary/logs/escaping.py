"""Escapes, shortens and redacts untrusted text in log lines.

Clients, publishers and applications choose much of what is logged: a line feed would let them forge a line, an escape
sequence would be executed by the terminal of the person who reads the log. The formatters call this for every line, so
that no call site can forget it.
Sources: CWE-117; ECMA-48 (control sequences); Unicode Technical Report 36, section 3.2 (bidirectional text).
"""

import logging
import traceback
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final

from catenary.logs.redaction import redacted

ARGUMENT_CHARS: Final = 500
"""Longest argument of a message."""
MESSAGE_CHARS: Final = 2_000
TRACEBACK_CHARS: Final = 20_000

_NUMBERS: Final = (bool, float, int, type(None))

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def escaped(text: str) -> str:
    r"""The text with characters that are not printable as escapes, such as ``\n``, ``\x1b`` and ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    return repr(character)[1:-1]


def shortened(text: str, limit: int = ARGUMENT_CHARS, size: int = 0) -> str:
    """The beginning of a text, with the length of the whole: ``size``, if the text has been shortened before."""
    size = max(size, len(text))
    return text if size <= limit else f"{text[:limit]}… ({size} characters)"


def safe(text: str, limit: int = ARGUMENT_CHARS) -> str:
    """A text as it may stand in a line: short, printable, without secrets."""
    # The rest of a long text is not searched for secrets.
    return shortened(escaped(redacted(text[: 2 * limit])), limit, len(text))


class _Short:
    """An argument of any type, shortened when it is formatted."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return shortened(str(self._value))

    def __repr__(self) -> str:
        return shortened(repr(self._value))


def _short(value: object) -> object:
    return value if type(value) in _NUMBERS else _Short(value)


def message_of(record: logging.LogRecord) -> str:
    """The message of a record, escaped and shortened, without a line feed at its end."""
    message = str(record.msg)
    args = record.args
    if isinstance(args, Mapping):
        message %= {name: _short(value) for name, value in args.items()}
    elif args:
        message %= tuple(map(_short, args))
    return safe(message.rstrip("\n"), MESSAGE_CHARS)


def traceback_of(record: logging.LogRecord) -> str:
    """The traceback and the stack of a record, indented so that none of it looks like a log line; "" for none."""
    lines: list[str] = []
    if record.exc_info and record.exc_info[0] is not None:
        lines += _traceback(record.exc_info)
    elif record.exc_text:
        lines += record.exc_text.splitlines()
    if record.stack_info:
        lines += record.stack_info.splitlines()
    text = "\n".join("  " + safe(line) for line in lines)
    return shortened(text, TRACEBACK_CHARS)


def _traceback(exc_info: ExcInfo) -> Iterator[str]:
    """The message of an exception becomes one line, whatever it contains; frames keep theirs."""
    for piece in traceback.TracebackException(*exc_info).format():
        if piece.lstrip(" |").startswith('File "'):
            yield from piece.splitlines()
        else:
            yield piece.strip("\n")
