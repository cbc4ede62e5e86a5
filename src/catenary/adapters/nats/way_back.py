"""One connection to NATS after the other, for as long as somebody needs one.

Knows: servers, when to try again. Does not know: what a connection is for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from catenary.adapters.nats.connection import Connection, connect
from catenary.adapters.nats.servers import Addresses, NatsServers
from catenary.config.addresses import NatsAddress
from catenary.errors import BackendError
from catenary.supervision.backoff import MAX_DELAY_S, Backoff
from catenary.supervision.service import Service, Supervisor

Visit = Callable[[Connection, Callable[[], bool]], Awaitable[str]]
"""Uses a connection, and returns why it has ended. Calls what it is given once all it needs is
there, and hears whether that deserves a line in the log; raises BackendError where that, or the
connection, is not to be had."""


def _log_nothing(reasons: str) -> None:
    """Where the user of a connection logs by itself."""


class WayBack:
    """Connects, again and again, with longer and longer pauses while NATS is away.

    ``visit`` uses each connection that is made; ``went`` is called for each end, and for each
    attempt that fails, with the server and the reason. ``log`` is called with the reasons of a round
    of all servers that deserves a line. The pauses begin again after a visit that has worked for a
    while. ``name`` is the service's. Raises :class:`ConfigError`.
    """

    __slots__ = ("_addresses", "_backoff", "_connection", "_log", "_service", "_visit", "_went")

    def __init__(
        self,
        servers: NatsServers,
        visit: Visit,
        went: Callable[[str], None],
        *,
        log: Callable[[str], None] = _log_nothing,
        longest_pause_s: float = MAX_DELAY_S,
        name: str = "NATS",
        supervisor: Supervisor | None = None,
    ) -> None:
        self._addresses: Final = Addresses(servers)
        self._visit = visit
        self._went = went
        self._log = log
        self._connection: Connection | None = None
        self._backoff = Backoff(longest_pause_s)
        self._service = Service(name, self._keep, supervisor)

    def start(self) -> None:
        """Begins to connect; does not wait for NATS, which may come later."""
        self._service.start()

    async def stop(self) -> None:
        """Connects no more. A connection that is there is its user's to close."""
        await self._service.stop()

    async def _keep(self) -> None:
        if self._connection is not None:
            # Of a run of the service that has failed: two would receive everything twice.
            self._connection.drop("given up")
            self._went(f"{self._connection.url}: given up")
        while True:
            reasons: list[str] = []
            for address in self._addresses.once_around():
                reason, has_worked = await self._try(address)
                reasons.append(reason)
                self._went(reason)
                if has_worked:
                    break
            pause = self._backoff.failed()
            if pause.is_logged:
                self._log("; ".join(reasons))
            await asyncio.sleep(pause.seconds)

    async def _try(self, address: NatsAddress) -> tuple[str, bool]:
        """Connects and stays; why that has ended, and whether all was ever there."""
        has_worked = False

        def works() -> bool:
            nonlocal has_worked
            has_worked = True
            self._addresses.follow(address, connection.info.connect_urls)
            return self._backoff.works()

        try:
            connection = self._connection = await connect(address)
            reason = await self._visit(connection, works)
        except BackendError as error:
            reason = str(error).removeprefix("NATS: ")
        if self._connection is not None:
            self._connection.drop(reason)
            self._connection = None
        return f"{address.url}: {reason}", has_worked
