"""Runs Catenary and records how long each garbage collection takes.

    python -m bench.pauses FILE FLAGS...

Each line of FILE is one collection: the time of its end by the monotonic clock, in seconds, and its length
in ms. The server does nothing else meanwhile. Knows: the collector. Does not know: the server.
"""

import gc
import sys
from pathlib import Path
from time import monotonic

from catenary.cli import main


class Pauses:
    """A callback of the collector, called at the beginning and the end of each collection."""

    __slots__ = ("_began", "_file")

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = monotonic()
        else:
            now = monotonic()
            self._file.write(f"{now:.6f} {(now - self._began) * 1000:.3f}\n")


def longest_ms(path: Path, since_s: float) -> float:
    """The longest collection that ended after ``since_s`` of the monotonic clock; 0 if there was none."""
    lines = (line.split() for line in path.read_text().splitlines())
    return max((float(length) for ended, length in lines if float(ended) > since_s), default=0.0)


if __name__ == "__main__":
    gc.callbacks.append(Pauses(Path(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
