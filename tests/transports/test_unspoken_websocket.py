"""A WebSocket that is closed right after its handshake, with clients that answer the close frame, or do not."""

import asyncio

import pytest

from catenary.transports.unspoken_websocket import UnspokenWebSocket
from catenary.transports.websocket import WebSocketLimits
from catenary.wire.frames import CLOSE, close_frame
from tests.parts.heart import in_loop
from tests.parts.memory_socket import MemorySocket
from tests.parts.raw_socket import masked

RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
ANSWER = masked(b"\x03\xea", CLOSE)


class TlsSocket(MemorySocket):
    """A transport whose sending side can't be closed alone."""

    def can_write_eof(self) -> bool:
        return False


def opened(socket: MemorySocket, rest: bytes = b"") -> UnspokenWebSocket:
    limits = WebSocketLimits(close_timeout_s=0.01)
    stage = socket.stage = UnspokenWebSocket(socket, RESPONSE, 1002, "why", limits)
    stage.begin(rest)
    return stage


@pytest.mark.parametrize("kind", [MemorySocket, TlsSocket])
@in_loop
async def test_a_client_that_answers_the_close_frame_is_closed(kind: type[MemorySocket]) -> None:
    socket = kind()
    stage = opened(socket, rest=masked(b"[2]"))
    assert bytes(socket.taken) == RESPONSE + close_frame(1002, "why")
    assert "close" not in socket.calls, "the close frame must arrive"
    for byte in ANSWER:
        stage.receive(bytes((byte,)))
    assert socket.calls[-1] == "close"
    stage.lost(None)
    await asyncio.sleep(0.02)
    assert "abort" not in socket.calls


@in_loop
async def test_another_client_is_aborted() -> None:
    socket = TlsSocket()
    opened(socket).receive(b"nonsense")
    await asyncio.sleep(0.02)
    assert socket.calls == ["abort"]


@in_loop
async def test_a_server_that_stops_does_not_wait() -> None:
    socket = MemorySocket()
    opened(socket).shutdown()
    assert socket.calls[-1] == "close"
