"""One span of this process, and what is exported of it.

Knows: the SDK's spans. Does not know: what is traced, where spans are sent.
"""

import random
from collections.abc import Callable
from functools import partial
from time import time_ns
from typing import Final

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from catenary import __version__
from catenary.messages.trace_context import TRACEPARENT, TRACESTATE, TraceContext
from catenary.tracer import ERROR_TYPE
from catenary.tracing.propagation import NO_STATE

_SCOPE: Final = InstrumentationScope("catenary", __version__)
_FAILED: Final = Status(StatusCode.ERROR)
_UNSET: Final = Status(StatusCode.UNSET)


class TracedSpan:
    """Satisfies :class:`catenary.tracer.Span`. One that is not recorded only passes its context on.

    The SDK's objects are made by :meth:`readable` when spans are exported, in the thread of the export: a fifth of what a span costs the event
    loop.
    """

    __slots__ = (
        "_attributes",
        "_ended_ns",
        "_kind",
        "_links",
        "_name",
        "_parent",
        "_recorder",
        "is_sampled",
        "span_id",
        "started_ns",
        "trace_id",
        "trace_state",
    )

    def __init__(  # noqa: PLR0917
        self,
        recorder: "SpanRecorder | None",
        name: str,
        kind: SpanKind,
        parent: "SpanContext | TracedSpan | None",
        attributes: dict[str, str | int],
        links: tuple[Link, ...] = (),
    ) -> None:
        self._recorder = recorder
        self._name = name
        self._kind = kind
        self._parent = parent
        self._attributes = attributes
        self._links = links
        # Its context
        if parent is None:
            self.trace_id = random.getrandbits(128) or 1
            self.trace_state = NO_STATE
        else:
            self.trace_id = parent.trace_id
            self.trace_state = parent.trace_state
        self.span_id = random.getrandbits(64) or 1
        self.is_sampled = recorder is not None
        # Nanoseconds since 1970
        self._ended_ns = 0
        self.started_ns = time_ns()

    @property
    def is_recorded(self) -> bool:
        """Whether it is recorded, and has not ended."""
        return self._recorder is not None

    @property
    def context(self) -> SpanContext:
        """Its context, as the SDK has it."""
        flags = TraceFlags(TraceFlags.SAMPLED if self.is_sampled else 0)
        return SpanContext(
            self.trace_id,
            self.span_id,
            is_remote=False,
            trace_flags=flags,
            trace_state=self.trace_state,
        )

    @property
    def trace(self) -> TraceContext:
        """Its context, for publications and requests."""
        state = "" if self.trace_state is NO_STATE else self.trace_state.to_header()
        return TraceContext(f"{self.trace_id:032x}", f"{self.span_id:016x}", self.is_sampled, state)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        trace = self.trace
        parent = (TRACEPARENT, trace.parent)
        return (parent, (TRACESTATE, trace.state)) if trace.state else (parent,)

    def set(self, name: str, value: str | int) -> None:
        self._attributes[name] = value

    def end(self, error: BaseException | None = None) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        if error is not None and ERROR_TYPE not in self._attributes:
            self._attributes[ERROR_TYPE] = type(error).__name__
        self._ended_ns = time_ns()
        recorder.record(partial(self.readable, recorder.resource))

    def readable(self, resource: Resource) -> ReadableSpan:
        """Returns the SDK's form of the span, for the export. The span has ended. May be called in any thread."""
        parent = self._parent
        return ReadableSpan(
            name=self._name,
            context=self.context,
            parent=parent.context if isinstance(parent, TracedSpan) else parent,
            resource=resource,
            attributes=self._attributes,
            links=self._links,
            kind=self._kind,
            status=_FAILED if ERROR_TYPE in self._attributes else _UNSET,
            start_time=self.started_ns,
            end_time=self._ended_ns,
            instrumentation_scope=_SCOPE,
        )


class SpanRecorder(msgspec.Struct, frozen=True, gc=False):
    """Receives spans that have ended, which are of the process that ``resource`` describes. ``record`` must not block."""

    record: Callable[[Callable[[], ReadableSpan]], None]
    resource: Resource
