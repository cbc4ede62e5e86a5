"""Receives publications from a NATS subject.

Without a queue group every node receives every publication, and delivers it to its own clients; with one, one of the
nodes receives it, and sends it to the others.
Source: docs/broadcasting.md, "NATS Pub/Sub" (anycable).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from catenary.adapters.nats.connection import NatsConnection
from catenary.adapters.nats.reconnector import Reconnector
from catenary.adapters.nats.servers import NatsServers
from catenary.adapters.nats.wire import CRLF, value_of
from catenary.adapters.ordered_intake import OrderedIntake
from catenary.errors import BackendError
from catenary.messages.trace_context import TRACEPARENT, TRACESTATE, checked
from catenary.metrics.counters import Counters
from catenary.supervision.service import Supervisor

_log: Final = logging.getLogger("catenary.nats")


class Publish(Protocol):
    """Publishes a message, as a part of a trace if its headers name one."""

    def __call__(self, raw: bytes, *, trace: str = "") -> Awaitable[None] | None: ...


class _TracedPayload(bytes):
    """The payload of a message with headers; ``trace`` is what its ``traceparent`` and ``tracestate`` name, or empty."""

    trace = ""

    @classmethod
    def of(cls, headers: bytes, raw: bytes) -> "_TracedPayload":
        """Reads the headers."""
        payload = cls(raw)
        parent, state = _header(headers, TRACEPARENT), _header(headers, TRACESTATE)
        payload.trace = checked(parent, state)
        return payload


def _header(headers: bytes, name: str) -> str:
    """The value of a header, written as here or as Go's libraries do (``Traceparent``); empty if there is none."""
    headers += CRLF  # a publisher may have left it out
    value = value_of(headers, name.encode()) or value_of(headers, name.capitalize().encode())
    return (value or b"").decode(errors="replace")


class NatsBroadcasts:
    """Keeps a subscription for as long as the server runs, and subscribes again after every outage of NATS.

    Messages that are published during an outage are lost, as core NATS delivers at most once; the log says from when to
    when. Each publication is finished before the next one begins. Meanwhile the connection is not read: what came in
    one read waits here, and the rest in the NATS server, up to its ``max_pending``. Then it ends the connection, which
    is an outage like others.
    """

    __slots__ = (
        "_away_since",
        "_channel",
        "_connection",
        "_counters",
        "_intake",
        "_number",
        "_publish",
        "_queue",
        "_reconnector",
        "trouble",
    )

    def __init__(
        self,
        servers: NatsServers,
        channel: str,
        publish: Publish,
        counters: Counters,
        *,
        queue: str = "",
        supervisor: Supervisor | None = None,
    ) -> None:
        """``queue`` names the group of nodes of which one receives each publication; "": every node does.

        Raises :class:`ConfigError`.
        """
        self.trouble: str | None = "not subscribed yet"
        """Why no publications are received at the moment; None: they are."""
        self._reconnector: Final = Reconnector(
            servers,
            self._subscribe,
            self._note_end,
            log=self._log_outage,
            name="NATS broadcasts",
            supervisor=supervisor,
        )
        self._channel = channel
        self._publish = publish
        self._counters = counters
        self._queue = queue
        # The connection
        self._connection: NatsConnection | None = None
        self._number = 0
        self._away_since: float | None = None
        self._intake = OrderedIntake(self._begin, counters, pause=self._pause, resume=self._resume)

    async def start(self) -> None:
        """Begins to connect. Does not wait for NATS, which may start later."""
        self._reconnector.start()

    async def close(self, timeout_s: float) -> None:
        """Unsubscribes, publishes what was received, and counts what is left after ``timeout_s`` as lost."""
        await self._reconnector.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._finish()
        if self._connection is not None:
            await self._connection.close(0)
        lost = await self._intake.give_up()
        if lost:
            _log.warning("%d publications on %s may be lost: no time is left", lost, self._channel)

    async def _finish(self) -> None:
        """Unsubscribes, then waits until everything that was received is published."""
        if self._connection is not None:
            with contextlib.suppress(BackendError):
                await self._connection.drain(self._number)
        await self._intake.finish()

    # The subscription

    async def _subscribe(self, connection: NatsConnection, works: Callable[[], bool]) -> str:
        """Subscribes; returns the reason when the connection has ended."""
        self._connection = connection
        self._number = connection.subscribe(self._channel, self._take, queue=self._queue)
        await connection.flushed()
        self._note_subscribed(is_news=works())
        return await asyncio.shield(connection.lost)

    def _note_subscribed(self, *, is_news: bool) -> None:
        after = ""
        if self._away_since is not None:
            after = f" after {time.monotonic() - self._away_since:.1f} s without it"
        self._away_since = self.trouble = None
        if is_news:
            _log.info("Subscribed to the NATS subject %s%s", self._channel, after)

    def _note_end(self, reason: str) -> None:
        self._connection = None
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._counters.broadcaster_reconnects_total += 1
        self.trouble = reason

    def _log_outage(self, reason: str) -> None:
        _log.warning(
            "NATS is away (%s): publications on %s are lost until it is back",
            reason,
            self._channel,
        )

    # Messages

    def _take(self, subject: bytes, headers: bytes, raw: bytes) -> None:
        self._intake.add(_TracedPayload.of(headers, raw) if headers else raw)

    def _begin(self, raw: bytes) -> Awaitable[None] | None:
        if type(raw) is _TracedPayload:
            return self._publish(raw, trace=raw.trace)
        return self._publish(raw)

    def _pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def _resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()
