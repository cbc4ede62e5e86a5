"""A client's side of RFC 6455, fed by hand."""

import pytest

from catenary.errors import ConfigError
from catenary.terminal.cable_socket import CableAddress, CableSocket, HandshakeRequest, address
from catenary.wire.frames import (
    BINARY,
    CLOSE,
    PING,
    Close,
    Event,
    FrameReader,
    Message,
    PongFrame,
    close_frame,
    frame,
    text_frame,
)
from catenary.wire.handshake import check_upgrade, switching
from catenary.wire.http1 import read_request
from tests.terminal.test_counting import RecordingTransport


class RecordingSocket(CableSocket):
    """Notes what happens to it."""

    def __init__(self) -> None:
        super().__init__(
            HandshakeRequest(
                address=address("wss://cable.example:444/cable?a=b"),
                subprotocols=("one", "two"),
                headers=(("Cookie", "c=d"),),
            )
        )
        self.texts: list[bytes] = []
        self.reasons: list[str] = []

    def query(self) -> str:
        return "sid=1"

    def message_received(self, payload: bytes) -> None:
        self.texts.append(payload)

    def failed(self, reason: str) -> None:
        self.reasons.append(reason)


class ClosableTransport(RecordingTransport):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "uvloop raises RuntimeError"
        super().write(data)


def opened(
    *received: bytes, chunk: int = 10**6
) -> tuple[RecordingSocket, ClosableTransport, list[Event]]:
    """A client that has got these bytes; what it said after its handshake, as a server reads it."""
    client, transport = RecordingSocket(), ClosableTransport()
    client.connection_made(transport)
    request = read_request(transport.written.removesuffix(b"\r\n\r\n"))
    assert request.target == "/cable?a=b&sid=1"
    assert request.headers["host"] == "cable.example:444"
    assert request.headers["cookie"] == "c=d"
    assert request.headers["sec-websocket-protocol"] == "one, two"
    transport.written = b""
    data = switching(check_upgrade(request), "two") + b"".join(received)
    for start in range(0, len(data), chunk):
        client.data_received(data[start : start + chunk])
    assert client.subprotocol == "two"
    return client, transport, FrameReader(10**6).receive(transport.written)


@pytest.mark.parametrize("chunk", [1, 5, 10**6])
@pytest.mark.parametrize("size", [0, 125, 126, 65_536])
def test_texts_of_every_length(size: int, chunk: int) -> None:
    if size > 1000 and chunk < 1000:
        chunk = 1000
    client, _, said = opened(text_frame(b"a" * size), text_frame(b"b"), chunk=chunk)
    assert client.texts == [b"a" * size, b"b"]
    assert said == []


def test_fragments_with_a_ping_between() -> None:
    pieces = (b"\x01\x02ab", frame(PING, b"?"), b"\x00\x01c", b"\x80\x01d")
    client, _, said = opened(*pieces)
    assert client.texts == [b"abcd"]
    assert said == [PongFrame(b"?")]


def test_nothing_is_sent_after_a_goodbye() -> None:
    client, _, said = opened(close_frame(1001, "away"), frame(PING, b"?"), close_frame(1001, ""))
    client.send(b"late")
    client.close()
    assert said == [Close(1001, "")]


def test_a_goodbye_is_answered() -> None:
    client, transport, said = opened(close_frame(1001, "away"))
    assert client.reasons == ["closed by the server: 1001 away"]
    assert said == [Close(1001, "")]
    assert transport.closed
    client, _, said = opened(frame(CLOSE, b""))
    assert client.reasons == ["closed by the server: 1005"]


def test_what_is_no_text_ends_it() -> None:
    client, _, _ = opened(frame(BINARY, b"\0"))
    assert client.reasons == ["expected text, got a frame of kind 2"]


@pytest.mark.parametrize(
    "received",
    [
        b"\x81\x7f" + (1001).to_bytes(8, "big"),
        b"\x01\x7d" + b"x" * 125 + (b"\x00\x7d" + b"x" * 125) * 8,
    ],
    ids=["announced", "in fragments"],
)
def test_a_message_that_is_too_large_ends_it(
    monkeypatch: pytest.MonkeyPatch, received: bytes
) -> None:
    monkeypatch.setattr("catenary.terminal.cable_socket._MAX_BYTES", 1000)
    client, _, _ = opened(received)
    assert client.reasons == ["expected messages of up to 1000 bytes, got more"]


def test_what_it_says_is_masked() -> None:
    client, transport, _ = opened()
    client.send(b"hello")
    assert b"hello" not in transport.written
    assert FrameReader(100).receive(transport.written) == [Message(b"hello", is_text=True)]
    client.connection_lost(None)
    client.send(b"into the void")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://h/cable", ("h", 80, "h", "/cable", False)),
        ("wss://h", ("h", 443, "h", "/", True)),
        ("http://h:1?x=y", ("h", 1, "h:1", "/?x=y", False)),
        ("ws://u:p@[::1]:8080/c", ("::1", 8080, "[::1]:8080", "/c", False)),
    ],
)
def test_addresses(url: str, expected: tuple[str, int, str, str, bool]) -> None:
    host, port, authority, target, is_secure = expected
    assert address(url) == CableAddress(
        host=host, port=port, authority=authority, target=target, is_secure=is_secure
    )


@pytest.mark.parametrize("url", ["", "h:80", "redis://h", "ws://", "ws://h:x/", "ws://ü/"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="expected a URL such as"):
        address(url)
