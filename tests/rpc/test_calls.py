"""How often a call is repeated, and when it no longer is."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from catenary.errors import AppFailed
from catenary.messages.names import Sid
from catenary.metrics.counters import Counters
from catenary.rpc.calls import AppAway, AppBusy, AppLate, Caller, CallLimits, Outage

SID = Sid("s1")


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


def attempts(*outcomes: Exception | str) -> tuple[list[float | None], Any]:
    """An attempt that ends in one way after the other, and the time that each was given."""
    given: list[float | None] = []
    ends = iter(outcomes)

    async def attempt(timeout_s: float | None) -> str:
        given.append(timeout_s)
        end = next(ends)
        if isinstance(end, Exception):
            raise end
        return end

    return given, attempt


# The outage


def test_a_young_outage_admits_everybody() -> None:
    outage = Outage(patience_s=3)
    assert outage.begin(now=10)
    assert not outage.begin(now=11)
    assert all(outage.admits(12.9) for _ in range(3))


def test_an_old_outage_admits_one_at_a_time() -> None:
    outage = Outage(patience_s=3)
    outage.begin(now=10)
    assert outage.admits(13)
    assert not outage.admits(13)
    outage.settle()
    assert outage.admits(14)
    outage.begin(14)
    assert outage.is_old(14)  # it goes on: a failed probe does not make it young


def test_an_answer_ends_it() -> None:
    outage = Outage(patience_s=3)
    outage.begin(now=10)
    assert outage.end()
    assert not outage.end()
    assert all(outage.admits(20) for _ in range(3))


# Calls


def test_busy_and_away_are_repeated() -> None:
    counters = Counters()
    given, attempt = attempts(AppBusy("1"), AppBusy("2"), AppAway("3"), "done")

    async def scenario() -> None:
        assert await Caller(CallLimits(), counters).call(SID, attempt) == "done"

    run(scenario())
    assert len(given) == 4
    assert counters.rpc_retries_total == 3
    assert (counters.rpc_call_total, counters.rpc_error_total) == (1, 0)


@pytest.mark.parametrize("error", [AppLate("late"), AppFailed("broken")])
def test_other_failures_are_not_repeated(error: Exception) -> None:
    counters = Counters()
    given, attempt = attempts(error)

    async def scenario() -> None:
        with pytest.raises(type(error)):
            await Caller(CallLimits(), counters).call(SID, attempt)

    run(scenario())
    assert len(given) == 1
    assert (counters.rpc_error_total, counters.rpc_retries_total) == (1, 0)


def test_the_interval_doubles_up_to_a_cap_and_starts_anew_for_another_reason() -> None:
    async def scenario() -> None:
        clock = asyncio.get_running_loop().time
        times: list[float] = []
        ends: list[Exception] = [AppAway("")] * 5 + [AppBusy("")] * 3

        async def attempt(_: float | None) -> str:
            times.append(clock())
            if len(times) <= len(ends):
                raise ends[len(times) - 1]
            return "done"

        assert await Caller(CallLimits(), Counters()).call(SID, attempt) == "done"
        pauses = [after - before for before, after in pairwise(times)]
        wanted = [0.1, 0.2, 0.4, 0.5, 0.5, 0.01, 0.02, 0.04]
        assert pauses == pytest.approx(wanted, abs=0.08)
        assert all(pause > want - 0.005 for pause, want in zip(pauses, wanted, strict=True))

    run(scenario())


@pytest.mark.parametrize("error", [AppBusy("busy"), AppAway("away")])
def test_repeating_ends_with_the_command_s_time(error: Exception) -> None:
    async def scenario() -> None:
        clock = asyncio.get_running_loop().time
        begin = clock()

        async def attempt(_: float | None) -> None:
            raise error

        with pytest.raises(type(error)):
            await Caller(CallLimits(command_timeout_s=0.5), Counters()).call(SID, attempt)
        assert 0.2 < clock() - begin < 0.6

    run(scenario())


@pytest.mark.parametrize(
    ("request_s", "command_s", "lowest", "highest"),
    [(0.2, 3, 0.2, 0.2), (5, 3, 2.9, 3), (0, 3, 2.9, 3), (0.2, 0, 0.2, 0.2)],
)
def test_an_attempt_has_the_shorter_of_the_two_limits(
    request_s: float, command_s: float, lowest: float, highest: float
) -> None:
    given, attempt = attempts("done")
    limits = CallLimits(request_timeout_s=request_s, command_timeout_s=command_s)

    async def scenario() -> None:
        await Caller(limits, Counters()).call(SID, attempt)

    run(scenario())
    (timeout_s,) = given
    assert timeout_s is not None
    assert lowest <= timeout_s <= highest


def test_without_limits_an_attempt_has_none_and_yet_repeating_ends() -> None:
    given, attempt = attempts("done")
    limits = CallLimits(request_timeout_s=0, command_timeout_s=0)

    async def scenario() -> None:
        await Caller(limits, Counters()).call(SID, attempt)

        async def away(_: float | None) -> None:
            raise AppAway("away")

        with pytest.raises(AppAway):
            await Caller(limits, Counters()).call(SID, away)

    run(scenario())
    assert given == [None]


def test_a_cancelled_probe_lets_another_one_try() -> None:
    async def scenario() -> None:
        caller = Caller(CallLimits(command_timeout_s=0.05), Counters())

        def failing() -> Callable[[float | None], Awaitable[None]]:
            async def attempt(_: float | None) -> None:
                raise AppAway("away")

            return attempt

        with pytest.raises(AppAway):
            await caller.call(SID, failing())
        await asyncio.sleep(0.06)

        async def hanging(_: float | None) -> None:
            await asyncio.Event().wait()

        probe = asyncio.create_task(caller.call(SID, hanging))
        await asyncio.sleep(0)
        with pytest.raises(AppAway, match="the application is away"):
            await caller.call(SID, failing())
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        _, attempt = attempts("back")
        assert await caller.call(SID, attempt) == "back"

    run(scenario())


# Clients that leave


def test_a_call_that_is_seen_through_ends_with_its_answer_all_the_same() -> None:
    async def scenario() -> None:
        counters = Counters()
        caller = Caller(CallLimits(concurrency=1), counters)
        answered = asyncio.Event()
        started = asyncio.Event()
        calls: list[str] = []

        async def attempt(_: float | None) -> str:
            calls.append("")
            started.set()
            await answered.wait()
            return "yes"

        under_way = asyncio.create_task(caller.call(SID, attempt, see_through=True))
        waiting = asyncio.create_task(caller.call(SID, attempt, see_through=True))
        await started.wait()
        under_way.cancel()
        waiting.cancel()
        await asyncio.wait([waiting])
        answered.set()

        assert await under_way == "yes"
        assert waiting.cancelled(), "a call that waits for its turn is never sent"
        assert len(calls) == 1
        assert counters.rpc_canceled_total == 1

    run(scenario())


def test_a_call_that_is_not_seen_through_is_broken_off() -> None:
    async def scenario() -> None:
        counters = Counters()
        broken_off = asyncio.Event()
        started = asyncio.Event()

        async def attempt(_: float | None) -> str:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                broken_off.set()
            return "never"

        call = asyncio.create_task(Caller(CallLimits(), counters).call(SID, attempt))
        await started.wait()
        call.cancel()
        await asyncio.wait([call])

        assert call.cancelled()
        assert broken_off.is_set()
        assert counters.rpc_canceled_total == 1

    run(scenario())
