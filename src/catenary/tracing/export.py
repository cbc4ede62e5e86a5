"""Sends spans to a collector, in batches, each in a thread. The queue is bounded, and what it drops is counted.

Knows: the SDK's exporters. Does not know: what spans mean.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal, TextIO
from urllib.parse import urlsplit

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

from catenary.supervision.backoff import Backoff

_log: Final = logging.getLogger("catenary.tracing")
_sdk_log: Final = logging.getLogger("opentelemetry.exporter.otlp.proto.http")

QUEUE_LIMIT: Final = 2048
"""Spans that wait for the collector (``OTEL_BSP_MAX_QUEUE_SIZE`` replaces it): those of 2 s at 1,000 spans per second."""

_BATCH_SIZE: Final = 512
_DELAY_MS: Final = 5_000
"""Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#batch-span-processor."""

CLOSE_S: Final = 5.0
"""How long the end of a server waits for the collector, at most: restarts must not take longer because it is away."""

_REASON_CHARS: Final = 200
_NO_REASON: Final = ("due to timeout, max retries or shutdown.", "aborting retry.")
"""The ends of lines of the SDK (1.45) that name no reason."""

_PATH: Final = "/v1/traces"
_CONSOLE_DELAY_MS: Final = 500


class SpanExport:
    """The queue of one process's spans, and their export. Belongs to one event loop.

    Spans wait until a batch is full, or for ``delay_ms``. A thread sends them and ends, because a process with a second thread
    pays for it in every system call (1 % of an echo through gRPC). The thread of the SDK's ``BatchSpanProcessor`` stays.
    """

    __slots__ = (
        "_batch_size",
        "_closed",
        "_delay_s",
        "_exporter",
        "_is_closing",
        "_is_pausing",
        "_is_sending",
        "_queued_total",
        "_timer",
        "_waiting",
        "dropped_total",
        "limit",
    )

    def __init__(
        self, exporter: SpanExporter, *, limit: int | None = None, delay_ms: int | None = None
    ) -> None:
        """``limit`` and ``delay_ms`` replace those of the environment (``OTEL_BSP_*``). Raises ValueError for a variable that
        is not a positive number."""
        if limit is None:
            limit = _number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_LIMIT)
        if delay_ms is None:
            delay_ms = _number("OTEL_BSP_SCHEDULE_DELAY", _DELAY_MS)
        # How it is sent
        self.limit = limit
        self._batch_size = min(limit, _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _BATCH_SIZE))
        self._delay_s = delay_ms / 1000
        self._exporter = _CountingExporter(exporter)
        # The queue
        self._waiting: deque[Callable[[], ReadableSpan]] = deque()
        self._queued_total = 0
        self.dropped_total = 0
        """Spans that were dropped because too many waited, or because the time of the shutdown was over."""
        # Its state
        self._timer: asyncio.TimerHandle | None = None
        self._is_sending = False
        self._is_pausing = False
        self._is_closing = False
        self._closed = asyncio.Event()

    @property
    def queue_size(self) -> int:
        """Spans that wait, or are being sent."""
        return self._queued_total - self._exporter.taken_total

    @property
    def exported_total(self) -> int:
        """Spans that the collector has accepted."""
        return self._exporter.exported_total

    @property
    def failed_total(self) -> int:
        """Spans that could not be sent, or that the collector has refused."""
        return self._exporter.failed_total

    def record(self, span: Callable[[], ReadableSpan]) -> None:
        """Queues a span that has ended; ``span`` makes the object that the SDK exports, in the thread. Never blocks."""
        if self.queue_size >= self.limit or self._is_closing:
            self.dropped_total += 1
            return
        self._queued_total += 1
        self._waiting.append(span)
        if not self._is_sending:
            self._plan()

    async def close(self, timeout_s: float) -> None:
        """Sends the spans that wait, for up to ``timeout_s`` and :data:`CLOSE_S`."""
        self._is_closing = True
        if not self._is_sending:
            self._send()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeout_s, CLOSE_S)):
                await self._closed.wait()
        left = self.queue_size
        if left > 0:
            self.dropped_total += left
            _log.warning("%d spans were not exported: the time for the shutdown is over", left)

    def _plan(self) -> None:
        """Sends the spans that wait, now if they fill a batch, unless the system has just refused a thread."""
        if len(self._waiting) >= self._batch_size and not self._is_pausing:
            self._send()
        elif self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self._send)

    def _send(self) -> None:
        """Starts the thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_pausing = False
        loop, is_last = asyncio.get_running_loop(), self._is_closing

        def run() -> None:
            try:
                self._send_waiting(is_last=is_last)
            finally:
                # RuntimeError: the loop is closed, and nothing waits any more.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._on_sent, is_last)

        try:
            # A daemon: a collector that does not answer must not keep the process.
            threading.Thread(target=run, name="trace-export", daemon=True).start()
        except RuntimeError as error:  # the system refuses another thread
            _log.warning("Span export failed, retrying in %g s: %s", self._delay_s, error)
            self._is_pausing = True
            self._timer = loop.call_later(self._delay_s, self._send)
        else:
            self._is_sending = True

    def _send_waiting(self, *, is_last: bool) -> None:
        """Runs in the thread: sends a batch, and more while they are full; all spans and the shutdown if it ``is_last``."""
        while True:
            number = min(len(self._waiting), self._batch_size)
            if number:
                self._exporter.export([self._waiting.popleft()() for _ in range(number)])
            if len(self._waiting) < (1 if is_last else self._batch_size):
                break
        if is_last:
            self._exporter.shutdown()

    def _on_sent(self, was_last: bool) -> None:
        """The thread has ended."""
        self._is_sending = False
        if was_last:
            self._closed.set()
        elif self._is_closing:
            self._send()
        else:
            self._plan()


class _CountingExporter(SpanExporter):
    """Counts what another exporter sends. Called in the threads of the export only."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._reason = _LastReason()
        self._outage = Backoff()
        self.taken_total = 0
        self.exported_total = 0
        self.failed_total = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        # The instrumentation of an application in this process must not trace the requests to the collector.
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True))
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001
            # A fault of one batch must not end the thread.
            self._reason.text = type(error).__name__
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self.exported_total += len(spans)
            if self._outage.works():
                _log.info("Span export works")
        else:
            self.failed_total += len(spans)
            outage = self._outage.failed()
            if outage.is_logged:
                _log.warning(
                    "Span export failed: %s; %d spans were lost (failure %d in a row)",
                    self._reason.text,
                    len(spans),
                    outage.failures,
                )
        self.taken_total += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _LastReason(logging.Handler):
    """Keeps the last reason that the SDK has logged, instead of a line for each of its attempts."""

    def __init__(self) -> None:
        super().__init__()
        self.text = "no reason was given"
        _sdk_log.handlers = [self]
        _sdk_log.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.endswith(_NO_REASON):
            return
        errors = [each for each in record.args or () if isinstance(each, BaseException)]
        self.text = (str(_innermost(errors[0])) if errors else text)[:_REASON_CHARS]


def _innermost(error: BaseException) -> BaseException:
    """The cause at the root of an error of requests or urllib3, which wrap each other's."""
    inner = [*error.args, getattr(error, "reason", None)]
    for each in inner:
        if isinstance(each, BaseException):
            return _innermost(each)
    return error


def exporter_of(kind: Literal["otlp", "console"], endpoint: str, console: TextIO) -> SpanExporter:
    """``endpoint`` is the URL of a collector for OTLP over HTTP, with or without the path /v1/traces; empty: what the
    ``OTEL_EXPORTER_OTLP_*`` variables say, else http://localhost:4318."""
    if kind == "console":
        return ConsoleSpanExporter(out=console, formatter=_line)
    if not endpoint:
        return OTLPSpanExporter()
    has_path = urlsplit(endpoint).path not in ("", "/")
    return OTLPSpanExporter(endpoint if has_path else endpoint.rstrip("/") + _PATH)


def delay_of(kind: Literal["otlp", "console"]) -> int | None:
    """How long spans wait for others, in ms; None: what the environment says, else 5 s."""
    return _CONSOLE_DELAY_MS if kind == "console" else None


def _line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"


def _number(variable: str, default: int) -> int:
    """The value of a variable of the environment. Raises ValueError."""
    text = os.environ.get(variable, "")
    if not text:
        return default
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{variable}: expected a positive number, got '{text}'")
    return int(text)
