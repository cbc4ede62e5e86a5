"""Counts events of many keys in each second.

Refused events count, too: the excess says how many will come back. Knows: keys, seconds. Does not know: what is counted, what
happens beyond a limit.
"""


class Rates:
    """Counts for the present second, which are dropped together when it is over.

    So memory is bounded by the events of one second, however many keys there are, and there is nothing to evict. Within two
    adjacent seconds, twice the limit may come at once.
    """

    __slots__ = ("_counts", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._counts: dict[str, int] = {}

    def excess(self, key: str, limit: int, now: float) -> int:
        """Counts one event. Returns by how many the events of this key in this second exceed the limit, 0 if they do not.

        ``now`` is in seconds.
        """
        second = int(now)
        if second != self._second:
            self._second = second
            self._counts = {}
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        return max(count - limit, 0)

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._counts)
