"""Passes traces to and from the code of an application, through the context of OpenTelemetry.

Knows: OpenTelemetry's API. Does not know: its SDK, how spans are recorded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from catenary.messages.trace_context import TraceContext, read_text

NO_STATE: Final = TraceState()


class OtelPropagator:
    """Satisfies :class:`catenary.tracer.TracePropagator`."""

    __slots__ = ()

    @contextmanager
    def within(self, trace: str) -> Iterator[None]:
        context = otel_context.Context()
        found = read_text(trace)
        if found is not None:
            context = set_span_in_context(NonRecordingSpan(remote(found)), context)
        token = otel_context.attach(context)
        try:
            yield
        finally:
            otel_context.detach(token)

    def current(self) -> str:
        context = get_current_span().get_span_context()
        return trace_of(context).text if context.is_valid else ""


def remote(trace: TraceContext) -> SpanContext:
    """The context of a span of another process."""
    return SpanContext(
        int(trace.trace_id, 16),
        int(trace.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if trace.is_sampled else 0),
        trace_state=TraceState.from_header([trace.state]) if trace.state else NO_STATE,
    )


def trace_of(context: SpanContext) -> TraceContext:
    """The context of a span for another process."""
    return TraceContext(
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        context.trace_flags.sampled,
        context.trace_state.to_header(),
    )
