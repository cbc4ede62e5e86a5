"""Counts the clients that recently could not connect because the application failed.

An observer: a node that does not ask for the figure does not have it, and pays nothing.
Knows: which clients were admitted, the time. Does not know: the application, or what follows from the figure.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from catenary.messages.environment import Environment
from catenary.messages.reasons import Reason
from catenary.silent_observer import SilentObserver

BUCKETS: Final = 30
"""Parts of the window: its end is exact to a thirtieth."""


class FailureRules(msgspec.Struct, frozen=True):
    """The application counts as failing if ``percent`` (1 to 100) of at least ``min_calls`` within ``window_s`` failed."""

    percent: int
    window_s: float
    min_calls: int


class _Bucket:
    __slots__ = ("began", "calls", "failed")

    def __init__(self, began: float) -> None:
        self.began = began
        self.calls = 0
        self.failed = 0


class ConnectFailures(SilentObserver):
    """Counts decisions about new clients. A rejection by the application is a success: it has decided.

    Clients that resume a session, or belong to a realm of their own, do not concern the application.
    """

    __slots__ = ("_buckets", "_clock", "_rules")

    def __init__(self, rules: FailureRules, clock: Callable[[], float]) -> None:
        """``clock`` is monotonic, in seconds."""
        self._rules = rules
        self._clock = clock
        self._buckets: deque[_Bucket] = deque()

    def connected(self, environment: Environment, *, is_resumed: bool) -> None:
        if not is_resumed and not environment.realm:
            self._count(failed=0)

    def rejected(self, environment: Environment, reason: Reason, why: str) -> None:
        if reason in (Reason.AUTH_FAILED, Reason.AUTH_ERROR) and not environment.realm:
            self._count(failed=int(reason is Reason.AUTH_ERROR))

    @property
    def trouble(self) -> str | None:
        """How many calls failed, if these are too many; else None."""
        self._drop_old(self._clock())
        rules = self._rules
        calls = sum(each.calls for each in self._buckets)
        failed = sum(each.failed for each in self._buckets)
        if calls < rules.min_calls or failed * 100 < calls * rules.percent:
            return None
        return f"{failed} of {calls} Connect calls failed in the last {rules.window_s:g} s"

    def _count(self, failed: int) -> None:
        now = self._clock()
        buckets = self._buckets
        if not buckets or now - buckets[-1].began >= self._rules.window_s / BUCKETS:
            self._drop_old(now)
            buckets.append(_Bucket(now))
        buckets[-1].calls += 1
        buckets[-1].failed += failed

    def _drop_old(self, now: float) -> None:
        while self._buckets and now - self._buckets[0].began >= self._rules.window_s:
            self._buckets.popleft()
