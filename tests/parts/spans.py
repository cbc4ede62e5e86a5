"""A tracer whose spans stay in memory, in OpenTelemetry's own exporter for tests."""

from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catenary.tracing.spans import OtelTracer
from catenary.tracing.traced_span import SpanRecorder


class MemoryTracer(OtelTracer):
    """``ratio`` as for the real one, 1 by default."""

    __slots__ = ("_exporter",)

    def __init__(self, ratio: float = 1) -> None:
        self._exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self._exporter)
        super().__init__(SpanRecorder(lambda span: processor.on_end(span()), Resource({})), ratio)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order."""
        found: tuple[ReadableSpan, ...] = self._exporter.get_finished_spans()
        return found

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.spans]

    def named(self, name: str) -> ReadableSpan:
        """The only span with a name."""
        (found,) = [each for each in self.spans if each.name == name]
        return found

    def clear(self) -> None:
        self._exporter.clear()


def parent_of(span: ReadableSpan) -> int:
    """The id of its parent, 0 for none."""
    return 0 if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    found: int = span.context.span_id
    return found


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    found: int = span.context.trace_id
    return found


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
