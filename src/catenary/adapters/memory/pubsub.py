"""Publications for a node that is alone: kept and delivered at once, a large batch some in each turn of the loop."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from catenary.messages.publications import Publication, Publishable, QueueEntry, RemoteDisconnect

AT_ONCE: Final = 100
"""Publications that are delivered in one turn of the loop: 1 to 2 ms."""


class LocalPubSub:
    """Satisfies :class:`catenary.ports.PubSub`.

    ``keep`` writes the history, where there is one; ``revoke`` ends the sessions of identifiers that are
    kept, where any are.
    """

    __slots__ = ("_deliver", "_keep", "_revoke", "_waiting", "_worker")

    def __init__(
        self,
        deliver: Callable[[Publishable], None],
        keep: Callable[[Publication], Publication] | None = None,
        revoke: Callable[[str], None] | None = None,
    ) -> None:
        self._deliver = deliver
        self._keep = keep
        self._revoke = revoke
        # While a large batch is delivered, what is sent meanwhile waits after it
        self._waiting: deque[Publishable | asyncio.Future[None]] = deque()
        self._worker: asyncio.Task[None] | None = None

    def relay(self, command: RemoteDisconnect) -> Awaitable[None] | None:
        """The same as :meth:`send`: there is no other node that relays it, too."""
        return self.send((command,))

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[None] | None:
        """Keeps and delivers them in order."""
        if self._worker is None and len(publications) <= AT_ONCE:
            for publication in publications:
                self._send(publication)
            return None
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting += (*publications, done)
        if self._worker is None:
            self._worker = loop.create_task(self._send_all())
        return asyncio.shield(done)

    async def _send_all(self) -> None:
        left = AT_ONCE
        while self._waiting:
            each = self._waiting.popleft()
            if isinstance(each, asyncio.Future):
                each.set_result(None)
            else:
                self._send(each)
                left -= 1
            if left == 0:
                left = AT_ONCE
                await asyncio.sleep(0)
        self._worker = None

    def _send(self, publication: Publishable) -> None:
        if self._keep is not None and isinstance(publication, Publication):
            self._deliver(self._keep(publication))
            return
        if self._revoke is not None and isinstance(publication, RemoteDisconnect):
            self._revoke(publication.identifiers)
        self._deliver(publication)
