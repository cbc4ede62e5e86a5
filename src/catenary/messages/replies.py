"""The messages of the server to a client.

Source: Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io.
"""

import msgspec

from catenary.messages.commands import Perform, Subscribe, Unsubscribe
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Position
from catenary.messages.reasons import Reason


class Welcome(msgspec.Struct, frozen=True, gc=False):
    """The connection is accepted; ``restored`` names the subscriptions of a resumed session."""

    sid: Sid
    restored: tuple[Identifier, ...] | None = None


class Ping(msgspec.Struct, frozen=True, gc=False):
    """A heartbeat; ``timestamp`` counts in the unit that the client chose (s, ms or ns)."""

    timestamp: int


class Pong(msgspec.Struct, frozen=True, gc=False):
    """Answers a client's ping."""


class Confirmed(msgspec.Struct, frozen=True, gc=False):
    """A subscription was accepted."""

    identifier: Identifier


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A subscription was refused."""

    identifier: Identifier


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The application did not decide about a command, or refused to perform it. Action Cable has no message for it."""

    command: Subscribe | Unsubscribe | Perform


class HistoryConfirmed(msgspec.Struct, frozen=True, gc=False):
    """All missed messages have been sent; ``is_empty`` if there were none."""

    identifier: Identifier
    is_empty: bool = False


class HistoryRejected(msgspec.Struct, frozen=True, gc=False):
    """Some missed messages are no longer stored, so none of them was sent."""

    identifier: Identifier


class PresenceState(msgspec.Struct, frozen=True, gc=False):
    """The members of a subscription's stream, or only their number ``total`` if no more was asked for."""

    identifier: Identifier
    total: int
    members: tuple[Member, ...] | None


class PresenceUnknown(msgspec.Struct, frozen=True, gc=False):
    """The members of a subscription's stream could not be read."""

    identifier: Identifier


class Disconnected(msgspec.Struct, frozen=True, gc=False):
    """The server is about to close the connection; ``reconnect`` says whether the client may reconnect.

    ``reason`` is a text if the application wrote it.
    """

    reason: Reason | str
    reconnect: bool


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A publication on its way to one subscription; ``message`` is JSON text.

    With a ``position``, ``stream`` names the history to which it belongs.
    """

    identifier: Identifier
    message: bytes
    kind: str = ""
    stream: Stream | None = None
    position: Position | None = None


Reply = (
    Welcome
    | Ping
    | Pong
    | Confirmed
    | Rejected
    | Failed
    | HistoryConfirmed
    | HistoryRejected
    | PresenceState
    | PresenceUnknown
    | Disconnected
    | Delivery
)
