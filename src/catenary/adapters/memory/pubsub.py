"""Publications for a node that is alone: delivered at once."""

from collections.abc import Callable

from catenary.messages.publications import Publishable


class LocalPubSub:
    """Satisfies :class:`catenary.ports.PubSub`."""

    __slots__ = ("_deliver",)

    def __init__(self, deliver: Callable[[Publishable], None]) -> None:
        self._deliver = deliver

    def send(self, publications: tuple[Publishable, ...]) -> None:
        """Delivers them in order."""
        for publication in publications:
            self._deliver(publication)
