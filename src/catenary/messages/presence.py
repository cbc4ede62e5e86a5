"""The members of a stream, and changes of them.

Source: docs/presence.md (anycable); "presence" of the extended Action Cable protocol.
"""

from typing import Literal

import msgspec

from catenary.messages.names import Stream


class Member(msgspec.Struct, frozen=True, gc=False):
    """A member of a stream; ``info`` is JSON text."""

    id: str
    info: str


class PresenceChange(msgspec.Struct, frozen=True, gc=False):
    """A member joined or left, or its ``info`` changed; a leave has no ``info``."""

    stream: Stream
    kind: Literal["join", "leave", "update"]
    id: str
    info: str = "null"
