"""Sessions whose connection is lost, and that another connection of the same client may resume.

A session whose client left is kept for a time. A client that comes back with its sid gets its identifiers, state and
subscriptions, and the application is not notified. A session that no client resumes ends after that time: only
then is the application notified, so each session ends once.

Nodes that share a cache write a session while it lives, too, so that it survives its node
(``node/session_writer.py``), and agree on who resumes it by taking it out (``node/takeover.py``). A node that is alone
needs neither (``node/local_resumption.py``). A client that did not receive its new sid comes back with the previous
one (``node/session_aliases.py``).
Source: docs/reliable_streams.md (anycable), "Resumable sessions".
Knows: snapshots, the hub. Does not know: where snapshots are kept.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from catenary.auth.jwt import Verified
from catenary.errors import BackendError, BackendRefused
from catenary.maybe_awaitable import settled
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason
from catenary.messages.replies import Welcome
from catenary.metrics.counters import Counters
from catenary.node.disconnector import Disconnector, Ended
from catenary.node.hub import Hub
from catenary.node.live_sessions import LiveSessions
from catenary.node.local_resumption import LocalResumption
from catenary.node.replay import Replayer
from catenary.node.session import Session, Subscription
from catenary.node.session_aliases import SessionAliases
from catenary.node.session_writer import SessionWriter
from catenary.node.snapshot import Snapshot, read_all
from catenary.node.takeover import Takeover
from catenary.ports import SessionCache

_log: Final = logging.getLogger("catenary.node")


class ExpiryRules(msgspec.Struct, frozen=True):
    """Rules for sessions whose client's token has expired.

    ``now`` returns seconds since 1970. ``shows_token`` says whether the request of a client has a token: that one
    decides then, not the token with which the session began. ``renewed`` returns the claims of
    the token of a client if it is valid and has these identifiers; else None.
    """

    now: Callable[[], float] = time.time
    shows_token: Callable[[Environment], bool] = lambda _: False
    may_resume_expired: bool = False
    renewed: Callable[[Environment, str], Verified | None] = lambda _environment, _identifiers: None


class Resumption:
    """Keeps the sessions of clients that left, and resumes them for clients that come back."""

    __slots__ = (
        "_aliases",
        "_disconnector",
        "_expiry",
        "_expiry_trouble",
        "_hub",
        "_live",
        "_replayer",
        "_sessions",
        "_takeover",
        "_writer",
        "changed",
        "find",
        "flush",
        "is_shared",
        "put_back",
        "touch",
    )

    def __init__(
        self,
        sessions: SessionCache,
        hub: Hub,
        replayer: Replayer,
        disconnector: Disconnector,
        counters: Counters,
        *,
        expiry: ExpiryRules,
    ) -> None:
        self._sessions = sessions
        self._expiry = expiry
        self._hub = hub
        self._replayer = replayer
        self._disconnector = disconnector
        self._expiry_trouble = ""
        self._live = live = LiveSessions(hub, sessions.revocations)
        self._aliases = aliases = SessionAliases()
        self.is_shared = sessions.is_shared
        """Do other nodes see the sessions that are kept?"""
        self._writer: SessionWriter | LocalResumption
        self._takeover: Takeover | LocalResumption
        if sessions.is_shared:
            self._writer = SessionWriter(sessions, live, self._report_end, counters)
            self._takeover = Takeover(sessions, live, aliases, self._writer)
        else:
            self._writer = self._takeover = LocalResumption(
                sessions, live, aliases, self._report_end
            )
        self.changed: Callable[[Session, Identifier | None], None] = self._writer.changed
        """See :meth:`catenary.node.session_writer.SessionWriter.changed`."""
        self.flush: Callable[[], Awaitable[None] | None] = self._writer.flush
        """See :meth:`catenary.node.session_writer.SessionWriter.flush`."""
        self.touch: Callable[[], Awaitable[None] | None] = self._writer.touch
        """See :meth:`catenary.node.session_writer.SessionWriter.touch`."""
        self.find: Callable[[Sid], Snapshot | Awaitable[Snapshot | None] | None] = (
            self._takeover.find
        )
        """See :meth:`catenary.node.takeover.Takeover.find`; None if there is none."""
        self.put_back: Callable[[Sid, Snapshot | None], None] = self._takeover.put_back
        """See :meth:`catenary.node.takeover.Takeover.put_back`."""

    def keep(self, session: Session) -> Awaitable[None] | None:
        """Keeps a session that left and may come back."""
        snapshot = self._live.snapshot(session)
        return self._writer.save(session.sid, snapshot, self._aliases.release(session))

    def restore(self) -> None:
        """The cache may have lost its sessions: those that live are written again, with the next flush."""
        self._writer.write_all_again()

    # Coming back

    def why_over(self, snapshot: Snapshot) -> Reason | None:
        """Why a session that was found must not be resumed any more; None: it may be."""
        revocations = self._sessions.revocations
        if revocations.newest != snapshot.revision and revocations.is_revoked(
            snapshot.environment.identifiers, snapshot.revision
        ):
            return Reason.REMOTE
        expires_at = snapshot.expires_at
        if expires_at is None or self._expiry.may_resume_expired:
            return None
        return Reason.TOKEN_EXPIRED if expires_at <= self._expiry.now() else None

    def discard(self, snapshot: Snapshot) -> None:
        """Ends a session that was found and must not be resumed."""
        self._report_end(snapshot.ended)

    def resume(self, session: Session, previous_sid: Sid, snapshot: Snapshot) -> None:
        """Gives a new connection the session that was found, and sends the client its subscriptions."""
        self._aliases.add(session, previous_sid)
        environment = session.environment
        environment.identifiers = snapshot.environment.identifiers
        environment.cstate = snapshot.environment.cstate
        environment.istate = snapshot.environment.istate
        session.disconnect_wanted = snapshot.disconnect_wanted
        session.expires_at = snapshot.expires_at
        session.connected = True
        self._hub.sessions.add(session)
        for identifier, kept in snapshot.subscriptions.items():
            subscription = session.subscriptions[identifier] = Subscription(session, identifier)
            subscription.whisper_stream = kept.whisper_stream
            subscription.presence_stream = kept.presence_stream
            self._replayer.await_request(subscription, kept.streams)
        self.changed(session, None)
        session.send(Welcome(session.sid, tuple(snapshot.subscriptions)))

    # Ends

    @property
    def unwritten_num(self) -> int:
        """Number of sessions that have left and are not stored yet."""
        return self._writer.waiting_num

    def end(self, session: Session, ended: Ended) -> Awaitable[None] | None:
        """Ends a session that can't be resumed; does nothing if it was taken over from this connection."""
        self._aliases.release(session)
        if self._live.forget_taken_over(session):
            # The stored session belongs to the connection that took it over, or has put it back.
            return None
        return self._writer.remove(session.sid, ended if session.disconnect_wanted else None)

    def expire(self) -> Awaitable[None] | None:
        """Ends the sessions that no client has resumed in time."""
        self._aliases.prune()
        expired = self._sessions.expire()
        if not isinstance(expired, tuple):
            return self._end_expired(expired)
        self._end_all(expired)
        return self._end_rest() if expired else None

    async def _end_rest(self) -> None:
        """Ends some in each turn of the event loop, until none is left."""
        await asyncio.sleep(0)
        while expired := await settled(self._sessions.expire()):
            self._end_all(expired)
            await asyncio.sleep(0)

    async def _end_expired(self, expired: Awaitable[tuple[bytes, ...]]) -> None:
        try:
            self._end_all(await expired)
        except BackendRefused as error:
            # The cache is asked every second, so the same refusal is logged once.
            if self._expiry_trouble != str(error):
                self._expiry_trouble = str(error)
                _log.error("Session expiry failed: %s", error)
        except BackendError as error:
            self._writer.note_outage(error)
        else:
            self._expiry_trouble = ""

    def give_up(self) -> None:
        """When this node ends: ends the kept sessions that no client can resume any more."""
        self._end_all(self._sessions.give_up())

    def give_up_unsaved(self) -> None:
        """After that: gives up the writes that have not reached the cache until now."""
        self._writer.drop_all()

    def _end_all(self, kept: tuple[bytes, ...]) -> None:
        for each in read_all(kept):
            self._report_end(each.ended)

    def _report_end(self, ended: Ended | None) -> None:
        if ended is not None:
            self._disconnector.enqueue(ended)
