"""Remote commands for a charging station: one at a time, as OCPP-J requires (1.6, section 4.1.1).

A command is sent when the one before it is answered, or was sent too long ago. Knows: commands that are written already.
Does not know: sessions, who publishes.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

WAITING_LIMIT: Final = 32
"""Limit of the commands that wait for the answer to the one under way."""

ANSWER_TIMEOUT_S: Final = 30.0
"""The time in which a station answers; after it, the next command is sent with the next message in either direction. An
answer that comes later is accepted, too."""


LATE_LIMIT: Final = 32
"""Limit of the commands whose late answers are still accepted; beyond it, the oldest is forgotten."""


class RemoteCommands:
    """The commands for one station. ``clock`` counts seconds; ``refused`` is called for a command beyond the limit."""

    __slots__ = ("_clock", "_late", "_refused", "_sent_at", "_under_way", "_waiting")

    def __init__(self, clock: Callable[[], float], refused: Callable[[], None]) -> None:
        self._clock = clock
        self._refused = refused
        self._under_way: str | None = None
        self._sent_at = 0.0
        # Both are None until they are needed, which is rare: commands that wait, and those whose answer is late
        self._waiting: deque[tuple[str, bytes]] | None = None
        self._late: deque[str] | None = None

    def put(self, id: str, call: bytes) -> bytes | None:
        """Adds a command. Returns the one to be sent now, which may be an earlier one; None if all have to wait."""
        waiting = self._waiting
        if not waiting and self._is_free():
            return self._sent(id, call)
        if waiting is None:
            waiting = self._waiting = deque()
        if len(waiting) < WAITING_LIMIT:
            waiting.append((id, call))
        else:
            self._refused()
        return self.next()

    def is_answered_by(self, id: str) -> bool:
        """Whether a message of the station is the answer to the command under way, or to an earlier one; ends that."""
        if self._under_way == id:
            self._under_way = None
            return True
        if self._late is None or id not in self._late:
            return False
        self._late.remove(id)
        return True

    def next(self) -> bytes | None:
        """The next command to be sent, if there is one and it does not have to wait."""
        if not self._waiting or not self._is_free():
            return None
        return self._sent(*self._waiting.popleft())

    def _is_free(self) -> bool:
        return self._under_way is None or self._clock() - self._sent_at > ANSWER_TIMEOUT_S

    def _sent(self, id: str, call: bytes) -> bytes:
        if self._under_way is not None:
            if self._late is None:
                self._late = deque(maxlen=LATE_LIMIT)
            self._late.append(self._under_way)
        self._under_way, self._sent_at = id, self._clock()
        return call
