"""How long to wait before the next attempt."""

import random
from typing import Final

MAX_DELAY_S: Final = 5.0
"""The longest pause between two attempts."""

STEADY_S: Final = 1.0
"""What lasted this long has worked: the pauses begin anew."""


def delay_s(attempt: int, longest_s: float = MAX_DELAY_S) -> float:
    """0.1 s, doubled each time, and never the same for all nodes; ``longest_s`` is at most MAX_DELAY_S."""
    # 0.1 * 2**6 is more than the longest already; a float overflows at 2**1024.
    return min(0.1 * 2.0 ** min(attempt, 6), longest_s) * random.uniform(0.75, 1.25)  # noqa: S311
