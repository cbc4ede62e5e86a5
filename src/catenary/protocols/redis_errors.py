"""Which errors of Redis pass, and which come again with the same command.

Knows: the text of an error reply. Does not know: commands, connections.
Source: redis.io, "Redis serialization protocol specification"; the errors of server.c, script.c
and cluster.c (redis/redis).
"""

import re
from typing import Final

PASSING: Final = (
    # The state of the server: it is starting, failing over, at work on something else, or full.
    # Memory is free again when keys have expired, the disk when somebody has seen to it.
    *("LOADING", "MASTERDOWN", "READONLY", "BUSY", "OOM", "MISCONF", "NOREPLICAS"),
    # The state of a cluster, and of this connection
    *("CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOAUTH", "NOSCRIPT", "UNBLOCKED"),
)
"""Codes of errors that end by themselves, or with what an operator does to the server."""

_code: Final = re.compile(r"-?([A-Z]{2,})\b").match
_code_in_script: Final = re.compile(r"@user_script:\s*\d+: -?([A-Z]{2,})\b").search
"""Before Redis 7, what a command in a script has raised stands within an error of the script."""


def is_lasting(error: str) -> bool:
    """Will the same command fail again?

    An error without a code is not one of Redis, but of a proxy: nobody knows.
    """
    found = _code_in_script(error) or _code(error)
    return found is not None and found[1] not in PASSING
