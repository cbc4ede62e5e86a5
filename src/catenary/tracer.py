"""The port of tracing: what the parts of a server call to trace a client's work, a call or a publication.

Knows: what is traced. Does not know: how a span is recorded, where spans are sent (``tracing/``).
"""

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from catenary.messages.commands import Command
from catenary.messages.environment import Environment
from catenary.messages.publications import Publication, Publishable
from catenary.messages.trace_context import TraceContext

ERROR_TYPE: Final = "error.type"
"""Attribute of work that has failed: why, as a word of low cardinality (OpenTelemetry's semantic conventions)."""

_T = TypeVar("_T")

RETRIES: Final = "catenary.rpc.retries"
"""Attribute of a call: attempts after the first."""

CLIENTS: Final = "catenary.delivery.clients"
"""Attribute of a delivery: clients of this node to which the message was sent."""


class Span(Protocol):
    """Work that is traced, from its creation to :meth:`end`."""

    @property
    def trace(self) -> TraceContext:
        """Its context, for work of another process that is a part of this work."""
        ...

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The header fields of a request that is a part of this work: ``traceparent``, perhaps ``tracestate``."""
        ...

    def set(self, name: str, value: str | int) -> None:
        """Sets an attribute."""
        ...

    def end(self, error: BaseException | None = None) -> None:
        """The work is done, or has failed. Only the first call counts."""
        ...


class Tracer(Protocol):
    """Decides what is traced, before anything else is done for it: methods return None for work that is not.

    Methods never raise. Used from one thread.
    """

    @property
    def current(self) -> Span | None:
        """The span of the work that is being done, None if that is not traced. Calls and publications of that work
        belong to it. :meth:`within` sets it for as long as the caller does not return to the event loop."""
        ...

    @property
    def samples(self) -> Callable[[], bool]:
        """Says whether a piece of work that begins a trace is traced. Each call is a decision of its own, and costs no call of
        Python code unless it is sampled."""
        ...

    def within(self, span: Span | None) -> AbstractContextManager[None]:
        """Makes a span of this tracer the current one, or none, and restores the one before it. May be entered again, for the
        next step of the same work."""
        ...

    def calling(self, span: Span) -> AbstractContextManager[None]:
        """The same, around a call of an application in this process: the span is the parent of the spans that the application
        records itself."""
        ...

    def handshake(
        self, environment: Environment, headers: Mapping[str, str], asked_at: float
    ) -> Span | None:
        """A client connects, with the header fields of its request (names in lower case). ``asked_at`` is when that was complete
        (``time.perf_counter``), 0 if that is unknown."""
        ...

    def command(self, environment: Environment, command: Command) -> Span | None:
        """A client's command is carried out. If there is no current work, the caller has sampled it (:attr:`samples`)."""
        ...

    def ending(self, environment: Environment) -> Span | None:
        """The end of a session is reported to the application."""
        ...

    def call(self, system: str, method: str) -> Span | None:
        """The application is called as a part of the current work: over ``grpc``, ``http``, or another system."""
        ...

    def publishing(self, publications: tuple[Publishable, ...]) -> Span | None:
        """Publications of one publisher are stored and sent."""
        ...

    def marked(self, publications: tuple[Publishable, ...], span: Span) -> tuple[Publishable, ...]:
        """The publications, with the span to which their deliveries belong, on every node."""
        ...

    def delivery(self, publication: Publication) -> Span | None:
        """A publication that carries a trace is sent to clients of this node."""
        ...


class TracePropagator(Protocol):
    """Passes traces to and from the code of an application, which may record spans of its own.

    A trace is the :attr:`catenary.messages.trace_context.TraceContext.text` of a span.
    """

    def within(self, trace: str) -> AbstractContextManager[object]:
        """Makes the span of a call the parent of the spans that the application begins meanwhile, also in tasks that it
        starts."""
        ...

    def current(self) -> str:
        """The span of the application that is current, empty if there is none."""
        ...


class TracedAwaitable(Awaitable[_T]):
    """Awaitable work, whose span ends with it. ``within`` makes the span the current one, during each step of the work."""

    __slots__ = ("_span", "_within", "_work")

    def __init__(
        self, within: AbstractContextManager[None], span: Span, work: Awaitable[_T]
    ) -> None:
        self._within = within
        self._span = span
        self._work = work

    def __await__(self) -> Generator[Any, None, _T]:
        steps = self._work.__await__()
        step: Callable[[], Any] = partial(next, steps)
        while True:
            with self._within:
                try:
                    awaited = step()
                except StopIteration as stop:
                    self._span.end()
                    result: _T = stop.value
                    return result
                except BaseException as error:
                    self._span.end(error)
                    raise
            try:
                yield awaited
            except GeneratorExit:
                steps.close()
                self._span.end()
                raise
            except BaseException as error:  # noqa: BLE001
                step = partial(steps.throw, error)
            else:
                step = partial(next, steps)
