"""Webhooks: events for an application that it receives by HTTP POST, in order, several in one request.

A request that fails is repeated until :data:`GIVE_UP_S` have passed, while later events wait. Then its events are lost,
which is logged and counted.
Knows: requests, retries, a queue. Does not know: what an event says, how a body is signed.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from catenary.logs.rate_limited import RateLimitedLogger
from catenary.metrics.counters import Counters
from catenary.rpc.http_client import ConnectionBroken, HttpClient, ResponseUnusable
from catenary.rpc.tls import Tls
from catenary.supervision.backoff import delay_s
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.webhooks")

MAX_EVENTS: Final = 10_000
"""Limit of the events that wait for one receiver."""

MAX_BYTES: Final = 16 * 1024 * 1024
"""Limit of their size."""

AT_ONCE: Final = 100
"""Limit of the events of one request."""

GIVE_UP_S: Final = 300.0
"""How long a failed request is repeated: as long as Pusher repeats it, in seconds."""

Seal = Callable[[int, Iterable[bytes]], tuple[bytes, dict[str, str]]]
"""Returns the body and the headers of a request, from the time (ms since 1970) and the encoded events."""


class WebhookTiming(msgspec.Struct, frozen=True):
    """``batch_s``: how long events are collected before they are sent. ``timeout_s``: the time limit of one request.
    ``give_up_s``: how long it is repeated."""

    batch_s: float
    timeout_s: float
    give_up_s: float = GIVE_UP_S


class WebhookFailed(Exception):
    """An attempt failed; the message says why."""


class WebhookReceiver:
    """One URL of an application, with the events that wait for it: at most :data:`MAX_EVENTS` and :data:`MAX_BYTES`.

    Beyond them the oldest are lost, because the newest events say what is true now. ``name`` stands for the receiver in
    the log: a URL may contain a secret.
    """

    __slots__ = (
        "_client",
        "_counters",
        "_has_events",
        "_is_closing",
        "_limited",
        "_queue",
        "_seal",
        "_service",
        "_size",
        "_timing",
        "name",
        "trouble",
    )

    def __init__(
        self,
        url: str,
        name: str,
        seal: Seal,
        *,
        timing: WebhookTiming,
        counters: Counters,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Raises :class:`catenary.errors.ConfigError` for an invalid URL."""
        self._client = HttpClient(url, Tls(), {}, option="webhooks")
        self.name = name
        self._seal = seal
        self._timing = timing
        self._counters = counters
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._has_events = asyncio.Event()
        self._is_closing = asyncio.Event()
        self._limited = RateLimitedLogger(_log)
        self.trouble: str | None = None
        """Why the last request failed; None if it succeeded."""
        self._service = Service(f"webhooks to {name}", self._run, supervisor)

    def put(self, event: bytes) -> None:
        """Queues an event, which is JSON text."""
        self._queue.append(event)
        self._size += len(event)
        self._counters.webhook_queue_size += 1
        lost: list[bytes] = []
        while len(self._queue) > MAX_EVENTS or self._size > MAX_BYTES:
            lost.append(self._take())
        if lost:
            self._note_lost(lost, "the queue is full")
        self._has_events.set()

    async def start(self) -> None:
        """Starts sending."""
        self._service.start()

    async def close(self, timeout_s: float) -> None:
        """Sends what waits, at once and without pauses, for up to ``timeout_s``; the rest is lost."""
        self._is_closing.set()
        self._has_events.set()
        await self._service.stop(timeout_s)
        await self._client.close()
        if self._queue:
            self._note_lost(self._take_all(), "the server has shut down")

    async def _run(self) -> None:
        """Returns when the server shuts down and everything is sent."""
        while True:
            if self._queue:
                if len(self._queue) < AT_ONCE:
                    await self._pause(self._timing.batch_s)
                await self._deliver(self._take_batch())
            elif self._is_closing.is_set():
                return
            else:
                self._has_events.clear()
                await self._has_events.wait()

    async def _deliver(self, events: list[bytes]) -> None:
        """Sends events until the receiver has them, or time is up."""
        why = "the server has shut down"
        is_done = False
        try:
            why = await self._send(*self._seal(time.time_ns() // 1_000_000, events))
            is_done = not why
        finally:
            if is_done:
                self._counters.webhook_events_total += len(events)
            else:
                self._note_lost(events, why)

    async def _send(self, content: bytes, headers: dict[str, str]) -> str:
        """Attempts a request until it succeeds; returns why it was given up, "" if it was not."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self._timing.give_up_s
        attempt = 0
        while True:
            try:
                await self._attempt(content, headers)
            except WebhookFailed as error:
                self.trouble = f"{self.name}: {error}"
                attempt += 1
                if clock() >= give_up_at or self._is_closing.is_set():
                    return f"{attempt} attempts failed, the last one with: {error}"
                self._counters.webhook_retries_total += 1
                if attempt.bit_count() == 1:  # at each doubling
                    self._limited.info(
                        "Webhook to %s failed, will retry: %s",
                        self.name,
                        error,
                        event="retry",
                        attempt=attempt,
                    )
                await self._pause(delay_s(attempt))
            else:
                self.trouble = None
                return ""

    async def _attempt(self, content: bytes, headers: dict[str, str]) -> None:
        limit_s = self._timing.timeout_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                response = await self._client.post("", content, headers)
        except (ConnectionBroken, ResponseUnusable) as error:
            raise WebhookFailed(str(error)) from None
        except OSError as error:
            why = f"no answer within {limit_s:g} s" if limit.expired() else str(error)
            raise WebhookFailed(why) from None
        if not 200 <= response.status < 300:
            raise WebhookFailed(f"HTTP {response.status}")

    async def _pause(self, seconds: float) -> None:
        """Waits, unless the server shuts down."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_closing.wait()

    def _take_batch(self) -> list[bytes]:
        return [self._take() for _ in range(min(len(self._queue), AT_ONCE))]

    def _take_all(self) -> list[bytes]:
        return [self._take() for _ in range(len(self._queue))]

    def _take(self) -> bytes:
        event = self._queue.popleft()
        self._size -= len(event)
        self._counters.webhook_queue_size -= 1
        return event

    def _note_lost(self, events: list[bytes], why: str) -> None:
        """The dead-letter log: how many events are lost, why, and the beginning of the first one."""
        self._counters.webhook_lost_total += len(events)
        self._limited.error(
            "Webhook to %s: %d events are lost: %s; the first begins with %.100r",
            self.name,
            len(events),
            why,
            events[0][:100],
        )
