"""A WebSocket client on a plain socket, which may violate every rule.

Source: RFC 6455, sections 4.1 (opening) and 5.2 (frames).
"""

import json
import socket
import ssl
import time
from types import TracebackType
from typing import Any, Self

DEADLINE_S = 10.0

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def upgrade(path: str = "/cable", *headers: str, protocol: str = "actioncable-v1-json") -> bytes:
    """The head of an opening request."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: test",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Protocol: {protocol}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def masked(payload: bytes, opcode: int = TEXT, *, first: int | None = None) -> bytes:
    """A frame from a client; ``first`` replaces its first byte."""
    key = b"\x37\xfa\x21\x3d"
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    body = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return bytes((0x80 | opcode if first is None else first,)) + length + key + body


def command(name: str, identifier: str = "", **fields: object) -> bytes:
    """A command in its frame."""
    return masked(json.dumps({"command": name, "identifier": identifier, **fields}).encode())


class RawSocket:
    """A connection to a server on this machine, from the address ``source``. Waits end with TimeoutError."""

    def __init__(
        self,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int = 0,
        source: str = "",
    ) -> None:
        self.socket = socket.socket()
        if source:
            self.socket.bind((source, 0))
        self.socket.settimeout(DEADLINE_S)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._read = b""
        try:
            self.socket.connect(("127.0.0.1", port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        """Sends each piece in a packet of its own, if the kernel does not join them."""
        for piece in pieces:
            self.socket.sendall(piece)

    def _more(self) -> bool:
        try:
            data = self.socket.recv(262_144)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b""
        self._read += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        while len(self._read) < size:
            if not self._more():
                raise EOFError(f"expected {size} bytes, got {self._read!r} and the end")
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def head(self) -> str:
        """The head of an HTTP answer."""
        while b"\r\n\r\n" not in self._read:
            if not self._more():
                raise EOFError(f"expected the head of an answer, got {self._read!r}")
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        return head.decode()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """A whole HTTP answer that has a Content-Length."""
        status, *lines = self.head().split("\r\n")
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}
        return int(status.split()[1]), headers, self._take(int(headers["content-length"]))

    def open(self, path: str = "/cable", *headers: str) -> Self:
        """Sends a handshake, and reads the response and the welcome."""
        self.send(upgrade(path, *headers))
        return self.opened()

    def opened(self) -> Self:
        """Reads the response to a handshake, and the welcome."""
        head = self.head()
        assert head.startswith("HTTP/1.1 101 "), head
        assert self.message()["type"] == "welcome"
        return self

    def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. Raises EOFError at the end of the connection."""
        first, size = self._take(2)
        assert first & 0x80, "a server's frames are in one piece here"
        assert not size & 0x80, "a server masks nothing"
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return first & 0x0F, self._take(size)

    def message(self) -> Any:
        """The next message; pings of WebSocket (they are answered) and of Action Cable are passed over."""
        while True:
            opcode, payload = self.frame()
            if opcode == PING:
                self.send(masked(payload, opcode=PONG))
                continue
            assert opcode == TEXT, f"expected a text frame, got {opcode:#x} {payload!r}"
            message = json.loads(payload)
            if not (isinstance(message, dict) and message.get("type") == "ping"):
                return message

    def goodbye(self) -> tuple[int, bytes]:
        """The close frame, after any other frames: code (1005: none given) and reason."""
        while True:
            opcode, payload = self.frame()
            if opcode == CLOSE:
                return (int.from_bytes(payload[:2], "big") if payload else 1005), payload[2:]

    def wait_for_end(self, timeout_s: float = DEADLINE_S) -> bytes:
        """Everything that arrives until the server closes."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.01))
            if not self._more():
                return self._read
        raise TimeoutError(f"the connection is open after {timeout_s} s")
