r"""Pusher's protocol 7, the messages of the server: replies and publications → events.

    {"event":"order-paid","channel":"private-orders","data":"{\"id\":7}"}

One codec encodes for all clients, and identifiers are names of channels: nothing of a client is in them, so clients that
share a channel share each frame. ``data`` is always a string, as the protocol says; anycable-go sends the published value.
Source: https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol.
Knows: JSON, channels. Does not know: frames, sessions, what clients send (``protocols/pusher_reader.py``).
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from catenary.errors import CommandError
from catenary.messages.commands import Command
from catenary.messages.lenient_json import reader
from catenary.messages.names import Identifier
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    HistoryConfirmed,
    HistoryRejected,
    Ping,
    Pong,
    PresenceState,
    PresenceUnknown,
    Rejected,
    Reply,
    Welcome,
)
from catenary.ports import SLICE_BYTES, Goodbye
from catenary.protocols.actioncable_transmissions import read_reply
from catenary.protocols.pusher_events import CLIENT_EVENT, COUNT_KIND, RESERVED, is_presence

EVENT_WITHOUT_NAME: Final = "message"
"""The event of a publication that names none: a broadcast for Action Cable clients."""

_MEMBERS: Final = "presence"
"""The kind of publications about members of a stream (``node/presence.py``)."""

_MEMBER_BYTES: Final = 150
"""Counted for each member in addition to its text, so that a piece has at most 220 members, however short they are."""

_write: Final = msgspec.json.Encoder().encode


class _Event(msgspec.Struct, gc=False):
    event: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    user_id: str | None = None


class _Change(msgspec.Struct, gc=False):
    type: str
    id: str
    info: msgspec.Raw = msgspec.Raw(b"null")


_read_event: Final = reader(_Event)
_read_change: Final = reader(_Change)


GOODBYES: Final = {
    reason: Goodbye(reason, code, text)
    for reason, code, text in (
        (Reason.AUTH_FAILED, 4009, "Connection is unauthorized"),
        (Reason.AUTH_ERROR, 4200, "The connection could not be authorized, reconnect"),
        (Reason.COMMAND_FAILED, 4009, "The application closed the connection"),
        (Reason.SERVER_RESTART, 4200, "The server stops, reconnect"),
        (Reason.REMOTE, 4009, "You got disconnected by the app"),
        (Reason.SLOW_CLIENT, 4100, "The client reads too slowly"),
        (Reason.RESUMED, 4200, "Resumed by another connection"),
        (Reason.IDLE_TIMEOUT, 4202, "Closed after inactivity"),
        (Reason.NO_PONG, 4201, "Pong reply not received in time"),
        (Reason.UNAUTHORIZED, 4009, "Connection is unauthorized"),
        (Reason.TOKEN_EXPIRED, 4009, "The token has expired"),
        (Reason.TOO_MANY_CONNECTIONS, 4100, "The user has too many connections"),
        (Reason.TOO_MANY_COMMANDS, 4100, "The client sends messages too fast"),
        (Reason.INVALID_MESSAGE, 4009, "Invalid message"),
    )
}
"""Clients do not reconnect after 4000 to 4099. They reconnect after a pause for 4100 to 4199, at once for 4200 to 4299."""


class PusherCodec:
    """Satisfies :class:`catenary.ports.Codec`. It has no state: all clients of all apps share one."""

    __slots__ = ("_activity_timeout_s",)

    def __init__(self, activity_timeout_s: int) -> None:
        self._activity_timeout_s = activity_timeout_s

    def decode(self, payload: bytes) -> Command:
        """Raises :class:`CommandError`: each session has a reader (:class:`catenary.protocols.table.ClientProtocol`)."""
        raise CommandError("expected the reader of a session")

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply; None if this protocol has no message for it."""
        if type(reply) is Welcome:
            return self._established(reply)
        write = _WRITERS.get(type(reply))
        return None if write is None else write(reply)

    def _established(self, welcome: Welcome) -> bytes:
        data = {"socket_id": welcome.sid, "activity_timeout": self._activity_timeout_s}
        return event("pusher:connection_established", _write(data).decode())

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """The confirmation of a presence channel, with its members."""
        return _member_pieces(reply)

    def encode_transmission(self, text: str) -> bytes | None:
        """Writes a message of Action Cable as an event."""
        reply = read_reply(text)
        return None if reply is None else self.encode(reply)

    def encode_delivery(self, delivery: Delivery) -> bytes | None:
        """A publication with an ``event`` is that event, one without is the event ``message`` with everything that was
        published. A change of members is an event of a presence channel, and nothing on others; the number of subscriptions
        is an event of the protocol itself."""
        if delivery.kind == _MEMBERS:
            return _member_event(delivery)
        if delivery.kind == COUNT_KIND:
            text = delivery.message.decode()
            return event("pusher_internal:subscription_count", text, delivery.identifier)
        channel = _write(delivery.identifier)
        try:
            found = _read_event(delivery.message)
        except msgspec.DecodeError:
            found = _NO_EVENT
        name = found.event
        if not name or name.startswith(RESERVED):
            name, found = EVENT_WITHOUT_NAME, _NO_EVENT
        data = delivery.message if found.data is msgspec.UNSET else bytes(found.data)
        if not data.startswith(b'"'):
            data = _write(data.decode())
        if found.user_id is None or not name.startswith(CLIENT_EVENT):
            return b'{"event":%b,"channel":%b,"data":%b}' % (_write(name), channel, data)
        return b'{"event":%b,"channel":%b,"data":%b,"user_id":%b}' % (
            _write(name),
            channel,
            data,
            _write(found.user_id),
        )

    def goodbye(self, reason: Reason) -> Goodbye:
        """The close code that tells clients whether and when to reconnect."""
        return GOODBYES[reason]


class PusherRefusal(PusherCodec):
    """For connections that are refused: an error and a close frame, both with the same code, whatever the reason.

    Browsers show pages no status of a refused handshake, so the protocol refuses a connection after it.
    """

    __slots__ = ("_code", "_text")

    def __init__(self, code: int, text: str) -> None:
        super().__init__(0)
        self._code = code
        self._text = text

    def encode(self, reply: Reply) -> bytes | None:
        """Writes the error, before the close frame."""
        return error(self._code, self._text) if type(reply) is Disconnected else None

    def goodbye(self, reason: Reason) -> Goodbye:
        """The close frame with the code of the error."""
        return Goodbye(reason, self._code, self._text)


_NO_EVENT: Final = _Event()


def event(name: str, data: str, channel: str | None = None) -> bytes:
    """An event of the protocol itself; ``data`` is JSON text."""
    message: dict[str, str] = {"event": name, "data": data}
    if channel is not None:
        message["channel"] = channel
    return _write(message)


def error(code: int | None, text: str) -> bytes:
    """``pusher:error``. Without a code it concerns one message, which has no effect."""
    return _write({"event": "pusher:error", "data": {"code": code, "message": text}})


def subscription_error(channel: str, kind: str, text: str, status: int) -> bytes:
    """``pusher:subscription_error``: the fields that pusher-js passes to its callbacks."""
    data = {"type": kind, "error": text, "status": status}
    return _write({"event": "pusher:subscription_error", "channel": channel, "data": data})


def _succeeded(identifier: Identifier, data: str = "{}") -> bytes:
    return event("pusher_internal:subscription_succeeded", data, identifier)


def _disconnected(reply: Disconnected) -> bytes | None:
    """None for a message that the protocol forbids: its error was sent before, with the code of its own."""
    if not isinstance(reply.reason, Reason):
        return error(4200 if reply.reconnect else 4009, reply.reason)
    if reply.reason is Reason.INVALID_MESSAGE:
        return None
    goodbye = GOODBYES[reply.reason]
    return error(goodbye.code, goodbye.text)


def _member_event(delivery: Delivery) -> bytes | None:
    if not is_presence(delivery.identifier):
        return None
    try:
        change = _read_change(delivery.message)
    except msgspec.DecodeError:
        return None
    if change.type == "join":
        data = {"user_id": change.id, "user_info": change.info}
        name = "pusher_internal:member_added"
    elif change.type == "leave":
        data = {"user_id": change.id}
        name = "pusher_internal:member_removed"
    else:
        return None
    return event(name, _write(data).decode(), delivery.identifier)


def _member_pieces(state: PresenceState) -> Iterator[bytes]:
    """The ids of all members, then their data, inside the string that ``data`` is."""
    head, _, end = _succeeded(state.identifier, "\0").partition(b"\\u0000")
    members = state.members or ()
    parts = [head, _escaped(f'{{"presence":{{"count":{state.total},"ids":[')]
    yield from _runs(parts, (_write(each.id).decode() for each in members))
    parts.append(_escaped('],"hash":{'))
    yield from _runs(parts, (f"{_write(each.id).decode()}:{each.info}" for each in members))
    parts += [_escaped("}}}"), end]
    yield b"".join(parts)


def _runs(parts: list[bytes], items: Iterator[str]) -> Iterator[bytes]:
    """Appends items to the parts of a piece, and yields the piece whenever it has reached the size of a slice."""
    size, comma = 0, ""
    for item in items:
        part = _escaped(comma + item)
        comma = ","
        parts.append(part)
        size += _MEMBER_BYTES + len(part)
        if size > SLICE_BYTES:
            yield b"".join(parts)
            parts.clear()
            size = 0


def _escaped(text: str) -> bytes:
    """A part of a JSON string."""
    return _write(text)[1:-1]


def _rejected(reply: Rejected) -> bytes:
    text = "The subscription exceeds a limit of the server"
    return subscription_error(reply.identifier, "LimitReached", text, 429)


def _unknown(reply: PresenceUnknown) -> bytes:
    text = "The members of the channel could not be read"
    return subscription_error(reply.identifier, "ServerError", text, 503)


def _cache_miss(identifier: Identifier) -> bytes:
    return event("pusher:cache_miss", "{}", identifier)


_WRITERS: Final[dict[type[Reply], Callable[[Any], bytes | None]]] = {
    Ping: lambda _: b'{"event":"pusher:ping","data":"{}"}',
    Pong: lambda _: b'{"event":"pusher:pong","data":"{}"}',
    Confirmed: lambda reply: _succeeded(reply.identifier),
    Rejected: _rejected,
    HistoryConfirmed: lambda reply: _cache_miss(reply.identifier) if reply.is_empty else None,
    HistoryRejected: lambda reply: _cache_miss(reply.identifier),
    PresenceState: lambda state: b"".join(_member_pieces(state)),
    PresenceUnknown: _unknown,
    Disconnected: _disconnected,
    Delivery: PusherCodec(0).encode_delivery,
}
