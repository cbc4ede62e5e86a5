"""Publications from a NATS subject.

Without a queue group every node hears every publication, and each delivers to its own clients
alone; with one, a publication is for one of the nodes, which hands it to the others.
Source: docs/broadcasting.md, "NATS Pub/Sub" (anycable).
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from catenary.adapters.nats.connection import Connection
from catenary.adapters.nats.servers import NatsServers
from catenary.adapters.nats.way_back import WayBack
from catenary.errors import BackendError, PublicationError
from catenary.metrics.counters import Counters

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
        "_number",
        "_publish",
        "_queue",
        "_waiting",
        "_way",
        "_worker",
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
    ) -> None:
        """``queue`` names the group of nodes of which one gets each publication; "": all do.

        Raises :class:`ConfigError`.
        """
        self.trouble: str | None = "not subscribed yet"
        """Why nothing is heard at the moment; None where it is."""
        self._way: Final = WayBack(servers, self._listen, self._went)
        self._channel = channel
        self._publish = publish
        self._counters = counters
        self._queue = queue
        # Coming and going
        self._connection: Connection | None = None
        self._number = 0
        self._away_since: float | None = None
        # Behind the publication that is under way
        self._waiting: deque[bytes] = deque()
        self._worker: asyncio.Task[None] | None = None

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
        if self._worker is not None:
            lost = 1 + len(self._waiting)
            self._counters.lost_publications_total += lost
            _log.warning("%d publications on %s may be lost: no time is left", lost, self._channel)
            self._worker.cancel()
            await asyncio.wait([self._worker])

    async def _finish(self) -> None:
        """Hears no more, then waits for what was heard."""
        if self._connection is not None:
            with contextlib.suppress(BackendError):
                await self._connection.drain(self._number)
        if self._worker is not None:
            await asyncio.wait([self._worker])

    # The way

    async def _listen(self, connection: Connection, works: Callable[[], None]) -> str:
        """Subscribes, and stays; returns why the connection ended."""
        self._connection = connection
        self._number = connection.subscribe(self._channel, self._take, queue=self._queue)
        await connection.flushed()
        works()
        self._came()
        return await asyncio.shield(connection.lost)

    def _came(self) -> None:
        after = ""
        if self._away_since is not None:
            after = f" after {time.monotonic() - self._away_since:.1f} s without it"
        self._away_since = self.trouble = None
        _log.info("Subscribed to the NATS subject %s%s", self._channel, after)

    def _went(self, reason: str) -> None:
        self._connection = None
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._counters.broadcaster_reconnects_total += 1
        if self.trouble != reason:
            self.trouble = reason
            _log.warning(
                "NATS is away (%s): publications on %s are lost until it is back",
                reason,
                self._channel,
            )

    # What comes

    def _take(self, subject: bytes, headers: bytes, raw: bytes) -> None:
        if self._worker is None:
            sent = self._begin(raw)
            if sent is None:
                return
            self._worker = asyncio.get_running_loop().create_task(self._work(raw, sent))
        else:
            self._waiting.append(raw)
        if self._connection is not None:
            self._connection.pause()

    async def _work(self, raw: bytes, sent: Awaitable[None]) -> None:
        """Waits until a publication is done with, then the next, until none waits."""
        try:
            await self._done(raw, sent)
            while self._waiting:
                raw = self._waiting.popleft()
                following = self._begin(raw)
                if following is not None:
                    await self._done(raw, following)
        finally:
            self._worker = None
        if self._connection is not None:
            self._connection.resume()

    def _begin(self, raw: bytes) -> Awaitable[None] | None:
        try:
            return self._publish(raw)
        except PublicationError:
            # Counted and logged by the node; nobody is there to be told.
            return None
        except Exception:  # noqa: BLE001  (the next one is to come all the same)
            self._lose(raw)
            return None

    async def _done(self, raw: bytes, sent: Awaitable[None]) -> None:
        try:
            await sent
        except BackendError as error:
            self._counters.lost_publications_total += 1
            _log.warning("A publication is lost: %s; it begins with %.100r", error, raw[:100])
        except Exception:  # noqa: BLE001  (the next one is to come all the same)
            self._lose(raw)

    def _lose(self, raw: bytes) -> None:
        self._counters.lost_publications_total += 1
        _log.exception("A publication could not be handled; it begins with %.100r", raw[:100])
