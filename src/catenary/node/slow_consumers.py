"""Clients that read too slowly, on streams with a policy for that: what waits for them, and how they catch up.

A client is *behind* when its transport holds messages back (:attr:`catenary.ports.Outbound.is_behind`). A listener that is
behind is detached from its group, as for a history, and messages of the stream are collected by its policy. When the client
has read what was written before, it gets them, or reads the history, and is reattached. So a client that keeps up costs one
comparison more for each delivery, and one on a stream without a policy nothing.
Knows: policies, the history. Does not know: transports, groups.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Final, Protocol

from catenary.config.stream_rules import StreamRule
from catenary.errors import BackendError, LostPosition
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication, is_later
from catenary.messages.reasons import Reason
from catenary.messages.replies import HistoryRejected
from catenary.metrics.counters import Counters
from catenary.node.answers import Messages
from catenary.node.audience import Audience, Listeners
from catenary.node.background import BackgroundTasks
from catenary.node.detached import BUFFER_BYTES, BUFFER_LIMIT, Detached
from catenary.node.patient_reads import read_patiently
from catenary.node.presence import KIND as PRESENCE
from catenary.node.session import Session, Subscription
from catenary.ports import History, Outbound

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.node"))

CATCH_UP_LIMIT: Final = 100
"""Messages that wait for a client that will catch up; with more, all of them are read from the history."""

PAGE: Final = 100
"""Messages that a client that catches up gets at once; it must have read most of them before the next are read."""

READS: Final = 64
"""Clients of this node that read a history to catch up at the same time."""


class SlowListener(Detached):
    """A listener whose client is behind on a stream with a policy.

    ``is_slow`` ends when the client asks for the history: from then on messages are buffered as for any request.
    Presence changes are never dropped, because a member who left would stay in the client's list; ``close`` is called if
    too many of them wait.
    """

    __slots__ = ("_close", "_counters", "_dropped", "is_slow", "rule")

    def __init__(self, rule: StreamRule, counters: Counters, close: Callable[[], None]) -> None:
        super().__init__()
        self.rule = rule
        self.is_slow = True
        self._counters = counters
        self._close = close

    def takes(self, publication: Publication, counters: Counters) -> bool:
        """Collects a message by the policy. False if it must be sent now."""
        if not self.is_slow or self._buffered is None:
            return super().takes(publication, counters)
        if self.sent_up_to is not None and not is_later(publication.position, self.sent_up_to):
            return True
        if self.first is None:
            self.first = publication.position
        self._buffered.append(publication)
        self._size_bytes += len(publication.data)
        if self.rule.slow_consumer == "catch_up":
            if len(self._buffered) > CATCH_UP_LIMIT or self._size_bytes > BUFFER_BYTES:
                self._skip(self._buffered)
        else:
            limit = 1 if self.rule.slow_consumer == "keep_latest" else self.rule.slow_consumer_limit
            self._drop_oldest(self._buffered, limit)
        return True

    def _skip(self, buffered: list[Publication]) -> None:
        """Drops all messages, which are read from the history; those that are in none are lost."""
        self.has_overflowed = self.has_gap = True
        self.has_lost |= any(each.position is None and not each.transient for each in buffered)
        kept = [each for each in buffered if each.kind == PRESENCE]
        self._counters.slow_dropped_messages_total += sum(
            each.position is None and each.kind != PRESENCE for each in buffered
        )
        self._keep(buffered, kept)

    def _drop_oldest(self, buffered: list[Publication], limit: int) -> None:
        """Drops the oldest messages beyond a limit, or beyond the bytes that may wait for any client."""
        messages = [each for each in buffered if each.kind != PRESENCE]
        excess = len(messages) - limit
        if excess <= 0 and self._size_bytes <= BUFFER_BYTES:
            return
        size = self._size_bytes
        dropped: set[int] = set()
        for each in messages[:-1]:
            if len(dropped) >= excess and size <= BUFFER_BYTES:
                break
            dropped.add(id(each))
            size -= len(each.data)
        if not dropped:
            return
        self.has_gap = True
        if self.rule.slow_consumer == "keep_latest":
            self._counters.slow_conflated_messages_total += len(dropped)
        else:
            self._counters.slow_dropped_messages_total += len(dropped)
        self._keep(buffered, [each for each in buffered if id(each) not in dropped])

    def _keep(self, buffered: list[Publication], kept: list[Publication]) -> None:
        buffered[:] = kept
        self._size_bytes = sum(len(each.data) for each in kept)
        if sum(each.kind == PRESENCE for each in kept) > BUFFER_LIMIT:
            buffered.clear()
            self._close()

    def begin_buffering(self) -> None:
        """The client asks for the history: messages are buffered for that, whatever the policy is."""
        self.is_slow = False
        super().begin_buffering()


class Deliveries(Protocol):
    """The part of the hub that this module uses; see its methods."""

    def detached(self, subscription: Subscription, stream: Stream) -> Detached | None: ...

    def reattach(
        self, subscription: Subscription, stream: Stream, sent_up_to: Position | None
    ) -> None: ...

    def rejoin(self, subscription: Subscription, stream: Stream, detached: Detached) -> None: ...

    def write_all(
        self, subscription: Subscription, publications: Iterable[Publication]
    ) -> Awaitable[None] | None: ...

    def slices(
        self, subscription: Subscription, publications: Iterable[Publication]
    ) -> Iterator[bytes]: ...


class SlowConsumers:
    """The listeners of one node that are behind. ``history`` is what those with the policy *catch_up* read."""

    __slots__ = ("_background", "_counters", "_history", "_hub", "_places")

    def __init__(self, hub: Deliveries, history: History | None, counters: Counters) -> None:
        self._hub = hub
        self._history = history
        self._counters = counters
        self._background = BackgroundTasks()
        self._places = asyncio.Semaphore(READS)

    # Called by the hub for streams with a policy

    def keeping_up(
        self,
        audience: Audience,
        listeners: Listeners,
        outbounds: list[Outbound],
        batch: list[Publication],
    ) -> list[Outbound]:
        """Those recipients of a batch that keep up. The others are detached from their group, and the batch is collected
        for them."""
        slow = [each for each in outbounds if each.is_behind]
        if not slow:
            return outbounds
        for outbound in slow:
            subscription = (
                listeners if isinstance(listeners, Subscription) else listeners.find(outbound)
            )
            if subscription is not None and audience.has_in_group(subscription):
                listener = self._begin(subscription, audience, audience.last)
                audience.detach(subscription, self._counters, listener, batch)
        return [each for each in outbounds if not each.is_behind]

    def takes(
        self, audience: Audience, subscription: Subscription, publication: Publication
    ) -> bool:
        """Collects a message for a detached listener that receives live messages, if its client is behind; else False."""
        if not subscription.session.outbound.is_behind:
            return False
        listener = self._begin(subscription, audience, None)
        listener.sent_up_to = audience.detached[subscription].sent_up_to
        audience.detached[subscription] = listener
        return listener.takes(publication, self._counters)

    def _begin(
        self,
        subscription: Subscription,
        audience: Audience,
        last: Position | None,
    ) -> SlowListener:
        """A client is behind: returns what collects messages for it, until it has read what was written. ``last`` is the
        position of the last message that it has got; None if that is unknown."""
        session, stream, rule = subscription.session, audience.stream, audience.rule
        assert rule is not None, "called for streams with a policy"
        listener = SlowListener(rule, self._counters, partial(self._close_soon, session))
        self._counters.slow_consumers_total += 1
        if rule.slow_consumer == "catch_up":
            read = session.outbound.write_slices(iter(()))
            if read is not None:
                work = self._catch_up_after(read, subscription, stream, listener, last)
                self._background.run(work)
        else:
            session.outbound.write_slices(self._collected(subscription, stream, listener))
        return listener

    def _is_current(
        self, subscription: Subscription, stream: Stream, listener: SlowListener
    ) -> bool:
        return (
            listener.is_slow
            and not subscription.session.closed
            and self._hub.detached(subscription, stream) is listener
        )

    # Policies that drop messages

    def _collected(
        self, subscription: Subscription, stream: Stream, listener: SlowListener
    ) -> Iterator[bytes]:
        """The messages that wait when the client has read those before; it listens again from then on, and may fall behind
        again."""
        if self._is_current(subscription, stream, listener):
            messages = listener.take()
            self._hub.rejoin(subscription, stream, listener)
            yield from self._hub.slices(subscription, messages)

    # Catching up

    async def _catch_up_after(
        self,
        read: Awaitable[None],
        subscription: Subscription,
        stream: Stream,
        listener: SlowListener,
        last: Position | None,
    ) -> None:
        await read
        try:
            await self._catch_up(subscription, stream, listener, last)
        except (LostPosition, BackendError) as error:
            if self._is_current(subscription, stream, listener):
                self._report_gap(subscription, stream, error)
                self._hub.reattach(subscription, stream, None)

    async def _catch_up(
        self,
        subscription: Subscription,
        stream: Stream,
        listener: SlowListener,
        last: Position | None,
    ) -> None:
        """Sends what was skipped, page by page, each after the client has read the one before. Raises
        :class:`LostPosition` if the history does not reach back far enough, and :class:`BackendError`."""
        outbound = subscription.session.outbound
        while listener.has_gap and self._is_current(subscription, stream, listener):
            if listener.has_lost:
                raise LostPosition("messages that are in no history were dropped")
            listener.begin_read()
            async with self._places:
                found = await self._read(stream, last, listener.first)
            if not self._is_current(subscription, stream, listener):
                return
            if found:
                last = found[-1].position
                self._counters.slow_caught_up_messages_total += len(found)
                sent = self._hub.write_all(subscription, found)
                if sent is not None:
                    await sent
                if outbound.is_behind:
                    await (outbound.write_slices(iter(())) or asyncio.sleep(0))
            if len(found) < PAGE and not listener.has_overflowed:
                break
        if self._is_current(subscription, stream, listener):
            self._hub.reattach(subscription, stream, last)

    async def _read(
        self, stream: Stream, last: Position | None, first: Position | None
    ) -> Messages:
        """The messages after the last one that the client has got, a page of them; or all from the first one that it
        has not got."""
        assert self._history is not None, "expected a broker: config/stream_rules.py"
        if last is not None:
            try:
                return await read_patiently(partial(self._history.after, stream, last, PAGE))
            except LostPosition:
                # The last message may be too old for the history, and the first one that was skipped not.
                if first is None:
                    raise
        found = await read_patiently(partial(self._history.since, stream, 0))
        if first is None or not found or is_later(found[0].position, first):
            raise LostPosition("the history does not reach back to the first skipped message")
        return tuple(
            each for each in found if each.position == first or is_later(each.position, first)
        )

    def _report_gap(self, subscription: Subscription, stream: Stream, error: Exception) -> None:
        """Messages are missing: the client is notified if its protocol has histories; others are closed, so that they
        load everything again."""
        session, reply = subscription.session, HistoryRejected(subscription.identifier)
        self._counters.slow_lost_histories_total += 1
        _limited.info(
            "A slow client can't catch up",
            event="no_history",
            identifier=subscription.identifier,
            stream=stream,
            reason=str(error),
            sid=session.sid,
        )
        if session.is_resumable:
            session.send(reply)
        else:
            self._close(session)

    def _close_soon(self, session: Session) -> None:
        """Not at once: the caller is in the middle of a delivery."""
        asyncio.get_running_loop().call_soon(self._close, session)

    def _close(self, session: Session) -> None:
        if not session.closed:
            self._counters.disconnected_slow_clients_total += 1
            session.close(Reason.SLOW_CLIENT)
