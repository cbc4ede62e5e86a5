"""Action Cable, version 1: its messages, whichever encoding carries them.

Each encoding (JSON, MessagePack, Protobuf) reads a :class:`ClientMessage`, of which :func:`command_of` makes a command,
and writes the fields that :func:`message_of` returns. Source: docs/misc/action_cable_protocol.md of docs.anycable.io;
where it does not say, the behaviour of anycable-go 1.6.16. Knows: messages. Does not know: encodings, sessions.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from catenary.errors import CommandError
from catenary.messages.commands import (
    ClientPing,
    ClientPong,
    Command,
    HistoryRequest,
    Join,
    Leave,
    Perform,
    ReadHistory,
    ReadPresence,
    Subscribe,
    Unsubscribe,
    Whisper,
)
from catenary.messages.names import Identifier
from catenary.messages.presence import Member
from catenary.messages.publications import Position
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    Failed,
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

_RECORD_BYTES: Final = 300
"""Counted for a member besides its info: so a piece has at most 110 members, however short they are."""


_to_json: Final = msgspec.json.Encoder().encode


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


class JsonText:
    """JSON text that stands for its value: each encoding writes the value."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def runs(members: Sequence[Member]) -> Iterator[list[dict[str, Any]]]:
    """The records of members, in runs of about :data:`SLICE_BYTES`; a generator, so each is made when it is needed."""
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


def _history(message: ClientMessage) -> ReadHistory:
    request = None if message.history is None else _requested(message.history)
    if request is None:
        raise CommandError("expected a history request with since or streams, got none")
    return ReadHistory(message.identifier, request)


def _join(message: ClientMessage) -> Join:
    presence = message.presence
    if presence is None or presence.id == "":
        raise CommandError("expected presence with an id, got none")
    info = _to_json(presence.info).decode()
    return Join(message.identifier, str(presence.id), info)


def _who_is_here(message: ClientMessage) -> ReadPresence:
    options = message.data if isinstance(message.data, dict) else {}
    return ReadPresence(message.identifier, options.get("return_records") is not False)


REASONS: Final = {
    Reason.SERVER_RESTART: "server_restart",
    Reason.REMOTE: "remote",
    Reason.SLOW_CLIENT: "too_slow",
    Reason.IDLE_TIMEOUT: "idle_timeout",
    Reason.NO_PONG: "no_pong",
    Reason.UNAUTHORIZED: "unauthorized",
    Reason.TOKEN_EXPIRED: "token_expired",
    Reason.TOO_MANY_CONNECTIONS: "too_many_connections",
    Reason.TOO_MANY_COMMANDS: "too_many_commands",
}
"""The reason in a disconnect message. For other reasons the client gets a close frame without a message."""

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
        (Reason.TOO_MANY_CONNECTIONS, 1013, "Too many connections"),
        (Reason.TOO_MANY_COMMANDS, 1013, "Too many commands"),
        (Reason.INVALID_MESSAGE, 1002, "Invalid message"),
    )
}


def message_of(reply: Reply) -> dict[str, Any] | None:
    """The fields of a reply's message, by their names in the protocol; None for a disconnect whose reason has no word, and
    for a failure.

    JSON text inside the reply is there as :class:`JsonText`, which each encoding writes as the value it stands for.
    """
    return _MESSAGES[type(reply)](reply)


def _welcome(welcome: Welcome) -> dict[str, Any]:
    message = {"type": "welcome", "sid": welcome.sid}
    if welcome.restored is None:
        return message
    return {**message, "restored": True, "restored_ids": welcome.restored}


def _named(kind: str) -> Callable[[Any], dict[str, Any]]:
    """For a reply that has an identifier and nothing else."""
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
    reason = reply.reason if isinstance(reply.reason, str) else REASONS.get(reply.reason)
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
    Failed: lambda _: None,
    HistoryConfirmed: _named("confirm_history"),
    HistoryRejected: _named("reject_history"),
    PresenceState: _presence_state,
    PresenceUnknown: _presence_unknown,
    Disconnected: _disconnect,
    Delivery: _delivered,
}

_COMMANDS: Final[dict[str, Callable[[ClientMessage], Command]]] = {
    "subscribe": _subscribe,
    "unsubscribe": lambda message: Unsubscribe(message.identifier),
    "message": _perform,
    "whisper": lambda message: Whisper(message.identifier, _to_json(message.data).decode()),
    "history": _history,
    "join": _join,
    "leave": lambda message: Leave(message.identifier),
    "presence": _who_is_here,
    "ping": lambda _: ClientPing(),
    "pong": lambda _: ClientPong(),
}
