"""Action Cable, version 1, in JSON: its own encoding.

Source: docs/misc/action_cable_protocol.md of docs.anycable.io. Knows: JSON. Does not know: frames, sessions.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import msgspec

from catenary.errors import CommandError
from catenary.messages.commands import Command
from catenary.messages.lenient_json import JSON_ERRORS, reader
from catenary.messages.names import Identifier
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, Ping, PresenceState, Reply
from catenary.ports import Goodbye
from catenary.protocols.actioncable import (
    GOODBYES,
    ClientMessage,
    HistoryFields,
    JsonText,
    PresenceFields,
    command_of,
    message_of,
    runs,
)

SUBPROTOCOL: Final = "actioncable-v1-json"
EXTENDED: Final = "actioncable-v1-ext-json"
"""Clients can resume sessions and answer pings; the messages are the same in both."""

UNSUPPORTED: Final = "actioncable-unsupported"
"""Clients offer it last: a server confirms it to say that it speaks none of the other subprotocols."""

_read = msgspec.json.Decoder(ClientMessage | None).decode


def _as_raw(value: Any) -> msgspec.Raw:
    if not isinstance(value, JsonText):
        raise TypeError(f"expected a JSON value, got {type(value).__name__}")
    return msgspec.Raw(value.text.encode())


_write = msgspec.json.Encoder(enc_hook=_as_raw).encode


class _OpaquePresence(msgspec.Struct, gc=False):
    id: str | int = ""
    info: msgspec.Raw = msgspec.Raw(b"null")


class _OpaqueMessage(msgspec.Struct, gc=False):
    """A message whose values are kept as bytes: they may be nested to any depth, with numbers of any size."""

    command: str = ""
    identifier: Identifier = Identifier("")
    data: msgspec.Raw = msgspec.Raw(b"null")
    history: HistoryFields | None = None
    presence: _OpaquePresence | None = None


_read_opaque: Final = reader(cast("type[_OpaqueMessage | None]", _OpaqueMessage | None))
_read_data = msgspec.json.Decoder().decode


def _read_leniently(payload: bytes, error: Exception) -> ClientMessage | None:
    """Reads JSON that other readers accept and msgspec's does not. Raises :class:`CommandError`."""
    try:
        opaque = _read_opaque(payload)
    except msgspec.DecodeError as again:
        raise CommandError(f"expected a JSON object with a command: {again}") from error
    if opaque is None:
        return None
    data: Any = opaque.data
    with contextlib.suppress(*JSON_ERRORS):
        data = _read_data(data)
    asked = opaque.presence
    presence = None if asked is None else PresenceFields(asked.id, asked.info)
    return ClientMessage(opaque.command, opaque.identifier, data, opaque.history, presence)


class ActionCableJson:
    """Satisfies :class:`catenary.ports.Codec`. It has no state, so all sessions share one."""

    __slots__ = ()

    def decode(self, payload: bytes) -> Command | None:
        """Reads one message. Raises :class:`CommandError`, also for an unknown command."""
        try:
            message = _read(payload)
        except JSON_ERRORS as error:
            message = _read_leniently(payload, error)
        if message is None:
            return None
        return command_of(message)

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply as JSON; None for a disconnect whose reason has no name in this protocol."""
        write = _WRITERS.get(type(reply))
        if write is not None:
            return write(reply)
        message = message_of(reply)
        return None if message is None else _write(message)

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """One run of members in each piece; the first also has the fields before them."""
        return _presence_pieces(reply)

    def encode_transmission(self, text: str) -> bytes:
        """The text itself, which is in this encoding already."""
        return text.encode()

    def goodbye(self, reason: Reason) -> Goodbye:
        """The close code and text that anycable-go sends for the reason, if it has it."""
        return GOODBYES[reason]

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Puts the message, which is JSON already, into its envelope without parsing it."""
        kind = b'"type":%b,' % _write(delivery.kind) if delivery.kind else b""
        identifier = _write(delivery.identifier)
        where = b"" if delivery.position is None else _position(delivery)
        return b'{%b"identifier":%b,"message":%b%b}' % (kind, identifier, delivery.message, where)


def _position(delivery: Delivery) -> bytes:
    position = delivery.position
    assert position is not None
    return b',"stream_id":%b,"epoch":%b,"offset":%d' % (
        _write(delivery.stream),
        _write(position.epoch),
        position.offset,
    )


def _presence_pieces(state: PresenceState) -> Iterator[bytes]:
    head = b'{"type":"presence","identifier":%b,"message":{"type":"info","total":%d'
    piece = head % (_write(state.identifier), state.total)
    if not state.members:
        yield piece + b"}}"
        return
    written = map(_write, runs(state.members))
    piece += b',"records":[' + next(written)[1:-1]
    for records in written:
        yield piece
        piece = b"," + records[1:-1]
    yield piece + b"]}}"


# Frequent and large messages, which are written without a dict.
_WRITERS: Final[dict[type[Reply], Callable[[Any], bytes]]] = {
    Ping: lambda reply: b'{"type":"ping","message":%d}' % reply.timestamp,
    PresenceState: lambda state: b"".join(_presence_pieces(state)),
    Delivery: ActionCableJson().encode_delivery,
}
