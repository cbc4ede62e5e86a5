"""Sessions whose connection is lost, and that may be resumed by another one.

A session that left is kept for a time. Whoever comes back with its id gets its identifiers, state
and subscriptions, and the application hears nothing of it. Who does not come back has ended when
that time is over: then, and only then, the application is told, so that it hears of one end.

A client that gave up before it was told how it is called now comes back with the name that it knows:
a session of which nothing was heard since it was resumed is found by both.

What only this node sees is kept when a session leaves. What other nodes see is kept while a session
lives, too, so that it can be resumed when its node died; there, whoever takes a session out is the
one who goes on with it or ends it, and nobody else.
Source: docs/reliable_streams.md (anycable), "Resumable sessions". Knows: snapshots, the hub.
Does not know: where snapshots are kept.
"""

import asyncio
import enum
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from typing import Final

import msgspec

from catenary.errors import BackendError, BackendRefused, NotCaughtUp
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason
from catenary.messages.replies import Welcome
from catenary.metrics.counters import Counters
from catenary.node.disconnector import Disconnector, Ended
from catenary.node.hub import Hub
from catenary.node.replay import Replayer
from catenary.node.session import Session, Subscription
from catenary.node.snapshot import Snapshot, read, read_all, read_name, snapshot_of, write
from catenary.node.snapshot_lines import SnapshotLines, written
from catenary.ports import SessionCache
from catenary.supervision.backoff import Backoff

_log: Final = logging.getLogger("catenary.node")

PATIENCE_S: Final = 15.0
"""How long a session is looked for while what keeps it is away; then its client begins anew."""

PAUSE_S: Final = 0.2

SAVED_AGAIN_S: Final = 0.1
"""Until what could not be kept is tried once more: a node may die before the next tick of its clock."""

LONGEST_PAUSE_S: Final = 1.0
"""The pause is doubled each time, up to this: what is away may answer, and each attempt costs it something."""

UNSAVED_LIMIT: Final = 10_000
"""Sessions that left and wait to be kept, or to be ended, while what keeps them is away; of those
beyond nothing more is kept, and they have ended unless something was kept before."""

TOUCHED_AT_ONCE: Final = 1_000
"""Sessions that are touched in one turn of the loop: 1 ms."""

SAVED_AT_ONCE: Final = 500
"""Sessions under way to what keeps them."""


class ExpiryRules(msgspec.Struct, frozen=True):
    """Whether a session is resumed after the token of its client has expired.

    ``now`` returns seconds since 1970. ``shows_token`` tells whether the request of a client carries a token:
    then that decides, and not the one with which the session began.
    """

    now: Callable[[], float] = time.time
    shows_token: Callable[[Environment], bool] = lambda _: False
    may_resume_expired: bool = False


class _Left(msgspec.Struct, frozen=True):
    """A session as it was when it left."""

    snapshot: Snapshot


class _Over(msgspec.Struct, frozen=True):
    """A session that nobody may resume; ``ended`` is what the application has to be told, if it has.

    ``lives_on`` is the session where it has not ended, and only can't be kept any more.
    """

    ended: Ended | None
    lives_on: Session | None = None


class _Renamed(msgspec.Struct, frozen=True):
    """A name of a session that is kept under another one."""

    sid: Sid


_Unsaved = Session | _Left | _Over | _Renamed


class _Known(enum.Enum):
    """What is known of a session that a shared cache was told of."""

    NOTHING = enum.auto()
    """It may be there: the answer is still to come, or was lost."""
    KEPT = enum.auto()
    """It is there, unless another node has taken it."""
    DOUBTFUL = enum.auto()
    """It was there, before the cache was away."""


class Resumption:
    """Keeps sessions, and gives them to those who come back."""

    __slots__ = (
        "_again",
        "_changed",
        "_counters",
        "_disconnector",
        "_expiry",
        "_expiry_trouble",
        "_hub",
        "_is_away",
        "_known",
        "_leaving",
        "_limited",
        "_lines",
        "_replayer",
        "_retries",
        "_saving",
        "_seeking",
        "_sessions",
        "_sought",
        "_taken_over",
        "_touching",
        "_unheard",
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
        self._counters = counters
        self._limited = RateLimitedLogger(_log)
        # Shared alone. Whom the cache was told of, and has not been told to be over
        self._known: dict[Sid, _Known] = {}
        # And who has been taken over here, while the cache is asked whether another node was quicker
        self._sought: dict[Sid, _Known] = {}
        # Who was taken over, until its own connection is lost
        self._taken_over: set[Session] = set()
        # Of large ones that live: how they are divided
        self._lines: dict[Sid, SnapshotLines] = {}
        # What it has to be told: of those who live, and of those who have left
        self._changed: dict[Sid, Session] = {}
        # (a plain dict looks for its first key past all those that were deleted)
        self._leaving: OrderedDict[Sid, _Left | _Over | _Renamed] = OrderedDict()
        self._saving: asyncio.Future[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._retries = 0
        """Attempts in a row of which nothing was kept."""
        # Whom somebody looks for, until that has come to an end
        self._seeking: dict[Sid, asyncio.Future[Snapshot | None]] = {}
        # Who was resumed and has said nothing since, by the name that its client knows
        self._unheard: dict[Sid, Session] = {}
        self._is_away = False
        self._expiry_trouble = ""
        self._touching = Backoff()

    @property
    def is_shared(self) -> bool:
        """Do other nodes see the sessions that are kept?"""
        return self._sessions.is_shared

    # Keeping

    def changed(self, session: Session, identifier: Identifier | None = None) -> None:
        """A session lives, and is another than before: itself, or one of its subscriptions."""
        if not self._sessions.is_shared or not session.is_resumable or not session.connected:
            return
        if identifier is not None and (lines := self._lines.get(session.sid)) is not None:
            lines.note(identifier)
        if not self._changed and self._saving is None and self._again is None:
            # What else changes in this turn of the loop travels with it.
            asyncio.get_running_loop().call_soon(self.save_changed)
        self._changed[session.sid] = session

    def keep(self, session: Session) -> Awaitable[None] | None:
        """A session left, and may come back."""
        snapshot = self._snapshot_of(session)
        formerly = self._forget_other_name(session)
        if not self._sessions.is_shared:
            if formerly is not None:
                self._sessions.save(_other(formerly), write(session.sid))
            return self._sessions.save(session.sid, write(snapshot))
        self._lines.pop(session.sid, None)
        if formerly is not None:
            self._put(_other(formerly), _Renamed(session.sid))
        self._put(session.sid, _Left(snapshot))
        return self._save_soon()

    def _snapshot_of(self, session: Session) -> Snapshot:
        """One that is about to be closed has not outlived the newest revocation."""
        is_closing = self._hub.is_closing(session)
        return snapshot_of(session, 0 if is_closing else self._sessions.revocations.newest)

    def _forget_other_name(self, session: Session) -> Sid | None:
        """Ends that a session of which nothing was heard has a second name; returns that."""
        formerly = session.formerly
        if formerly is None or self._unheard.get(formerly) is not session:
            return None
        del self._unheard[formerly]
        return formerly

    def save_changed(self) -> Awaitable[None] | None:
        """Sends on what has changed, unless that is under way; what fails is tried again."""
        if self._saving is not None or not (self._leaving or self._changed):
            return self._saving
        self._saving = asyncio.ensure_future(self._save_all())
        return self._saving

    def _save_soon(self) -> Awaitable[None] | None:
        """At once, unless it has just failed: then what waits is tried again in a moment."""
        return None if self._again is not None else self.save_changed()

    def _put(self, sid: Sid, each: _Left | _Over | _Renamed) -> None:
        self._changed.pop(sid, None)
        self._leaving[sid] = each
        if len(self._leaving) > UNSAVED_LIMIT:
            oldest = next(iter(self._leaving))
            self._give_up_one(oldest, self._leaving[oldest])

    async def _save_all(self) -> None:
        try:
            while batch := self._batch():
                failed = await self._save(batch)
                for sid, each in failed.items():
                    self._put_again(sid, each)
                if len(failed) == len(batch):
                    self._save_again()
                    return
                self._retries = 0
        finally:
            self._saving = None

    def _save_again(self) -> None:
        if self._again is None:
            pause_s = min(SAVED_AGAIN_S * 2.0**self._retries, LONGEST_PAUSE_S)
            self._retries = min(self._retries + 1, 10)
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(pause_s, self._is_time_to_save)

    def _is_time_to_save(self) -> None:
        self._again = None
        self.save_changed()

    def _batch(self) -> dict[Sid, _Unsaved]:
        """Takes out those whose turn it is."""
        batch: dict[Sid, _Unsaved] = {}
        for sid in list(islice(self._leaving, SAVED_AT_ONCE)):
            batch[sid] = self._leaving.pop(sid)
        while self._changed and not batch:
            for sid in list(islice(self._changed, SAVED_AT_ONCE)):
                session = self._changed.pop(sid)
                if session.connected and not session.closed and session.is_resumable:
                    batch[sid] = session
        return batch

    def _put_again(self, sid: Sid, each: _Unsaved) -> None:
        """It could not be told."""
        if isinstance(each, Session):
            # Which of its lines were kept is not known: all are written again.
            self._lines.pop(sid, None)
            self._changed[sid] = each
        else:
            self._put(sid, each)

    async def _save(self, batch: dict[Sid, _Unsaved]) -> dict[Sid, _Unsaved]:
        """Tells the cache; returns those of whom it could not be told."""
        told = {sid: self._tell(sid, each) for sid, each in batch.items()}
        failed: dict[Sid, _Unsaved] = {}
        for sid, each in batch.items():
            answer = told[sid]
            try:
                taken = await answer if isinstance(answer, Awaitable) else answer
            except BackendRefused as error:
                self._give_up_keeping(sid, each, error)
            except BackendError as error:
                failed[sid] = each
                self._note_trouble(error)
            else:
                self._told(sid, each, taken)
        if len(failed) < len(batch):
            self._note_trouble(None)
        return failed

    def _tell(self, sid: Sid, each: _Unsaved) -> Awaitable[bytes | None] | bytes | None:
        if isinstance(each, _Over):
            return self._sessions.remove(sid)
        is_new = self._known.setdefault(sid, _Known.NOTHING) is not _Known.KEPT
        if isinstance(each, Session):
            return self._save_living(sid, each, is_new=is_new)
        text = write(each.sid) if isinstance(each, _Renamed) else written(each.snapshot)[0]
        return self._sessions.save(sid, text, is_new=is_new)

    def _save_living(self, sid: Sid, session: Session, *, is_new: bool) -> Awaitable[None] | None:
        """The whole session, or of a large one that is kept the lines that have changed."""
        lines = self._lines.get(sid)
        if lines is not None and not is_new:
            changed = lines.changed(session, self._sessions.revocations.newest)
            return self._sessions.amend(sid, changed) if changed else None
        text, lines = written(self._snapshot_of(session))
        if lines is None:
            self._lines.pop(sid, None)
        else:
            self._lines[sid] = lines
        return self._sessions.save(sid, text, is_new=is_new)

    def _told(self, sid: Sid, each: _Unsaved, taken: bytes | None) -> None:
        if isinstance(each, Session):
            for book in (self._known, self._sought):
                if sid in book:
                    book[sid] = _Known.KEPT
            return
        known = self._known.pop(sid, _Known.NOTHING)
        if not isinstance(each, _Over):
            return
        if taken is not None or known is not _Known.KEPT:
            self._tell_of_end(each.ended)
        elif each.lives_on is not None:
            # Another node has taken it, and tells of its end.
            each.lives_on.disconnect_wanted = False

    def _give_up_keeping(self, sid: Sid, each: _Unsaved, error: BackendRefused) -> None:
        """It will never be kept as it is: it can't be resumed from now on, nor as it was before."""
        match each:
            case Session():
                each.is_resumable = False
                self._lines.pop(sid, None)
                self._note_refusal(sid, error)
                self._put(sid, _Over(None, each))
            case _Left(snapshot):
                self._note_refusal(sid, error)
                self._put(sid, _Over(_ended(snapshot)))
            case _Over(ended):
                self._known.pop(sid, None)
                self._tell_of_end(ended)
            case _Renamed():
                self._known.pop(sid, None)

    def _note_refusal(self, sid: Sid, error: BackendRefused) -> None:
        self._counters.refused_sessions_total += 1
        self._limited.log(
            logging.WARNING, "sid=%s The session can't be kept, nor resumed: %s", sid, error
        )

    def _note_trouble(self, error: BackendError | None) -> None:
        if error is not None and not self._is_away:
            _log.warning("Sessions can't be kept at the moment: %s", error)
            self._doubt()
        elif error is None and self._is_away:
            _log.warning("Sessions are kept again")
        self._is_away = error is not None

    def _doubt(self) -> None:
        """What keeps sessions may come back without them, or has taken one out and could not say."""
        for sid, known in self._known.items():
            if known is _Known.KEPT:
                self._known[sid] = _Known.DOUBTFUL

    def _give_up_one(self, sid: Sid, each: _Left | _Over | _Renamed) -> None:
        """It has ended, unless it is kept as it was before: then that will be found out in time."""
        del self._leaving[sid]
        if self._known.pop(sid, _Known.NOTHING) is not _Known.NOTHING:
            return
        if isinstance(each, _Left):
            self._end([each.snapshot])
        elif isinstance(each, _Over):
            self._tell_of_end(each.ended)

    def touch(self) -> Awaitable[None] | None:
        """Who lives can be resumed: to be called a few times within the time that sessions last."""
        sids = tuple(self._known)
        if len(sids) > TOUCHED_AT_ONCE:
            return self._touch_all(sids)
        return self._settled(self._sessions.touch(sids)) if sids else None

    async def _touch_all(self, sids: tuple[Sid, ...]) -> None:
        for start in range(0, len(sids), TOUCHED_AT_ONCE):
            touched = self._settled(self._sessions.touch(sids[start : start + TOUCHED_AT_ONCE]))
            await (asyncio.sleep(0) if touched is None else touched)

    def _settled(self, touched: Awaitable[None] | None) -> Awaitable[None] | None:
        return None if touched is None else self._settle(touched)

    async def _settle(self, touched: Awaitable[None]) -> None:
        """A touch that fails is followed by others, and sessions last for several of them."""
        try:
            await touched
        except BackendError as error:
            if self._touching.failed().is_logged:
                _log.info("Sessions could not be kept up: %s", error)
        else:
            self._touching.works()

    def refresh(self) -> None:
        """What keeps sessions may have forgotten them: those who live are kept anew."""
        self._doubt()
        for sid in self._known:
            session = self._hub.session(sid)
            if session is not None:
                self._changed[sid] = session

    # Coming back

    def find(self, sid: Sid) -> Snapshot | Awaitable[Snapshot | None] | None:
        """Takes out what is kept of a session; None where nothing is.

        A session whose connection was not found dead yet is taken as well: it is closed. Where
        another node may have taken it before, the cache is asked.
        """
        before = self._seeking.get(sid)
        found = self._find(sid) if before is None else self._find_behind(sid, before)
        if found is None or isinstance(found, Snapshot):  # quicker to tell than an Awaitable
            return found
        # It goes on whoever waits for it: what is taken must not be lost.
        seeking = self._seeking[sid] = asyncio.ensure_future(found)
        seeking.add_done_callback(partial(self._is_sought, sid))
        return self._wait_for(sid, seeking)

    async def _wait_for(
        self, sid: Sid, seeking: "asyncio.Future[Snapshot | None]"
    ) -> Snapshot | None:
        try:
            return await asyncio.shield(seeking)
        except asyncio.CancelledError:
            # Whoever asked has left: it may come back for it once more.
            seeking.add_done_callback(partial(self._put_back, sid))
            raise

    def _put_back(self, sid: Sid, seeking: "asyncio.Future[Snapshot | None]") -> None:
        if not seeking.cancelled() and seeking.exception() is None:
            self.give_back(sid, seeking.result())

    def _is_sought(self, sid: Sid, seeking: "asyncio.Future[Snapshot | None]") -> None:
        if self._seeking.get(sid) is seeking:
            del self._seeking[sid]

    async def _find_behind(
        self, sid: Sid, before: "asyncio.Future[Snapshot | None]"
    ) -> Snapshot | None:
        """The same where somebody looks for it already: its client has given up, and asks once more."""
        await asyncio.wait([before])
        found = self._find(sid)
        return await found if isinstance(found, Awaitable) else found

    def _find(self, sid: Sid) -> Snapshot | Awaitable[Snapshot | None] | None:
        name = self._take_other_name(sid)
        found = self._find_named(sid if name is None else name)
        if found is None:
            found = self._find_renamed(sid)
        if found is None or isinstance(found, Snapshot):
            return found
        return self._find_later(sid, found)

    async def _find_later(self, sid: Sid, finding: Awaitable[Snapshot | None]) -> Snapshot | None:
        try:
            found = await finding
            if found is None:
                renamed = self._find_renamed(sid)
                found = await renamed if isinstance(renamed, Awaitable) else renamed
        except BackendError as error:
            self._limited.warning("A session can't be looked for: %s", error)
            return None
        return found

    def _find_renamed(self, sid: Sid) -> Snapshot | Awaitable[Snapshot | None] | None:
        """One that left before anything was heard of it, by the name that it had before."""
        taken = self._sessions.take(_other(sid))
        if isinstance(taken, Awaitable):
            return self._find_renamed_later(sid, taken)
        name = read_name(taken)
        return None if name is None else self._find_named(name)

    async def _find_renamed_later(
        self, sid: Sid, taken: Awaitable[bytes | None]
    ) -> Snapshot | None:
        name = read_name(await self._take_patiently(_other(sid), taken, BackendError))
        found = None if name is None else self._find_named(name)
        return await found if isinstance(found, Awaitable) else found

    def _find_named(self, sid: Sid) -> Snapshot | Awaitable[Snapshot | None] | None:
        if isinstance(self._leaving.get(sid), _Over):
            return None
        own = self._take_own(sid)
        known = self._known.get(sid)
        if own is not None and known is None:
            return own
        taken = self._sessions.take(sid)
        if taken is None or isinstance(taken, bytes):  # quicker to tell than what an Awaitable is
            return read(taken)
        if own is None:
            return self._find_foreign(sid, taken)
        self._sought[sid] = self._known.pop(sid)
        return self._find_own(sid, own, taken)

    async def _find_foreign(self, sid: Sid, taken: Awaitable[bytes | None]) -> Snapshot | None:
        return read(await self._take_patiently(sid, taken, BackendError))

    async def _find_own(
        self, sid: Sid, own: Snapshot, taken: Awaitable[bytes | None]
    ) -> Snapshot | None:
        """``own`` is newer than what is found, if anything is.

        What is not there any more has been taken by another node, if it is known to have been there.
        While the cache is away this node goes on with what it knows itself, but not while it may
        have missed a remote disconnect.
        """
        try:
            found = await self._take_patiently(sid, taken, NotCaughtUp)
        except BackendError as error:
            self._limited.warning("A session can't be looked for: %s", error)
            # This node goes on with the session, or ends it: no other node may.
            del self._sought[sid]
            self._known[sid] = _Known.DOUBTFUL
            self._put(sid, _Over(None))
            if not isinstance(error, NotCaughtUp):
                return own
            self._end([own])
            return None
        known = self._sought.pop(sid)
        return None if found is None and known is _Known.KEPT else own

    async def _take_patiently(
        self, sid: Sid, taken: Awaitable[bytes | None], worth_a_wait: type[BackendError]
    ) -> bytes | None:
        """Tries again after such an error, for a while: what keeps sessions may be electing a leader, or restarting."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + PATIENCE_S
        while True:
            try:
                return await taken
            except BackendRefused:
                raise
            except worth_a_wait:
                if clock() >= give_up_at:
                    raise
            await asyncio.sleep(PAUSE_S)
            again = self._sessions.take(sid)
            if not isinstance(again, Awaitable):
                return again
            taken = again

    def _take_own(self, sid: Sid) -> Snapshot | None:
        """What this node itself knows of a session, which lives or has just left."""
        present = self._hub.session(sid)
        if present is not None and present.is_resumable and not present.closed:
            snapshot = self._snapshot_of(present)
            present.is_resumable = present.disconnect_wanted = False
            present.close(Reason.RESUMED)
            self._taken_over.add(present)
            self._changed.pop(sid, None)
            self._lines.pop(sid, None)
            return snapshot
        left = self._leaving.pop(sid, None)
        return left.snapshot if isinstance(left, _Left) else None

    def _take_other_name(self, sid: Sid) -> Sid | None:
        """How a session is called now whose client knows it by this name; it has that one alone then."""
        session = self._unheard.pop(sid, None)
        if session is not None and session.formerly == sid:
            return session.sid
        if not self._leaving:
            return None  # without a look, which writes a name
        left = self._leaving.get(_other(sid))
        if not isinstance(left, _Renamed):
            return None
        del self._leaving[_other(sid)]
        # Told or not: it leads to nobody from now on.
        self._known.pop(_other(sid), None)
        return left.sid

    def give_back(self, sid: Sid, snapshot: Snapshot | None) -> None:
        """Whoever asked for a session has left before it could go on with it."""
        if snapshot is not None:
            self._put(sid, _Left(snapshot))
            self._save_soon()

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
        self._end([snapshot])

    def resume(self, session: Session, formerly: Sid, snapshot: Snapshot) -> None:
        """Goes on with what was kept; the client learns which subscriptions it has."""
        session.formerly = formerly
        self._unheard[formerly] = session
        environment = session.environment
        environment.identifiers = snapshot.environment.identifiers
        environment.cstate = snapshot.environment.cstate
        environment.istate = snapshot.environment.istate
        session.disconnect_wanted = snapshot.disconnect_wanted
        session.expires_at = snapshot.expires_at
        session.connected = True
        self._hub.add(session)
        for identifier, kept in snapshot.subscriptions.items():
            subscription = session.subscriptions[identifier] = Subscription(session, identifier)
            subscription.whispers_to = kept.whispers_to
            subscription.seen_on = kept.seen_on
            self._replayer.await_request(subscription, kept.streams)
        self.changed(session)
        session.send(Welcome(session.sid, tuple(snapshot.subscriptions)))

    # Ends

    def end(self, session: Session, ended: Ended) -> Awaitable[None] | None:
        """A session left that can't come back, or that somebody has taken over already.

        What other nodes could resume ends when it is taken from them, unless one was quicker.
        """
        self._forget_other_name(session)
        if session in self._taken_over:
            # What is kept under its name is of whoever goes on with it, or has given it back.
            self._taken_over.remove(session)
            return None
        self._lines.pop(session.sid, None)
        wanted = ended if session.disconnect_wanted else None
        if session.sid not in self._known:
            self._changed.pop(session.sid, None)
            self._tell_of_end(wanted)
            return None
        self._put(session.sid, _Over(wanted))
        return self._save_soon()

    def expire(self) -> Awaitable[None] | None:
        """Tells the application of those who did not come back."""
        for name in [name for name, each in self._unheard.items() if each.formerly != name]:
            del self._unheard[name]
        expired = self._sessions.expire()
        if not isinstance(expired, tuple):
            return self._end_later(expired)
        self._end(read_all(expired))
        return self._end_rest() if expired else None

    async def _end_rest(self) -> None:
        """Some in each turn of the loop, until no more are over."""
        while True:
            await asyncio.sleep(0)
            again = self._sessions.expire()
            expired = again if isinstance(again, tuple) else await again
            if not expired:
                return
            self._end(read_all(expired))

    def give_up(self) -> None:
        """At the end of this node: tells of those who can't come back."""
        self._end(read_all(self._sessions.give_up()))

    def give_up_unsaved(self) -> None:
        """The same for those who could not be kept until now."""
        for sid, each in list(self._leaving.items()):
            self._give_up_one(sid, each)

    def _end(self, snapshots: list[Snapshot]) -> None:
        for each in snapshots:
            self._tell_of_end(_ended(each))

    def _tell_of_end(self, ended: Ended | None) -> None:
        if ended is not None:
            self._disconnector.enqueue(ended)

    async def _end_later(self, expired: Awaitable[tuple[bytes, ...]]) -> None:
        try:
            self._end(read_all(await expired))
        except BackendRefused as error:
            # Asked every second, whatever is answered: it is logged once.
            if self._expiry_trouble != str(error):
                self._expiry_trouble = str(error)
                _log.error("Sessions whose time is over can't be ended: %s", error)
        except BackendError as error:
            self._note_trouble(error)
        else:
            self._expiry_trouble = ""


def _ended(snapshot: Snapshot) -> Ended | None:
    """What the application has to be told of the end of a session, if it has."""
    if not snapshot.disconnect_wanted:
        return None
    return Ended(snapshot.environment, tuple(snapshot.subscriptions))


def _other(sid: Sid) -> Sid:
    """Where the new name of a session is kept that left before its client was heard.

    Not in place of the session: another node may still take itself for the one that has it.
    """
    return Sid(f"{sid}~")
