"""Configures logging to standard error: text for people, JSON for programs.

The formatters escape and shorten every line, wherever it was logged (``logs/escaping.py``).

Source: ``log_level`` and ``log_format`` of docs/configuration.md (anycable).
"""

import datetime as dt
import logging
import sys
from typing import Final, Literal

import msgspec

from catenary.logs.escaping import fields_of, message_of, traceback_of
from catenary.logs.rate_limited import RateLimit

_LIBRARIES: Final = ("uvicorn.error", "asyncio", "websockets.server")
"""Loggers of libraries that clients can make write lines."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``msg``, the fields of the record, and
    ``traceback`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, str | float | None] = {
            "time": _rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "msg": message_of(record),
        }
        # No field replaces one of these.
        entry = entry | fields_of(record) | entry
        if trace := traceback_of(record):
            entry["traceback"] = trace
        return msgspec.json.encode(entry).decode()


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, and the fields of the record as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("catenary.")
        fields = (f"{field}={value}" for field, value in fields_of(record).items())
        text = " ".join(filter(None, (message_of(record), *fields)))
        line = f"{_rfc3339(record.created)} {record.levelname:<7} {name}: {text}"
        trace = traceback_of(record)
        return f"{line}\n{trace}" if trace else line


def _rfc3339(created_s: float) -> str:
    moment = dt.datetime.fromtimestamp(created_s, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def set_up(level: str, form: Literal["text", "json"]) -> None:
    """Logs everything from ``level`` (debug, info, warn, error) upwards to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _LIBRARIES:
        log = logging.getLogger(name)
        log.addFilter(RateLimit(log))
    logging.getLogger("catenary").setLevel(
        {
            "debug": logging.DEBUG,
            "info": logging.INFO,
            "warn": logging.WARNING,
            "error": logging.ERROR,
        }[level]
    )
