"""An application in this process or in code workers: its calls are traced, and what it publishes. Calls over gRPC and HTTP are
traced in ``rpc/``.

Knows: the ports of applications and publications. Does not know: sessions, how spans are recorded.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.ports import Application, NodePublisher
from catenary.tracer import TracedAwaitable, TracePropagator, Tracer

_A = TypeVar("_A", bound=Decision | Awaitable[Decision] | Awaitable[None])


class TracedApplication:
    """Satisfies :class:`catenary.ports.Application`. ``system`` names in spans how the application is called."""

    __slots__ = ("_application", "_system", "_tracer")

    def __init__(self, tracer: Tracer, application: Application, system: str) -> None:
        self._tracer = tracer
        self._application = application
        self._system = system

    def connect(self, environment: Environment) -> Decision | Awaitable[Decision]:
        return self._traced("Connect", partial(self._application.connect, environment))

    def subscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        ask = partial(self._application.subscribe, environment, identifier)
        return self._traced("Command", ask)

    def unsubscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        ask = partial(self._application.unsubscribe, environment, identifier)
        return self._traced("Command", ask)

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Decision | Awaitable[Decision]:
        ask = partial(self._application.perform, environment, identifier, data)
        return self._traced("Command", ask)

    def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> Awaitable[None]:
        tell = partial(self._application.disconnect, environment, subscriptions)
        return self._traced("Disconnect", tell)

    def _traced(self, method: str, call: Callable[[], _A]) -> _A:
        tracer = self._tracer
        if tracer.current is None:
            return call()
        span = tracer.call(self._system, method)
        if span is None:
            return call()
        calling = tracer.calling(span)
        with calling:
            try:
                answer = call()
            except BaseException as error:
                span.end(error)
                raise
        if isinstance(answer, Decision):
            span.end()
            return answer
        later: _A = TracedAwaitable(calling, span, answer)  # type: ignore[assignment]
        return later


class TracedPublisher:
    """Publications of an application in this process. They belong to the current span of OpenTelemetry's context, which the
    application's own instrumentation may have begun."""

    __slots__ = ("_propagator", "_publisher")

    def __init__(self, propagator: TracePropagator, publisher: NodePublisher) -> None:
        self._propagator = propagator
        self._publisher = publisher

    def publish(self, raw: bytes) -> Awaitable[None] | None:
        """See :meth:`catenary.channels.publishing.Publisher.publish`."""
        return self._publisher.publish(raw, trace=self._propagator.current())
