"""What a client may hear.

Source: Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io.
"""

import msgspec

from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason


class Welcome(msgspec.Struct, frozen=True, gc=False):
    """The connection is accepted."""

    sid: Sid


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


class Disconnected(msgspec.Struct, frozen=True, gc=False):
    """The server is about to close; ``reconnect`` tells whether the client may come back."""

    reason: Reason
    reconnect: bool


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A publication on its way to one subscription; ``message`` is JSON text."""

    identifier: Identifier
    message: bytes
    kind: str = ""


class Verbatim(msgspec.Struct, frozen=True, gc=False):
    """A message that the application wrote itself (a transmission), in the protocol's JSON form."""

    text: str


Reply = Welcome | Ping | Pong | Confirmed | Rejected | Disconnected | Delivery | Verbatim
