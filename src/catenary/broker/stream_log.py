"""One stream's messages for a while: the last ``limit`` of them, each for ``ttl_s``.

The promise is that a position gets everything behind it or :class:`LostPosition`, never a part.
It rests on two things: the messages kept are always the newest ones without a hole, and no offset
means two messages in one epoch. For the second, a log outlives its messages; and who forgets it in
the end begins the stream's next log behind every offset of the forgotten ones (``newest``).
Source: docs/reliable_streams.md (anycable).
"""

from bisect import bisect_left, bisect_right
from sys import getsizeof
from typing import Final

import msgspec

from catenary.errors import LostPosition
from catenary.messages.publications import Position, Publication

KEPT_EMPTY: Final = 10
"""Times to live that a log without messages stays, as in anycable-go: its offsets go on."""

LOG_BYTES: Final = 400
"""What a log and its place among others cost without a message, measured in CPython 3.11."""

DROPPED_SHARE: Final = 8
"""Messages that were dropped stay in front of the others until they are an eighth of all: to take one
out moves the pointers of all others."""

MESSAGE_BYTES: Final = 200
"""What a message costs beside its text: the publication, its position and moment."""


class StreamLog:
    """Messages of one stream and one epoch.

    ``now`` is in seconds; a clock that steps back stands still here until it has caught up.
    ``newest`` is the offset handed out last; offsets grow by one. With a limit or a time to live of
    0 nothing is kept, and offsets are handed out all the same.
    """

    __slots__ = (
        "_dropped",
        "_epoch",
        "_last_moment",
        "_limit",
        "_messages",
        "_moments",
        "_ttl_s",
        "newest",
        "size_bytes",
    )

    def __init__(self, *, limit: int, ttl_s: float, epoch: str, newest: int = 0) -> None:
        self._limit = limit
        self._ttl_s = ttl_s
        self._epoch = epoch
        self._messages: list[Publication] = []
        self._moments: list[float] = []  # of the messages, never falling
        self._dropped = 0  # how many of the first ones do not count any more
        self._last_moment = float("-inf")
        self.newest = newest
        self.size_bytes = LOG_BYTES

    def __len__(self) -> int:
        return len(self._messages) - self._dropped

    @property
    def deadline(self) -> float:
        """When something of it ends: its oldest message, or without one the log itself."""
        if self._moments:
            return self._moments[self._dropped] + self._ttl_s
        return self._last_moment + self._ttl_s * KEPT_EMPTY

    def append(self, publication: Publication, now: float) -> Publication:
        """Keeps a message, and returns it with its position."""
        self.expire(now)
        self.newest += 1
        position = Position(self._epoch, self.newest)
        publication = msgspec.structs.replace(publication, position=position)
        self._last_moment = max(now, self._last_moment)
        if self._limit > 0:
            self._drop(len(self) + 1 - self._limit)
            self._messages.append(publication)
            self._moments.append(self._last_moment)
            self.size_bytes += _size(publication)
        return publication

    def after(
        self, position: Position, now: float, limit: int | None = None
    ) -> tuple[Publication, ...]:
        """Returns the messages after a position, oldest first; with a ``limit``, the first so many of them.

        Raises :class:`LostPosition` where a part of that may be missing: the position is older than
        what is kept, of another epoch, or was never handed out.
        """
        if position.epoch != self._epoch:
            raise LostPosition(f"expected the epoch {self._epoch!r}, got {position.epoch!r}")
        self.expire(now)
        behind = self.newest - position.offset
        if not 0 <= behind <= len(self):
            oldest = self.newest - len(self)
            raise LostPosition(
                f"expected an offset from {oldest} to {self.newest}, got {position.offset}"
            )
        first = len(self._messages) - behind
        return tuple(self._messages[first : None if limit is None else first + limit])

    def since(
        self, moment_s: float, now: float, limit: int | None = None, *, newest: bool = False
    ) -> tuple[Publication, ...]:
        """Returns the messages from a moment on, that moment included, oldest first.

        With a ``limit``, returns the first so many of them, or the last so many if ``newest``.
        """
        self.expire(now)
        first = bisect_left(self._moments, moment_s, self._dropped)
        if limit is None:
            return tuple(self._messages[first:])
        if newest:
            first = max(first, len(self._messages) - limit)
        return tuple(self._messages[first : first + limit])

    def expire(self, now: float) -> int:
        """Drops the messages whose time is over; how many."""
        dropped = self._dropped
        if not self._moments or self._moments[dropped] + self._ttl_s > now:
            return 0
        # The sum that makes the deadline, not its inverse: rounded otherwise they might disagree.
        end = bisect_right(self._moments, now, dropped, key=lambda moment: moment + self._ttl_s)
        self._drop(end - dropped)
        return end - dropped

    def is_over(self, now: float) -> bool:
        """Has it been without messages for so long that nobody will come back for its offsets?"""
        return len(self) == 0 and self.deadline <= now

    def _drop(self, count: int) -> None:
        """The oldest ones."""
        if count <= 0:
            return
        self._dropped += count
        if self._dropped * DROPPED_SHARE >= len(self._messages):
            self.size_bytes -= sum(map(_size, self._messages[: self._dropped]))
            del self._messages[: self._dropped]
            del self._moments[: self._dropped]
            self._dropped = 0


def _size(publication: Publication) -> int:
    return MESSAGE_BYTES + getsizeof(publication.data)
