"""The workers of one server exchange their figures over Unix sockets: each sends its own to any other that connects.

Questions to the whole cluster travel through Redis or NATS. These do not, so that a server can be monitored while its Redis
is unavailable. The sockets are in a directory that only the user of the server can enter.
Knows: numbers of workers, sockets. Does not know: what is answered.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

_log: Final = logging.getLogger("catenary.workers")

ANSWER_S: Final = 2.0
"""How long an answer may take; a worker that is being replaced sends none."""


class Siblings:
    """Worker ``number`` of ``workers``, counted from 1. ``answer`` returns the bytes that the others receive from this
    one. Without a ``directory``, each worker has its own answer only."""

    def __init__(
        self, directory: str, number: int, workers: int, answer: Callable[[], bytes]
    ) -> None:
        self._directory = Path(directory)
        self._number = number
        self._workers = workers
        self._answer = answer
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    async def start(self) -> None:
        """Begins to answer. A failure is logged; the others then get no answer."""
        if not self._directory.name:
            return
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path(self._number))
            self._inode = self._path(self._number).stat().st_ino
        except OSError as error:
            _log.warning("The other workers can't read the metrics of this one: %s", error)

    async def close(self, timeout_s: float) -> None:
        """Stops answering."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                # A worker that replaces this one may be listening there already.
                if self._path(self._number).stat().st_ino == self._inode:
                    self._path(self._number).unlink()
                # The parent removes it, unless it has died: then the last worker does.
                self._directory.rmdir()

    async def ask(self) -> dict[int, bytes | None]:
        """The answers of all workers by their numbers, this one's included; None for one that does not answer in time."""
        numbers = range(1, self._workers + 1)
        answers = await asyncio.gather(*(self._ask(number) for number in numbers))
        return dict(zip(numbers, answers, strict=True))

    async def _ask(self, number: int) -> bytes | None:
        if number == self._number:
            return self._answer()
        if not self._directory.name:
            return None
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                with contextlib.closing(writer):
                    return await reader.read() or None
        except OSError as error:  # TimeoutError is one
            _log.debug("Worker %d does not answer: %s", number, str(error) or "too late")
            return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            async with asyncio.timeout(ANSWER_S):
                writer.write(self._answer())
                await writer.drain()

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.sock"
