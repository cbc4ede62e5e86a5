"""The bodies of HTTP/1.1 requests: with a Content-Length, or in chunks.

Source: RFC 9112, sections 6 and 7.1. Knows: where a body ends. Does not know: limits of its size, what it means.
"""

import enum
import re
from typing import Final, Protocol

from catenary.errors import RequestRefused
from catenary.wire.http1 import RequestHead

MAX_LINE_BYTES: Final = 1024
"""Limit of the line with the size of a chunk, and of all trailer fields together."""

MAX_SMALL_CHUNKS: Final = 512
"""Limit of the chunks of one body, besides one for each :data:`CHUNK_BYTES` of it. Reading a chunk takes 1 µs, whatever its
size, and a single read of a socket contains 40,000 of one byte: without this limit, it would delay every other client."""

CHUNK_BYTES: Final = 128

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]{,64}(?:;[^\r\n]{,512})?\r\n")


class BodyReader(Protocol):
    """Finds the end of one body."""

    is_complete: bool
    """Whether the end was received."""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Returns the next part of the body, and the bytes that follow its end. Raises :class:`RequestRefused`."""
        ...


class SizedBody:
    """A body of a known size in bytes. Satisfies :class:`BodyReader`."""

    __slots__ = ("is_complete", "missing")

    def __init__(self, size: int) -> None:
        self.missing = size
        self.is_complete = size == 0

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        part, rest = data[: self.missing], data[self.missing :]
        self.missing -= len(part)
        self.is_complete = self.missing == 0
        return part, rest


class UnframedBody:
    """A body whose end is reported by the ASGI server that has read it. Satisfies :class:`BodyReader`."""

    __slots__ = ("is_complete",)

    def __init__(self) -> None:
        self.is_complete = False

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""


class _Part(enum.Enum):
    """The part of a chunked body that is expected next."""

    SIZE = enum.auto()
    DATA = enum.auto()
    END_OF_DATA = enum.auto()
    TRAILER = enum.auto()


class ChunkedBody:
    """A body in chunks. Extensions of chunks and trailer fields are ignored. Satisfies :class:`BodyReader`."""

    __slots__ = ("_bytes", "_chunks", "_held", "_missing", "_next", "_trailer_bytes", "is_complete")

    def __init__(self) -> None:
        self._next = _Part.SIZE
        # The beginning of an incomplete line
        self._held = b""
        # Bytes until the end of the chunk
        self._missing = 0
        self._trailer_bytes = 0
        # The chunks so far, and their bytes
        self._chunks = self._bytes = 0
        self.is_complete = False

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Raises :class:`RequestRefused`: 400 for a malformed body, 413 for too many small chunks."""
        if self._held:
            data, self._held = self._held + data, b""
        parts: list[bytes] = []
        at = 0
        while at < len(data) and not self.is_complete:
            if self._next is _Part.SIZE:
                # The usual case: a whole chunk
                match = _SIZE.match(data, at)
                if match is not None:
                    begin = match.end()
                    end = begin + int(match.group(1), 16)
                    if end > begin and data[end : end + 2] == b"\r\n":
                        self._count(end - begin)
                        parts.append(data[begin:end])
                        at = end + 2
                        continue
            if self._next is _Part.DATA:
                part = data[at : at + self._missing]
                parts.append(part)
                at += len(part)
                self._missing -= len(part)
                if not self._missing:
                    self._next = _Part.END_OF_DATA
                continue
            end = data.find(b"\n", at, at + MAX_LINE_BYTES) + 1
            if not end:
                self._held = data[at:]
                if len(self._held) >= MAX_LINE_BYTES:
                    raise _malformed("shorter lines")
                return b"".join(parts), b""
            self._read_line(data[at:end])
            at = end
        return b"".join(parts), data[at:]

    def _read_line(self, line: bytes) -> None:
        if self._next is _Part.SIZE:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise _malformed("the size of a chunk")
            self._missing = int(match.group(1), 16)
            self._count(self._missing)
            self._next = _Part.DATA if self._missing else _Part.TRAILER
        elif self._next is _Part.END_OF_DATA:
            if line != b"\r\n":
                raise _malformed("the end of a chunk")
            self._next = _Part.SIZE
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_LINE_BYTES:
                raise _malformed("fewer trailer fields")
            self.is_complete = line == b"\r\n"

    def _count(self, size: int) -> None:
        """Counts a chunk of ``size`` bytes. Raises :class:`RequestRefused` with 413 for too many small chunks."""
        self._chunks += 1
        self._bytes += size
        if self._chunks > MAX_SMALL_CHUNKS + self._bytes // CHUNK_BYTES:
            text = f"expected up to {MAX_SMALL_CHUNKS} chunks, and one for each {CHUNK_BYTES} bytes"
            raise RequestRefused(413, text)


def _malformed(expected: str) -> RequestRefused:
    return RequestRefused(400, f"expected {expected} in a chunked body")


def body_of(request: RequestHead, limit: int) -> SizedBody | ChunkedBody:
    """The reader of a request's body. Raises :class:`RequestRefused`: 413 for a size beyond the limit in bytes, 501 for an
    unknown transfer coding, 400 for a size that is not a number or not the only one."""
    coding, length = (
        request.headers.get("transfer-encoding"),
        request.headers.get("content-length"),
    )
    if coding is not None:
        if coding.lower() != "chunked":
            raise RequestRefused(501, "expected no Transfer-Encoding but chunked")
        if length is not None or request.is_http_1_0:
            # Section 6.1: a proxy may have found another end of this request.
            raise RequestRefused(
                400, "expected either Content-Length or a chunked body of HTTP/1.1"
            )
        return ChunkedBody()
    return SizedBody(_size(length or "0", limit))


def _size(length: str, limit: int) -> int:
    if not length.isascii() or not length.isdecimal():
        raise RequestRefused(400, "expected a number in Content-Length")
    if len(length) > 18 or int(length) > limit:
        raise RequestRefused(413, f"expected a body of up to {limit} bytes")
    return int(length)
