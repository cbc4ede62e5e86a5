"""Publications: a message for a stream, a batch of messages, or a remote disconnect.

One parser serves all sources (HTTP, Redis, NATS).
Source: docs/broadcasting.md, "Publication format" (anycable/anycable).
"""

from collections.abc import Generator
from typing import Final

import msgspec

from catenary.errors import PublicationError
from catenary.messages import trace_context
from catenary.messages.lenient_json import JSON_ERRORS, reader
from catenary.messages.names import Sid, Stream

BATCH_LIMIT: Final = 10_000
"""Messages in one batch. Redis stores a batch in one step, which takes about 0.2 s and blocks everything else."""


STEP_MESSAGES: Final = 100
"""Messages of a large batch that are read in one step: 0.1 to 0.3 ms."""


class Position(msgspec.Struct, frozen=True, gc=False):
    """The position of a message in the history of its stream.

    Offsets of one epoch grow: by one in memory and on Redis, by any number on NATS, where all streams share one
    sequence. Each epoch is a history of its own (a broker that lost its memory begins a new one); positions of
    different epochs can't be compared.
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
    """Whether the message at ``position`` is to be delivered after the one at ``other``, on the same stream.

    True if either has no position, since such messages are not stored, and for positions of different epochs.
    """
    if position is None or other is None or position.epoch != other.epoch:
        return True
    return position.offset > other.offset


class Publication(msgspec.Struct, frozen=True, gc=False):
    """A message for the subscribers of a stream.

    ``data`` is JSON text; other text is delivered as a JSON string. The session ``exclude_socket`` does not
    receive it. ``kind`` is the ``type`` of the message that clients receive. ``transient`` messages are not stored in the
    history and have no ``position``. ``trace`` is the span to which its deliveries belong, as
    :attr:`catenary.messages.trace_context.TraceContext.text`; empty: none.
    """

    stream: Stream
    data: str
    exclude_socket: Sid | None = None
    kind: str = ""
    transient: bool = False
    position: Position | None = None
    trace: str = ""


class Page(msgspec.Struct, frozen=True, gc=False):
    """A part of a stream's history, oldest first; ``more`` says whether there are messages after it."""

    messages: tuple[Publication, ...]
    more: bool = False


class RemoteDisconnect(msgspec.Struct, frozen=True, gc=False):
    """Ends every session that has these identifiers."""

    identifiers: str
    reconnect: bool


Publishable = Publication | RemoteDisconnect


class QueueEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a queue, which holds a publication until it has been published.

    The ``consumer`` of the ``group`` has read it and must acknowledge it. Its ``id`` is unique in its queue, so that an
    engine that receives an entry again can publish it once.
    """

    queue: str
    group: str
    consumer: str
    id: str


class _Meta(msgspec.Struct, gc=False):
    exclude_socket: Sid | None = None
    broadcast_type: str | None = None
    transient: bool | None = False
    traceparent: str | None = None
    tracestate: str | None = None


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
    """Reads one request or message of a publisher.

    Raises :class:`PublicationError`, which says what was expected. A batch is accepted as a whole or not at all.
    """
    try:
        return (_publication(_read_usual(raw)),)
    except JSON_ERRORS:
        return _parse_other(raw)


def parse_in_steps(raw: bytes) -> Generator[int, None, tuple[Publishable, ...]]:
    """:func:`parse`, in steps for a batch. Each step yields the number of bytes that it has read; the generator
    returns the publications and raises as :func:`parse` does."""
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
    """Reads everything but the usual form. The error is about the form that was meant."""
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
        trace=trace_context.checked(meta.traceparent, meta.tracestate or "")
        if meta.traceparent
        else "",
    )


def with_trace(publications: tuple[Publishable, ...], trace: str) -> tuple[Publishable, ...]:
    """Publications of one request, with the trace of the request unless a message has one of its own."""
    return tuple(
        [
            msgspec.structs.replace(each, trace=trace)
            if type(each) is Publication and not each.trace
            else each
            for each in publications
        ]
    )


def _command(command: _Command) -> RemoteDisconnect:
    if command.command != "disconnect":
        raise PublicationError(f"expected the command 'disconnect', got {command.command!r}")
    payload = _read_disconnect(bytes(command.payload))
    return RemoteDisconnect(payload.identifier, payload.reconnect)
