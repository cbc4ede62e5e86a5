"""Counts and reports refused requests, for every transport.

Knows: statuses. Does not know: how the response is sent.
"""

from catenary.errors import RequestRefused
from catenary.messages.environment import Requester
from catenary.metrics.counters import Counters
from catenary.node.observers import ObserverGroup
from catenary.wire.retry_after import SPREAD_S, retry_after


def unavailable(message: str, periods: float = 0) -> RequestRefused:
    """503: the request is valid, but the server can't serve it now.

    ``periods`` says how many seconds those that were refused together would take at the permitted rate, 0 if there is none:
    they come back over that time.
    """
    return RequestRefused(503, message, retry_after(max(periods, SPREAD_S)))


def too_many(message: str, periods: float = 0) -> RequestRefused:
    """429: the sender has sent too much. See :func:`unavailable`."""
    return RequestRefused(429, message, retry_after(max(periods, SPREAD_S)))


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
        elif refused.status == 429:
            self._counters.limited_connections_total += 1
        elif refused.status == 503:
            self._counters.refused_connections_total += 1
        if requester is not None and self._observers.request_refused is not None:
            self._observers.request_refused(requester, refused.status, str(refused))
