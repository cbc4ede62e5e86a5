"""Rate limits: ``"5/s"``, ``"100/m"``, ``"20/10s"``.

The generic cell rate algorithm (ITU-T I.371): the whole number may be used at once; after that, one call
per share of the period. The time is an argument. Knows: rates. Does not know: clocks, callers.
"""

import re
from collections.abc import Hashable
from typing import Final

import msgspec

from catenary.channels.errors import DeclarationError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_FORM: Final = re.compile(r"([1-9][0-9]*)/([1-9][0-9]*)?([smh])")
_SWEEP_AT: Final = 1024


class Rate(msgspec.Struct, frozen=True):
    """``count`` calls in ``period_s`` seconds."""

    count: int
    period_s: int

    def __str__(self) -> str:
        return f"{self.count} in {self.period_s} s"


def parse_rate(text: str) -> Rate:
    """Reads a rate. Raises :class:`DeclarationError`."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise DeclarationError(f"expected a rate such as '5/s', '100/m' or '20/10s', got {text!r}")
    count, number, unit = found.groups()
    return Rate(int(count), int(number or 1) * _SECONDS[unit])


class Limiter:
    """Applies rates to callers. A caller that has not called for a period takes no memory."""

    __slots__ = ("_due", "_sweep_at")

    def __init__(self) -> None:
        # The theoretical arrival time: when the calls so far end, at one per share of the period.
        self._due: dict[Hashable, float] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._due)

    def allows(self, caller: Hashable, rate: Rate, now_s: float) -> bool:
        """Counts a call and returns True, or returns False if it exceeds the rate."""
        share_s = rate.period_s / rate.count
        due = max(self._due.get(caller, now_s), now_s)
        if due - now_s > rate.period_s - share_s + 1e-9:
            return False
        if len(self._due) >= self._sweep_at:
            self._sweep(now_s)
        self._due[caller] = due + share_s
        return True

    def _sweep(self, now_s: float) -> None:
        self._due = {caller: due for caller, due in self._due.items() if due > now_s}
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._due))
