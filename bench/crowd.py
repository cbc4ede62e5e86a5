"""The clients of a plan: connects them, a limited number at a time, and reconnects and disconnects them.

Knows: clients, the server's port. Does not know: publications.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
import socket
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from bench.client import (
    ECHO_IDENTIFIER,
    Listener,
    PusherListener,
    Tally,
    handshake,
    pusher_handshake,
)
from bench.plan import Plan
from catenary.auth.jwt import Claims, issued
from catenary.terminal.counting import CountingClient, EchoClient

WINDOW: Final = 256
"""Clients that connect at once: less than any listen backlog."""

CONNECT_TIMEOUT_S: Final = 30.0
_NOT_READY: Final = f"not ready after {CONNECT_TIMEOUT_S:.0f} s"

ADDRESSES: Final = 250
"""Source addresses, 127.0.0.2 and up: each has about 28,000 ports, a minute's TIME_WAIT included."""

_TOKEN_EXPIRES: Final = 4_102_444_800
"""In the year 2100: after every run."""

_Client = TypeVar("_Client", bound=CountingClient)


class Crowd:
    """The clients of one plan; ``sent`` has the times at which the messages of each stream were sent."""

    __slots__ = ("_opening", "_plan", "_port", "clients", "failures", "sent", "tally")

    def __init__(self, plan: Plan, port: int) -> None:
        self.clients: list[CountingClient] = []
        self.sent = [array("d") for _ in range(plan.streams)]
        self.tally = Tally()
        self.failures: list[str] = []
        """Why clients failed to connect or to resume."""
        self._plan = plan
        self._port = port
        self._opening = handshake(port, extended=plan.extended)

    async def connect(self) -> None:
        """Connects all clients of the plan, each subscribed to its stream."""
        plan = self._plan
        clients = (self._client(index) for index in range(plan.clients))
        self.clients = await self._connect_all(clients)

    async def connect_more(self, count: int) -> list[Listener]:
        """Connects more clients, subscribed to a new stream; they are not part of ``clients``."""
        self.sent.append(array("d"))
        stream = len(self.sent) - 1
        opening = handshake(self._port, extended=True)
        return await self._connect_all(
            Listener(self.tally, self.sent[stream], opening, stream) for _ in range(count)
        )

    async def reconnect(
        self, clients: Iterable[_Client], on_ready: Callable[[], None] = lambda: None
    ) -> list[_Client]:
        """Reconnects clients that were cut off; calls ``on_ready`` for each that has received everything."""
        return await self._connect_all(clients, on_ready)

    async def bring_back(self, client: CountingClient, index: int) -> bool:
        """Reconnects one client that was cut off, now; returns whether it succeeded."""
        return await self._connect_one(client, _source(index))

    def expected(self) -> int:
        """The number of messages that all clients of the plan should have received so far."""
        if self._plan.streams == 1:
            return len(self.sent[0]) * len(self.clients)
        return sum(len(client.sent) for client in self.clients)

    def leave(self) -> None:
        """Aborts all connections."""
        for client in self.clients:
            client.leave()

    def _client(self, index: int) -> CountingClient:
        plan, tally, opening = self._plan, self.tally, self._opening
        if plan.echoes:
            return EchoClient(tally, opening, ECHO_IDENTIFIER, action="echo", echoes=plan.echoes)
        stream = index % plan.streams
        if plan.protocol == "pusher":
            return PusherListener(tally, self.sent[stream], pusher_handshake(self._port), stream)
        if plan.secret:
            claims = Claims(ext=f'{{"user_id":{index}}}', exp=_TOKEN_EXPIRES)
            token = issued(claims, plan.secret)
            opening = handshake(self._port, extended=plan.extended, token=token)
        return Listener(tally, self.sent[stream], opening, stream)

    async def _connect_all(
        self, clients: Iterable[_Client], on_ready: Callable[[], None] = lambda: None
    ) -> list[_Client]:
        """Connects clients; returns those that succeeded."""
        waiting, ready = iter(enumerate(clients)), []

        async def connect_some(waiting: Iterator[tuple[int, _Client]]) -> None:
            for index, client in waiting:
                if await self._connect_one(client, _source(index)):
                    ready.append(client)
                    on_ready()

        async with asyncio.TaskGroup() as group:
            for _ in range(WINDOW):
                group.create_task(connect_some(waiting))
        return ready

    async def _connect_one(self, client: CountingClient, source: str) -> bool:
        loop = asyncio.get_running_loop()
        late = loop.call_later(CONNECT_TIMEOUT_S, client.failed, _NOT_READY)
        try:
            await loop.create_connection(lambda: client, sock=opened_socket(source, self._port))
            await client.ready
        except OSError as error:
            client.leave()
            self.failures.append(str(error))
            return False
        finally:
            late.cancel()
        return True


def _source(index: int) -> str:
    return f"127.0.0.{2 + index % ADDRESSES}"


def opened_socket(source: str, port: int) -> socket.socket:
    """A socket that connects to the server. asyncio would look up the address, which takes longer than
    everything else that it does for a client."""
    opened = socket.socket()
    try:
        opened.setblocking(False)
        opened.bind((source, 0))
        opened.connect_ex(("127.0.0.1", port))
    except OSError:
        opened.close()
        raise
    return opened
