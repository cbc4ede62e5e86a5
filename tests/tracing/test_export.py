"""The export of spans: its queue, its counters, its end."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from opentelemetry.exporter.otlp.common.http import _OTLPHTTPClient
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from catenary.tracing.export import SpanExport
from tests.parts.heart import in_loop
from tests.parts.ports import free_port

SAMPLED = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class Gate(SpanExporter):
    """A collector that answers when ``opened``."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.opened = threading.Event()
        self.asked = threading.Event()
        self.got: list[ReadableSpan] = []
        self._result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        assert self.opened.wait(30)
        self.got.extend(spans)
        return self._result

    def shutdown(self) -> None: ...


class Broken(Gate):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise LookupError


def span(name: str = "work") -> Callable[[], ReadableSpan]:
    return partial(ReadableSpan, name, SAMPLED, resource=Resource({}))


@in_loop
async def test_what_waits_for_a_slow_collector_is_bounded_and_drops_are_counted() -> None:
    gate = Gate()
    export = SpanExport(gate, limit=4, delay_ms=1)
    for _ in range(4):
        export.record(span())
    assert await asyncio.to_thread(gate.asked.wait, 30)
    for _ in range(3):
        export.record(span())
    assert (export.queue_size, export.dropped_total) == (4, 3)
    gate.opened.set()
    await export.close(10)
    assert len(gate.got) == 4
    assert (export.queue_size, export.exported_total, export.dropped_total) == (0, 4, 3)


@in_loop
async def test_the_last_spans_are_sent_at_the_end() -> None:
    gate = Gate()
    gate.opened.set()
    export = SpanExport(gate, delay_ms=3_600_000)
    export.record(span("last"))
    await export.close(10)
    assert [each.name for each in gate.got] == ["last"]


@in_loop
async def test_a_thread_exists_only_while_spans_are_sent() -> None:
    gate = Gate()
    export = SpanExport(gate, limit=8, delay_ms=1)
    await until(lambda: sending_threads() == 0)  # those of the tests before
    export.record(span("first"))
    assert await asyncio.to_thread(gate.asked.wait, 30)
    assert sending_threads() == 1
    export.record(span("second"))
    gate.opened.set()
    await until(lambda: export.exported_total == 2)
    await until(lambda: sending_threads() == 0)
    await export.close(10)
    assert [each.name for each in gate.got] == ["first", "second"]


@in_loop
async def test_a_full_batch_is_sent_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    gate = Gate()
    gate.opened.set()
    export = SpanExport(gate, delay_ms=3_600_000)
    export.record(span("first"))
    await asyncio.sleep(0)
    assert not gate.asked.is_set()
    export.record(span("second"))
    export.record(span("third"))
    await until(lambda: export.exported_total == 2)
    await export.close(10)
    assert [each.name for each in gate.got] == ["first", "second", "third"]


def refuse(_: threading.Thread) -> None:
    """Stands for a system that has no thread left."""
    raise RuntimeError("can't start new thread")


@in_loop
async def test_spans_wait_while_the_system_refuses_a_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    gate.opened.set()
    export = SpanExport(gate, delay_ms=1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        export.record(span())
        await until(lambda: bool(caplog.messages))
    await until(lambda: export.exported_total == 1)
    assert caplog.messages[0].endswith("retrying in 0.001 s: can't start new thread")
    await export.close(10)


@in_loop
async def test_a_full_batch_is_not_tried_again_with_each_span_while_the_system_refuses_a_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    gate.opened.set()
    export = SpanExport(gate, delay_ms=3_600_000)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(600):
            export.record(span())
    assert len(caplog.messages) == 1
    await export.close(10)
    assert len(gate.got) == 600


@in_loop
async def test_spans_after_the_end_are_dropped_and_counted() -> None:
    gate = Gate()
    gate.opened.set()
    export = SpanExport(gate)
    await export.close(10)
    export.record(span())
    assert (export.queue_size, export.dropped_total) == (0, 1)


@pytest.mark.parametrize(
    "variable",
    ["OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"],
)
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_variables_that_are_no_numbers_are_refused(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable}: expected a positive number, got '{value}'"):
        SpanExport(Gate())


def sending_threads() -> int:
    """Threads of exports in this process."""
    return sum(each.name == "trace-export" for each in threading.enumerate())


@in_loop
async def test_a_collector_that_does_not_answer_keeps_the_end_for_its_share_of_time_only() -> None:
    gate = Gate()
    export = SpanExport(gate, delay_ms=1)
    export.record(span())
    await export.close(0.05)
    assert export.dropped_total == 1
    gate.opened.set()


@in_loop
async def test_what_a_collector_refuses_is_counted() -> None:
    gate = Gate(SpanExportResult.FAILURE)
    gate.opened.set()
    export = SpanExport(gate, delay_ms=3_600_000)
    export.record(span())
    await export.close(10)
    assert (export.exported_total, export.failed_total) == (0, 1)


def test_a_collector_that_is_away_costs_one_line_with_the_reason(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_OTLPHTTPClient, "_compute_backoff", lambda *_: 0.01)

    async def scenario() -> None:
        away = OTLPSpanExporter(f"http://127.0.0.1:{free_port()}/v1/traces")
        export = SpanExport(away, limit=1, delay_ms=1)
        for number in range(1, 4):
            export.record(span())
            await until(lambda number=number: export.failed_total == number)  # type: ignore[misc]
        await export.close(10)

    caplog.set_level("DEBUG")
    asyncio.run(scenario())
    (line,) = [each for each in caplog.messages if "pans" in each]
    assert line.startswith("Span export failed: ")
    assert "Connection refused" in line
    assert line.endswith("; 1 spans were lost (failure 1 in a row)")
    assert not [each for each in caplog.records if each.name.startswith("opentelemetry.exporter")]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@in_loop
async def test_a_fault_of_an_exporter_costs_its_batch_only() -> None:
    export = SpanExport(Broken(), delay_ms=3_600_000)
    export.record(span())
    await export.close(10)
    assert (export.failed_total, export.queue_size) == (1, 0)
