"""One call from its start to its end: a slot, attempts, back-off, counters.

gRPC and HTTP differ in what an attempt is; all else is here. A call costs neither a task nor a
future: whoever brings the answer calls, and the answer is carried out in the same turn of the loop.
Sources: docs/rpc.md and rpc/rpc.go (anycable/anycable) for time limits, intervals and counters.
Knows: how attempts fail. Does not know: messages, connections.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from functools import partial
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import msgspec

from catenary.errors import AppError, AppFailed, AppNotReached, AppUnavailable
from catenary.messages.names import Sid
from catenary.metrics.counters import Counters
from catenary.ports import Pending
from catenary.rpc.concurrency import Barrier
from catenary.rpc.outage import Outage

log = logging.getLogger("catenary.rpc")

_T = TypeVar("_T")

_AWAY_BACKOFF_S: Final = 0.1
_BUSY_BACKOFF_S: Final = 0.01
# The reference doubles without end. A cap keeps the last attempt near the end of the command's
# time: a server that comes back after two seconds is found.
_LONGEST_BACKOFF_S: Final = 0.5
_PATIENCE_S: Final = 3.0
"""How long attempts are repeated where no command timeout says it; that option's default."""
_LONG_WAIT: Final = 20
"""How many times as long a call may take for whose answer no client waits."""


class AppAway(AppNotReached):
    """Nobody answers at the application's address; another attempt may succeed."""


class AppBusy(AppNotReached):
    """The application has no free worker; another attempt may succeed."""


class AppLate(AppUnavailable):
    """No answer within the time limit. Not repeated: the application may be at work on it."""


class CallLimits(msgspec.Struct, frozen=True):
    """``concurrency`` calls at once; seconds for one attempt and for all of a command, 0 for no limit."""

    concurrency: int = 28
    request_timeout_s: float = 0.0
    command_timeout_s: float = 3.0


class Procedure(Generic[_T]):
    """What can be called, and what its answers mean."""

    __slots__ = ("decide", "is_newcomers", "is_patient", "name", "read")

    def __init__(
        self,
        name: str,
        read: Callable[[bytes], Any],
        decide: Callable[[Any], _T],
        *,
        is_newcomers: bool = False,
        is_patient: bool = False,
    ) -> None:
        """``read`` makes bytes an answer, and what it refuses is a failed call; ``decide`` says what
        an answer means, or raises what the application has raised. ``is_newcomers`` calls are those
        of clients that are not connected yet: they have a line of their own, and what is under
        way is seen through although its client leaves, because it may be let in all the same.
        No client waits for the answers of ``is_patient`` calls: an application that hangs for a
        while has more time for them."""
        self.name = name
        self.is_patient = is_patient
        self.read = read
        self.decide = decide
        self.is_newcomers = is_newcomers


class Attempt(Protocol):
    """A call that was sent once."""

    def cancel(self) -> object:
        """Nothing more is to come of it."""
        ...


Begin = Callable[["Call[Any]", float | None], Attempt]
"""Sends a call once; it may last for so many seconds, None for no limit.

What comes of it is told to :meth:`Call.answered` or :meth:`Call.failed`, after this has returned.
What can't be sent at all raises :class:`AppError`.
"""


class Call(Pending[_T]):
    """Waits for a slot, then makes attempts until one ends with an answer or the time is over."""

    __slots__ = (
        "_caller",
        "_give_up_at",
        "_has_slot",
        "_hear",
        "_is_over",
        "_last",
        "_tries",
        "_under_way",
        "outcome",
        "payload",
        "procedure",
        "sid",
    )

    def __init__(
        self, caller: "Caller", procedure: Procedure[_T], sid: Sid, payload: bytes
    ) -> None:
        # What is asked
        self.procedure = procedure
        self.sid = sid
        self.payload = payload
        # Where it stands
        self._caller = caller
        self._has_slot = False
        self._is_over = False
        self._under_way: Attempt | None = None
        """An attempt, or the pause before the next."""
        self._give_up_at = 0.0
        self._tries = 0
        self._last: type[AppError] | None = None
        # Who waits for what came of it
        self._hear: Callable[[_T | Exception], None] | None = None
        self.outcome: _T | Exception | None = None
        """What has come of it before anybody waited."""

    # Who asks

    def then(self, hear: Callable[[_T | Exception], None]) -> None:
        self._hear = hear

    def cancel(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._hear = None
        caller = self._caller
        caller.counters.rpc_canceled_total += 1
        if not self._has_slot:
            caller.barrier.leave(self)
            return
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None
        caller.outage.settle()
        caller.barrier.release()

    def __await__(self) -> Generator[Any, None, _T]:
        return self._wait().__await__()

    async def _wait(self) -> _T:
        heard: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        if self._is_over:
            _tell(heard, cast(_T | Exception, self.outcome))
        else:
            self.then(partial(_tell, heard))
        try:
            return await asyncio.shield(heard)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not self._is_seen_through:
                self.cancel()
                raise
            task.uncancel()
        try:
            return await heard
        except asyncio.CancelledError:
            self.cancel()
            raise

    @property
    def _is_seen_through(self) -> bool:
        """Does it go on although its client has left?"""
        return self.procedure.is_newcomers and self._has_slot and not self._is_over

    # Who carries it

    def begin(self) -> None:
        """It has a slot from now on."""
        caller = self._caller
        self._has_slot = True
        caller.counters.rpc_call_total += 1
        now = monotonic()
        self._give_up_at = now + caller.patience_s
        is_patient = self.procedure.is_patient
        self._try(now, caller.long_timeout_s if is_patient else caller.first_timeout_s)

    def answered(self, raw: bytes) -> None:
        """The answer is there."""
        caller = self._caller
        self._under_way = None
        try:
            answer = self.procedure.read(raw)
        except Exception as error:  # noqa: BLE001
            # Whatever it is, it must cost this call and not the connection that brought it.
            self.failed(error)
            return
        if caller.outage.is_on:
            caller.note_answer()
        caller.barrier.release()
        outcome: _T | Exception
        try:
            outcome = self.procedure.decide(answer)
        except Exception as error:  # noqa: BLE001
            # What the application has raised, or a fault of ours: who waits must hear of either.
            outcome = error
        self._tell(outcome)

    def failed(self, error: Exception) -> None:
        """An attempt has ended without an answer: there may be another."""
        self._under_way = None
        caller = self._caller
        now = monotonic()
        caller.note_failure(error, now)
        if not isinstance(error, AppAway | AppBusy):
            self._end(error)
            return
        self._tries = self._tries + 1 if type(error) is self._last else 1
        self._last = type(error)
        delay_s = _backoff_s(error, self._tries)
        if now + delay_s >= self._give_up_at or caller.outage.is_old(now):
            self._end(error)
            return
        log.debug("trying again in %.2f s: sid=%s %s", delay_s, self.sid, error)
        caller.counters.rpc_retries_total += 1
        self._under_way = asyncio.get_running_loop().call_later(delay_s, self._try_again)

    def _try_again(self) -> None:
        now = monotonic()
        caller = self._caller
        is_patient = self.procedure.is_patient
        self._try(
            now, caller.long_timeout_s if is_patient else caller.timeout_s(self._give_up_at - now)
        )

    def _try(self, now: float, timeout_s: float | None) -> None:
        caller = self._caller
        if caller.is_closed:
            self._end(AppUnavailable("the server is shutting down"))
        elif caller.outage.is_on and not caller.outage.admits(now):
            self._end(AppAway("the application is away"))
        else:
            try:
                self._under_way = caller.begin(self, timeout_s)
            except Exception as error:  # noqa: BLE001
                # A fault of ours, too, must give the slot back.
                self.failed(error)

    def _end(self, error: Exception) -> None:
        if isinstance(error, AppError):
            self._caller.counters.rpc_error_total += 1
        self._caller.barrier.release()
        self._tell(error)

    def _tell(self, outcome: _T | Exception) -> None:
        self._is_over = True
        hear, self._hear = self._hear, None  # who hears may hold the call: no circle is left behind
        if hear is not None:
            hear(outcome)
        else:
            self.outcome = outcome


class Caller:
    """Makes calls within the limits. Belongs to one event loop."""

    __slots__ = (
        "_is_closing",
        "_limits",
        "barrier",
        "begin",
        "counters",
        "first_timeout_s",
        "is_closed",
        "long_timeout_s",
        "outage",
        "patience_s",
    )

    def __init__(self, limits: CallLimits, counters: Counters, begin: Begin) -> None:
        self._limits = limits
        self.counters = counters
        self.begin = begin
        self.barrier: Barrier[Call[Any]] = Barrier(limits.concurrency, counters)
        self.patience_s = limits.command_timeout_s or _PATIENCE_S
        self.first_timeout_s = self.timeout_s(self.patience_s)
        self.long_timeout_s = self.timeout_s(self.patience_s * _LONG_WAIT)
        self.outage = Outage(self.patience_s)
        self._is_closing = False
        """New calls are refused."""
        self.is_closed = False
        """Those under way make no more attempts."""

    def call(self, procedure: Procedure[_T], sid: Sid, payload: bytes) -> Call[_T]:
        """Begins a call, or lets it wait for a slot.

        Raises :class:`AppUnavailable`, and what else ends it at once. A call that is cancelled
        while it waits is never sent; one that is under way is broken off, unless it is a newcomer's.
        """
        if self._is_closing:
            self.counters.rpc_error_total += 1
            raise AppUnavailable("the server is shutting down")
        call = Call(self, procedure, sid, payload)
        self.barrier.enter(call, is_newcomer=procedure.is_newcomers)
        if isinstance(call.outcome, Exception):
            raise call.outcome
        return call

    async def close(self, timeout_s: float) -> int:
        """Takes no more calls and waits for those under way; returns how many are left."""
        self._is_closing = True
        try:
            async with asyncio.timeout(timeout_s):
                await self.barrier.idle()
        except TimeoutError:
            log.warning("closing with %d calls under way", self.barrier.busy)
        self.is_closed = True
        return self.barrier.busy

    def timeout_s(self, left_s: float) -> float | None:
        """How long an attempt may last: the shorter of the two limits that are set."""
        limits = self._limits
        request_s = limits.request_timeout_s
        if not limits.command_timeout_s:
            return request_s or None
        return min(request_s, left_s) if request_s else left_s

    def note_failure(self, failure: Exception, now: float) -> None:
        """Learns from how an attempt ends whether the application is there."""
        match failure:
            case AppAway():
                if self.outage.begin(now):
                    log.warning("the application is away: %s", failure)
            case AppBusy() | AppFailed():
                self.note_answer()
            case AppLate():
                self.counters.rpc_timeout_total += 1
                self.outage.settle()
            case _:
                self.outage.settle()

    def note_answer(self) -> None:
        """It is."""
        if self.outage.end():
            log.info("the application is back")


def _tell(heard: "asyncio.Future[_T]", outcome: _T | Exception) -> None:
    if heard.done():
        return
    if isinstance(outcome, Exception):
        heard.set_exception(outcome)
    else:
        heard.set_result(outcome)


def _backoff_s(failure: AppAway | AppBusy, tries: int) -> float:
    first_s = _BUSY_BACKOFF_S if isinstance(failure, AppBusy) else _AWAY_BACKOFF_S
    return min(first_s * 2.0 ** (tries - 1), _LONGEST_BACKOFF_S)
