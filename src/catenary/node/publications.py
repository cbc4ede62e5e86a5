"""Publications: read, counted, and sent to every node or to the clients of this one.

Knows: what publishers send, pub/sub, the hub. Does not know: sessions, where publishers are connected.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from catenary.errors import BackendError, PublicationError, RateExceeded
from catenary.logs.fields import fields
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.commands import Whisper
from catenary.messages.publications import (
    Publication,
    Publishable,
    QueueEntry,
    RemoteDisconnect,
    parse,
    with_trace,
)
from catenary.metrics.counters import Counters
from catenary.node.batches import LARGE_BYTES, read_in_turns
from catenary.node.hub import Hub
from catenary.node.observers import ObserverGroup
from catenary.node.publication_rates import PublicationRates
from catenary.node.session import Subscription
from catenary.ports import PubSub

_log: Final = logging.getLogger("catenary.node")

DELIVERED_AT_ONCE: Final = 100
"""Publications of a batch that are delivered in one turn of the event loop: 1 to 2 ms."""


Charge = Callable[[int], None]
"""Counts the messages of a request in the limit of its publisher."""


class Publications:
    """Takes what publishers and whispering clients send to this node."""

    __slots__ = (
        "_are_sessions_shared",
        "_counters",
        "_hub",
        "_is_whisper_logged",
        "_limited",
        "_observers",
        "_pubsub",
        "_rates",
    )

    def __init__(
        self,
        hub: Hub,
        pubsub: PubSub,
        counters: Counters,
        observers: ObserverGroup,
        *,
        are_sessions_shared: bool,
    ) -> None:
        """``are_sessions_shared`` says that a remote disconnect must also end sessions which other nodes keep."""
        self._hub = hub
        self._pubsub = pubsub
        self._counters = counters
        self._observers = observers
        self._are_sessions_shared = are_sessions_shared
        self._rates = PublicationRates(hub.rules, time.monotonic)
        self._is_whisper_logged = False
        self._limited = RateLimitedLogger(_log)

    def publish(
        self,
        raw: bytes | str,
        entry: QueueEntry | None = None,
        trace: str = "",
        charge: Charge | None = None,
    ) -> Awaitable[None] | None:
        """Sends publications to all nodes, in order; None if that is done.

        A publisher awaits the result before it sends more: this is how it is slowed down when deliveries do not
        keep up. Raises :class:`PublicationError` for malformed input, which was counted and reported: the caller logs it with its
        source. ``entry`` is the queue entry that the publications were read from, if any; ``trace`` the span of the request that
        brought them (:attr:`catenary.messages.publications.Publication.trace`). ``charge`` is called with their number.
        """
        return self._pubsub.send(self._parse(raw, trace, charge), entry) or self._hub.caught_up()

    def publish_in_turns(
        self,
        raw: bytes,
        entry: QueueEntry | None = None,
        trace: str = "",
        charge: Charge | None = None,
    ) -> Awaitable[None] | None:
        """The same as :meth:`publish`, for publishers that wait for each publication: a large batch is read in several
        turns of the event loop, and publications of others may be sent before it. It is still sent completely or
        not at all. If it is large, awaiting raises :class:`PublicationError`."""
        if len(raw) <= LARGE_BYTES:
            return self.publish(raw, entry, trace, charge)
        return self._publish_large(raw, entry, trace, charge)

    async def _publish_large(
        self, raw: bytes, entry: QueueEntry | None, trace: str, charge: Charge | None
    ) -> None:
        publications = await self._parse_large(raw, trace, charge)
        sent = self._pubsub.send(publications, entry) or self._hub.caught_up()
        if sent is not None:
            await sent

    def publish_locally(self, raw: bytes) -> Awaitable[None] | None:
        """The same as :meth:`publish_in_turns`, for publications that every node receives from the publisher itself: they
        are delivered to the clients of this node only.

        No history keeps them, because nodes could not agree on their positions. A remote disconnect is relayed
        if sessions are shared by nodes: it ends those, too.
        """
        if len(raw) <= LARGE_BYTES:
            return self._deliver(self._parse(raw))
        return self._deliver_large(raw)

    async def _deliver_large(self, raw: bytes) -> None:
        delivered = self._deliver(await self._parse_large(raw))
        if delivered is not None:
            await delivered

    def _deliver(self, publications: tuple[Publishable, ...]) -> Awaitable[None] | None:
        if len(publications) > DELIVERED_AT_ONCE:
            return self._deliver_in_turns(publications)
        for publication in publications:
            if isinstance(publication, RemoteDisconnect) and self._are_sessions_shared:
                return self._relay(publication)
            self._hub.deliver(publication)
        return self._hub.caught_up()

    async def _deliver_in_turns(self, publications: tuple[Publishable, ...]) -> None:
        for start in range(0, len(publications), DELIVERED_AT_ONCE):
            for publication in publications[start : start + DELIVERED_AT_ONCE]:
                self._hub.deliver(publication)
            await (self._hub.caught_up() or asyncio.sleep(0))

    async def _relay(self, command: RemoteDisconnect) -> None:
        try:
            relayed = self._pubsub.relay(command)
            if relayed is not None:
                await relayed
        except BackendError as error:
            self._limited.warning(
                "A remote disconnect reaches the clients of this node only: %s", error
            )
            self._hub.deliver(command)

    def _parse(
        self, raw: bytes | str, trace: str = "", charge: Charge | None = None
    ) -> tuple[Publishable, ...]:
        try:
            publications = parse(raw)
        except PublicationError as error:
            self._note_refused(raw, error)
            raise
        return self._accept(raw, publications, trace, charge)

    async def _parse_large(
        self, raw: bytes, trace: str = "", charge: Charge | None = None
    ) -> tuple[Publishable, ...]:
        try:
            publications = await read_in_turns(raw, self._hub.turns)
        except PublicationError as error:
            self._note_refused(raw, error)
            raise
        return self._accept(raw, publications, trace, charge)

    def _accept(
        self,
        raw: bytes | str,
        publications: tuple[Publishable, ...],
        trace: str,
        charge: Charge | None,
    ) -> tuple[Publishable, ...]:
        """Counts publications that were read. Raises :class:`RateExceeded`."""
        self.take_rates(raw, publications)
        if charge is not None:
            charge(len(publications))
        self.note_published(publications)
        return with_trace(publications, trace) if trace else publications

    def take_rates(self, raw: bytes | str, publications: tuple[Publishable, ...]) -> None:
        """Counts publications, which came as ``raw``, in the rates of their streams. Raises :class:`RateExceeded`, which was counted
        and reported."""
        if not self._hub.rules.has_rates:
            return
        try:
            self._rates.take(publications)
        except RateExceeded as error:
            self._counters.rate_limited_publications_total += len(publications)
            if self._observers.publication_refused is not None:
                self._observers.publication_refused(raw, str(error))
            raise

    def note_published(self, publications: tuple[Publishable, ...]) -> None:
        """Counts publications that were read, or sent by a transport itself."""
        self._counters.publications_total += len(publications)
        if self._observers.published is not None:
            self._observers.published(publications)

    def _note_refused(self, raw: bytes | str, error: PublicationError) -> None:
        self._counters.failed_broadcast_msg_total += 1
        if self._observers.publication_refused is not None:
            self._observers.publication_refused(raw, str(error))

    # Whispers

    def whisper(self, subscription: Subscription, whisper: Whisper) -> Awaitable[None] | None:
        """Sends a client's message to the other clients of its whisper stream; ignored if it has none.

        A client that whispers faster than messages are delivered waits, as every publisher does.
        """
        stream = subscription.whisper_stream
        if stream is None or self._hub.rules.of(stream).whisper is False:
            self._log_ignored_whisper(subscription)
            return None
        sid = subscription.session.sid
        publication = Publication(stream, whisper.data, exclude_socket=sid, transient=True)
        if self._hub.rules.has_rates:
            try:
                self._rates.take((publication,))
            except RateExceeded:
                self._counters.rate_limited_publications_total += 1
                return None
        if self._observers.whispered is not None:
            self._observers.whispered(subscription.session.environment, publication)
        return self._pubsub.send((publication,)) or self._hub.caught_up()

    def _log_ignored_whisper(self, subscription: Subscription) -> None:
        """Logs once: every client of a channel would cause the same line."""
        if not self._is_whisper_logged:
            self._is_whisper_logged = True
            _log.warning(
                "Whisper ignored on %.200s: none of its streams is for whispers"
                " (--streams_whisper; in a channel stream_from(…, whisper=True); streams.rules)",
                subscription.identifier,
                extra=fields("ignored", sid=subscription.session.sid),
            )
