"""The events that a connection of HTTP/2 reports to its owner.

Knows: header fields. Does not know: frames, what requests mean.
"""

import msgspec

from catenary.wire.http2_frames import Http2Error
from catenary.wire.http2_headers import Headers


class Opened(msgspec.Struct, frozen=True, gc=False):
    """The server's settings have arrived: requests may be sent."""


class Response(msgspec.Struct, frozen=True, gc=False):
    """A complete response. If it has nothing but a head, that is also its trailers."""

    stream_id: int
    head: Headers
    body: bytes
    trailers: Headers


class Reset(msgspec.Struct, frozen=True, gc=False):
    """A request without a response: reset by the server, or by this side if the response is ``malformed``."""

    stream_id: int
    code: int
    malformed: str = ""


class Oversized(msgspec.Struct, frozen=True, gc=False):
    """A response that exceeds the limit; its rest is not read."""

    stream_id: int


class GoingAway(msgspec.Struct, frozen=True, gc=False):
    """No more requests can be sent on this connection. Requests that get no response have events of their own."""

    code: int
    debug: bytes


Event = Opened | Response | Reset | Oversized | GoingAway | Http2Error
