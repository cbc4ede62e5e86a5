"""All long-polling sessions of this node, by their ids, and the time limits that they share.

Knows: ids, time limits. Does not know: requests, messages.
"""

import os
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Final

from catenary.edge.admission import Admitted
from catenary.edge.deadlines import Deadlines
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoders
from catenary.node.node import Node
from catenary.node.turns import Turns
from catenary.protocols.long_polling import poll_id, session_expired
from catenary.transports.long_polling import PollLimits, PollSession, PollSessionServices
from catenary.transports.polls import Poll, PollResponse
from catenary.wire.json_lines import LINES

SECRET_BYTES: Final = 24
"""Random bytes of an id: a client that knows the id receives the messages of its session."""

FLUSHES_PER_INTERVAL: Final = 8
"""A response is late by at most this part of the flush interval."""

SHORTEST_SWEEP_S: Final = 0.01


class PollSessions:
    """The sessions of one node. ``name`` is the node's, for the ids; ``clock`` is monotonic, in seconds."""

    __slots__ = ("_name", "_services", "_sessions")

    def __init__(
        self,
        name: str,
        node: Node,
        *,
        encoders: Encoders,
        turns: Turns,
        counters: Counters,
        limits: PollLimits,
        clock: Callable[[], float],
    ) -> None:
        sweep_s = max(limits.flush_interval_s / FLUSHES_PER_INTERVAL, SHORTEST_SWEEP_S)
        self._name = name
        self._sessions: dict[str, PollSession] = {}
        self._services = PollSessionServices(
            node=node,
            encoders=encoders,
            turns=turns,
            counters=counters,
            limits=limits,
            polls=Deadlines(limits.interval_s, clock),
            flushes=Deadlines(limits.flush_interval_s, clock, sweep_s),
            idle=Deadlines(limits.keepalive_timeout_s, clock),
            forget=self._forget,
        )

    def open(self, admitted: Admitted, poll: Poll, body: bytes) -> PollSession:
        """Opens a session for the client that sent this poll."""
        secret = urlsafe_b64encode(os.urandom(SECRET_BYTES)).decode()
        session = PollSession(self._services, poll_id(self._name, secret), poll)
        self._sessions[session.poll_id] = session
        self._services.counters.long_poll_clients_num += 1
        session.open(admitted, body)
        return session

    def poll(
        self, poll_id: str, poll: Poll, received: int | None, body: bytes
    ) -> PollSession | None:
        """Passes a poll to its session; answers one that is stale, and returns None. Raises
        :class:`catenary.errors.RequestRefused`."""
        session = self._sessions.get(poll_id)
        if session is None or session.is_over:
            self.refuse_stale(poll)
            return None
        session.poll(poll, received, body)
        return session

    def refuse_stale(self, poll: Poll) -> None:
        """Answers the poll of a session that does not exist any more."""
        self._services.counters.long_poll_stale_requests_total += 1
        poll.answer(PollResponse(401, LINES.frame(session_expired())))

    def find(self, poll_id: str) -> PollSession | None:
        """The session with an id."""
        return self._sessions.get(poll_id)

    def _forget(self, session: PollSession) -> None:
        """A session has ended."""
        self._sessions.pop(session.poll_id, None)

    # The end

    async def close(self, timeout_s: float) -> None:
        """Ends all sessions: clients that poll get the reason at once."""
        for session in tuple(self._sessions.values()):
            session.shutdown()
