"""Limits how often a publisher sends requests with publications.

A publisher is an address, or an app of Pusher. Knows: names, the time. Does not know: requests, publications.
"""

from collections.abc import Callable

from catenary.edge.addresses import host_of
from catenary.edge.refusals import too_many
from catenary.node.rates import Rates


class PublishLimit:
    """One object for all endpoints that take publications. ``per_second`` may change; 0 means no limit.

    Belongs to one event loop. ``clock`` is monotonic, in seconds.
    """

    __slots__ = ("_clock", "_rates", "per_second")

    def __init__(self, per_second: int, clock: Callable[[], float]) -> None:
        self.per_second = per_second
        self._clock = clock
        self._rates = Rates()

    def replace(self, per_second: int) -> None:
        """Limits by another rate from now on."""
        self.per_second = per_second

    def check(self, publisher: str) -> None:
        """A publisher sends a request. Raises :class:`catenary.errors.RequestRefused`: 429, with the time after which it may
        send it again. An unknown publisher is not limited."""
        limit = self.per_second
        if not limit or not publisher:
            return
        excess = self._rates.excess(host_of(publisher), limit, self._clock())
        if excess:
            raise too_many(f"expected up to {limit} requests per second", excess / limit)
