"""Catenary, while it says how long the turns of its loop are.

    python -m tests.hostile.turns FILE FLAGS...

SIGUSR2 begins; the next one ends, and writes the longest turns to FILE: their CPU in milliseconds, the
longest first. CPU, because time on a busy machine is mostly somebody else's.
"""

import asyncio
import heapq
import json
import signal
import sys
import time
from pathlib import Path

from catenary.cli import main

SHOWN = 20


class Turns:
    """Runs once in every turn of the loop, which does not sleep meanwhile."""

    def __init__(self) -> None:
        self._longest_s: list[float] = []
        self._last_s = time.thread_time()
        self._loop = asyncio.get_running_loop()
        self.is_over = False
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now_s = time.thread_time()
        if len(self._longest_s) < SHOWN:
            heapq.heappush(self._longest_s, now_s - self._last_s)
        elif now_s - self._last_s > self._longest_s[0]:
            heapq.heapreplace(self._longest_s, now_s - self._last_s)
        self._last_s = now_s
        if not self.is_over:
            self._loop.call_soon(self._turn)

    def longest_ms(self) -> list[float]:
        return [each * 1000 for each in sorted(self._longest_s, reverse=True)]


class Watch:
    """Begins and ends, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turns: Turns | None = None

    def __call__(self, *_: object) -> None:
        turns = self._turns
        if turns is None:
            self._turns = Turns()
            return
        turns.is_over = True
        self._turns = None
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(turns.longest_ms()))
        unfinished.rename(self._path)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, Watch(Path(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
