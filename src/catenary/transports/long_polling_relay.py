"""Polls whose session is at another node: the node that receives such a poll relays it, and the response back.

The id of a session names its node, so that no node has to look for it; the messages that wait for the client stay in one
place, in their order. A node that does not confirm a poll in time is dead, and its sessions are: the client opens a new
one. When the next poll comes, the node of the session asks the node of the last response whether it has arrived, because a
report about a reset connection may come after the poll.
Knows: polls, messages between nodes. Does not know: requests, how messages travel.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from catenary.edge.deadlines import Deadlines
from catenary.errors import RequestRefused
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.metrics.counters import Counters
from catenary.ports import Peers
from catenary.protocols.long_polling import node_of
from catenary.protocols.relayed_polls import (
    Answered,
    Arrived,
    Asked,
    Confirmed,
    Delivered,
    Lost,
    Part,
    Refused,
    Relayed,
    ToOwner,
    ToRelay,
    pack,
    unpack,
)
from catenary.transports.long_polling_sessions import PollSessions
from catenary.transports.polls import Poll, PollResponse

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.edge"))

UNCONFIRMED_S: Final = 2.0
"""How long a node may take to confirm that it has received a poll."""

GRACE_S: Final = 5.0
"""How much longer than the interval of polls the response to a confirmed one may take."""

RECHECK_S: Final = 0.01
"""Interval of the checks whether a response has arrived at its client."""

PART_BYTES: Final = 262_144
"""Limit of one part: a longer response is sent in several messages."""


class RemotePoll(msgspec.Struct, frozen=True):
    """Satisfies :class:`catenary.transports.polls.Poll`, at the node that has the session: a poll whose client is
    connected to another node. Equal to others of the same request."""

    node: str
    number: int
    send_to: Callable[[str, bytes], None]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePoll) and (self.node, self.number) == (
            other.node,
            other.number,
        )

    def __hash__(self) -> int:
        return hash((self.node, self.number))

    def answer(self, response: PollResponse) -> None:
        messages = response.messages
        for start in range(0, len(messages), PART_BYTES):
            part = Part(self.node, self.number, messages[start : start + PART_BYTES])
            self.send_to(self.node, pack(part))
        answered = Answered(self.node, self.number, response.status, len(messages), response.number)
        self.send_to(self.node, pack(answered))

    def is_unread(self) -> bool:
        """Asks the node of the connection."""
        self.send_to(self.node, pack(Asked(self.node, self.number)))
        return True


class RelayedPoll:
    """Satisfies :class:`catenary.transports.polls.PollHolder` and :class:`catenary.ports.Waiting`, at the node to
    which the client is connected."""

    __slots__ = ("_relay", "is_answered", "messages", "number", "poll", "poll_id")

    def __init__(self, relay: "PollRelay", number: int, poll_id: str, poll: Poll) -> None:
        self._relay = relay
        self.number = number
        self.poll_id = poll_id
        self.poll = poll
        # The parts of the response so far
        self.messages = b""
        self.is_answered = False

    def delivered(self, poll: Poll) -> None:
        self._relay.report(Delivered, self)

    def lost(self, poll: Poll) -> None:
        self._relay.report(Lost, self)

    def shutdown(self) -> None:
        """The session goes on: the client polls at another node."""
        self._relay.report(Lost, self)
        self.poll.answer(PollResponse(204))

    def time_out(self) -> None:
        if self.is_answered:
            self._relay.check(self)
        else:
            self._relay.give_up(self)


class PollRelay:
    """The relay of one node, in both directions. ``interval_s`` is how long a poll waits for messages."""

    __slots__ = (
        "_confirmed",
        "_counters",
        "_next",
        "_peers",
        "_polls",
        "_sessions",
        "_unarrived",
        "_unconfirmed",
    )

    def __init__(
        self,
        peers: Peers,
        sessions: PollSessions,
        counters: Counters,
        interval_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._peers = peers
        self._sessions = sessions
        self._counters = counters
        self._next = 0
        # Until their responses are delivered or lost
        self._polls: dict[int, RelayedPoll] = {}
        self._unconfirmed = Deadlines(UNCONFIRMED_S, clock)
        self._confirmed = Deadlines(interval_s + GRACE_S, clock)
        self._unarrived = Deadlines(RECHECK_S, clock, RECHECK_S)
        peers.on_message = self._receive

    def is_elsewhere(self, poll_id: str) -> bool:
        """Whether the id is that of a session of another node."""
        return node_of(poll_id) not in ("", self._peers.node)

    def poll(self, poll_id: str, poll: Poll, received: int | None, body: bytes) -> RelayedPoll:
        """Relays a poll to the node of its session."""
        self._counters.long_poll_relayed_total += 1
        self._next += 1
        relayed = self._polls[self._next] = RelayedPoll(self, self._next, poll_id, poll)
        self._unconfirmed.watch(relayed)
        message = Relayed(self._peers.node, relayed.number, poll_id, received, body)
        self._peers.send_to(node_of(poll_id), pack(message))
        return relayed

    # Called by polls

    def report(self, kind: type[Delivered] | type[Lost], poll: RelayedPoll) -> None:
        """Reports what has become of a poll or its response."""
        self._forget(poll)
        self._send_to_owner(kind, poll)

    def check(self, poll: RelayedPoll) -> None:
        """Reports that a response has arrived, now or when it does."""
        if poll.poll.is_unread():
            self._unarrived.watch(poll)
        else:
            self._send_to_owner(Arrived, poll)

    def _send_to_owner(
        self, kind: type[Arrived] | type[Delivered] | type[Lost], poll: RelayedPoll
    ) -> None:
        message = kind(self._peers.node, poll.number, poll.poll_id)
        self._peers.send_to(node_of(poll.poll_id), pack(message))

    def give_up(self, poll: RelayedPoll) -> None:
        """The node of the session does not answer: it is dead."""
        self._forget(poll)
        self._sessions.refuse_stale(poll.poll)

    def _forget(self, poll: RelayedPoll) -> None:
        self._polls.pop(poll.number, None)
        self._unarrived.forget(poll)
        self._stop_waiting(poll)

    def _stop_waiting(self, poll: RelayedPoll) -> None:
        """The response has come."""
        self._unconfirmed.forget(poll)
        self._confirmed.forget(poll)

    # Messages of other nodes

    def _receive(self, packed: bytes) -> None:
        try:
            message = unpack(packed)
        except ValueError as error:
            _limited.warning("Malformed message from another node: %s", error)
            return
        if isinstance(message, ToOwner):
            self._own(message)
        else:
            self._answer(message)

    def _own(self, message: ToOwner) -> None:
        """A message about a session of this node."""
        poll = RemotePoll(message.node, message.number, self._peers.send_to)
        if isinstance(message, Relayed):
            self._take(message, poll)
            return
        session = self._sessions.find(message.poll_id)
        if session is None:
            return
        match message:
            case Arrived():
                session.arrived(poll)
            case Delivered():
                session.delivered(poll)
            case Lost():
                session.lost(poll)

    def _take(self, message: Relayed, poll: RemotePoll) -> None:
        self._peers.send_to(message.node, pack(Confirmed(message.node, message.number)))
        try:
            self._sessions.poll(message.poll_id, poll, message.received, message.body)
        except RequestRefused:
            self._peers.send_to(message.node, pack(Refused(message.node, message.number)))

    def _answer(self, message: ToRelay) -> None:
        """A message about a poll whose client is connected to this node."""
        relayed = self._polls.get(message.number)
        if relayed is None or message.node != self._peers.node:
            return
        match message:
            case Confirmed():
                if not relayed.is_answered:
                    self._unconfirmed.forget(relayed)
                    self._confirmed.watch(relayed)
            case Part():
                relayed.messages += message.messages
            case Refused():
                self._forget(relayed)
                relayed.poll.answer(PollResponse(503))
            case Answered():
                self._respond(relayed, message)
            case Asked():
                if relayed.is_answered:
                    self.check(relayed)
                else:
                    self._lack(relayed)

    def _respond(self, relayed: RelayedPoll, answered: Answered) -> None:
        messages, relayed.messages = relayed.messages, b""
        if len(messages) != answered.size:
            self._lack(relayed)
            return
        self._stop_waiting(relayed)
        relayed.is_answered = True
        relayed.poll.answer(PollResponse(answered.status, messages, answered.response_number))

    def _lack(self, relayed: RelayedPoll) -> None:
        """A part of the response was lost between the nodes: the next poll gets all of it."""
        self.report(Lost, relayed)
        relayed.poll.answer(PollResponse(204))
