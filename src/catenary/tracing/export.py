"""Sends spans to a collector, in a thread of its own. The queue is bounded, and what it drops is counted.

Knows: the SDK's exporters and its batch processor. Does not know: what spans mean.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from typing import Final, Literal, TextIO
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

from catenary.supervision.backoff import Backoff

_log: Final = logging.getLogger("catenary.tracing")
_sdk_log: Final = logging.getLogger("opentelemetry.exporter.otlp.proto.http")

QUEUE_LIMIT: Final = 2048
"""Spans that wait for the collector (``OTEL_BSP_MAX_QUEUE_SIZE`` replaces it): those of 2 s at 1,000 spans per second."""

CLOSE_S: Final = 5.0
"""How long the end of a server waits for the collector, at most: restarts must not take longer because it is away."""

_REASON_CHARS: Final = 200
_NO_REASON: Final = ("due to timeout, max retries or shutdown.", "aborting retry.")
"""The ends of lines of the SDK (1.45) that name no reason."""

_PATH: Final = "/v1/traces"
_CONSOLE_DELAY_MS: Final = 500


class SpanExport:
    """The queue of one process's spans, and their export."""

    __slots__ = ("_counting", "_emitted", "_processor", "dropped_total", "limit")

    def __init__(
        self, exporter: SpanExporter, *, limit: int | None = None, delay_ms: int | None = None
    ) -> None:
        """``limit`` and ``delay_ms`` replace those of the environment (``OTEL_BSP_*``)."""
        if limit is None:
            limit = _number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_LIMIT)
        self.limit = limit
        self._counting = _CountingExporter(exporter)
        self._processor = BatchSpanProcessor(
            self._counting,
            max_queue_size=limit,
            schedule_delay_millis=delay_ms,
            max_export_batch_size=min(limit, _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)),
        )
        self._emitted = 0
        self.dropped_total = 0
        """Spans that were dropped because too many waited, or because the time of the shutdown was over."""

    @property
    def queue_size(self) -> int:
        """Spans that wait, or are being sent."""
        return self._emitted - self._counting.taken_total

    @property
    def exported_total(self) -> int:
        """Spans that the collector has accepted."""
        return self._counting.exported_total

    @property
    def failed_total(self) -> int:
        """Spans that could not be sent, or that the collector has refused."""
        return self._counting.failed_total

    def record(self, span: ReadableSpan) -> None:
        """Queues a span that has ended. Never blocks."""
        if self.queue_size >= self.limit:
            # Before the SDK's own queue drops one: that would not be counted.
            self.dropped_total += 1
            return
        self._emitted += 1
        self._processor.on_end(span)

    async def close(self, timeout_s: float) -> None:
        """Sends the spans that wait, for up to ``timeout_s`` and :data:`CLOSE_S`."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def shut_down() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
                loop.call_soon_threadsafe(done.set)

        # A daemon: a collector that does not answer must not keep the process.
        threading.Thread(target=shut_down, name="trace-shutdown", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeout_s, CLOSE_S)):
                await done.wait()
        left = self.queue_size
        if left > 0:
            self.dropped_total += left
            _log.warning("%d spans were not exported: the time for the shutdown is over", left)


class _CountingExporter(SpanExporter):
    """Counts what another exporter sends. Called in the thread of the export only."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._reason = _LastReason()
        self._outage = Backoff()
        self.taken_total = 0
        self.exported_total = 0
        self.failed_total = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
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
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() and int(text) else default
