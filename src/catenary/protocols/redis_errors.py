"""Distinguishes passing errors of Redis from those that the same command would get again.

Knows: the text of an error reply. Does not know: commands, connections.
Source: redis.io, "Redis serialization protocol specification"; the errors of server.c, script.c
and cluster.c (redis/redis).
"""

import re
from typing import Final

PASSING: Final = (
    # The state of the server: it is starting, failing over, busy, or full. Memory is freed when keys expire, the disk by
    # an operator.
    *("LOADING", "MASTERDOWN", "READONLY", "BUSY", "OOM", "MISCONF", "NOREPLICAS"),
    # The state of a cluster, and of this connection
    *("CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOAUTH", "NOSCRIPT", "UNBLOCKED"),
)
"""Codes of errors that end by themselves, or by an action of an operator."""

_code: Final = re.compile(r"-?([A-Z]{2,})\b").match
_code_in_script: Final = re.compile(r"@user_script:\s*\d+: -?([A-Z]{2,})\b").search
"""Before Redis 7, the error of a command in a script is within an error of the script."""


def is_lasting(error: str) -> bool:
    """Whether the same command will fail again.

    An error without a code is not from Redis but from a proxy, and counts as passing.
    """
    found = _code_in_script(error) or _code(error)
    return found is not None and found[1] not in PASSING


def refusal(error: str) -> str:
    """The error for people, with what to do about it. Without the arguments of an unknown command: they may be what a client
    has sent."""
    text = error.partition(", with args beginning with")[0].partition(" with args beginning")[0][
        :200
    ]
    hint = ""
    if "user executing the script can't" in error:
        # Redis does not say which command of a script is not permitted.
        hint = "; catenary doctor names it"
    elif "unknown command" in error.lower() or "Unknown Redis command" in error:
        hint = "; Catenary needs it, and a proxy or a hosted Redis leaves it out"
    return f"Redis refuses: {text}{hint}"
