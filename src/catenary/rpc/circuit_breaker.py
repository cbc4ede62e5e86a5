"""A circuit breaker for calls to the application.

Knows: moments, in seconds by the caller's clock. Does not know: calls, addresses.
"""


class CircuitBreaker:
    """Whether attempts reach the application, and whether new ones may be made.

    Shortly after the first failure, attempts are still made and repeated: clients do not notice an application that
    restarts. After ``patience_s`` of failures the circuit is open: one probe at a time is admitted, and every other
    call fails at once, so that the queue does not grow.
    """

    __slots__ = ("_is_probing", "_patience_s", "_since")

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._is_probing = False

    @property
    def is_failing(self) -> bool:
        """Did the last attempt not reach the application?"""
        return self._since is not None

    def is_open(self, now: float) -> bool:
        """Have attempts failed for so long that repeating them is of no use?"""
        return self._since is not None and now - self._since >= self._patience_s

    def admits(self, now: float) -> bool:
        """May an attempt be made? Its end must be recorded, by any of the methods below."""
        if not self.is_open(now):
            return True
        if self._is_probing:
            return False
        self._is_probing = True
        return True

    def record_failure(self, now: float) -> bool:
        """An attempt did not reach the application. Returns whether it is the first."""
        self.end_probe()
        if self._since is not None:
            return False
        self._since = now
        return True

    def record_answer(self) -> bool:
        """The application has answered. Returns whether attempts failed before."""
        self.end_probe()
        was_failing = self._since is not None
        self._since = None
        return was_failing

    def end_probe(self) -> None:
        """An attempt has ended and says nothing about the application."""
        self._is_probing = False
