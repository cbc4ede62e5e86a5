"""Text of others in log lines: escaped, so that it stays on its line and commands no terminal, and short.

Clients, publishers and applications choose much of what is logged: a line feed in it would begin a line
of their own, an escape sequence would be carried out by the terminal of whoever reads the log. All lines
are escaped here, in the formatters, and not where they are written: it can't be forgotten.
Sources: CWE-117; ECMA-48 (control sequences); Unicode Technical Report 36, section 3.2 (bidirectional text).
"""

import logging
import traceback
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final

ARGUMENT_CHARS: Final = 500
"""The most of each piece of a message."""
MESSAGE_CHARS: Final = 2_000
TRACEBACK_CHARS: Final = 20_000

_NUMBERS: Final = (bool, float, int, type(None))

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def escaped(text: str) -> str:
    r"""One line: what is not printable as Python writes it, such as ``\n``, ``\x1b`` and ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    return repr(character)[1:-1]


def shortened(text: str, limit: int = ARGUMENT_CHARS) -> str:
    """The beginning of a text, and how long all of it is."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


class _Short:
    """An argument of any kind, which is shortened as it is written."""

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
    """The message of a line."""
    message = str(record.msg)
    args = record.args
    if isinstance(args, Mapping):
        message %= {name: _short(value) for name, value in args.items()}
    elif args:
        message %= tuple(map(_short, args))
    return shortened(escaped(message), MESSAGE_CHARS)


def traceback_of(record: logging.LogRecord) -> str:
    """The traceback and the stack of a line, indented so that none of it looks like a line; "" for none."""
    lines: list[str] = []
    if record.exc_info and record.exc_info[0] is not None:
        lines += _traceback(record.exc_info)
    elif record.exc_text:
        lines += record.exc_text.splitlines()
    if record.stack_info:
        lines += record.stack_info.splitlines()
    text = "\n".join("  " + shortened(escaped(line)) for line in lines)
    return shortened(text, TRACEBACK_CHARS)


def _traceback(exc_info: ExcInfo) -> Iterator[str]:
    """What an exception says is one line, whatever it is; frames have several."""
    for piece in traceback.TracebackException(*exc_info).format():
        if piece.lstrip(" |").startswith('File "'):
            yield from piece.splitlines()
        else:
            yield piece.strip("\n")
