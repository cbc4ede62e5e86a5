"""The NATS client protocol: bytes of a server → messages, and what a client sends.

Source: "Client Protocol" of the NATS documentation (docs.nats.io), ADR-4 for headers.
Knows: bytes. Does not know: sockets, subjects' meaning.

A message with headers, sent and received, takes about 10 µs: a client library that has a coroutine
and an object for each takes several times as long.
"""

from collections.abc import Callable
from typing import Final

CRLF: Final = b"\r\n"
PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"
HEADERS: Final = b"NATS/1.0"

LONGEST_LINE: Final = 1024 * 1024
"""A server's INFO names its whole cluster; no other line is longer than a subject or two."""

LARGEST_MESSAGE: Final = 64 * 1024 * 1024
"""What a server can be made to accept at most (``max_payload``)."""

Take = Callable[[int, bytes, bytes, bytes], None]
"""Takes a message: number of the subscription, subject, headers, payload."""

Hear = Callable[[bytes, bytes], None]
"""Takes another line: the first word, and the rest."""


class WireError(Exception):
    """A server sent something else than the protocol."""


class Reader:
    """Cuts what a server sends into messages and lines; whatever is not whole yet waits."""

    __slots__ = ("_hear", "_parts", "_size", "_take", "_wanted")

    def __init__(self, take: Take, hear: Hear) -> None:
        self._take = take
        self._hear = hear
        self._parts: list[bytes] = []
        self._size = 0
        self._wanted = 0

    def feed(self, data: bytes) -> None:
        """Takes bytes as they come. Raises :class:`WireError`."""
        if self._parts:
            self._parts.append(data)
            self._size += len(data)
            if self._size < self._wanted or self._is_midway(data):
                return
            data = b"".join(self._parts)
            self._parts.clear()
        position = self._read(data)
        if position < len(data):
            rest = data[position:]
            self._parts.append(rest)
            self._size = len(rest)

    def _is_midway(self, data: bytes) -> bool:
        """Is all that waits still a part of one line, which is not too long?"""
        return self._wanted == 0 and b"\n" not in data and self._size <= LONGEST_LINE

    def _read(self, data: bytes) -> int:
        """Returns where the first message or line begins that is not whole."""
        position = 0
        while (end := data.find(CRLF, position)) >= 0:
            word, _, rest = data[position:end].partition(b" ")
            if word != b"MSG" and word != b"HMSG":
                self._hear(word.upper(), rest)
                position = end + 2
                continue
            words = rest.split(b" ")
            try:
                number, size = int(words[1]), int(words[-1])
                headers_size = int(words[-2]) if word == b"HMSG" else 0
            except (ValueError, IndexError) as error:
                raise WireError(f"expected a message, got {rest[:80]!r}") from error
            if not 0 <= headers_size <= size <= LARGEST_MESSAGE:
                raise WireError(f"expected a message of at most {LARGEST_MESSAGE} bytes")
            begin = end + 2
            stop = begin + size
            if len(data) < stop + 2:
                self._wanted = stop + 2 - position
                return position
            middle = begin + headers_size
            self._take(number, words[0], data[begin:middle], data[middle:stop])
            position = stop + 2
        if len(data) - position > LONGEST_LINE:
            raise WireError(f"expected a line of at most {LONGEST_LINE} bytes")
        self._wanted = 0
        return position


def publish(subject: str, payload: bytes, reply: str = "", headers: bytes = b"") -> bytes:
    """A message; ``headers`` as from :func:`header`."""
    if headers:
        head = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(payload)}\r\n"
        return b"%b%b%b\r\n" % (head.encode(), headers, payload)
    return b"%b%b\r\n" % (f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload)


def header(name: str, value: object) -> bytes:
    """Headers of one line."""
    return f"NATS/1.0\r\n{name}: {value}\r\n\r\n".encode()


def subscribe(subject: str, number: int, queue: str = "") -> bytes:
    """From now on messages on the subject come with this number.

    Of all subscriptions that name the same ``queue`` one gets each of them.
    """
    group = f" {queue}" if queue else ""
    return f"SUB {subject}{group} {number}\r\n".encode()


def unsubscribe(number: int) -> bytes:
    """No more of them."""
    return b"UNSUB %d\r\n" % number


def value_of(headers: bytes, name: bytes) -> bytes | None:
    """The value of the first header with a name; None where there is none."""
    start = headers.find(b"\r\n%b: " % name)
    if start < 0:
        return None
    start += len(name) + 4
    return headers[start : headers.index(CRLF, start)]


def status_of(headers: bytes) -> int:
    """The status that headers begin with, such as 503; 0 for those of a message."""
    status = headers[len(HEADERS) + 1 : len(HEADERS) + 4]
    return (
        int(status) if headers[len(HEADERS) : len(HEADERS) + 1] == b" " and status.isdigit() else 0
    )
