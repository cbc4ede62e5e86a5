"""The webhooks of Pusher apps: translates what happens on streams to events, for the URLs that want them.

Knows: apps, streams. Does not know: how a webhook is sent.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from catenary.config.pusher_apps import PusherApp
from catenary.messages.environment import Environment
from catenary.messages.lenient_json import reader
from catenary.messages.names import Stream
from catenary.messages.presence import PresenceChange
from catenary.messages.publications import Publication
from catenary.protocols.pusher_events import CLIENT_EVENT, is_cache, is_channel, is_presence
from catenary.protocols.pusher_webhooks import EventName, WebhookEvent, encoded
from catenary.silent_observer import SilentObserver


class _ClientEvent(msgspec.Struct, gc=False):
    event: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    user_id: str | None = None


_read_client_event: Final = reader(_ClientEvent)
_read_text: Final = reader(str)


class AppWebhooks(msgspec.Struct, frozen=True):
    """The URLs of one app: the names of the events that each wants, and a function that queues an encoded event."""

    app: PusherApp
    receivers: Sequence[tuple[frozenset[str], Callable[[bytes], None]]]

    def wants(self, name: EventName) -> bool:
        """Whether any URL wants events of this name."""
        return any(name in names for names, _ in self.receivers)

    def put(self, event: WebhookEvent) -> None:
        """Queues an event for each URL that wants it."""
        raw = encoded(event)
        for names, put in self.receivers:
            if event.name in names:
                put(raw)


class PusherWebhooks(SilentObserver):
    """Is notified of the clients of a node, and satisfies :class:`catenary.node.occupancy.OccupancyObserver`."""

    __slots__ = ("_apps",)

    def __init__(self, apps: Iterable[AppWebhooks]) -> None:
        self._apps: Final = tuple(apps)

    def covers(self, stream: Stream) -> bool:
        """Whether a stream is that of a channel of any app."""
        return self._find(stream) is not None

    # Channels

    def occupied(self, stream: Stream) -> None:
        """A channel has its first subscriber."""
        self._put(stream, "channel_occupied")

    def vacated(self, stream: Stream) -> None:
        """A channel has lost its last subscriber."""
        self._put(stream, "channel_vacated")

    def wants_count(self, stream: Stream) -> bool:
        """Whether the number of subscribers is to be reported."""
        found = self._find(stream)
        return found is not None and found[0].wants("subscription_count")

    def counted(self, stream: Stream, subscribers: int) -> None:
        """The number of subscribers of a channel has changed."""
        self._put(stream, "subscription_count", subscription_count=subscribers)

    # Clients

    def presence_changed(self, change: PresenceChange) -> None:
        """A member of a presence channel has joined or left."""
        found = self._find(change.stream)
        if found is not None and is_presence(found[1]) and change.kind != "update":
            webhooks, channel = found
            name: EventName = "member_added" if change.kind == "join" else "member_removed"
            webhooks.put(WebhookEvent(name, channel, user_id=change.id))

    def found_no_history(self, environment: Environment, stream: Stream) -> None:
        """A client has subscribed to a cache channel that has no event."""
        found = self._find(stream)
        if found is not None and is_cache(found[1]):
            self._put(stream, "cache_miss")

    def whispered(self, environment: Environment, publication: Publication) -> None:
        """A client has sent an event to the others of a channel."""
        found = self._find(publication.stream)
        if found is None or not found[0].wants("client_event"):
            return
        try:
            sent = _read_client_event(publication.data)
        except msgspec.DecodeError:
            return  # a client of another protocol, whose messages have no name
        if sent.event.startswith(CLIENT_EVENT):
            webhooks, channel = found
            webhooks.put(
                WebhookEvent(
                    "client_event",
                    channel,
                    user_id=sent.user_id if is_presence(channel) else None,
                    event=sent.event,
                    data=_text(bytes(sent.data)),
                    socket_id=environment.sid,
                )
            )

    def _put(
        self,
        stream: Stream,
        name: EventName,
        *,
        subscription_count: int | None = None,
    ) -> None:
        found = self._find(stream)
        if found is not None:
            webhooks, channel = found
            webhooks.put(WebhookEvent(name, channel, subscription_count=subscription_count))

    def _find(self, stream: Stream) -> tuple[AppWebhooks, str] | None:
        """The app and the channel of a stream; None for one that is no channel."""
        for webhooks in self._apps:
            channel = webhooks.app.channel_of(stream)
            if channel is not None and is_channel(channel):
                return webhooks, channel
        return None


def _text(data: bytes) -> str:
    """Data as text: a string as it is, anything else in JSON."""
    try:
        return _read_text(data)
    except msgspec.DecodeError:
        return data.decode()
