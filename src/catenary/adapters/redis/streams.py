"""Publications from a Redis stream that all nodes share: one node at a time publishes them, in order.

Knows: batches, retries, the time for which this node may publish. Does not know: the publications.
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
from catenary.adapters.redis.consumer import Consumer, Reading, StreamEntry
from catenary.config.addresses import RedisAddress, redis_reason
from catenary.errors import BackendError, ConfigError
from catenary.metrics.counters import Counters
from catenary.protocols.redis_cluster import beside
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.redis")

BATCH: Final = 200
"""Most entries in one read, which :data:`catenary.adapters.redis.consumer.BATCH_BYTES` limits, too: 100 reads per second
carry 20,000 publications."""

UPKEEP_S: Final = 1.0
"""Interval at which the lease is renewed while a batch is published, and the lag is measured. anycable-go claims
entries after 2 s, so a slow batch is not claimed if it is a member of the group, too."""


class StreamRules(msgspec.Struct, frozen=True):
    """The stream, the group, and the time limits of other readers.

    If a node does not renew its lease for ``lease_s``, another one acquires it; each tries
    every ``poll_s``. One wait for new entries lasts ``read_block_ms``, but no longer
    than a third of ``lease_s``. Entries that other servers of the group have read and not finished for
    ``claim_idle_s`` are claimed.
    """

    stream: str = "__anycable__"
    group: str = "bx"
    read_block_ms: int = 2000
    lease_s: float = 3.0
    poll_s: float = 0.5
    claim_idle_s: float = 6.0


class RedisStreamBroadcasts:
    """Reads a stream while the server runs, unless another node does.

    An entry is acknowledged and deleted after it was published, so none is lost
    while Redis keeps its data. Entries are published in the order of the stream, by one node at a
    time. If the engine removes the entry in the step that publishes it (Redis), each is
    published once, even if nodes die, hang or are disconnected; if it recognizes a repeated entry (JetStream),
    once within some time; else, after the death of a node, up to :data:`BATCH` may be published twice.

    If Redis or NATS is unavailable, an entry is retried, before all later ones, by
    any node that can publish. Malformed publications, and those that Redis or NATS refuse permanently, are counted,
    logged and dropped. If deliveries do not keep up, the stream is read later: ``redisx_lag_num``
    counts the entries that wait there.
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
        "_has_pending",
        "_is_reader",
        "_ours_until",
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
        """Why this node can't read the stream at the moment; None if it reads, or stands by while another node reads."""
        self._client: Redis = connect(address, rules.stream)
        self._consumer = Consumer(
            self._client,
            rules.stream,
            rules.group,
            lease=_lease(address, rules),
            lease_s=rules.lease_s,
            patience_s=address.keepalive_s,
        )
        self._rules = rules
        self._bursts = Bursts(rules.stream, rules.group, publish, counters)
        self._counters = counters
        self._reading = Service("Redis stream", self._listen, supervisor)
        self._upkeep = Service("Redis stream upkeep", self._keep_up, supervisor)
        self._closing = asyncio.Event()
        # The entries that are being published, and the end of the lease
        self._batch: list[StreamEntry] | None = None
        self._ours_until = 0.0
        self._is_reader = False
        # Entries that were published and are not acknowledged
        self._done: list[bytes] = []
        self._acknowledging = asyncio.Lock()
        # Redis may have entries that were read and not finished
        self._has_pending = True
        # Attempts to read, and to publish
        self._backoff = Backoff()
        self._publishing = Backoff()
        self._claim_at = 0.0

    async def start(self) -> None:
        """Starts to read; does not wait for Redis."""
        self._reading.start()
        self._upkeep.start()

    async def close(self, timeout_s: float) -> None:
        """Publishes and acknowledges the entries that were read, and releases the lease.

        Entries that are not finished in time, or can't be published, are left for other nodes.
        """
        deadline = _now() + timeout_s
        self._closing.set()
        self._consumer.interrupt()
        await self._reading.stop(timeout_s)
        await self._upkeep.stop()
        await self._release(max(deadline - _now(), 0.1))
        await self._client.aclose()

    # Reading

    async def _listen(self) -> None:
        """Reads until it is stopped, with growing pauses while Redis is unavailable."""
        while not self._closing.is_set():
            try:
                await self._join()
                await self._consume()
            except (RedisError, OSError) as error:
                # A failed attempt to connect again is no further loss.
                self._counters.broadcaster_reconnects_total += self.trouble is None
                self.trouble = redis_reason(error)
                pause = self._backoff.failed()
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
        """Reads a batch, publishes it, and acknowledges it; pending entries first, then new ones.

        Stands by while another node reads. At the shutdown, pending entries are still published.
        """
        await self._acknowledge()
        self._has_pending = True
        while self._has_pending or not self._closing.is_set():
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

    async def _read_batch(self) -> list[StreamEntry] | None:
        """Reads a batch, which may be empty. Waits for new entries if none is pending. None if another node reads."""
        if not self._has_pending:
            await self._claim()
        requested_at = _now()
        had_pending = self._has_pending
        reading = await (
            self._consumer.read_pending(BATCH) if had_pending else self._consumer.read_new(BATCH)
        )
        if reading is None:
            return None
        self._ours_until = requested_at + self._rules.lease_s
        self._note_reading(reading)
        if had_pending or reading.is_new:
            self._has_pending = bool(reading.entries)
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
        """Stands by while another node reads; returns True if the server stops meanwhile."""
        if self._is_reader:
            self._is_reader = False
            _log.info("Another node reads the Redis stream %s now", self._rules.stream)
        self._has_pending = True
        return await _happens_within(self._closing, self._rules.poll_s)

    async def _claim(self) -> None:
        """Claims entries of other servers of the group, which read as consumers of their own."""
        now = _now()
        if now < self._claim_at:
            return
        claimed = await self._consumer.claim(BATCH, self._rules.claim_idle_s)
        if claimed:
            self._has_pending = True
            self._note_claimed(claimed)
        else:
            self._claim_at = now + self._rules.claim_idle_s / 3

    # Publishing

    async def _publish_batch(self, batch: list[StreamEntry]) -> BackendError | None:
        """Publishes and acknowledges in order, while the lease is valid. Returns the reason of a failure."""
        self._batch = batch
        failure = None
        try:
            while batch and failure is None and _now() < self._ours_until:
                batch, failure = await self._bursts.publish(batch, self._note_done)
                if self._done:
                    self._publishing.progressed()
                await self._acknowledge()
        finally:
            # The rest is pending: the node that holds the lease reads it again.
            self._has_pending = self._has_pending or bool(batch)
            self._batch = None
        return failure

    def _note_done(self, entry: StreamEntry) -> None:
        self._done.append(entry.id)

    async def _is_over_after(self, failure: BackendError) -> bool:
        """Waits for the next attempt; returns True if the server stops before it."""
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
        """Acknowledges published entries; those that can't be acknowledged stay for the next time."""
        async with self._acknowledging:
            done, self._done = self._done, []
            if not done:
                return
            try:
                await self._consumer.acknowledge(done)
            except BaseException:
                self._done[:0] = done
                raise

    # Upkeep

    async def _keep_up(self) -> None:
        """Renews the lease and measures the lag, while a publication may take long."""
        every_s = min(UPKEEP_S, self._rules.lease_s / 3)
        backoff = Backoff()
        while True:
            await asyncio.sleep(every_s)
            try:
                await self._keep_lease()
                self._counters.redisx_lag_num = await self._consumer.lag()
            except (RedisError, OSError) as error:
                # The reading fails, too, and logs it.
                if backoff.failed().is_logged:
                    stream = self._rules.stream
                    _log.debug("Upkeep of the Redis stream %s failed: %s", stream, error)
            else:
                backoff.works()

    async def _keep_lease(self) -> None:
        """Renews the lease while a batch is published; at other times, reading renews it.

        Acknowledges the entries that are published already.
        """
        await self._acknowledge()
        batch, requested_at = self._batch, _now()
        if batch is None:
            return
        is_ours = await self._consumer.renew(BATCH)
        if self._batch is batch:
            self._ours_until = requested_at + self._rules.lease_s if is_ours else 0.0

    async def _release(self, timeout_s: float) -> None:
        if not self._is_reader:
            return
        if self._has_pending:
            _log.warning("Unfinished publications are left for other nodes")
        try:
            async with asyncio.timeout(timeout_s):
                await self._consumer.release()
        except (RedisError, OSError) as error:
            _log.warning("Releasing the lease of a Redis stream failed: %s", redis_reason(error))


def _lease(address: RedisAddress, rules: StreamRules) -> str:
    """The key of the lease. Raises :class:`ConfigError`."""
    rest = f":{rules.group}:reader"
    if not address.cluster_nodes:
        return rules.stream + rest
    try:
        return beside(rules.stream, rest)
    except ValueError as error:
        raise ConfigError(f"redisx_stream: {error}") from None


async def _happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event; returns whether it has happened in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
