"""Limits how many messages a publisher sends.

A publisher is an address, or an app of Pusher. Knows: names, the time. Does not know: requests, publications.
"""

from collections.abc import Callable

from catenary.edge.addresses import host_of
from catenary.edge.refusals import too_many
from catenary.node.buckets import Buckets


class PublishLimit:
    """One object for all endpoints that take publications. ``per_second`` may change; 0 means no limit.

    Belongs to one event loop. ``clock`` is monotonic, in seconds.
    """

    __slots__ = ("_buckets", "_clock", "per_second")

    def __init__(self, per_second: int, clock: Callable[[], float]) -> None:
        self.per_second = per_second
        self._clock = clock
        self._buckets = Buckets()

    def replace(self, per_second: int) -> None:
        """Limits by another rate from now on."""
        self.per_second = per_second

    def check(self, publisher: str) -> None:
        """A publisher sends a request, which counts as one message. Raises :class:`catenary.errors.RequestRefused`: 429, with the
        time after which it may send it again. An unknown publisher is not limited."""
        limit = self.per_second
        if not limit or not publisher:
            return
        host, now = host_of(publisher), self._clock()
        wait_s = self._buckets.wait_s(host, limit, now)
        if wait_s > 0:
            raise too_many(f"expected up to {limit} publications per second", wait_s)
        self._buckets.add(host, limit, 1, now)

    def charge(self, publisher: str, messages: int) -> None:
        """The request that was checked last has brought so many messages: the others of a batch delay the next requests."""
        if messages > 1 and self.per_second and publisher:
            self._buckets.add(host_of(publisher), self.per_second, messages - 1, self._clock())
