"""The decision of the application about one call.

Source: ConnectionResponse and CommandResponse of etc/rpc.proto (anycable/anycable).
"""

import enum
from typing import Final, Literal

import msgspec

from catenary.messages.names import Stream
from catenary.messages.replies import Reply

WHISPER_STATE: Final = "$w"
"""The key of a subscription's state for its whisper stream: WHISPER_STREAM_STATE of common.go (anycable)."""

PRESENCE_STATE: Final = "$p"
"""The key for its presence stream: PRESENCE_STREAM_STATE of common.go (anycable)."""


class Verdict(enum.Enum):
    """How a call ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    """The application refused."""
    ERROR = "error"
    """The application failed and has logged the cause; the other fields of the decision are ignored."""


class PresenceCommand(msgspec.Struct, frozen=True, gc=False):
    """The application makes a client join as the member ``id``, with ``info`` in JSON, or leave."""

    kind: Literal["join", "leave"]
    id: str = ""
    info: str = "null"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one call, which is applied in one step.

    ``replies`` are sent first, in the client's own protocol; ``transmissions`` after them, as the
    application wrote them. An empty value in ``cstate`` or ``istate`` removes its key.
    ``disconnect_wanted`` says whether the application wants a Disconnect call for the session; None if it did
    not say so. The client may whisper on ``whisper_stream`` and be present on ``presence_stream``; ``presence`` is its
    join or leave there. ``expires_at`` is when the token of the client expires, in seconds since 1970; None: never.
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
