"""The history of one stream: its last ``limit`` messages, each for ``ttl_s`` seconds, and at most ``max_bytes`` of them.

A read after a position returns all messages after it, or raises :class:`LostPosition`; never a part of them. For
that, the stored messages are always the newest ones without a gap, and an epoch never uses an offset twice. So a
log outlives its messages, and the owner that finally drops it begins the next log of the stream after its highest
offset (``newest``).
Source: docs/reliable_streams.md (anycable).
"""

from bisect import bisect_left, bisect_right
from itertools import islice
from sys import getsizeof
from typing import Final

import msgspec

from catenary.errors import LostPosition
from catenary.messages.publications import Position, Publication

KEPT_EMPTY: Final = 10
"""A log without messages is kept for this many TTLs, as in anycable-go, so that its offsets continue."""

LOG_BYTES: Final = 400
"""Memory of an empty log and its entry in a dict, measured in CPython 3.11."""

DROPPED_SHARE: Final = 8
"""Dropped messages stay at the front of the list until they are an eighth of it: removing one moves the pointers of
all others."""

MESSAGE_BYTES: Final = 200
"""Memory of a message beside its text: the publication, its position and time."""


class StreamLog:
    """Messages of one stream and one epoch.

    ``now`` is in seconds since 1970; if the clock steps back, messages get the highest time so far. ``newest`` is
    the last offset that was assigned; offsets grow by one. With a limit or a TTL of 0 no message is stored, but offsets
    are assigned. ``max_bytes`` limits the data of all messages, in UTF-8 (0: no limit): a larger message is not stored.
    """

    __slots__ = (
        "_data_bytes",
        "_dropped",
        "_epoch",
        "_last_moment",
        "_limit",
        "_max_bytes",
        "_messages",
        "_moments",
        "_ttl_s",
        "newest",
        "size_bytes",
    )

    def __init__(
        self, *, limit: int, ttl_s: float, epoch: str, newest: int = 0, max_bytes: int = 0
    ) -> None:
        self._limit = limit
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._data_bytes = 0  # of the messages that are stored; counted only if they are limited
        self._epoch = epoch
        self._messages: list[Publication] = []
        self._moments: list[float] = []  # times of the messages, in ascending order
        self._dropped = 0  # number of dropped messages at the front
        self._last_moment = float("-inf")
        self.newest = newest
        self.size_bytes = LOG_BYTES

    def __len__(self) -> int:
        return len(self._messages) - self._dropped

    @property
    def deadline(self) -> float:
        """When its oldest message expires; without messages, when the log itself does."""
        if self._moments:
            return self._moments[self._dropped] + self._ttl_s
        return self._last_moment + self._ttl_s * KEPT_EMPTY

    def append(self, publication: Publication, now: float) -> Publication:
        """Stores a message and returns it with its position."""
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
            if self._max_bytes:
                self._data_bytes += _data_size(publication)
                self._drop_excess_bytes()
        return publication

    def change_limits(self, *, limit: int, ttl_s: float, max_bytes: int) -> None:
        """Replaces the limits, and drops what exceeds them. The TTL holds for messages that are stored, too."""
        self._drop(len(self) - limit)
        self._limit, self._ttl_s, self._max_bytes = limit, ttl_s, max_bytes
        if max_bytes:
            self._data_bytes = sum(map(_data_size, self._messages[self._dropped :]))
            self._drop_excess_bytes()

    def _drop_excess_bytes(self) -> None:
        """Drops the oldest messages, even the newest one if it is too large: a part without a gap remains."""
        sizes = map(_data_size, islice(self._messages, self._dropped, None))
        excess, count = self._data_bytes - self._max_bytes, 0
        while excess > 0:
            excess -= next(sizes)
            count += 1
        self._drop(count)

    def after(
        self, position: Position, now: float, limit: int | None = None
    ) -> tuple[Publication, ...]:
        """Returns the messages after a position, oldest first, at most ``limit`` of them.

        Raises :class:`LostPosition` if messages after the position may be missing: it is older than the stored
        messages, of another epoch, or was never assigned.
        """
        if position.epoch != self._epoch:
            raise LostPosition(f"expected the epoch {self._epoch!r}, got {position.epoch!r}")
        self.expire(now)
        count = self.newest - position.offset
        if not 0 <= count <= len(self):
            oldest = self.newest - len(self)
            raise LostPosition(
                f"expected an offset from {oldest} to {self.newest}, got {position.offset}"
            )
        first = len(self._messages) - count
        return tuple(self._messages[first : None if limit is None else first + limit])

    def since(
        self, moment_s: float, now: float, limit: int | None = None, *, newest: bool = False
    ) -> tuple[Publication, ...]:
        """Returns the messages since a time (inclusive), oldest first.

        With a ``limit``, returns the first ``limit`` of them, or the last if ``newest``.
        """
        self.expire(now)
        first = bisect_left(self._moments, moment_s, self._dropped)
        if limit is None:
            return tuple(self._messages[first:])
        if newest:
            first = max(first, len(self._messages) - limit)
        return tuple(self._messages[first : first + limit])

    def expire(self, now: float) -> int:
        """Drops messages whose TTL has passed, and returns their number."""
        dropped = self._dropped
        if not self._moments or self._moments[dropped] + self._ttl_s > now:
            return 0
        # The same sum as in the deadline: its inverse may be rounded differently.
        end = bisect_right(self._moments, now, dropped, key=lambda moment: moment + self._ttl_s)
        self._drop(end - dropped)
        return end - dropped

    def is_over(self, now: float) -> bool:
        """Whether it has been empty for so long that no client will ask for its offsets again."""
        return len(self) == 0 and self.deadline <= now

    def _drop(self, count: int) -> None:
        """Drops the oldest messages."""
        if count <= 0:
            return
        if self._max_bytes:
            dropped = islice(self._messages, self._dropped, self._dropped + count)
            self._data_bytes -= sum(map(_data_size, dropped))
        self._dropped += count
        if self._dropped * DROPPED_SHARE >= len(self._messages):
            self.size_bytes -= sum(map(_size, self._messages[: self._dropped]))
            del self._messages[: self._dropped]
            del self._moments[: self._dropped]
            self._dropped = 0


def _data_size(publication: Publication) -> int:
    return len(publication.data.encode())


def _size(publication: Publication) -> int:
    return MESSAGE_BYTES + getsizeof(publication.data)
