"""The application in a process of its own: answers the calls that come through a socket.

The cable is driven as in the server's process: what has nothing to wait for is answered in the same
turn, everything else has a task. Knows: a cable, messages. Does not know: processes, clients.
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
    Abandon,
    Counted,
    End,
    Found,
    HistoryQuery,
    PresenceQuery,
    Published,
    Question,
    Ready,
    Taken,
    ToWorker,
    Unanswered,
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

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))

PUBLICATIONS_LIMIT: Final = 100_000
"""Publications that the serving process has not taken yet; more are refused."""


class CodeWorker:
    """Serves a cable over one socket. Satisfies :class:`catenary.channels.publishing.Publisher`
    and :class:`catenary.channels.reading.Reader`."""

    def __init__(self, cable: Cable) -> None:
        self._application = cable.application
        self._calls: dict[int, asyncio.Future[Decision | None]] = {}
        self._publications: dict[int, asyncio.Future[None]] = {}
        self._published = 0
        self._reads: dict[int, asyncio.Future[Found]] = {}
        self._read = 0
        self._wire: IpcProtocol[ToWorker] = IpcProtocol(
            protocol.read_to_worker, self._hear, self._lose
        )
        self._told = (0, 0, 0)
        """What the serving process knows of what the cable has counted."""
        self._gone = asyncio.Event()
        self._ending: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def run(self, connected: socket.socket) -> bool:
        """Answers until it is told to end; False where the serving process has died instead."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._wire, sock=connected)
        await self._application.start(self, reader=self, reports_ends_once=False)
        self._wire.send(Ready(self._application.timers.declared_timers))
        timeout_s = await self._ending
        for call in tuple(self._calls.values()):
            call.cancel()
        await self._application.stop(timeout_s)
        if self._publications:
            await asyncio.wait(self._publications.values(), timeout=timeout_s)
        self._tell_counts()
        is_orderly = self._wire.is_open
        self._wire.close()
        await self._gone.wait()
        return is_orderly

    def publish(self, raw: bytes) -> Awaitable[None]:
        """Hands a publication to the node. Raises :class:`BackendError`, or the awaitable does."""
        if not self._wire.is_open:
            raise BackendError("the serving process is gone")
        if len(self._publications) >= PUBLICATIONS_LIMIT:
            raise BackendError(f"more than {PUBLICATIONS_LIMIT} publications wait for the server")
        self._published += 1
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._publications[self._published] = taken
        self._wire.send(Published(self._published, raw))
        return taken

    async def members(self, stream: Stream) -> tuple[Member, ...]:
        """Who is on a stream, as the serving process knows it."""
        self._read += 1
        return (await self._look(PresenceQuery(self._read, stream))).members

    async def page(
        self, stream: Stream, start: int | Position, limit: int, *, newest: bool = False
    ) -> Page:
        """A part of a history, as the serving process has it."""
        self._read += 1
        found = await self._look(HistoryQuery(self._read, stream, start, limit, newest))
        assert found.page is not None
        return found.page

    async def _look(self, wanted: PresenceQuery | HistoryQuery) -> Found:
        if not self._wire.is_open:
            raise BackendError("the serving process is gone")
        answer: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._reads[wanted.id] = answer
        self._wire.send(wanted)
        try:
            found = await answer
        finally:
            del self._reads[wanted.id]
        if found.failure:
            raise _FAILURES.get(found.failure, BackendError)(found.error)
        return found

    # What the serving process says

    def _hear(self, message: ToWorker) -> None:
        match message:
            case Question():
                self._begin(message)
            case Taken():
                self._take(message)
            case Found(number):
                looking = self._reads.get(number)
                if looking is not None and not looking.done():
                    looking.set_result(message)
            case Abandon(number):
                call = self._calls.get(number)
                if call is not None:
                    call.cancel()
            case End(timeout_s):
                if not self._ending.done():
                    self._ending.set_result(timeout_s)

    def _lose(self) -> None:
        self._gone.set()
        for taken in self._publications.values():
            if not taken.done():
                taken.set_exception(BackendError("the serving process is gone"))
        self._publications.clear()
        for looking in self._reads.values():
            if not looking.done():
                looking.set_exception(BackendError("the serving process is gone"))
        if not self._ending.done():
            self._ending.set_result(0)

    def _take(self, message: Taken) -> None:
        taken = self._publications.pop(message.id)
        if taken.done():
            return
        if message.error:
            taken.set_exception(_FAILURES.get(message.failure, BackendError)(message.error))
        else:
            taken.set_result(None)

    # Calls

    def _begin(self, question: Question) -> None:
        try:
            answer = self._ask(question)
        except Exception as error:  # noqa: BLE001
            # A fault of our own, and yet the client must not wait for an answer for ever.
            self._fail(question.id, error)
            return
        if isinstance(answer, Decision):
            self._answer(question.id, answer)
            return
        call: asyncio.Future[Decision | None] = asyncio.ensure_future(answer)
        self._calls[question.id] = call
        call.add_done_callback(functools.partial(self._end_call, question.id))

    def _ask(self, question: Question) -> Decision | Awaitable[Decision | None]:
        environment, identifier = question.environment, question.identifier
        application = self._application
        match question.kind:
            case protocol.PERFORM:
                return application.perform(environment, identifier, question.data)
            case protocol.SUBSCRIBE:
                return application.subscribe(environment, identifier)
            case protocol.UNSUBSCRIBE:
                return application.unsubscribe(environment, identifier)
            case protocol.CONNECT:
                return application.connect(environment)
            case protocol.DISCONNECT:
                return application.disconnect(environment, question.subscriptions)
            case protocol.RESTORED:
                return application.perform(environment, identifier, application.restored_command())
            case protocol.TIMER:
                return application.perform(
                    environment, identifier, application.timers.command(question.data)
                )

    def _end_call(self, number: int, call: "asyncio.Future[Decision | None]") -> None:
        del self._calls[number]
        if call.cancelled():
            self._wire.send(Unanswered(number))
        elif (error := call.exception()) is not None:
            self._fail(number, error)
        else:
            self._answer(number, call.result() or _DONE)

    def _answer(self, number: int, decision: Decision) -> None:
        self._tell_counts()
        try:
            self._wire.send(protocol.answer(number, decision))
        except ValueError as error:
            self._fail(number, error)

    def _tell_counts(self) -> None:
        """Before the answer: whoever has heard that may look at once."""
        application = self._application
        now = (application.limited_total, application.failed_total, application.slow_total)
        if now == self._told:
            return
        told, self._told = self._told, now
        self._wire.send(Counted(*(new - old for new, old in zip(now, told, strict=True))))

    def _fail(self, number: int, error: BaseException) -> None:
        _limited.error("A call failed unexpectedly", exc_info=error)
        failure = Decision(
            verdict=Verdict.ERROR, error=f"{type(error).__name__} in the code worker"
        )
        self._wire.send(protocol.answer(number, failure))


_DONE: Final = Decision()
_FAILURES: Final[dict[str, type[CatenaryError]]] = {
    # What can't be read as a publication will not be taken the next time either.
    "PublicationError": BackendRefused,
    **{each.__name__: each for each in (BackendRefused, TooLarge, LostPosition, NotKept)},
}
"""Exceptions of the serving process by their names; others are :class:`BackendError` here."""
