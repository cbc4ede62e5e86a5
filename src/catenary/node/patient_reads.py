"""Reads of a history that may be remote, and away for a while.

Knows: how long to try. Does not know: what is read.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from catenary.errors import BackendError, BackendRefused
from catenary.node.answers import Messages

AWAY_S: Final = 15.0
"""How long a history may be away before the request is rejected: a JetStream whose leader died takes 4 to 9 s to elect
another one."""

PAUSE_S: Final = 0.2
"""Before a history that is away is asked again."""


async def read_patiently(ask: Callable[[], Messages | Awaitable[Messages]]) -> Messages:
    """Reads a history, again and again while it is away. Raises :class:`BackendError`, and what ``ask`` raises."""
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + AWAY_S
    while True:
        answer = ask()
        if isinstance(answer, tuple):
            return answer
        try:
            return await answer
        except BackendRefused:
            raise
        except BackendError:
            # Its server may be electing a leader, or restarting.
            if clock() >= give_up_at:
                raise
        await asyncio.sleep(PAUSE_S)
