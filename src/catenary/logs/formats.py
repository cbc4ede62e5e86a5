"""The two formats of log lines: text for people, JSON for programs.

Both escape, shorten and redact every line, wherever it was logged. Source: ``log_format`` of docs/configuration.md (anycable).
Knows: records. Does not know: where lines are written.
"""

import datetime as dt
import logging
from typing import Final

import msgspec

from catenary.logs.escaping import message_of, safe, traceback_of
from catenary.logs.fields import Value, event_of, fields_of

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_COLOURS: Final = {
    logging.DEBUG: "\x1b[36m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31m",
}

_FIRST: Final = ("sid", "node", "worker", "remote", "path", "identifier", "reason")
"""Fields that stand before the others in JSON."""


class Process(msgspec.Struct):
    """The process that writes: fields of each line. ``node`` is its name, ``worker`` its number, 0 without workers."""

    node: str = ""
    worker: int = 0
    is_named: bool = False
    """Whether the operator chose the name: only then it is in text lines."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``ts`` (RFC 3339, UTC), ``level``, ``event``, ``msg``, ``logger``, the fields of the line, and
    ``traceback`` if any."""

    def __init__(self, process: Process | None = None) -> None:
        super().__init__()
        self._process = process or Process()

    def format(self, record: logging.LogRecord) -> str:
        process = self._process
        values: dict[str, Value] = {"node": process.node or None, "worker": process.worker or None}
        values |= fields_of(record)
        entry: dict[str, Value] = {
            "ts": _rfc3339(record.created),
            "level": record.levelname,
            "event": event_of(record),
            "msg": message_of(record),
        }
        for name in _FIRST:
            value = values.pop(name, None)
            if value is not None:
                entry[name] = _safe(value)
        entry["logger"] = record.name
        for name, value in values.items():
            if value is not None:
                entry.setdefault(name, _safe(value))
        if trace := traceback_of(record):
            entry["traceback"] = trace
        return msgspec.json.encode(entry).decode()


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, and the fields as ``name=value``. ``colours``: for a terminal."""

    def __init__(self, process: Process | None = None, *, colours: bool = False) -> None:
        super().__init__()
        self._process = process or Process()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        process = self._process
        values = fields_of(record)
        if process.worker:
            values["worker"] = process.worker
        if process.is_named:
            values["node"] = process.node
        name = record.name.removeprefix("catenary.")
        message = message_of(record)
        written = " ".join(f"{key}={_quoted(_safe(value))}" for key, value in values.items())
        moment, level = _rfc3339(record.created), f"{record.levelname:<7}"
        if self._colours:
            moment = f"{_DIM}{moment}{_RESET}"
            level = f"{_COLOURS.get(record.levelno, '')}{level}{_RESET}"
            written = f"{_DIM}{written}{_RESET}" if written else ""
        line = " ".join(filter(None, (moment, level, f"{name}:", message, written)))
        trace = traceback_of(record)
        return f"{line}\n{trace}" if trace else line


def _safe(value: Value) -> Value:
    """A value as it may stand in a line."""
    return safe(value) if isinstance(value, str) else value


def _quoted(value: Value) -> str:
    """A value of a text line: in quotes if it has a space, a quote, a backslash or an equals sign, so that it can't pass for several
    fields. Backslashes and quotes within are escaped: a value can't end its own quotes."""
    text = str(value)
    if text and not set(text) & set(" \"'=\\"):
        return text
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


def _rfc3339(created_s: float) -> str:
    moment = dt.datetime.fromtimestamp(created_s, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
