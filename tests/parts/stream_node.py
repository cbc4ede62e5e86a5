"""A process that reads a Redis stream, to be killed: ``python -m`` it with a URL.

It writes each publication to its output as a line. The second argument is how many it publishes
before it never gets done with one, the third is for how many seconds it has the lease.
"""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

from catenary.adapters.redis.streams import RedisStreamBroadcasts, StreamRules
from catenary.config.addresses import RedisAddress
from catenary.messages.publications import QueueEntry
from catenary.metrics.counters import Counters


class StreamNode:
    """Such a process, as its test sees it."""

    def __init__(self, url: str, stops_after: int, lease_s: float) -> None:
        arguments = (url, str(stops_after), str(lease_s))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *arguments], stdout=subprocess.PIPE
        )

    def read(self, number: int) -> list[bytes]:
        """Waits for this many publications, and returns them."""
        assert self._process.stdout is not None
        return [self._process.stdout.readline().rstrip(b"\n") for _ in range(number)]

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def stream_node(url: str, stops_after: int, lease_s: float) -> Iterator[StreamNode]:
    node = StreamNode(url, stops_after, lease_s)
    try:
        yield node
    finally:
        node.kill()


async def _run(url: str, stops_after: int, lease_s: float) -> None:
    published = 0

    def publish(raw: bytes, entry: QueueEntry, trace: str = "") -> Awaitable[None] | None:
        nonlocal published
        print(raw.decode(), flush=True)
        published += 1
        return asyncio.get_running_loop().create_future() if published > stops_after else None

    rules = StreamRules(lease_s=lease_s)
    await RedisStreamBroadcasts(RedisAddress(url), rules, publish, Counters()).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
