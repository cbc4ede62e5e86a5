"""A history of another process, which answers when a test says so."""

import asyncio
from collections.abc import Awaitable, Callable

from catenary.adapters.memory.history import LocalHistory
from catenary.errors import LostPosition
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication

Messages = tuple[Publication, ...]


class SlowHistory:
    """Satisfies :class:`catenary.ports.History`: appends to ``kept`` at once, and answers on :meth:`release`.

    With ``is_early``, an answer has the messages that were stored when it was requested; else, those that are stored
    when it is released.
    """

    is_immediate = False

    def __init__(self, kept: LocalHistory, *, is_early: bool = False) -> None:
        self.kept = kept
        self.is_early = is_early
        self.asked: list[tuple[asyncio.Future[Messages], Callable[[], Messages]]] = []

    def append(self, publication: Publication) -> Publication:
        return self.kept.append(publication)

    def since(
        self, stream: Stream, moment_s: int, limit: int | None = None, *, newest: bool = False
    ) -> Awaitable[Messages]:
        return self._later(lambda: self.kept.since(stream, moment_s, limit, newest=newest))

    def after(
        self, stream: Stream, position: Position, limit: int | None = None
    ) -> Awaitable[Messages]:
        return self._later(lambda: self.kept.after(stream, position, limit))

    def _later(self, read: Callable[[], Messages]) -> Awaitable[Messages]:
        answer: asyncio.Future[Messages] = asyncio.get_running_loop().create_future()
        self.asked.append((answer, _read_now(read) if self.is_early else read))
        return answer

    def release(self, error: Exception | None = None) -> None:
        """Gives the answer to the oldest request, or an error; does nothing if there is no request."""
        if not self.asked:
            return
        answer, read = self.asked.pop(0)
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
            return
        try:
            answer.set_result(read())
        except LostPosition as lost:
            answer.set_exception(lost)


def _read_now(read: Callable[[], Messages]) -> Callable[[], Messages]:
    try:
        found = read()
    except LostPosition as error:
        lost = error

        def fail() -> Messages:
            raise lost

        return fail
    return lambda: found
