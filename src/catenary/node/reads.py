"""Reads what a broker keeps, for the REST API and for applications: the messages and the members of a stream.

Knows: the ports of the broker. Does not know: who reads.
"""

from typing import Final

from catenary.errors import NotKept
from catenary.maybe_awaitable import settled
from catenary.messages.names import Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Page, Position
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
