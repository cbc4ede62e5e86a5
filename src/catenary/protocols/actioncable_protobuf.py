"""Action Cable, version 1, in Protobuf: the messages of ``actioncable.proto`` in this directory.

Values without a schema (messages, the info of members) are MessagePack. Source: docs/binary_formats.md
(anycable/anycable), "Protobuf"; message.proto of anycable-client. Knows: Protobuf's wire format. Does not know: frames,
sessions.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from catenary.errors import CommandError
from catenary.messages.commands import Command
from catenary.messages.lenient_json import read_any
from catenary.messages.publications import Position
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, PresenceState, Reply
from catenary.ports import Goodbye
from catenary.protocols import protobuf
from catenary.protocols.actioncable import (
    GOODBYES,
    ClientMessage,
    HistoryFields,
    JsonText,
    PresenceFields,
    command_of,
    message_of,
)
from catenary.protocols.actioncable_msgpack import pack, packed, presence_pieces
from catenary.protocols.actioncable_transmissions import read_reply

SUBPROTOCOL: Final = "actioncable-v1-protobuf"
EXTENDED: Final = "actioncable-v1-ext-protobuf"

_TYPES: Final = {
    "welcome": 1,
    "disconnect": 2,
    "ping": 3,
    "confirm_subscription": 4,
    "reject_subscription": 5,
    "confirm_history": 6,
    "reject_history": 7,
    "presence": 8,
    "pong": 9,
}
_COMMANDS: Final = {
    1: "subscribe",
    2: "unsubscribe",
    3: "message",
    4: "history",
    5: "pong",
    6: "whisper",
    7: "join",
    8: "leave",
    9: "presence",
    10: "ping",
}

_MESSAGE: Final = {"identifier": 3, "message": 5, "reason": 6, "reconnect": 7}
"""The fields of ``Message`` that the server writes, besides its type (1)."""

_REPLY: Final = {
    "identifier": 2,
    "message": 3,
    "reason": 4,
    "reconnect": 5,
    "stream_id": 6,
    "epoch": 7,
    "offset": 8,
    "sid": 9,
    "restored": 10,
    "restored_ids": 11,
}
"""The fields of ``Reply``, besides its type (1)."""

_KEYS: Final = [protobuf.key(field) for field in range(12)]
_read_packed = msgspec.msgpack.Decoder().decode


class ActionCableProtobuf:
    """Satisfies :class:`catenary.ports.Codec`. It has no state, so all sessions of a protocol share one."""

    __slots__ = ("_fields",)

    def __init__(self, *, is_extended: bool) -> None:
        """The server's messages are ``Reply`` in the extended protocol, ``Message`` otherwise."""
        self._fields = _REPLY if is_extended else _MESSAGE

    def decode(self, payload: bytes) -> Command | None:
        """Reads one ``Message``. Raises :class:`CommandError`, also for an unknown command."""
        try:
            return command_of(_read_message(payload))
        # TypeError: a field has a wrong wire type, or MessagePack has a value without a JSON form.
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
            raise CommandError(f"expected a Protobuf Message with a command: {error}") from error

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply; None for a disconnect whose reason has no name in this protocol."""
        if type(reply) is PresenceState:
            return b"".join(self.encode_pieces(reply))
        message = message_of(reply)
        if message is None:
            return None
        parts = [protobuf.number(1, _TYPES.get(message.get("type", ""), 0))]
        for name, value in message.items():
            field = self._fields.get(name)
            if field is not None:
                parts.append(_written(field, name, value))
        return b"".join(parts)

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """The total length precedes the members: pieces are empty until all are encoded."""
        parts: list[bytes] = []
        for part in presence_pieces(reply):
            if parts:
                yield b""
            parts.append(part)
        head = protobuf.number(1, _TYPES["presence"])
        head += _written(self._fields["identifier"], "identifier", reply.identifier)
        head += protobuf.head(_KEYS[self._fields["message"]], sum(map(len, parts)))
        yield head + parts[0]
        yield from parts[1:]

    def encode_transmission(self, text: str) -> bytes | None:
        """The same message in Protobuf; None for text that is not a message of Action Cable."""
        reply = read_reply(text)
        return None if reply is None else self.encode(reply)

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Converts the message from JSON, and writes it with its envelope. Of the types of deliveries, the schema has only
        that of presence: others are omitted."""
        written = self.encode(delivery)
        assert written is not None, "only a disconnect may have no message"
        return written

    def goodbye(self, reason: Reason) -> Goodbye:
        """The close code and text of the JSON encoding."""
        return GOODBYES[reason]


def _written(field: int, name: str, value: Any) -> bytes:
    """Encodes one field of a server's message."""
    key = _KEYS[field]
    if name == "message":
        return protobuf.block(key, packed(value.text) if type(value) is JsonText else pack(value))
    if isinstance(value, str):
        return protobuf.text(key, value)
    if isinstance(value, int):
        return protobuf.number(field, value)
    # An empty text is an element of the list, too.
    return b"".join([protobuf.block(key, each.encode()) for each in value])


def _read_message(raw: bytes) -> ClientMessage:
    message = ClientMessage()
    data = ""
    for field, value in protobuf.read_fields(raw):
        match field:
            case 2:
                message.command = _COMMANDS.get(_number(value), f"command {value!r}")
            case 3:
                message.identifier = _text(value)
            case 4:
                data = _text(value)
            case 8:
                message.history = _history(_bytes(value))
            case 9:
                message.presence = _presence(_bytes(value))
    # The data of an action is text for the application; other data is a value, which clients encode as JSON.
    message.data = data if message.command == "message" else _value(data)
    return message


def _history(raw: bytes) -> HistoryFields:
    history = HistoryFields(streams={})
    assert history.streams is not None
    for field, value in protobuf.read_fields(raw):
        match field:
            case 1:
                history.since = protobuf.signed(_number(value))
            case 2:
                entry = dict(protobuf.read_fields(_bytes(value)))
                history.streams[_text(entry.get(1, b""))] = _position(_bytes(entry.get(2, b"")))
    return history


def _position(raw: bytes) -> Position:
    fields = dict(protobuf.read_fields(raw))
    return Position(_text(fields.get(2, b"")), protobuf.signed(_number(fields.get(3, 0))))


def _presence(raw: bytes) -> PresenceFields:
    fields = dict(protobuf.read_fields(raw))
    info = _bytes(fields.get(2, b""))
    return PresenceFields(_text(fields.get(1, b"")), _read_packed(info) if info else None)


def _value(data: str) -> Any:
    """The value of JSON text; None for empty text. Text that is not JSON is the value itself: clients send strings so."""
    if not data:
        return None
    try:
        return read_any(data)
    except msgspec.DecodeError:
        return data


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise TypeError("expected a number, got bytes")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("expected bytes, got a number")
    return value


def _text(value: int | bytes) -> Any:
    return _bytes(value).decode()
