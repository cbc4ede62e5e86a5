"""Work of clients that is traced: a span from its start to its end, also if the work is awaited or ends in a callback.

Only built where tracing is on. Knows: what commands return, spans. Does not know: what they do, how spans are recorded.
"""

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from catenary.messages.commands import Command
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.messages.publications import Publication
from catenary.node.inboxes import PendingDecision
from catenary.node.session import Session
from catenary.ports import Application, Pending
from catenary.tracer import CLIENTS, ERROR_TYPE, Span, TracedAwaitable, Tracer

_W = TypeVar("_W")


class TracedCommands(Generic[_W]):
    """Starts commands, some of them within a span."""

    __slots__ = ("_start", "_tracer")

    def __init__(
        self,
        tracer: Tracer,
        start: Callable[[Session, Command], _W],
    ) -> None:
        self._tracer = tracer
        self._start = start

    def start(self, session: Session, command: Command) -> _W:
        """Starts a command; returns an awaitable if it is not done."""
        tracer = self._tracer
        if tracer.current is None and not tracer.samples():
            return self._start(session, command)
        span = tracer.command(session.environment, command)
        if span is not None:
            return traced(tracer, span, partial(self._start, session, command))
        # The command may have waited for a traced one of the same client, and does not belong to its trace.
        with tracer.within(None):
            return self._start(session, command)


class TracedEnds:
    """Reports ends of sessions to an application, some of them within a span. Passes everything else on."""

    __slots__ = ("_application", "_tracer", "connect", "perform", "subscribe", "unsubscribe")

    def __init__(self, tracer: Tracer, application: Application) -> None:
        self._tracer = tracer
        self._application = application
        self.connect: Final = application.connect
        self.subscribe: Final = application.subscribe
        self.unsubscribe: Final = application.unsubscribe
        self.perform: Final = application.perform

    def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> Awaitable[None]:
        """See :meth:`catenary.ports.Application.disconnect`."""
        span = self._tracer.ending(environment)
        end = partial(self._application.disconnect, environment, subscriptions)
        if span is None:
            return end()
        within = self._tracer.within(span)
        with within:
            try:
                ending = end()
            except BaseException as error:
                span.end(error)
                raise
        return TracedAwaitable(within, span, ending)


def traced(tracer: Tracer, span: Span, begin: Callable[[], _W]) -> _W:
    """Begins work within a span, which ends with the work: an awaitable, a :class:`PendingDecision`, or None if it is
    done."""
    within = tracer.within(span)
    with within:
        try:
            work = begin()
        except BaseException as error:
            span.end(error)
            raise
    if work is None:
        span.end()
        return work
    later: Any = work
    if isinstance(later, PendingDecision):
        later = PendingDecision(later.step, TracedPending(tracer, span, later.answer))
    else:
        later = TracedAwaitable(within, span, later)
    return cast("_W", later)


class TracedPending(Pending[Decision]):
    """A decision that is traced until it has been applied."""

    __slots__ = ("_answer", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span, answer: Pending[Decision]) -> None:
        self._tracer = tracer
        self._span = span
        self._answer = answer

    def then(self, callback: Callable[[Decision | Exception], None]) -> None:
        self._answer.then(partial(self._conclude, callback))

    def _conclude(
        self, callback: Callable[[Decision | Exception], None], outcome: Decision | Exception
    ) -> None:
        with self._tracer.within(self._span):
            callback(outcome)
        self._span.end(outcome if isinstance(outcome, Exception) else None)

    def cancel(self) -> None:
        self._answer.cancel()
        self._span.end()

    def __await__(self) -> Generator[Any, None, Decision]:
        within = self._tracer.within(self._span)
        return TracedAwaitable(within, self._span, self._answer).__await__()


def note_admission(session: Session, span: Span, _: object = None) -> None:
    """A client was admitted, or its session was closed for a reason."""
    if session.ended_for is not None:
        span.set(ERROR_TYPE, session.ended_for.name.lower())


def begin_deliveries(tracer: Tracer, batch: list[Publication]) -> list[Span]:
    """Begins a span for each publication that carries a trace."""
    spans = [tracer.delivery(each) for each in batch if each.trace]
    return [each for each in spans if each is not None]


def end_deliveries(spans: list[Span], clients: int) -> None:
    """The publications were sent to so many clients of this node."""
    for span in spans:
        span.set(CLIENTS, clients)
        span.end()
