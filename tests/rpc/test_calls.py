"""How often a call is repeated, and when it no longer is."""

import asyncio
import contextlib
import gc
from collections.abc import Coroutine
from functools import partial
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest

from catenary.errors import AppError, AppFailed, AppUnavailable
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.names import Sid
from catenary.metrics.counters import Counters
from catenary.rpc.calls import (
    AppAway,
    AppBusy,
    AppLate,
    Attempt,
    Caller,
    CallLimits,
    Procedure,
    RpcCall,
    Send,
)

SID = Sid("s1")


def _text(raw: bytes) -> str:
    return raw.decode()


def _meaning(text: str) -> str:
    if text == "error":
        raise AppFailed("the application has raised")
    return text


SAY: Procedure[str] = Procedure("Say", _text, _meaning)
GREET: Procedure[str] = Procedure("Greet", _text, _meaning, is_newcomers=True)


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


class Wire:
    """Makes attempts, which the test ends."""

    def __init__(self) -> None:
        self.given: list[float | None] = []
        self.times: list[float] = []
        self.calls: list[RpcCall[Any]] = []
        self.broken_off: list[RpcCall[Any]] = []

    def begin(self, call: RpcCall[Any], timeout_s: float | None) -> Attempt:
        self.given.append(timeout_s)
        self.times.append(asyncio.get_running_loop().time())
        self.calls.append(call)
        return UnderWay(self, call)


class UnderWay:
    def __init__(self, wire: Wire, call: RpcCall[Any]) -> None:
        self.wire = wire
        self.call = call

    def cancel(self) -> None:
        self.wire.broken_off.append(self.call)


class Scripted(Wire):
    """Its attempts end in one way after the other, the last way again and again."""

    def __init__(self, *ends: Exception | str) -> None:
        super().__init__()
        self.ends = list(ends)

    def begin(self, call: RpcCall[Any], timeout_s: float | None) -> Attempt:
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        attempt = super().begin(call, timeout_s)
        loop = asyncio.get_running_loop()
        if isinstance(end, Exception):
            loop.call_soon(call.failed, end)
        else:
            loop.call_soon(call.answered, end.encode())
        return attempt


def caller(
    send: Send, limits: CallLimits | None = None, counters: Counters | None = None
) -> Caller:
    return Caller(limits or CallLimits(), counters or Counters(), send)


def say(caller: Caller) -> RpcCall[str]:
    return caller.call(SAY, SID, b"")


# Calls


def test_busy_and_away_are_repeated() -> None:
    counters = Counters()
    wire = Scripted(AppBusy("1"), AppBusy("2"), AppAway("3"), "done")

    async def scenario() -> None:
        assert await say(caller(wire.begin, counters=counters)) == "done"

    run(scenario())
    assert len(wire.given) == 4
    assert counters.rpc_retries_total == 3
    assert (counters.rpc_call_total, counters.rpc_error_total) == (1, 0)


@pytest.mark.parametrize("error", [AppLate("late"), AppFailed("broken")])
def test_other_failures_are_not_repeated(error: Exception) -> None:
    counters = Counters()
    wire = Scripted(error)

    async def scenario() -> None:
        with pytest.raises(type(error)):
            await say(caller(wire.begin, counters=counters))

    run(scenario())
    assert len(wire.given) == 1
    assert (counters.rpc_error_total, counters.rpc_retries_total) == (1, 0)


def test_an_attempt_that_can_not_be_sent_fails_at_once() -> None:
    counters = Counters()

    def begin(call: RpcCall[Any], timeout_s: float | None) -> Attempt:
        raise AppFailed("too large")

    async def scenario() -> None:
        calls = caller(begin, CallLimits(concurrency=1), counters)
        for _ in range(2):
            with pytest.raises(AppFailed, match="too large"):
                say(calls)

    run(scenario())
    assert (counters.rpc_error_total, counters.rpc_pending_num) == (2, 0)


def test_a_fault_in_reading_an_answer_costs_that_call() -> None:
    def read(raw: bytes) -> str:
        raise ZeroDivisionError

    async def scenario() -> None:
        calls = caller(Scripted("done").begin, CallLimits(concurrency=1))
        with pytest.raises(ZeroDivisionError):
            await calls.call(Procedure("Odd", read, _meaning), SID, b"")
        assert await say(calls) == "done"

    run(scenario())


def test_a_fault_in_reading_an_answer_reaches_the_caller() -> None:
    def decide(text: str) -> str:
        raise ZeroDivisionError

    async def scenario() -> None:
        outcomes: list[str | Exception] = []
        call = caller(Wire().begin).call(Procedure("Odd", _text, decide), SID, b"")
        call.then(outcomes.append)
        call.answered(b"yes")
        assert [type(each) for each in outcomes] == [ZeroDivisionError]

    run(scenario())


def test_an_error_of_the_application_is_no_failed_call() -> None:
    counters = Counters()

    async def scenario() -> None:
        with pytest.raises(AppFailed, match="has raised"):
            await say(caller(Scripted("error").begin, counters=counters))

    run(scenario())
    assert (counters.rpc_call_total, counters.rpc_error_total) == (1, 0)


def test_an_answer_needs_no_task() -> None:
    wire = Wire()

    async def scenario() -> None:
        outcomes: list[str | Exception] = []
        calls = caller(wire.begin, CallLimits(concurrency=1))
        first, second = say(calls), say(calls)
        first.then(outcomes.append)
        second.then(outcomes.append)
        assert wire.calls == [first]
        first.answered(b"one")
        assert wire.calls == [first, second]
        second.answered(b"two")
        assert outcomes == ["one", "two"]

    run(scenario())


def test_an_answer_that_comes_before_anybody_waits_is_not_lost() -> None:
    async def scenario() -> None:
        wire = Wire()
        call = say(caller(wire.begin))
        call.answered(b"quick")
        assert await call == "quick"

    run(scenario())


def test_the_interval_doubles_up_to_a_cap_and_restarts_for_another_reason() -> None:
    async def scenario() -> None:
        wire = Scripted(*[AppAway("")] * 5, *[AppBusy("")] * 3, "done")
        assert await say(caller(wire.begin)) == "done"
        pauses = [after - before for before, after in pairwise(wire.times)]
        wanted = [0.1, 0.2, 0.4, 0.5, 0.5, 0.01, 0.02, 0.04]
        assert pauses == pytest.approx(wanted, abs=0.08)
        assert all(pause > want - 0.005 for pause, want in zip(pauses, wanted, strict=True))

    run(scenario())


@pytest.mark.parametrize("error", [AppBusy("busy"), AppAway("away")])
def test_repeating_ends_with_the_command_s_time(error: Exception) -> None:
    async def scenario() -> None:
        clock = asyncio.get_running_loop().time
        begin = clock()
        with pytest.raises(type(error)):
            await say(caller(Scripted(error).begin, CallLimits(command_timeout_s=0.5)))
        assert 0.2 < clock() - begin < 0.6

    run(scenario())


@pytest.mark.parametrize(
    ("request_s", "command_s", "lowest", "highest"),
    [(0.2, 3, 0.2, 0.2), (5, 3, 2.9, 3), (0, 3, 2.9, 3), (0.2, 0, 0.2, 0.2)],
)
def test_an_attempt_has_the_shorter_of_the_two_limits(
    request_s: float, command_s: float, lowest: float, highest: float
) -> None:
    wire = Scripted("done")
    limits = CallLimits(request_timeout_s=request_s, command_timeout_s=command_s)

    async def scenario() -> None:
        await say(caller(wire.begin, limits))

    run(scenario())
    (timeout_s,) = wire.given
    assert timeout_s is not None
    assert lowest <= timeout_s <= highest


def test_without_limits_an_attempt_has_none_and_yet_repeating_ends() -> None:
    wire = Scripted("done", AppAway("away"))
    limits = CallLimits(request_timeout_s=0, command_timeout_s=0)

    async def scenario() -> None:
        calls = caller(wire.begin, limits)
        await say(calls)
        with pytest.raises(AppAway):
            await say(calls)

    run(scenario())
    assert set(wire.given) == {None}


def test_a_cancelled_probe_lets_another_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        wire = Wire()
        calls = caller(wire.begin, CallLimits(command_timeout_s=0.05))
        first = say(calls)
        first.failed(AppAway("away"))
        with pytest.raises(AppAway):
            await first
        monkeypatch.setattr("catenary.rpc.calls.monotonic", lambda: monotonic() + 1)

        probe = say(calls)
        assert wire.calls[-1] is probe
        with pytest.raises(AppAway, match="the application is away"):
            say(calls)
        probe.cancel()
        assert wire.broken_off == [probe]
        again = say(calls)
        again.answered(b"back")
        assert await again == "back"

    run(scenario())


def test_after_the_end_no_call_is_begun_and_none_is_repeated() -> None:
    async def scenario() -> None:
        wire = Wire()
        calls = caller(wire.begin, CallLimits(concurrency=1))
        under_way, waiting = say(calls), say(calls)
        assert await calls.close(0.01) == 1
        with pytest.raises(AppUnavailable, match="shutting down"):
            say(calls)
        under_way.failed(AppAway("away"))
        for call in (under_way, waiting):
            with pytest.raises(AppUnavailable):
                await call
        assert wire.calls == [under_way]

    run(scenario())


# Clients that leave


async def cancelled(call: "asyncio.Future[str]") -> None:
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()


def test_a_call_that_is_seen_through_ends_with_its_answer_all_the_same() -> None:
    async def scenario() -> None:
        counters = Counters()
        wire = Wire()
        calls = caller(wire.begin, CallLimits(concurrency=1), counters)
        under_way = asyncio.ensure_future(calls.call(GREET, SID, b""))
        waiting = asyncio.ensure_future(calls.call(GREET, SID, b""))
        await asyncio.sleep(0)
        under_way.cancel()
        await cancelled(waiting)
        wire.calls[0].answered(b"yes")

        assert await under_way == "yes"
        assert len(wire.calls) == 1, "a call that waits for its turn is never sent"
        assert counters.rpc_canceled_total == 1
        assert counters.rpc_pending_num == 0

    run(scenario())


def test_cancelling_twice_drops_the_call() -> None:
    async def scenario() -> None:
        wire = Wire()
        call = asyncio.ensure_future(caller(wire.begin).call(GREET, SID, b""))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.sleep(0)
        await cancelled(call)
        assert wire.broken_off == wire.calls

    run(scenario())


def test_a_call_that_is_not_seen_through_is_broken_off() -> None:
    async def scenario() -> None:
        counters = Counters()
        wire = Wire()
        calls = caller(wire.begin, CallLimits(concurrency=1), counters)
        call = say(calls)
        waiting = say(calls)
        awaiting = asyncio.ensure_future(call)
        await asyncio.sleep(0)
        await cancelled(awaiting)
        assert wire.broken_off == [call]
        assert counters.rpc_canceled_total == 1
        assert wire.calls == [call, waiting], "its slot goes to the next"
        waiting.cancel()
        waiting.cancel()
        assert counters.rpc_canceled_total == 2

    run(scenario())


@pytest.mark.parametrize("end", ["answered", "failed", "cancelled"])
def test_an_ended_call_leaves_no_reference_cycle(end: str) -> None:
    """A call refers to its callback, which may refer to the call: such a cycle would stay until the garbage collector runs."""

    async def scenario() -> None:
        wire = Wire()
        calls = caller(wire.begin)
        for _ in range(50):
            call = say(calls)
            holder = [call]
            call.then(partial(_outcomes, holder))
            match end:
                case "answered":
                    call.answered(b"yes")
                case "failed":
                    call.failed(AppFailed("no"))
                case _:
                    call.cancel()
        wire.calls.clear()
        wire.broken_off.clear()
        del call, holder
        assert living_calls() == before

    gc.collect()
    gc.disable()
    before = living_calls()
    try:
        run(scenario())
    finally:
        gc.enable()


def living_calls() -> int:
    return sum(issubclass(type(each), RpcCall) for each in gc.get_objects())


def _outcomes(holder: list[RpcCall[str]], outcome: object) -> None:
    """An object that refers to the call."""


# Measured


def durations(counters: Counters) -> dict[tuple[str, ...], tuple[int, float]]:
    """How many calls there were, and their whole time, by method and status."""
    states = counters.rpc_seconds.read()
    return {labels: (each.count, each.sum) for labels, each in states.items()}


def test_calls_are_measured_by_method_and_status() -> None:
    counters = Counters()
    ends = ("done", "error", AppLate("late"), AppFailed("broken"), AppUnavailable("away"))

    async def scenario() -> None:
        for each in ends:
            with contextlib.suppress(AppError):
                await say(caller(Scripted(each).begin, counters=counters))

    run(scenario())
    assert {labels: count for labels, (count, _) in durations(counters).items()} == {
        ("Say", "success"): 1,
        ("Say", "error"): 2,
        ("Say", "timeout"): 1,
        ("Say", "unavailable"): 1,
    }


@pytest.mark.parametrize(
    ("verdict", "status"), [(Verdict.SUCCESS, "success"), (Verdict.FAILURE, "failure")]
)
def test_a_refusal_is_measured_as_a_failure(verdict: Verdict, status: str) -> None:
    counters = Counters()
    decide = Procedure("Connect", _text, lambda text: Decision(verdict=verdict))

    async def scenario() -> None:
        await caller(Scripted("done").begin, counters=counters).call(decide, SID, b"")

    run(scenario())
    assert [*durations(counters)] == [("Connect", status)]


def test_retries_and_pauses_belong_to_the_duration_and_the_wait_for_a_slot_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counters = Counters()
    now = 1000.0
    monkeypatch.setattr("catenary.rpc.calls.monotonic", lambda: now)
    wire = Wire()

    async def scenario() -> None:
        nonlocal now
        calls = caller(wire.begin, CallLimits(concurrency=1), counters)
        first, second = say(calls), say(calls)
        now += 2
        wire.calls[0].failed(AppBusy("busy"))
        while len(wire.calls) < 2:  # noqa: ASYNC110  (the pause before the next attempt is real)
            await asyncio.sleep(0.001)
        now += 0.5
        first.answered(b"done")
        now += 0.25
        second.answered(b"done")

    run(scenario())
    assert durations(counters) == {("Say", "success"): (2, 2.75)}


def test_a_call_whose_client_has_left_is_measured_if_it_had_a_slot() -> None:
    counters = Counters()

    async def scenario() -> None:
        calls = caller(Wire().begin, CallLimits(concurrency=1), counters)
        first, second = say(calls), say(calls)
        second.cancel()
        first.cancel()
        first.cancel()

    run(scenario())
    assert {labels: count for labels, (count, _) in durations(counters).items()} == {
        ("Say", "canceled"): 1
    }
