"""Publishes made-up figures of machines: python machine.py ant bee cow"""

import random
import sys
import time
from contextlib import suppress

from catenary import Cable

EVERY_S = 0.5

cable = Cable(channels=[])


def next_load(load: float) -> float:
    return min(100.0, max(0.0, load + random.uniform(-8, 8)))


def publish(names: list[str]) -> None:
    """Publishes for ever, all machines in one request. Raises BackendError without a server."""
    loads = {name: random.uniform(20, 80) for name in names}
    while True:
        with cable.batch():
            for name in names:
                loads[name] = next_load(loads[name])
                cable.broadcast(f"machines/{name}", {"load": round(loads[name], 1)})
        time.sleep(EVERY_S)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        publish(sys.argv[1:])
