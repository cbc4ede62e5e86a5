"""The heartbeat that a client asked for.

Source: "Ping" of the Action Cable protocol; ``pi`` and ``ptp`` of docs/configuration.md (anycable).
"""

from typing import Final

import msgspec

PER_SECOND: Final = {"s": 1, "ms": 1_000, "ns": 1_000_000_000}
PRECISIONS: Final = frozenset(PER_SECOND)


class Heartbeat(msgspec.Struct, frozen=True):
    """A ping every ``interval_s``, 0 or less for never, with timestamps in s, ms or ns.

    A client that sends nothing for ``pong_timeout_s`` after a ping is disconnected; with 0, no answer is expected.
    ``is_native`` adds the ping of the transport, which clients answer by themselves.
    """

    interval_s: float
    precision: str = "s"
    pong_timeout_s: float = 0
    is_native: bool = False
