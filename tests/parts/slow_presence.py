"""Members in another process, which answers when a test says so."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from catenary.adapters.memory.presence import LocalPresence
from catenary.errors import BackendError
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange


class SlowPresence:
    """Satisfies :class:`catenary.ports.Presence`: changes and reads ``kept`` on :meth:`release`."""

    def __init__(self, kept: LocalPresence) -> None:
        self.kept = kept
        self.asked: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []

    def join(
        self, stream: Stream, sid: Sid, member_id: str, info: str
    ) -> Awaitable[PresenceChange | None]:
        return self._later(lambda: self.kept.join(stream, sid, member_id, info))

    def leave(self, stream: Stream, sid: Sid) -> Awaitable[PresenceChange | None]:
        return self._later(lambda: self.kept.leave(stream, sid))

    def members(self, stream: Stream) -> Awaitable[tuple[Member, ...]]:
        return self._later(lambda: self.kept.members(stream))

    def streams(self, sid: Sid) -> tuple[Stream, ...]:
        return self.kept.streams(sid)

    def touch(self, sids: Collection[Sid]) -> None:
        self.kept.touch(sids)

    def expire(self) -> tuple[PresenceChange, ...]:
        return self.kept.expire()

    def _later(self, read: Callable[[], Any]) -> Awaitable[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append((answer, read))
        return answer

    async def release(self, error: BackendError | None = None) -> None:
        """Gives the answer to the oldest request, or an error, and lets the node go on until it asks again or is done."""
        answer, read = self.asked.pop(0)
        if not answer.done():
            if error is None:
                answer.set_result(read())
            else:
                answer.set_exception(error)
        for _ in range(20):
            await asyncio.sleep(0)
