"""What is kept, for who asks from outside: messages of a stream, and who is there.

Knows: the ports that keep. Does not know: who asks, and how.
"""

from collections.abc import Awaitable
from typing import Final, TypeVar

from catenary.errors import NotKept
from catenary.messages.names import Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Page, Position
from catenary.ports import History, Presence

T = TypeVar("T")

_EXPECTED: Final = "expected a server with a broker (--presets=broker)"


class Reads:
    """Asks a broker; without one (None) there is nothing to ask.

    All methods raise :class:`NotKept` where no broker keeps it, and
    :class:`catenary.errors.BackendError` where the broker can't be reached.
    """

    __slots__ = ("_history", "_presence")

    def __init__(self, history: History | None, presence: Presence | None) -> None:
        self._history = history
        self._presence = presence

    async def members(self, stream: Stream) -> tuple[Member, ...]:
        """Who is on a stream, in the order in which they came."""
        if self._presence is None:
            raise NotKept(f"presence is not kept: {_EXPECTED}")
        return await _waited(self._presence.members(stream))

    async def page(
        self, stream: Stream, start: int | Position, limit: int, *, newest: bool = False
    ) -> Page:
        """Returns messages of a stream from a moment on (seconds since the epoch) or after a position: the
        first ``limit`` of them (1 or more), or, from a moment on, the last ``limit`` if ``newest``. Raises
        :class:`catenary.errors.LostPosition` if a message after the position is no longer kept."""
        if self._history is None:
            raise NotKept(f"no history is kept: {_EXPECTED}")
        if newest and not isinstance(start, Position):
            return Page(await _waited(self._history.since(stream, start, limit, newest=True)))
        # One more than the page, to learn whether there are more
        found = await _waited(
            self._history.after(stream, start, limit + 1)
            if isinstance(start, Position)
            else self._history.since(stream, start, limit + 1)
        )
        return Page(found[:limit], len(found) > limit)


async def _waited(found: T | Awaitable[T]) -> T:
    return await found if isinstance(found, Awaitable) else found
