"""The listeners of one stream, grouped by identifier and encoder.

Knows: which subscriptions share a frame. Does not know: when messages are delivered.
"""

from asyncio import Future
from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import Final

import msgspec

from catenary.messages.lenient_json import JSON_ERRORS, checked_again
from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Publication
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

    def __init__(self, first: Outbound, second: Outbound) -> None:
        self._members: dict[Outbound, None] = {first: None, second: None}
        self._recipients: list[Outbound] | None = None

    def __len__(self) -> int:
        return len(self._members)

    def join(self, outbound: Outbound) -> None:
        """Adds a listener by its outbound."""
        self._members[outbound] = None
        self._recipients = None

    def leave(self, outbound: Outbound) -> None:
        """Removes a listener."""
        del self._members[outbound]
        self._recipients = None

    def recipients(self) -> list[Outbound]:
        """All listeners in the order in which they joined, which is their order in memory and in the kernel.

        The list is not changed later: a new one is built after a listener has joined or left. So a delivery under way
        may iterate over it while others join and leave.
        """
        recipients = self._recipients
        if recipients is None:
            recipients = self._recipients = list(self._members)
        return recipients


class Audience:
    """All listeners of a stream that has, or had, more than one.

    ``waiting`` are publications whose delivery to the groups has not begun, and ``arrivals`` the moments
    (``time.perf_counter``) at which the first of each batch of them arrived: a list, because an empty deque takes 700 bytes.
    ``detached`` are listeners whose clients read the history or the members: messages are buffered for each, later passed
    through to each, until the groups have caught up and it is reattached. ``pending_detach`` are to be detached at the end of a
    delivery under way, which ``is_due`` reports.
    """

    __slots__ = (
        "arrivals",
        "detached",
        "groups",
        "is_due",
        "pending_detach",
        "size",
        "stream",
        "waiting",
    )

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.groups: dict[Encoder, dict[Identifier, Subscription | SubscriberGroup]] = {}
        self.detached: dict[Subscription, Detached] = {}
        self.pending_detach: list[tuple[Subscription, Future[None]]] = []
        self.size = 0
        self.waiting: deque[Publication] = deque()
        self.arrivals: list[float] = []
        self.is_due = False

    def wait(self, publication: Publication) -> None:
        """Adds a publication to those that wait. One that excludes a session is a batch of its own."""
        waiting = self.waiting
        if (
            not waiting
            or publication.exclude_socket is not None
            or waiting[-1].exclude_socket is not None
        ):
            self.arrivals.append(perf_counter())
        waiting.append(publication)

    def take(self) -> tuple[list[Publication], float]:
        """Takes the publications for one write: all that wait, up to one that excludes a session; and when the first of
        them arrived."""
        waiting = self.waiting
        batch = [waiting.popleft()]
        if batch[0].exclude_socket is None:
            while waiting and waiting[0].exclude_socket is None:
                batch.append(waiting.popleft())
        return batch, self.arrivals.pop(0)

    def join(self, subscription: Subscription) -> None:
        """Adds a listener to its group."""
        group = self.groups.setdefault(subscription.session.encoder, {})
        present = group.get(subscription.identifier)
        outbound = subscription.session.outbound
        if present is None:
            group[subscription.identifier] = subscription
        elif isinstance(present, SubscriberGroup):
            present.join(outbound)
        else:
            group[subscription.identifier] = SubscriberGroup(present.session.outbound, outbound)
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

    def detach(self, subscription: Subscription, counters: Counters) -> None:
        """Moves a listener out of its group: messages that the group has not received yet are buffered for it."""
        self._leave_group(subscription)
        detached = self.detached[subscription] = Detached()
        for each in self.waiting:
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
            if self.stream in subscription.streams and subscription not in self.detached:
                self.detach(subscription, counters)
            if not done.done():
                done.set_result(None)

    def frames(self, batch: list[Publication]) -> Iterator[tuple[bytes, list[Outbound]]]:
        """Encodes a batch once for each identifier and encoder; returns the joined frames with their recipients: none if
        their protocol has no message for any of the batch.

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
                    yield frame, []
                elif isinstance(listeners, SubscriberGroup):
                    yield frame, listeners.recipients()
                else:
                    yield frame, [listeners.session.outbound]


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
