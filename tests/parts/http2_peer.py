"""An HTTP/2 server that sends any frames that a test chooses, valid or not.

Frames are written here and header blocks by the library ``hpack``: nothing of ours takes part.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hpack

from catenary.protocols import rpc_pb2

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4

PREFACE_BYTES = 24
WELCOME = rpc_pb2.ConnectionResponse(status=rpc_pb2.SUCCESS, identifiers="jack").SerializeToString()


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBL", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join(struct.pack(">HL", *pair) for pair in pairs))


def goodbye(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">LL", last, code) + debug)


def reset(stream: int, code: int) -> bytes:
    return frame(RST, 0, stream, struct.pack(">L", code))


def message(payload: bytes = WELCOME) -> bytes:
    return b"\0" + len(payload).to_bytes(4, "big") + payload


@dataclass
class Request:
    """A whole request."""

    stream: int
    fields: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """One connection, seen from the server's end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    """0 for the first connection of a server, and so on."""
    heard: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    """Frames that are no part of a request, and resets."""
    _encoder: hpack.Encoder = field(default_factory=hpack.Encoder)
    _decoder: hpack.Decoder = field(default_factory=hpack.Decoder)
    _begun: dict[int, Request] = field(default_factory=dict)

    async def shake(self, *pairs: tuple[int, int]) -> None:
        """Sends and receives the preface and settings."""
        await self.reader.readexactly(PREFACE_BYTES)
        self.send(settings(*pairs))

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def request(self) -> Request:
        """The next request that is complete."""
        while True:
            kind, flags, stream, payload = await self.frame()
            if kind == HEADERS:
                fields = self._decoder.decode(payload, raw=True)
                block = {name.decode(): value.decode() for name, value in fields}
                self._begun[stream] = Request(stream, block, b"")
            elif kind == DATA:
                self._begun[stream].body += payload
            else:
                self.heard.append((kind, flags, stream, payload))
                continue
            if flags & END_STREAM:
                return self._begun.pop(stream)

    async def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame."""
        head = await self.reader.readexactly(9)
        kind, flags, stream = struct.unpack_from(">BBL", head, 3)
        size = int.from_bytes(head[:3], "big")
        return kind, flags, stream, await self.reader.readexactly(size)

    async def until(self, kind: int) -> tuple[int, int, int, bytes]:
        """The next frame of a type; others are passed over."""
        while True:
            found = await self.frame()
            if found[0] == kind:
                return found

    def headers(self, stream: int, *fields: tuple[str, str], end: bool = False) -> bytes:
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream, self._encoder.encode(fields))

    def head(self, stream: int) -> bytes:
        return self.headers(stream, (":status", "200"), ("content-type", "application/grpc"))

    def answer(self, stream: int, body: bytes | None = None) -> None:
        """The usual answer."""
        self.send(
            self.head(stream),
            frame(DATA, 0, stream, message() if body is None else body),
            self.headers(stream, ("grpc-status", "0"), end=True),
        )

    async def serve(self) -> None:
        """Answers until the connection ends."""
        while True:
            self.answer((await self.request()).stream)


@asynccontextmanager
async def http2_server(behave: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[str]:
    """A server whose connections behave; gives its address. A connection ends with its behaviour."""
    tasks: set[asyncio.Task[None]] = set()
    count = 0

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        peer = Peer(reader, writer, count)
        count += 1
        try:
            await behave(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed first
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                pass

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(carry(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            if not task.done():
                task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
