"""Aliases of resumed sessions: the sids by which their clients may still ask for them.

A resumed session has a new sid, which its client receives in the welcome message. If the connection breaks before, the
client connects again and asks for the previous sid. So the session is found by both until the client sends something
(:attr:`catenary.node.session.Session.previous_sid`).
Knows: sids, sessions of this node. Does not know: where sessions are kept.
"""

from catenary.messages.names import Sid
from catenary.node.session import Session


class SessionAliases:
    """The connected sessions of this node that were resumed, by their previous sids."""

    __slots__ = ("_unconfirmed",)

    def __init__(self) -> None:
        # Sessions whose clients have sent something stay until they are released or pruned.
        self._unconfirmed: dict[Sid, Session] = {}

    def add(self, session: Session, previous_sid: Sid) -> None:
        """Adds the alias of a session that was resumed just now."""
        session.previous_sid = previous_sid
        self._unconfirmed[previous_sid] = session

    def release(self, session: Session) -> Sid | None:
        """Removes the alias of a session whose client leaves. Returns it if the client may still use it."""
        previous_sid = session.previous_sid
        if previous_sid is None or self._unconfirmed.get(previous_sid) is not session:
            return None
        del self._unconfirmed[previous_sid]
        return previous_sid

    def take(self, alias: Sid) -> Sid | None:
        """Removes an alias. Returns the sid of its session if the client may still use it."""
        session = self._unconfirmed.pop(alias, None)
        if session is None or session.previous_sid != alias:
            return None
        return session.sid

    def prune(self) -> None:
        """Removes the aliases that no client uses any more."""
        confirmed = [sid for sid, each in self._unconfirmed.items() if each.previous_sid != sid]
        for sid in confirmed:
            del self._unconfirmed[sid]


def alias_key(sid: Sid) -> Sid:
    """The key under which the cache keeps the new sid of a session whose client left before it sent something.

    Not under ``sid`` itself: another node may still have an open connection of that session.
    """
    return Sid(f"{sid}~")
