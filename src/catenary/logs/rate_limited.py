"""Log lines that anybody outside can cause: so many a second, then the number of those left out.

Writing a line takes longer than refusing what caused it: a flood must not get a line for each request.
Knows: loggers, a clock. Does not know: what is logged.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import ClassVar, Final

LINES_PER_SECOND: Final = 100


class LineLimit:
    """Allows :data:`LINES_PER_SECOND`, and counts the others.

    ``report`` is called with their number once there may be lines again: within two seconds where an
    event loop runs, else before the next line. ``clock`` is monotonic, in seconds.
    """

    __slots__ = ("_clock", "_left", "_loop", "_report", "_second", "_suppressed")

    suppressed_total: ClassVar[int] = 0
    """Lines that this process has left out, whoever wanted to write them."""

    def __init__(
        self, report: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._clock = clock
        self._second = clock()
        self._left = LINES_PER_SECOND
        self._suppressed = 0
        # That of the timer which reports next.
        self._loop: asyncio.AbstractEventLoop | None = None

    def allows(self) -> bool:
        """Whether another line may be written now."""
        now = self._clock()
        if now - self._second >= 1:
            self._second = now
            self._left = LINES_PER_SECOND
            if self._suppressed:
                self._tell()
        if self._left:
            self._left -= 1
            return True
        self._suppressed += 1
        LineLimit.suppressed_total += 1
        self._tell_later()
        return False

    def _tell(self) -> None:
        suppressed, self._suppressed = self._suppressed, 0
        self._report(suppressed)

    def _tell_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # in a thread of its own
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(1, self._tell_at_last)

    def _tell_at_last(self) -> None:
        self._loop = None
        if self._suppressed:
            self._tell()


class RateLimitedLogger:
    """Writes to a logger, so many lines a second. Levels that are off cost no line."""

    __slots__ = ("_limit", "_log")

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._limit = LineLimit(self._report, clock)

    def log(
        self, level: int, text: str, *args: object, exc_info: BaseException | bool | None = None
    ) -> None:
        """One line, unless this second has had its share."""
        if self._log.isEnabledFor(level) and self._limit.allows():
            self._log.log(level, text, *args, exc_info=exc_info)

    def debug(self, text: str, *args: object) -> None:
        """For developers."""
        self.log(logging.DEBUG, text, *args)

    def info(self, text: str, *args: object) -> None:
        """What happens when all is well."""
        self.log(logging.INFO, text, *args)

    def warning(
        self, text: str, *args: object, exc_info: BaseException | bool | None = None
    ) -> None:
        """What an operator may want to look at."""
        self.log(logging.WARNING, text, *args, exc_info=exc_info)

    def error(self, text: str, *args: object, exc_info: BaseException | bool | None = None) -> None:
        """A fault."""
        self.log(logging.ERROR, text, *args, exc_info=exc_info)

    def exception(self, text: str, *args: object) -> None:
        """A fault, with the traceback of the exception that is handled."""
        self.log(logging.ERROR, text, *args, exc_info=True)

    def _report(self, suppressed: int) -> None:
        self._log.warning("%d lines like these were left out", suppressed)


class RateLimit(logging.Filter):
    """The same for the logger of a library, to which it is added."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._name = log.name
        self._log = logging.getLogger("catenary.logs")
        self._limit = LineLimit(self._report, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Called for each line."""
        return self._limit.allows()

    def _report(self, suppressed: int) -> None:
        self._log.warning("%d lines of %s were left out", suppressed, self._name)
