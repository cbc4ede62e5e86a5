"""Publications from a Redis stream, which all nodes share: one node at a time publishes them, in order.

Knows: batches, attempts, for how long this node may publish. Does not know: what is published.
Source: docs/broadcasting.md, "Redis X" (anycable).
"""

import asyncio
import logging
from time import monotonic as _now
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from catenary.adapters.redis.bursts import Bursts, Publish
from catenary.adapters.redis.client import connect
from catenary.adapters.redis.consumer import Consumer, Entry, Reading
from catenary.config.addresses import RedisAddress, redis_reason
from catenary.errors import BackendError
from catenary.metrics.counters import Counters
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.redis")

BATCH: Final = 200
"""Entries read at once, and published without waiting for each: 100 reads in a second carry 20,000
publications."""

UPKEEP_S: Final = 1.0
"""How often the lease is renewed while a batch takes long, and the lag is measured. anycable-go claims
what is 2 s old: beside it, too, a slow batch stays ours."""


class StreamRules(msgspec.Struct, frozen=True):
    """Which stream, as which group, and when other readers count as dead.

    A node that gives no sign of life for ``lease_s`` is followed by another one, of which each asks
    every ``poll_s`` whether that is so. One wait for new entries lasts ``read_block_ms``, and no longer
    than a third of ``lease_s``. What other servers of the group have read and not finished for
    ``claim_idle_s`` is claimed.
    """

    stream: str = "__anycable__"
    group: str = "bx"
    read_block_ms: int = 2000
    lease_s: float = 3.0
    poll_s: float = 0.5
    claim_idle_s: float = 6.0


class RedisStreamBroadcasts:
    """Reads a stream whenever no other node does, for as long as the server runs.

    A publication is acknowledged, and deleted from the stream, after it was published: none is lost
    while Redis keeps its data. All are published in the order of the stream, by one node after the
    other. Where the engine removes the entry in the same step as it publishes (Redis), each is
    published once, whatever dies, hangs or is cut off; where it knows the entry again (JetStream),
    once within a time; elsewhere, a node that dies leaves up to :data:`BATCH` that may come twice.

    What can't be published while Redis or NATS is away is tried again, before everything behind it, by
    any node that can. What is no publication, and what Redis or NATS refuse for good, is counted,
    logged and dropped. When deliveries do not keep up, the stream is read later: ``redisx_lag_num``
    is what waits there.
    """

    __slots__ = (
        "_acknowledging",
        "_backoff",
        "_batch",
        "_bursts",
        "_claim_at",
        "_client",
        "_closing",
        "_consumer",
        "_counters",
        "_done",
        "_is_reader",
        "_ours_until",
        "_owing",
        "_publishing",
        "_reading",
        "_rules",
        "_upkeep",
        "trouble",
    )

    def __init__(
        self,
        address: RedisAddress,
        rules: StreamRules,
        publish: Publish,
        counters: Counters,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.trouble: str | None = "not joined the consumer group yet"
        """Why this node can't read the stream at the moment; None where it can, or stands by while another reads."""
        self._client: Redis = connect(address)
        self._consumer = Consumer(
            self._client,
            rules.stream,
            rules.group,
            lease_s=rules.lease_s,
            patience_s=address.keepalive_s,
        )
        self._rules = rules
        self._bursts = Bursts(rules.stream, rules.group, publish, counters)
        self._counters = counters
        self._reading = Service("Redis stream", self._listen, supervisor)
        self._upkeep = Service("Redis stream upkeep", self._keep_up, supervisor)
        self._closing = asyncio.Event()
        # What is being published; and until when nobody else may read.
        self._batch: list[Entry] | None = None
        self._ours_until = 0.0
        self._is_reader = False
        # What was published and is not acknowledged; one acknowledges at a time.
        self._done: list[bytes] = []
        self._acknowledging = asyncio.Lock()
        # Redis may hold something that was read and not finished.
        self._owing = True
        # Attempts at Redis, and at publishing.
        self._backoff = Backoff()
        self._publishing = Backoff()
        self._claim_at = 0.0

    async def start(self) -> None:
        """Begins to read; does not wait for Redis, which may come later."""
        self._reading.start()
        self._upkeep.start()

    async def close(self, timeout_s: float) -> None:
        """Publishes and acknowledges what was read, and lets another node read.

        What is not done within the time, or can't be published, is left for that one.
        """
        deadline = _now() + timeout_s
        self._closing.set()
        self._consumer.interrupt()
        await self._reading.stop(timeout_s)
        await self._upkeep.stop()
        await self._leave(max(deadline - _now(), 0.1))
        await self._client.aclose()

    # Reading

    async def _listen(self) -> None:
        """Reads, again and again, with longer and longer pauses while Redis is away."""
        while not self._closing.is_set():
            try:
                await self._join()
                await self._consume()
            except (RedisError, OSError) as error:
                self.trouble = redis_reason(error)
                pause = self._backoff.failed()
                self._counters.broadcaster_reconnects_total += 1
                if pause.is_logged:
                    _log.warning(
                        "Redis stream %s can't be read (%s): publications wait there; "
                        "attempt %d failed, next in %.1f s",
                        self._rules.stream,
                        self.trouble,
                        pause.failures,
                        pause.seconds,
                    )
                await _happens_within(self._closing, pause.seconds)

    async def _join(self) -> None:
        await self._consumer.join()
        self.trouble = None
        if self._backoff.works():
            _log.info(
                "Taking turns with other nodes to read the Redis stream %s as %s of the group %s",
                self._rules.stream,
                self._consumer.node,
                self._rules.group,
            )

    async def _consume(self) -> None:
        """Reads a batch, publishes it, acknowledges it; what is owed before what is new.

        Asks again where another node reads. At the end of the server, what is owed is published still.
        """
        await self._acknowledge()
        self._owing = True
        while self._owing or not self._closing.is_set():
            batch = await self._read_batch()
            if batch is None:
                if await self._is_over_after_standing_by():
                    return
                continue
            failure = await self._publish_batch(batch)
            if failure is not None:
                # Another node may reach what this one can't.
                await self._consumer.release()
                if await self._is_over_after(failure):
                    return

    async def _read_batch(self) -> list[Entry] | None:
        """Waits for new entries where nothing is owed; none may come. None where another node reads."""
        if not self._owing:
            await self._claim()
        asked_at = _now()
        was_owing = self._owing
        reading = await (
            self._consumer.read_owed(BATCH) if was_owing else self._consumer.read_new(BATCH)
        )
        if reading is None:
            return None
        self._ours_until = asked_at + self._rules.lease_s
        self._note_reading(reading)
        if was_owing or reading.is_new:
            self._owing = bool(reading.entries)
        elif not reading.entries:
            await self._wait(reading.last)
        return reading.entries

    def _note_reading(self, reading: Reading) -> None:
        if self._is_reader:
            return
        self._is_reader = True
        _log.info("Reading the Redis stream %s: no other node does", self._rules.stream)
        self._note_claimed(len(reading.entries))

    def _note_claimed(self, number: int) -> None:
        if number:
            self._counters.redisx_claimed_total += number
            _log.warning("Took over %d publications that another node did not finish", number)

    async def _wait(self, last: bytes) -> None:
        if self._closing.is_set():
            return
        block_ms = min(self._rules.read_block_ms, int(self._rules.lease_s * 1000 / 3))
        try:
            await self._consumer.wait(last, max(block_ms, 1))
        except TimeoutError:
            if not self._closing.is_set():
                raise

    async def _is_over_after_standing_by(self) -> bool:
        """Another node reads; True where the server ends before it is time to ask again."""
        if self._is_reader:
            self._is_reader = False
            _log.info("Another node reads the Redis stream %s now", self._rules.stream)
        self._owing = True
        return await _happens_within(self._closing, self._rules.poll_s)

    async def _claim(self) -> None:
        """Takes over what other servers of the group have left, which read as consumers of their own."""
        now = _now()
        if now < self._claim_at:
            return
        claimed = await self._consumer.claim(BATCH, self._rules.claim_idle_s)
        if claimed:
            self._owing = True
            self._note_claimed(claimed)
        else:
            self._claim_at = now + self._rules.claim_idle_s / 3

    # Publishing

    async def _publish_batch(self, batch: list[Entry]) -> BackendError | None:
        """Publishes and acknowledges in order, as long as this node may. Why it could not."""
        self._batch = batch
        failure = None
        try:
            while batch and failure is None and _now() < self._ours_until:
                batch, failure = await self._bursts.publish(batch, self._note_done)
                if self._done:
                    self._publishing.progressed()
                await self._acknowledge()
        finally:
            # What is left over is owed: Redis gives it out again, to whichever node reads then.
            self._owing = self._owing or bool(batch)
            self._batch = None
        return failure

    def _note_done(self, entry: Entry) -> None:
        self._done.append(entry.id)

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

    async def _keep_up(self) -> None:
        """Does what must not wait for a publication that takes long."""
        every_s = min(UPKEEP_S, self._rules.lease_s / 3)
        while True:
            await asyncio.sleep(every_s)
            try:
                await self._keep_lease()
                self._counters.redisx_lag_num = await self._consumer.lag()
            except (RedisError, OSError) as error:
                # Whoever reads finds out, too, and says so.
                _log.debug("Redis stream %s can't be kept up: %s", self._rules.stream, error)

    async def _keep_lease(self) -> None:
        """Renews the lease while a batch is published; reading renews it otherwise.

        What is done of the batch need not wait for the rest to be acknowledged.
        """
        await self._acknowledge()
        batch, asked_at = self._batch, _now()
        if batch is None:
            return
        is_ours = await self._consumer.keep(BATCH)
        if self._batch is batch:
            self._ours_until = asked_at + self._rules.lease_s if is_ours else 0.0

    async def _leave(self, timeout_s: float) -> None:
        if not self._is_reader:
            return
        if self._owing:
            _log.warning("Publications that were not finished are left for other nodes")
        try:
            async with asyncio.timeout(timeout_s):
                await self._consumer.release()
        except (RedisError, OSError) as error:
            _log.warning(
                "Redis did not take back the lease of a stream's reader: %s", redis_reason(error)
            )


async def _happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event, and says whether it has happened."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
