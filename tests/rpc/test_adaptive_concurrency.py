"""Adaptive concurrency with real servers: an application with few workers, over gRPC and HTTP."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
import uvloop

from bench.limited_app import LimitedApp, limited_app
from catenary.errors import AppError
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.rpc.adaptive_limit import AdaptiveRules
from catenary.rpc.calls import CallLimits
from catenary.rpc.grpc import GrpcApplication
from catenary.rpc.http import HttpApplication
from catenary.rpc.remote import RemoteApplication

ENVIRONMENT = Environment(Sid("s1"), "ws://cable.test/cable", {})
ECHO = Identifier('{"channel":"EchoChannel"}')
CALLERS = 150
KINDS: dict[str, Callable[..., RemoteApplication]] = {
    "grpc": GrpcApplication,
    "http": HttpApplication,
}


class Load:
    """Callers that call again as soon as they are answered, so that there always is a backlog."""

    def __init__(self, application: RemoteApplication, counters: Counters) -> None:
        self.application = application
        self.counters = counters
        self.errors: list[AppError] = []
        self.latencies_s: deque[float] = deque(maxlen=200)
        self.capacities: deque[int] = deque(maxlen=200)
        """The limit at each of the last answers."""
        self._answered = asyncio.Event()

    async def call_again_and_again(self) -> None:
        while True:
            began_at = monotonic()
            try:
                await self.application.perform(ENVIRONMENT, ECHO, "{}")
            except AppError as error:
                self.errors.append(error)
            self.latencies_s.append(monotonic() - began_at)
            self.capacities.append(self.application.capacity)
            self._answered.set()

    @property
    def capacity(self) -> int:
        """The median of the last limits: it goes to the minimum now and then."""
        return sorted(self.capacities)[len(self.capacities) // 2] if self.capacities else 0

    async def until(self, is_so: Callable[[int], bool]) -> None:
        async with asyncio.timeout(30):
            while not is_so(self.capacity):
                self._answered.clear()
                await self._answered.wait()


@asynccontextmanager
async def load(
    kind: str, host: str, callers: int = CALLERS, command_timeout_s: float = 20.0
) -> AsyncIterator[Load]:
    counters = Counters()
    limits = CallLimits(adaptive=AdaptiveRules(), command_timeout_s=command_timeout_s)
    application = KINDS[kind](host, counters=counters, limits=limits)
    await application.start()
    load = Load(application, counters)
    tasks = [asyncio.create_task(load.call_again_and_again()) for _ in range(callers)]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await application.close(0)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_an_application_that_refuses_calls_is_followed(kind: str) -> None:
    """It is small, grows, and shrinks; no client notices a refused call."""

    async def scenario(host: str, app: LimitedApp) -> None:
        async with load(kind, host) as found:
            await found.until(lambda limit: 7 <= limit <= 12)
            assert found.counters.rpc_exhausted_total > 0
            assert found.counters.rpc_capacity_decreases_total > 0
            app.workers = 40
            await found.until(lambda limit: limit >= 30)
            app.workers = 10
            await found.until(lambda limit: 7 <= limit <= 12)
            assert found.errors == []

    with limited_app(kind, workers=10, service_s=0.05, refuses=True) as (host, app):
        run(scenario(host, app))


@pytest.mark.parametrize("kind", KINDS)
def test_an_application_that_queues_calls_is_followed_by_its_latency(kind: str) -> None:
    async def scenario(host: str, app: LimitedApp) -> None:
        async with load(kind, host) as found:
            app.most_waiting = 0
            await found.until(lambda limit: 11 <= limit <= 24)
            app.workers = 40
            await found.until(lambda limit: limit >= 35)
            app.workers = 10
            await found.until(lambda limit: limit <= 24)
            assert (found.errors, found.counters.rpc_exhausted_total) == ([], 0)

    with limited_app(kind, workers=10, service_s=0.06) as (host, app):
        run(scenario(host, app))


@pytest.mark.parametrize("kind", KINDS)
def test_an_application_that_hangs_gets_few_calls_until_it_answers_again(kind: str) -> None:
    async def scenario(host: str, app: LimitedApp) -> None:
        async with load(kind, host, command_timeout_s=0.4) as found:
            await found.until(lambda limit: limit >= 32)
            app.hangs = True
            await found.until(lambda _: found.application.capacity == 5)
            assert found.counters.rpc_timeout_total > 0
            app.hangs = False
            await found.until(lambda limit: limit >= 32)

    with limited_app(kind, workers=80, service_s=0.05) as (host, app):
        run(scenario(host, app))


def test_a_fixed_concurrency_stays_whatever_is_refused() -> None:
    async def scenario(host: str, app: LimitedApp) -> None:
        counters = Counters()
        application = GrpcApplication(host, counters=counters, limits=CallLimits(concurrency=20))
        await application.start()
        calls = [application.perform(ENVIRONMENT, ECHO, "{}") for _ in range(40)]
        async with asyncio.timeout(20):
            for call in calls:
                await call
        assert application.capacity == 20
        assert counters.rpc_exhausted_total == app.refused > 0
        await application.close(0)

    with limited_app("grpc", workers=10, refuses=True) as (host, app):
        run(scenario(host, app))
