"""One connection to NATS after the other, for as long as somebody needs one.

Knows: servers, when to try again. Does not know: what a connection is for.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from catenary.adapters.nats.connection import Connection, connect
from catenary.adapters.nats.servers import Addresses, NatsServers
from catenary.config.addresses import NatsAddress
from catenary.errors import BackendError
from catenary.supervision.backoff import MAX_DELAY_S, STEADY_S, delay_s

Visit = Callable[[Connection, Callable[[], None]], Awaitable[str]]
"""Uses a connection, and returns why it has ended. Calls what it is given once all it needs is
there; raises BackendError where that, or the connection, is not to be had."""


class WayBack:
    """Connects, again and again, with longer and longer pauses while NATS is away.

    ``visit`` uses each connection that is made; ``went`` hears of each end, and of each attempt in
    vain, with the server and the reason. The pauses begin anew after a visit that has worked for a
    while. Raises :class:`ConfigError`.
    """

    __slots__ = ("_addresses", "_longest_pause_s", "_task", "_visit", "_went")

    def __init__(
        self,
        servers: NatsServers,
        visit: Visit,
        went: Callable[[str], None],
        *,
        longest_pause_s: float = MAX_DELAY_S,
    ) -> None:
        self._addresses: Final = Addresses(servers)
        self._visit = visit
        self._went = went
        self._longest_pause_s = longest_pause_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to connect; does not wait for NATS, which may come later."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Connects no more. A connection that is there is its user's to close."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        attempt = 0
        while True:
            for address in self._addresses.once_around():
                worked_s = await self._try(address)
                if worked_s >= STEADY_S:
                    attempt = 0
                if worked_s > 0:
                    break
            pause_s = min(delay_s(attempt), self._longest_pause_s)
            attempt += 1
            await asyncio.sleep(pause_s)

    async def _try(self, address: NatsAddress) -> float:
        """Connects and stays; how many seconds all was there, 0 if never."""
        began = 0.0

        def works() -> None:
            nonlocal began
            began = time.monotonic()
            self._addresses.follow(address, connection.info.connect_urls)

        try:
            connection = await connect(address)
            try:
                reason = await self._visit(connection, works)
            except BackendError:
                connection.drop("given up")
                raise
            connection.drop(reason)
        except BackendError as error:
            reason = str(error).removeprefix("NATS: ")
        self._went(f"{address.url}: {reason}")
        return max(time.monotonic() - began, 0.001) if began else 0.0
