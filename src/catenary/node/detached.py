"""A listener that is detached from its group on one stream while its client reads the history or the members.

Messages are buffered until the answer has been sent; then they pass through to this listener, until the group has
caught up and the listener is reattached.
Knows: positions, limits of the buffer. Does not know: histories, deliveries.
"""

from collections.abc import Callable
from typing import Final

from catenary.messages.publications import Position, Publication, is_later
from catenary.metrics.counters import Counters

BUFFER_LIMIT: Final = 1_000
"""Messages of one stream that are buffered for a listener: ten times the default length of a history. On overflow, messages
are read from the history; if it lacks some, the request is rejected. Messages that wait for the members are sent before them."""

BUFFER_BYTES: Final = 1_048_576
"""Size of their data: the default of ``ws_max_pending_size``, which limits what waits to be sent to a client."""


class Detached:
    """Buffers the messages of one stream for one listener, or lets them pass through.

    ``first`` is the position of the first buffered message. ``has_gap`` says that messages were dropped,
    ``has_lost`` that some of them are in no history, ``has_overflowed`` that messages were dropped since
    :meth:`begin_read`. Messages up to ``sent_up_to`` were sent from the history before they arrived here.

    ``send`` is given if no history with these messages is read: on overflow, it is called with the buffered messages, and
    later ones pass through.
    """

    __slots__ = (
        "_buffered",
        "_send",
        "_size_bytes",
        "first",
        "has_gap",
        "has_lost",
        "has_overflowed",
        "sent_up_to",
    )

    def __init__(self, send: Callable[[list[Publication]], object] | None = None) -> None:
        self._send = send
        self._buffered: list[Publication] | None = []
        self._size_bytes = 0
        self.first: Position | None = None
        self.has_gap = self.has_lost = self.has_overflowed = False
        self.sent_up_to: Position | None = None

    @property
    def awaits_members(self) -> bool:
        """Whether no history is read for the listener, only the members."""
        return self._send is not None

    @property
    def may_rejoin(self) -> bool:
        """Whether all messages that were sent from the history have arrived here, so that the listener can join its group."""
        return self._buffered is None and self.sent_up_to is None

    def takes(self, publication: Publication, counters: Counters) -> bool:
        """Buffers a message, or drops one that was sent from the history. False if it must be sent now."""
        if self.sent_up_to is not None and not is_later(publication.position, self.sent_up_to):
            return True
        buffered = self._buffered
        if buffered is None:
            return False
        size = len(publication.data)
        if buffered and (len(buffered) >= BUFFER_LIMIT or self._size_bytes + size > BUFFER_BYTES):
            counters.replay_overflows_total += 1
            if self._send is not None:
                self._send(self.take())
                return False
            self._overflow(buffered)
        self._size_bytes += size
        if self.first is None:
            self.first = publication.position
        buffered.append(publication)
        return True

    def _overflow(self, buffered: list[Publication]) -> None:
        """Drops the buffered messages. They are read from the history, except those that are in none."""
        self.has_overflowed = self.has_gap = True
        self.has_lost = self.has_lost or any(each.position is None for each in buffered)
        buffered.clear()
        self._size_bytes = 0

    def begin_buffering(self) -> None:
        """Buffers again if messages passed through; buffered messages stay."""
        if self._buffered is None:
            self._buffered = []
            self._size_bytes = 0
            self.first = None
            self.has_gap = self.has_lost = self.has_overflowed = False

    def begin_read(self) -> None:
        """A read of the history begins: it returns the messages that were dropped before."""
        self.has_overflowed = False

    def follows(self, found: tuple[Publication, ...]) -> bool:
        """Whether there is no gap between the messages found in a history and the buffered ones."""
        if self.first is None:
            return True
        return not is_later(found[0].position, self.first) if found else not self.has_gap

    def replace(self, keep: Callable[[list[Publication]], list[Publication]]) -> None:
        """Replaces the buffered messages by those that ``keep`` returns."""
        if self._buffered:
            self._buffered = keep(self._buffered)

    def take(self) -> list[Publication]:
        """Returns the buffered messages; later messages pass through."""
        buffered, self._buffered = self._buffered, None
        return buffered or []
