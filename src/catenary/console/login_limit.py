"""How often keys may be tried at the login: slower for each wrong one of an address, and bounded for all addresses together.

Knows: addresses, the time as an argument. Does not know: keys, requests.
"""

from typing import Final

import msgspec

from catenary.edge.addresses import host_of

FREE_TRIES: Final = 3
"""Wrong keys of an address before it has to wait: people mistype."""
MAX_WAIT_S: Final = 60.0
"""The wait doubles with each wrong key, from one second up to this."""
FORGET_S: Final = 900.0
"""An address without a wrong key for this long starts afresh."""
MAX_ADDRESSES: Final = 1_000
"""Addresses remembered; the one that has been quiet for longest is forgotten first."""
TRIES_PER_MINUTE: Final = 100
"""Wrong keys of all addresses together in a minute. Beyond, nobody can log in until the minute is over."""


class _Failures(msgspec.Struct, gc=False):
    number: int = 0
    last_s: float = 0.0
    blocked_until_s: float = 0.0


class LoginLimit:
    """Remembers wrong keys. Times are seconds of a monotonic clock."""

    __slots__ = ("_addresses", "_minute_ends_s", "_wrong_this_minute")

    def __init__(self) -> None:
        self._addresses: dict[str, _Failures] = {}
        """In the order of their last wrong key."""
        self._minute_ends_s = 0.0
        self._wrong_this_minute = 0

    def wait_s(self, address: str, now_s: float) -> float:
        """How long this address must wait before it may try a key; 0 if it may now."""
        found = self._addresses.get(host_of(address))
        wait = 0.0 if found is None else found.blocked_until_s - now_s
        if now_s < self._minute_ends_s and self._wrong_this_minute >= TRIES_PER_MINUTE:
            wait = max(wait, self._minute_ends_s - now_s)
        return max(wait, 0.0)

    def note_wrong_key(self, address: str, now_s: float) -> None:
        """Called for each wrong key."""
        if now_s >= self._minute_ends_s:
            self._minute_ends_s, self._wrong_this_minute = now_s + 60, 0
        self._wrong_this_minute += 1
        network = host_of(address)
        found = self._addresses.pop(network, None)
        if found is None or now_s - found.last_s > FORGET_S:
            found = _Failures()
        found.number += 1
        found.last_s = now_s
        # The exponent is bounded: a large one is no float.
        doublings = min(found.number - FREE_TRIES, 10)
        found.blocked_until_s = now_s + min(2.0**doublings, MAX_WAIT_S) if doublings >= 0 else 0.0
        self._addresses[network] = found
        if len(self._addresses) > MAX_ADDRESSES:
            del self._addresses[next(iter(self._addresses))]

    def note_right_key(self, address: str) -> None:
        """Forgets the wrong keys of an address."""
        self._addresses.pop(host_of(address), None)
