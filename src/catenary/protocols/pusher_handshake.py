"""The handshake of Pusher's protocol: ``/app/KEY?protocol=7&client=…``, and why a connection is refused.

Source: "Error codes" of https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol.
Knows: queries, codes. Does not know: apps, connections.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qs

PATH: Final = "/app/{key}"

VERSIONS: Final = (5, 6, 7)
"""Versions 6 and 7 only add to version 5, in which ``data`` became a string."""

_NUMBER: Final = re.compile(r"[0-9]{1,4}")


class Refused(NamedTuple):
    """The code and the text of ``pusher:error`` and of the close frame."""

    code: int
    text: str


UNKNOWN_APP: Final = Refused(4001, "The app does not exist")
OVER_QUOTA: Final = Refused(4004, "The app is over its connection quota")
NO_PATH: Final = Refused(4005, "Path not found")
INVALID_VERSION: Final = Refused(4006, "Invalid version string format")
UNSUPPORTED_VERSION: Final = Refused(4007, "Unsupported protocol version")
NO_VERSION: Final = Refused(4008, "No protocol version supplied")
OVER_CAPACITY: Final = Refused(4100, "The server is over capacity")

OVER_LIMIT: Final = Refused(4100, "Too many connections, try again later")
"""Clients of Pusher understand no status of HTTP: they come back after a pause that grows."""

REFUSALS: Final = (
    *(UNKNOWN_APP, OVER_QUOTA, NO_PATH),
    *(INVALID_VERSION, UNSUPPORTED_VERSION, NO_VERSION, OVER_CAPACITY, OVER_LIMIT),
)


def version_refused(query: str) -> Refused | None:
    """The reason to refuse a client with this query; None if it speaks a supported version."""
    given = parse_qs(query, keep_blank_values=True).get("protocol", [""])[0]
    if not given:
        return NO_VERSION
    if _NUMBER.fullmatch(given) is None:
        return INVALID_VERSION
    return None if int(given) in VERSIONS else UNSUPPORTED_VERSION
