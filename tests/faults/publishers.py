"""Publishers of consecutive numbers to one stream, which record the numbers that the server has accepted.

No number is published a second time: one without an answer is *uncertain*, and may arrive or not. Source: docs/broadcasting.md (anycable/anycable). Knows: one stream. Does not know: clients.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Final

import redis.asyncio
from redis.exceptions import RedisError

ANSWER_S: Final = 6.0
"""How long a publisher waits for an answer."""


class Publisher:
    """Publishes ``per_second`` numbers to a stream until :meth:`stop`."""

    def __init__(self, stream: str, per_second: float) -> None:
        self.stream = stream
        self.accepted: list[int] = []
        self.uncertain: set[int] = set()
        self.refused: set[int] = set()
        self.longest_pause_s = 0.0
        """Between two accepted numbers, since :meth:`mark`."""
        self._interval_s = 1 / per_second
        self._accepted_at = time.monotonic()
        self._number = 0
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def paused_for_s(self) -> float:
        """The longest pause since :meth:`mark`, including the present one."""
        return max(self.longest_pause_s, time.monotonic() - self._accepted_at)

    def mark(self) -> None:
        """Measures pauses from now on."""
        self.longest_pause_s = 0.0
        self._accepted_at = time.monotonic()

    async def stop(self) -> None:
        """Stops publishing; returns when the last answer has arrived."""
        self._stopping = True
        if self._task is not None:
            await self._task
        await self._close()

    async def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping:
            late_s = time.monotonic() - due
            count = max(1, int(late_s / self._interval_s)) if late_s < 1 else 1
            numbers = range(self._number + 1, self._number + 1 + count)
            self._number += count
            await self._publish(numbers)
            due = max(due + count * self._interval_s, time.monotonic() - 1)
            await asyncio.sleep(max(due - time.monotonic(), 0))

    def _accept(self, numbers: range) -> None:
        now = time.monotonic()
        self.longest_pause_s = max(self.longest_pause_s, now - self._accepted_at)
        self._accepted_at = now
        self.accepted.extend(numbers)

    async def _publish(self, numbers: range) -> None:
        """Publishes some numbers, and records the result."""
        raise NotImplementedError

    async def _close(self) -> None:
        """Closes the connection."""


class HttpPublisher(Publisher):
    """POST /_broadcast, one at a time over a connection that stays; another node after each failure.

    A batch is one request. Accepted is what was answered 201.
    """

    def __init__(self, stream: str, per_second: float, next_port: Callable[[], int]) -> None:
        super().__init__(stream, per_second)
        self._next_port = next_port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def _publish(self, numbers: range) -> None:
        batch = [{"stream": self.stream, "data": json.dumps(number)} for number in numbers]
        try:
            if self._writer is None or self._writer.is_closing():
                async with asyncio.timeout(2):
                    self._reader, self._writer = await asyncio.open_connection(
                        "127.0.0.1", self._next_port()
                    )
        except (OSError, TimeoutError):
            self.refused.update(numbers)
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                status = await self._post(json.dumps(batch).encode())
        except (OSError, EOFError, TimeoutError):
            self.uncertain.update(numbers)
            self._hang_up()
            return
        if status == 201:
            self._accept(numbers)
        else:
            self.uncertain.update(numbers)
            self._hang_up()

    async def _post(self, body: bytes) -> int:
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(
            b"POST /_broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        _, _, rest = head.partition(b"content-length:")
        await self._reader.readexactly(int(rest.split(b"\r\n")[0]) if rest else 0)
        return int(head.split()[1])

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._writer = None

    async def _close(self) -> None:
        self._hang_up()


class RedisStreamPublisher(Publisher):
    """XADD, as ``anycable-rails`` publishes with ``redisx``; accepted are the numbers that Redis has answered."""

    def __init__(self, stream: str, per_second: float, url: str) -> None:
        super().__init__(stream, per_second)
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=ANSWER_S)

    async def _publish(self, numbers: range) -> None:
        pipeline = self._redis.pipeline(transaction=True)
        for number in numbers:
            publication = {"stream": self.stream, "data": json.dumps(number)}
            pipeline.xadd("__anycable__", {"payload": json.dumps(publication)})
        try:
            await pipeline.execute()
        except (RedisError, OSError):
            self.uncertain.update(numbers)
            await asyncio.sleep(0.1)
        else:
            self._accept(numbers)

    async def _close(self) -> None:
        await self._redis.aclose()
