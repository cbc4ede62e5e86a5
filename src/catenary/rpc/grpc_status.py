"""Writes calls as HTTP/2 messages, and reads results from answers, resets and statuses.

Sources: PROTOCOL-HTTP2.md, http-grpc-status-mapping.md and statuscodes.md (grpc/grpc, doc/).
Knows: status codes. Does not know: connections, messages of the application.
"""

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from catenary.errors import AppFailed, AppUnavailable
from catenary.messages.names import Sid
from catenary.protocols import rpc
from catenary.rpc.calls import AppAway, AppBusy, AppLate
from catenary.wire import http2_frames
from catenary.wire.hpack import literal
from catenary.wire.http2_events import Reset, Response

PREFIX_BYTES: Final = 5
"""Before each message: a byte for its compression, and four for its size."""

_REMEMBERED: Final = 1_024
"""Encoded header fields are remembered for so many clients and time limits: clients call more than once."""

_DETAILS_CHARS: Final = 200
_TOO_LARGE: Final = "larger than max"
_is_too_large: Final = re.compile(r"larger than max|exceeds .*size|too large", re.IGNORECASE).search
"""Tells a message over a size limit from a busy server: both have the status RESOURCE_EXHAUSTED.

The first is the text of the libraries for C, Go and JavaScript, the second of those for Java and .NET."""

_STATUSES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_BY_NUMBER: Final = {str(number).encode(): name for number, name in enumerate(_STATUSES)}

_BY_HTTP_STATUS: Final = {
    b"400": "INTERNAL",
    b"401": "UNAUTHENTICATED",
    b"403": "PERMISSION_DENIED",
    b"404": "UNIMPLEMENTED",
    b"429": "UNAVAILABLE",
    b"502": "UNAVAILABLE",
    b"503": "UNAVAILABLE",
    b"504": "UNAVAILABLE",
}

_BY_HTTP2_CODE: Final = {
    http2_frames.REFUSED_STREAM: "UNAVAILABLE",
    http2_frames.CANCEL: "CANCELLED",
    http2_frames.ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED",
    http2_frames.INADEQUATE_SECURITY: "PERMISSION_DENIED",
}


def message(payload: bytes) -> bytes:
    """Returns a request's body, without compression: the prefix is its size, with a first byte of 0."""
    return len(payload).to_bytes(PREFIX_BYTES, "big") + payload


@lru_cache(_REMEMBERED)
def call_fields(sid: Sid, timeout_s: float | None) -> bytes:
    """Encodes the header fields of one call alone; ``timeout_s`` may be None."""
    fields = metadata_fields(sid)
    return fields if timeout_s is None else fields + timeout_field(timeout_s)


def timeout_field(timeout_s: float) -> bytes:
    """Encodes the time limit for the server: at most eight digits and a unit."""
    milliseconds = max(math.ceil(timeout_s * 1000), 1)
    if milliseconds < 10**8:
        return literal(b"grpc-timeout", b"%dm" % milliseconds)
    return literal(b"grpc-timeout", b"%dS" % min(milliseconds // 1000, 10**8 - 1))


def metadata_fields(sid: Sid) -> bytes:
    """Encodes the metadata of a call."""
    return encoded(rpc.metadata(sid).items())


def encoded(metadata: Iterable[tuple[str, str]]) -> bytes:
    """Encodes metadata of ASCII text."""
    return b"".join([literal(name.encode(), value.encode()) for name, value in metadata])


def payload(response: Response) -> bytes:
    """Returns the message of an answer. Raises :class:`AppFailed` and :class:`AppUnavailable`."""
    body = response.body
    # The prefix as one number: not compressed, and of this size.
    if (
        int.from_bytes(body[:PREFIX_BYTES], "big") == len(body) - PREFIX_BYTES
        and response.trailers.get(b"grpc-status") == b"0"
    ):
        return body[PREFIX_BYTES:]
    raise _refusal(response)


def failure(status: str, details: str) -> AppUnavailable | AppFailed:
    """Returns the error for a gRPC status."""
    details = details[:_DETAILS_CHARS]
    text = f"gRPC {status}: {details}"
    match status:
        # A server that is stopped cancels its calls. Calls that this side cancels do not get here.
        case "UNAVAILABLE" | "CANCELLED":
            return AppAway(text)
        case "RESOURCE_EXHAUSTED" if not _is_too_large(details):
            return AppBusy(text)
        case "DEADLINE_EXCEEDED":
            return AppLate(text)
        case _:
            return AppFailed(text)


def oversized(direction: str, limit_bytes: int) -> AppUnavailable | AppFailed:
    """Returns the error for a message that is too large to be ``direction``: "sent" or "received"."""
    return failure("RESOURCE_EXHAUSTED", f"{direction} message {_TOO_LARGE} ({limit_bytes} bytes)")


def reset(event: Reset) -> AppUnavailable | AppFailed:
    """Returns the error for a stream that was reset."""
    if event.malformed:
        return failure("INTERNAL", event.malformed)
    status = _BY_HTTP2_CODE.get(event.code, "INTERNAL")
    return failure(status, f"the stream was reset with HTTP/2 code {event.code}")


def _refusal(response: Response) -> AppUnavailable | AppFailed:
    number = response.trailers.get(b"grpc-status")
    if number is None:
        http_status = response.head[b":status"]
        kind = response.head.get(b"content-type", b"no type").decode("latin-1")
        return failure(
            _BY_HTTP_STATUS.get(http_status, "UNKNOWN"),
            f"expected a grpc-status, got HTTP {http_status.decode()} with {kind}",
        )
    if number == b"0":
        return failure("INTERNAL", _fault(response.body))
    details = unquote_to_bytes(response.trailers.get(b"grpc-message", b""))
    return failure(_BY_NUMBER.get(number, "UNKNOWN"), details.decode(errors="replace"))


def _fault(body: bytes) -> str:
    """Says what is wrong with a body that is not exactly one message."""
    if body[:1] > b"\0":
        return "expected a message that is not compressed"
    if len(body) < PREFIX_BYTES:
        return "expected a message, got none"
    size = int.from_bytes(body[1:PREFIX_BYTES], "big")
    return f"expected one message of {size} bytes, got {len(body) - PREFIX_BYTES}"
