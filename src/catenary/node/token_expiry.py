"""Disconnects clients whose token has expired while they were connected (``--jwt_enforce_expiry``).

All clients share one timer wheel; clients without a token are not in it and cost nothing.
Source: ``token_expired`` of docs/jwt_identification.md (anycable), which sends it to connecting clients only.
Knows: sessions, the time. Does not know: tokens.
"""

from collections.abc import Callable
from typing import Final

from catenary.broker.timer_wheel import TICKS, TimerWheel
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.session import Session

TICK_S: Final = 1
CLOSED_AT_ONCE: Final = 500
"""Sessions that are closed in one turn of the event loop: many tokens may have been issued at the same moment."""


class TokenExpiry:
    """The sessions whose token expires. A session is closed ``grace_s`` after that, unless it has left; ``now`` returns seconds
    since 1970, ``call_soon`` calls a function in the next turn of the event loop."""

    __slots__ = ("_call_soon", "_counters", "_grace_s", "_now", "_wheel")

    def __init__(
        self,
        grace_s: float,
        counters: Counters,
        now: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._grace_s = grace_s
        self._counters = counters
        self._now = now
        self._call_soon = call_soon
        self._wheel: TimerWheel[Session] = TimerWheel(TICK_S * TICKS)

    def watch(self, session: Session) -> None:
        """Closes a connected session when its token has expired; called again if it has another token."""
        if session.expires_at is not None:
            self._wheel.schedule(session, session.expires_at + self._grace_s)

    def forget(self, session: Session) -> None:
        """The session has left."""
        if session.expires_at is not None:
            self._wheel.cancel(session)

    def tick(self) -> None:
        """Closes the sessions that are due. Called every :data:`TICK_S` seconds."""
        now = self._now()
        for _ in range(CLOSED_AT_ONCE):
            session = self._wheel.pop_due(now)
            if session is None:
                return
            if not session.closed:
                self._counters.expired_tokens_total += 1
                session.close(Reason.TOKEN_EXPIRED)
        self._call_soon(self.tick)
