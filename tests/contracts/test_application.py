"""The contract of the port Application, over every remote one, against real servers."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop

from catenary.errors import AppFailed, AppUnavailable
from catenary.logs.fields import event_of, fields_of
from catenary.messages.decisions import Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.rpc.calls import AppAway, AppLate, CallLimits
from catenary.rpc.grpc import GrpcApplication
from catenary.rpc.http import HttpApplication
from catenary.rpc.none import NoApplication
from catenary.rpc.remote import RemoteApplication
from tests.parts.application import TestApplication
from tests.parts.grpc_app import GrpcServer
from tests.parts.http_app import HttpServer

ECHO = Identifier('{"channel":"EchoChannel"}')
STATE = Identifier('{"channel":"StateChannel"}')
SLOW = Identifier('{"channel":"SlowChannel"}')
QUICK = CallLimits(command_timeout_s=1.0)


@dataclass
class Line:
    """An application's server, and our end of it."""

    server: GrpcServer | HttpServer
    counters: Counters = field(default_factory=Counters)

    @property
    def behind(self) -> TestApplication:
        return self.server.application

    @asynccontextmanager
    async def open(self, limits: CallLimits | None = None) -> AsyncIterator[RemoteApplication]:
        application = self._build(limits or CallLimits())
        await application.start()
        try:
            yield application
        finally:
            await application.close(5)

    def _build(self, limits: CallLimits) -> RemoteApplication:
        if isinstance(self.server, GrpcServer):
            return GrpcApplication(self.server.address, counters=self.counters, limits=limits)
        return HttpApplication(
            self.server.url, counters=self.counters, limits=limits, key=self.server.key
        )


@pytest.fixture(params=["grpc", "http"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    behind = TestApplication()
    server = GrpcServer(behind) if request.param == "grpc" else HttpServer(behind, key="s3cret")
    server.start()
    yield Line(server)
    server.stop()


def run(scenario: Awaitable[None]) -> None:
    """Runs on the loop that the server runs on; whatever hangs ends here."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


def client(**changes: object) -> Environment:
    values: dict[str, object] = {
        "sid": Sid("s1"),
        "url": "ws://cable.test/cable?user=jack",
        "headers": {"cookie": "a=1; b=ü", "REMOTE_ADDR": "10.0.0.1"},
        **changes,
    }
    return Environment(**values)  # type: ignore[arg-type]


def call_of(action: str, **params: object) -> str:
    return json.dumps({"action": action, **params})


# Requests and decisions


def test_connect_tells_the_environment_and_brings_identifiers_and_state(line: Line) -> None:
    async def scenario() -> None:
        async with line.open() as application:
            decision = await application.connect(client())
        assert decision.verdict is Verdict.SUCCESS
        assert decision.identifiers == '{"user": "jack"}'
        assert decision.transmissions == ('{"type": "welcome", "sid": "s1"}',)
        assert decision.cstate == {"user": "jack"}

    run(scenario())
    (call,) = line.behind.calls
    assert call.procedure == "connect"
    assert call.request == {
        "env": {
            "url": "ws://cable.test/cable?user=jack",
            "headers": {"cookie": "a=1; b=ü", "REMOTE_ADDR": "10.0.0.1"},
        }
    }
    assert (call.metadata["sid"], call.metadata["protov"]) == ("s1", "v1")


def test_a_refused_connection_has_transmissions_and_no_identifiers(line: Line) -> None:
    line.behind.prepared.append(
        {"status": 2, "identifiers": "somebody", "transmissions": ['{"type":"disconnect"}']}
    )

    async def scenario() -> None:
        async with line.open() as application:
            decision = await application.connect(client())
        assert decision.verdict is Verdict.FAILURE
        assert decision.identifiers == ""
        assert decision.transmissions == ('{"type":"disconnect"}',)

    run(scenario())
    assert line.counters.rpc_error_total == 0


def test_a_command_carries_identifiers_connection_state_and_its_own_channel_state(
    line: Line,
) -> None:
    environment = client(
        identifiers="jack", cstate={"c": "1"}, istate={STATE: {"i": "2"}, ECHO: {"other": "3"}}
    )

    async def scenario() -> None:
        async with line.open() as application:
            decision = await application.perform(environment, STATE, call_of("get"))
        message = json.loads(decision.transmissions[0])
        assert message == {
            "identifier": STATE,
            "message": {"cstate": {"c": "1"}, "istate": {"i": "2"}},
        }

    run(scenario())
    (call,) = line.behind.calls
    assert call.procedure == "command"
    assert call.request["command"] == "message"
    assert call.request["identifier"] == STATE
    assert call.request["connection_identifiers"] == "jack"
    assert call.request["data"] == call_of("get")
    assert call.metadata["sid"] == "s1"


def test_every_field_of_a_command_s_answer_is_read(line: Line) -> None:
    line.behind.prepared.append(
        {
            "status": 1,
            "disconnect": True,
            "stop_streams": True,
            "streams": ["a", "b"],
            "stopped_streams": ["c"],
            "transmissions": ["t1", "t2"],
            "env": {"cstate": {"c": "1", "gone": ""}, "istate": {"i": "2"}},
            "presence": {"type": "join", "id": "1", "info": "{}"},
        }
    )

    async def scenario() -> None:
        async with line.open() as application:
            decision = await application.subscribe(client(), ECHO)
        assert decision.verdict is Verdict.SUCCESS
        assert decision.disconnect is True
        assert decision.stop_all_streams is True
        assert decision.streams == ("a", "b")
        assert decision.stopped_streams == ("c",)
        assert decision.transmissions == ("t1", "t2")
        assert decision.cstate == {"c": "1", "gone": ""}
        assert decision.istate == {"i": "2"}

    run(scenario())
    assert line.behind.calls[0].request["command"] == "subscribe"
    assert "data" not in line.behind.calls[0].request


def test_an_empty_answer_decides_nothing(line: Line) -> None:
    line.behind.prepared.append({"status": 1})

    async def scenario() -> None:
        async with line.open() as application:
            decision = await application.unsubscribe(client(), ECHO)
        assert decision.transmissions == decision.streams == decision.stopped_streams == ()
        assert not decision.disconnect
        assert not decision.stop_all_streams
        assert decision.cstate is None
        assert decision.istate is None
        assert decision.disconnect_wanted is None

    run(scenario())
    assert line.behind.calls[0].request["command"] == "unsubscribe"


def test_a_rejected_subscription_is_a_failure_with_its_rejection(line: Line) -> None:
    async def scenario() -> None:
        async with line.open() as application:
            decision = await application.subscribe(client(), Identifier('{"channel":"No"}'))
        assert decision.verdict is Verdict.FAILURE
        assert json.loads(decision.transmissions[0])["type"] == "reject_subscription"

    run(scenario())


def test_disconnect_carries_every_subscription_and_its_state_as_json(line: Line) -> None:
    environment = client(
        identifiers="jack", cstate={"c": "1"}, istate={STATE: {"i": "2"}, ECHO: {"j": "ü"}}
    )

    async def scenario() -> None:
        async with line.open() as application:
            await application.disconnect(environment, (STATE, ECHO))

    run(scenario())
    (call,) = line.behind.calls
    assert call.procedure == "disconnect"
    assert call.request["identifiers"] == "jack"
    assert call.request["subscriptions"] == [STATE, ECHO]
    env = call.request["env"]
    assert env["cstate"] == {"c": "1"}
    assert {key: json.loads(text) for key, text in env["istate"].items()} == {
        STATE: {"i": "2"},
        ECHO: {"j": "ü"},
    }


@pytest.mark.parametrize("sid", ["a\r\nx-evil: 1", "jack ü", "x" * 300])
def test_a_session_id_from_a_client_can_not_break_the_call(line: Line, sid: str) -> None:
    async def scenario() -> None:
        async with line.open() as application:
            decision = await application.connect(client(sid=Sid(sid)))
        assert decision.verdict is Verdict.SUCCESS

    run(scenario())
    metadata = line.behind.calls[0].metadata
    assert metadata["sid"].isascii()
    assert "x-evil" not in metadata


# Errors


def test_status_error_raises_with_the_application_s_words(line: Line) -> None:
    broken = Identifier('{"channel":"ErrorChannel"}')
    environment = client(url="ws://cable.test/cable?error=1")

    async def scenario() -> None:
        async with line.open() as application:
            with pytest.raises(AppFailed, match="broken on purpose"):
                await application.connect(environment)
            for asking in (
                application.subscribe(environment, broken),
                application.unsubscribe(environment, broken),
                application.perform(environment, broken, "{}"),
            ):
                with pytest.raises(AppFailed, match="broken on purpose"):
                    await asking
            line.behind.prepared.append({"status": 0, "error_msg": "no goodbye"})
            with pytest.raises(AppFailed, match="no goodbye"):
                await application.disconnect(environment, ())

    run(scenario())
    assert line.counters.rpc_call_total == 5
    # As the reference counts: a decision that is an error is no failed call, but a goodbye is.
    assert line.counters.rpc_error_total == 1


def test_text_that_is_no_unicode_is_not_sent(line: Line) -> None:
    async def scenario() -> None:
        async with line.open() as application:
            with pytest.raises(AppFailed, match="Unicode"):
                await application.perform(client(), ECHO, "\ud800")

    run(scenario())
    assert line.behind.calls == []


def test_an_answer_that_is_late_is_not_waited_for_nor_asked_for_again(line: Line) -> None:
    limits = CallLimits(request_timeout_s=0.3, command_timeout_s=5)

    async def scenario() -> None:
        async with line.open(limits) as application:
            await application.connect(client())
            with pytest.raises(AppLate):
                await application.perform(client(), SLOW, call_of("sleep", seconds=1))
            decision = await application.perform(client(), ECHO, call_of("echo"))
            assert decision.verdict is Verdict.SUCCESS

    run(scenario())
    assert len(line.behind.calls) == 3
    assert line.counters.rpc_timeout_total == 1
    assert line.counters.rpc_error_total == 1
    assert line.counters.rpc_retries_total == 0


def test_a_command_s_whole_time_bounds_an_attempt_too(line: Line) -> None:
    async def scenario() -> None:
        async with line.open(CallLimits(command_timeout_s=0.3)) as application:
            await application.connect(client())
            with pytest.raises(AppLate):
                await application.perform(client(), SLOW, call_of("sleep", seconds=1))

    run(scenario())
    assert line.counters.rpc_timeout_total == 1


# The server goes away


def test_a_server_that_restarts_is_not_noticed(line: Line) -> None:
    async def scenario() -> None:
        async with line.open() as application:
            await application.connect(client())
            await asyncio.to_thread(line.server.stop)
            calls = [
                asyncio.ensure_future(application.perform(client(), ECHO, call_of("echo", n=n)))
                for n in range(10)
            ]
            await until(lambda: line.counters.rpc_retries_total >= 10)
            await asyncio.to_thread(line.server.start)
            decisions = await asyncio.gather(*calls)
            assert all(decision.verdict is Verdict.SUCCESS for decision in decisions)

    run(scenario())
    assert line.counters.rpc_error_total == 0


def test_a_server_that_stays_away_fails_calls_in_time_and_later_ones_at_once(line: Line) -> None:
    async def scenario() -> None:
        line.server.stop()
        async with line.open(QUICK) as application:
            begin = time.monotonic()
            with pytest.raises(AppAway):
                await application.connect(client())
            assert 0.4 < time.monotonic() - begin < 2
            await asyncio.sleep(max(0.0, 1.05 - (time.monotonic() - begin)))
            begin = time.monotonic()
            for _ in range(200):
                with pytest.raises(AppAway):
                    await application.connect(client())
            assert time.monotonic() - begin < 1
            await asyncio.to_thread(line.server.start)
            await _eventually(lambda: application.connect(client()))

    run(scenario())
    assert line.counters.rpc_error_total >= 201
    assert line.counters.rpc_pending_num == 0


def test_a_server_that_starts_later_is_found(line: Line) -> None:
    async def scenario() -> None:
        line.server.stop()
        async with line.open() as application:
            call = asyncio.ensure_future(application.connect(client()))
            await until(lambda: line.counters.rpc_retries_total >= 2)
            await asyncio.to_thread(line.server.start)
            assert (await call).verdict is Verdict.SUCCESS

    run(scenario())


def test_calls_under_way_when_the_server_breaks_come_to_an_end(line: Line) -> None:
    async def scenario() -> None:
        async with line.open(QUICK) as application:
            call = asyncio.ensure_future(
                application.perform(client(), SLOW, call_of("sleep", seconds=0.5))
            )
            await asyncio.to_thread(line.behind.wait_for, lambda: line.behind.under_way == 1)
            await asyncio.to_thread(line.server.stop)
            with pytest.raises(AppUnavailable):
                await call

    run(scenario())


# How many at once


def test_no_more_calls_than_allowed_are_under_way(line: Line) -> None:
    limits = CallLimits(concurrency=3, command_timeout_s=10)

    async def scenario() -> None:
        async with line.open(limits) as application:
            calls = [
                asyncio.ensure_future(
                    application.perform(client(), SLOW, call_of("sleep", seconds=0.05))
                )
                for _ in range(12)
            ]
            await asyncio.to_thread(line.behind.wait_for, lambda: line.behind.under_way == 3)
            assert line.counters.rpc_pending_num > 0
            await asyncio.gather(*calls)

    run(scenario())
    assert line.behind.most_under_way == 3
    assert line.counters.rpc_pending_num == 0
    assert line.counters.rpc_call_total == 12


def test_calls_of_clients_that_left_are_never_sent(line: Line) -> None:
    limits = CallLimits(concurrency=1, command_timeout_s=10)

    async def scenario() -> None:
        async with line.open(limits) as application:
            first = asyncio.ensure_future(
                application.perform(client(), SLOW, call_of("sleep", seconds=0.2))
            )
            await asyncio.to_thread(line.behind.wait_for, lambda: line.behind.under_way == 1)
            waiting = [asyncio.ensure_future(application.connect(client())) for _ in range(5)]
            await asyncio.sleep(0)
            assert line.counters.rpc_pending_num == 5
            for call in waiting:
                call.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert line.counters.rpc_pending_num == 0
            await first
            assert (await application.connect(client())).verdict is Verdict.SUCCESS

    run(scenario())
    assert len(line.behind.calls_of("connect")) == 1
    assert line.counters.rpc_canceled_total == 5
    assert line.counters.rpc_call_total == 2


def test_a_call_that_is_cancelled_under_way_gives_its_slot_back(line: Line) -> None:
    limits = CallLimits(concurrency=1, command_timeout_s=10)

    async def scenario() -> None:
        async with line.open(limits) as application:
            slow = asyncio.ensure_future(
                application.perform(client(), SLOW, call_of("sleep", seconds=0.5))
            )
            await asyncio.to_thread(line.behind.wait_for, lambda: line.behind.under_way == 1)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            begin = time.monotonic()
            assert (await application.connect(client())).verdict is Verdict.SUCCESS
            assert time.monotonic() - begin < 0.4

    run(scenario())
    assert line.counters.rpc_canceled_total == 1


# The end


def test_close_waits_for_calls_under_way_and_refuses_new_ones(line: Line) -> None:
    async def scenario() -> None:
        async with line.open() as application:
            call = asyncio.ensure_future(
                application.perform(client(), SLOW, call_of("sleep", seconds=0.2))
            )
            await asyncio.to_thread(line.behind.wait_for, lambda: line.behind.under_way == 1)
            closing = asyncio.ensure_future(application.close(5))
            await asyncio.sleep(0)
            with pytest.raises(AppUnavailable, match="shutting down"):
                await application.connect(client())
            assert (await call).verdict is Verdict.SUCCESS
            await closing

    run(scenario())


def test_close_breaks_what_takes_too_long(line: Line) -> None:
    async def scenario() -> None:
        async with line.open() as application:
            call = asyncio.ensure_future(
                application.perform(client(), SLOW, call_of("sleep", seconds=1))
            )
            await asyncio.to_thread(line.behind.wait_for, lambda: line.behind.under_way == 1)
            begin = time.monotonic()
            await application.close(0.1)
            with pytest.raises(AppUnavailable):
                await call
            assert time.monotonic() - begin < 0.9

    run(scenario())


def test_logs_carry_the_sid_and_no_secrets(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "catenary.rpc")
    line.server.stop()

    async def scenario() -> None:
        async with line.open(QUICK) as application:
            environment = client(headers={"cookie": "session=hunter2"})
            with pytest.raises(AppAway) as raised:
                await application.connect(environment)
            assert "hunter2" not in str(raised.value)

    run(scenario())
    retried = [each for each in caplog.records if event_of(each) == "retry"]
    assert {fields_of(each)["sid"] for each in retried} == {"s1"}
    assert "the application is away" in caplog.text
    assert "hunter2" not in caplog.text
    assert "s3cret" not in caplog.text


async def until(condition: Callable[[], bool]) -> None:
    """Returns once a condition holds; run() bounds the time."""
    while not condition():  # noqa: ASYNC110  (counters are plain numbers, which set no event)
        await asyncio.sleep(0.01)


async def _eventually(call: Callable[[], Awaitable[object]], timeout_s: float = 5) -> None:
    """Repeats a call until it succeeds."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                await call()
            except AppAway:
                await asyncio.sleep(0.02)
            else:
                return


# No application


def test_without_an_application_nobody_is_let_in() -> None:
    application = NoApplication()
    decision = application.connect(client())
    assert decision.verdict is Verdict.FAILURE
    (goodbye,) = decision.transmissions
    assert json.loads(goodbye) == {
        "type": "disconnect",
        "reason": "unauthorized",
        "reconnect": False,
    }


def test_without_an_application_subscriptions_are_rejected_and_actions_fail() -> None:
    application = NoApplication()
    decision = application.subscribe(client(), ECHO)
    assert decision.verdict is Verdict.FAILURE
    (rejection,) = decision.transmissions
    assert json.loads(rejection) == {"type": "reject_subscription", "identifier": ECHO}
    with pytest.raises(AppUnavailable):
        application.perform(client(), ECHO, "{}")
    with pytest.raises(AppUnavailable):
        application.unsubscribe(client(), ECHO)
    asyncio.run(application.disconnect(client(), ()))
