"""Reads what a broker keeps, for the REST API and for applications: the messages and the members of a stream.

Knows: the ports of the broker. Does not know: who reads.
"""

import contextlib
from typing import Final

from catenary.errors import LostPosition, NotKept
from catenary.maybe_awaitable import settled
from catenary.messages.names import Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Page, Position, Publication
from catenary.ports import History, Presence

_EXPECTED: Final = "expected a server with a broker (--presets=broker)"


class Reads:
    """Reads from a broker, if there is one (else both ports are None).

    All methods raise :class:`NotKept` if no broker keeps what is read, and
    :class:`catenary.errors.BackendError` if the broker can't be reached.
    """

    __slots__ = ("_history", "_presence")

    def __init__(self, history: History | None, presence: Presence | None) -> None:
        self._history = history
        self._presence = presence

    async def members(self, stream: Stream) -> tuple[Member, ...]:
        """Returns the members of a stream, in the order in which they joined."""
        if self._presence is None:
            raise NotKept(f"presence is not kept: {_EXPECTED}")
        return await settled(self._presence.members(stream))

    async def page(
        self, stream: Stream, start: int | Position, limit: int, *, newest: bool = False
    ) -> Page:
        """Returns messages of a stream since a moment (seconds since the epoch) or after a position: the
        first ``limit`` of them (1 or more), or, since a moment, the last ``limit`` if ``newest``. Raises
        :class:`catenary.errors.LostPosition` if a message after the position is no longer kept."""
        if self._history is None:
            raise NotKept(f"no history is kept: {_EXPECTED}")
        if newest and not isinstance(start, Position):
            return Page(await settled(self._history.since(stream, start, limit, newest=True)))
        # One more than the page, to learn whether there are more
        found = await settled(
            self._history.after(stream, start, limit + 1)
            if isinstance(start, Position)
            else self._history.since(stream, start, limit + 1)
        )
        return Page(found[:limit], len(found) > limit)

    async def page_before(self, stream: Stream, position: Position | None, limit: int) -> Page:
        """Returns the last ``limit`` messages of a stream (1 or more) before a position, or the last of all if there is none, newest
        first; ``more`` says whether there are older ones. Raises :class:`catenary.errors.LostPosition` for a position of
        which nothing is known."""
        if self._history is None:
            raise NotKept(f"no history is kept: {_EXPECTED}")
        if position is None:
            found = await settled(self._history.since(stream, 0, limit + 1, newest=True))
        else:
            found = await self._before(self._history, stream, position, limit + 1)
        return Page(found[-limit:][::-1], len(found) > limit)

    async def _before(
        self, history: History, stream: Stream, position: Position, limit: int
    ) -> tuple[Publication, ...]:
        """At most ``limit`` messages before a position, oldest first."""
        start = Position(position.epoch, position.offset - limit - 1)
        if start.offset >= 0:
            # Where offsets grow by one, the messages are those after a known position.
            with contextlib.suppress(LostPosition):
                found = await settled(history.after(stream, start, limit))
                last = found[-1].position if found else None
                if len(found) == limit and last is not None and last.offset + 1 == position.offset:
                    return found
        everything = await settled(history.since(stream, 0))
        of_epoch = [
            number
            for number, each in enumerate(everything)
            if each.position is not None and each.position.epoch == position.epoch
        ]
        if not of_epoch:
            raise LostPosition(f"nothing is kept of the epoch {position.epoch!r}")
        end = next(
            (number for number in of_epoch if _offset(everything[number]) >= position.offset),
            of_epoch[-1] + 1,
        )
        return everything[max(end - limit, 0) : end]


def _offset(publication: Publication) -> int:
    return 0 if publication.position is None else publication.position.offset
