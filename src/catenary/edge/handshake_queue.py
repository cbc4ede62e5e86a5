"""Limits how many handshakes are served in one turn of the event loop; the others wait, in order of arrival.

A handshake takes about 150 µs. A thousand in one turn would delay every delivery by 150 ms; with a few in each turn,
deliveries and commands are served in between.
Knows: the order of arrival. Does not know: what a handshake is.
"""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from catenary.metrics.counters import Counters

PER_TURN: Final = 8


class HandshakeQueue:
    """Serves handshakes at once while fewer than :data:`PER_TURN` were served in this turn, else in order of arrival.

    At most ``limit`` wait. Counts those that wait in ``held_handshakes_total``. Belongs to one event loop.
    """

    __slots__ = ("_call_soon", "_counters", "_left", "_limit", "_waiting")

    def __init__(self, limit: int, counters: Counters, call_soon: Callable[..., object]) -> None:
        """``call_soon`` is that of the loop: asyncio.get_running_loop() makes a system call."""
        self._limit = limit
        self._call_soon = call_soon
        self._counters = counters
        self._left = PER_TURN
        # Ordered; removes an entry from the middle in constant time.
        self._waiting: OrderedDict[object, Callable[[], None]] = OrderedDict()

    def enter(self, owner: object, serve: Callable[[], None]) -> bool:
        """Calls ``serve`` now or in a later turn. An owner that waits already keeps its position; its callback is
        replaced.

        Returns False if the queue is full; ``serve`` is never called then.
        """
        if owner in self._waiting:
            self._waiting[owner] = serve
            return True
        if self._left > 0 and not self._waiting:
            if self._left == PER_TURN:
                self._call_soon(self._turn)
            self._left -= 1
            serve()
            return True
        if len(self._waiting) >= self._limit:
            return False
        self._counters.held_handshakes_total += 1
        self._waiting[owner] = serve
        return True

    async def wait(self, timeout_s: float) -> bool:
        """For handshakes that are coroutines: returns True when it is the caller's turn.

        Returns False if the queue is full, or after ``timeout_s``.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.enter(turn, functools.partial(turn.set_result, None)):
            return False
        if turn.done():
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except TimeoutError:
            return False
        finally:
            self.leave(turn)
        return True

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __contains__(self, owner: object) -> bool:
        """Whether it waits."""
        return owner in self._waiting

    def leave(self, owner: object) -> None:
        """Removes an owner; does nothing if it does not wait."""
        self._waiting.pop(owner, None)

    def _turn(self) -> None:
        self._left = PER_TURN
        if not self._waiting:
            return
        # Scheduled first, so that a callback that raises does not stop the queue.
        self._call_soon(self._turn)
        while self._waiting and self._left > 0:
            self._left -= 1
            _, serve = self._waiting.popitem(last=False)
            serve()
