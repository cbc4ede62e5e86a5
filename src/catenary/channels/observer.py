"""The observer that an author gives to a cable: notified of what happens to clients and publications.

Knows: the port of observers. Does not know: what reports to them.
"""

import logging
from collections.abc import Callable
from typing import Final, ParamSpec

from catenary import ports
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.silent_observer import SilentObserver, ignores

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))

_P = ParamSpec("_P")


class Observer(SilentObserver):
    """Satisfies :class:`catenary.ports.Observer`, which says when each method is called: these do nothing, and a
    subclass replaces those that it needs.

    They are called in the event loop, in the middle of the server's work, and must return at once.
    """


class GuardedObserver:
    """Satisfies :class:`catenary.ports.Observer`: calls an author's observer, and logs its exceptions, so that they
    cost no client anything."""

    __slots__ = (
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

    def __init__(self, observer: ports.Observer) -> None:
        self.request_refused = _guarded(observer.request_refused)
        self.opened = _guarded(observer.opened)
        self.connected = _guarded(observer.connected)
        self.rejected = _guarded(observer.rejected)
        self.received = _guarded(observer.received)
        self.refused = _guarded(observer.refused)
        self.subscribed = _guarded(observer.subscribed)
        self.subscription_rejected = _guarded(observer.subscription_rejected)
        self.unsubscribed = _guarded(observer.unsubscribed)
        self.performed = _guarded(observer.performed)
        self.failed = _guarded(observer.failed)
        self.transmitted = _guarded(observer.transmitted)
        self.disconnected = _guarded(observer.disconnected)
        self.closed = _guarded(observer.closed)
        self.published = _guarded(observer.published)
        self.publication_refused = _guarded(observer.publication_refused)
        self.whispered = _guarded(observer.whispered)
        self.found_no_history = _guarded(observer.found_no_history)
        self.presence_changed = _guarded(observer.presence_changed)
        self.delivered = _guarded(observer.delivered)


def _guarded(method: Callable[_P, None]) -> Callable[_P, None]:
    if ignores(method):
        return method

    def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:  # noqa: BLE001
            _limited.exception("The observer failed in %s", method.__qualname__)

    return call
