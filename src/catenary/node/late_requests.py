"""Restored subscriptions whose clients have not asked for the history yet, and when they are not going to.

A client that knows how to resume asks as soon as it receives its welcome. Time alone does not tell whether
it is going to: the line may be slow, or its requests may wait after others. So a client is pinged by its transport when
it has not asked within a tick or two. It has answered in order: what it had said before has been read. Only then, or when
it has not answered for so long that clients take a connection for dead themselves, it counts as one that does not ask.
Knows: sessions. Does not know: histories, what is buffered.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from catenary.messages.commands import ReadHistory
from catenary.node.session import Session, Subscription
from catenary.node.turns import Turns

UNANSWERED_TICKS: Final = 6
"""How long an answer to the ping is waited for: as long as ``@anycable/core`` takes to notice that its own
pings are missing, after which it connects again."""

PROCESSING_TICKS: Final = 1
"""How long a client is waited for that has answered: pings are answered before a page has run its handlers."""


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
        """Has the client had its chance? Called once a tick."""
        self.ticks += 1
        if not self.is_pinged:
            return True
        if not self.has_answered:
            return self.ticks >= UNANSWERED_TICKS
        if self.answered_at == 0:
            self.answered_at = self.ticks
        return self.ticks - self.answered_at >= PROCESSING_TICKS


class LateRequests:
    """``go_live`` is called for each subscription whose client does not ask, some in each turn of the loop."""

    __slots__ = ("_aging", "_due", "_fresh", "_go_live", "_is_advancing", "_late", "_turns")

    def __init__(self, turns: Turns, go_live: Callable[[Subscription], None]) -> None:
        self._turns = turns
        self._go_live = go_live
        # Since the last tick; since the one before, until there is room for them; for longer
        self._fresh: dict[Subscription, None] = {}
        self._aging: OrderedDict[Subscription, None] = OrderedDict()
        self._late: dict[Session, _Late] = {}
        # And those that go live when there is room for them
        self._due: OrderedDict[Subscription, None] = OrderedDict()
        self._is_advancing = False

    def add(self, subscription: Subscription) -> None:
        """A subscription was restored; its client may ask."""
        self._fresh[subscription] = None

    def discard(self, subscription: Subscription) -> None:
        """The client has asked."""
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
        """To be called every second or so."""
        if self._is_advancing or not (self._fresh or self._late):
            return
        self._is_advancing = True
        self._aging.update(self._fresh)
        self._fresh.clear()
        self._turns.run(self._advance(list(self._late)))

    def _advance(self, sessions: list[Session]) -> Iterator[int]:
        """What a tick brings, some in each turn of the loop."""
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
        """May requests of the client wait after other commands? Those that are known to are not late."""
        inbox = session.inbox
        if inbox is None:
            return False
        for command in inbox.commands or ():
            if type(command) is ReadHistory:
                subscription = session.subscriptions.get(command.identifier)
                if subscription is not None:
                    late.subscriptions.pop(subscription, None)
        # Beyond its limit the client is not read: its requests may be among what waits in its socket.
        return inbox.is_full


def _ping(session: Session) -> bool:
    """Pings a client; False where its transport can't."""
    ping = session.encoder.native_ping
    if ping:
        session.outbound.write(ping)
    return bool(ping)
