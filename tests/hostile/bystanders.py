"""A crowd that listens to a stream, and how long each message takes to reach it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.parts.raw_socket import command, upgrade
from tests.parts.server import CableServer

CROWD = 20
INTERVAL_S = 0.01
STREAM = json.dumps({"channel": "$pubsub", "stream_name": "crowd"})


class Listener(asyncio.Protocol):
    """One of the crowd. Notes the delay of every message that carries the moment it was sent."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = delays
        self._read = b""
        self.is_subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(upgrade() + command("subscribe", STREAM))

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self.is_subscribed.done():
            if b"confirm_subscription" in self._read:
                self.is_subscribed.set_result(None)
                self._read = b""
            return
        now = time.perf_counter()
        parts = self._read.split(b"@")
        self._delays += [now - float(each) for each in parts[1::2]]
        self._read = b"" if len(parts) % 2 else b"@" + parts[-1]

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


class Crowd:
    """Everybody, and who publishes to them."""

    def __init__(self, server: CableServer) -> None:
        self._server = server
        self._delays: list[float] = []
        self._listeners: list[Listener] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Everybody is subscribed, and still there at the end."""
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            for _ in range(CROWD):
                transport, listener = await loop.create_connection(
                    lambda: Listener(self._delays), "127.0.0.1", self._server.port
                )
                stack.callback(transport.abort)
                self._listeners.append(listener)
                await asyncio.wait_for(listener.is_subscribed, 10)
            yield
            assert not any(listener.is_lost for listener in self._listeners)

    async def p99_s(self, until: "asyncio.Future[int] | float") -> float:
        """Publishes for so many seconds, or until something is done; the 99th percentile of delays."""
        self._delays.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.broadcast_port)
        end = time.monotonic() + (until if isinstance(until, float) else 30)
        sent = 0
        while time.monotonic() < end and not (isinstance(until, asyncio.Future) and until.done()):
            message = json.dumps({"stream": "crowd", "data": f'"@{time.perf_counter()}@"'})
            writer.write(
                b"POST /_broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
                % (len(message), message.encode())
            )
            sent += 1
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 201 "), head
            await asyncio.sleep(INTERVAL_S)
        writer.close()
        deadline = time.monotonic() + 10
        while len(self._delays) < sent * CROWD:
            assert time.monotonic() < deadline, "every message reaches everybody"
            await asyncio.sleep(0.01)
        return sorted(self._delays)[len(self._delays) * 99 // 100]
