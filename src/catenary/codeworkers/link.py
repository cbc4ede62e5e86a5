"""One code worker as the serving process sees it: its calls under way, its publications and queries.

A call costs a future and no task. Knows: messages, futures. Does not know: other workers, processes.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from catenary.channels.reading import Reader
from catenary.channels.timers import DeclaredTimer
from catenary.codeworkers import messages as protocol
from catenary.codeworkers.ipc import IpcProtocol
from catenary.codeworkers.messages import (
    CallCancelled,
    CallResult,
    CancelCall,
    CounterDeltas,
    FromWorker,
    HistoryQuery,
    Kind,
    PresenceQuery,
    PublicationResult,
    PublishRequest,
    QueryResult,
    Ready,
    StopWorker,
)
from catenary.errors import AppFailed, AppUnavailable, BackendError, BackendRefused, CatenaryError
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.metrics.counters import Counters
from catenary.ports import NodePublisher

_log: Final = logging.getLogger("catenary.code")

_DIED: Final = "its code worker has died; it may have been carried out"
_NO_TIME: Final = "there was no time left to carry it out"


_METHODS: Final = {protocol.CONNECT: "Connect", protocol.DISCONNECT: "Disconnect"}
"""The names of calls in metrics, as over RPC; all others are commands."""


class WorkerCall(asyncio.Future[Decision]):
    """A call of the application.

    Cancelling a call that was sent asks its worker to cancel it, and does not end the wait: if the
    application decides all the same, that decision is the result. Otherwise a client could be accepted
    without the node knowing it.
    """

    __slots__ = (
        "_abandon",
        "data",
        "environment",
        "id",
        "identifier",
        "is_abandoned",
        "kind",
        "link",
        "sent_at",
        "subscriptions",
        "trace",
    )

    def __init__(
        self,
        kind: Kind,
        environment: Environment,
        identifier: Identifier,
        data: str,
        subscriptions: tuple[Identifier, ...],
        *,
        trace: str,
        loop: asyncio.AbstractEventLoop,
        abandon: "Callable[[WorkerCall], None]",
    ) -> None:
        super().__init__(loop=loop)
        self.kind = kind
        self.environment = environment
        self.identifier = identifier
        self.data = data
        self.subscriptions = subscriptions
        self.trace = trace
        """See :attr:`catenary.codeworkers.messages.CallRequest.trace`."""
        self.id = 0
        self.sent_at = 0.0
        self.link: WorkerLink | None = None
        """The worker to which it was sent; None while it waits for one."""
        self.is_abandoned = False
        """The client has left."""
        self._abandon = abandon

    def cancel(self, msg: Any | None = None) -> bool:
        """Asks for cancellation; True unless it was cancelled before. A call that is decided by now keeps its
        decision."""
        if self.cancelled():
            return False
        if not self.is_abandoned:
            self.is_abandoned = True
            if not self.done():
                self._abandon(self)
        return True

    def drop(self) -> None:
        """Ends the call as cancelled."""
        super().cancel()


class WorkerLink:
    """The connection to one code worker. Belongs to the running loop."""

    def __init__(
        self,
        publisher: NodePublisher,
        reader: Reader,
        counters: Counters,
        *,
        freed: Callable[[], None],
        lost: "Callable[[WorkerLink], None]",
        counted: Callable[[CounterDeltas], None],
    ) -> None:
        """``publisher`` and ``reader`` serve the worker. ``freed`` is called when a call has ended, ``lost``
        once, when the connection is lost, ``counted`` with increments of the application's counters.
        """
        loop = asyncio.get_running_loop()
        self.calls: dict[int, WorkerCall] = {}
        self.ipc: IpcProtocol[FromWorker] = IpcProtocol(
            protocol.read_from_worker, self._receive, self._on_lost
        )
        self.ready: asyncio.Future[tuple[DeclaredTimer, ...] | None] = loop.create_future()
        """The timers that the code declares, once it is loaded; None if the worker ended before."""
        self.gone = asyncio.Event()
        self._publisher = publisher
        self._reader = reader
        self._counters = counters
        self._freed = freed
        self._lost = lost
        self._counted = counted
        self._last_id = 0
        self._idle: asyncio.Event | None = None
        self._publishing: set[asyncio.Future[None]] = set()
        self._queries: set[asyncio.Task[None]] = set()

    # Calls

    def send(self, call: WorkerCall) -> None:
        """Sends a call. It fails if its text can't be encoded."""
        self._last_id += 1
        call.id = self._last_id
        call.link = self
        message = protocol.call_request(
            self._last_id,
            call.kind,
            call.environment,
            call.identifier,
            data=call.data,
            subscriptions=call.subscriptions,
            trace=call.trace,
        )
        try:
            self.ipc.send(message)
        except ValueError as error:
            self._counters.rpc_error_total += 1
            call.set_exception(AppFailed(f"expected Unicode text to send, got {error}"))
            return
        call.sent_at = monotonic()
        self.calls[self._last_id] = call
        self._counters.app_calls_num += 1

    def abandon(self, call: WorkerCall) -> None:
        """Asks the worker to cancel a call, because its client has left."""
        self.ipc.send(CancelCall(call.id))

    async def idle(self, timeout_s: float) -> bool:
        """Waits until no call is under way; False if that takes longer than ``timeout_s``."""
        self._idle = asyncio.Event()
        if not self.calls:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def end(self, timeout_s: float) -> None:
        """Fails the calls under way and asks the worker to stop within ``timeout_s``."""
        self._fail_all(_NO_TIME)
        self.ipc.send(StopWorker(timeout_s))

    # Messages of the worker

    def _receive(self, message: FromWorker) -> None:
        match message:
            case CallResult():
                call = self._finish(message.id, message.decision.verdict.value)
                if call is not None:
                    call.set_result(message.decision)
                    self._freed()
            case CallCancelled(number):
                call = self._finish(number, "canceled")
                if call is not None:
                    self._end_undecided(call, AppUnavailable(_NO_TIME))
                    self._freed()
            case PublishRequest(number, raw, trace):
                self._accept_publication(number, raw, trace)
            case PresenceQuery() | HistoryQuery():
                task = asyncio.get_running_loop().create_task(self._answer_query(message))
                self._queries.add(task)
                task.add_done_callback(self._queries.discard)
            case CounterDeltas():
                self._counted(message)
            case Ready(timers):
                if not self.ready.done():
                    self.ready.set_result(timers)

    def _on_lost(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        self.gone.set()
        self._lost(self)
        self._fail_all(_DIED)

    def _finish(self, number: int, status: str) -> WorkerCall | None:
        """Removes a call that has ended, and measures it; None if :meth:`end` has removed it before."""
        call = self.calls.pop(number, None)
        if call is None:
            return None
        self._counters.app_calls_num -= 1
        method = _METHODS.get(call.kind, "Command")
        self._counters.rpc_seconds.of(method, status).observe(monotonic() - call.sent_at)
        if self._idle is not None and not self.calls:
            self._idle.set()
        return call

    def _end_undecided(self, call: WorkerCall, error: AppUnavailable) -> None:
        """Ends a call for which there is no decision."""
        if call.is_abandoned:
            call.drop()
            return
        self._counters.rpc_error_total += 1
        call.set_exception(error)

    def _fail_all(self, reason: str) -> None:
        for number in tuple(self.calls):
            call = self._finish(number, "unavailable")
            if call is not None:
                self._end_undecided(call, AppUnavailable(reason))

    # Publications

    def _accept_publication(self, number: int, raw: bytes, trace: str) -> None:
        try:
            work = self._publisher.publish(raw, trace=trace)
        except CatenaryError as error:
            self.ipc.send(PublicationResult(number, str(error), type(error).__name__))
            return
        if work is None:
            self.ipc.send(PublicationResult(number, ""))
            return
        publishing = asyncio.ensure_future(work)
        self._publishing.add(publishing)
        publishing.add_done_callback(functools.partial(self._report_publication, number))

    def _report_publication(self, number: int, publishing: "asyncio.Future[None]") -> None:
        self._publishing.discard(publishing)
        if publishing.cancelled():
            self.ipc.send(PublicationResult(number, "it was not accepted"))
            return
        error = publishing.exception()
        if error is None:
            self.ipc.send(PublicationResult(number, ""))
            return
        self._counters.refused_publications_total += isinstance(error, BackendRefused)
        self.ipc.send(
            PublicationResult(number, str(error) or "it was not accepted", type(error).__name__)
        )

    # Queries

    async def _answer_query(self, query: PresenceQuery | HistoryQuery) -> None:
        try:
            if isinstance(query, PresenceQuery):
                result = QueryResult(query.id, await self._reader.members(query.stream))
            else:
                page = await self._reader.page(
                    query.stream, query.start, query.limit, newest=query.newest
                )
                result = QueryResult(query.id, (), page)
        except CatenaryError as error:
            result = QueryResult(query.id, failure=type(error).__name__, error=str(error))
        except Exception as error:  # noqa: BLE001
            # A fault in this code, but the worker must not wait for ever.
            _log.exception("A query of a code worker failed unexpectedly")
            result = QueryResult(
                query.id, failure=BackendError.__name__, error=type(error).__name__
            )
        self.ipc.send(result)
