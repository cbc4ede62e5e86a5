"""Counts and logs refused requests, for every transport.

Knows: statuses. Does not know: what was requested, how the response is sent.
"""

import logging
from typing import Final

from catenary.errors import RequestRefused
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.metrics.counters import Counters

_log: Final = logging.getLogger("catenary.edge")

_RETRY_LATER: Final = (("Retry-After", "5"),)


def unavailable(message: str) -> RequestRefused:
    """503: the request is valid, but the server can't serve it now."""
    return RequestRefused(503, message, _RETRY_LATER)


class Refusals:
    """Counts refused requests and logs them, within the rate limit of log lines."""

    __slots__ = ("_counters", "_limited")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._limited = RateLimitedLogger(_log)

    def note(self, refused: RequestRefused) -> None:
        """Called once for each refused request, by the transport that sends the response."""
        self._counters.failed_handshakes_total += 1
        if refused.status == 431:
            self._counters.oversized_heads_total += 1
        elif refused.status == 503:
            self._counters.refused_connections_total += 1
        self._limited.log(logging.INFO, "Request refused with %d: %s", refused.status, refused)
