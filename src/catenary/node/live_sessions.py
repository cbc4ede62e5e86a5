"""Snapshots of the sessions that are connected to this node, and the sessions that lost their connection to another.

A lost connection is often noticed late. Its client connects again before that, to this node or to another one, and
takes the session over from the connection that still looks open.
Knows: the hub. Does not know: where snapshots are kept.
"""

from catenary.broker.revocations import Revocations
from catenary.messages.names import Sid
from catenary.messages.reasons import Reason
from catenary.node.hub import Hub
from catenary.node.session import Session
from catenary.node.snapshot import Snapshot, snapshot_of


class LiveSessions:
    """The connected sessions of this node, as they can be kept and resumed."""

    __slots__ = ("_hub", "_revocations", "_taken_over")

    def __init__(self, hub: Hub, revocations: Revocations) -> None:
        self._hub = hub
        self._revocations = revocations
        # Until the transport notices that its connection is lost
        self._taken_over: set[Session] = set()

    def find(self, sid: Sid) -> Session | None:
        """The connected session with a sid."""
        return self._hub.sessions.find(sid)

    @property
    def newest_revocation(self) -> int:
        """The number of the newest remote disconnect that this node knows."""
        return self._revocations.newest

    def snapshot(self, session: Session) -> Snapshot:
        """The session as it is now. One that a remote disconnect is about to close counts as revoked."""
        is_closing = self._hub.sessions.is_closing(session)
        return snapshot_of(session, 0 if is_closing else self._revocations.newest)

    def take(self, sid: Sid) -> Snapshot | None:
        """Takes a session over from its connection, which is closed; None if none is connected."""
        session = self._hub.sessions.find(sid)
        if session is None or not session.is_resumable or session.closed:
            return None
        snapshot = self.snapshot(session)
        session.is_resumable = session.disconnect_wanted = False
        session.close(Reason.RESUMED)
        self._taken_over.add(session)
        return snapshot

    def forget_taken_over(self, session: Session) -> bool:
        """A session's connection is lost. True if the session had been taken over from it."""
        if session not in self._taken_over:
            return False
        self._taken_over.remove(session)
        return True
