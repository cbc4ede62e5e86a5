"""The shutdown, phase by phase: each has a name, a time limit, and the functions that were added to it.

A phase that hangs or fails does not keep the later ones from running: queued Disconnect calls and publications that
were accepted must not be lost to a fault elsewhere.
Knows: time, phases. Does not know: what is closed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

_log: Final = logging.getLogger("catenary.server")

MIN_PHASE_S: Final = 0.1
"""The time limit of a phase when the time for all of them is up."""

GRACE_S: Final = 0.5
"""How long after its time limit a phase is abandoned. A part that observes the limit has ended by then."""

Close = Callable[[float], Awaitable[None]]
"""Closes one part, within the given number of seconds."""


class Phase(NamedTuple):
    """One step of the shutdown. Its time limit is ``share`` (0 to 1) of the time that is left when it begins."""

    name: str
    share: float


class Shutdown:
    """The phases of one server, in order."""

    __slots__ = ("_parts",)

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._parts: dict[Phase, list[Close]] = {phase: [] for phase in phases}

    def add(self, phase: Phase, close: Close) -> None:
        """``close`` is called in this phase, at the same time as the other functions that were added to it."""
        self._parts[phase].append(close)

    async def run(self, timeout_s: float) -> None:
        """Runs all phases, one after the other, within ``timeout_s``; a phase without parts is skipped.

        Never raises: failures and phases that exceed their limit are logged.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        for phase, parts in self._parts.items():
            if parts:
                began = clock()
                await _run(phase, parts, max((deadline - began) * phase.share, MIN_PHASE_S))
                _log.debug("Shutdown phase ended: %s (%.3f s)", phase.name, clock() - began)


async def _run(phase: Phase, parts: Sequence[Close], limit_s: float) -> None:
    """Tasks of their own: a part that is cancelled or leaves its task in a bad state harms no other."""
    tasks = {
        asyncio.create_task(_closed(phase, close, limit_s), name=f"shutdown: {phase.name}")
        for close in parts
    }
    overdue = tasks
    try:
        ended, overdue = await asyncio.wait(tasks, timeout=limit_s + GRACE_S)
        if any(task.cancelled() for task in ended):
            _log.error("Shutdown phase failed: %s (CancelledError)", phase.name)
        if overdue:
            _log.error("Shutdown phase abandoned after %.1f s: %s", limit_s + GRACE_S, phase.name)
    finally:
        for task in overdue:
            task.cancel()


async def _closed(phase: Phase, close: Close, limit_s: float) -> None:
    try:
        await close(limit_s)
    except (Exception, SystemExit):  # noqa: BLE001
        # Application code may call sys.exit(), which would end the event loop.
        _log.exception("Shutdown phase failed: %s", phase.name)
