"""Subscriptions that ended lately, so that the end of their session does not report them again.

A client that leaves while it unsubscribes ends its subscription twice: by the command, and with the
session. The application's ``unsubscribed`` must run once.
Knows: keys and moments. Does not know: clocks, calls.
"""

from typing import Final

from catenary.channels.subscription_key import SubscriptionKey

LIMIT: Final = 5_000
"""At least this many of the latest are remembered, and at most twice as many. A client that leaves
does so long before that many others have unsubscribed."""


class EndedSubscriptions:
    """The latest subscriptions that ended, each with its moment (seconds of any clock).

    Most are never asked for again and stay until newer ones replace them. Only the hash of a key is
    kept, because a client may send an identifier of any length.
    """

    __slots__ = ("_earlier", "_latest")

    def __init__(self) -> None:
        self._earlier: dict[int, float] = {}
        self._latest: dict[int, float] = {}

    def add(self, key: SubscriptionKey, moment_s: float) -> None:
        """Remembers that a subscription ended."""
        if len(self._latest) >= LIMIT:
            self._earlier, self._latest = self._latest, {}
        self._latest[hash(key)] = moment_s

    def pop(self, key: SubscriptionKey) -> float | None:
        """Forgets a subscription, which began again or whose session ended, too.

        Returns the moment of its end, None for one that is not remembered.
        """
        hashed = hash(key)
        earlier = self._earlier.pop(hashed, None)
        return self._latest.pop(hashed, earlier)
