"""What publishers send: a message for a stream, a batch of them, or a remote command.

One parser for every way in (HTTP, Redis, …) and for what nodes send to each other.
Source: docs/broadcasting.md, "Publication format" (anycable/anycable).
"""

from collections.abc import Generator
from typing import Final

import msgspec

from catenary.errors import PublicationError
from catenary.messages.lenient_json import JSON_ERRORS, reader
from catenary.messages.names import Sid, Stream

BATCH_LIMIT: Final = 10_000
"""Messages in one batch, which Redis keeps in one step: some 0.2 s, in which it does nothing else."""


STEP_MESSAGES: Final = 100
"""Messages of a large batch that are read in one step: 0.1 to 0.3 ms."""


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a message stands in the history of its stream.

    Offsets of one epoch grow: by one in memory and on Redis, by any number on NATS, where all
    streams are counted together. Another epoch is another history, and nothing is known of how the
    two meet (a memory that was lost begins a new one).
    """

    epoch: str
    offset: int

    @property
    def text(self) -> str:
        """``OFFSET:EPOCH``, as applications name it."""
        return f"{self.offset}:{self.epoch}"


def position_of(text: str) -> Position:
    """Reads ``OFFSET:EPOCH``. Raises ValueError with what was expected."""
    offset, colon, epoch = text.partition(":")
    if not colon or not epoch or not offset.isascii() or not offset.isdecimal() or len(offset) > 18:
        raise ValueError(f"expected OFFSET:EPOCH, got {text[:40]!r}")
    return Position(epoch, int(offset))


def is_later(position: Position | None, other: Position | None) -> bool:
    """Does a message come after another one on its stream?

    What has no position is not kept, and comes when it comes. Another epoch is another history,
    which begins anew.
    """
    if position is None or other is None or position.epoch != other.epoch:
        return True
    return position.offset > other.offset


class Publication(msgspec.Struct, frozen=True, gc=False):
    """A message for everybody who listens to a stream.

    ``data`` is JSON text; text that is no JSON reaches clients as a string. ``exclude_socket`` is
    a session that must not get it. ``kind`` becomes the ``type`` of what clients receive.
    ``transient`` messages are not kept in the history, and have no ``position``.
    """

    stream: Stream
    data: str
    exclude_socket: Sid | None = None
    kind: str = ""
    transient: bool = False
    position: Position | None = None


class Page(msgspec.Struct, frozen=True, gc=False):
    """A part of a stream's history, the oldest first; ``more`` is to be had behind the last."""

    messages: tuple[Publication, ...]
    more: bool = False


class RemoteDisconnect(msgspec.Struct, frozen=True, gc=False):
    """Ends every session that has these identifiers."""

    identifiers: str
    reconnect: bool


Publishable = Publication | RemoteDisconnect


class QueueEntry(msgspec.Struct, frozen=True, gc=False):
    """The entry of a queue that holds a publication until it has been published.

    ``consumer`` of ``group`` has read it, and has to acknowledge it. Its ``id`` is unique in its
    queue: an engine that gets the same entry again publishes it once, where it can tell.
    """

    queue: str
    group: str
    consumer: str
    id: str


class _Meta(msgspec.Struct, gc=False):
    exclude_socket: Sid | None = None
    broadcast_type: str | None = None
    transient: bool | None = False


class _Message(msgspec.Struct, gc=False):
    stream: Stream
    data: str
    meta: _Meta | None = None


class _DisconnectPayload(msgspec.Struct, gc=False):
    identifier: str
    reconnect: bool = False


class _Command(msgspec.Struct, gc=False):
    command: str
    payload: msgspec.Raw = msgspec.Raw(b"null")


class _Shape(msgspec.Struct, gc=False):
    command: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_usual = msgspec.json.Decoder(_Message).decode
_read_message = reader(_Message)
_read_batch = reader(list[_Message])
_read_command = reader(_Command)
_read_disconnect = reader(_DisconnectPayload)
_read_shape = reader(_Shape)


def parse(raw: bytes | str) -> tuple[Publishable, ...]:
    """Reads what one publisher sent in one piece.

    Raises :class:`PublicationError` with what was expected. A batch is taken whole or not at all.
    """
    try:
        return (_publication(_read_usual(raw)),)
    except JSON_ERRORS:
        return _parse_other(raw)


def parse_in_steps(raw: bytes) -> Generator[int, None, tuple[Publishable, ...]]:
    """The same as :func:`parse`, a batch in steps. Each step yields how many bytes of messages it has read; the
    generator returns the result, and raises as :func:`parse` does."""
    try:
        pieces = _split(raw)
    except JSON_ERRORS:
        return parse(raw)
    _check_length(len(pieces))
    publications: list[Publication] = []
    for start in range(0, len(pieces), STEP_MESSAGES):
        step = pieces[start : start + STEP_MESSAGES]
        size = 0
        for piece in map(bytes, step):
            size += len(piece)
            publications.append(_publication(_read_one(piece, len(publications))))
        yield size
    return tuple(publications)


def _read_one(piece: bytes, index: int) -> _Message:
    try:
        return _read_usual(piece)
    except JSON_ERRORS:
        pass
    try:
        return _read_message(piece)
    except msgspec.DecodeError as error:
        raise PublicationError(
            f"expected {{stream, data}} in a batch, got message {index + 1}: {error}"
        ) from error


def _check_length(number: int) -> None:
    if number > BATCH_LIMIT:
        raise PublicationError(f"expected up to {BATCH_LIMIT} messages in a batch, got {number}")


def _parse_other(raw: bytes | str) -> tuple[Publishable, ...]:
    """Everything but the common case. Which shape was meant decides which error is reported."""
    try:
        if raw.lstrip()[:1] in ("[", b"["):
            batch = _read_batch(raw)
            _check_length(len(batch))
            return tuple(map(_publication, batch))
        if _read_shape(raw).command is not msgspec.UNSET:
            return (_command(_read_command(raw)),)
        return (_publication(_read_message(raw)),)
    except msgspec.DecodeError as error:
        raise PublicationError(
            f"expected {{stream, data}}, a list of those, or {{command, payload}}: {error}"
        ) from error


def _publication(message: _Message) -> Publication:
    if not message.stream:
        raise PublicationError("expected a stream, got an empty one")
    if message.meta is None:
        return Publication(message.stream, message.data)
    meta = message.meta
    return Publication(
        message.stream,
        message.data,
        meta.exclude_socket or None,
        meta.broadcast_type or "",
        bool(meta.transient),
    )


def _command(command: _Command) -> RemoteDisconnect:
    if command.command != "disconnect":
        raise PublicationError(f"expected the command 'disconnect', got {command.command!r}")
    payload = _read_disconnect(bytes(command.payload))
    return RemoteDisconnect(payload.identifier, payload.reconnect)
