"""A group of observers, which notifies several.

Knows: the port of observers. Does not know: what reports to them.
"""

from collections.abc import Callable, Sequence
from typing import Final, ParamSpec

from catenary.ports import Observer

_P = ParamSpec("_P")


class ObserverGroup:
    """Satisfies :class:`catenary.ports.Observer`: notifies several, in order."""

    __slots__ = (
        "connected",
        "delivered",
        "disconnected",
        "found_no_history",
        "presence_changed",
        "published",
        "received",
        "refused",
        "rejected",
        "subscribed",
        "subscription_rejected",
        "unsubscribed",
        "whispered",
    )

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.connected: Final = _each([each.connected for each in observers])
        self.rejected: Final = _each([each.rejected for each in observers])
        self.received: Final = _each([each.received for each in observers])
        self.refused: Final = _each([each.refused for each in observers])
        self.subscribed: Final = _each([each.subscribed for each in observers])
        self.subscription_rejected: Final = _each(
            [each.subscription_rejected for each in observers]
        )
        self.unsubscribed: Final = _each([each.unsubscribed for each in observers])
        self.disconnected: Final = _each([each.disconnected for each in observers])
        self.published: Final = _each([each.published for each in observers])
        self.whispered: Final = _each([each.whispered for each in observers])
        self.found_no_history: Final = _each([each.found_no_history for each in observers])
        self.presence_changed: Final = _each([each.presence_changed for each in observers])
        self.delivered: Final = _each([each.delivered for each in observers])


def together(observers: Sequence[Observer]) -> Observer | None:
    """Several observers as one; None if there are none."""
    return observers[0] if len(observers) == 1 else ObserverGroup(observers) if observers else None


def _each(methods: Sequence[Callable[_P, None]]) -> Callable[_P, None]:
    def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
        for method in methods:
            method(*args, **kwargs)

    return call
