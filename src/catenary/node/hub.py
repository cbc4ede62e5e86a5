"""The subscribers of each stream, and the delivery of publications to them.

The hot path of the server. A stream with one listener costs one entry of a dict, and its messages are written at once. Those
of a stream with several go to the :class:`catenary.node.delivery_queue.DeliveryQueue`: one frame is encoded for all subscribers
that share identifier and encoder.
Knows: subscriptions, encoders, slices. Does not know: the application, publishers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from functools import partial
from time import perf_counter
from typing import Final

from catenary.broker.stream_rules import StreamRules
from catenary.config.stream_rules import StreamRule
from catenary.messages.names import Stream
from catenary.messages.publications import (
    Position,
    Publication,
    Publishable,
    RemoteDisconnect,
    is_later,
)
from catenary.metrics.counters import Counters
from catenary.node.answers import FrameBatch, encoded, sliced
from catenary.node.audience import Audience, delivery_frame
from catenary.node.delivery_queue import DeliveryQueue
from catenary.node.detached import Detached
from catenary.node.observers import ObserverGroup
from catenary.node.session import Session, Subscription
from catenary.node.session_table import SessionTable
from catenary.node.slow_consumers import SlowConsumers
from catenary.node.traced import end_deliveries
from catenary.node.turns import Turns
from catenary.ports import History, Interest
from catenary.tracer import Tracer

TURN: Final = 1000
"""Clients served in one turn of the event loop: 3 to 4 ms at 3.3 µs per write, most of it in the kernel."""


Follower = Callable[[Publication], None]
"""Receives the publications of a stream in this process, in order; returns at once and never raises."""


class Hub:
    """The listeners of this node. ``call_soon`` is the event loop's; ``interest`` learns which streams have listeners."""

    __slots__ = (
        "_counters",
        "_deliveries",
        "_followers",
        "_interest",
        "_note_clients",
        "_note_seconds",
        "_observers",
        "_slow_consumers",
        "_streams",
        "_tracer",
        "caught_up",
        "rules",
        "sessions",
        "turns",
    )

    def __init__(
        self,
        counters: Counters,
        call_soon: Callable[..., object],
        interest: Interest,
        observers: ObserverGroup | None = None,
        tracer: Tracer | None = None,
        *,
        rules: StreamRules | None = None,
        history: History | None = None,
    ) -> None:
        """``rules`` hold for single streams; clients that are slow catch up from the ``history``."""
        self._counters = counters
        self._slow_consumers = SlowConsumers(self, history, counters)
        self.rules = rules or StreamRules()
        """The rules for single streams."""
        self.rules.on_change.append(self._apply_rules)
        self._note_seconds = counters.delivery_seconds.observe
        self._note_clients = counters.delivery_clients.observe
        self._tracer = tracer
        self._observers = observers or ObserverGroup()
        self._interest = interest
        self._streams: dict[Stream, Subscription | Audience] = {}
        self._followers: dict[Stream, Follower] = {}
        self.turns = Turns(TURN, call_soon)
        """For deliveries and other work that many clients or subscriptions cause at once. The unit of cost is a write to
        a client."""
        self.sessions = SessionTable(counters, self.turns)
        self._deliveries = DeliveryQueue(
            self.turns,
            self.sessions,
            self._slow_consumers,
            self._observers,
            counters,
            tracer=tracer,
            when_empty=self._forget_stream,
        )
        self.caught_up = self._deliveries.caught_up
        """See :meth:`catenary.node.delivery_queue.DeliveryQueue.caught_up`."""

    # Listeners

    @property
    def streams_num(self) -> int:
        """Number of streams that have listeners."""
        return len(self._streams) + sum(each not in self._streams for each in self._followers)

    @property
    def waiting_num(self) -> int:
        """Number of publications that wait for delivery, at most :data:`catenary.node.delivery_queue.WAITING_LIMIT`."""
        return self._deliveries.waiting_num

    def subscribers_num(self, stream: Stream) -> int:
        """Number of subscriptions that a stream has, without followers."""
        present = self._streams.get(stream)
        if present is None:
            return 0
        return present.size if isinstance(present, Audience) else 1

    def streams(self) -> list[Stream]:
        """The streams that have listeners: a copy, which takes 40 ns for each."""
        return [*self._streams, *(each for each in self._followers if each not in self._streams)]

    def forget(self, session: Session) -> None:
        """Removes a session, and its streams, some in each turn of the event loop."""
        self.turns.run(self._leave(list(session.subscriptions.values())))
        self.sessions.remove(session)

    def _leave(self, subscriptions: list[Subscription]) -> Iterator[int]:
        for subscription in subscriptions:
            for stream in subscription.remove_streams():
                self._remove(subscription, stream)
                yield 1

    def listen(self, subscription: Subscription, stream: Stream) -> None:
        """Adds a stream to a subscription, unless it has it."""
        if not subscription.add_stream(stream):
            return
        if stream in self._streams or self._slow_rule(stream) is not None:
            self._audience(stream).join(subscription)
        else:
            self._streams[stream] = subscription
            self._begin_stream(stream)

    def when_live(self, streams: Collection[Stream]) -> Awaitable[None] | None:
        """None if every message that is published on these streams from now on arrives; else to be awaited."""
        return self._interest.when_live(streams)

    def listen_detached(self, subscription: Subscription, stream: Stream) -> None:
        """Adds a stream to a subscription; its messages are buffered for the listener until :meth:`reattach`."""
        if subscription.add_stream(stream):
            self._audience(stream).join_detached(subscription, Detached())

    def listen_after_members(self, subscription: Subscription, stream: Stream) -> None:
        """Adds a stream to a subscription; its messages are buffered for the listener until :meth:`go_live`, and sent
        earlier if they are too many."""
        if subscription.add_stream(stream):
            detached = Detached(partial(self.write_all, subscription))
            self._audience(stream).join_detached(subscription, detached)

    def go_live(self, subscription: Subscription) -> None:
        """The members have been sent: sends the messages that have waited for them, and then each that is published."""
        for stream in subscription.streams:
            detached = self.detached(subscription, stream)
            if detached is not None and detached.awaits_members:
                self.reattach(subscription, stream, None)

    def unlisten(self, subscription: Subscription, stream: Stream) -> None:
        """Removes a stream from a subscription, if it has it."""
        if subscription.remove_stream(stream):
            self._remove(subscription, stream)

    def unlisten_all(self, subscription: Subscription) -> None:
        """Removes all streams from a subscription."""
        for stream in subscription.remove_streams():
            self._remove(subscription, stream)

    # Detached listeners (node/replay.py)

    def is_quiet(self, stream: Stream) -> bool:
        """Whether no message is on its way to the listeners of a stream."""
        present = self._streams.get(stream)
        return not isinstance(present, Audience) or not present.is_due

    def is_quiet_for(self, subscription: Subscription) -> bool:
        """Whether no message is on its way to this listener; true for one that is detached."""
        for stream in subscription.streams:
            present = self._streams.get(stream)
            if (
                isinstance(present, Audience)
                and present.is_due
                and subscription not in present.detached
            ):
                return False
        return True

    def detach(self, subscription: Subscription, stream: Stream) -> Awaitable[None] | None:
        """Buffers the messages of a stream for a listener, instead of sending them, until :meth:`reattach`.

        None if that is so from now on. Otherwise to be awaited: the end of a delivery in which the listener takes part.
        """
        audience = self._audience(stream)
        detached = audience.detached.get(subscription)
        if detached is not None:
            detached.begin_buffering()
            return None
        if not audience.is_due:
            audience.detach(subscription, self._counters)
            return None
        done = asyncio.get_running_loop().create_future()
        audience.pending_detach.append((subscription, done))
        return done

    def detached(self, subscription: Subscription, stream: Stream) -> Detached | None:
        """The buffer of a listener for a stream; None if the listener is not detached."""
        audience = self._streams.get(stream)
        return audience.detached.get(subscription) if isinstance(audience, Audience) else None

    def reattach(
        self, subscription: Subscription, stream: Stream, sent_up_to: Position | None
    ) -> None:
        """Sends a listener its buffered messages, and then each message that is published.

        Messages up to ``sent_up_to`` are not sent again, neither from the buffer nor when they arrive later,
        because the history was ahead of live delivery. Does nothing if the listener is not detached.
        """
        audience = self._streams.get(stream)
        if not isinstance(audience, Audience):
            return
        detached = audience.detached.get(subscription)
        if detached is None:
            return
        buffered = detached.take()
        if buffered:
            missed = (each for each in buffered if is_later(each.position, sent_up_to))
            self.write_all(subscription, missed)
        if sent_up_to is not None and not self._interest.has_arrived(stream, sent_up_to):
            self._drop_until_arrived(subscription, stream, detached, sent_up_to)
        self._reattach_if_caught_up(audience, subscription, detached)

    def _drop_until_arrived(
        self, subscription: Subscription, stream: Stream, detached: Detached, sent_up_to: Position
    ) -> None:
        if is_later(sent_up_to, detached.sent_up_to):
            detached.sent_up_to = sent_up_to
            arrived = partial(self._arrived, subscription, stream, detached, sent_up_to)
            self._interest.call_when_arrived(stream, sent_up_to, arrived)

    def _arrived(
        self, subscription: Subscription, stream: Stream, detached: Detached, sent_up_to: Position
    ) -> None:
        """All messages that were sent from the history have arrived here, too."""
        present = self.detached(subscription, stream)
        if present is None or present.sent_up_to is not sent_up_to:
            return
        present.sent_up_to = None
        self.rejoin(subscription, stream, present)

    def rejoin(self, subscription: Subscription, stream: Stream, detached: Detached) -> None:
        """Moves a listener back into its group, as soon as the group has received as much as the listener."""
        audience = self._streams.get(stream)
        if isinstance(audience, Audience) and audience.detached.get(subscription) is detached:
            self._reattach_if_caught_up(audience, subscription, detached)

    def _reattach_if_caught_up(
        self, audience: Audience, subscription: Subscription, detached: Detached
    ) -> None:
        """Moves a listener back into its group, if the group has received as much as the listener."""
        if audience.is_due or not detached.may_rejoin:
            return
        audience.reattach(subscription)
        if audience.size == 1 and not audience.detached and audience.rule is None:
            self._streams[audience.stream] = subscription

    def _audience(self, stream: Stream) -> Audience:
        """The audience of a stream, which is created if the stream has one listener or none."""
        present = self._streams.get(stream)
        if isinstance(present, Audience):
            return present
        audience = self._streams[stream] = Audience(stream, self._slow_rule(stream))
        if present is not None:
            audience.join(present)
        else:
            self._begin_stream(stream)
        return audience

    # Listeners whose clients read too slowly (node/slow_consumers.py)

    def _slow_rule(self, stream: Stream) -> StreamRule | None:
        """The rule of a stream that has a policy for slow clients."""
        if self.rules.is_empty:
            return None
        rule = self.rules.of(stream)
        return None if rule.slow_consumer == "disconnect" else rule

    def _apply_rules(self) -> None:
        """The rules have changed, perhaps with the policies of streams that have listeners."""
        self.turns.run(self._apply_to_streams(list(self._streams)))

    def _apply_to_streams(self, streams: list[Stream]) -> Iterator[int]:
        for stream in streams:
            present, rule = self._streams.get(stream), self._slow_rule(stream)
            if isinstance(present, Audience):
                present.rule = rule
                if rule is not None:
                    present.tolerate_slowness()
            elif present is not None and rule is not None:
                self._audience(stream)
            yield 1

    def _begin_stream(self, stream: Stream) -> None:
        if stream not in self._followers:
            self._interest.listen(stream)

    def _forget_stream(self, stream: Stream) -> None:
        del self._streams[stream]
        if stream not in self._followers:
            self._interest.unlisten(stream)

    # Followers: transports whose clients have no subscription

    def follow(self, stream: Stream, follower: Follower) -> None:
        """Calls ``follower`` with each publication of a stream until :meth:`unfollow`. A stream has at most one."""
        assert stream not in self._followers, "one follower serves all clients of a transport"
        if stream not in self._streams:
            self._interest.listen(stream)
        self._followers[stream] = follower

    def unfollow(self, stream: Stream) -> None:
        """Ends :meth:`follow`."""
        del self._followers[stream]
        if stream not in self._streams:
            self._interest.unlisten(stream)

    def _remove(self, subscription: Subscription, stream: Stream) -> None:
        present = self._streams[stream]
        if isinstance(present, Subscription):
            self._forget_stream(stream)
            return
        present.remove(subscription)
        if present.size == 0 and not present.is_due:
            self._forget_stream(stream)

    # Delivery

    def deliver(self, publication: Publishable) -> None:
        """Delivers a publication to its recipients on this node. Never raises."""
        if isinstance(publication, RemoteDisconnect):
            self.sessions.disconnect(publication)
            return
        self._counters.broadcast_msg_total += 1
        if self._followers and publication.stream in self._followers:
            self._followers[publication.stream](publication)
        listeners = self._streams.get(publication.stream)
        if listeners is None:
            self._note_clients(0)
            return
        if isinstance(listeners, Subscription):
            if publication.exclude_socket != listeners.session.sid:
                arrived_at = perf_counter()
                self.write(listeners, publication)
                self._note_seconds(perf_counter() - arrived_at)
                self._note_clients(1)
            return
        for subscription, detached in listeners.detached.items():
            if publication.exclude_socket == subscription.session.sid or detached.takes(
                publication, self._counters
            ):
                continue
            if listeners.rule is None or not self._slow_consumers.takes(
                listeners, subscription, publication
            ):
                self.write(subscription, publication)
        if not listeners.groups:
            if listeners.rule is not None:
                listeners.last = publication.position or listeners.last
            return
        self._deliveries.add(listeners, publication)

    def write(self, subscription: Subscription, publication: Publication) -> None:
        """Sends a publication to one listener only, unless its protocol has no message for it."""
        encoder = subscription.session.encoder
        frame = delivery_frame(encoder, subscription.identifier, publication)
        if not frame:
            return
        span = None
        if self._tracer is not None and publication.trace:
            span = self._tracer.delivery(publication)
        self.write_row(subscription, frame, 1)
        if span is not None:
            end_deliveries([span], 1)
        if self._observers.delivered is not None:
            self._observers.delivered(publication.stream, 1, 1)

    def write_all(
        self, subscription: Subscription, publications: Iterable[Publication]
    ) -> Awaitable[None] | None:
        """Sends publications to one listener only, in one write, or in slices if they are many; None if they are sent."""
        return subscription.session.send_slices(self.slices(subscription, publications))

    def slices(
        self, subscription: Subscription, publications: Iterable[Publication]
    ) -> Iterator[bytes]:
        """Encodes publications for one listener, slice by slice, and counts each as sent."""
        encoder, identifier = subscription.session.encoder, subscription.identifier
        rows = (encoded(encoder, identifier, part) for part in sliced((publications,)))
        return self._counted(rows)

    def write_answer(
        self, subscription: Subscription, answer: FrameBatch | Iterator[FrameBatch]
    ) -> Awaitable[None] | None:
        """Sends an answer to one listener only; None if it is sent."""
        if isinstance(answer, FrameBatch):
            self.write_row(subscription, answer.row, answer.messages)
            return None
        return subscription.session.send_slices(self._counted(answer))

    def _counted(self, rows: Iterator[FrameBatch]) -> Iterator[bytes]:
        for each in rows:
            self._counters.server_msg_total += each.messages
            self._counters.data_sent_total += len(each.row)
            yield each.row

    def write_row(self, subscription: Subscription, row: bytes, count: int) -> None:
        """Sends ``count`` messages, which are encoded, to one listener only."""
        subscription.session.outbound.write(row)
        self._counters.server_msg_total += count
        self._counters.data_sent_total += len(row)
