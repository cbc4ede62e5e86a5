"""The webhooks of Pusher: notifications of an application by HTTP POST.

    {"time_ms": 1327078148132, "events": [{"name": "channel_occupied", "channel": "news"}]}

Source: "Webhooks" (pusher.com/docs/channels/server_api/webhooks).
Knows: JSON. Does not know: when something happens, how a webhook is sent.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from catenary.auth.pusher import PusherSignatures

EventName = Literal[
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
]


class WebhookEvent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One event. ``data`` of a client event is text, as the client sent it, or in JSON; ``user_id`` is that of the member
    of a presence channel."""

    name: EventName
    channel: str
    user_id: str | None = None
    event: str | None = None
    data: str | None = None
    socket_id: str | None = None
    subscription_count: int | None = None


encoded: Final = msgspec.json.Encoder().encode
"""Writes one event."""


def body(time_ms: int, events: Iterable[bytes]) -> bytes:
    """The body of a webhook with these encoded events; ``time_ms`` counts milliseconds since 1970."""
    return b'{"time_ms":%d,"events":[%b]}' % (time_ms, b",".join(events))


def headers(signatures: PusherSignatures, content: bytes) -> dict[str, str]:
    """The headers that show that a body comes from an app."""
    return {"X-Pusher-Key": signatures.key, "X-Pusher-Signature": signatures.digest(content)}
