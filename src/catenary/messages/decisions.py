"""What the application decided about one call.

Source: ConnectionResponse and CommandResponse of etc/rpc.proto (anycable/anycable).
"""

import enum
from typing import Final, Literal

import msgspec

from catenary.messages.names import Stream
from catenary.messages.replies import Reply

WHISPER_STATE: Final = "$w"
"""The key of a subscription's state under which an application puts its whisper stream: WHISPER_STREAM_STATE of common.go
(anycable)."""

PRESENCE_STATE: Final = "$p"
"""The same for its presence stream: PRESENCE_STREAM_STATE, likewise."""


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
    the end of the session. ``whisper_stream`` is the stream that the client may whisper to, ``presence_stream``
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
    whisper_stream: Stream | None = None
    presence_stream: Stream | None = None
    presence: PresenceCommand | None = None
    error: str = ""
    disconnect_wanted: bool | None = None
    expires_at: float | None = None
