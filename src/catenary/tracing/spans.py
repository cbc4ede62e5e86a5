"""The spans of one process: what is traced, and what its spans say.

Spans are created for sampled work only, and without the SDK's own class, which takes ten times as long. Names and attributes
follow OpenTelemetry's semantic conventions (rpc, messaging, network, error), others begin with ``catenary.``. No span has
a token, a cookie, a query string or the contents of a message.
Source: https://opentelemetry.io/docs/specs/semconv/ (rpc/rpc-spans, messaging/messaging-spans).
Knows: sampling, attributes. Does not know: where spans are sent.
"""

import re
from collections.abc import Mapping
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, Final

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    set_span_in_context,
)

from catenary.messages.commands import (
    Command,
    Join,
    Leave,
    Perform,
    ReadHistory,
    ReadPresence,
    Subscribe,
    Unsubscribe,
    Whisper,
)
from catenary.messages.environment import Environment
from catenary.messages.lenient_json import JSON_ERRORS
from catenary.messages.publications import Publication, Publishable
from catenary.messages.trace_context import TRACEPARENT, TRACESTATE, TraceContext, read, read_text
from catenary.tracer import Span
from catenary.tracing.propagation import remote
from catenary.tracing.sampler import sampler
from catenary.tracing.traced_span import SpanRecorder, TracedSpan

MARKED_AT_ONCE: Final = 100
"""Publications of a batch whose deliveries are traced: a batch may have 10,000."""

CLIENTS_PER_S: Final = 100
"""Handshakes per second that are traced because the client asks for it: anybody can send a ``traceparent``."""

_SYSTEM: Final = "catenary"

_COMMANDS: Final[dict[type, str]] = {
    Subscribe: "subscribe",
    Unsubscribe: "unsubscribe",
    Perform: "perform",
    Whisper: "whisper",
    ReadHistory: "history",
    ReadPresence: "presence",
    Join: "join",
    Leave: "leave",
}
_ROOTS: Final = frozenset({Subscribe, Unsubscribe, Perform, Whisper})
"""Commands that belong to no other: the others may be a part of a subscribe command."""

_SIGNED_PATHS: Final = frozenset({"durable_streams"})
"""Transports whose paths may contain signed names."""

_SERVICES: Final = {"grpc": "anycable.RPC"}


class _Params(msgspec.Struct, gc=False):
    channel: str = ""


class _Performed(msgspec.Struct, gc=False):
    action: str = ""


_read_params: Final = msgspec.json.Decoder(_Params).decode
_read_action: Final = msgspec.json.Decoder(_Performed).decode
_NAME: Final = re.compile(r"[\w:$.-]{1,100}\Z")
"""Names of channels and actions; a client may send any other text in their place."""


class OtelTracer:
    """Satisfies :class:`catenary.tracer.Tracer`.

    Work that begins a trace is sampled with the probability ``ratio``. Work that belongs to one is traced if that is
    (parent based); a ``traceparent`` that is not sampled is passed on unchanged.
    """

    __slots__ = (
        "_clients_left",
        "_clients_until",
        "_recorder",
        "current",
        "limited_total",
        "samples",
    )

    def __init__(self, recorder: SpanRecorder, ratio: float) -> None:
        self.current: TracedSpan | None = None
        self._recorder = recorder
        self.samples: Final = sampler(ratio)
        self._clients_left = CLIENTS_PER_S
        self._clients_until = 0.0
        self.limited_total = 0
        """Handshakes that were not traced although the client asked for it: too many did."""

    def within(self, span: Span | None) -> "_Within":
        assert span is None or isinstance(span, TracedSpan)
        return _Within(self, span)

    def calling(self, span: Span) -> "_Calling":
        assert isinstance(span, TracedSpan)
        return _Calling(self, span)

    # Clients

    def handshake(
        self, environment: Environment, headers: Mapping[str, str], asked_at: float
    ) -> TracedSpan | None:
        parent = None
        if TRACEPARENT in headers:
            parent = read(headers[TRACEPARENT], headers.get(TRACESTATE, ""))
        if parent is None:
            if not self.samples():
                return None
        elif not parent.is_sampled or self._is_limited():
            return _passed_on(parent)
        ingress = environment.ingress
        attributes: dict[str, str | int] = {
            "catenary.sid": environment.sid,
            "catenary.protocol": ingress.protocol,
            "network.protocol.name": ingress.transport,
        }
        if ingress.transport not in _SIGNED_PATHS:
            attributes["url.path"] = environment.path
        if environment.address:
            attributes["client.address"] = environment.address
        sender = None if parent is None else remote(parent)
        span = self._begin("connect", SpanKind.SERVER, sender, attributes)
        if asked_at:
            span.started_ns -= int((perf_counter() - asked_at) * 1e9)
        return span

    def _is_limited(self) -> bool:
        now = monotonic()
        if now >= self._clients_until:
            self._clients_until = now + 1
            self._clients_left = CLIENTS_PER_S
        if self._clients_left:
            self._clients_left -= 1
            return False
        self.limited_total += 1
        return True

    def command(self, environment: Environment, command: Command) -> TracedSpan | None:
        kind = type(command)
        current = self.current
        if current is not None and kind in _ROOTS:
            # The current command was awaited by this one of the same client, which begins a trace of its own.
            current = None
            if not self.samples():
                return None
        name = _COMMANDS.get(kind)
        if name is None or (current is not None and not current.is_recorded):
            return None
        attributes: dict[str, str | int] = {"catenary.sid": environment.sid}
        channel = _channel(command)
        if channel:
            attributes["catenary.channel"] = channel
        if type(command) is Perform:
            action = _action(command.data)
            if action:
                attributes["catenary.action"] = action
        return self._begin(name, SpanKind.SERVER, current, attributes)

    def ending(self, environment: Environment) -> TracedSpan | None:
        if not self.samples():
            return None
        return self._begin("disconnect", SpanKind.INTERNAL, None, {"catenary.sid": environment.sid})

    # The application

    def call(self, system: str, method: str) -> TracedSpan | None:
        current = self.current
        if current is None or not current.is_recorded:
            return current
        name = f"{_SERVICES.get(system, 'catenary')}/{method}"
        attributes: dict[str, str | int] = {"rpc.system.name": system, "rpc.method": name}
        return self._begin(name, SpanKind.CLIENT, current, attributes)

    # Publications

    def publishing(self, publications: tuple[Publishable, ...]) -> TracedSpan | None:
        if not publications:
            return None
        first = publications[0] if isinstance(publications[0], Publication) else None
        parent: SpanContext | TracedSpan | None = None
        if first is not None and first.trace:
            named = read_text(first.trace)
            if named is None or not named.is_sampled:
                return None
            parent = remote(named)
        elif self.current is not None:
            if not self.current.is_recorded:
                return None
            parent = self.current
        elif not self.samples():
            return None
        attributes: dict[str, str | int] = {
            "messaging.system": _SYSTEM,
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
        }
        if len(publications) > 1:
            attributes["messaging.batch.message_count"] = len(publications)
        elif first is not None:
            attributes["messaging.destination.name"] = first.stream
            attributes["messaging.message.body.size"] = len(first.data.encode())
        name = "publish" if first is not None else "disconnect clients"
        return self._begin(name, SpanKind.PRODUCER, parent, attributes)

    def marked(self, publications: tuple[Publishable, ...], span: Span) -> tuple[Publishable, ...]:
        assert isinstance(span, TracedSpan)
        trace = span.trace.text
        few = [
            msgspec.structs.replace(each, trace=trace) if type(each) is Publication else each
            for each in publications[:MARKED_AT_ONCE]
        ]
        others = [
            msgspec.structs.replace(each, trace="")
            if type(each) is Publication and each.trace
            else each
            for each in publications[MARKED_AT_ONCE:]
        ]
        return (*few, *others)

    def delivery(self, publication: Publication) -> TracedSpan | None:
        sent = read_text(publication.trace)
        if sent is None or not sent.is_sampled:
            return None
        attributes: dict[str, str | int] = {
            "messaging.system": _SYSTEM,
            "messaging.operation.name": "deliver",
            "messaging.operation.type": "process",
            "messaging.destination.name": publication.stream,
            "messaging.message.body.size": len(publication.data.encode()),
        }
        if publication.position is not None:
            attributes["messaging.message.id"] = publication.position.text
        publishing = remote(sent)
        return self._begin(
            "deliver", SpanKind.CONSUMER, publishing, attributes, (Link(publishing),)
        )

    def _begin(
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | TracedSpan | None,
        attributes: dict[str, str | int],
        links: tuple[Link, ...] = (),
    ) -> TracedSpan:
        return TracedSpan(self._recorder, name, kind, parent, attributes, links)


class _Within:
    """A context manager: makes a span the tracer's current one, and restores the one before it."""

    __slots__ = ("_before", "_span", "_tracer")

    def __init__(self, tracer: OtelTracer, span: TracedSpan | None) -> None:
        self._tracer = tracer
        self._span = span

    def __enter__(self) -> None:
        self._before = self._tracer.current
        self._tracer.current = self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tracer.current = self._before


class _Calling(_Within):
    """The same, also in OpenTelemetry's context. A later step of the work continues in the context in which the application was
    when the step before ended: perhaps in a span of its own."""

    __slots__ = ("_context", "_token")

    def __init__(self, tracer: OtelTracer, span: TracedSpan) -> None:
        super().__init__(tracer, span)
        # Otherwise empty: the context outside may belong to another client.
        self._context = set_span_in_context(NonRecordingSpan(span.context), otel_context.Context())

    def __enter__(self) -> None:
        super().__enter__()
        self._token: Any = otel_context.attach(self._context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._context = otel_context.get_current()
        otel_context.detach(self._token)
        super().__exit__(kind, error, traceback)


def _passed_on(context: TraceContext) -> TracedSpan:
    """A trace that is not recorded here: calls get its ``traceparent`` as it came."""
    parent = remote(context)
    span = TracedSpan(None, "", SpanKind.INTERNAL, parent, {})
    span.span_id = parent.span_id
    return span


def _channel(command: Command) -> str:
    """The channel of a command; empty for an identifier of another form."""
    identifier = getattr(command, "identifier", "")
    try:
        name = _read_params(identifier).channel
    except JSON_ERRORS:
        return ""
    return name if _NAME.match(name) else ""


def _action(data: str) -> str:
    """The action of a message; empty for a message of another form."""
    try:
        name = _read_action(data).action
    except JSON_ERRORS:
        return ""
    return name if _NAME.match(name) else ""
