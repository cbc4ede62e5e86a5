"""Decides when the client of a restored subscription is not going to request the history.

A client that supports resuming requests the history when it receives its welcome. Time alone does not show that it will
not: its connection may be slow, or its requests may wait after others. So a client that has sent no request within a tick
or two is pinged by its transport. It answers in order: when the pong arrives, everything that it sent before has been
read. Only then, or after the time in which clients themselves consider a connection dead, it counts as a client that does
not request the history.
Knows: sessions. Does not know: histories, buffers.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from catenary.messages.commands import ReadHistory
from catenary.node.session import Session, Subscription
from catenary.node.turns import Turns

UNANSWERED_TICKS: Final = 6
"""The time limit for the pong: the time after which ``@anycable/core`` misses the server's pings and reconnects."""

PROCESSING_TICKS: Final = 1
"""Extra time for a client that has answered: browsers answer pings before a page has run its handlers."""


class _Late:
    """A session with restored subscriptions that have waited for a tick."""

    __slots__ = ("answered_at", "has_answered", "is_pinged", "subscriptions", "ticks")

    def __init__(self, *, is_pinged: bool) -> None:
        self.subscriptions: dict[Subscription, None] = {}
        self.is_pinged = is_pinged
        self.ticks = 0
        self.has_answered = False
        self.answered_at = 0

    def is_over(self) -> bool:
        """Whether the time of the client is over. Called once per tick."""
        self.ticks += 1
        if not self.is_pinged:
            return True
        if not self.has_answered:
            return self.ticks >= UNANSWERED_TICKS
        if self.answered_at == 0:
            self.answered_at = self.ticks
        return self.ticks - self.answered_at >= PROCESSING_TICKS


class LateRequests:
    """Calls ``go_live`` for each subscription whose client does not request the history, some in each turn of the event loop."""

    __slots__ = ("_aging", "_due", "_fresh", "_go_live", "_is_advancing", "_late", "_turns")

    def __init__(self, turns: Turns, go_live: Callable[[Subscription], None]) -> None:
        self._turns = turns
        self._go_live = go_live
        # Restored since the last tick; before it; before that one
        self._fresh: dict[Subscription, None] = {}
        self._aging: OrderedDict[Subscription, None] = OrderedDict()
        self._late: dict[Session, _Late] = {}
        # Subscriptions that go live as soon as a turn has room for them
        self._due: OrderedDict[Subscription, None] = OrderedDict()
        self._is_advancing = False

    def add(self, subscription: Subscription) -> None:
        """A subscription was restored; its client may request the history."""
        self._fresh[subscription] = None

    def discard(self, subscription: Subscription) -> None:
        """The client has requested the history."""
        if subscription in self._fresh:
            del self._fresh[subscription]
            return
        self._aging.pop(subscription, None)
        self._due.pop(subscription, None)
        late = self._late.get(subscription.session)
        if late is not None:
            late.subscriptions.pop(subscription, None)
            if not late.subscriptions:
                del self._late[subscription.session]

    def answered_ping(self, session: Session) -> None:
        """The client has answered a ping of its transport."""
        late = self._late.get(session)
        if late is not None:
            late.has_answered = True

    def tick(self) -> None:
        """Starts a check of all clients. To be called every second or so."""
        if self._is_advancing or not (self._fresh or self._late):
            return
        self._is_advancing = True
        self._aging.update(self._fresh)
        self._fresh.clear()
        self._turns.run(self._advance(list(self._late)))

    def _advance(self, sessions: list[Session]) -> Iterator[int]:
        """The work of a tick, some in each turn of the event loop."""
        try:
            yield from self._age(sessions)
            yield from self._all_go_live()
        finally:
            self._is_advancing = False

    def _age(self, sessions: list[Session]) -> Iterator[int]:
        for session in sessions:
            late = self._late.get(session)
            if late is None:
                continue
            if session.closed:
                del self._late[session]
            elif not self._may_be_waiting(session, late) and late.is_over():
                del self._late[session]
                self._due.update(late.subscriptions)
            yield 1
        while self._aging:
            subscription, _ = self._aging.popitem(last=False)
            self._grow_late(subscription)
            yield 2

    def _all_go_live(self) -> Iterator[int]:
        while self._due:
            subscription, _ = self._due.popitem(last=False)
            if subscription.asked == "not yet":
                self._go_live(subscription)
            yield 1 + len(subscription.streams)

    def _grow_late(self, subscription: Subscription) -> None:
        session = subscription.session
        if session.closed:
            return
        late = self._late.get(session)
        if late is None:
            late = self._late[session] = _Late(is_pinged=_ping(session))
        late.subscriptions[subscription] = None

    def _may_be_waiting(self, session: Session, late: _Late) -> bool:
        """Whether requests of the client may wait after its other commands; those that do are not late."""
        inbox = session.inbox
        if inbox is None:
            return False
        for command in inbox.commands or ():
            if type(command) is ReadHistory:
                subscription = session.subscriptions.get(command.identifier)
                if subscription is not None:
                    late.subscriptions.pop(subscription, None)
        # The socket of a client with a full inbox is not read: it may contain requests.
        return inbox.is_full


def _ping(session: Session) -> bool:
    """Pings a client; False if its transport has no pings."""
    ping = session.encoder.native_ping
    if ping:
        session.outbound.write(ping)
    return bool(ping)
