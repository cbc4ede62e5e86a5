"""Publications from a NATS subject.

Without a queue group every node hears every publication, and each delivers to its own clients
alone; with one, a publication is for one of the nodes, which hands it to the others.
Source: docs/broadcasting.md, "NATS Pub/Sub" (anycable).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from catenary.adapters.nats.connection import Connection
from catenary.adapters.nats.servers import NatsServers
from catenary.adapters.nats.way_back import WayBack
from catenary.adapters.ordered_intake import OrderedIntake
from catenary.errors import BackendError
from catenary.metrics.counters import Counters
from catenary.supervision.service import Supervisor

_log: Final = logging.getLogger("catenary.nats")


class NatsBroadcasts:
    """Listens to a subject for as long as the server runs, whatever becomes of NATS.

    What is published while NATS is away, or before the subscription is back, is lost: that is what
    core NATS promises, and the log says from when to when. One publication is done with before the
    next one begins. While that takes its time, NATS is not read: what waits here is what came in
    one read, and the rest waits there, up to the server's ``max_pending``. Then it ends the
    connection, which is an outage like others.
    """

    __slots__ = (
        "_away_since",
        "_channel",
        "_connection",
        "_counters",
        "_intake",
        "_number",
        "_queue",
        "_way",
        "trouble",
    )

    def __init__(
        self,
        servers: NatsServers,
        channel: str,
        publish: Callable[[bytes], Awaitable[None] | None],
        counters: Counters,
        *,
        queue: str = "",
        supervisor: Supervisor | None = None,
    ) -> None:
        """``queue`` names the group of nodes of which one gets each publication; "": all do.

        Raises :class:`ConfigError`.
        """
        self.trouble: str | None = "not subscribed yet"
        """Why nothing is heard at the moment; None where it is."""
        self._way: Final = WayBack(
            servers,
            self._listen,
            self._went,
            log=self._tell,
            name="NATS broadcasts",
            supervisor=supervisor,
        )
        self._channel = channel
        self._counters = counters
        self._queue = queue
        # Coming and going
        self._connection: Connection | None = None
        self._number = 0
        self._away_since: float | None = None
        self._intake = OrderedIntake(publish, counters, pause=self._pause, resume=self._resume)

    async def start(self) -> None:
        """Begins to listen; does not wait for NATS, which may come later."""
        self._way.start()

    async def close(self, timeout_s: float) -> None:
        """Stops listening; what has come is published first, and what is not in time is counted."""
        await self._way.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._finish()
        if self._connection is not None:
            await self._connection.close(0)
        lost = await self._intake.give_up()
        if lost:
            _log.warning("%d publications on %s may be lost: no time is left", lost, self._channel)

    async def _finish(self) -> None:
        """Hears no more, then waits for what was heard."""
        if self._connection is not None:
            with contextlib.suppress(BackendError):
                await self._connection.drain(self._number)
        await self._intake.finish()

    # The way

    async def _listen(self, connection: Connection, works: Callable[[], bool]) -> str:
        """Subscribes, and stays; returns why the connection ended."""
        self._connection = connection
        self._number = connection.subscribe(self._channel, self._take, queue=self._queue)
        await connection.flushed()
        self._came(is_news=works())
        return await asyncio.shield(connection.lost)

    def _came(self, *, is_news: bool) -> None:
        after = ""
        if self._away_since is not None:
            after = f" after {time.monotonic() - self._away_since:.1f} s without it"
        self._away_since = self.trouble = None
        if is_news:
            _log.info("Subscribed to the NATS subject %s%s", self._channel, after)

    def _went(self, reason: str) -> None:
        self._connection = None
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._counters.broadcaster_reconnects_total += 1
        self.trouble = reason

    def _tell(self, reason: str) -> None:
        _log.warning(
            "NATS is away (%s): publications on %s are lost until it is back",
            reason,
            self._channel,
        )

    # What comes

    def _take(self, subject: bytes, headers: bytes, raw: bytes) -> None:
        self._intake.add(raw)

    def _pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def _resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()
