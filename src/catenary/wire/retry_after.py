"""When a client that was refused for now may come back.

Source: RFC 9110, section 10.2.3. Knows: seconds. Does not know: why a request is refused.
"""

import itertools
from typing import Final

LONGEST_S: Final = 60
SPREAD_S: Final = 10
_SHORTEST_S: Final = 5
_GOLDEN: Final = 0.618033988749895
"""Multiples of it, modulo 1, are spread evenly, however many there are."""
_numbers: Final = itertools.count()


def retry_after(spread_s: float = SPREAD_S) -> tuple[tuple[str, str]]:
    """The header ``Retry-After``: 5 s and up to ``spread_s`` more, at most 60 s.

    Each client gets another time, so that clients which were refused together do not come back together.
    """
    share = next(_numbers) * _GOLDEN % 1
    seconds = _SHORTEST_S + share * min(spread_s, LONGEST_S - _SHORTEST_S)
    return (("Retry-After", str(round(seconds))),)
