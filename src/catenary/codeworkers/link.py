"""One code worker as the serving process sees it: its calls under way, what it publishes.

A call costs a future and no task. Knows: messages, futures. Does not know: other workers, processes.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from catenary.channels.reading import Reader
from catenary.channels.timers import DeclaredTimer
from catenary.codeworkers import messages as protocol
from catenary.codeworkers.ipc import IpcProtocol
from catenary.codeworkers.messages import (
    Abandon,
    Answer,
    Counted,
    End,
    Found,
    FromWorker,
    HistoryQuery,
    Kind,
    PresenceQuery,
    Published,
    Ready,
    Taken,
    Unanswered,
)
from catenary.errors import AppFailed, AppUnavailable, BackendError, BackendRefused, CatenaryError
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.metrics.counters import Counters

_log: Final = logging.getLogger("catenary.code")

_DIED: Final = "its code worker has died; it may have been carried out"
_NO_TIME: Final = "there was no time left to carry it out"


class WorkerCall(asyncio.Future[Decision]):
    """A call of the application.

    Cancelling one that was sent asks its worker to break it off, and then waits for what that says:
    an answer that was given all the same is the result. So nobody is let in without being known.
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
        "subscriptions",
    )

    def __init__(
        self,
        kind: Kind,
        environment: Environment,
        identifier: Identifier,
        data: str,
        subscriptions: tuple[Identifier, ...],
        *,
        loop: asyncio.AbstractEventLoop,
        abandon: "Callable[[WorkerCall], None]",
    ) -> None:
        super().__init__(loop=loop)
        self.kind = kind
        self.environment = environment
        self.identifier = identifier
        self.data = data
        self.subscriptions = subscriptions
        self.id = 0
        self.link: WorkerLink | None = None
        """Where it was sent."""
        self.is_abandoned = False
        """Its client has left."""
        self._abandon = abandon

    def cancel(self, msg: Any | None = None) -> bool:
        """True: whoever awaits it hears of its end, even where that is an answer by now."""
        if self.cancelled():
            return False
        if not self.is_abandoned:
            self.is_abandoned = True
            if not self.done():
                self._abandon(self)
        return True

    def drop(self) -> None:
        """It was broken off."""
        super().cancel()


class WorkerLink:
    """The way to one code worker. Belongs to the running loop."""

    def __init__(
        self,
        publish: Callable[[bytes], Awaitable[None] | None],
        reader: Reader,
        counters: Counters,
        *,
        freed: Callable[[], None],
        lost: "Callable[[WorkerLink], None]",
        counted: Callable[[Counted], None],
    ) -> None:
        """``freed`` is called when a call is over, ``lost`` once, when the worker has gone, ``counted``
        with what the application has counted."""
        loop = asyncio.get_running_loop()
        self.calls: dict[int, WorkerCall] = {}
        self.wire: IpcProtocol[FromWorker] = IpcProtocol(
            protocol.read_from_worker, self._hear, self._lose
        )
        self.ready: asyncio.Future[tuple[DeclaredTimer, ...] | None] = loop.create_future()
        """The timers of its code once it is loaded; None where it will never be."""
        self.gone = asyncio.Event()
        self._publish = publish
        self._reader = reader
        self._counters = counters
        self._freed = freed
        self._lost = lost
        self._counted = counted
        self._last = 0
        self._idle: asyncio.Event | None = None
        self._publishing: set[asyncio.Future[None]] = set()
        self._looking: set[asyncio.Task[None]] = set()

    # Calls

    def send(self, call: WorkerCall) -> None:
        """Sends a call."""
        self._last += 1
        call.id = self._last
        call.link = self
        message = protocol.question(
            self._last,
            call.kind,
            call.environment,
            call.identifier,
            data=call.data,
            subscriptions=call.subscriptions,
        )
        try:
            self.wire.send(message)
        except ValueError as error:
            self._counters.rpc_error_total += 1
            call.set_exception(AppFailed(f"expected Unicode text to send, got {error}"))
            return
        self.calls[self._last] = call
        self._counters.app_calls_num += 1

    def abandon(self, call: WorkerCall) -> None:
        """The client of a call under way has left."""
        self.wire.send(Abandon(call.id))

    async def idle(self, timeout_s: float) -> bool:
        """Waits until no call is under way."""
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
        """Nothing more will be called: what is under way has failed, and the worker is to end."""
        self._fail_all(_NO_TIME)
        self.wire.send(End(timeout_s))

    # What the worker says

    def _hear(self, message: FromWorker) -> None:
        match message:
            case Answer():
                call = self._done(message.id)
                if call is not None:
                    call.set_result(message.decision)
                    self._freed()
            case Unanswered(number):
                call = self._done(number)
                if call is not None:
                    self._end_without(call, AppUnavailable(_NO_TIME))
                    self._freed()
            case Published(number, raw):
                self._hand_on(number, raw)
            case PresenceQuery() | HistoryQuery():
                looking = asyncio.get_running_loop().create_task(self._look(message))
                self._looking.add(looking)
                looking.add_done_callback(self._looking.discard)
            case Counted():
                self._counted(message)
            case Ready(timers):
                if not self.ready.done():
                    self.ready.set_result(timers)

    def _lose(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        self.gone.set()
        self._lost(self)
        self._fail_all(_DIED)

    def _done(self, number: int) -> WorkerCall | None:
        """A call that is over; None for one that was given up before."""
        call = self.calls.pop(number, None)
        if call is None:
            return None
        self._counters.app_calls_num -= 1
        if self._idle is not None and not self.calls:
            self._idle.set()
        return call

    def _end_without(self, call: WorkerCall, error: AppUnavailable) -> None:
        """Ends a call that was not decided."""
        if call.is_abandoned:
            call.drop()
            return
        self._counters.rpc_error_total += 1
        call.set_exception(error)

    def _fail_all(self, why: str) -> None:
        for number in tuple(self.calls):
            call = self._done(number)
            if call is not None:
                self._end_without(call, AppUnavailable(why))

    # Publications

    def _hand_on(self, number: int, raw: bytes) -> None:
        try:
            work = self._publish(raw)
        except CatenaryError as error:
            self.wire.send(Taken(number, str(error), type(error).__name__))
            return
        if work is None:
            self.wire.send(Taken(number, ""))
            return
        publishing = asyncio.ensure_future(work)
        self._publishing.add(publishing)
        publishing.add_done_callback(functools.partial(self._handed_on, number))

    def _handed_on(self, number: int, publishing: "asyncio.Future[None]") -> None:
        self._publishing.discard(publishing)
        if publishing.cancelled():
            self.wire.send(Taken(number, "it was not taken"))
            return
        error = publishing.exception()
        if error is None:
            self.wire.send(Taken(number, ""))
            return
        self._counters.refused_publications_total += isinstance(error, BackendRefused)
        self.wire.send(Taken(number, str(error) or "it was not taken", type(error).__name__))

    # Reads

    async def _look(self, wanted: PresenceQuery | HistoryQuery) -> None:
        try:
            if isinstance(wanted, PresenceQuery):
                found = Found(wanted.id, await self._reader.members(wanted.stream))
            else:
                page = await self._reader.page(
                    wanted.stream, wanted.start, wanted.limit, newest=wanted.newest
                )
                found = Found(wanted.id, (), page)
        except CatenaryError as error:
            found = Found(wanted.id, failure=type(error).__name__, error=str(error))
        except Exception as error:  # noqa: BLE001
            # A fault of our own, and yet the worker must not wait for an answer for ever.
            _log.exception("A question of a code worker failed unexpectedly")
            found = Found(wanted.id, failure=BackendError.__name__, error=type(error).__name__)
        self.wire.send(found)
