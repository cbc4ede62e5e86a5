"""Everybody who listens to one stream, in the groups that a delivery needs.

Knows: subscriptions and who shares a frame. Does not know: when anything is delivered.
"""

from asyncio import Future
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from catenary.messages.lenient_json import JSON_ERRORS, checked_again
from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Publication
from catenary.messages.replies import Delivery
from catenary.node.encoder import Encoder
from catenary.node.session import Subscription
from catenary.ports import Outbound

_check_json: Final = msgspec.json.Decoder(msgspec.Raw).decode
_write_json: Final = msgspec.json.Encoder().encode


class Crowd:
    """Listeners of one stream who share identifier and encoder, so that one frame serves them all."""

    __slots__ = ("_members", "_row")

    def __init__(self, first: Outbound, second: Outbound) -> None:
        self._members: dict[Outbound, None] = {first: None, second: None}
        self._row: list[Outbound] | None = None

    def __len__(self) -> int:
        return len(self._members)

    def join(self, outbound: Outbound) -> None:
        """Adds one."""
        self._members[outbound] = None
        self._row = None

    def leave(self, outbound: Outbound) -> None:
        """Takes one away."""
        del self._members[outbound]
        self._row = None

    def row(self) -> list[Outbound]:
        """All, the first to come first: so they lie in memory, and what the kernel has of them.

        The list is made when somebody has come or left, and not changed after that: whoever
        delivers may go on with it while others come and leave.
        """
        row = self._row
        if row is None:
            row = self._row = list(self._members)
        return row


class Audience:
    """All listeners of a stream that has, or had, more than one.

    ``waiting`` holds what was published and has not begun to be delivered to the groups. ``apart``
    are listeners who read the history meanwhile: what is published is kept for each, in order, or,
    where None stands, sent at once, until the groups have caught up and it can join them.
    ``stepping_out`` want to be apart, and wait for the end of a delivery under way.
    """

    __slots__ = ("apart", "groups", "is_due", "size", "stepping_out", "stream", "waiting")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.groups: dict[Encoder, dict[Identifier, Subscription | Crowd]] = {}
        self.apart: dict[Subscription, list[Publication] | None] = {}
        self.stepping_out: list[tuple[Subscription, Future[None]]] = []
        self.size = 0
        self.waiting: deque[Publication] = deque()
        self.is_due = False

    def join(self, subscription: Subscription) -> None:
        """Adds a listener to its group."""
        group = self.groups.setdefault(subscription.session.encoder, {})
        present = group.get(subscription.identifier)
        outbound = subscription.session.outbound
        if present is None:
            group[subscription.identifier] = subscription
        elif isinstance(present, Crowd):
            present.join(outbound)
        else:
            group[subscription.identifier] = Crowd(present.session.outbound, outbound)
        self.size += 1

    def join_apart(self, subscription: Subscription) -> None:
        """Adds a listener for whom everything is kept from now on."""
        self.apart[subscription] = []
        self.size += 1

    def part(self, subscription: Subscription) -> None:
        """Takes a listener away, wherever it is."""
        if subscription in self.apart:
            del self.apart[subscription]
        else:
            self._leave_group(subscription)
        self.size -= 1

    def _leave_group(self, subscription: Subscription) -> None:
        group = self.groups[subscription.session.encoder]
        present = group[subscription.identifier]
        if isinstance(present, Crowd):
            present.leave(subscription.session.outbound)
            if len(present):
                return
        del group[subscription.identifier]
        if not group:
            del self.groups[subscription.session.encoder]

    def set_apart(self, subscription: Subscription) -> None:
        """Takes a listener out of its group: what the group does not get now is kept for it."""
        self._leave_group(subscription)
        self.apart[subscription] = list(self.waiting)

    def keep(self, subscription: Subscription) -> None:
        """Who is apart has its messages kept again, if they were sent at once by now."""
        if self.apart[subscription] is None:
            self.apart[subscription] = []

    def bring_back(self, subscription: Subscription) -> list[Publication]:
        """Ends the keeping, and returns what was kept."""
        kept = self.apart[subscription]
        if self.is_due:
            self.apart[subscription] = None
        else:
            self._join_again(subscription)
        return kept or []

    def rejoin(self) -> None:
        """Nothing waits for the groups: whoever hears everything at once may join them again."""
        for subscription in [each for each, kept in self.apart.items() if kept is None]:
            self._join_again(subscription)

    def _join_again(self, subscription: Subscription) -> None:
        del self.apart[subscription]
        self.size -= 1
        self.join(subscription)

    def step_out(self) -> None:
        """A delivery is over: who waited for that is set apart now."""
        stepping_out, self.stepping_out = self.stepping_out, []
        for subscription, done in stepping_out:
            if self.stream in subscription.streams and subscription not in self.apart:
                self.set_apart(subscription)
            if not done.done():
                done.set_result(None)

    def frames(self, batch: list[Publication]) -> Iterator[tuple[bytes, list[Outbound]]]:
        """What to write, to whom: one frame (or a row of them) for each identifier and encoder.

        The lists are the crowds' own: not to be changed.
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
                if isinstance(listeners, Crowd):
                    yield frame, listeners.row()
                else:
                    yield frame, [listeners.session.outbound]


def delivery(identifier: Identifier, publication: Publication, message: bytes) -> Delivery:
    """A publication for one identifier, its data read already."""
    if publication.position is None:
        return Delivery(identifier, message, publication.kind)
    return Delivery(identifier, message, publication.kind, publication.stream, publication.position)


def delivery_frame(encoder: Encoder, identifier: Identifier, publication: Publication) -> bytes:
    """A publication for one identifier, ready to be written."""
    message = json_of(publication.data)
    return encoder.encode_delivery(delivery(identifier, publication, message))


def json_of(data: str) -> bytes:
    """JSON as it came; anything else, and null, as a string: what anycable-go makes of them."""
    raw = data.encode()
    try:
        _check_json(raw)
    except JSON_ERRORS as error:
        again = checked_again(raw, error)
        if again is None:
            return _write_json(data)
        raw = again
    return _write_json(data) if raw.strip() == b"null" else raw
