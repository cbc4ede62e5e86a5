"""Presence and history of streams, read from the server in this process, or from a remote one.

Knows: readers, event loops. Does not know: brokers, HTTP.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

import msgspec

from catenary.errors import BackendError
from catenary.messages.lenient_json import read_any
from catenary.messages.names import Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Page, Position, Publication, position_of

PAGE: Final = 1_000
"""Messages in one request."""

ANSWER_TIMEOUT_S: Final = 30.0
"""How long another event loop waits for that of the server, which may be ending."""

T = TypeVar("T")


class PresentMember(msgspec.Struct, frozen=True):
    """A member of a stream: its id, and the info that it joined with."""

    id: str
    info: Any


class StoredMessage(msgspec.Struct, frozen=True):
    """A message in a history: its data, and the ``position`` after which reading can continue."""

    data: Any
    position: str


class Reader(Protocol):
    """Reads from a server. Methods raise :class:`catenary.errors.NotKept` if it has no broker, and
    :class:`catenary.errors.BackendError` if it can't be reached."""

    async def members(self, stream: Stream) -> tuple[Member, ...]:
        """The members of a stream, in the order in which they joined."""
        ...

    async def page(
        self, stream: Stream, start: int | Position, limit: int, *, newest: bool = False
    ) -> Page:
        """The first messages since a time (seconds since the epoch) or after a position; with ``newest``, the
        last ones since the time. ``limit`` is 1 to ``PAGE``.

        Raises :class:`catenary.errors.LostPosition`.
        """
        ...


class StreamReader:
    """Reads from the server in this process; without one, from the reader that ``remote`` returns."""

    def __init__(self, remote: Callable[[], Reader]) -> None:
        self._remote = remote
        self._hosted: Reader | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, reader: Reader | None) -> None:
        """Binds to a server, which runs in the running loop."""
        self._hosted = reader
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Unbinds from the server."""
        self._hosted = None
        self._loop = None

    async def presence(self, stream: str) -> list[PresentMember]:
        """The members of a stream."""
        found = await self._read(lambda reader: reader.members(Stream(stream)))
        return [PresentMember(each.id, _value(each.info)) for each in found]

    async def history(
        self,
        stream: str,
        since: float | datetime | None,
        after: str | None,
        limit: int | None,
    ) -> AsyncIterator[StoredMessage]:
        """Yields messages, the oldest first. ``limit`` selects the newest; after a position, the next ones."""
        start = _start(since, after)
        if limit is None or isinstance(start, Position):
            found = self._next(Stream(stream), start, math.inf if limit is None else limit)
        else:
            found = self._newest(Stream(stream), start, limit)
        async for each in found:
            if each.position is not None:
                yield StoredMessage(_value(each.data), each.position.text)

    async def _next(
        self, stream: Stream, start: int | Position, left: float
    ) -> AsyncIterator[Publication]:
        more = left > 0
        while more:
            page = await self._page(stream, start, int(min(left, PAGE)), newest=False)
            for each in page.messages:
                start = each.position or start
                yield each
            left -= len(page.messages)
            more = page.more and left > 0

    async def _page(
        self, stream: Stream, start: int | Position, limit: int, *, newest: bool
    ) -> Page:
        return await self._read(lambda reader: reader.page(stream, start, limit, newest=newest))

    async def _newest(self, stream: Stream, since_s: int, limit: int) -> AsyncIterator[Publication]:
        found: Iterable[Publication] = ()
        if 0 < limit <= PAGE:
            found = (await self._page(stream, since_s, limit, newest=True)).messages
        elif limit > PAGE:
            found = last = deque[Publication](maxlen=limit)
            async for each in self._next(stream, since_s, math.inf):
                last.append(each)
        for each in found:
            yield each

    async def _read(self, query: Callable[[Reader], Coroutine[Any, Any, T]]) -> T:
        if self._hosted is None or self._loop is None:
            return await query(self._remote())
        if asyncio.get_running_loop() is self._loop:
            return await query(self._hosted)
        answer = asyncio.run_coroutine_threadsafe(query(self._hosted), self._loop)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await asyncio.wrap_future(answer)
        except TimeoutError as error:
            raise BackendError(
                f"the server did not answer within {ANSWER_TIMEOUT_S:.0f} s"
            ) from error


def _start(since: float | datetime | None, after: str | None) -> int | Position:
    if after is None:
        return int(since.timestamp() if isinstance(since, datetime) else since or 0)
    if since is not None:
        raise TypeError("expected since or after, got both")
    return position_of(after)


def _value(text: str) -> Any:
    """The decoded JSON; text that is not JSON is returned unchanged, as clients get it."""
    try:
        return read_any(text)
    except msgspec.DecodeError:
        return text
