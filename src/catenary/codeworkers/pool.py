"""The application in separate processes, which can be replaced while clients stay connected.

Satisfies :class:`catenary.ports.Application`. The pool turns what the node asks into calls of workers.
``generations.py`` starts and replaces the workers, ``call_queue.py`` chooses one for each call.
Knows: sessions that end, subscriptions, timers. Does not know: the application, sockets of clients.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Sequence
from typing import Final

from catenary.channels.ended_subscriptions import EndedSubscriptions
from catenary.channels.reading import Reader
from catenary.channels.subscription_key import SubscriptionKey
from catenary.channels.timers import Performer
from catenary.codeworkers import messages as protocol
from catenary.codeworkers.call_queue import CallQueue
from catenary.codeworkers.generations import Generations
from catenary.codeworkers.link import WorkerCall, WorkerLink
from catenary.codeworkers.messages import CounterDeltas, Kind
from catenary.codeworkers.timers import WorkerTimers
from catenary.errors import AppNotReached, AppUnavailable
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.ports import NodePublisher
from catenary.supervision.service import Supervisor
from catenary.tracer import Tracer

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.code"))

CANCEL_S: Final = 5.0
"""How long the end of a session waits for a cancelled call of the same session."""

_CLOSING: Final = "the server is shutting down"
_RESTORED: Final = "restored"
_TIMER: Final = "every:"
_NO_IDENTIFIER: Final = Identifier("")


class CodeWorkerPool:
    """Runs ``command`` in ``number`` processes. Belongs to the running loop."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        number: int,
        queue_timeout_s: float,
        end_s: float,
        counters: Counters,
        supervisor: Supervisor | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Calls wait up to ``queue_timeout_s`` for a free worker, 0 for no limit. Replaced workers have
        ``end_s`` to finish their calls.
        """
        self._counters = counters
        self._tracer = tracer
        self._loop = asyncio.get_running_loop()
        self.limited_total = 0
        """See :class:`catenary.channels.application.CableApplication`; summed over all workers."""
        self.failed_total = 0
        self.slow_total = 0
        self._publisher: NodePublisher | None = None
        self._performer: Performer | None = None
        self._reader: Reader | None = None
        self._is_closing = False
        # Commands that the node performs for the pool. No client can guess their action.
        action = f"${secrets.token_hex(8)}:"
        self.restored_action = action + _RESTORED
        self._own_prefix = f'{{"action":"{action}'
        self._timers = WorkerTimers(self._fire_timer)
        self._ended = EndedSubscriptions()
        self._cancelled: dict[Sid, WorkerCall] = {}
        """Calls that their workers have been asked to cancel, by session."""
        self._queue = CallQueue(queue_timeout_s, counters)
        self._generations = Generations(
            command,
            number,
            end_s=end_s,
            create_link=self._create_link,
            queue=self._queue,
            loaded=self._timers.declare,
            counters=counters,
            supervisor=supervisor,
        )

    async def start(self, publisher: NodePublisher, performer: Performer, reader: Reader) -> None:
        """Returns when every worker has loaded the code. Raises :class:`ConfigError`."""
        self._publisher = publisher
        self._performer = performer
        self._reader = reader
        await self._generations.start()

    async def close(self, timeout_s: float) -> None:
        """Refuses new calls; lets the calls under way finish and the workers stop."""
        self._is_closing = True
        self._timers.stop()
        self._queue.fail_waiting(_CLOSING)
        await self._generations.close(timeout_s)

    def reload(self) -> None:
        """Loads the code again. A request during a reload causes one more reload."""
        self._generations.reload()

    # The port

    def connect(self, environment: Environment) -> Awaitable[Decision]:
        return self._call(protocol.CONNECT, environment)

    def subscribe(self, environment: Environment, identifier: Identifier) -> Awaitable[Decision]:
        self._ended.pop(SubscriptionKey(environment.sid, identifier))
        call = self._call(protocol.SUBSCRIBE, environment, identifier)
        call.add_done_callback(self._on_subscribed)
        return call

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Awaitable[Decision]:
        key = SubscriptionKey(environment.sid, identifier)
        call = self._call(protocol.UNSUBSCRIBE, environment, identifier)
        self._ended.add(key, self._loop.time())
        self._timers.remove(key)
        call.add_done_callback(self._on_unsubscribed)
        return call

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Awaitable[Decision]:
        if data.startswith(self._own_prefix):
            return self._perform_own(environment, identifier, data)
        return self._call(protocol.PERFORM, environment, identifier, data)

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        cancelled = self._cancelled.get(environment.sid)
        if cancelled is not None:
            await asyncio.wait([cancelled], timeout=CANCEL_S)
        keys = [SubscriptionKey(environment.sid, each) for each in subscriptions]
        for key in keys:
            self._timers.remove(key)
        reported = {each for each in keys if self._ended.pop(each) is not None}
        unreported = tuple(each.identifier for each in keys if each not in reported)
        try:
            await self._call(protocol.DISCONNECT, environment, subscriptions=unreported)
        except AppNotReached:
            # The node calls again, with all of them.
            for key in reported:
                self._ended.add(key, self._loop.time())
            raise

    # Commands of the pool itself

    def _perform_own(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Awaitable[Decision]:
        """A session was resumed, or a timer is due."""
        key = SubscriptionKey(environment.sid, identifier)
        action = data.removeprefix(self._own_prefix).removesuffix('"}')
        if action == _RESTORED:
            self._ended.pop(key)
            self._timers.add(key)
            return self._call(protocol.RESTORED, environment, identifier)
        timer = action.removeprefix(_TIMER)
        call = self._call(protocol.TIMER, environment, identifier, timer)
        call.add_done_callback(lambda _: self._timers.finish_run(timer, key))
        return call

    def _fire_timer(self, timer: str, key: SubscriptionKey) -> bool:
        assert self._performer is not None
        command = f'{self._own_prefix}{_TIMER}{timer}"}}'
        return self._performer.perform(key.sid, key.identifier, command)

    # Calls

    def _call(
        self,
        kind: Kind,
        environment: Environment,
        identifier: Identifier = _NO_IDENTIFIER,
        data: str = "",
        subscriptions: tuple[Identifier, ...] = (),
    ) -> WorkerCall:
        if self._is_closing:
            raise AppUnavailable(_CLOSING)
        self._counters.rpc_call_total += 1
        span = None if self._tracer is None else self._tracer.current
        call = WorkerCall(
            kind,
            environment,
            identifier,
            data,
            subscriptions,
            trace="" if span is None else span.trace.text,
            loop=self._loop,
            abandon=self._abandon,
        )
        self._queue.submit(call)
        return call

    def _abandon(self, call: WorkerCall) -> None:
        """The client has left: a waiting call is dropped, a call under way is cancelled."""
        self._counters.rpc_canceled_total += 1
        if call.link is None:
            self._queue.withdraw(call)
            call.drop()
            return
        call.link.abandon(call)
        self._cancelled[call.environment.sid] = call
        call.add_done_callback(self._forget_cancelled)

    def _forget_cancelled(self, call: "asyncio.Future[Decision]") -> None:
        assert isinstance(call, WorkerCall)
        if self._cancelled.get(call.environment.sid) is call:
            del self._cancelled[call.environment.sid]

    def _on_subscribed(self, call: "asyncio.Future[Decision]") -> None:
        assert isinstance(call, WorkerCall)
        if call.cancelled() or call.exception() is not None:
            return
        if call.result().verdict is not Verdict.SUCCESS:
            return
        if not call.is_abandoned:
            self._timers.add(SubscriptionKey(call.environment.sid, call.identifier))
        elif not self._is_closing:
            # The client left before the confirmation: the node has no subscription to end.
            ending = self._call(protocol.UNSUBSCRIBE, call.environment, call.identifier)
            ending.add_done_callback(_log_failed_end)

    def _on_unsubscribed(self, call: "asyncio.Future[Decision]") -> None:
        """An end that did not reach the application is reported with the end of the session."""
        assert isinstance(call, WorkerCall)
        was_reported = call.link is not None if call.cancelled() else call.exception() is None
        if not was_reported:
            self._ended.pop(SubscriptionKey(call.environment.sid, call.identifier))

    # Workers

    def _create_link(self) -> WorkerLink:
        assert self._publisher is not None
        assert self._reader is not None
        return WorkerLink(
            self._publisher,
            self._reader,
            self._counters,
            freed=self._queue.send_waiting,
            lost=self._queue.remove_link,
            counted=self._add_counts,
        )

    def _add_counts(self, counted: CounterDeltas) -> None:
        self.limited_total += counted.limited
        self.failed_total += counted.failed
        self.slow_total += counted.slow


def _log_failed_end(call: "asyncio.Future[Decision]") -> None:
    """Logs the error of a call that nothing awaits."""
    if not call.cancelled() and (error := call.exception()) is not None:
        _limited.warning("The end of a subscription could not be reported: %s", error)
