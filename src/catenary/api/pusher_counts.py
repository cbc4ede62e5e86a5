"""Publishes the number of subscriptions of a Pusher channel to its clients, for apps with ``subscription_count``.

Source: "Subscription count" (pusher.com/docs/channels/using_channels/events/#subscription-count).
Knows: apps, the occupancy of streams, publications. Does not know: connections.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from catenary.api.pusher_webhooks import PusherWebhooks
from catenary.config.pusher_apps import PusherApp
from catenary.errors import BackendError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable
from catenary.node.background import BackgroundTasks
from catenary.protocols.pusher_events import COUNT_KIND, is_channel, is_presence

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.pusher"))

Send = Callable[[tuple[Publishable, ...]], Awaitable[None] | None]


class PusherCounts:
    """Satisfies :class:`catenary.node.occupancy.OccupancyObserver`: passes everything to the webhooks, and publishes counts.

    ``send`` is that of :class:`catenary.ports.PubSub`.
    """

    __slots__ = ("_apps", "_background", "_send", "_webhooks")

    def __init__(self, apps: Iterable[PusherApp], webhooks: PusherWebhooks, send: Send) -> None:
        self._apps = tuple(app for app in apps if app.subscription_count)
        self._webhooks = webhooks
        self._send = send
        self._background = BackgroundTasks()

    def occupied(self, stream: Stream) -> None:
        """A channel has its first subscriber."""
        self._webhooks.occupied(stream)

    def vacated(self, stream: Stream) -> None:
        """A channel has lost its last subscriber."""
        self._webhooks.vacated(stream)

    def wants_count(self, stream: Stream) -> bool:
        """Whether the number of subscribers is to be reported."""
        return self._webhooks.wants_count(stream) or self._is_counted(stream)

    def counted(self, stream: Stream, subscribers: int) -> None:
        """The number of subscribers of a channel has changed."""
        if self._webhooks.wants_count(stream):
            self._webhooks.counted(stream, subscribers)
        if subscribers and self._is_counted(stream):
            data = f'{{"subscription_count":{subscribers}}}'
            publication = Publication(stream, data, kind=COUNT_KIND, transient=True)
            self._background.run(self._publish(publication))

    def _is_counted(self, stream: Stream) -> bool:
        """Whether the clients of a channel are notified. Those of a presence channel count its members."""
        for app in self._apps:
            channel = app.channel_of(stream)
            if channel is not None and is_channel(channel):
                return not is_presence(channel)
        return False

    async def _publish(self, publication: Publication) -> None:
        try:
            sent = self._send((publication,))
            if sent is not None:
                await sent
        except BackendError as error:
            _limited.info("Subscription count was not published, the next change is: %s", error)
