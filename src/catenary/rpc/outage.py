"""What is known of an application that does not answer, and what follows for calls.

Knows: moments, in seconds by a clock of the caller's. Does not know: calls, addresses.
"""


class Outage:
    """Whether the application is away, and who may find out that it is back.

    While an outage is young, calls are repeated: an application that restarts is not noticed.
    An old one is probed by one call at a time and all others fail at once, so that the queue does
    not grow. Pure: takes ``now`` in seconds.
    """

    __slots__ = ("_patience_s", "_probed", "_since")

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._probed = False

    @property
    def is_on(self) -> bool:
        """Was the last that is known that nobody answers?"""
        return self._since is not None

    def admits(self, now: float) -> bool:
        """May an attempt be made? What is admitted must be settled."""
        if not self.is_old(now):
            return True
        if self._probed:
            return False
        self._probed = True
        return True

    def is_old(self, now: float) -> bool:
        """Has it lasted so long that repeating is of no use?"""
        return self._since is not None and now - self._since >= self._patience_s

    def begin(self, now: float) -> bool:
        """Nobody answered. True where that is news."""
        self.settle()
        if self._since is not None:
            return False
        self._since = now
        return True

    def end(self) -> bool:
        """Somebody answered. True where that is news."""
        self.settle()
        was_away = self._since is not None
        self._since = None
        return was_away

    def settle(self) -> None:
        """A probe came to its end, whatever that was."""
        self._probed = False
