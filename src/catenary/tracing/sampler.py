"""Samples a share of the work at random, for the price of a subtraction.

Knows: a ratio. Does not know: what is sampled.
"""

import math
import random
from collections.abc import Callable


class Sampler:
    """Each call is sampled with the probability ``ratio``, independently of the others.

    It draws how many calls are not sampled before the next one that is (a geometric distribution) instead of a number for
    each call.
    """

    __slots__ = ("_draw", "_left", "_log")

    def __init__(self, ratio: float, draw: Callable[[], float] = random.random) -> None:
        """``draw`` returns numbers from 0 (inclusive) to 1 (exclusive)."""
        self._draw = draw
        # log(0) is minus infinity: a ratio of 1 skips none. A ratio of 0 skips all, which is also an infinity.
        self._log = math.log1p(-ratio) if ratio < 1 else -math.inf
        self._left = self._skipped()

    def __call__(self) -> bool:
        """Whether this call is sampled."""
        if self._left:
            self._left -= 1
            return False
        self._left = self._skipped()
        return True

    def _skipped(self) -> float:
        if self._log == 0:
            return math.inf
        return math.floor(math.log1p(-self._draw()) / self._log)
