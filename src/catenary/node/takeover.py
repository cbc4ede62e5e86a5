"""Finds a session for the client that resumes it, if several nodes share the cache.

The cache hands each session out once: of several nodes that ask, one resumes it. This node may know the session
itself: it left here and is not written yet, or its broken connection has not been noticed. Then what this node knows
is newer, but another node may have taken the session meanwhile. :data:`TAKEOVERS` says what each answer of the cache
means, given what this node knows.
Knows: the cache, what was written to it. Does not know: how a session is resumed.
"""

import asyncio
import enum
import logging
from collections.abc import Awaitable
from functools import partial
from typing import Final

from catenary.errors import BackendError, BackendRefused, NotCaughtUp
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Sid
from catenary.node.live_sessions import LiveSessions
from catenary.node.session_aliases import SessionAliases, alias_key
from catenary.node.session_writer import SessionWriter
from catenary.node.session_writes import CacheState
from catenary.node.snapshot import Snapshot, read, read_name
from catenary.ports import SessionCache

_log: Final = logging.getLogger("catenary.node")

PATIENCE_S: Final = 15.0
"""How long a session is looked for while the cache is away; then its client gets a new session."""

PAUSE_S: Final = 0.2
"""Before the cache is asked again."""


class CacheAnswer(enum.Enum):
    """The cache's answer to a request for a session."""

    FOUND = enum.auto()
    """It returns the session, and no other node gets it."""
    MISSING = enum.auto()
    """It does not have the session."""
    AWAY = enum.auto()
    """It can't be reached."""
    BEHIND = enum.auto()
    """This node has not received all remote disconnects (:class:`catenary.errors.NotCaughtUp`), and might resume a session
    that was disconnected."""


class TakeoverAction(enum.Enum):
    """The action of this node."""

    RESUME_FOUND = enum.auto()
    """Resumes the session as the cache had it."""
    RESUME_OWN = enum.auto()
    """Resumes the session as this node knows it, which is newer."""
    RESUME_OWN_UNCONFIRMED = enum.auto()
    """The same; the session is removed from the cache when that is back."""
    END_OWN = enum.auto()
    """Ends the session, which is removed from the cache when that is back."""
    LOOK_FOR_ALIAS = enum.auto()
    """There is no session under this sid: it may be the alias of another one."""
    GIVE_UP = enum.auto()
    """The client gets a new session."""


_OWN: Final = {
    CacheAnswer.FOUND: TakeoverAction.RESUME_OWN,
    CacheAnswer.MISSING: TakeoverAction.RESUME_OWN,
    CacheAnswer.AWAY: TakeoverAction.RESUME_OWN_UNCONFIRMED,
    CacheAnswer.BEHIND: TakeoverAction.END_OWN,
}
"""For a session that this node knows, and that the cache may not have."""

TAKEOVERS: Final[dict[CacheState | None, dict[CacheAnswer, TakeoverAction]]] = {
    # This node does not know the session.
    None: {
        CacheAnswer.FOUND: TakeoverAction.RESUME_FOUND,
        CacheAnswer.MISSING: TakeoverAction.LOOK_FOR_ALIAS,
        CacheAnswer.AWAY: TakeoverAction.GIVE_UP,
        CacheAnswer.BEHIND: TakeoverAction.GIVE_UP,
    },
    # It has sent the session to the cache, which has not confirmed that.
    CacheState.SENT: _OWN,
    # The cache has confirmed it: if it is missing now, another node has taken it.
    CacheState.KEPT: {**_OWN, CacheAnswer.MISSING: TakeoverAction.LOOK_FOR_ALIAS},
    # The cache has been away since, and may have lost it.
    CacheState.UNCERTAIN: _OWN,
}
"""The action by what this node knows (None: nothing) and by the cache's answer. A session that this node knows and
never sent to the cache is resumed without asking."""


class Takeover:
    """Finds sessions by their sids and aliases."""

    __slots__ = ("_aliases", "_limited", "_live", "_lookups", "_sessions", "_writer")

    def __init__(
        self,
        sessions: SessionCache,
        live: LiveSessions,
        aliases: SessionAliases,
        writer: SessionWriter,
    ) -> None:
        self._sessions = sessions
        self._live = live
        self._aliases = aliases
        self._writer = writer
        self._limited = RateLimitedLogger(_log)
        # Lookups under way, by the sid that is asked for
        self._lookups: dict[Sid, asyncio.Future[Snapshot | None]] = {}

    def find(self, sid: Sid) -> Snapshot | Awaitable[Snapshot | None]:
        """Takes a session out, to resume it; the awaitable returns None if there is none.

        A connection of this node that still looks open is closed. Never raises.
        """
        earlier = self._lookups.get(sid)
        found = self._find(sid) if earlier is None else self._find_after(sid, earlier)
        if isinstance(found, Snapshot):
            return found
        # In a task of its own: a session that the cache has handed out must not be lost when the client leaves.
        lookup = self._lookups[sid] = asyncio.ensure_future(found)
        lookup.add_done_callback(partial(self._looked_up, sid))
        return self._wait_for(sid, lookup)

    async def _wait_for(
        self, sid: Sid, lookup: "asyncio.Future[Snapshot | None]"
    ) -> Snapshot | None:
        try:
            return await asyncio.shield(lookup)
        except asyncio.CancelledError:
            # The client left. It may come back and ask for the session again.
            lookup.add_done_callback(partial(self._put_back, sid))
            raise

    def _put_back(self, sid: Sid, lookup: "asyncio.Future[Snapshot | None]") -> None:
        if not lookup.cancelled() and lookup.exception() is None:
            self.put_back(sid, lookup.result())

    def put_back(self, sid: Sid, snapshot: Snapshot | None) -> None:
        """Keeps a session again whose client left before it was resumed."""
        if snapshot is not None:
            self._writer.save(sid, snapshot)

    def _looked_up(self, sid: Sid, lookup: "asyncio.Future[Snapshot | None]") -> None:
        if self._lookups.get(sid) is lookup:
            del self._lookups[sid]

    async def _find_after(
        self, sid: Sid, earlier: "asyncio.Future[Snapshot | None]"
    ) -> Snapshot | None:
        """Waits for an earlier lookup of the same session: its client has given up, and asks again."""
        await asyncio.wait([earlier])
        found = self._find(sid)
        return found if isinstance(found, Snapshot) else await found

    def _find(self, sid: Sid) -> Snapshot | Awaitable[Snapshot | None]:
        named = self._aliases.take(sid) or self._writer.take_unwritten_alias(sid) or sid
        found = self._take(named)
        return found if isinstance(found, Snapshot) else self._find_or_follow_alias(sid, found)

    async def _find_or_follow_alias(
        self, sid: Sid, found: Awaitable[Snapshot | None] | None
    ) -> Snapshot | None:
        try:
            snapshot = None if found is None else await found
            return await self._follow_alias(sid) if snapshot is None else snapshot
        except BackendError as error:
            self._limited.warning("A session can't be looked for: %s", error)
            return None

    async def _follow_alias(self, alias: Sid) -> Snapshot | None:
        """Finds a session that left before its client received its new sid."""
        key = alias_key(alias)
        sid = read_name(await self._ask_patiently(key, self._sessions.take(key), BackendError))
        found = None if sid is None else self._take(sid)
        return found if found is None or isinstance(found, Snapshot) else await found

    def _take(self, sid: Sid) -> Snapshot | Awaitable[Snapshot | None] | None:
        if self._writer.is_ending(sid):
            return None
        own = self._live.take(sid)
        if own is not None:
            self._writer.forget_living(sid)
        else:
            own = self._writer.take_unwritten(sid)
        if own is not None:
            if not self._writer.may_be_cached(sid):
                return own
            self._writer.begin_take(sid)
        return self._take_over(sid, own, self._sessions.take(sid))

    async def _take_over(
        self, sid: Sid, own: Snapshot | None, asked: Awaitable[bytes | None] | bytes | None
    ) -> Snapshot | None:
        """Takes the action of :data:`TAKEOVERS`. Raises :class:`BackendError` if the client gets a new session."""
        # While the cache is away, this node goes on with what it knows, unless it may have missed a disconnect.
        worth_a_wait = BackendError if own is None else NotCaughtUp
        found, error = None, BackendError()
        try:
            found = await self._ask_patiently(sid, asked, worth_a_wait)
            answer = CacheAnswer.MISSING if found is None else CacheAnswer.FOUND
        except BackendError as caught:
            answer = CacheAnswer.BEHIND if isinstance(caught, NotCaughtUp) else CacheAnswer.AWAY
            error = caught
        state = None if own is None else self._writer.end_take(sid)
        match TAKEOVERS[state][answer]:
            case TakeoverAction.RESUME_FOUND:
                return read(found)
            case TakeoverAction.RESUME_OWN:
                return own
            case TakeoverAction.RESUME_OWN_UNCONFIRMED:
                self._limited.warning("A session can't be looked for: %s", error)
                self._writer.remove_when_reached(sid)
                return own
            case TakeoverAction.END_OWN:
                assert own is not None, "only a session that this node knows has a state"
                self._limited.warning("A session can't be looked for: %s", error)
                self._writer.end_when_reached(sid, own)
                return None
            case TakeoverAction.LOOK_FOR_ALIAS:
                return None
            case TakeoverAction.GIVE_UP:
                raise error

    async def _ask_patiently(
        self,
        sid: Sid,
        asked: Awaitable[bytes | None] | bytes | None,
        worth_a_wait: type[BackendError],
    ) -> bytes | None:
        """Awaits the cache's answer; asks again for a while after such an error: it may be electing a leader."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + PATIENCE_S
        while True:
            try:
                return await asked if isinstance(asked, Awaitable) else asked
            except BackendRefused:
                raise
            except worth_a_wait:
                if clock() >= give_up_at:
                    raise
            await asyncio.sleep(PAUSE_S)
            asked = self._sessions.take(sid)
