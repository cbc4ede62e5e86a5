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

MESSAGES_AT_ONCE: Final = 100
"""What is handled in one turn of the event loop: about 1 ms. One read may bring twenty times as many."""

Take = Callable[[int, bytes, bytes, bytes], None]
"""Takes a message: number of the subscription, subject, headers, payload."""

Hear = Callable[[bytes, bytes], None]
"""Takes another line: the first word, and the rest."""


class WireError(Exception):
    """A server sent something else than the protocol."""


class Reader:
    """Cuts what a server sends into messages and lines; what is not complete yet waits.

    Call :meth:`feed` with what was received, then :meth:`read`, in turns of the event loop, until it returns False.
    """

    __slots__ = ("_hear", "_is_ready", "_parts", "_size", "_start", "_take", "_wanted")

    def __init__(self, take: Take, hear: Hear) -> None:
        self._take = take
        self._hear = hear
        self._parts: list[bytes] = []
        self._start = 0
        self._size = 0
        self._wanted = 0
        self._is_ready = False

    def feed(self, data: bytes) -> None:
        """Adds received bytes."""
        is_first = not self._parts
        self._parts.append(data)
        self._size += len(data)
        if self._wanted:
            self._is_ready = self._size >= self._wanted
        elif is_first or b"\n" in data or self._size > LONGEST_LINE:
            # Otherwise everything that waits is still a part of one line.
            self._is_ready = True

    def read(self) -> bool:
        """Handles up to :data:`MESSAGES_AT_ONCE` messages and lines; True where there may be more of them.

        Raises :class:`WireError`.
        """
        if not self._is_ready:
            return False
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._wanted = 0
        self._is_ready = False
        position = self._read(data, self._start)
        self._size = len(data) - position
        if self._is_ready:
            # Not copied: there may be many shares in it.
            self._parts.append(data)
            self._start = position
            return True
        self._start = 0
        if self._size:
            self._parts.append(data[position:])
        return False

    def _read(self, data: bytes, position: int) -> int:
        """Returns the end of what was handled. Notes whether there may be more, or how many bytes are wanted."""
        handled = 0
        while (end := data.find(CRLF, position)) >= 0:
            if handled == MESSAGES_AT_ONCE:
                self._is_ready = True
                return position
            handled += 1
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
