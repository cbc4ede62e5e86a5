"""Who is on a stream, and what others are told of it.

Source: docs/presence.md (anycable); "presence" of the extended Action Cable protocol.
"""

from typing import Literal

import msgspec

from catenary.messages.names import Stream


class Member(msgspec.Struct, frozen=True, gc=False):
    """Somebody who is present; ``info`` is JSON text."""

    id: str
    info: str


class PresenceChange(msgspec.Struct, frozen=True, gc=False):
    """Somebody came, went, or is known otherwise now; a leave has no ``info``."""

    stream: Stream
    kind: Literal["join", "leave", "update"]
    id: str
    info: str = "null"
