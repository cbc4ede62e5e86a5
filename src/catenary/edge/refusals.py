"""Counts and reports refused requests, for every transport.

Knows: statuses. Does not know: how the response is sent.
"""

from typing import Final

from catenary.errors import RequestRefused
from catenary.messages.environment import Requester
from catenary.metrics.counters import Counters
from catenary.node.observers import ObserverGroup

_RETRY_LATER: Final = (("Retry-After", "5"),)


def unavailable(message: str) -> RequestRefused:
    """503: the request is valid, but the server can't serve it now."""
    return RequestRefused(503, message, _RETRY_LATER)


class Refusals:
    """Counts refused requests, and reports them to observers."""

    __slots__ = ("_counters", "_observers")

    def __init__(self, counters: Counters, observers: ObserverGroup | None = None) -> None:
        self._counters = counters
        self._observers = observers or ObserverGroup()

    def note(self, refused: RequestRefused, requester: Requester | None) -> None:
        """Called once for each refused request, by the transport that sends the response. Without a ``requester`` it is only
        counted: the node has reported why the client was refused."""
        self._counters.failed_handshakes_total += 1
        if refused.status == 431:
            self._counters.oversized_heads_total += 1
        elif refused.status == 503:
            self._counters.refused_connections_total += 1
        if requester is not None and self._observers.request_refused is not None:
            self._observers.request_refused(requester, refused.status, str(refused))
