"""Names of Pusher's protocol, and the form of a Pusher event as a publication.

An event on a channel is a publication on the channel's stream (:meth:`catenary.config.pusher_apps.PusherApp.stream_of`)
whose data is ``{"event": …, "data": …}``: this is what Action Cable subscribers of the stream receive, and a broadcast in
this form reaches Pusher clients as the event. Source: pusher/encoder.go (anycable); channel names and their prefixes in
https://pusher.com/docs/channels. Knows: names. Does not know: sessions, signatures.
"""

import re
from typing import Any, Final

import msgspec

_CHANNEL: Final = re.compile(r"[A-Za-z0-9_\-=@,.;]{1,200}")
_CACHE: Final = ("cache-", "private-cache-", "presence-cache-", "private-encrypted-cache-")
_USER_CHANNEL: Final = "#server-to-user-"

CLIENT_EVENT: Final = "client-"
"""The prefix of events that clients send."""

COUNT_KIND: Final = "subscription_count"
"""The ``type`` of publications with the number of subscriptions: ``{"subscription_count": …}``."""

RESERVED: Final = ("pusher:", "pusher_internal:")
"""Prefixes of the protocol's own events, which no publisher may imitate."""

MAX_EVENT_NAME: Final = 200
"""Limit of an event's name, in characters."""

MAX_USER_ID: Final = 128
"""Limit of a user's id, in characters."""

_write: Final = msgspec.json.Encoder().encode


def is_channel(name: str) -> bool:
    """Whether this is a valid name of a channel, which has at most 200 characters."""
    return _CHANNEL.fullmatch(name) is not None


def is_private(channel: str) -> bool:
    """Whether a subscription needs a signature; true for presence channels, too."""
    return channel.startswith(("private-", "presence-"))


def needs_signature(channel: str) -> bool:
    """Whether reading this channel requires a signature: of the subscription, or of the user."""
    return is_private(channel) or channel.startswith(_USER_CHANNEL)


def is_presence(channel: str) -> bool:
    """Whether subscribers are members that others see."""
    return channel.startswith("presence-")


def is_encrypted(channel: str) -> bool:
    """Whether the publisher encrypts the data of events; the server relays them unread."""
    return channel.startswith("private-encrypted-")


def is_cache(channel: str) -> bool:
    """Whether a new subscriber receives the last event."""
    return channel.startswith(_CACHE)


def takes_client_events(channel: str) -> bool:
    """Whether subscribers may send events."""
    return is_private(channel) and not is_encrypted(channel)


def user_channel(user_id: str) -> str:
    """The channel of the events for one user, on all of its connections."""
    return f"{_USER_CHANNEL}{user_id}"


def user_identifiers(app_id: str, user_id: str) -> str:
    """The connection identifiers of a user's sessions: a remote disconnect of these closes all of them."""
    return _write({"pusher_app": app_id, "user": user_id}).decode()


def event_text(event: str, data: object, user_id: str | None = None) -> str:
    """An event as the data of a publication; ``user_id`` is the member of a presence channel who sent it."""
    message: dict[str, Any] = {"event": event, "data": data}
    if user_id is not None:
        message["user_id"] = user_id
    return _write(message).decode()
