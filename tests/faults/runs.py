"""One run: a cluster under load, one fault, and the verdict. Knows: the order of the steps."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.faults.client import RecordingClient
from tests.faults.engines import Cluster, Engine
from tests.faults.injections import Fault
from tests.faults.publishers import Publisher
from tests.faults.readiness import AGAIN_S, Readiness, ReadyAnswer, judge
from tests.faults.ready_watch import INTERVAL_S, watched
from tests.faults.verdict import Verdict, compare_all

BEFORE_S: Final = 2.0
AFTER_S: Final = 3.0
"""Load before the fault, and after the repair."""

FADING_S: Final = 1.0
"""From the start of a fault until the last quiet stream is quiet, at the earliest."""

RECOVER_S: Final = 60.0
"""Within this time publications must be accepted again."""

SETTLE_S: Final = 15.0
"""A run ends when nothing has arrived for this time, although clients lack accepted publications."""

POLL_S: Final = 0.5


@dataclass(frozen=True)
class Load:
    """``clients`` listen to all streams.

    Each of ``streams`` gets ``per_second`` messages all the time. Each of ``quiet_streams`` gets as many
    until the first moments of the fault: nothing follows its last message that would show that it is
    missing.
    """

    clients: int = 30
    streams: int = 3
    quiet_streams: int = 10
    per_second: float = 60


async def run(engine: Engine, fault: Fault, load: Load) -> Verdict:
    """Raises TimeoutError if the cluster does not start or clients are not admitted."""
    opened = await asyncio.to_thread(_Opened, engine, with_links=fault.needs_links)
    try:
        return await _run(opened.cluster, engine, fault, load)
    finally:
        await asyncio.to_thread(opened.close)


class _Opened:
    """A cluster that one thread starts and another one ends."""

    def __init__(self, engine: Engine, *, with_links: bool) -> None:
        self._stack = contextlib.ExitStack()
        self.cluster: Cluster = self._stack.enter_context(engine.open(with_links))

    def close(self) -> None:
        self._stack.close()


async def _run(cluster: Cluster, engine: Engine, fault: Fault, load: Load) -> Verdict:
    streams = [f"s{index}" for index in range(load.streams + load.quiet_streams)]
    per_second = load.per_second * fault.share_of_load
    publishers = [cluster.publisher(cluster, stream, per_second) for stream in streams]
    steady, quiet = publishers[: load.streams], publishers[load.streams :]
    ports = [node.port for node in cluster.nodes]
    async with _crowd(cluster, streams, load.clients) as clients, watched(ports) as answers:
        for publisher in publishers:
            publisher.start()
        await asyncio.sleep(BEFORE_S)
        for client in clients:
            client.mark(streams[: load.streams])
        for publisher in steady:
            publisher.mark()
        fading = asyncio.create_task(_stop_one_by_one(quiet))
        broken_s = time.monotonic()
        await fault.inject(cluster)
        mended_s = time.monotonic()
        await fading
        await _until_accepted(steady)
        await asyncio.sleep(AFTER_S)
        recovery_s = max(client.silent_for_s() for client in clients)
        refusing_s = max(publisher.paused_for_s() for publisher in steady)
        for publisher in steady:
            await publisher.stop()
        await _settle(clients, publishers)
        await _until_ready(answers)
        readiness = judge(
            answers,
            [fault.expected(engine.name, number) for number in range(len(ports))],
            broken_s,
            mended_s,
        )
        counts, examples = compare_all(clients, publishers)
        return Verdict(
            engine=engine.name,
            fault=fault.name,
            accepted=sum(len(each.accepted) for each in publishers),
            uncertain=sum(len(each.uncertain) for each in publishers),
            counts=counts,
            recovery_s=recovery_s,
            refusing_s=refusing_s,
            readiness=readiness,
            examples=examples,
        )


async def _stop_one_by_one(publishers: list[Publisher]) -> None:
    """Stops them within the first second of a fault."""
    for publisher in publishers:
        await asyncio.sleep(FADING_S / len(publishers))
        await publisher.stop()


async def _until_accepted(publishers: list[Publisher]) -> None:
    """Returns when a publication of each publisher was accepted again, or when the time is over."""
    before = [len(each.accepted) for each in publishers]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RECOVER_S):
            for publisher, number in zip(publishers, before, strict=True):
                while len(publisher.accepted) == number:  # noqa: ASYNC110  (publishers set no event)
                    await asyncio.sleep(0.1)


async def _until_ready(nodes: list[list[ReadyAnswer]]) -> None:
    """Returns when each node is ready, or when the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AGAIN_S):
            for answers in nodes:
                while not answers or answers[-1].readiness is not Readiness.READY:  # noqa: ASYNC110
                    await asyncio.sleep(INTERVAL_S)


async def _settle(clients: list[RecordingClient], publishers: list[Publisher]) -> None:
    """Returns when every client has all accepted publications, or when nothing has arrived for a while."""
    wanted = {publisher.stream: set(publisher.accepted) for publisher in publishers}
    received = -1
    waited_s = 0.0
    while waited_s < SETTLE_S and not all(
        numbers.issubset(client.received[stream])
        for client in clients
        for stream, numbers in wanted.items()
    ):
        before, received = received, sum(client.received_num for client in clients)
        waited_s = waited_s + POLL_S if received == before else 0.0
        await asyncio.sleep(POLL_S)
    # Second copies arrive late, too.
    await asyncio.sleep(1)


@asynccontextmanager
async def _crowd(
    cluster: Cluster, streams: list[str], number: int
) -> AsyncIterator[list[RecordingClient]]:
    clients = [RecordingClient(streams, cluster.next_port) for _ in range(number)]
    try:
        async with asyncio.timeout(30):
            for client in clients:
                await client.subscribed.wait()
        yield clients
    finally:
        for client in clients:
            await client.close()
