"""Publications on a single node: kept and delivered at once, a large batch over several turns of the event loop."""

from collections.abc import Awaitable, Callable
from functools import partial

from catenary.adapters.pacing import ITEM_BYTES, paced
from catenary.adapters.send_queue import AT_ONCE, SendQueue
from catenary.messages.publications import Publication, Publishable, QueueEntry, RemoteDisconnect
from catenary.metrics.counters import Counters


class LocalPubSub:
    """Satisfies :class:`catenary.ports.PubSub`.

    ``keep`` writes the history, and ``revoke`` ends stored sessions of some identifiers; both are None if nothing is
    stored.
    """

    __slots__ = ("_deliver", "_keep", "_queue", "_revoke")

    def __init__(
        self,
        deliver: Callable[[Publishable], None],
        counters: Counters,
        keep: Callable[[Publication], Publication] | None = None,
        revoke: Callable[[str], None] | None = None,
    ) -> None:
        self._deliver = deliver
        self._keep = keep
        self._revoke = revoke
        self._queue = SendQueue(counters)

    def relay(self, command: RemoteDisconnect) -> Awaitable[None] | None:
        """The same as :meth:`send`: no other node relays it, too."""
        return self.send((command,))

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[None] | None:
        """Keeps and delivers publications in order. Awaiting raises :class:`BackendError` if too many wait."""
        if self._queue.is_idle and len(publications) <= AT_ONCE:
            for publication in publications:
                self._send(publication)
            return None
        return self._queue.add(len(publications), partial(self._send_in_turns, publications))

    async def _send_in_turns(self, publications: tuple[Publishable, ...]) -> None:
        async for publication in paced(publications, _cost):
            self._send(publication)

    def _send(self, publication: Publishable) -> None:
        if self._keep is not None and isinstance(publication, Publication):
            self._deliver(self._keep(publication))
            return
        if self._revoke is not None and isinstance(publication, RemoteDisconnect):
            self._revoke(publication.identifiers)
        self._deliver(publication)


def _cost(publication: Publishable) -> int:
    """A delivery costs twice as much as reading a message: 100 are one turn, of 1 to 2 ms."""
    return ITEM_BYTES
