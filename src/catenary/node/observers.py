"""Observers for the assembly: a base class that ignores everything, and a group that notifies several observers.

Knows: the port of observers. Does not know: what reports to them.
"""

from collections.abc import Callable, Sequence
from typing import Final, ParamSpec

from catenary.messages.commands import Command
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Stream
from catenary.messages.presence import PresenceChange
from catenary.messages.publications import Publication, Publishable
from catenary.messages.reasons import Reason
from catenary.ports import Observer

_P = ParamSpec("_P")


class SilentObserver:
    """Satisfies :class:`catenary.ports.Observer`, and ignores everything: a subclass replaces what it needs."""

    __slots__ = ()

    def connected(self, environment: Environment, *, is_resumed: bool) -> None: ...
    def rejected(self, environment: Environment, reason: Reason) -> None: ...
    def received(self, environment: Environment, command: Command) -> None: ...
    def refused(self, environment: Environment, why: str) -> None: ...
    def subscribed(self, environment: Environment, identifier: Identifier) -> None: ...
    def subscription_rejected(self, environment: Environment, identifier: Identifier) -> None: ...
    def unsubscribed(self, environment: Environment, identifier: Identifier) -> None: ...
    def disconnected(self, environment: Environment, reason: Reason | None) -> None: ...
    def published(self, publications: tuple[Publishable, ...]) -> None: ...
    def whispered(self, environment: Environment, publication: Publication) -> None: ...
    def found_no_history(self, environment: Environment, stream: Stream) -> None: ...
    def presence_changed(self, change: PresenceChange) -> None: ...
    def delivered(self, stream: Stream, messages: int, clients: int) -> None: ...


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
