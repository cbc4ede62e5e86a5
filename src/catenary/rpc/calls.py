"""A call to the application: a slot, attempts, back-off, counters.

gRPC and HTTP differ in what an attempt is; everything else is here. A call costs neither a task nor a future: the
connection that receives the answer calls back, and the decision takes effect in the same turn of the loop.
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
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.names import Sid
from catenary.metrics.counters import Counters
from catenary.ports import Pending
from catenary.rpc.adaptive_limit import AdaptiveLimit, AdaptiveRules
from catenary.rpc.circuit_breaker import CircuitBreaker
from catenary.rpc.concurrency import ConcurrencyLimiter
from catenary.tracer import RETRIES, Span, Tracer

log = logging.getLogger("catenary.rpc")
limited = RateLimitedLogger(log)

_T = TypeVar("_T")

_AWAY_BACKOFF_S: Final = 0.1
_BUSY_BACKOFF_S: Final = 0.01
# The reference doubles without a limit. This one keeps the last attempt near the end of the command's time, so that a
# server that is back after two seconds is found.
_LONGEST_BACKOFF_S: Final = 0.5
_PATIENCE_S: Final = 3.0
"""How long attempts are repeated without a command timeout: that option's default."""
_LONG_WAIT: Final = 20
"""A patient call may take so many times as long as others."""


class AppAway(AppNotReached):
    """The application's address does not answer; another attempt may succeed."""


class AppBusy(AppNotReached):
    """The application has no free worker; another attempt may succeed."""


class AppLate(AppUnavailable):
    """There was no answer within the time limit. Not repeated: the application may still be at work on the call."""


class CallLimits(msgspec.Struct, frozen=True):
    """``concurrency`` calls at once; time limits in seconds for an attempt and for all attempts of a command, 0 for none.

    With ``adaptive``, these rules replace ``concurrency``.
    """

    concurrency: int = 28
    adaptive: AdaptiveRules | None = None
    request_timeout_s: float = 0.0
    command_timeout_s: float = 3.0


class Procedure(Generic[_T]):
    """A remote procedure, and what its answers mean."""

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
        """``read`` decodes an answer; a call whose answer it refuses has failed. ``decide`` returns what an answer means,
        or raises what the application has raised.

        ``is_newcomers`` marks calls for clients that are not connected yet: they wait in a line of their own, and one
        that is under way is not cancelled when its client leaves, because the application may admit the client all the
        same. No client waits for the answers of ``is_patient`` calls: these have longer time limits.
        """
        self.name = name
        self.is_patient = is_patient
        self.read = read
        self.decide = decide
        self.is_newcomers = is_newcomers


class Attempt(Protocol):
    """A call that has been sent once."""

    def cancel(self) -> object:
        """Drops the attempt: neither :meth:`RpcCall.answered` nor :meth:`RpcCall.failed` is called."""
        ...


Send = Callable[["RpcCall[Any]", float | None], Attempt]
"""Sends a call once, with a time limit in seconds, or None.

Calls :meth:`RpcCall.answered` or :meth:`RpcCall.failed` later, never before it returns. Raises :class:`AppError` where the
call can't be sent at all.
"""


class RpcCall(Pending[_T]):
    """Waits for a slot, then makes attempts until one is answered or the time is up."""

    __slots__ = (
        "_callback",
        "_caller",
        "_give_up_at",
        "_has_slot",
        "_is_over",
        "_last",
        "_retries",
        "_tries",
        "_under_way",
        "outcome",
        "payload",
        "procedure",
        "sid",
        "span",
    )

    def __init__(
        self, caller: "Caller", procedure: Procedure[_T], sid: Sid, payload: bytes
    ) -> None:
        # The request
        self.procedure = procedure
        self.sid = sid
        self.payload = payload
        self.span: Span | None = None
        """Traces the call; None if it is not traced."""
        # Its state
        self._caller = caller
        self._has_slot = False
        self._is_over = False
        self._under_way: Attempt | None = None
        """The present attempt, or the pause before the next."""
        self._give_up_at = 0.0
        self._tries = 0
        self._retries = 0
        self._last: type[AppError] | None = None
        # Its result
        self._callback: Callable[[_T | Exception], None] | None = None
        self.outcome: _T | Exception | None = None
        """The result of a call that has ended before its caller waited for it."""

    # For the caller

    def then(self, callback: Callable[[_T | Exception], None]) -> None:
        self._callback = callback

    def cancel(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._callback = None
        caller = self._caller
        caller.counters.rpc_canceled_total += 1
        self._end_span(asyncio.CancelledError())
        if not self._has_slot:
            caller.limiter.withdraw(self)
            return
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None
        caller.breaker.end_probe()
        caller.limiter.release()
        self._measure("canceled")

    def __await__(self) -> Generator[Any, None, _T]:
        return self._wait().__await__()

    async def _wait(self) -> _T:
        result: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        if self._is_over:
            _set_result(result, cast(_T | Exception, self.outcome))
        else:
            self.then(partial(_set_result, result))
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not self._is_seen_through:
                self.cancel()
                raise
            task.uncancel()
        try:
            return await result
        except asyncio.CancelledError:
            self.cancel()
            raise

    @property
    def _is_seen_through(self) -> bool:
        """Does it go on after its client has left?"""
        return self.procedure.is_newcomers and self._has_slot and not self._is_over

    # For the limiter and the connections

    def slot_granted(self) -> None:
        """Starts the first attempt."""
        caller = self._caller
        self._has_slot = True
        caller.counters.rpc_call_total += 1
        now = monotonic()
        self._give_up_at = now + caller.patience_s
        is_patient = self.procedure.is_patient
        self._try(now, caller.long_timeout_s if is_patient else caller.first_timeout_s)

    def answered(self, raw: bytes) -> None:
        """An attempt was answered: decodes the answer and completes the call."""
        caller = self._caller
        self._under_way = None
        try:
            answer = self.procedure.read(raw)
        except Exception as error:  # noqa: BLE001
            # Any failure must cost this call, and not the connection that received the answer.
            self.failed(error)
            return
        if caller.breaker.is_failing:
            caller.note_answer()
        caller.limiter.release()
        if caller.adaptive is not None and not self._retries:
            caller.note_latency(self.procedure.name, self._give_up_at - caller.patience_s)
        outcome: _T | Exception
        try:
            outcome = self.procedure.decide(answer)
        except Exception as error:  # noqa: BLE001
            # Raised by the application, or a fault of ours: the caller gets either.
            outcome = error
        self._complete(outcome)

    def failed(self, error: Exception) -> None:
        """An attempt has ended without an answer: makes another after a pause, or completes the call."""
        self._under_way = None
        caller = self._caller
        now = monotonic()
        caller.note_failure(error, now)
        if caller.adaptive is not None:
            caller.note_overload(error, now, is_first=not self._retries)
        if not isinstance(error, AppAway | AppBusy):
            self._end(error)
            return
        self._tries = self._tries + 1 if type(error) is self._last else 1
        self._last = type(error)
        delay_s = _backoff_s(error, self._tries)
        if now + delay_s >= self._give_up_at or caller.breaker.is_open(now):
            self._end(error)
            return
        limited.debug(
            "Call is retried in %.2f s", delay_s, event="retry", sid=self.sid, reason=str(error)
        )
        caller.counters.rpc_retries_total += 1
        self._retries += 1
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
        elif caller.breaker.is_failing and not caller.breaker.admits(now):
            self._end(AppAway("the application is away"))
        else:
            try:
                self._under_way = caller.send(self, timeout_s)
            except Exception as error:  # noqa: BLE001
                # A fault of ours must give the slot back, too.
                self.failed(error)

    def _end(self, error: Exception) -> None:
        if isinstance(error, AppError):
            self._caller.counters.rpc_error_total += 1
        self._caller.limiter.release()
        self._complete(error)

    def _complete(self, outcome: _T | Exception) -> None:
        self._is_over = True
        self._measure(_status(outcome))
        if self.span is not None:
            self._end_span(outcome if isinstance(outcome, Exception) else None)
        callback, self._callback = (
            self._callback,
            None,
        )  # it may refer to the call: leaves no reference cycle
        if callback is not None:
            callback(outcome)
        else:
            self.outcome = outcome

    def _measure(self, status: str) -> None:
        """Counts the time since the call had its slot."""
        caller = self._caller
        seconds = monotonic() - (self._give_up_at - caller.patience_s)
        caller.counters.rpc_seconds.of(self.procedure.name, status).observe(seconds)

    def _end_span(self, error: BaseException | None) -> None:
        if self.span is not None:
            if self._retries:
                self.span.set(RETRIES, self._retries)
            self.span.end(error)


class Caller:
    """Makes calls within limits. Belongs to one event loop."""

    __slots__ = (
        "_is_closing",
        "_limits",
        "_system",
        "_tracer",
        "adaptive",
        "breaker",
        "counters",
        "first_timeout_s",
        "is_closed",
        "limiter",
        "long_timeout_s",
        "patience_s",
        "send",
        "trouble",
    )

    def __init__(
        self,
        limits: CallLimits,
        counters: Counters,
        send: Send,
        *,
        tracer: Tracer | None = None,
        system: str = "",
    ) -> None:
        """``system`` names in spans how the application is called."""
        self._limits = limits
        self._tracer = tracer
        self._system = system
        self.counters = counters
        self.send = send
        self.adaptive: AdaptiveLimit | None = None
        """Adapts the number of slots; None if that is fixed."""
        capacity = limits.concurrency
        if limits.adaptive is not None:
            self.adaptive = AdaptiveLimit(limits.adaptive, monotonic())
            capacity = self.adaptive.limit
        self.limiter: ConcurrencyLimiter[RpcCall[Any]] = ConcurrencyLimiter(capacity, counters)
        self.patience_s = limits.command_timeout_s or _PATIENCE_S
        self.first_timeout_s = self.timeout_s(self.patience_s)
        self.long_timeout_s = self.timeout_s(self.patience_s * _LONG_WAIT)
        self.breaker = CircuitBreaker(self.patience_s)
        self.trouble: str | None = None
        """Why the last attempt did not reach the application; None if it did."""
        self._is_closing = False
        """Are new calls refused?"""
        self.is_closed = False
        """Do calls under way make no more attempts?"""

    def call(self, procedure: Procedure[_T], sid: Sid, payload: bytes) -> RpcCall[_T]:
        """Makes a call, as soon as it has a slot.

        Raises :class:`AppUnavailable` while the server shuts down, and every error that ends the call at once. A call
        that is cancelled while it waits is never sent; one under way is dropped, unless it is a newcomer's.
        """
        if self._is_closing:
            self.counters.rpc_error_total += 1
            raise AppUnavailable("the server is shutting down")
        call = RpcCall(self, procedure, sid, payload)
        if self._tracer is not None and self._tracer.current is not None:
            call.span = self._tracer.call(self._system, procedure.name)
        self.limiter.acquire(call, is_newcomer=procedure.is_newcomers)
        if isinstance(call.outcome, Exception):
            raise call.outcome
        return call

    async def close(self, timeout_s: float) -> int:
        """Refuses new calls and waits for those under way; returns how many are left after ``timeout_s``."""
        self._is_closing = True
        try:
            async with asyncio.timeout(timeout_s):
                await self.limiter.idle()
        except TimeoutError:
            log.warning("closing with %d calls under way", self.limiter.busy)
        self.is_closed = True
        return self.limiter.busy

    def timeout_s(self, left_s: float) -> float | None:
        """How long an attempt may take: the shorter of the limits that are set; None without any."""
        limits = self._limits
        request_s = limits.request_timeout_s
        if not limits.command_timeout_s:
            return request_s or None
        return min(request_s, left_s) if request_s else left_s

    def note_failure(self, failure: Exception, now: float) -> None:
        """Updates the circuit breaker after a failed attempt."""
        match failure:
            case AppAway():
                self.trouble = str(failure)
                if self.breaker.record_failure(now):
                    log.warning("the application is away: %s", failure)
            case AppBusy():
                self.counters.rpc_exhausted_total += 1
                self.note_answer()
            case AppFailed():
                self.note_answer()
            case AppLate():
                self.counters.rpc_timeout_total += 1
                self.breaker.end_probe()
            case _:
                self.breaker.end_probe()

    def note_latency(self, procedure: str, began_at: float) -> None:
        """Updates the number of slots after an answer to a first attempt."""
        adaptive, limiter, now = self.adaptive, self.limiter, monotonic()
        if adaptive is not None and adaptive.answered(
            procedure, now - began_at, now, busy=limiter.busy, has_backlog=limiter.has_backlog
        ):
            self._resize(adaptive.limit)

    def note_overload(self, failure: Exception, now: float, *, is_first: bool) -> None:
        """Updates the number of slots after a failed attempt."""
        adaptive = self.adaptive
        is_overload = adaptive is not None and isinstance(failure, AppBusy | AppLate)
        if adaptive is not None and is_overload and adaptive.overloaded(now, is_first=is_first):
            self._resize(adaptive.limit)

    def _resize(self, capacity: int) -> None:
        before = self.limiter.capacity
        if capacity < before:
            self.counters.rpc_capacity_decreases_total += 1
        limited.debug(
            "Concurrency is adapted", event="concurrency", capacity=capacity, former=before
        )
        self.limiter.resize(capacity)

    def note_answer(self) -> None:
        """Updates the circuit breaker after an answer."""
        self.trouble = None
        if self.breaker.record_answer():
            log.info("the application is back")


def _status(outcome: object) -> str:
    """How a call has ended: the status of the answer (rpc.proto, anycable), or why there is none."""
    if type(outcome) is Decision:
        return "success" if outcome.verdict is Verdict.SUCCESS else "failure"
    match outcome:
        case AppFailed():
            return "error"
        case AppLate():
            return "timeout"
        case Exception():
            return "unavailable"
        case _:
            return "success"  # a Disconnect call decides nothing


def _set_result(result: "asyncio.Future[_T]", outcome: _T | Exception) -> None:
    if result.done():
        return
    if isinstance(outcome, Exception):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)


def _backoff_s(failure: AppAway | AppBusy, tries: int) -> float:
    first_s = _BUSY_BACKOFF_S if isinstance(failure, AppBusy) else _AWAY_BACKOFF_S
    return min(first_s * 2.0 ** (tries - 1), _LONGEST_BACKOFF_S)
