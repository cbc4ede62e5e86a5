"""One connection and its stages: what they cost, and what is passed on to them."""

import asyncio
import gc
from typing import cast

import pytest
from uvicorn.config import Config

from catenary.edge.connection import ClientConnection, PortState, UvicornContext
from catenary.edge.sniffer import RequestSniffer
from catenary.transports.websocket import (
    WebSocketConnection,
)
from tests.parts.client_port import client_connection
from tests.parts.heart import Heart, in_loop
from tests.parts.raw_socket import command, upgrade


class Recorder(asyncio.Transport):
    """A transport that keeps what each write was given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.handed_over: asyncio.BaseProtocol | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.handed_over = protocol

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""


@in_loop
async def test_the_answer_to_a_handshake_and_the_welcome_leave_in_one_write() -> None:
    transport = Recorder()
    client = client_connection(Heart(), PortState())
    client.connection_made(transport)
    client.data_received(upgrade())
    (written,) = transport.written
    assert written.startswith(b"HTTP/1.1 101 ")
    assert b'{"type":"welcome",' in written.partition(b"\r\n\r\n")[2]


@in_loop
async def test_a_connection_becomes_a_websocket_and_reading_is_not_interrupted() -> None:
    heart, transport, state = Heart(), Recorder(), PortState()
    client = client_connection(heart, state)
    client.connection_made(transport)
    # A transport keeps this method.
    receive = client.data_received
    receive(upgrade() + command("ping"))
    receive(command("ping"))
    assert type(client.stage) is WebSocketConnection
    assert not transport.handed_over
    assert [each[2:] for each in transport.written[1:]] == [b'{"type":"pong"}'] * 2
    assert len(state.connections) == 1
    client.connection_lost(None)
    assert (heart.counters.open_connections_num, len(state.connections)) == (0, 0)


@pytest.mark.parametrize("said", [b"", b"GET /cab", b"GET /cable HTTP/1.1\r\n\r\n", upgrade()])
@in_loop
async def test_a_connection_is_freed_when_it_is_lost(said: bytes) -> None:
    """By its references: a cycle would wait for the collector."""
    gc.collect()
    client = client_connection(Heart(), PortState())
    client.connection_made(Recorder())
    client.data_received(said)
    client.connection_lost(None)
    del client
    left = (
        ClientConnection,
        RequestSniffer,
        WebSocketConnection,
    )  # by type: isinstance() would evaluate the lazy objects of Django
    assert not [each for each in gc.get_objects() if issubclass(type(each), left)]


class Noting:
    """A stage that notes what happens."""

    is_client = True

    def __init__(self) -> None:
        self.noted: list[object] = []

    def begin(self, rest: bytes) -> None:
        self.noted.append(("begin", rest))

    def receive(self, data: bytes) -> None:
        self.noted.append(data)

    def eof(self) -> bool:
        self.noted.append("eof")
        return True

    def pause_writing(self) -> None:
        self.noted.append("pause")

    def resume_writing(self) -> None:
        self.noted.append("resume")

    def lost(self, exc: Exception | None) -> None:
        self.noted.append(("lost", exc))

    def shutdown(self) -> None:
        self.noted.append("shutdown")


def noting() -> tuple[ClientConnection, Noting, PortState, Recorder]:
    stage, state, transport = Noting(), PortState(), Recorder()

    def first(connection: ClientConnection, uvicorn: UvicornContext) -> Noting:
        assert uvicorn == (config, state, {"app": 1})
        return stage

    config = Config("none")
    made = ClientConnection(first, config=config, server_state=state, app_state={"app": 1})
    made.connection_made(transport)
    return made, stage, state, transport


def test_events_of_the_transport_are_passed_to_the_stage() -> None:
    made, stage, state, _ = noting()
    connections = cast("set[object]", state.connections)
    assert connections == {made}
    assert made.is_client
    made.data_received(b"a")
    made.pause_writing()
    made.resume_writing()
    assert made.eof_received() is True
    made.shutdown()
    gone = OSError("gone")
    made.connection_lost(gone)
    told = [("begin", b""), b"a", "pause", "resume", "eof", "shutdown", ("lost", gone)]
    assert stage.noted == told
    assert connections == set()


def test_the_next_stage_gets_the_unread_bytes_and_all_later_ones() -> None:
    made, first, _, transport = noting()
    second = Noting()
    made.enter(second, b"rest")
    made.data_received(b"more")
    made.connection_lost(None)
    assert first.noted == [("begin", b"")]
    assert second.noted == [("begin", b"rest"), b"more", ("lost", None)]
    assert transport.handed_over is None


class Other(asyncio.Protocol):
    """A protocol that is not a stage."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data


def test_a_connection_that_was_handed_over_is_forgotten() -> None:
    made, stage, state, transport = noting()
    other = Other()
    made.hand_over(other, b"everything")
    assert (other.transport, other.data, transport.handed_over) == (transport, b"everything", other)
    assert state.connections == set(), "the other is in it, if it wants to be"
    assert stage.noted == [("begin", b"")]
