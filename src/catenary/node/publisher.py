"""The one way of a publication to all nodes: kept in the history first, then sent.

Knows: the order. Does not know: where histories are, how nodes are reached.
"""

from collections.abc import Awaitable

from catenary.messages.publications import Publication, Publishable
from catenary.ports import History, PubSub


class Publisher:
    """Keeps and sends."""

    __slots__ = ("_history", "_pubsub")

    def __init__(self, history: History, pubsub: PubSub) -> None:
        self._history = history
        self._pubsub = pubsub

    def send(self, publications: tuple[Publishable, ...]) -> Awaitable[None] | None:
        """Sends publications in order; None where that is done already.

        Awaiting raises :class:`catenary.errors.BackendError` for what could not be kept or sent.
        """
        kept: list[Publishable] = []
        for position, each in enumerate(publications):
            result = self._keep(each)
            if isinstance(result, Awaitable):
                return self._send_later(kept, result, publications[position + 1 :])
            kept.append(result)
        return self._pubsub.send(tuple(kept))

    def _keep(self, publication: Publishable) -> Publishable | Awaitable[Publication]:
        if not isinstance(publication, Publication) or publication.transient:
            return publication
        return self._history.append(publication)

    async def _send_later(
        self,
        kept: list[Publishable],
        pending: Awaitable[Publication],
        rest: tuple[Publishable, ...],
    ) -> None:
        kept.append(await pending)
        for each in rest:
            result = self._keep(each)
            kept.append(await result if isinstance(result, Awaitable) else result)
        sent = self._pubsub.send(tuple(kept))
        if sent is not None:
            await sent
