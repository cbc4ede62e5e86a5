"""The application's side of a code worker: receives calls through a socket and returns decisions.

The cable is called as in the server's process: a call that need not wait is answered in the same turn
of the event loop, any other one has a task. Knows: a cable, messages. Does not know: processes, clients.
"""

import asyncio
import functools
import logging
import socket
from collections.abc import Awaitable
from typing import Final

from catenary.channels.cable import Cable
from catenary.codeworkers import messages as protocol
from catenary.codeworkers.ipc import IpcProtocol
from catenary.codeworkers.messages import (
    CallCancelled,
    CallRequest,
    CancelCall,
    CounterDeltas,
    HistoryQuery,
    PresenceQuery,
    PublicationResult,
    PublishRequest,
    QueryResult,
    Ready,
    StopWorker,
    ToWorker,
)
from catenary.errors import (
    BackendError,
    BackendRefused,
    CatenaryError,
    LostPosition,
    NotKept,
    TooLarge,
)
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.names import Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Page, Position
from catenary.tracer import TracePropagator

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))

PUBLICATIONS_LIMIT: Final = 100_000
"""Publications that the serving process has not accepted yet; more are refused."""


class CodeWorker:
    """Serves a cable over one socket. Satisfies :class:`catenary.channels.publishing.Publisher`
    and :class:`catenary.channels.reading.Reader`."""

    def __init__(self, cable: Cable, propagator: TracePropagator | None = None) -> None:
        """``propagator`` passes the traces of calls and publications; None if the server has no tracing."""
        self._application = cable.application
        self._propagator = propagator
        self._calls: dict[int, asyncio.Future[Decision | None]] = {}
        self._publications: dict[int, asyncio.Future[None]] = {}
        self._publications_total = 0
        self._queries: dict[int, asyncio.Future[QueryResult]] = {}
        self._queries_total = 0
        self._ipc: IpcProtocol[ToWorker] = IpcProtocol(
            protocol.read_to_worker, self._receive, self._on_lost
        )
        self._sent_counts = (0, 0, 0)
        """The counters of the application as the serving process knows them."""
        self._gone = asyncio.Event()
        self._ending: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def run(self, connected: socket.socket) -> bool:
        """Serves until the serving process asks it to stop; False if that has died instead."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._ipc, sock=connected)
        await self._application.start(self, reader=self, reports_ends_once=False)
        self._ipc.send(Ready(self._application.timers.declared_timers))
        timeout_s = await self._ending
        for call in tuple(self._calls.values()):
            call.cancel()
        await self._application.stop(timeout_s)
        if self._publications:
            await asyncio.wait(self._publications.values(), timeout=timeout_s)
        self._send_counts()
        is_orderly = self._ipc.is_open
        self._ipc.close()
        await self._gone.wait()
        return is_orderly

    def publish(self, raw: bytes) -> Awaitable[None]:
        """Passes a publication to the node. Raises :class:`BackendError`, here or when the result is awaited."""
        if not self._ipc.is_open:
            raise BackendError("the serving process is gone")
        if len(self._publications) >= PUBLICATIONS_LIMIT:
            raise BackendError(f"more than {PUBLICATIONS_LIMIT} publications wait for the server")
        self._publications_total += 1
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._publications[self._publications_total] = accepted
        trace = "" if self._propagator is None else self._propagator.current()
        self._ipc.send(PublishRequest(self._publications_total, raw, trace))
        return accepted

    async def members(self, stream: Stream) -> tuple[Member, ...]:
        """The members of a stream; see :class:`catenary.channels.reading.Reader`."""
        self._queries_total += 1
        return (await self._query(PresenceQuery(self._queries_total, stream))).members

    async def page(
        self, stream: Stream, start: int | Position, limit: int, *, newest: bool = False
    ) -> Page:
        """A page of a history; see :class:`catenary.channels.reading.Reader`."""
        self._queries_total += 1
        result = await self._query(HistoryQuery(self._queries_total, stream, start, limit, newest))
        assert result.page is not None
        return result.page

    async def _query(self, query: PresenceQuery | HistoryQuery) -> QueryResult:
        if not self._ipc.is_open:
            raise BackendError("the serving process is gone")
        answer: asyncio.Future[QueryResult] = asyncio.get_running_loop().create_future()
        self._queries[query.id] = answer
        try:
            self._ipc.send(query)
            result = await answer
        finally:
            del self._queries[query.id]
        if result.failure:
            raise _FAILURES.get(result.failure, BackendError)(result.error)
        return result

    # Messages of the serving process

    def _receive(self, message: ToWorker) -> None:
        match message:
            case CallRequest():
                if message.trace and self._propagator is not None:
                    with self._propagator.within(message.trace):
                        self._begin_call(message)
                else:
                    self._begin_call(message)
            case PublicationResult():
                self._finish_publication(message)
            case QueryResult(number):
                query = self._queries.get(number)
                if query is not None and not query.done():
                    query.set_result(message)
            case CancelCall(number):
                call = self._calls.get(number)
                if call is not None:
                    call.cancel()
            case StopWorker(timeout_s):
                if not self._ending.done():
                    self._ending.set_result(timeout_s)

    def _on_lost(self) -> None:
        self._gone.set()
        for accepted in self._publications.values():
            if not accepted.done():
                accepted.set_exception(BackendError("the serving process is gone"))
        self._publications.clear()
        for query in self._queries.values():
            if not query.done():
                query.set_exception(BackendError("the serving process is gone"))
        if not self._ending.done():
            self._ending.set_result(0)

    def _finish_publication(self, message: PublicationResult) -> None:
        accepted = self._publications.pop(message.id)
        if accepted.done():
            return
        if message.error:
            accepted.set_exception(_FAILURES.get(message.failure, BackendError)(message.error))
        else:
            accepted.set_result(None)

    # Calls

    def _begin_call(self, request: CallRequest) -> None:
        try:
            answer = self._call_application(request)
        except Exception as error:  # noqa: BLE001
            # A fault in this code, but the client must not wait for ever.
            self._fail(request.id, error)
            return
        if isinstance(answer, Decision):
            self._answer(request.id, answer)
            return
        call: asyncio.Future[Decision | None] = asyncio.ensure_future(answer)
        self._calls[request.id] = call
        call.add_done_callback(functools.partial(self._end_call, request.id))

    def _call_application(self, request: CallRequest) -> Decision | Awaitable[Decision | None]:
        environment, identifier = request.environment, request.identifier
        application = self._application
        match request.kind:
            case protocol.PERFORM:
                return application.perform(environment, identifier, request.data)
            case protocol.SUBSCRIBE:
                return application.subscribe(environment, identifier)
            case protocol.UNSUBSCRIBE:
                return application.unsubscribe(environment, identifier)
            case protocol.CONNECT:
                return application.connect(environment)
            case protocol.DISCONNECT:
                return application.disconnect(environment, request.subscriptions)
            case protocol.RESTORED:
                return application.perform(environment, identifier, application.restored_command())
            case protocol.TIMER:
                return application.perform(
                    environment, identifier, application.timers.command(request.data)
                )

    def _end_call(self, number: int, call: "asyncio.Future[Decision | None]") -> None:
        del self._calls[number]
        if call.cancelled():
            self._ipc.send(CallCancelled(number))
        elif (error := call.exception()) is not None:
            self._fail(number, error)
        else:
            self._answer(number, call.result() or _DONE)

    def _answer(self, number: int, decision: Decision) -> None:
        self._send_counts()
        try:
            self._ipc.send(protocol.call_result(number, decision))
        except ValueError as error:
            self._fail(number, error)

    def _send_counts(self) -> None:
        """Sends them before the answer: a client that has it may look at the metrics at once."""
        application = self._application
        now = (application.limited_total, application.failed_total, application.slow_total)
        if now == self._sent_counts:
            return
        before, self._sent_counts = self._sent_counts, now
        self._ipc.send(CounterDeltas(*(new - old for new, old in zip(now, before, strict=True))))

    def _fail(self, number: int, error: BaseException) -> None:
        _limited.error("A call failed unexpectedly", exc_info=error)
        failure = Decision(
            verdict=Verdict.ERROR, error=f"{type(error).__name__} in the code worker"
        )
        self._ipc.send(protocol.call_result(number, failure))


_DONE: Final = Decision()
_FAILURES: Final[dict[str, type[CatenaryError]]] = {
    # A publication that can't be read now can't be read when it is repeated.
    "PublicationError": BackendRefused,
    **{each.__name__: each for each in (BackendRefused, TooLarge, LostPosition, NotKept)},
}
"""Exceptions of the serving process, by name; any other is raised as :class:`BackendError`."""
