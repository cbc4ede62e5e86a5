"""What the server knows of a stream: who is there, and what was published.

Knows: who answers, and in which loop. Does not know: brokers, HTTP.
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
"""Messages that are asked for at once."""

ANSWER_TIMEOUT_S: Final = 30.0
"""How long another loop waits for the server's, which may be ending."""

T = TypeVar("T")


class Present(msgspec.Struct, frozen=True):
    """Somebody who is there, with what is told of them."""

    id: str
    info: Any


class Kept(msgspec.Struct, frozen=True):
    """A message of a history; ``position`` says where to go on behind it."""

    data: Any
    position: str


class Reader(Protocol):
    """Who answers. Raises :class:`catenary.errors.NotKept` where no broker keeps it,
    :class:`catenary.errors.BackendError` where nobody can be asked."""

    async def members(self, stream: Stream) -> tuple[Member, ...]:
        """Who is on a stream, in the order in which they came."""
        ...

    async def page(
        self, stream: Stream, start: int | Position, limit: int, *, newest: bool = False
    ) -> Page:
        """The first messages from a moment on (seconds since the epoch) or after a position; with
        ``newest`` the last since the moment. ``limit`` is 1 to ``PAGE``.

        Raises :class:`catenary.errors.LostPosition`.
        """
        ...


class Reading:
    """Asks the server in this process; without one, who ``remote`` names."""

    def __init__(self, remote: Callable[[], Reader]) -> None:
        self._remote = remote
        self._hosted: Reader | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, reader: Reader | None) -> None:
        """From now on a server answers, in the running loop."""
        self._hosted = reader
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """The server is going."""
        self._hosted = None
        self._loop = None

    async def presence(self, stream: str) -> list[Present]:
        """Who is on a stream."""
        found = await self._ask(lambda reader: reader.members(Stream(stream)))
        return [Present(each.id, _value(each.info)) for each in found]

    async def history(
        self,
        stream: str,
        since: float | datetime | None,
        after: str | None,
        limit: int | None,
    ) -> AsyncIterator[Kept]:
        """Messages, the oldest first. Of more than ``limit``, the newest; after a position, the next."""
        start = _start(since, after)
        if limit is None or isinstance(start, Position):
            found = self._next(Stream(stream), start, math.inf if limit is None else limit)
        else:
            found = self._newest(Stream(stream), start, limit)
        async for each in found:
            if each.position is not None:
                yield Kept(_value(each.data), each.position.text)

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
        return await self._ask(lambda reader: reader.page(stream, start, limit, newest=newest))

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

    async def _ask(self, question: Callable[[Reader], Coroutine[Any, Any, T]]) -> T:
        if self._hosted is None or self._loop is None:
            return await question(self._remote())
        if asyncio.get_running_loop() is self._loop:
            return await question(self._hosted)
        asked = asyncio.run_coroutine_threadsafe(question(self._hosted), self._loop)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await asyncio.wrap_future(asked)
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
    """JSON; text that is none is itself, as clients get it."""
    try:
        return read_any(text)
    except msgspec.DecodeError:
        return text
