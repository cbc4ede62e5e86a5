"""Connections to servers that leave, refuse calls, stop answering or break the protocol."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from catenary.errors import AppFailed, AppUnavailable
from catenary.messages.decisions import Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.metrics.counters import Counters
from catenary.rpc import grpc_subchannels
from catenary.rpc.calls import AppAway, AppBusy, AppLate, CallLimits
from catenary.rpc.grpc import GrpcApplication
from catenary.rpc.grpc_balancer import Balancer
from catenary.rpc.grpc_connection import GrpcConnection, GrpcTimeouts
from tests.parts.http2_peer import (
    DATA,
    HEADERS,
    PING,
    RST,
    Peer,
    frame,
    goodbye,
    http2_server,
    message,
    reset,
    settings,
)
from tests.parts.nats_node import until

QUICK = CallLimits(command_timeout_s=1.0)
ENVIRONMENT = Environment(Sid("s1"), "ws://cable.test/cable", {"cookie": "session=hunter2"})
CANCEL, REFUSED, CALM = 8, 7, 11


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def bounded(scenario: Awaitable[None]) -> None:
        async def within() -> None:
            async with asyncio.timeout(20):
                await scenario

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(within())

    return bounded


Run = Callable[[Awaitable[None]], None]


def balancer(application: GrpcApplication) -> Balancer:
    assert application._balancer is not None
    return application._balancer


def connections(application: GrpcApplication) -> set[GrpcConnection]:
    return balancer(application).connections


@asynccontextmanager
async def called(
    behave: Callable[[Peer], Awaitable[None]],
    counters: Counters | None = None,
    limits: CallLimits = QUICK,
    **how: Any,
) -> AsyncIterator[GrpcApplication]:
    async with http2_server(behave) as address:
        application = GrpcApplication(
            address, counters=counters or Counters(), limits=limits, **how
        )
        await application.start()
        try:
            yield application
        finally:
            await application.close(2)


async def welcomed(application: GrpcApplication) -> None:
    decision = await application.connect(ENVIRONMENT)
    assert decision.verdict is Verdict.SUCCESS


# Calls


def test_a_call_is_a_post_with_metadata_and_the_time_it_has(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        request = await peer.request()
        fields.update(request.fields)
        peer.answer(request.stream)
        await peer.serve()

    async def scenario() -> None:
        async with called(behave) as application:
            await welcomed(application)

    fields: dict[str, str] = {}
    run(scenario())
    assert fields.pop("grpc-timeout").removesuffix("m").isdecimal()
    assert fields.pop(":authority").startswith("127.0.0.1:")
    assert fields.pop("user-agent").startswith("grpc-python-catenary/")
    assert fields == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/anycable.RPC/Connect",
        "te": "trailers",
        "content-type": "application/grpc",
        "sid": "s1",
        "protov": "v1",
    }


def test_the_calls_of_one_turn_leave_in_one_write(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        stream = (await peer.request()).stream
        peer.send(frame(PING, 0, 0, bytes(8)))
        await peer.until(PING)  # it is acknowledged after everything before it
        peer.answer(stream)
        first.append(await peer.reader.read(65_536))
        for stream in range(3, 23, 2):
            peer.answer(stream)
        await peer.until(99)

    async def scenario() -> None:
        async with called(behave) as application:
            await welcomed(application)
            await asyncio.gather(*(welcomed(application) for _ in range(10)))

    first: list[bytes] = []
    run(scenario())
    assert first[0].count(b"\x0a") >= 10
    kinds, data = [], first[0]
    while data:
        kinds.append(data[3])
        data = data[9 + int.from_bytes(data[:3], "big") :]
    assert kinds.count(HEADERS) == kinds.count(DATA) == 10


def test_a_call_that_is_late_is_cancelled_at_the_server(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        stream = (await peer.request()).stream
        resets.append(await peer.until(RST))
        peer.answer(stream)  # too late
        await peer.serve()

    async def scenario() -> None:
        limits = CallLimits(request_timeout_s=0.1)
        async with called(behave, counters, limits) as application:
            with pytest.raises(AppLate, match="DEADLINE_EXCEEDED"):
                await application.connect(ENVIRONMENT)
            await welcomed(application)

    resets: list[tuple[int, int, int, bytes]] = []
    counters = Counters()
    run(scenario())
    assert resets == [(RST, 0, 1, CANCEL.to_bytes(4, "big"))]
    assert counters.rpc_timeout_total == 1


def test_a_call_that_is_cancelled_is_cancelled_at_the_server(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        await peer.request()
        asked.set()
        resets.append(await peer.until(RST))
        await peer.serve()

    async def scenario() -> None:
        async with called(behave) as application:
            call = asyncio.ensure_future(application.disconnect(ENVIRONMENT, ()))
            await asked.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await welcomed(application)

    asked = asyncio.Event()
    resets: list[tuple[int, int, int, bytes]] = []
    run(scenario())
    assert resets == [(RST, 0, 1, CANCEL.to_bytes(4, "big"))]


def test_each_call_has_a_time_of_its_own(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        await peer.reader.read()
        await peer.until(99)

    async def scenario() -> None:
        async with called(behave, limits=CallLimits(request_timeout_s=0.2)) as application:
            calls = []
            for _ in range(3):
                calls.append(asyncio.ensure_future(application.connect(ENVIRONMENT)))
                await asyncio.sleep(0.05)
            async with asyncio.timeout(1):
                results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(result) for result in results] == [AppLate] * 3

    run(scenario())


def test_a_message_larger_than_all_windows(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake((4, 1_000))
        stream, size = 0, 0
        while True:
            kind, flags, stream, payload = await peer.frame()
            if kind == DATA:
                size += len(payload)
                more = len(payload).to_bytes(4, "big")
                peer.send(frame(8, 0, 0, more), frame(8, 0, stream, more)) if payload else None
                if flags & 1:
                    break
        sizes.append(size)
        peer.answer(stream)
        await peer.serve()

    async def scenario() -> None:
        async with called(behave, limits=CallLimits(command_timeout_s=10)) as application:
            environment = Environment(Sid("s1"), "ws://x" + "x" * 300_000, {})
            assert (await application.connect(environment)).verdict is Verdict.SUCCESS

    sizes: list[int] = []
    run(scenario())
    assert sizes[0] > 300_000


# Room


def test_calls_wait_where_a_server_takes_few_at_once(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake((3, 2))
        while True:
            streams = [(await peer.request()).stream for _ in range(2)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.03):
                    await peer.request()
            for stream in streams:
                peer.answer(stream)

    async def scenario() -> None:
        async with called(behave, counters, CallLimits()) as application:
            await asyncio.gather(*(welcomed(application) for _ in range(6)))

    counters = Counters()
    run(scenario())
    assert counters.rpc_retries_total == 0


def test_a_call_that_waits_for_room_too_long_fails_as_busy(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake((3, 0))
        await peer.serve()

    async def scenario() -> None:
        async with called(behave, limits=CallLimits(command_timeout_s=0.2)) as application:
            with pytest.raises(AppBusy, match="streams"):
                await application.connect(ENVIRONMENT)

    run(scenario())


STREAMS, WINDOW = 3, 4
"""MAX_CONCURRENT_STREAMS and INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2)."""


@pytest.mark.parametrize("shut", [[(STREAMS, 0)], [(WINDOW, 0)], [(STREAMS, 0), (WINDOW, 0)]])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_server_that_allows_no_streams_is_given_up_for_the_next(
    run: Run, shut: list[tuple[int, int]], is_late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps its connection, and answers pings; a good server accepts the next connection."""

    async def behave(peer: Peer) -> None:
        if peer.number > 1:
            await peer.shake()
        elif is_late:
            await peer.shake()
            peer.answer((await peer.request()).stream)
            peer.send(settings(*shut))
        else:
            await peer.shake(*shut)
        await peer.serve()

    async def scenario() -> None:
        async with called(
            behave, limits=CallLimits(), timeouts=GrpcTimeouts(shut_s=0.2)
        ) as application:
            if is_late:
                await welcomed(application)
                await until(lambda: any(each.core.is_shut for each in connections(application)))
            async with asyncio.timeout(2):
                await asyncio.gather(*(welcomed(application) for _ in range(5)))

    run(scenario())
    assert caplog.text.count("allows no streams") == 1


def test_a_server_that_allows_no_streams_for_a_moment_is_kept(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        numbers.append(peer.number)
        await peer.shake((STREAMS, 0))
        await shut.wait()
        peer.send(settings((WINDOW, 0)))
        peer.send(settings((STREAMS, 10)))
        peer.send(frame(PING, 0, 0, bytes(8)))
        await peer.until(PING)  # the body waits, though the stream may begin
        peer.send(settings((WINDOW, 65_535)))
        await peer.serve()

    async def scenario() -> None:
        async with called(
            behave, limits=CallLimits(), timeouts=GrpcTimeouts(shut_s=0.5)
        ) as application:
            call = asyncio.ensure_future(application.connect(ENVIRONMENT))
            await until(lambda: any(each._shut_timer for each in connections(application)))
            (connection,) = connections(application)
            shut.set()
            assert (await call).verdict is Verdict.SUCCESS
            await until(lambda: connection._shut_timer is None)
            await welcomed(application)

    numbers: list[int] = []
    shut = asyncio.Event()
    run(scenario())
    assert numbers == [0]


def test_a_server_that_allows_no_streams_does_not_affect_another(run: Run) -> None:
    async def shut(peer: Peer) -> None:
        await peer.shake((STREAMS, 0))
        await peer.serve()

    async def good(peer: Peer) -> None:
        await peer.shake()
        await peer.serve()

    async def scenario() -> None:
        async with http2_server(shut) as one, http2_server(good) as other:
            host = f"grpc-list://{one},{other}"
            application = GrpcApplication(host, counters=Counters(), limits=CallLimits())
            await application.start()
            try:
                async with asyncio.timeout(2):
                    await asyncio.gather(*(welcomed(application) for _ in range(20)))
            finally:
                await application.close(2)

    run(scenario())


def test_a_call_that_waits_may_be_cancelled(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake((3, 0))
        await asked.wait()
        peer.send(settings((3, 1)))
        while True:
            peer.answer((await peer.request()).stream)
            answered.append(peer.number)

    async def scenario() -> None:
        async with called(behave) as application:
            calls = [
                asyncio.ensure_future(application.disconnect(ENVIRONMENT, ())) for _ in range(3)
            ]
            await until(lambda: any(each.core.is_shut for each in connections(application)))
            assert len(balancer(application)._backlog) == 3
            calls[1].cancel()
            asked.set()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each).__name__ for each in results] == [
                "NoneType",
                "CancelledError",
                "NoneType",
            ]

    asked = asyncio.Event()
    answered: list[int] = []
    run(scenario())
    assert len(answered) == 2


def test_a_cancelled_call_makes_room_for_one_that_waits(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake((3, 1))
        await peer.request()
        asked.set()
        await peer.serve()

    async def scenario() -> None:
        async with called(behave) as application:
            first = asyncio.ensure_future(application.disconnect(ENVIRONMENT, ()))
            await asked.wait()
            second = asyncio.ensure_future(application.connect(ENVIRONMENT))
            await asyncio.sleep(0)
            first.cancel()
            assert (await second).verdict is Verdict.SUCCESS

    asked = asyncio.Event()
    run(scenario())


# Refusals and goodbyes


def test_a_refused_call_is_made_once_more_at_once(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        peer.send(reset((await peer.request()).stream, REFUSED))
        peer.answer((await peer.request()).stream)
        for _ in range(2):
            peer.send(reset((await peer.request()).stream, REFUSED))
        await peer.serve()

    async def scenario() -> None:
        async with called(behave, counters) as application:
            await welcomed(application)
            assert counters.rpc_retries_total == 0
            await welcomed(application)  # refused twice: that is an attempt that failed
            assert counters.rpc_retries_total == 1

    counters = Counters()
    run(scenario())


def test_a_refused_call_that_finds_no_room_is_not_late(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        stream = (await peer.request()).stream
        peer.send(settings((3, 0)), reset(stream, REFUSED))
        await peer.serve()

    async def scenario() -> None:
        async with called(behave, counters, CallLimits(command_timeout_s=0.3)) as application:
            with pytest.raises(AppBusy, match="streams"):
                await application.connect(ENVIRONMENT)

    counters = Counters()
    run(scenario())
    assert counters.rpc_timeout_total == 0


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (0, AppFailed, "INTERNAL"),
        (2, AppFailed, "INTERNAL"),
        (CANCEL, AppAway, "CANCELLED"),
        (CALM, AppBusy, "RESOURCE_EXHAUSTED"),
        (12, AppFailed, "PERMISSION_DENIED"),
        (99, AppFailed, "INTERNAL"),
    ],
)
def test_a_reset_means_what_grpc_says_it_means(
    run: Run, code: int, error: type[Exception], text: str
) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        while True:
            peer.send(reset((await peer.request()).stream, code))

    async def scenario() -> None:
        async with called(behave, limits=CallLimits(command_timeout_s=0.1)) as application:
            with pytest.raises(error, match=f"gRPC {text}"):
                await application.connect(ENVIRONMENT)

    run(scenario())


def test_after_a_goodbye_calls_are_finished_and_new_ones_go_elsewhere(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        if peer.number:
            peer.answer((await peer.request()).stream)
            elsewhere.set()
            await peer.serve()
        stream = (await peer.request()).stream
        refused = (await peer.request()).stream
        peer.send(goodbye(2**31 - 1), goodbye(stream))
        assert refused > stream
        await elsewhere.wait()
        peer.answer(stream)
        await peer.reader.read()  # returns when the client closes: it has its answer
        finished.set()

    async def scenario() -> None:
        async with called(behave, counters, CallLimits()) as application:
            await asyncio.gather(*(welcomed(application) for _ in range(2)))
            await finished.wait()
            await welcomed(application)

    elsewhere, finished = asyncio.Event(), asyncio.Event()
    counters = Counters()
    run(scenario())
    assert counters.rpc_retries_total == 0


def test_a_server_that_wants_fewer_pings_gets_fewer(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        await peer.until(PING)
        peer.send(goodbye(0, CALM, b"too_many_pings"))
        pinged.set()

    async def scenario() -> None:
        timeouts = GrpcTimeouts(keepalive_s=0.05, longest_backoff_s=0.05, first_backoff_s=0.05)
        async with called(behave, timeouts=timeouts):
            await pinged.wait()
            await logged("one in 0.1 s")

    async def logged(text: str) -> None:
        while text not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    caplog.set_level(logging.WARNING, "catenary.rpc")
    pinged = asyncio.Event()
    run(scenario())


def test_a_call_on_a_connection_that_breaks_is_repeated(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        if peer.number == 0:
            await peer.request()
            return
        await peer.serve()

    async def scenario() -> None:
        async with called(behave, counters) as application:
            await welcomed(application)

    counters = Counters()
    run(scenario())
    assert counters.rpc_retries_total == 1
    assert counters.rpc_error_total == 0


def test_a_call_in_the_moment_in_which_a_connection_breaks_is_repeated(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        await peer.serve()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with called(behave, counters) as application:
            await welcomed(application)
            assert application._balancer is not None
            (connection,) = application._balancer.connections
            call = asyncio.ensure_future(application.disconnect(ENVIRONMENT, ()))
            await asyncio.sleep(0)
            assert connection.calls
            connection.abort()
            await call

    complaints: list[dict[str, Any]] = []
    counters = Counters()
    run(scenario())
    assert counters.rpc_retries_total == 1
    assert complaints == []


def test_an_attempt_to_connect_that_is_cancelled_as_it_succeeds_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop closes the transport then, and does not say that it is lost."""

    async def behave(peer: Peer) -> None:
        await peer.reader.read()

    class Cancelling(GrpcConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            made.append(self)
            attempts[0].cancel()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with called(behave) as application:
            assert application._balancer is not None
            (target,) = application._balancer._targets
            await until(lambda: bool(target._subchannels))
            (subchannel,) = target._subchannels.values()
            monkeypatch.setattr(grpc_subchannels, "GrpcConnection", Cancelling)
            attempts.append(asyncio.ensure_future(subchannel._dial()))
            with pytest.raises(asyncio.CancelledError):
                await attempts[0]
            (connection,) = made
            await asyncio.wait_for(asyncio.shield(connection.lost), 1)
            assert connection not in application._balancer.connections

    attempts: list[asyncio.Future[GrpcConnection]] = []
    made: list[GrpcConnection] = []
    complaints: list[dict[str, Any]] = []
    run(scenario())
    assert complaints == []


# Silence


def test_a_silent_connection_is_asked_and_then_given_up(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        if peer.number == 0:
            peer.answer((await peer.request()).stream)
            pings.append(await peer.until(PING))
            await peer.reader.read()
            return
        await peer.serve()

    async def scenario() -> None:
        timeouts = GrpcTimeouts(keepalive_s=0.1, silence_s=0.1)
        async with called(behave, counters, CallLimits(), timeouts=timeouts) as application:
            await welcomed(application)
            await welcomed(application)  # the first connection never answers it

    pings: list[tuple[int, int, int, bytes]] = []
    counters = Counters()
    run(scenario())
    assert pings == [(PING, 0, 0, bytes(8))]
    assert counters.rpc_retries_total == 1


def test_a_server_that_answers_pings_is_alive(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        connections.append(peer.number)
        for _ in range(4):
            _, _, _, payload = await peer.until(PING)
            peer.send(frame(PING, 1, 0, payload))
        alive.set()
        await peer.serve()

    async def scenario() -> None:
        timeouts = GrpcTimeouts(keepalive_s=0.03, silence_s=0.3)
        async with called(behave, timeouts=timeouts) as application:
            await alive.wait()
            await welcomed(application)

    alive = asyncio.Event()
    connections: list[int] = []
    run(scenario())
    assert connections == [0]


def test_a_server_that_says_nothing_at_all_is_away(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.reader.read()

    async def scenario() -> None:
        async with called(behave, timeouts=GrpcTimeouts(connect_s=0.1)) as application:
            with pytest.raises(AppAway, match=r"none within 0\.1 s"):
                await application.connect(ENVIRONMENT)

    run(scenario())


def test_closing_does_not_wait_for_a_server_that_never_answers(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        await peer.request()
        asked.set()
        await peer.reader.read()

    async def scenario() -> None:
        async with http2_server(behave) as address:
            application = GrpcApplication(address, counters=Counters(), limits=CallLimits())
            await application.start()
            call = asyncio.ensure_future(application.connect(ENVIRONMENT))
            await asked.wait()
            await application.close(0.05)
            with pytest.raises(AppUnavailable, match="closed under the call"):
                await call

    asked = asyncio.Event()
    run(scenario())


# Broken servers


BROKEN: dict[str, bytes] = {
    "HTTP/1.1": b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n",
    "no settings": frame(PING, 0, 0, bytes(8)),
    "noise": b"\xff" * 100,
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_server_without_http2_is_away(run: Run, case: str) -> None:
    async def behave(peer: Peer) -> None:
        peer.send(BROKEN[case])
        await peer.reader.read()

    async def scenario() -> None:
        async with called(behave) as application:
            with pytest.raises(AppAway, match="expected HTTP/2 settings") as raised:
                await application.connect(ENVIRONMENT)
            assert "hunter2" not in str(raised.value)

    run(scenario())


@pytest.mark.parametrize(
    "nonsense",
    [
        frame(DATA, 0, 99, b"x"),
        frame(HEADERS, 4, 1, b"\xbe"),
        frame(DATA, 0, 1, b"x" * 20_000),
        frame(PING, 0, 0, bytes(8)) * 10_100,
        settings() * 10_100,
        frame(8, 0, 0, (2**31 - 1).to_bytes(4, "big")),
    ],
    ids=["stream", "block", "size", "pings", "settings", "window"],
)
def test_a_server_that_breaks_a_rule_costs_one_attempt(run: Run, nonsense: bytes) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        request = await peer.request()
        if peer.number == 0:
            peer.send(nonsense)
            await peer.reader.read()
            return
        peer.answer(request.stream)
        await peer.serve()

    async def scenario() -> None:
        async with called(behave, counters) as application:
            await welcomed(application)

    counters = Counters()
    run(scenario())
    assert counters.rpc_retries_total == 1


def test_a_malformed_answer_fails_its_own_call_only(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        first = (await peer.request()).stream
        second = (await peer.request()).stream
        peer.send(peer.headers(first, ("grpc-status", "0")))
        peer.answer(second)
        await peer.serve()

    async def scenario() -> None:
        async with called(behave, counters) as application:
            broken = asyncio.ensure_future(application.connect(ENVIRONMENT))
            await asyncio.sleep(0)
            await welcomed(application)
            with pytest.raises(AppFailed, match="INTERNAL: expected a status"):
                await broken

    counters = Counters()
    run(scenario())
    assert counters.rpc_error_total == 1


def test_a_compressed_message_is_refused(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake()
        peer.answer((await peer.request()).stream, b"\1" + message()[1:])
        await peer.serve()

    async def scenario() -> None:
        async with called(behave) as application:
            with pytest.raises(AppFailed, match="not compressed"):
                await application.connect(ENVIRONMENT)

    run(scenario())


def test_a_server_that_does_not_read_is_not_written_to_without_end(run: Run) -> None:
    async def behave(peer: Peer) -> None:
        await peer.shake((4, 2**31 - 1))
        peer.send(frame(8, 0, 0, (2**30).to_bytes(4, "big")))
        peer.answer((await peer.request()).stream)
        await enough.wait()
        await peer.serve()

    async def scenario() -> None:
        limits = CallLimits(concurrency=32, command_timeout_s=15)
        async with called(behave, limits=limits) as application:
            await welcomed(application)
            environment = Environment(Sid("s1"), "ws://x" + "x" * 2**20, {})
            calls = []
            (connection,) = connections(application)

            async def sent(number: int) -> None:
                await until(lambda: len(connection.calls) == number)

            for number in range(32):
                calls.append(asyncio.ensure_future(application.connect(environment)))
                await sent(number + 1)
            assert connection._transport is not None
            assert connection._transport.get_write_buffer_size() < 3 * 2**20
            enough.set()
            await asyncio.gather(*calls)

    enough = asyncio.Event()
    run(scenario())
