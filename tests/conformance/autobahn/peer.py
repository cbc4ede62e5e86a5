"""A client that sends the bytes of a case, and records the answers.

It shares no code with the server. Sources: RFC 6455, sections 4.1 and 5.2; RFC 7692, section 7.
"""

import contextlib
import select
import socket
import zlib
from collections.abc import Iterable
from random import Random
from types import TracebackType
from typing import Final, NamedTuple, Self

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

DEADLINE_S: Final = 10.0
STEP: Final = 256
_KINDS: Final = {TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}
_XOR: Final = [bytes(byte ^ key for byte in range(256)) for key in range(256)]
_masks = Random(6455)


class Heard(NamedTuple):
    """A message, a control frame, or the ``end`` of the connection."""

    kind: str
    payload: bytes = b""

    @property
    def code(self) -> int:
        """Of a close frame; 1005 where it has none."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005

    def __str__(self) -> str:
        return f"{self.kind} of {len(self.payload)} bytes: {self.payload[:40]!r}"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A masked frame; ``rsv`` is a number of three bits."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    mask = _masks.randbytes(4)
    body = bytearray(payload)
    for lane in range(4):
        body[lane::4] = payload[lane::4].translate(_XOR[mask[lane]])
    return bytes(((0x80 if fin else 0) | rsv << 4 | opcode,)) + length + mask + bytes(body)


def fragments(opcode: int, payload: bytes, size: int, *, rsv: int = 0) -> list[bytes]:
    """A message in frames of so many bytes each."""
    pieces = chopped(payload, size) or [b""]
    last = len(pieces) - 1
    return [
        frame(CONTINUATION if at else opcode, piece, fin=at == last, rsv=0 if at else rsv)
        for at, piece in enumerate(pieces)
    ]


def chopped(data: bytes, size: int) -> list[bytes]:
    """Pieces of so many bytes, to be sent one by one."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def inflated_by_steps(inflater: "zlib._Decompress", packed: bytes) -> bytes:
    """As it comes out of zlib when no step is longer than the smallest window.

    Within a step, zlib does not see to it that nothing refers to what is farther back.
    """
    pieces = []
    while piece := inflater.decompress(packed, STEP):
        pieces.append(piece)
        packed = inflater.unconsumed_tail
    return b"".join(pieces)


class Compression:
    """Both directions of the negotiated extension (RFC 7692, section 7.1)."""

    def __init__(self, parameters: dict[str, str]) -> None:
        self.parameters = parameters
        self._deflater = self._new_deflater()
        self._inflater = self._new_inflater()

    def _new_deflater(self) -> "zlib._Compress":
        return zlib.compressobj(wbits=-int(self.parameters.get("client_max_window_bits", 15)))

    def _new_inflater(self) -> "zlib._Decompress":
        # No larger window than the server promised to do with.
        return zlib.decompressobj(-int(self.parameters.get("server_max_window_bits", 15)))

    def pack(self, payload: bytes) -> bytes:
        """One message; the next may refer to it, unless it was agreed that it does not."""
        packed = self._deflater.compress(payload) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        if "client_no_context_takeover" in self.parameters:
            self._deflater = self._new_deflater()
        return packed[:-4]

    def unpack(self, packed: bytes) -> bytes:
        """The same from the server."""
        payload = inflated_by_steps(self._inflater, packed + b"\x00\x00\xff\xff")
        if "server_no_context_takeover" in self.parameters:
            self._inflater = self._new_inflater()
        return payload


class Peer:
    """A connection whose handshake is done. Waits end with TimeoutError."""

    def __init__(self, port: int, path: str = "/cable", offer: str = "") -> None:
        self.compression: Compression | None = None
        self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = self._socket.makefile("rb", 262_144)
        self._shake_hands(path, offer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._read.close()
        self._socket.close()

    def _shake_hands(self, path: str, offer: str) -> None:
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: test",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]
        if offer:
            lines.append(f"Sec-WebSocket-Extensions: {offer}")
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = self._read.readline()
        assert status.startswith(b"HTTP/1.1 101 "), status
        while line := self._read.readline().strip().decode():
            name, _, value = line.partition(": ")
            if name == "Sec-WebSocket-Extensions":
                self.compression = Compression(_parameters(value))

    def send(self, pieces: Iterable[bytes]) -> None:
        """Each in a packet of its own, as far as the kernel lets us decide."""
        for piece in pieces:
            self._socket.sendall(piece)

    def is_left_alone(self, seconds: float) -> bool:
        """Nothing arrives for this long. Everything that arrived before must have been read."""
        return not select.select([self._socket], [], [], seconds)[0]

    def hear(self) -> Heard:
        """The next message, control frame, or the end."""
        opener, payload = self._frame()
        if opener == 0 or opener & 0x08:
            return Heard(_KINDS.get(opener & 0x0F, "end"), payload)
        first = opener
        while not first & 0x80:
            first, more = self._frame()
            assert first & 0x7F == CONTINUATION, f"expected a continuation, got {first:#x}"
            payload += more
        if opener & 0x40:
            assert self.compression is not None, "compressed, and that was not agreed on"
            payload = self.compression.unpack(payload)
        assert not opener & 0x30, "a reserved bit is set"
        return Heard(_KINDS[opener & 0x0F], payload)

    def _frame(self) -> tuple[int, bytes]:
        """First byte and payload; 0 at the end of the connection."""
        with contextlib.suppress(ConnectionResetError):
            head = self._read.read(2)
            if len(head) == 2:
                size = head[1]
                assert not size & 0x80, "a server masks nothing"
                if size >= 126:
                    size = int.from_bytes(self._read.read(2 if size == 126 else 8), "big")
                return head[0], self._read.read(size)
        return 0, b""


def _parameters(answer: str) -> dict[str, str]:
    name, *parameters = (part.strip() for part in answer.split(";"))
    assert name == "permessage-deflate", answer
    return {key: value for key, _, value in (each.partition("=") for each in parameters)}
