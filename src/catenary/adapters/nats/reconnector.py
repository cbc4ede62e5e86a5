"""Keeps a connection to NATS: makes another whenever one ends.

Knows: servers, when to try again. Does not know: what a connection is for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from catenary.adapters.nats.connection import NatsConnection, connect
from catenary.adapters.nats.servers import Addresses, NatsServers
from catenary.config.addresses import NatsAddress
from catenary.errors import BackendError
from catenary.supervision.backoff import MAX_DELAY_S, Backoff
from catenary.supervision.service import Service, Supervisor

Visit = Callable[[NatsConnection, Callable[[], bool]], Awaitable[str]]
"""Uses a connection, and returns the reason when it has ended. Once the connection works, calls its second argument,
which returns whether that is to be logged. Raises BackendError where the connection is of no use."""


def _log_nothing(reasons: str) -> None:
    """For users that log the reasons themselves."""


class Reconnector:
    """Connects, and connects again, with growing pauses while NATS is away.

    ``visit`` uses each connection; ``on_end`` is called after each, and after each failed attempt, with the server and
    the reason. ``log`` is called with the reasons of a round of all servers, where they are to be logged. A connection
    that has worked resets the pauses. ``name`` is that of the service. Raises :class:`ConfigError`.
    """

    __slots__ = (
        "_access",
        "_addresses",
        "_backoff",
        "_connection",
        "_log",
        "_on_end",
        "_service",
        "_visit",
    )

    def __init__(
        self,
        servers: NatsServers,
        visit: Visit,
        on_end: Callable[[str], None],
        *,
        log: Callable[[str], None] = _log_nothing,
        longest_pause_s: float = MAX_DELAY_S,
        name: str = "NATS",
        supervisor: Supervisor | None = None,
    ) -> None:
        self._addresses: Final = Addresses(servers)
        self._access: Final = servers.access
        self._visit = visit
        self._on_end = on_end
        self._log = log
        self._connection: NatsConnection | None = None
        self._backoff = Backoff(longest_pause_s)
        self._service = Service(name, self._keep, supervisor)

    def start(self) -> None:
        """Begins to connect; does not wait for NATS, which may come later."""
        self._service.start()

    async def stop(self) -> None:
        """Connects no more. The user of the present connection closes it."""
        await self._service.stop()

    async def _keep(self) -> None:
        if self._connection is not None:
            # Left by a failed run of the service: two connections would receive everything twice.
            self._connection.drop("given up")
            self._on_end(f"{self._connection.url}: given up")
        while True:
            reasons: list[str] = []
            for address in self._addresses.once_around():
                reason, has_worked = await self._try(address)
                reasons.append(reason)
                self._on_end(reason)
                if has_worked:
                    break
            pause = self._backoff.failed()
            if pause.is_logged:
                self._log("; ".join(reasons))
            await asyncio.sleep(pause.seconds)

    async def _try(self, address: NatsAddress) -> tuple[str, bool]:
        """Connects, and returns when that has ended: why, and whether the connection has worked."""
        has_worked = False

        def works() -> bool:
            nonlocal has_worked
            has_worked = True
            self._addresses.follow(address, connection.info.connect_urls)
            return self._backoff.works()

        try:
            connection = self._connection = await connect(address, self._access)
            reason = await self._visit(connection, works)
        except BackendError as error:
            reason = str(error).removeprefix("NATS: ")
        if self._connection is not None:
            self._connection.drop(reason)
            self._connection = None
        return f"{address.url}: {reason}", has_worked
