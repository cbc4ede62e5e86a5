"""Action Cable, version 1, in JSON: payloads ↔ commands and replies.

Source: docs/misc/action_cable_protocol.md of docs.anycable.io; where it is silent, what
anycable-go 1.6.16 does. Knows: JSON. Does not know: frames, sessions.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from catenary.errors import CommandError
from catenary.messages.commands import (
    ClientPing,
    ClientPong,
    Command,
    Perform,
    Subscribe,
    Unsubscribe,
    Whisper,
)
from catenary.messages.names import Identifier
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    Ping,
    Pong,
    Rejected,
    Reply,
    Verbatim,
    Welcome,
)

SUBPROTOCOL: Final = "actioncable-v1-json"
UNSUPPORTED: Final = "actioncable-unsupported"
"""What Action Cable's clients offer last, to be told that nothing else fits."""


class _Message(msgspec.Struct, gc=False):
    command: str = ""
    identifier: str = ""
    data: Any = None


_read = msgspec.json.Decoder(_Message | None).decode
_write = msgspec.json.Encoder().encode


class ActionCableV1:
    """Satisfies :class:`catenary.ports.ClientProtocol`. Has no state: one serves every session."""

    __slots__ = ()

    def decode(self, payload: bytes) -> Command | None:
        """Reads one message. Raises :class:`CommandError`, also for an unknown command."""
        try:
            message = _read(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CommandError(f"expected a JSON object with a command: {error}") from error
        if message is None:
            return None
        read = _COMMANDS.get(message.command)
        if read is None:
            raise CommandError(f"expected a known command, got {message.command[:40]!r}")
        return read(message)

    def encode(self, reply: Reply) -> bytes:
        """Writes one reply as JSON."""
        match reply:
            case Delivery():
                return self.encode_delivery(reply)
            case Verbatim(text):
                return text.encode()
            case Welcome(sid):
                return _write({"type": "welcome", "sid": sid})
            case Ping(timestamp):
                return b'{"type":"ping","message":%d}' % timestamp
            case Pong():
                return b'{"type":"pong"}'
            case Confirmed(identifier):
                return _write({"type": "confirm_subscription", "identifier": identifier})
            case Rejected(identifier):
                return _write({"type": "reject_subscription", "identifier": identifier})
            case Disconnected(reason, reconnect):
                return _write({"type": "disconnect", "reason": reason.wire, "reconnect": reconnect})

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Puts the message, which is JSON already, into its envelope without reading it again."""
        kind = b'"type":%b,' % _write(delivery.kind) if delivery.kind else b""
        identifier = _write(delivery.identifier)
        return b'{%b"identifier":%b,"message":%b}' % (kind, identifier, delivery.message)


def _perform(message: _Message) -> Perform:
    if not isinstance(message.data, str):
        raise CommandError(f"expected data as a string, got {type(message.data).__name__}")
    return Perform(Identifier(message.identifier), message.data)


_COMMANDS: Final[dict[str, Callable[[_Message], Command]]] = {
    "subscribe": lambda message: Subscribe(Identifier(message.identifier)),
    "unsubscribe": lambda message: Unsubscribe(Identifier(message.identifier)),
    "message": _perform,
    "whisper": lambda message: Whisper(
        Identifier(message.identifier), _write(message.data).decode()
    ),
    "ping": lambda _: ClientPing(),
    "pong": lambda _: ClientPong(),
}
