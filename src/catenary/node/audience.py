"""The listeners of one stream, grouped by identifier and encoder.

Knows: which subscriptions share a frame. Does not know: when messages are delivered.
"""

from asyncio import Future
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from catenary.config.stream_rules import StreamRule
from catenary.messages.lenient_json import JSON_ERRORS, checked_again
from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Position, Publication
from catenary.messages.replies import Delivery
from catenary.metrics.counters import Counters
from catenary.node.detached import Detached
from catenary.node.encoder import Encoder
from catenary.node.session import Subscription
from catenary.ports import Outbound

_check_json: Final = msgspec.json.Decoder(msgspec.Raw).decode
_write_json: Final = msgspec.json.Encoder().encode


class SubscriberGroup:
    """Listeners of one stream that share identifier and encoder, and so the frames of a delivery."""

    __slots__ = ("_members", "_recipients")

    def __init__(self, first: Subscription, second: Subscription) -> None:
        self._members = {each.session.outbound: each for each in (first, second)}
        self._recipients: list[Outbound] | None = None

    def __len__(self) -> int:
        return len(self._members)

    def join(self, subscription: Subscription) -> None:
        """Adds a listener."""
        self._members[subscription.session.outbound] = subscription
        self._recipients = None

    def leave(self, outbound: Outbound) -> None:
        """Removes a listener."""
        del self._members[outbound]
        self._recipients = None

    def find(self, outbound: Outbound) -> Subscription | None:
        """The listener with this outbound; None if it has left."""
        return self._members.get(outbound)

    def recipients(self) -> list[Outbound]:
        """All listeners in the order in which they joined, which is their order in memory and in the kernel.

        The list is not changed later: a new one is built after a listener has joined or left. So a delivery under way
        may iterate over it while others join and leave.
        """
        recipients = self._recipients
        if recipients is None:
            recipients = self._recipients = list(self._members)
        return recipients


Listeners = Subscription | SubscriberGroup
"""Those that share identifier and encoder."""


class Audience:
    """All listeners of a stream that has, or had, more than one.

    ``waiting`` are publications whose delivery to the groups has not begun, and ``arrivals`` the moments
    (``time.perf_counter``) at which the first of each batch of them arrived: a list, because an empty deque takes 700 bytes.
    ``detached`` are listeners whose clients read the history or the members: messages are buffered for each, later passed
    through to each, until the groups have caught up and it is reattached. ``pending_detach`` are to be detached at the end of a
    delivery under way, which ``is_due`` reports. ``rule`` is that of the stream if it has a policy for clients that read too
    slowly, else None; only then, ``last`` is the position of the last message that the groups have got, or that was
    delivered while there was no group.
    """

    __slots__ = (
        "arrivals",
        "detached",
        "groups",
        "is_due",
        "last",
        "pending_detach",
        "rule",
        "size",
        "stream",
        "waiting",
    )

    def __init__(self, stream: Stream, rule: StreamRule | None = None) -> None:
        self.stream = stream
        self.rule = rule
        self.last: Position | None = None
        self.groups: dict[Encoder, dict[Identifier, Listeners]] = {}
        self.detached: dict[Subscription, Detached] = {}
        self.pending_detach: list[tuple[Subscription, Future[None]]] = []
        self.size = 0
        self.waiting: deque[Publication] = deque()
        self.arrivals: list[float] = []
        self.is_due = False

    def join(self, subscription: Subscription) -> None:
        """Adds a listener to its group."""
        group = self.groups.setdefault(subscription.session.encoder, {})
        present = group.get(subscription.identifier)
        if self.rule is not None:
            subscription.session.outbound.tolerate_slowness()
        if present is None:
            group[subscription.identifier] = subscription
        elif isinstance(present, SubscriberGroup):
            present.join(subscription)
        else:
            group[subscription.identifier] = SubscriberGroup(present, subscription)
        self.size += 1

    def join_detached(self, subscription: Subscription, detached: Detached) -> None:
        """Adds a detached listener: all messages are buffered for it."""
        self.detached[subscription] = detached
        self.size += 1

    def remove(self, subscription: Subscription) -> None:
        """Removes a listener, detached or not."""
        if self.detached.pop(subscription, None) is None:
            self._leave_group(subscription)
        self.size -= 1

    def _leave_group(self, subscription: Subscription) -> None:
        group = self.groups[subscription.session.encoder]
        present = group[subscription.identifier]
        if isinstance(present, SubscriberGroup):
            present.leave(subscription.session.outbound)
            if len(present):
                return
        del group[subscription.identifier]
        if not group:
            del self.groups[subscription.session.encoder]

    def has_in_group(self, subscription: Subscription) -> bool:
        """Whether a listener is in its group: it has not left, and is not detached."""
        return self.stream in subscription.streams and subscription not in self.detached

    def tolerate_slowness(self) -> None:
        """The stream has a policy for slow clients now."""
        for group in self.groups.values():
            for listeners in group.values():
                if isinstance(listeners, SubscriberGroup):
                    for outbound in listeners.recipients():
                        outbound.tolerate_slowness()
                else:
                    listeners.session.outbound.tolerate_slowness()

    def detach(
        self,
        subscription: Subscription,
        counters: Counters,
        detached: Detached | None = None,
        batch: Iterable[Publication] = (),
    ) -> None:
        """Moves a listener out of its group: messages that the group has not received yet are buffered for it, and those
        of a ``batch`` that the group receives at the moment."""
        self._leave_group(subscription)
        detached = self.detached[subscription] = detached or Detached()
        for each in chain(batch, self.waiting):
            if each.exclude_socket != subscription.session.sid:
                detached.takes(each, counters)

    def reattach(self, subscription: Subscription) -> None:
        """Moves a detached listener back into its group, which must have no waiting messages."""
        del self.detached[subscription]
        self.size -= 1
        self.join(subscription)

    def reattach_all(self) -> None:
        """The groups have no waiting messages: reattaches the listeners that have caught up, too."""
        for subscription, detached in list(self.detached.items()):
            if detached.may_rejoin:
                self.reattach(subscription)

    def detach_pending(self, counters: Counters) -> None:
        """A delivery has ended: detaches the listeners that waited for that."""
        pending, self.pending_detach = self.pending_detach, []
        for subscription, done in pending:
            if self.stream in subscription.streams:
                if subscription in self.detached:
                    self.detached[subscription].begin_buffering()
                else:
                    self.detach(subscription, counters)
            if not done.done():
                done.set_result(None)

    def frames(
        self, batch: list[Publication]
    ) -> Iterator[tuple[bytes, list[Outbound], "Listeners"]]:
        """Encodes a batch once for each identifier and encoder; returns the joined frames with their recipients, none if
        their protocol has no message for any of the batch, and the listeners that they are for.

        The lists belong to the groups and must not be changed.
        """
        messages = [(each, json_of(each.data)) for each in batch]
        for encoder, group in list(self.groups.items()):
            for identifier, listeners in list(group.items()):
                frame = b"".join(
                    [
                        encoder.encode_delivery(delivery(identifier, each, message))
                        for each, message in messages
                    ]
                )
                if not frame:
                    yield frame, [], listeners
                elif isinstance(listeners, SubscriberGroup):
                    yield frame, listeners.recipients(), listeners
                else:
                    yield frame, [listeners.session.outbound], listeners


def delivery(identifier: Identifier, publication: Publication, message: bytes) -> Delivery:
    """A publication for one identifier; ``message`` is its data as :func:`json_of` returns it."""
    if publication.position is None:
        return Delivery(identifier, message, publication.kind)
    return Delivery(identifier, message, publication.kind, publication.stream, publication.position)


def delivery_frame(encoder: Encoder, identifier: Identifier, publication: Publication) -> bytes:
    """A publication for one identifier, encoded and framed."""
    message = json_of(publication.data)
    return encoder.encode_delivery(delivery(identifier, publication, message))


def json_of(data: str) -> bytes:
    """The data of a publication as JSON: unchanged if it is JSON; anything else, and null, as a string (as anycable-go)."""
    raw = data.encode()
    try:
        _check_json(raw)
    except JSON_ERRORS as error:
        again = checked_again(raw, error)
        if again is None:
            return _write_json(data)
        raw = again
    return _write_json(data) if raw.strip() == b"null" else raw
