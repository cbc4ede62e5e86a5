"""The connected sessions of this node, by sid and by connection identifiers, and remote disconnects of them.

Knows: sessions, turns. Does not know: streams, how a session is resumed.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from catenary.messages.names import Sid
from catenary.messages.publications import RemoteDisconnect
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.session import Session
from catenary.node.turns import Turns

CLOSE_COST: Final = 10
"""Closing a session takes as long as this number of writes."""


SHARDS: Final = 256
"""Dicts of sessions: of 100,000 sessions, one has 400, which are sorted in 50 µs."""


def shard_of(sid: Sid) -> int:
    """The number of the shard of a session, for as long as this process lives."""
    return hash(sid) % SHARDS


class SessionTable:
    """Sessions that the application has accepted, until their connections are lost."""

    __slots__ = ("_by_identifiers", "_by_realm", "_closing", "_counters", "_shards", "_turns")

    def __init__(self, counters: Counters, turns: Turns) -> None:
        self._counters = counters
        self._turns = turns
        # By the hash of the sid, so that all sessions can be visited shard by shard
        self._shards: tuple[dict[Sid, Session], ...] = tuple({} for _ in range(SHARDS))
        # A set only if several sessions share the identifiers
        self._by_identifiers: dict[str, Session | set[Session]] = {}
        # How many, for each realm
        self._by_realm: dict[str, int] = {}
        # Remote disconnects under way: how many for each connection identifiers
        self._closing: dict[str, int] = {}

    @property
    def identifiers_num(self) -> int:
        """Number of different connection identifiers."""
        return len(self._by_identifiers)

    def number_in(self, realm: str) -> int:
        """Number of sessions of a realm."""
        return self._by_realm.get(realm, 0)

    def find(self, sid: Sid) -> Session | None:
        """The session with a sid; None if this node has none."""
        return self._shards[hash(sid) % SHARDS].get(sid)

    def with_identifiers(self, identifiers: str) -> Collection[Session]:
        """The sessions with these connection identifiers. Not to be iterated over while sessions come and go."""
        found = self._by_identifiers.get(identifiers)
        if found is None:
            return ()
        return found if isinstance(found, set) else (found,)

    def shard(self, number: int) -> Mapping[Sid, Session]:
        """The sessions of one of :data:`SHARDS` shards: those whose :func:`shard_of` is this number."""
        return self._shards[number]

    def add(self, session: Session) -> None:
        """Adds an accepted session."""
        self._shards[hash(session.sid) % SHARDS][session.sid] = session
        self._add_identifiers(session)
        realm = session.environment.realm
        if realm:
            self._by_realm[realm] = self._by_realm.get(realm, 0) + 1
        self._counters.clients_num += 1

    def _add_identifiers(self, session: Session) -> None:
        identifiers = session.environment.identifiers
        others = self._by_identifiers.get(identifiers)
        if others is None:
            self._by_identifiers[identifiers] = session
        elif isinstance(others, set):
            others.add(session)
        else:
            self._by_identifiers[identifiers] = {others, session}

    def identify(self, session: Session, identifiers: str) -> None:
        """Gives a connected session other connection identifiers."""
        self._remove_identifiers(session)
        session.environment.identifiers = identifiers
        self._add_identifiers(session)

    def remove(self, session: Session) -> None:
        """Removes a session whose connection is lost."""
        shard = self._shards[hash(session.sid) % SHARDS]
        if shard.get(session.sid) is session:
            del shard[session.sid]
        self._remove_identifiers(session)
        realm = session.environment.realm
        if realm:
            self._by_realm[realm] -= 1
        self._counters.clients_num -= 1

    def _remove_identifiers(self, session: Session) -> None:
        identifiers = session.environment.identifiers
        others = self._by_identifiers.get(identifiers)
        if isinstance(others, set):
            others.remove(session)
            if len(others) == 1:
                self._by_identifiers[identifiers] = others.pop()
        elif others is session:
            del self._by_identifiers[identifiers]

    def disconnect(self, command: RemoteDisconnect) -> None:
        """Closes every session that has the identifiers, not only the first; some in each turn of the event loop."""
        self._counters.remote_commands_total += 1
        found = self._by_identifiers.get(command.identifiers)
        if found is None:
            return
        sessions = list(found) if isinstance(found, set) else [found]
        self._closing[command.identifiers] = self._closing.get(command.identifiers, 0) + 1
        self._turns.run(self._close(sessions, command))

    def _close(self, sessions: list[Session], command: RemoteDisconnect) -> Iterator[int]:
        for session in sessions:
            session.close(Reason.REMOTE, reconnect=command.reconnect)
            yield CLOSE_COST
        left = self._closing.pop(command.identifiers) - 1
        if left:
            self._closing[command.identifiers] = left

    def is_closing(self, session: Session) -> bool:
        """Whether a remote disconnect is about to close a session."""
        return bool(self._closing) and session.environment.identifiers in self._closing
