"""Action Cable, version 1, in MessagePack: the messages of the JSON encoding as maps with the same keys.

The data of an action stays JSON text, which only the application reads. Source: docs/binary_formats.md
(anycable/anycable), "Msgpack". Knows: MessagePack. Does not know: frames, sessions.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from catenary.errors import CommandError
from catenary.messages.commands import Command
from catenary.messages.lenient_json import read_any
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, PresenceState, Reply
from catenary.ports import Goodbye
from catenary.protocols.actioncable import (
    GOODBYES,
    ClientMessage,
    JsonText,
    command_of,
    message_of,
    runs,
)
from catenary.protocols.actioncable_transmissions import read_reply

SUBPROTOCOL: Final = "actioncable-v1-msgpack"
EXTENDED: Final = "actioncable-v1-ext-msgpack"

_read = msgspec.msgpack.Decoder(ClientMessage | None).decode
_LARGEST: Final = 2**64 - 1
_SMALLEST: Final = -(2**63)


class ActionCableMessagePack:
    """Satisfies :class:`catenary.ports.Codec`. It has no state, so all sessions share one."""

    __slots__ = ()

    def decode(self, payload: bytes) -> Command | None:
        """Reads one message. Raises :class:`CommandError`, also for an unknown command."""
        try:
            message = _read(payload)
            return None if message is None else command_of(message)
        # TypeError: a map with an array as a key, or a value without a JSON form.
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
            raise CommandError(f"expected a MessagePack map with a command: {error}") from error

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply; None for a disconnect whose reason has no name in this protocol."""
        if type(reply) is PresenceState:
            return b"".join(self.encode_pieces(reply))
        message = message_of(reply)
        return None if message is None else pack(message)

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """One run of members in each piece, after the head of an array with their number."""
        head = b"\x83%b%b%b%b%b" % tuple(
            map(pack, ("type", "presence", "identifier", reply.identifier, "message"))
        )
        yield from presence_pieces(reply, head)

    def encode_transmission(self, text: str) -> bytes | None:
        """The same message in MessagePack; None for text that is not a message of Action Cable."""
        reply = read_reply(text)
        return None if reply is None else self.encode(reply)

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Converts the message from JSON, and writes it with its envelope."""
        return pack(message_of(delivery))

    def goodbye(self, reason: Reason) -> Goodbye:
        """The close code and text of the JSON encoding."""
        return GOODBYES[reason]


def presence_pieces(state: PresenceState, head: bytes = b"") -> Iterator[bytes]:
    """The ``message`` of a presence reply in MessagePack, in pieces of about :data:`SLICE_BYTES`, after a head."""
    size = b"\x83" if state.members else b"\x82"
    piece = head + size + b"".join(map(pack, ("type", "info", "total", state.total)))
    if not state.members:
        yield piece
        return
    piece += pack("records") + _array_head(len(state.members))
    for records in runs(state.members):
        yield piece + b"".join(map(pack, records))
        piece = b""


def _array_head(length: int) -> bytes:
    """The beginning of an array, as the library writes it."""
    return pack([None] * length)[:-length]


def packed(json: str) -> bytes:
    """The MessagePack form of a JSON text.

    Integers of more than 64 bits become floats, as in JavaScript. Text that is not JSON, or nested too deeply to be
    parsed, becomes a string.
    """
    try:
        value = read_any(json)
        try:
            return pack(value)
        except OverflowError:
            return pack(_with_floats(value))
    except (msgspec.DecodeError, RecursionError):
        return pack(json)


def _with_floats(value: Any) -> Any:
    """The same value with floats for integers that do not fit into MessagePack."""
    match value:
        case dict():
            return {key: _with_floats(each) for key, each in value.items()}
        case list():
            return [_with_floats(each) for each in value]
        case int() if not _SMALLEST <= value <= _LARGEST:
            try:
                return float(value)
            except OverflowError:
                return math.inf if value > 0 else -math.inf
        case _:
            return value


def _as_value(value: Any) -> msgspec.Raw:
    if not isinstance(value, JsonText):
        raise TypeError(f"expected a value for MessagePack, got {type(value).__name__}")
    return msgspec.Raw(packed(value.text))


pack: Final = msgspec.msgpack.Encoder(enc_hook=_as_value).encode
"""Writes a value; a :class:`JsonText` in it is written as its value."""
