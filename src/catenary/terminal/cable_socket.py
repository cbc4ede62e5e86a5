"""A client's WebSocket (RFC 6455): the opening handshake, and frames in both directions.

Thousands of these run in one process, so each frame takes as little work as possible. There is no
compression. Knows: bytes, URLs. Does not know: Action Cable.
"""

import asyncio
import base64
import os
import ssl
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from catenary.auth.keys import key_bytes
from catenary.config.urls import WEBSOCKET, http_url
from catenary.errors import ConfigError
from catenary.wire.frames import CLOSE, CONTINUATION, NO_STATUS, PING, PONG, TEXT, unmask
from catenary.wire.handshake import accept_value

FIN_TEXT: Final = 0x80 | TEXT
"""First byte of an unfragmented text frame."""

_MAX_BYTES: Final = 64 * 1024 * 1024
"""A larger message ends the connection."""


class CableAddress(msgspec.Struct, frozen=True, kw_only=True):
    """The address of a cable; ``target`` is the path with its query."""

    host: str
    port: int
    authority: str
    target: str
    is_secure: bool

    @property
    def url(self) -> str:
        """The URL for an error: without the query, which may contain a token."""
        return f"ws{'s' * self.is_secure}://{self.authority}{self.target.partition('?')[0]}"

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The argument ``ssl`` of ``create_connection``; certificates are verified."""
        return ssl.create_default_context() if self.is_secure else None


def address(url: str) -> CableAddress:
    """Reads a URL: ``ws://``, ``wss://``, ``http://`` or ``https://``.

    Raises :class:`catenary.errors.ConfigError`.
    """
    try:
        found = http_url(url, WEBSOCKET) if url.isascii() else None
    except ValueError:
        found = None
    if found is None:
        raise ConfigError(f"expected a URL such as ws://localhost:8080/cable, got {url!r}")
    return CableAddress(
        host=found.host,
        port=found.port,
        authority=found.authority,
        target=found.target,
        is_secure=found.is_encrypted,
    )


class HandshakeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The opening handshake of a client."""

    address: CableAddress
    subprotocols: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()

    def request(self, key: str, extra_query: str = "") -> bytes:
        """The request's bytes (section 4.1)."""
        target = self.address.target
        if extra_query:
            target += ("&" if "?" in target else "?") + extra_query
        lines: Sequence[str] = (
            f"GET {target} HTTP/1.1",
            f"Host: {self.address.authority}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *(
                (f"Sec-WebSocket-Protocol: {', '.join(self.subprotocols)}",)
                if self.subprotocols
                else ()
            ),
            *(f"{name}: {value}" for name, value in self.headers),
        )
        return key_bytes("\r\n".join(lines) + "\r\n\r\n")


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame, masked (section 5.3)."""
    size = len(payload)
    if size < 126:
        header = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        header = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        header = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    key = os.urandom(4)
    return header + key + unmask(payload, key)


class CableSocket(asyncio.Protocol):
    """One client; it may be used for several connections, one after another."""

    __slots__ = (
        "_accept",
        "_awaited",
        "_fragments",
        "_is_open",
        "_opening",
        "_rest",
        "_transport",
        "subprotocol",
    )

    def __init__(self, opening: HandshakeRequest) -> None:
        self._opening = opening
        self._transport: asyncio.Transport | None = None
        # The start of an incomplete frame, and the size of the whole as far as it is known
        self._rest: bytearray | None = None
        self._awaited = 0
        self._is_open = False
        self._accept = ""
        self._fragments: bytearray | None = None
        self.subprotocol = ""
        """The subprotocol that the server has chosen."""

    # For subclasses

    def query(self) -> str:
        """Additional query of the URL."""
        return ""

    def message_received(self, payload: bytes) -> None:
        """Called for each text message."""
        raise NotImplementedError

    def failed(self, reason: str) -> None:
        """Called when the server refuses the client, closes, or violates the protocol; the connection ends."""
        raise NotImplementedError

    # Sending

    def send(self, payload: bytes) -> None:
        """Sends a text message; without a connection it is dropped."""
        self._write(TEXT, payload)

    def abort(self) -> None:
        """Aborts the connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Sends a close frame and closes the connection."""
        self._write(CLOSE, (1000).to_bytes(2, "big"))
        if self._transport is not None:
            self._transport.close()

    def _write(self, opcode: int, payload: bytes) -> None:
        """Sends a frame, if the connection is not closing: frames of the server may still arrive then."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(opcode, payload))

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._rest, self._is_open, self._fragments = None, False, None
        key = base64.b64encode(os.urandom(16)).decode()
        self._accept = accept_value(key)
        self._transport.write(self._opening.request(key, self.query()))

    def data_received(self, data: bytes) -> None:
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._awaited:
                return
            data, self._rest = bytes(self._rest), None
        done = self._read(data) if self._is_open else self._shake_hands(data)
        if done < len(data):
            self._rest = bytearray(data[done:])
            self._awaited = _frame_size(self._rest) if self._is_open else 0
            self._limit(max(len(self._rest), self._awaited))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    # Reading

    def _limit(self, size: int) -> None:
        if size > _MAX_BYTES:
            self._refuse(f"expected messages of up to {_MAX_BYTES} bytes, got more")

    def _refuse(self, reason: str) -> None:
        self.failed(reason)
        self.abort()

    def _shake_hands(self, data: bytes) -> int:
        """Reads the response to the opening handshake, and the frames that arrived with it."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return 0
        first, *lines = data[: end - 4].decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1.1 101"):
            self._refuse(f"expected 101 Switching Protocols, got {first[:80]!r}")
            return len(data)
        fields = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        if fields.get("sec-websocket-accept") != self._accept:
            self._refuse("expected the answer to this handshake, got another one")
            return len(data)
        self.subprotocol = fields.get("sec-websocket-protocol", "")
        self._is_open = True
        return end + self._read(data[end:])

    def _read(self, data: bytes) -> int:
        """Reads all complete frames; returns the position of the first incomplete one."""
        position, size = 0, len(data)
        while size - position >= 2:
            length = data[position + 1]
            start = position + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[position + 2 : start], "big")
            end = start + length
            if end > size:
                break
            self._take(data[position], data[start:end])
            position = end
        return position

    def _take(self, first: int, payload: bytes) -> None:
        """Handles one frame. The mask bit of a masked one makes its length too long: it is refused, or never completes."""
        opcode = first & 0x0F
        if first == FIN_TEXT:
            self.message_received(payload)
        elif opcode in (TEXT, CONTINUATION):
            self._join(first, payload)
        elif opcode == PING:
            self._write(PONG, payload)
        elif opcode == CLOSE:
            self._end(payload)
        elif opcode != PONG:
            self._refuse(f"expected text, got a frame of kind {opcode}")

    def _join(self, first: int, payload: bytes) -> None:
        if self._fragments is None:
            self._fragments = bytearray()
        self._fragments += payload
        self._limit(len(self._fragments))
        if first & 0x80:
            whole, self._fragments = bytes(self._fragments), None
            self.message_received(whole)

    def _end(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else NO_STATUS
        reason = payload[2:].decode(errors="replace")
        self.failed(f"closed by the server: {code} {reason}".rstrip())
        self._write(CLOSE, payload[:2])
        if self._transport is not None:
            self._transport.close()


def _frame_size(start: bytearray) -> int:
    """The size of the frame that begins so, or of its head if that is incomplete."""
    if len(start) < 2:
        return 2
    length, head = start[1], 2
    if length >= 126:
        head += 2 if length == 126 else 8
        if len(start) < head:
            return head
        length = int.from_bytes(start[2:head], "big")
    return head + length


async def connect(
    client: CableSocket, where: CableAddress, tls: ssl.SSLContext | None, source: str = ""
) -> None:
    """Opens a client's connection, from ``source`` if given. Raises OSError."""
    await asyncio.get_running_loop().create_connection(
        lambda: client,
        where.host,
        where.port,
        ssl=tls,
        local_addr=(source, 0) if source else None,
    )
