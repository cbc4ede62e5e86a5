"""Clients that introduce themselves before the application is asked to admit them, over WebSockets of both kinds."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from catenary.edge import introductions
from catenary.edge.connection import ClientConnection
from catenary.edge.deadlines import Deadlines, NoDeadlines
from catenary.edge.introductions import Introductions
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.messages.reasons import Reason
from catenary.node import decisions
from catenary.node.encoder import Encoder
from catenary.node.session import Traits
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.ports import Watch
from catenary.transports.asgi_websocket import AsgiWebSocket
from catenary.transports.websocket import (
    Acceptance,
    WebSocketConnection,
    WebSocketLimits,
    WebSocketServices,
)
from catenary.wire.framing import PREFIXED, WEBSOCKET_TEXT
from tests.contracts.transports import AsgiHost, HostedWebSocket, WebSocketOnTcp, on_tcp
from tests.parts.heart import NEVER, Heart, in_loop, settle
from tests.parts.introduced_protocol import IntroducedStrictCodec

INIT = b'{"type":"init","params":{"a":"\xc3\xa9"}}'
SUBSCRIBE = b'{"type":"subscribe","id":"1"}'
LIMITS = WebSocketLimits(max_message_bytes=1000, close_timeout_s=0.3)

Client = HostedWebSocket | WebSocketOnTcp


class Server:
    """A node whose clients introduce themselves; ``clock`` is its time."""

    def __init__(self) -> None:
        self.heart = Heart()
        self.now = 0.0
        self.deadlines: Watch = Deadlines(2, lambda: self.now)
        self.application = self.heart.application
        self.counters = self.heart.counters
        self.environment = Environment(Sid("s"), "ws://test/", {"cookie": "a=1"})
        self.traits = Traits(NEVER)

    @property
    def services(self) -> WebSocketServices:
        node = Introductions(self.heart.node, self.deadlines, self.counters)
        turns = Turns(CLIENTS_BUDGET_US, asyncio.get_running_loop().call_soon)
        return WebSocketServices(node, LIMITS, self.counters, NoDeadlines(), turns)

    @asynccontextmanager
    async def tcp(self) -> AsyncIterator[WebSocketOnTcp]:
        def enter(connection: ClientConnection) -> WebSocketConnection:
            encoder = Encoder(IntroducedStrictCodec(), WEBSOCKET_TEXT)
            acceptance = Acceptance(self.environment, encoder, self.traits, b"OPEN")
            return WebSocketConnection(self.services, connection.transport, acceptance)

        async with on_tcp(enter) as (stage, end):
            yield WebSocketOnTcp(stage, WEBSOCKET_TEXT, end, is_binary=False)
        assert self.counters.open_connections_num == 0, "counted once, and forgotten"

    @asynccontextmanager
    async def asgi(self) -> AsyncIterator[HostedWebSocket]:
        client = HostedWebSocket(is_binary=False)
        client.host = AsgiHost()
        client.outbound = AsgiWebSocket(
            self.services,
            client.host.events.get,
            client.host.send,
            environment=self.environment,
            encoder=Encoder(IntroducedStrictCodec(), PREFIXED),
            traits=self.traits,
        )
        async with client.host.serving(client.outbound):
            yield client
        assert self.counters.open_connections_num == 0, "counted once, and forgotten"


Open = Callable[[Server], Any]


@pytest.fixture(params=[Server.tcp, Server.asgi], ids=["tcp", "asgi"])
def opened(request: pytest.FixtureRequest) -> Open:
    return request.param  # type: ignore[no-any-return]


def kinds(messages: list[bytes]) -> list[str]:
    return [json.loads(each)["type"] for each in messages]


def test_the_application_is_asked_when_the_client_has_introduced_itself(opened: Open) -> None:
    @in_loop
    async def scenario() -> None:
        server = Server()
        async with opened(server) as client:
            await settle()
            assert server.application.calls == []
            assert server.counters.open_connections_num == 1
            await client.say(INIT)
            await client.say(SUBSCRIBE)
            assert [each[0] for each in server.application.calls] == ["connect", "subscribe"]
            assert server.counters.open_connections_num == 1
            server.heart.publish("1", "[]")
            await client.say(INIT)
            got = await client.got()
        assert kinds(got.messages[:2]) == ["welcome", "confirm_subscription"]
        assert got.goodbye == (4429, "Too many initialisation requests")
        headers = {"cookie": "a=1", "x-params": '{"a": "\\u00e9"}'}
        assert server.environment.headers == headers
        assert server.counters.data_rcvd_total == 2 * len(INIT) + len(SUBSCRIBE)
        assert server.counters.client_msg_total == 3
        assert [each.sid for each, _ in server.application.ended] == ["s"]

    scenario()


def test_an_introduction_may_be_the_first_command_too(opened: Open) -> None:
    @in_loop
    async def scenario() -> None:
        server = Server()
        later = server.application.later("connect")
        async with opened(server) as client:
            await client.say(b'{"type":"hello"}')
            later.set_result(Decision(identifiers="x"))
            await settle()
            assert server.counters.client_msg_total == 1
            await client.say(b"{")
            got = await client.got()
        assert got.messages == [b'{"type":"pong"}']

    scenario()


@pytest.mark.parametrize(
    ("said", "heard", "goodbye"),
    [
        (b"{", ["error"], (4400, "Invalid message")),
        (SUBSCRIBE, [], (4401, "Unauthorized")),
        (b"x" * 1001, [], (1009, "expected")),
    ],
    ids=["garbage", "no init", "too large"],
)
def test_a_client_is_refused_before_the_application_is_asked(
    opened: Open, said: bytes, heard: list[str], goodbye: tuple[int, str]
) -> None:
    @in_loop
    async def scenario() -> None:
        server = Server()
        async with opened(server) as client:
            await client.say(b'{"type":"sorry"}')
            await client.say(b'{"type":"ping"}')
            await client.say(said)
            await client.say(INIT)
            got = await client.got()
        assert kinds(got.messages) == ["pong", *heard]
        assert got.goodbye is not None
        assert (got.goodbye[0], got.goodbye[1][: len(goodbye[1])]) == goodbye
        assert server.counters.failed_client_msg_total == 2 - (goodbye[0] == 1009)
        assert server.application.calls == []

    scenario()


def test_a_client_without_an_introduction_is_closed_in_time(opened: Open) -> None:
    @in_loop
    async def scenario() -> None:
        server = Server()
        async with opened(server) as client:
            await client.say(b'{"type":"ping"}')
            server.now = 2.1
            got = await client.got()
        assert got.goodbye == (4408, "Connection initialisation timeout")
        assert server.counters.late_introductions_total == 1
        assert server.application.calls == []

    scenario()


def test_an_introduced_client_has_no_time_limit(opened: Open) -> None:
    @in_loop
    async def scenario() -> None:
        server = Server()
        async with opened(server) as client:
            await client.say(INIT)
            assert isinstance(server.deadlines, Deadlines)
            server.now = 9.0
            server.deadlines._sweep()  # it would come within a second
            await client.say(SUBSCRIBE)
            assert server.application.calls[-1][0] == "subscribe"
            assert server.counters.late_introductions_total == 0
            await client.leave()

    scenario()


def test_a_client_that_leaves_before_is_no_session(opened: Open) -> None:
    @in_loop
    async def scenario() -> None:
        server = Server()
        async with opened(server) as client:
            assert server.counters.open_connections_num == 1
            await client.leave()
            assert server.counters.open_connections_num == 0
        assert server.application.calls == []

    scenario()


def test_a_client_is_disconnected_by_a_shutdown_before_and_after(opened: Open) -> None:
    @in_loop
    async def scenario(said: list[bytes]) -> None:
        server = Server()
        async with opened(server) as client:
            for each in said:
                await client.say(each)
            client.outbound.shutdown()
            got = await client.got()
        assert kinds(got.messages)[-1] == "disconnect"
        assert got.goodbye == (1001, "Server restart")

    scenario([])
    scenario([INIT])


def test_a_client_that_the_application_rejects_gets_the_code_of_the_protocol(opened: Open) -> None:
    @in_loop
    async def scenario() -> None:
        server = Server()
        server.application.prepare("connect", Decision(verdict=Verdict.FAILURE))
        async with opened(server) as client:
            await client.say(INIT)
            got = await client.got()
        assert got.goodbye == (4403, "Forbidden")

    scenario()


def test_a_pong_before_and_after_does_no_harm() -> None:
    @in_loop
    async def scenario() -> None:
        server = Server()
        node = server.services.node
        encoder = Encoder(IntroducedStrictCodec(), PREFIXED)
        async with server.asgi() as client:
            newcomer = node.admit(server.environment, encoder, client.outbound, server.traits)
            node.receive_pong(newcomer)
            node.receive(newcomer, INIT)
            newcomer.session.silent_since = 1.0
            node.receive_pong(newcomer)
            assert newcomer.session.silent_since == 0
            newcomer.close(Reason.REMOTE)
            newcomer.time_out()
            assert server.counters.late_introductions_total == 0
            node.leave(newcomer)

    scenario()


@in_loop
async def test_the_time_until_the_welcome_begins_with_the_introduction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client decides how long it waits before that."""
    monkeypatch.setattr(introductions, "perf_counter", lambda: 100.0)
    monkeypatch.setattr(decisions, "perf_counter", lambda: 102.5)
    server = Server()
    server.traits = Traits(NEVER, asked_at=1)
    async with server.tcp() as client:
        await client.say(INIT)
        await settle()
        state = server.counters.handshake_seconds.read()
        assert (state.count, state.sum) == (1, 2.5)
        await client.say(INIT)
        await client.got()
