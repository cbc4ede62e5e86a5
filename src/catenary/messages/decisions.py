"""What the application decided about one call.

Source: ConnectionResponse and CommandResponse of etc/rpc.proto (anycable/anycable).
"""

import enum
from typing import Literal

import msgspec

from catenary.messages.names import Stream
from catenary.messages.replies import Reply


class Verdict(enum.Enum):
    """How a call ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    """The application said no."""
    ERROR = "error"
    """The application failed, and has logged why; nothing else of the decision counts."""


class PresenceCommand(msgspec.Struct, frozen=True, gc=False):
    """The application lets a client join as the member ``id``, with ``info`` in JSON, or leave."""

    kind: Literal["join", "leave"]
    id: str = ""
    info: str = "null"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one call; everything in it is applied in one go.

    ``replies`` are sent first, in the client's own protocol; ``transmissions`` after them, as the
    application wrote them. An empty value in ``cstate`` or ``istate`` removes its key.
    ``disconnect_wanted`` None means that the application did not say whether it wants to hear of
    the end of the session. ``whispers_to`` is the stream that the client may whisper to, ``seen_on``
    that on which it may be present, ``presence`` its coming or going there. ``expires_at`` is when the
    token with which the client connected expires, in seconds since 1970; None: never.
    """

    verdict: Verdict = Verdict.SUCCESS
    identifiers: str = ""
    replies: tuple[Reply, ...] = ()
    transmissions: tuple[str, ...] = ()
    streams: tuple[Stream, ...] = ()
    stopped_streams: tuple[Stream, ...] = ()
    stop_all_streams: bool = False
    disconnect: bool = False
    cstate: dict[str, str] | None = None
    istate: dict[str, str] | None = None
    whispers_to: Stream | None = None
    seen_on: Stream | None = None
    presence: PresenceCommand | None = None
    error: str = ""
    disconnect_wanted: bool | None = None
    expires_at: float | None = None
