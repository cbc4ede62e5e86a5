"""Reads that are large, client after client: a few pieces in each turn of the loop.

A few kilobytes may be a thousand messages, which take 7 ms; of twenty clients at once, a delivery would
wait for all of them. So everybody who is connected is served between some pieces and the next.
Knows: an order. Does not know: what was read.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

PIECE_BYTES: Final = 2048
"""Of one read, which may be 256 KB: 300 of the smallest frames, which take 0.5 to 2 ms."""

PER_TURN: Final = 2


class Turns:
    """Belongs to one event loop. Each client stands in line once at most."""

    __slots__ = ("_is_begun", "_left", "_line")

    def __init__(self) -> None:
        self._is_begun = False
        self._left = PER_TURN
        self._line: deque[Callable[[], None]] = deque()

    def take(self) -> bool:
        """Is there room in this turn, and nobody who waits for it? Then there is now less."""
        if self._left == 0 or self._line:
            return False
        self._begin()
        self._left -= 1
        return True

    def wait(self, serve: Callable[[], None]) -> None:
        """Calls it in a turn to come, behind all who wait."""
        self._line.append(serve)
        self._begin()

    def _begin(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._left = PER_TURN
        if not self._line:
            self._is_begun = False
            return
        # First, so that one who upsets the server does not stop the line.
        asyncio.get_running_loop().call_soon(self._turn)
        while self._line and self._left > 0:
            self._left -= 1
            self._line.popleft()()
