"""One suite over every server: grpcio's two, through rough networks, and one in Go.

The last is taken where the variable RPC_ECHO names its binary: a program that listens on the
address that it is given, accepts every connection and sends messages back.
"""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import uvloop

from catenary.messages.decisions import Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.rpc.calls import CallLimits
from catenary.rpc.grpc import GrpcApplication, MessageSizes
from tests.parts.application import TestApplication
from tests.parts.grpc_app import AioGrpcServer, GrpcServer, grpc_server
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.rough_proxy import rough_proxy

ECHO = Identifier('{"channel":"EchoChannel"}')
PATIENT = CallLimits(command_timeout_s=20)


@contextmanager
def threaded() -> Iterator[str]:
    with grpc_server() as server:
        yield server.address


@contextmanager
def on_a_loop() -> Iterator[str]:
    server = AioGrpcServer(TestApplication())
    server.start()
    try:
        yield server.address
    finally:
        server.stop()


def through(**rough: float) -> Callable[[], AbstractContextManager[str]]:
    @contextmanager
    def proxied() -> Iterator[str]:
        with grpc_server() as server, rough_proxy(server.port, **rough) as proxy:
            yield proxy.address

    return proxied


@contextmanager
def in_go() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([os.environ["RPC_ECHO"], f"127.0.0.1:{port}"])
    try:
        wait_until_listening(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "threaded": threaded,
    "on a loop": on_a_loop,
    "in pieces": through(piece_bytes=3),
    "late": through(delay_s=0.02),
}
if "RPC_ECHO" in os.environ:
    SERVERS["in Go"] = in_go


@pytest.fixture(params=SERVERS)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with SERVERS[request.param]() as where:
        yield where


def run(scenario: Callable[[GrpcApplication], Awaitable[None]], address: str) -> Counters:
    counters = Counters()

    async def bounded() -> None:
        sizes = MessageSizes(receive_bytes=8 * 2**20)
        application = GrpcApplication(address, counters=counters, limits=PATIENT, sizes=sizes)
        await application.start()
        try:
            async with asyncio.timeout(30):
                await scenario(application)
        finally:
            await application.close(5)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
    return counters


def environment(number: int = 0) -> Environment:
    return Environment(Sid(f"s{number}"), "ws://cable.test/cable", {}, '{"user":"x"}')


def call(text: str) -> str:
    return f'{{"action":"echo","text":"{text}"}}'


def test_all_three_procedures(address: str) -> None:
    async def scenario(application: GrpcApplication) -> None:
        for _ in range(3):
            assert (await application.connect(environment())).verdict is Verdict.SUCCESS
            decision = await application.perform(environment(), ECHO, call("hello"))
            assert "hello" in decision.transmissions[0]
            await application.disconnect(environment(), (ECHO,))

    assert run(scenario, address).rpc_retries_total == 0


def test_many_calls_get_their_own_answers(address: str) -> None:
    async def scenario(application: GrpcApplication) -> None:
        async def client(number: int) -> None:
            for turn in range(5):
                text = f"-{number}-{turn}-" + "x" * (number * 37 % 900)
                decision = await application.perform(environment(number), ECHO, call(text))
                assert text in decision.transmissions[0]

        await asyncio.gather(*(client(number) for number in range(30)))

    counters = run(scenario, address)
    assert counters.rpc_call_total == 150
    assert counters.rpc_retries_total == counters.rpc_error_total == 0


def test_calls_that_are_cancelled_disturb_no_others(address: str) -> None:
    async def scenario(application: GrpcApplication) -> None:
        for turn in range(5):
            tasks = [
                asyncio.ensure_future(
                    application.perform(environment(number), ECHO, call(f"-{turn}-{number}-"))
                )
                for number in range(20)
            ]
            await asyncio.sleep(0.002 * turn)
            for task in tasks[::3]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for number, result in enumerate(results):
                if not isinstance(result, BaseException):
                    assert f"-{turn}-{number}-" in result.transmissions[0]
                else:
                    assert number % 3 == 0
                    assert isinstance(result, asyncio.CancelledError)

    assert run(scenario, address).rpc_error_total == 0


@pytest.mark.parametrize("size", [16_000, 70_000, 3 * 2**20])
def test_large_messages_both_ways(size: int) -> None:
    async def scenario(application: GrpcApplication) -> None:
        text = "x" * size
        decisions = await asyncio.gather(
            *(application.perform(environment(), ECHO, call(text)) for _ in range(3))
        )
        for decision in decisions:
            assert text in decision.transmissions[0]

    for kind in ("threaded", "on a loop", *(["in Go"] if "in Go" in SERVERS else [])):
        with SERVERS[kind]() as where:
            run(scenario, where)


@pytest.mark.parametrize("cut_after_bytes", [0, 5, 9, 20, 60, 100, 130, 160])
def test_a_connection_that_is_cut_anywhere_costs_an_attempt(cut_after_bytes: int) -> None:
    async def scenario(application: GrpcApplication) -> None:
        call = asyncio.ensure_future(application.connect(environment()))
        while not proxy.cuts:  # noqa: ASYNC110  (counted in a thread)
            await asyncio.sleep(0.005)
        proxy.rough.cut_after_bytes = None
        assert (await call).verdict is Verdict.SUCCESS

    with (
        grpc_server() as server,
        rough_proxy(server.port, cut_after_bytes=cut_after_bytes) as proxy,
    ):
        run(scenario, proxy.address)


def test_connections_that_are_cut_under_load_lose_no_call() -> None:
    async def scenario(application: GrpcApplication) -> None:
        done = 0

        async def client(number: int) -> None:
            nonlocal done
            for turn in range(40):
                text = f"-{number}-{turn}-"
                decision = await application.perform(environment(number), ECHO, call(text))
                assert text in decision.transmissions[0]
                done += 1

        async def vandal() -> None:
            for at in (50, 150, 250):
                while done < at:  # noqa: ASYNC110  (a plain number)
                    await asyncio.sleep(0.002)
                await asyncio.to_thread(proxy.cut)

        await asyncio.gather(vandal(), *(client(number) for number in range(10)))

    with grpc_server() as server, rough_proxy(server.port) as proxy:
        counters = run(scenario, proxy.address)
    assert counters.rpc_error_total == 0
    assert proxy.connections >= 4


def test_a_server_that_is_replaced_by_another_kind_is_found() -> None:
    async def scenario(application: GrpcApplication) -> None:
        assert (await application.connect(environment())).verdict is Verdict.SUCCESS
        await asyncio.to_thread(first.stop)
        second = GrpcServer(TestApplication(), port=first.port)
        await asyncio.to_thread(second.start)
        try:
            assert (await application.connect(environment())).verdict is Verdict.SUCCESS
        finally:
            await asyncio.to_thread(second.stop)

    first = AioGrpcServer(TestApplication())
    first.start()
    run(scenario, first.address)
