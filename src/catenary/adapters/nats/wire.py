"""The NATS client protocol: reads messages and lines from bytes of a server, and writes those of a client.

Source: "Client Protocol" of the NATS documentation (docs.nats.io), ADR-4 for headers.
Knows: bytes. Does not know: sockets, subjects' meaning.

A message with headers, sent and received, takes about 10 µs: a library with a coroutine and an object for each takes
several times as long.
"""

from collections.abc import Callable
from typing import Final

CRLF: Final = b"\r\n"
PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"
HEADERS: Final = b"NATS/1.0"

LONGEST_LINE: Final = 1024 * 1024
"""The INFO of a server lists its cluster; other lines are as long as one or two subjects."""

LARGEST_MESSAGE: Final = 64 * 1024 * 1024
"""The largest ``max_payload`` that a server can be configured with."""

MESSAGES_AT_ONCE: Final = 100
"""Messages that are handled in one turn of the event loop: about 1 ms. One read may bring twenty times as many."""

OnMessage = Callable[[int, bytes, bytes, bytes], None]
"""Receives a message: number of the subscription, subject, headers, payload."""

OnLine = Callable[[bytes, bytes], None]
"""Receives another line: the first word, and the rest."""


class WireError(Exception):
    """The bytes of a server break the protocol."""


class NatsReader:
    """Splits received bytes into messages and lines; incomplete ones wait.

    Call :meth:`feed` with received bytes, then :meth:`read`, in turns of the event loop, until it returns False.
    """

    __slots__ = ("_is_ready", "_on_line", "_on_message", "_parts", "_size", "_start", "_wanted")

    def __init__(self, on_message: OnMessage, on_line: OnLine) -> None:
        self._on_message = on_message
        self._on_line = on_line
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
        """Returns the end of the handled bytes. Notes whether there may be more messages, or how many bytes are wanted."""
        handled = 0
        while (end := data.find(CRLF, position)) >= 0:
            if handled == MESSAGES_AT_ONCE:
                self._is_ready = True
                return position
            handled += 1
            word, _, rest = data[position:end].partition(b" ")
            if word != b"MSG" and word != b"HMSG":
                self._on_line(word.upper(), rest)
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
            self._on_message(number, words[0], data[begin:middle], data[middle:stop])
            position = stop + 2
        if len(data) - position > LONGEST_LINE:
            raise WireError(f"expected a line of at most {LONGEST_LINE} bytes")
        return position


def publish(subject: str, payload: bytes, reply: str = "", headers: bytes = b"") -> bytes:
    """Writes a message; ``headers`` come from :func:`header`."""
    if headers:
        head = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(payload)}\r\n"
        return b"%b%b%b\r\n" % (head.encode(), headers, payload)
    return b"%b%b\r\n" % (f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload)


def header(name: str, value: object) -> bytes:
    """Writes headers of one line."""
    return f"NATS/1.0\r\n{name}: {value}\r\n\r\n".encode()


def subscribe(subject: str, number: int, queue: str = "") -> bytes:
    """Writes a subscription: messages on the subject come with its number.

    Each message goes to one of the subscriptions that name the same ``queue``.
    """
    group = f" {queue}" if queue else ""
    return f"SUB {subject}{group} {number}\r\n".encode()


def unsubscribe(number: int) -> bytes:
    """Writes the end of a subscription."""
    return b"UNSUB %d\r\n" % number


def value_of(headers: bytes, name: bytes) -> bytes | None:
    """Returns the value of the first header with a name, or None."""
    start = headers.find(b"\r\n%b: " % name)
    if start < 0:
        return None
    start += len(name) + 4
    return headers[start : headers.index(CRLF, start)]


def status_of(headers: bytes) -> int:
    """Returns the status at the beginning of headers, such as 503; 0 for those of a message."""
    status = headers[len(HEADERS) + 1 : len(HEADERS) + 4]
    return (
        int(status) if headers[len(HEADERS) : len(HEADERS) + 1] == b" " and status.isdigit() else 0
    )
