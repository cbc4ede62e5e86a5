"""Many clients: connected a window at a time, cut off, brought back, sent away.

Knows: clients and where the server is. Does not know: what is published, or why.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
import socket
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from bench.client import ECHO_IDENTIFIER, Listener, Tally, handshake
from bench.plan import Plan
from catenary.auth.jwt import Claims, issued
from catenary.terminal.counting import CountingClient, EchoClient

WINDOW: Final = 256
"""How many clients may be connecting at once: less than any listen backlog."""

CONNECT_TIMEOUT_S: Final = 30.0
_NOT_READY: Final = f"not ready after {CONNECT_TIMEOUT_S:.0f} s"

ADDRESSES: Final = 250
"""Source addresses, 127.0.0.2 and up: each has about 28,000 ports, a minute's TIME_WAIT included."""

_TOKEN_EXPIRES: Final = 4_102_444_800
"""In the year 2100: after every run."""

_Client = TypeVar("_Client", bound=CountingClient)


class Crowd:
    """The clients of one plan; ``sent`` holds when each message of each stream was sent."""

    __slots__ = ("_opening", "_plan", "_port", "clients", "failures", "sent", "tally")

    def __init__(self, plan: Plan, port: int) -> None:
        self.clients: list[CountingClient] = []
        self.sent = [array("d") for _ in range(plan.streams)]
        self.tally = Tally()
        self.failures: list[str] = []
        """Why clients did not come, or not back."""
        self._plan = plan
        self._port = port
        self._opening = handshake(port, extended=plan.extended)

    async def connect(self) -> None:
        """Connects all clients of the plan, each subscribed to its stream."""
        plan = self._plan
        everybody = (self._client(index) for index in range(plan.clients))
        self.clients = await self._bring(everybody)

    async def invite(self, count: int) -> list[Listener]:
        """Connects more clients, subscribed to a new stream; they are not part of ``clients``."""
        self.sent.append(array("d"))
        stream = len(self.sent) - 1
        opening = handshake(self._port, extended=True)
        return await self._bring(
            Listener(self.tally, self.sent[stream], opening, stream) for _ in range(count)
        )

    async def bring_back(
        self, clients: Iterable[_Client], on_back: Callable[[], None] = lambda: None
    ) -> list[_Client]:
        """Reconnects clients that were cut off; calls ``on_back`` for each that has received everything."""
        return await self._bring(clients, on_back)

    def expected(self) -> int:
        """How many messages all clients of the plan should have received of what has been sent."""
        if self._plan.streams == 1:
            return len(self.sent[0]) * len(self.clients)
        return sum(len(client.sent) for client in self.clients)

    def leave(self) -> None:
        """Breaks all connections."""
        for client in self.clients:
            client.leave()

    def _client(self, index: int) -> CountingClient:
        plan, tally, opening = self._plan, self.tally, self._opening
        if plan.echoes:
            return EchoClient(tally, opening, ECHO_IDENTIFIER, action="echo", echoes=plan.echoes)
        stream = index % plan.streams
        if plan.secret:
            claims = Claims(ext=f'{{"user_id":{index}}}', exp=_TOKEN_EXPIRES)
            token = issued(claims, plan.secret)
            opening = handshake(self._port, extended=plan.extended, token=token)
        return Listener(tally, self.sent[stream], opening, stream)

    async def _bring(
        self, clients: Iterable[_Client], on_ready: Callable[[], None] = lambda: None
    ) -> list[_Client]:
        """Those who came."""
        waiting, ready = iter(enumerate(clients)), []

        async def bring_some(waiting: Iterator[tuple[int, _Client]]) -> None:
            for index, client in waiting:
                if await self._comes(client, f"127.0.0.{2 + index % ADDRESSES}"):
                    ready.append(client)
                    on_ready()

        async with asyncio.TaskGroup() as group:
            for _ in range(WINDOW):
                group.create_task(bring_some(waiting))
        return ready

    async def _comes(self, client: CountingClient, source: str) -> bool:
        loop = asyncio.get_running_loop()
        late = loop.call_later(CONNECT_TIMEOUT_S, client.failed, _NOT_READY)
        try:
            await loop.create_connection(lambda: client, sock=_socket(source, self._port))
            await client.ready
        except OSError as error:
            client.leave()
            self.failures.append(str(error))
            return False
        finally:
            late.cancel()
        return True


def _socket(source: str, port: int) -> socket.socket:
    """On its way to the server. To have a loop look up addresses that are known takes longer than all
    else that it does for a client."""
    opened = socket.socket()
    try:
        opened.setblocking(False)
        opened.bind((source, 0))
        opened.connect_ex(("127.0.0.1", port))
    except OSError:
        opened.close()
        raise
    return opened
