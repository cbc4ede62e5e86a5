"""Sessions whose connection is lost, and that may be resumed by another one.

A session that left is kept for a time. Whoever comes back with its id gets its identifiers, state
and subscriptions, and the application hears nothing of it. Who does not come back has ended when
that time is over: then, and only then, the application is told, so that it hears of one end.
Source: docs/reliable_streams.md (anycable), "Resumable sessions". Knows: snapshots, the hub.
Does not know: where snapshots are kept.
"""

import logging
from collections.abc import Awaitable
from typing import Final

import msgspec

from catenary.errors import BackendError
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.reasons import Reason
from catenary.messages.replies import Welcome
from catenary.node.disconnector import Disconnector, Ended
from catenary.node.hub import Hub
from catenary.node.replay import Replayer
from catenary.node.session import Session, Subscription
from catenary.ports import SessionCache

_log: Final = logging.getLogger("catenary.node")


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """One subscription."""

    streams: tuple[Stream, ...]
    whispers_to: Stream | None = None
    seen_on: Stream | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """All that is needed to go on with a session, or to tell of its end."""

    environment: Environment
    subscriptions: dict[Identifier, _Kept]
    disconnect_wanted: bool


_write: Final = msgspec.json.Encoder().encode
_read: Final = msgspec.json.Decoder(Snapshot).decode


class Resumption:
    """Keeps sessions that left, and gives them to those who come back."""

    __slots__ = ("_disconnector", "_hub", "_replayer", "_sessions")

    def __init__(
        self, sessions: SessionCache, hub: Hub, replayer: Replayer, disconnector: Disconnector
    ) -> None:
        self._sessions = sessions
        self._hub = hub
        self._replayer = replayer
        self._disconnector = disconnector

    def keep(self, session: Session) -> Awaitable[None] | None:
        """A session left, and may come back."""
        return self._sessions.save(session.sid, _write(_snapshot(session)))

    def find(self, sid: Sid) -> Snapshot | Awaitable[Snapshot | None] | None:
        """Takes out what is kept of a session; None where nothing is.

        A session whose connection was not found dead yet is taken as well: it is closed.
        """
        present = self._hub.session(sid)
        if present is not None and present.is_resumable and not present.closed:
            snapshot = _snapshot(present)
            present.is_resumable = present.disconnect_wanted = False
            present.close(Reason.RESUMED)
            return snapshot
        found = self._sessions.take(sid)
        if found is None or isinstance(found, bytes):
            return _read(found) if found is not None else None
        return self._find_later(found)

    async def _find_later(self, found: Awaitable[bytes | None]) -> Snapshot | None:
        try:
            snapshot = await found
        except BackendError as error:
            _log.warning("A session can't be resumed: %s", error)
            return None
        return None if snapshot is None else _read(snapshot)

    def resume(self, session: Session, snapshot: Snapshot) -> None:
        """Goes on with what was kept; the client learns which subscriptions it has."""
        environment = session.environment
        environment.identifiers = snapshot.environment.identifiers
        environment.cstate = snapshot.environment.cstate
        environment.istate = snapshot.environment.istate
        session.disconnect_wanted = snapshot.disconnect_wanted
        session.connected = True
        self._hub.add(session)
        for identifier, kept in snapshot.subscriptions.items():
            subscription = session.subscriptions[identifier] = Subscription(session, identifier)
            subscription.whispers_to = kept.whispers_to
            subscription.seen_on = kept.seen_on
            self._replayer.await_request(subscription, kept.streams)
        session.send(Welcome(session.sid, tuple(snapshot.subscriptions)))

    def expire(self) -> Awaitable[None] | None:
        """Tells the application of those who did not come back."""
        expired = self._sessions.expire()
        if isinstance(expired, tuple):
            self._end(expired)
            return None
        return self._end_later(expired)

    def give_up(self) -> None:
        """At the end of this node: tells of those who can't come back."""
        self._end(self._sessions.give_up())

    def _end(self, snapshots: tuple[bytes, ...]) -> None:
        for each in snapshots:
            snapshot = _read(each)
            if snapshot.disconnect_wanted:
                self._disconnector.enqueue(
                    Ended(snapshot.environment, tuple(snapshot.subscriptions))
                )

    async def _end_later(self, expired: Awaitable[tuple[bytes, ...]]) -> None:
        self._end(await expired)


def _snapshot(session: Session) -> Snapshot:
    return Snapshot(
        session.environment,
        {
            identifier: _Kept(each.streams, each.whispers_to, each.seen_on)
            for identifier, each in session.subscriptions.items()
        },
        session.disconnect_wanted,
    )
