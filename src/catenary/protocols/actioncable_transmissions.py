"""Messages that an application wrote itself, in Action Cable's JSON, read for clients of other encodings.

Source: ``transmissions`` in etc/rpc.proto (anycable). Knows: the messages of the server, JSON. Does not know: which
encoding carries them further.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from catenary.messages.lenient_json import reader
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import Position
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    HistoryConfirmed,
    HistoryRejected,
    Ping,
    Pong,
    Rejected,
    Reply,
    Welcome,
)
from catenary.protocols.actioncable import REASONS


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
_REASON_OF: Final = {text: reason for reason, text in REASONS.items()}


def read_reply(text: str) -> Reply | None:
    """The reply that an application wrote in Action Cable's JSON, to be encoded for a client of another encoding.

    A message of a type that Action Cable does not define becomes a :class:`Delivery` of that kind. None for text that
    is not a JSON object, or has fields of wrong types.
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
