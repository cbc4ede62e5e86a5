"""Asks `/ready` of every node, again and again, as a load balancer does.

Knows: ports, HTTP. Does not know: which answer is right.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from tests.faults.readiness import Readiness, ReadyAnswer

INTERVAL_S: Final = 0.1

ANSWER_S: Final = 2.0
"""A node that does not answer within this time has not answered."""


@asynccontextmanager
async def watched(ports: Sequence[int]) -> AsyncIterator[list[list[ReadyAnswer]]]:
    """The answers of each port so far, which grow until the block ends."""
    answers: list[list[ReadyAnswer]] = [[] for _ in ports]
    tasks = [
        asyncio.create_task(_watch(port, each)) for port, each in zip(ports, answers, strict=True)
    ]
    try:
        yield answers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _watch(port: int, answers: list[ReadyAnswer]) -> None:
    while True:
        asked_s = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S):
                readiness, reason = await _ask(port)
        except (OSError, EOFError, TimeoutError) as error:
            readiness, reason = Readiness.NO_ANSWER, type(error).__name__
        answers.append(ReadyAnswer(asked_s, time.monotonic(), readiness, reason))
        await asyncio.sleep(INTERVAL_S)


async def _ask(port: int) -> tuple[Readiness, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        if not head:
            raise EOFError
        return Readiness(int(head.split()[1])), body.decode().strip()
    finally:
        writer.transport.abort()
