"""Keeps and finds sessions on a node that does not share them with others: every result is a value.

A session is written once, when its client leaves. No other node is asked, and no answer can be lost.
Knows: the cache, snapshots. Does not know: how a session is resumed.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from catenary.errors import BackendError
from catenary.messages.names import Identifier, Sid
from catenary.node.disconnector import Ended
from catenary.node.live_sessions import LiveSessions
from catenary.node.session import Session
from catenary.node.session_aliases import SessionAliases, alias_key
from catenary.node.snapshot import Snapshot, read, read_name, write
from catenary.ports import SessionCache


class LocalResumption:
    """Takes the place of :class:`catenary.node.session_writer.SessionWriter` and
    :class:`catenary.node.takeover.Takeover`, which are for nodes that share a cache."""

    __slots__ = ("_aliases", "_live", "_report_end", "_sessions")

    waiting_num: Final = 0

    def __init__(
        self,
        sessions: SessionCache,
        live: LiveSessions,
        aliases: SessionAliases,
        report_end: Callable[[Ended | None], None],
    ) -> None:
        self._sessions = sessions
        self._live = live
        self._aliases = aliases
        self._report_end = report_end

    def save(self, sid: Sid, snapshot: Snapshot, alias: Sid | None = None) -> None:
        """Keeps the session of a client that left; it is found by its ``alias``, too, if it has one."""
        if alias is not None:
            self._sessions.save(alias_key(alias), write(sid))
        self._sessions.save(sid, write(snapshot))

    def remove(self, sid: Sid, ended: Ended | None) -> None:
        """Reports the end of a session; nothing of a living session is stored."""
        self._report_end(ended)

    def find(self, sid: Sid) -> Snapshot | None:
        """Takes a session out to resume it; a connection that still looks open is closed."""
        found = self._take(self._aliases.take(sid) or sid)
        if found is not None:
            return found
        # A session that left before its client received its new sid
        named = read_name(self._take_kept(alias_key(sid)))
        return None if named is None else self._take(named)

    def _take(self, sid: Sid) -> Snapshot | None:
        return self._live.take(sid) or read(self._take_kept(sid))

    def _take_kept(self, sid: Sid) -> bytes | None:
        kept = self._sessions.take(sid)
        assert kept is None or isinstance(kept, bytes), "a cache that is not shared has values"
        return kept

    def put_back(self, sid: Sid, snapshot: Snapshot | None) -> None:
        """Keeps a session again that was not resumed."""
        if snapshot is not None:
            self.save(sid, snapshot)

    def changed(self, session: Session, identifier: Identifier | None = None) -> None:
        """Does nothing: a living session is not stored."""

    def flush(self) -> Awaitable[None] | None:
        """Does nothing: no write waits."""
        return None

    def touch(self) -> Awaitable[None] | None:
        """Does nothing: a living session is not stored."""
        return None

    def write_all_again(self) -> None:
        """Does nothing: the cache is the memory of this process."""

    def note_outage(self, error: BackendError | None) -> None:
        """Does nothing: the cache can't be away."""

    def drop_all(self) -> None:
        """Does nothing: no write waits."""
