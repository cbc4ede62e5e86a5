"""Publications for a node that is alone: kept and delivered at once."""

from collections.abc import Callable

from catenary.messages.publications import Publication, Publishable, QueueEntry


class LocalPubSub:
    """Satisfies :class:`catenary.ports.PubSub`. ``keep`` writes the history, where there is one."""

    __slots__ = ("_deliver", "_keep")

    def __init__(
        self,
        deliver: Callable[[Publishable], None],
        keep: Callable[[Publication], Publication] | None = None,
    ) -> None:
        self._deliver = deliver
        self._keep = keep

    def send(self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None) -> None:
        """Keeps and delivers them in order."""
        for publication in publications:
            if self._keep is not None and isinstance(publication, Publication):
                self._deliver(self._keep(publication))
            else:
                self._deliver(publication)
