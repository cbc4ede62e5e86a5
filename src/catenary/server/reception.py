"""Handshakes when many come at once: a few in each turn of the loop, the others in line.

A handshake takes some 150 µs. A thousand that were served in one turn would keep a delivery waiting
for all of them; so everybody who is connected is served between one few and the next.
Knows: an order. Does not know: what a handshake is.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from catenary.metrics.counters import Counters

PER_TURN: Final = 8


class Reception:
    """Serves whoever comes, at once or in turn. Belongs to one event loop.

    ``limit`` is how many may stand in line. Moves ``held_handshakes_total``.
    """

    __slots__ = ("_call_soon", "_counters", "_left", "_limit", "_line")

    def __init__(self, limit: int, counters: Counters, call_soon: Callable[..., object]) -> None:
        """``call_soon`` is the loop's: to ask for the running loop is a system call."""
        self._limit = limit
        self._call_soon = call_soon
        self._counters = counters
        self._left = PER_TURN
        # Ordered, and yet one who leaves from the middle is forgotten at once.
        self._line: OrderedDict[object, Callable[[], None]] = OrderedDict()

    def receive(self, guest: object, serve: Callable[[], None]) -> bool:
        """Serves a guest now or later; one who stands in line keeps its place.

        False where the line is too long: then it is not served.
        """
        if guest in self._line:
            self._line[guest] = serve
            return True
        if self._left > 0 and not self._line:
            if self._left == PER_TURN:
                self._call_soon(self._turn)
            self._left -= 1
            serve()
            return True
        if len(self._line) >= self._limit:
            return False
        self._counters.held_handshakes_total += 1
        self._line[guest] = serve
        return True

    def holds(self, guest: object) -> bool:
        """Does it stand in line?"""
        return guest in self._line

    def forget(self, guest: object) -> None:
        """It has left; nothing happens for one that does not stand in line."""
        self._line.pop(guest, None)

    def _turn(self) -> None:
        self._left = PER_TURN
        if not self._line:
            return
        # First, so that one who upsets the server does not stop the line.
        self._call_soon(self._turn)
        while self._line and self._left > 0:
            self._left -= 1
            _, serve = self._line.popitem(last=False)
            serve()
