"""Server-sent events on an HTTP connection: the head of the response, and two framings of events.

Source: HTML Living Standard, section 9.2 (server-sent events); RFC 9112, section 7.1 (chunked). Knows: the grammar of
events and chunks. Does not know: the meaning of events, sockets.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from catenary.wire.framing import Framing

_END_OF_EVENT: Final = b"\n\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"

NO_BUFFERING: Final = (
    ("Cache-Control", "private, no-cache, no-store, must-revalidate, max-age=0"),
    ("X-Content-Type-Options", "nosniff"),
    # Disables buffering in nginx.
    ("X-Accel-Buffering", "no"),
)
"""Headers that let events pass proxies and caches at once."""

HEADERS: Final = (("Content-Type", "text/event-stream; charset=utf-8"), *NO_BUFFERING)


class EventFraming:
    """The framing of events in one version of HTTP; ``end`` ends the response."""

    __slots__ = ("end", "framing")

    def __init__(self, framing: Framing, end: bytes) -> None:
        self.framing = framing
        self.end = end


def _event(payload: bytes) -> bytes:
    return payload + _END_OF_EVENT


def _event_pieces(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield _END_OF_EVENT


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event_chunk(payload: bytes) -> bytes:
    return _chunk(payload + _END_OF_EVENT)


def _event_chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    # An empty chunk would end the response.
    return (_chunk(piece) if piece else b"" for piece in _event_pieces(pieces))


UNTIL_CLOSED: Final = EventFraming(Framing(_event, _event_pieces), b"")
"""HTTP/1.0: the response ends with the connection."""

CHUNKED: Final = EventFraming(Framing(_event_chunk, _event_chunks), _LAST_CHUNK)
"""HTTP/1.1: each event is a chunk."""


def response_head(framing: EventFraming, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a response whose events follow, with :data:`HEADERS`. The connection is closed after it."""
    return plain_head(framing, (*HEADERS, *headers))


def plain_head(framing: EventFraming, headers: Iterable[tuple[str, str]]) -> bytes:
    """:func:`response_head` with the given headers only."""
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers)]
    if framing is CHUNKED:
        lines.append("Transfer-Encoding: chunked")
    lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
