"""Samples a share of the work at random, for the price of taking the next item of an iterator.

Knows: a ratio. Does not know: what is sampled.
"""

import math
import random
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Final

_LONGEST: Final = 2**62
"""The longest run of pieces that are skipped: a longer one does not fit :func:`itertools.repeat`."""


def sampler(ratio: float, draw: Callable[[], float] = random.random) -> Callable[[], bool]:
    """Returns a function that says whether a piece of work is sampled: with the probability ``ratio``, independently of the
    others. ``draw`` returns numbers from 0 (inclusive) to 1 (exclusive).

    It draws how many pieces are skipped before the next one that is sampled (a geometric distribution) instead of a number for
    each. Calling it runs no Python code for those that are skipped.
    """
    if ratio >= 1:
        return repeat(True).__next__
    if ratio <= 0:
        return repeat(False).__next__
    return chain.from_iterable(_runs(math.log1p(-ratio), draw)).__next__


def _runs(log: float, draw: Callable[[], float]) -> Iterator[Iterator[bool]]:
    """``log`` is the logarithm of the probability that a piece is skipped."""
    while True:
        yield repeat(False, int(min(math.log1p(-draw()) / log, _LONGEST)))
        yield iter((True,))
