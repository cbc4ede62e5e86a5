"""What a client may hear.

Source: Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io.
"""

import msgspec

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


class HistoryConfirmed(msgspec.Struct, frozen=True, gc=False):
    """Everything that was missed has been sent."""

    identifier: Identifier


class HistoryRejected(msgspec.Struct, frozen=True, gc=False):
    """Not everything that was missed is there; nothing of it was sent."""

    identifier: Identifier


class PresenceState(msgspec.Struct, frozen=True, gc=False):
    """Who is on a subscription's stream: ``total``, and the ``members`` unless only that was asked."""

    identifier: Identifier
    total: int
    members: tuple[Member, ...] | None


class PresenceUnknown(msgspec.Struct, frozen=True, gc=False):
    """Who is there could not be found out."""

    identifier: Identifier


class Disconnected(msgspec.Struct, frozen=True, gc=False):
    """The server is about to close; ``reconnect`` tells whether the client may come back.

    ``reason`` is a text where the application wrote one of its own.
    """

    reason: Reason | str
    reconnect: bool


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A publication on its way to one subscription; ``message`` is JSON text.

    With a ``position``, ``stream`` tells the client to which history that belongs.
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
    | HistoryConfirmed
    | HistoryRejected
    | PresenceState
    | PresenceUnknown
    | Disconnected
    | Delivery
)
