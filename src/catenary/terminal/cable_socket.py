"""A client's WebSocket (RFC 6455): the opening handshake, and frames both ways.

As little work for each frame as Python allows: thousands of these live in one process. Nothing is
compressed. Knows: bytes, URLs. Does not know: Action Cable.
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
"""The first byte of a text in one piece, which is what servers send."""

_MAX_BYTES: Final = 64 * 1024 * 1024
"""A longer message breaks the connection."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cable is; ``target`` is the path with its query."""

    host: str
    port: int
    authority: str
    target: str
    is_secure: bool

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What ``create_connection`` takes as ``ssl``; certificates are checked."""
        return ssl.create_default_context() if self.is_secure else None


def address(url: str) -> Address:
    """Takes a URL apart: ``ws://``, ``wss://``, ``http://`` or ``https://``.

    Raises :class:`catenary.errors.ConfigError`.
    """
    try:
        found = http_url(url, WEBSOCKET) if url.isascii() else None
    except ValueError:
        found = None
    if found is None:
        raise ConfigError(f"expected a URL such as ws://localhost:8080/cable, got {url!r}")
    return Address(
        host=found.host,
        port=found.port,
        authority=found.authority,
        target=found.target,
        is_secure=found.is_encrypted,
    )


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for when it connects."""

    address: Address
    subprotocols: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()

    def request(self, key: str, extra_query: str = "") -> bytes:
        """The request (section 4.1)."""
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
            f"Sec-WebSocket-Protocol: {', '.join(self.subprotocols)}",
            *(f"{name}: {value}" for name, value in self.headers),
        )
        return key_bytes("\r\n".join(lines) + "\r\n\r\n")


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame, masked as section 5.3 wants it."""
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
    """One client; after its connection is lost it may be used for the next one."""

    __slots__ = (
        "_accept",
        "_fragments",
        "_is_open",
        "_opening",
        "_rest",
        "_transport",
        "subprotocol",
    )

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._is_open = False
        self._accept = ""
        self._fragments: bytearray | None = None
        self.subprotocol = ""
        """What the server has chosen."""

    # What others add

    def query(self) -> str:
        """What the URL says beyond its own query."""
        return ""

    def heard(self, payload: bytes) -> None:
        """A text has arrived."""
        raise NotImplementedError

    def refused(self, reason: str) -> None:
        """The server has not let this client in, or breaks the protocol: the connection ends."""
        raise NotImplementedError

    # What may be done with it

    def say(self, payload: bytes) -> None:
        """Sends a text; into the void where there is no connection."""
        if self._transport is not None:
            self._transport.write(frame(TEXT, payload))

    def cut(self) -> None:
        """Breaks the connection, without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Says goodbye."""
        if self._transport is not None:
            self._transport.write(frame(CLOSE, (1000).to_bytes(2, "big")))
            self._transport.close()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._rest, self._is_open, self._fragments = b"", False, None
        key = base64.b64encode(os.urandom(16)).decode()
        self._accept = accept_value(key)
        self._transport.write(self._opening.request(key, self.query()))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        done = self._read(data) if self._is_open else self._shake_hands(data)
        self._rest = data[done:]
        if len(self._rest) > _MAX_BYTES:
            self._refuse(f"expected messages of up to {_MAX_BYTES} bytes, got more")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    # What arrives

    def _refuse(self, reason: str) -> None:
        self.refused(reason)
        self.cut()

    def _shake_hands(self, data: bytes) -> int:
        """Takes the answer to the opening handshake, and what came in the same segment."""
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
        """Takes all whole frames; returns where the first one begins that is not."""
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
        """One frame. A masked one has its length's highest bit set, and never ends."""
        opcode = first & 0x0F
        if first == FIN_TEXT:
            self.heard(payload)
        elif opcode in (TEXT, CONTINUATION):
            self._join(first, payload)
        elif opcode == PING:
            assert self._transport is not None
            self._transport.write(frame(PONG, payload))
        elif opcode == CLOSE:
            self._end(payload)
        elif opcode != PONG:
            self._refuse(f"expected text, got a frame of kind {opcode}")

    def _join(self, first: int, payload: bytes) -> None:
        if self._fragments is None:
            self._fragments = bytearray()
        self._fragments += payload
        if first & 0x80:
            whole, self._fragments = bytes(self._fragments), None
            self.heard(whole)

    def _end(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else NO_STATUS
        reason = payload[2:].decode(errors="replace")
        self.refused(f"closed by the server: {code} {reason}".rstrip())
        assert self._transport is not None
        self._transport.write(frame(CLOSE, payload[:2]))
        self._transport.close()


async def connect(
    client: CableSocket, where: Address, tls: ssl.SSLContext | None, source: str = ""
) -> None:
    """Opens a client's connection, from a source address where one is given. Raises OSError."""
    await asyncio.get_running_loop().create_connection(
        lambda: client,
        where.host,
        where.port,
        ssl=tls,
        local_addr=(source, 0) if source else None,
    )
