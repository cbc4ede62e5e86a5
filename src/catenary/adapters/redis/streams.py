"""Publications from a Redis stream, which all nodes share: each is taken by one node.

Knows: batches, attempts, and for how long a batch is ours. Does not know: what is published.
Source: docs/broadcasting.md, "Redis X" (anycable).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic as _now
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from catenary.adapters.redis.client import connect
from catenary.adapters.redis.consumer import Consumer, Entry
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError, BackendRefused, PublicationError
from catenary.metrics.counters import Counters
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.redis")

BATCH: Final = 200
"""Entries taken at once: 100 reads in a second carry 20,000 publications, and a node that dies
leaves no more than this behind."""

TEND_S: Final = 1.0
"""How often a batch that takes long is claimed anew, and the lag is measured. The reference server
claims what is 2 s old: beside it, too, a slow batch stays ours."""


class StreamRules(msgspec.Struct, frozen=True):
    """Which stream, as which group, and when somebody else is taken for dead.

    One read waits for ``read_block_ms``, and no longer than a third of ``claim_idle_s``. What a
    node has taken and not finished is claimed by others when it has given no sign of life for
    ``claim_idle_s``; a consumer without anything unfinished is removed after ``forget_idle_s``.
    """

    stream: str = "__anycable__"
    group: str = "bx"
    read_block_ms: int = 2000
    claim_idle_s: float = 6.0
    forget_idle_s: float = 600.0


class RedisStreamBroadcasts:
    """Takes its share of a stream for as long as the server runs, whatever becomes of Redis.

    A publication is acknowledged, and deleted from the stream, after it was published: none is
    lost while Redis keeps its data. It is published once by nodes that live, whoever comes and
    goes; twice where a node dies, or hears nothing from Redis for ``claim_idle_s``, between
    publishing and acknowledging, or where Redis itself forgets the acknowledgement in a crash.
    What can't be published while Redis or NATS is away is tried again, before everything behind it.
    What is no publication, and what Redis or NATS refuse for good, is counted, logged and dropped.

    Each node publishes its share in order; across nodes, and for what a dead node left behind,
    there is none. When deliveries do not keep up, the stream is read later:
    ``redisx_lag_num`` is what waits there.
    """

    __slots__ = (
        "_acknowledging",
        "_backoff",
        "_batch",
        "_claim_at",
        "_client",
        "_closing",
        "_consumer",
        "_counters",
        "_done",
        "_forget_at",
        "_ours_until",
        "_owing",
        "_publish",
        "_publishing",
        "_rules",
        "_taking",
        "_tending",
    )

    def __init__(
        self,
        address: RedisAddress,
        rules: StreamRules,
        publish: Callable[[bytes], Awaitable[None] | None],
        counters: Counters,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._client: Redis = connect(address)
        self._consumer = Consumer(self._client, rules.stream, rules.group, address.keepalive_s)
        self._rules = rules
        self._publish = publish
        self._counters = counters
        self._taking = Service("Redis stream", self._listen, supervisor)
        self._tending = Service("Redis stream upkeep", self._tend, supervisor)
        self._closing = asyncio.Event()
        # What was taken and is not published; and until when nobody else may claim it.
        self._batch: deque[Entry] = deque()
        self._ours_until = 0.0
        # What was published and is not acknowledged; one acknowledges at a time.
        self._done: list[bytes] = []
        self._acknowledging = asyncio.Lock()
        # Redis may hold something that this consumer has got and not finished.
        self._owing = True
        # Attempts at Redis, and at publishing.
        self._backoff = Backoff()
        self._publishing = Backoff()
        self._claim_at = 0.0
        self._forget_at = 0.0

    async def start(self) -> None:
        """Begins to take; does not wait for Redis, which may come later."""
        self._taking.start()
        self._tending.start()

    async def close(self, timeout_s: float) -> None:
        """Publishes and acknowledges what was taken, and leaves the group.

        What is not done within the time, or can't be published, is left for other nodes to claim.
        """
        deadline = _now() + timeout_s
        self._closing.set()
        self._consumer.interrupt()
        await self._taking.stop(timeout_s)
        await self._tending.stop()
        await self._leave(max(deadline - _now(), 0.1))
        await self._client.aclose()

    # Taking

    async def _listen(self) -> None:
        """Takes, again and again, with longer and longer pauses while Redis is away."""
        while not self._closing.is_set():
            try:
                await self._join()
                await self._consume()
            except (RedisError, OSError) as error:
                pause = self._backoff.failed()
                self._counters.broadcaster_reconnects_total += 1
                if pause.is_logged:
                    _log.warning(
                        "Redis stream %s can't be read (%s): publications wait there; "
                        "attempt %d failed, next in %.1f s",
                        self._rules.stream,
                        str(error) or type(error).__name__,
                        pause.failures,
                        pause.seconds,
                    )
                await _happens_within(self._closing, pause.seconds)

    async def _join(self) -> None:
        await self._consumer.join()
        if self._backoff.works():
            _log.info(
                "Taking from the Redis stream %s as %s of the group %s",
                self._rules.stream,
                self._consumer.name,
                self._rules.group,
            )

    async def _consume(self) -> None:
        """Takes a batch, publishes it, acknowledges it; what is owed before what is new.

        At the end of the server, what is owed is published still.
        """
        await self._acknowledge()
        self._owing = True
        while self._owing or not self._closing.is_set():
            self._batch = deque(await self._take_batch())
            failure = await self._publish_batch()
            await self._acknowledge()
            if failure is not None and await self._is_over_after(failure):
                return

    async def _take_batch(self) -> list[Entry]:
        if not self._owing:
            await self._claim()
        asked_at = _now()
        if self._owing:
            entries = await self._consumer.read_owed(BATCH)
            self._owing = bool(entries)
        else:
            entries = await self._take_new()
        self._ours_until = asked_at + self._rules.claim_idle_s
        return entries

    async def _take_new(self) -> list[Entry]:
        block_ms = min(self._rules.read_block_ms, int(self._rules.claim_idle_s * 1000 / 3))
        try:
            return await self._consumer.read_new(BATCH, max(block_ms, 1))
        except TimeoutError:
            if not self._closing.is_set():
                raise
            self._owing = True
            return []

    async def _claim(self) -> None:
        """Takes over what dead nodes left, and what Redis gave to a connection that broke."""
        now = _now()
        if now < self._claim_at:
            return
        claimed = await self._consumer.claim(BATCH, self._rules.claim_idle_s)
        if claimed:
            self._owing = True
            self._counters.redisx_claimed_total += claimed
            _log.warning("Claimed %d publications that another node did not finish", claimed)
        else:
            self._claim_at = now + self._rules.claim_idle_s / 3

    # Publishing

    async def _publish_batch(self) -> BackendError | None:
        """Publishes in order, as long as the batch is ours. What comes first and can't be sent."""
        batch = self._batch
        try:
            while batch and _now() < self._ours_until:
                await self._take(batch[0])
                self._done.append(batch.popleft().id)
        except BackendError as error:
            return error
        finally:
            if self._done:
                self._publishing.progressed()
            # What is left over is owed: if it is still ours, Redis gives it out again.
            self._owing = self._owing or bool(batch)
            self._batch = deque()
        return None

    async def _take(self, entry: Entry) -> None:
        """Publishes one entry. Raises :class:`BackendError`; what is wrong with it ends here."""
        payload = _payload(entry)
        if payload is None:
            self._counters.failed_broadcast_msg_total += 1
            _log.warning(
                "Publication refused: expected a field payload in the stream entry %s, got %r",
                entry.id.decode(),
                b" ".join(entry.fields or ())[:100],
            )
            return
        try:
            sent = self._publish(payload)
            if sent is not None:
                await sent
        except PublicationError:
            # Counted and logged by the node; nobody is there to be told.
            return
        except BackendRefused as error:
            # Tried again, it would be refused again, and nothing behind it would ever be published.
            self._counters.refused_publications_total += 1
            _log.warning("Publication refused: %s; it begins with %r", error, payload[:100])
        except BackendError:
            raise
        except Exception:  # noqa: BLE001  (logged, with its beginning)
            # Tried again, it would stop this node and then, claimed, every other one.
            self._counters.failed_broadcast_msg_total += 1
            _log.exception("Publication failed; it begins with %r", payload[:100])

    async def _is_over_after(self, failure: BackendError) -> bool:
        """Waits for the next attempt; True where the server ends before it."""
        pause = self._publishing.failed()
        self._counters.redisx_retries_total += 1
        if pause.is_logged:
            _log.warning(
                "A publication can't be sent (%s): it stays in the Redis stream; "
                "attempt %d failed, next in %.1f s",
                failure,
                pause.failures,
                pause.seconds,
            )
        return await _happens_within(self._closing, pause.seconds)

    async def _acknowledge(self) -> None:
        """What is done and could not be acknowledged is acknowledged the next time."""
        async with self._acknowledging:
            done, self._done = self._done, []
            if not done:
                return
            try:
                await self._consumer.acknowledge(done)
            except BaseException:
                self._done[:0] = done
                raise

    # Beside it

    async def _tend(self) -> None:
        """Does what must not wait for a publication that takes long."""
        every_s = min(TEND_S, self._rules.claim_idle_s / 4)
        self._forget_at = _now() + self._rules.forget_idle_s / 4
        while True:
            await asyncio.sleep(every_s)
            try:
                await self._keep_batch(every_s)
                self._counters.redisx_lag_num = await self._consumer.lag()
                await self._forget()
            except (RedisError, OSError) as error:
                # Whoever takes finds out, too, and says so.
                _log.debug("Redis stream %s can't be tended: %s", self._rules.stream, error)

    async def _keep_batch(self, age_s: float) -> None:
        """Acknowledges what is done of a batch that takes long, and claims the rest anew."""
        batch, asked_at = self._batch, _now()
        if not batch or asked_at + self._rules.claim_idle_s - self._ours_until < age_s:
            return
        await self._acknowledge()
        owed = {entry.id for entry in await self._consumer.read_owed(BATCH)}
        if self._batch is not batch:
            return
        if all(entry.id in owed for entry in batch):
            self._ours_until = max(self._ours_until, asked_at + self._rules.claim_idle_s)
        else:
            # Another node has claimed some of it: Redis is asked which.
            self._ours_until = 0.0

    async def _forget(self) -> None:
        if _now() < self._forget_at:
            return
        self._forget_at = _now() + self._rules.forget_idle_s / 4
        removed = await self._consumer.remove_silent(self._rules.forget_idle_s)
        if removed:
            _log.info("Removed consumers of nodes that are gone: %s", ", ".join(removed))

    async def _leave(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                left = await self._consumer.leave()
            if not left:
                _log.warning("Publications that were not finished are left for other nodes")
        except (RedisError, OSError) as error:
            _log.warning("Redis did not let the consumer %s go: %r", self._consumer.name, error)


async def _happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event, and says whether it has happened."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _payload(entry: Entry) -> bytes | None:
    """The value of the field that publishers write."""
    fields = entry.fields or []
    if len(fields) == 2:
        return fields[1] if fields[0] == b"payload" else None
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == b"payload":
            return value
    return None
