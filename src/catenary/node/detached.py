"""A listener that is detached from its group on one stream, because its client reads the history meanwhile.

What is published is buffered until the history has been sent; then it passes through to this listener alone, until
the group has caught up and the listener is reattached.
Knows: positions, how much may be buffered. Does not know: histories, who delivers.
"""

from typing import Final

from catenary.messages.publications import Position, Publication, is_later
from catenary.metrics.counters import Counters

BUFFER_LIMIT: Final = 1_000
"""Messages of one stream that are buffered for a listener: ten times what a history has by default. Those
beyond are read from the history; where that does not have them, the client is told so."""

BUFFER_BYTES: Final = 1_048_576
"""And their data: as much as may wait to be sent to a client by default (``ws_max_pending_size``)."""


class Detached:
    """Buffers what is published on one stream for one listener, or lets it pass through.

    ``first`` is where the first message stands that was buffered. ``has_gap`` says that messages were dropped,
    ``has_lost`` that some of these are in no history, ``has_overflowed`` that any were since :meth:`begin_read`. Up to
    ``sent_up_to`` messages were sent from the history before they arrived here.
    """

    __slots__ = (
        "_buffered",
        "_size_bytes",
        "first",
        "has_gap",
        "has_lost",
        "has_overflowed",
        "sent_up_to",
    )

    def __init__(self) -> None:
        self._buffered: list[Publication] | None = []
        self._size_bytes = 0
        self.first: Position | None = None
        self.has_gap = self.has_lost = self.has_overflowed = False
        self.sent_up_to: Position | None = None

    @property
    def may_rejoin(self) -> bool:
        """Has everything that was sent from the history arrived here, so that the group may serve the listener?"""
        return self._buffered is None and self.sent_up_to is None

    def takes(self, publication: Publication, counters: Counters) -> bool:
        """Buffers a message, or drops one that was sent from the history; False: it is to be sent now."""
        if self.sent_up_to is not None and not is_later(publication.position, self.sent_up_to):
            return True
        buffered = self._buffered
        if buffered is None:
            return False
        size = len(publication.data)
        if buffered and (len(buffered) >= BUFFER_LIMIT or self._size_bytes + size > BUFFER_BYTES):
            self._overflow(buffered, counters)
        self._size_bytes += size
        if self.first is None:
            self.first = publication.position
        buffered.append(publication)
        return True

    def _overflow(self, buffered: list[Publication], counters: Counters) -> None:
        """Drops what is buffered: a history has it, but for what is kept in none."""
        counters.replay_overflows_total += 1
        self.has_overflowed = self.has_gap = True
        self.has_lost = self.has_lost or any(each.position is None for each in buffered)
        buffered.clear()
        self._size_bytes = 0

    def begin_buffering(self) -> None:
        """Buffers again where messages passed through; what is buffered already stays."""
        if self._buffered is None:
            self._buffered = []
            self._size_bytes = 0
            self.first = None
            self.has_gap = self.has_lost = self.has_overflowed = False

    def begin_read(self) -> None:
        """A history is read from now on: it has everything that was dropped before."""
        self.has_overflowed = False

    def follows(self, found: tuple[Publication, ...]) -> bool:
        """Is there no gap between the messages that were found in a history and those that were buffered?"""
        if self.first is None:
            return True
        return not is_later(found[0].position, self.first) if found else not self.has_gap

    def take(self) -> list[Publication]:
        """Takes out what is buffered; from now on messages pass through."""
        buffered, self._buffered = self._buffered, None
        return buffered or []
