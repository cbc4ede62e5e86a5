"""Action Cable, version 1: its messages, and their encoding in JSON.

The other encodings (MessagePack, Protobuf) carry the same messages: they read a :class:`ClientMessage` and write what
:func:`message_of` returns. Source: docs/misc/action_cable_protocol.md of docs.anycable.io; where it is silent, the
behaviour of anycable-go 1.6.16. Knows: messages, JSON. Does not know: frames, sessions.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

import msgspec

from catenary.errors import CommandError
from catenary.messages.commands import (
    ClientPing,
    ClientPong,
    Command,
    History,
    HistoryRequest,
    Join,
    Leave,
    Perform,
    Subscribe,
    Unsubscribe,
    Whisper,
    WhoIsHere,
)
from catenary.messages.lenient_json import JSON_ERRORS, reader
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Position
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

SUBPROTOCOL: Final = "actioncable-v1-json"
EXTENDED: Final = "actioncable-v1-ext-json"
"""Its clients can be resumed, and answer pings; what they may say and hear is the same for both."""

UNSUPPORTED: Final = "actioncable-unsupported"
"""What Action Cable's clients offer last, to be told that nothing else fits."""


_RECORD_BYTES: Final = 300
"""What a member counts beside its info: 100 in a piece, however little is told of them."""


class HistoryFields(msgspec.Struct, gc=False):
    """The ``history`` of a client's message."""

    since: int | float | None = None
    streams: dict[str, Position] | None = None


class PresenceFields(msgspec.Struct, gc=False):
    """The ``presence`` of a client's message."""

    id: str | int = ""
    info: Any = None


class ClientMessage(msgspec.Struct, gc=False):
    """A client's message, as every encoding of the protocol carries it."""

    command: str = ""
    identifier: Identifier = Identifier("")
    data: Any = None
    history: HistoryFields | None = None
    presence: PresenceFields | None = None


_read = msgspec.json.Decoder(ClientMessage | None).decode


class JsonText:
    """JSON text in the place of the value that it stands for."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _as_it_is(value: Any) -> msgspec.Raw:
    if not isinstance(value, JsonText):
        raise TypeError(f"expected a JSON value, got {type(value).__name__}")
    return msgspec.Raw(value.text.encode())


_write = msgspec.json.Encoder(enc_hook=_as_it_is).encode


class _OpaquePresence(msgspec.Struct, gc=False):
    id: str | int = ""
    info: msgspec.Raw = msgspec.Raw(b"null")


class _OpaqueMessage(msgspec.Struct, gc=False):
    """A message whose values are not read: they may be nested as deeply, and their numbers be as large,
    as the client likes."""

    command: str = ""
    identifier: Identifier = Identifier("")
    data: msgspec.Raw = msgspec.Raw(b"null")
    history: HistoryFields | None = None
    presence: _OpaquePresence | None = None


_read_opaque: Final = reader(cast("type[_OpaqueMessage | None]", _OpaqueMessage | None))
_read_data = msgspec.json.Decoder().decode


def _read_again(payload: bytes, error: Exception) -> ClientMessage | None:
    """What is JSON to other readers, and not to msgspec's. Raises :class:`CommandError`."""
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
    """Satisfies :class:`catenary.ports.Codec`. Has no state: one serves every session."""

    __slots__ = ()

    def decode(self, payload: bytes) -> Command | None:
        """Reads one message. Raises :class:`CommandError`, also for an unknown command."""
        try:
            message = _read(payload)
        except JSON_ERRORS as error:
            message = _read_again(payload, error)
        if message is None:
            return None
        return command_of(message)

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply as JSON; None for a disconnect whose reason has no word."""
        write = _WRITERS.get(type(reply))
        if write is not None:
            return write(reply)
        message = message_of(reply)
        return None if message is None else _write(message)

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """Members are written in runs, with what stands before them in the first piece."""
        return _presence_pieces(reply)

    def encode_transmission(self, text: str) -> bytes:
        """The text itself: it is in this form already."""
        return text.encode()

    def goodbye(self, reason: Reason) -> Goodbye:
        """The close code and text that anycable-go sends, where it has that reason."""
        return GOODBYES[reason]

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Puts the message, which is JSON already, into its envelope without reading it again."""
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


def runs(members: Sequence[Member]) -> Iterator[list[dict[str, Any]]]:
    """The records of members, in runs of about :data:`SLICE_BYTES`, each made when it is asked for."""
    records: list[dict[str, Any]] = []
    size = 0
    for member in members:
        if size > SLICE_BYTES:
            yield records
            records, size = [], 0
        records.append({"id": member.id, "info": JsonText(member.info)})
        size += _RECORD_BYTES + len(member.info)
    yield records


def command_of(message: ClientMessage) -> Command:
    """The command of a client's message. Raises :class:`CommandError`."""
    read = _COMMANDS.get(message.command)
    if read is None:
        raise CommandError(f"expected a known command, got {message.command[:40]!r}")
    return read(message)


def _perform(message: ClientMessage) -> Perform:
    if not isinstance(message.data, str):
        raise CommandError(f"expected data as a string, got {type(message.data).__name__}")
    return Perform(message.identifier, message.data)


def _subscribe(message: ClientMessage) -> Subscribe:
    history = None if message.history is None else _requested(message.history)
    join = None if message.presence is None else _join(message)
    return Subscribe(message.identifier, history, join)


def _requested(history: HistoryFields) -> HistoryRequest | None:
    """None for a request that asks for nothing."""
    if not history.since and history.streams is None:
        return None
    return HistoryRequest(int(history.since) if history.since else None, history.streams or {})


def _history(message: ClientMessage) -> History:
    request = None if message.history is None else _requested(message.history)
    if request is None:
        raise CommandError("expected a history request with since or streams, got none")
    return History(message.identifier, request)


def _join(message: ClientMessage) -> Join:
    presence = message.presence
    if presence is None or presence.id == "":
        raise CommandError("expected presence with an id, got none")
    info = _write(presence.info).decode()
    return Join(message.identifier, str(presence.id), info)


def _who_is_here(message: ClientMessage) -> WhoIsHere:
    options = message.data if isinstance(message.data, dict) else {}
    return WhoIsHere(message.identifier, options.get("return_records") is not False)


_REASONS: Final = {
    Reason.SERVER_RESTART: "server_restart",
    Reason.REMOTE: "remote",
    Reason.SLOW_CLIENT: "too_slow",
    Reason.IDLE_TIMEOUT: "idle_timeout",
    Reason.NO_PONG: "no_pong",
    Reason.UNAUTHORIZED: "unauthorized",
    Reason.TOKEN_EXPIRED: "token_expired",
}
"""What a disconnect message says. For any other reason the client gets a close frame and no message."""

GOODBYES: Final = {
    reason: Goodbye(reason, code, text)
    for reason, code, text in (
        (Reason.AUTH_FAILED, 1000, "Auth Failed"),
        (Reason.AUTH_ERROR, 1011, "Auth Error"),
        (Reason.COMMAND_FAILED, 1000, "Command Failed"),
        (Reason.SERVER_RESTART, 1001, "Server restart"),
        (Reason.REMOTE, 1000, "Closed remotely"),
        (Reason.SLOW_CLIENT, 1000, "Slow client"),
        (Reason.RESUMED, 1000, "Resumed by another connection"),
        (Reason.IDLE_TIMEOUT, 1000, "Idle Timeout"),
        (Reason.NO_PONG, 1000, "No Pong"),
        (Reason.UNAUTHORIZED, 1000, "Unauthorized"),
        (Reason.TOKEN_EXPIRED, 1000, "Token expired"),
        (Reason.INVALID_MESSAGE, 1002, "Invalid message"),
    )
}


def message_of(reply: Reply) -> dict[str, Any] | None:
    """The fields of a reply's message, by their names in the protocol; None for a disconnect whose reason has no word.

    JSON text inside the reply is there as :class:`JsonText`, which each encoding writes as the value it stands for.
    """
    return _MESSAGES[type(reply)](reply)


def _welcome(welcome: Welcome) -> dict[str, Any]:
    message = {"type": "welcome", "sid": welcome.sid}
    if welcome.restored is None:
        return message
    return {**message, "restored": True, "restored_ids": welcome.restored}


def _named(kind: str) -> Callable[[Any], dict[str, Any]]:
    """For a reply that says no more than which subscription it is about."""
    return lambda reply: {"type": kind, "identifier": reply.identifier}


def _presence_state(state: PresenceState) -> dict[str, Any]:
    message: dict[str, Any] = {"type": "info", "total": state.total}
    if state.members:
        message["records"] = [record for run in runs(state.members) for record in run]
    return {"type": "presence", "identifier": state.identifier, "message": message}


def _presence_unknown(reply: PresenceUnknown) -> dict[str, Any]:
    message = {"type": "error", "total": 0}
    return {"type": "presence", "identifier": reply.identifier, "message": message}


def _disconnect(reply: Disconnected) -> dict[str, Any] | None:
    reason = reply.reason if isinstance(reply.reason, str) else _REASONS.get(reply.reason)
    if reason is None:
        return None
    return {"type": "disconnect", "reason": reason, "reconnect": reply.reconnect}


def _delivered(delivery: Delivery) -> dict[str, Any]:
    message: dict[str, Any] = {"type": delivery.kind} if delivery.kind else {}
    message["identifier"] = delivery.identifier
    message["message"] = JsonText(delivery.message.decode())
    if delivery.position is not None:
        position = delivery.position
        message |= {
            "stream_id": delivery.stream,
            "epoch": position.epoch,
            "offset": position.offset,
        }
    return message


# Tables, because a question whether a struct is of a type takes 0.2 µs where it is not.
_MESSAGES: Final[dict[type[Reply], Callable[[Any], dict[str, Any] | None]]] = {
    Welcome: _welcome,
    Ping: lambda reply: {"type": "ping", "message": reply.timestamp},
    Pong: lambda _: {"type": "pong"},
    Confirmed: _named("confirm_subscription"),
    Rejected: _named("reject_subscription"),
    HistoryConfirmed: _named("confirm_history"),
    HistoryRejected: _named("reject_history"),
    PresenceState: _presence_state,
    PresenceUnknown: _presence_unknown,
    Disconnected: _disconnect,
    Delivery: _delivered,
}

# Messages that are written without a dict in between.
_WRITERS: Final[dict[type[Reply], Callable[[Any], bytes]]] = {
    Ping: lambda reply: b'{"type":"ping","message":%d}' % reply.timestamp,
    PresenceState: lambda state: b"".join(_presence_pieces(state)),
    Delivery: ActionCableJson().encode_delivery,
}

_COMMANDS: Final[dict[str, Callable[[ClientMessage], Command]]] = {
    "subscribe": _subscribe,
    "unsubscribe": lambda message: Unsubscribe(message.identifier),
    "message": _perform,
    "whisper": lambda message: Whisper(message.identifier, _write(message.data).decode()),
    "history": _history,
    "join": _join,
    "leave": lambda message: Leave(message.identifier),
    "presence": _who_is_here,
    "ping": lambda _: ClientPing(),
    "pong": lambda _: ClientPong(),
}


# What applications have written


class _Written(msgspec.Struct, gc=False):
    type: str | None = None
    identifier: Identifier | None = None
    message: msgspec.Raw = msgspec.Raw(b"null")
    reason: str | None = None
    reconnect: bool | None = None
    stream_id: str | None = None
    epoch: str | None = None
    offset: int | None = None
    sid: str | None = None
    restored: bool | None = None
    restored_ids: tuple[Identifier, ...] | None = None


_read_written: Final = reader(_Written)
_REASON_OF: Final = {text: reason for reason, text in _REASONS.items()}


def read_reply(text: str) -> Reply | None:
    """The reply that an application has written in this protocol's JSON, for clients of other protocols.

    A message of any type that is not the protocol's own becomes a :class:`Delivery` of that kind. None
    for what is not a JSON object, or has fields of wrong types.
    """
    try:
        written = _read_written(text)
    except msgspec.DecodeError:
        return None
    read = _REPLIES.get(written.type or "", _written_delivery)
    return read(written)


def _written_delivery(written: _Written) -> Delivery:
    stream = position = None
    if written.stream_id is not None and written.epoch is not None and written.offset is not None:
        stream, position = Stream(written.stream_id), Position(written.epoch, written.offset)
    identifier = written.identifier or Identifier("")
    return Delivery(identifier, bytes(written.message), written.type or "", stream, position)


def _written_welcome(written: _Written) -> Welcome:
    restored = (written.restored_ids or ()) if written.restored else None
    return Welcome(Sid(written.sid or ""), restored)


def _written_ping(written: _Written) -> Ping | None:
    try:
        return Ping(msgspec.json.decode(written.message, type=int))
    except msgspec.DecodeError:
        return None


def _written_disconnect(written: _Written) -> Disconnected:
    reason = written.reason or ""
    return Disconnected(_REASON_OF.get(reason, reason), written.reconnect is True)


def _about(kind: Callable[[Identifier], Reply]) -> Callable[[_Written], Reply]:
    """Reads a reply that names a subscription and nothing else."""
    return lambda written: kind(written.identifier or Identifier(""))


_REPLIES: Final[dict[str, Callable[[_Written], Reply | None]]] = {
    "welcome": _written_welcome,
    "ping": _written_ping,
    "pong": lambda _: Pong(),
    "disconnect": _written_disconnect,
    "confirm_subscription": _about(Confirmed),
    "reject_subscription": _about(Rejected),
    "confirm_history": _about(HistoryConfirmed),
    "reject_history": _about(HistoryRejected),
}
