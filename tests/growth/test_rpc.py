"""Calls to the application: the slots that limit them, and the line of those that wait for one."""

import asyncio

import pytest

from catenary.messages.names import Sid
from catenary.metrics.counters import Counters
from catenary.rpc.calls import AppAway, Caller, CallLimits, Procedure, RpcCall
from catenary.rpc.grpc_balancer import Balancer
from catenary.rpc.grpc_connection import GrpcAttempt, GrpcTimeouts
from catenary.rpc.grpc_subchannels import ChannelConfig
from catenary.rpc.grpc_targets import GrpcTarget
from tests.growth.measure import Case, Work, assert_near_linear, assert_turns_bounded

CONNECT = Procedure[bytes]("connect", bytes, lambda answer: answer, is_newcomers=True)
COMMAND = Procedure[bytes]("command", bytes, lambda answer: answer)


class Application:
    """Answers nothing before it is told to; or is away."""

    def __init__(self, slots: int) -> None:
        self.under_way: list[RpcCall[bytes]] = []
        self.is_away = False
        self.caller = Caller(CallLimits(concurrency=slots), Counters(), self._send)

    def _send(self, call: RpcCall[bytes], timeout_s: float | None) -> "Application":
        if self.is_away:
            raise AppAway("nobody listens")
        self.under_way.append(call)
        return self

    def cancel(self) -> None:
        """Satisfies :class:`catenary.rpc.calls.Attempt`."""

    def call(self, number: int) -> RpcCall[bytes]:
        """Every other one is that of a client that is not connected yet."""
        procedure = CONNECT if number % 2 else COMMAND
        return self.caller.call(procedure, Sid(str(number)), b"")


def calls_wait_for_slots(size: int) -> Work:
    application = Application(slots=10)

    def work() -> None:
        for number in range(size):
            application.call(number)
        for number in range(size):
            application.under_way[number].answered(b"")
        assert application.caller.limiter.busy == 0

    return work


def waiting_calls_are_given_up(size: int) -> Work:
    """Clients leave in any order."""
    application = Application(slots=1)
    calls = [application.call(number) for number in range(size)]

    def work() -> None:
        for call in [*calls[1::3], *calls[2::3], *reversed(calls[0::3])]:
            call.cancel()
        assert application.caller.counters.rpc_pending_num == 0

    return work


def calls_wait_for_an_application_that_is_away(size: int) -> Work:
    """It has been away for long: each call fails at once, and hands its slot to the next."""
    application = Application(slots=1)
    first = application.call(0)
    waiting = [application.call(number) for number in range(1, size)]

    failures: list[object] = []
    for call in waiting:
        call.then(failures.append)

    async def work() -> None:
        application.is_away = True
        first.answered(b"")
        # The answer has ended an outage: this one is old as it begins.
        application.caller.breaker.record_failure(float("-inf"))
        await application.caller.limiter.idle()
        assert len(failures) == size - 1

    return work


class Late:
    """Counts the calls that had no answer in time."""

    def __init__(self) -> None:
        self.number = 0

    def answered(self, raw: bytes) -> None:
        """Never called: no server is there."""

    def failed(self, error: Exception) -> None:
        self.number += 1


def calls_expire_one_after_the_other(size: int) -> Work:
    """Over gRPC. Each wakes the balancer at another time."""
    loop = asyncio.get_running_loop()
    config = ChannelConfig(None, (), 1024, GrpcTimeouts())
    balancer = Balancer([GrpcTarget("localhost:1", "localhost", 1)], config)
    late, now = Late(), loop.time()
    for number in range(size):
        balancer.submit(GrpcAttempt(late, b"/", b"", b"", now + number))

    def work() -> None:
        for number in range(size):
            loop.time = lambda number=number: now + number  # type: ignore[method-assign,misc]
            balancer._expire()
            assert late.number == number + 1
        del loop.time

    return work


@pytest.mark.parametrize(
    "case",
    [calls_wait_for_slots, waiting_calls_are_given_up, calls_expire_one_after_the_other],
)
def test_work_of_calls_is_near_linear(case: Case) -> None:
    assert_near_linear(case)


def test_no_turn_grows_with_the_calls_that_wait() -> None:
    assert_turns_bounded(calls_wait_for_an_application_that_is_away, size=300)
