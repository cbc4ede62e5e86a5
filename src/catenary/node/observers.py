"""The observers of a node.

Knows: the port of observers. Does not know: what reports to them.
"""

from collections.abc import Callable, Sequence
from typing import ParamSpec

from catenary.ports import Observer
from catenary.silent_observer import ignores

_P = ParamSpec("_P")


class ObserverGroup:
    """The observers of a node, which may come and go while it runs.

    Each event is an attribute: the function that notifies those who want it, in the order in which they were attached; None
    if nobody does. The parts of a node compare it with None before each event.
    """

    __slots__ = (
        "_observers",
        "closed",
        "connected",
        "delivered",
        "disconnected",
        "failed",
        "found_no_history",
        "opened",
        "performed",
        "presence_changed",
        "publication_refused",
        "published",
        "received",
        "refused",
        "rejected",
        "request_refused",
        "subscribed",
        "subscription_rejected",
        "transmitted",
        "unsubscribed",
        "whispered",
    )

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)
        self._bind()

    def attach(self, observer: Observer) -> None:
        """Adds an observer."""
        self._observers = (*self._observers, observer)
        self._bind()

    def detach(self, observer: Observer) -> None:
        """Removes an observer. Raises ValueError if it is not attached."""
        others = list(self._observers)
        others.remove(observer)
        self._observers = tuple(others)
        self._bind()

    def _bind(self) -> None:
        observers = self._observers
        self.request_refused = _wanted([each.request_refused for each in observers])
        self.opened = _wanted([each.opened for each in observers])
        self.connected = _wanted([each.connected for each in observers])
        self.rejected = _wanted([each.rejected for each in observers])
        self.received = _wanted([each.received for each in observers])
        self.refused = _wanted([each.refused for each in observers])
        self.subscribed = _wanted([each.subscribed for each in observers])
        self.subscription_rejected = _wanted([each.subscription_rejected for each in observers])
        self.unsubscribed = _wanted([each.unsubscribed for each in observers])
        self.performed = _wanted([each.performed for each in observers])
        self.failed = _wanted([each.failed for each in observers])
        self.transmitted = _wanted([each.transmitted for each in observers])
        self.disconnected = _wanted([each.disconnected for each in observers])
        self.closed = _wanted([each.closed for each in observers])
        self.published = _wanted([each.published for each in observers])
        self.publication_refused = _wanted([each.publication_refused for each in observers])
        self.whispered = _wanted([each.whispered for each in observers])
        self.found_no_history = _wanted([each.found_no_history for each in observers])
        self.presence_changed = _wanted([each.presence_changed for each in observers])
        self.delivered = _wanted([each.delivered for each in observers])


def _wanted(methods: Sequence[Callable[_P, None]]) -> Callable[_P, None] | None:
    """One function that calls all methods that do something; None if none does."""
    wanted = tuple(method for method in methods if not ignores(method))
    if len(wanted) < 2:
        return wanted[0] if wanted else None

    def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
        for method in wanted:
            method(*args, **kwargs)

    return call
