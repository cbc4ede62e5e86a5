"""Clients whose transport is open and who introduce themselves with a message before the node admits them.

For protocols whose Connect call belongs to a message, not to the handshake: ``connection_init`` of GraphQL, BootNotification of
OCPP. :class:`Introductions` stands between a transport and the node, and has the node's methods. So the transport needs no
change, and its limits of messages (size, rate, time) hold before the admission, too.
Knows: sessions, counters, deadlines. Does not know: protocols, transports, which clients may connect.
"""

from collections.abc import Mapping
from time import perf_counter

import msgspec

from catenary.errors import CommandError
from catenary.messages.commands import CloseConnection
from catenary.messages.environment import Environment
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoder
from catenary.node.node import Node
from catenary.node.session import Session, Traits
from catenary.ports import Goodbye, Introduction, Outbound, Watch


def turn_away(session: Session, reason: Reason, why: str, goodbye: Goodbye | None = None) -> None:
    """Ends a client that the node does not get to know."""
    rejected = session.encoder.observers.rejected
    if rejected is not None:
        rejected(session.environment, reason, why)
    session.close(reason, goodbye=goodbye)


class Newcomer:
    """One client. Until it has introduced itself, ``session`` is a placeholder that only serves to end the connection, then
    the node's session. ``traits`` are kept until the node gets them, then None."""

    __slots__ = ("_counters", "session", "traits")

    def __init__(self, session: Session, traits: Traits, counters: Counters) -> None:
        self.session = session
        self.traits: Traits | None = traits
        self._counters = counters

    def close(self, reason: Reason) -> None:
        """See :meth:`catenary.node.session.Session.close`."""
        self.session.close(reason)

    def time_out(self) -> None:
        """The client has not introduced itself in time."""
        if not self.session.closed:
            self._counters.late_introductions_total += 1
            turn_away(self.session, Reason.IDLE_TIMEOUT, "it has not introduced itself in time")


class Introductions:
    """Satisfies :class:`catenary.edge.clients.Clients`, for protocols whose codec is an
    :class:`catenary.ports.IntroducedCodec`.

    A client counts as a connection from its handshake on. ``deadlines`` ends the wait for an introduction, with
    ``Reason.IDLE_TIMEOUT``, for which the protocol has a close code.
    """

    __slots__ = ("_counters", "_deadlines", "_node")

    def __init__(self, node: Node, deadlines: Watch, counters: Counters) -> None:
        self._node = node
        self._deadlines = deadlines
        self._counters = counters

    def admit(
        self, environment: Environment, encoder: Encoder, outbound: Outbound, traits: Traits
    ) -> Newcomer:
        """Waits for the introduction of a client whose transport is open."""
        self._counters.open_connections_num += 1
        session = Session(environment, encoder, outbound)
        newcomer = Newcomer(session, traits, self._counters)
        self._deadlines.watch(newcomer)
        return newcomer

    def receive(self, session: Newcomer, payload: bytes) -> None:
        """Takes a message: up to the introduction here, all later ones in the node."""
        if session.traits is None:
            self._node.receive(session.session, payload)
        elif not session.session.closed:
            self._read(session, session.traits, payload)

    def _read(self, newcomer: Newcomer, traits: Traits, payload: bytes) -> None:
        session = newcomer.session
        try:
            answers = session.encoder.introduce(payload)
        except CommandError as error:
            self._count(payload)
            self._refuse(session, str(error))
            return
        if isinstance(answers, Introduction):
            self._admit(newcomer, traits, answers.headers)
            if answers.is_command:
                self._node.receive(newcomer.session, payload)
            else:
                self._count(payload)
            return
        self._count(payload)
        for answer in answers:
            if isinstance(answer, CloseConnection):
                self._counters.failed_client_msg_total += 1
                goodbye = Goodbye(Reason.INVALID_MESSAGE, answer.code, answer.text)
                turn_away(session, goodbye.reason, answer.text, goodbye)
            else:
                session.outbound.write(session.encoder.frame(answer.payload))

    def _admit(self, newcomer: Newcomer, traits: Traits, headers: Mapping[str, str]) -> None:
        self._deadlines.forget(newcomer)
        session = newcomer.session
        session.environment.headers.update(headers)
        newcomer.traits = None
        self._counters.open_connections_num -= 1  # the node counts it from now on
        newcomer.session = self._node.admit(
            session.environment,
            session.encoder,
            session.outbound,
            msgspec.structs.replace(traits, asked_at=perf_counter()),
        )

    def _count(self, payload: bytes) -> None:
        """Counts a message that the node does not receive, as the node does."""
        self._counters.data_rcvd_total += len(payload)
        self._counters.client_msg_total += 1

    def _refuse(self, session: Session, why: str) -> None:
        self._counters.failed_client_msg_total += 1
        refused = session.encoder.observers.refused
        if refused is not None:
            refused(session.environment, why)

    def receive_pong(self, session: Newcomer) -> None:
        """The client has answered a ping of its transport."""
        if session.traits is None:
            self._node.receive_pong(session.session)

    def leave(self, session: Newcomer, how: str = "") -> None:
        """The transport is closed or lost."""
        if session.traits is None:
            self._node.leave(session.session, how)
            return
        self._deadlines.forget(session)
        session.session.closed = True
        self._counters.open_connections_num -= 1
