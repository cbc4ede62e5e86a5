"""A pub/sub whose publications are traced: from the call until they are stored and sent.

Knows: the port of pub/subs. Does not know: which one it is, how spans are recorded.
"""

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Final

from catenary.messages.publications import Publishable, QueueEntry
from catenary.ports import PubSub
from catenary.tracer import Span, TracedAwaitable, Tracer


class TracedPubSub:
    """Satisfies :class:`catenary.ports.PubSub`."""

    __slots__ = ("_pubsub", "_tracer", "relay")

    def __init__(self, tracer: Tracer, pubsub: PubSub) -> None:
        self._tracer = tracer
        self._pubsub = pubsub
        self.relay: Final = pubsub.relay

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[None] | None:
        """See :meth:`catenary.ports.PubSub.send`."""
        span = self._tracer.publishing(publications)
        if span is None:
            return self._pubsub.send(publications, entry)
        try:
            sent = self._pubsub.send(self._tracer.marked(publications, span), entry)
        except BaseException as error:
            span.end(error)
            raise
        if sent is None:
            span.end()
        elif isinstance(sent, asyncio.Future):
            # It goes on whether or not it is awaited.
            sent.add_done_callback(partial(_end, span))
        else:
            return TracedAwaitable(self._tracer.within(span), span, sent)
        return sent


def _end(span: Span, sent: "asyncio.Future[None]") -> None:
    span.end(asyncio.CancelledError() if sent.cancelled() else sent.exception())
