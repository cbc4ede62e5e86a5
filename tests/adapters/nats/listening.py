"""Shared by the tests of NATS: a node that receives publications, a client of the library nats-py, short timeouts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client

from catenary.adapters.nats import connection as connection_module
from catenary.adapters.nats.broadcasts import NatsBroadcasts
from catenary.adapters.nats.servers import NatsServers
from catenary.metrics.counters import Counters
from tests.parts.nats import NatsPublisher

QUICK_S = 0.4
"""A timeout after which a frozen server is found while a test waits."""


def shorten_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections wait no longer than that for a reply."""
    monkeypatch.setattr(connection_module, "PATIENCE_S", QUICK_S)
    monkeypatch.setattr(connection_module, "TICK_S", QUICK_S / 4)


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Returns once the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  (of any kind)
            await asyncio.sleep(0.01)


async def publish(app: NatsPublisher, *raw: str | bytes) -> None:
    """Publishes one after the other, without blocking the loop."""
    for each in raw:
        await asyncio.to_thread(app.publish, each)


async def _say_nothing(error: Exception) -> None:
    """Drops errors that the library would print."""


@asynccontextmanager
async def peer(*urls: str) -> AsyncIterator[Client]:
    """A client by nats-py for the length of a with block, which comes back whatever happens."""
    client = Client()
    await client.connect(
        list(urls),
        error_cb=_say_nothing,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,  # type: ignore[arg-type]  # a time to sleep
        connect_timeout=5,
    )
    try:
        yield client
    finally:
        await client.close()
        await asyncio.sleep(0)


async def settled(app: Client) -> None:
    """Returns when the server has all that was published before.

    Not flush: its PING may overtake what is still to be written.
    """
    inbox = app.new_inbox()
    own = await app.subscribe(inbox)
    await app.publish(inbox, b"")
    await own.next_msg(5)
    await own.unsubscribe()


class Node:
    """A node that receives publications: ``got`` has them in order."""

    def __init__(self, url: str, counters: Counters, queue: str = "") -> None:
        self.got: list[bytes] = []
        self.traces: list[str] = []
        self.publish: Callable[[bytes], Awaitable[None] | None] = self.got.append
        self.broadcasts = NatsBroadcasts(
            NatsServers(urls=(url,)), "news", self._publish, counters, queue=queue
        )

    def _publish(self, raw: bytes, *, trace: str = "") -> Awaitable[None] | None:
        self.traces.append(trace)
        return self.publish(raw)

    @property
    def is_up(self) -> bool:
        """Is it subscribed?"""
        return self.broadcasts.trouble is None


@asynccontextmanager
async def node(
    url: str,
    *,
    counters: Counters | None = None,
    queue: str = "",
    is_up: bool = True,
    close_s: float = 2,
) -> AsyncIterator[Node]:
    """A node for the length of a with block: it listens when that begins, unless not ``is_up``."""
    listener = Node(url, counters or Counters(), queue)
    await listener.broadcasts.start()
    try:
        if is_up:
            await until(lambda: listener.is_up)
        yield listener
    finally:
        await listener.broadcasts.close(close_s)
