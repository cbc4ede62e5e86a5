"""The clients of ``bench.upgrade``, in a process of their own: they reconnect at once when the server closes them.

    python -m bench.upgrade_clients '{"port":8080,"clients":100,"first":0,"streams":10}'

Prints a line when all are connected; reads a line with the number of messages of each stream when the upgrade is over, waits
for them, and prints the counts. A process without clients can't be told from one that hangs, so each failure ends it.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
import random
import ssl
import sys
from array import array
from time import perf_counter
from typing import Final

import msgspec
import uvloop

from bench.client import Listener, Tally, handshake
from bench.crowd import ADDRESSES, opened_socket

MAX_MESSAGES: Final = 100_000
"""Of a stream: when they were sent is not known here, so no latency is measured."""

CONNECTING: Final = 256
"""Clients that connect at once for the first time. After that, as many as the server closes."""

LONGEST_RETRY_S: Final = 0.5
PATIENCE_S: Final = 120.0


class Job(msgspec.Struct, frozen=True):
    """``first`` is the number of the first client, which decides about addresses and streams. ``certificate`` is the file with
    that of the server; empty: no TLS."""

    port: int
    clients: int
    first: int
    streams: int
    certificate: str = ""


class Counts(msgspec.Struct):
    """The results of all clients. ``refused`` has the number of connections that failed before the end of the history, by reason;
    ``away_s`` is the time from the end of a connection to the end of the history that follows on the next one."""

    returned: int = 0
    restored: int = 0
    lost: int = 0
    doubled: int = 0
    rejected: int = 0
    unannounced: int = 0
    away_s: list[float] = []
    refused: dict[str, int] = {}


class _Discard(array):  # type: ignore[type-arg]  # a subclass can't be subscripted
    """Latencies that nobody wants."""

    def append(self, value: float, /) -> None:
        """Drops the value."""


class Rider(Listener):
    """A client that comes back."""

    __slots__ = ("_index", "_is_announced", "_outcome", "_port", "_returning", "_tls", "stream")

    def __init__(
        self,
        job: Job,
        number: int,
        tally: Tally,
        sent: array[float],
        counts: Counts,
        *,
        tls: ssl.SSLContext | None,
    ) -> None:
        stream = number % job.streams
        super().__init__(tally, sent, handshake(job.port, extended=True), stream)
        self.stream = stream
        self._index = number
        self._port = job.port
        self._tls = tls
        self._outcome = counts
        self._is_announced = False
        self._returning: asyncio.Task[None] | None = None

    @property
    def received(self) -> int:
        """The number of the next message, less those that are missing."""
        return self._next - len(self.missing)

    @property
    def is_settled(self) -> bool:
        """Whether it is connected and has read the history."""
        return self._returning is None or self._returning.done()

    async def connect(self) -> None:
        """Connects, again after each refusal."""
        refused = self._outcome.refused
        while True:
            try:
                await self._connect_once()
            except OSError as error:
                reason = str(error)
                refused[reason] = refused.get(reason, 0) + 1
                # The end of this connection must not be taken for that of the next one.
                await self.away()
                await asyncio.sleep(random.uniform(0, LONGEST_RETRY_S))  # noqa: S311
            else:
                return

    async def _connect_once(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready = loop.create_future()
        source = f"127.0.0.{2 + self._index % ADDRESSES}"
        await loop.create_connection(
            lambda: self,
            sock=opened_socket(source, self._port),
            ssl=self._tls,
            server_hostname="127.0.0.1" if self._tls is not None else None,
        )
        await self.ready

    def message_received(self, payload: bytes) -> None:
        if b'"disconnect"' in payload:
            self._is_announced = True
        else:
            super().message_received(payload)

    def connection_lost(self, error: Exception | None) -> None:
        was_ready = self.ready.done()
        super().connection_lost(error)
        if self._leaves or not was_ready:
            return
        if not self._is_announced:
            self._outcome.unannounced += 1
        self._is_announced = False
        self._returning = asyncio.get_running_loop().create_task(self._return(perf_counter()))

    async def _return(self, lost_at: float) -> None:
        await self.connect()
        self._outcome.returned += 1
        self._outcome.away_s.append(perf_counter() - lost_at)


async def _run(job: Job) -> None:
    counts, tally = Counts(), Tally()
    tally.latencies = _Discard("d")
    sent = array("d", bytes(8 * MAX_MESSAGES))
    numbers = range(job.first, job.first + job.clients)
    tls = ssl.create_default_context(cafile=job.certificate) if job.certificate else None
    riders = [Rider(job, number, tally, sent, counts, tls=tls) for number in numbers]
    waiting = iter(riders)

    async def connect_some() -> None:
        for rider in waiting:
            await rider.connect()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTING):
            group.create_task(connect_some())
    counts.refused.clear()  # only the upgrade counts
    print("connected", flush=True)  # noqa: T201
    line = await asyncio.to_thread(sys.stdin.readline)
    totals = msgspec.json.decode(line, type=list[int])
    deadline = perf_counter() + PATIENCE_S
    while perf_counter() < deadline:
        if all(each.is_settled and each.received >= totals[each.stream] for each in riders):
            break
        await asyncio.sleep(0.1)
    counts.lost = sum(totals[each.stream] - each.received for each in riders)
    counts.doubled = tally.duplicates
    counts.restored = tally.restored
    counts.rejected = tally.rejected_histories
    print(msgspec.json.encode(counts).decode(), flush=True)  # noqa: T201
    for each in riders:
        each.leave()


if __name__ == "__main__":
    uvloop.run(_run(msgspec.json.decode(sys.argv[1], type=Job)))
