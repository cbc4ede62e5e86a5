"""A rate limit for log lines that clients, publishers and peers can cause.

Writing a line takes longer than refusing the request that caused it: a flood must not produce a line per request. The
number of suppressed lines is logged.
Knows: loggers, fields, a clock. Does not know: what is logged.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import ClassVar, Final

from catenary.logs.fields import Value, fields

LINES_PER_SECOND: Final = 100

KINDS: Final = 64
"""Kinds of lines of one logger with a limit of their own; more than a logger has."""


class LineLimit:
    """Allows :data:`LINES_PER_SECOND`, and counts the suppressed lines.

    ``report`` is called with their number when lines are allowed again: within two seconds where an event loop runs,
    else before the next line. ``clock`` is monotonic, in seconds.
    """

    __slots__ = ("_clock", "_left", "_loop", "_report", "_second", "_suppressed")

    suppressed_total: ClassVar[int] = 0
    """Lines suppressed in this process, by all limits together."""

    def __init__(
        self, report: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._clock = clock
        self._second = clock()
        self._left = LINES_PER_SECOND
        self._suppressed = 0
        # The loop of the timer that will report.
        self._loop: asyncio.AbstractEventLoop | None = None

    def allows(self) -> bool:
        """Whether another line may be logged now; counts it."""
        now = self._clock()
        if now - self._second >= 1:
            self._second = now
            self._left = LINES_PER_SECOND
            if self._suppressed:
                self._report_suppressed()
        if self._left:
            self._left -= 1
            return True
        self._suppressed += 1
        LineLimit.suppressed_total += 1
        self._report_later()
        return False

    def _report_suppressed(self) -> None:
        suppressed, self._suppressed = self._suppressed, 0
        self._report(suppressed)

    def _report_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # in a thread without a loop
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(1, self._report_now)

    def _report_now(self) -> None:
        self._loop = None
        if self._suppressed:
            self._report_suppressed()


class _KindLimits:
    """A limit for each kind of line, so that a flood of one kind does not suppress the others.

    ``report`` is called with a kind and the number of its suppressed lines. Kinds beyond :data:`KINDS` have one limit together.
    """

    __slots__ = ("_clock", "_limits", "_report")

    def __init__(self, report: Callable[[str, int], None], clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        self._limits: dict[str, LineLimit] = {}

    def allows(self, kind: str) -> bool:
        """Whether another line of this kind may be logged now; counts it."""
        limit = self._limits.get(kind)
        if limit is None:
            kind = kind if len(self._limits) < KINDS else ""
            limit = self._limits.get(kind)
            if limit is None:
                report = functools.partial(self._report, kind)
                limit = self._limits[kind] = LineLimit(report, self._clock)
        return limit.allows()


class RateLimitedLogger:
    """A logger with a limit for each kind of line.

    Lines with the same ``text`` and ``kind`` are of one kind. Lines of disabled levels do not count. ``event`` and ``values`` are
    fields of the line (:mod:`catenary.logs.fields`).
    """

    __slots__ = ("_limits", "_log")

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._limits = _KindLimits(self._report, clock)

    def log(
        self,
        level: int,
        text: str,
        *args: object,
        exc_info: BaseException | bool | None = None,
        event: str = "",
        kind: str = "",
        **values: Value,
    ) -> None:
        """Logs one line, unless the limit of this second is used up."""
        if self._log.isEnabledFor(level) and self._limits.allows(text + kind):
            self._log.log(level, text, *args, exc_info=exc_info, extra=fields(event, **values))

    def debug(self, text: str, *args: object, event: str = "", **values: Value) -> None:
        """Logs for developers."""
        self.log(logging.DEBUG, text, *args, exc_info=None, event=event, kind="", **values)

    def info(
        self, text: str, *args: object, event: str = "", kind: str = "", **values: Value
    ) -> None:
        """Logs a normal event."""
        self.log(logging.INFO, text, *args, exc_info=None, event=event, kind=kind, **values)

    def warning(
        self,
        text: str,
        *args: object,
        exc_info: BaseException | bool | None = None,
        event: str = "",
        **values: Value,
    ) -> None:
        """Logs something that an operator may want to look at."""
        self.log(logging.WARNING, text, *args, exc_info=exc_info, event=event, kind="", **values)

    def error(
        self,
        text: str,
        *args: object,
        exc_info: BaseException | bool | None = None,
        event: str = "",
        **values: Value,
    ) -> None:
        """Logs a fault."""
        self.log(logging.ERROR, text, *args, exc_info=exc_info, event=event, kind="", **values)

    def exception(self, text: str, *args: object, event: str = "", **values: Value) -> None:
        """Logs a fault, with the traceback of the exception being handled."""
        self.log(logging.ERROR, text, *args, exc_info=True, event=event, kind="", **values)

    def _report(self, kind: str, suppressed: int) -> None:
        self._log.warning(
            "%d log lines suppressed by the rate limit",
            suppressed,
            extra=fields("suppressed", kind=kind),
        )


class RateLimit(logging.Filter):
    """The same limits for the logger of a library, as a filter to add to it."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._name = log.name
        self._log = logging.getLogger("catenary.logs")
        self._limits = _KindLimits(self._report, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by logging for each record."""
        return self._limits.allows(str(record.msg))

    def _report(self, kind: str, suppressed: int) -> None:
        self._log.warning(
            "%d log lines of %s suppressed by the rate limit",
            suppressed,
            self._name,
            extra=fields("suppressed", kind=kind),
        )
