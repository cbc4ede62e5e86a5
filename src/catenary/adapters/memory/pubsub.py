"""Publications for a node that is alone: kept and delivered at once."""

from collections.abc import Callable

from catenary.messages.publications import Publication, Publishable, QueueEntry, RemoteDisconnect


class LocalPubSub:
    """Satisfies :class:`catenary.ports.PubSub`.

    ``keep`` writes the history, where there is one; ``revoke`` ends the sessions of identifiers that are
    kept, where any are.
    """

    __slots__ = ("_deliver", "_keep", "_revoke")

    def __init__(
        self,
        deliver: Callable[[Publishable], None],
        keep: Callable[[Publication], Publication] | None = None,
        revoke: Callable[[str], None] | None = None,
    ) -> None:
        self._deliver = deliver
        self._keep = keep
        self._revoke = revoke

    def relay(self, command: RemoteDisconnect) -> None:
        """The same as :meth:`send`: there is no other node that relays it, too."""
        self.send((command,))

    def send(self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None) -> None:
        """Keeps and delivers them in order."""
        for publication in publications:
            if self._keep is not None and isinstance(publication, Publication):
                self._deliver(self._keep(publication))
                continue
            if self._revoke is not None and isinstance(publication, RemoteDisconnect):
                self._revoke(publication.identifiers)
            self._deliver(publication)
