"""Writes sessions to a cache that all nodes share, after the work that changes them (write-behind).

A session is written while it lives, so that another node can resume it when this one has died, or when its client is
quick. It is sent to the cache before its client receives its sid; later changes of one turn of the event loop are one
write. A write waits for the answers to earlier writes of the same session only. A write that fails is repeated after a
pause; a newer one of the same session replaces it. For each sid, the writer remembers what it sent to the cache and
whether that was confirmed: ``node/takeover.py`` needs it to interpret a later answer.
Knows: snapshots, the cache. Does not know: who resumes a session.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Final

from catenary.errors import BackendError, BackendRefused
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.node.disconnector import Ended
from catenary.node.live_sessions import LiveSessions
from catenary.node.session import Session
from catenary.node.session_aliases import alias_key
from catenary.node.session_writes import (
    CacheState,
    FinalWrite,
    Remove,
    Save,
    SaveAlias,
    Sent,
    Write,
)
from catenary.node.snapshot import Snapshot
from catenary.node.snapshot import write as encode
from catenary.node.snapshot_lines import SnapshotLines, written
from catenary.ports import SessionCache
from catenary.supervision.backoff import Backoff

_log: Final = logging.getLogger("catenary.node")

FIRST_PAUSE_S: Final = 0.1
"""Before the first repetition of writes that have all failed: a node may die before its next tick."""

LONGEST_PAUSE_S: Final = 1.0
"""The pause is doubled each time, up to this: the cache may answer late, and each attempt costs it something."""

PENDING_LIMIT: Final = 10_000
"""Writes of sessions that left and wait while the cache is away. Beyond, the oldest is dropped: its session has
ended, unless an earlier state of it was stored."""

TOUCHED_AT_ONCE: Final = 1_000
"""Sessions that are touched in one turn of the event loop: 1 ms."""

WRITTEN_AT_ONCE: Final = 500
"""Sessions whose writes are under way at the same time."""


class SessionWriter:
    """The writes of one node to a shared cache; at most one for each sid waits.

    ``report_end`` receives each session that has ended here and must be reported to the application.
    """

    __slots__ = (
        "_changed",
        "_counters",
        "_final",
        "_flushing",
        "_in_flight",
        "_is_away",
        "_is_due",
        "_limited",
        "_lines",
        "_live",
        "_report_end",
        "_retries",
        "_retry",
        "_sessions",
        "_started",
        "_states",
        "_taking",
        "_touching",
    )

    def __init__(
        self,
        sessions: SessionCache,
        live: LiveSessions,
        report_end: Callable[[Ended | None], None],
        counters: Counters,
    ) -> None:
        self._sessions = sessions
        self._live = live
        self._report_end = report_end
        self._counters = counters
        self._limited = RateLimitedLogger(_log)
        # Stored sessions
        self._states: dict[Sid, CacheState] = {}
        self._taking: dict[Sid, CacheState] = {}
        """Of sessions that were taken over here, while the cache is asked whether another node was quicker."""
        self._lines: dict[Sid, SnapshotLines] = {}
        """The lines of large living sessions there."""
        # Waiting writes
        self._changed: dict[Sid, Session] = {}
        # (A plain dict would look for its first key past all that were deleted.)
        self._final: OrderedDict[Sid, FinalWrite] = OrderedDict()
        # Writing
        self._is_due = False
        """Whether a batch is started at the end of this turn of the event loop."""
        self._started: Sent = {}
        """The part of that batch that was sent before."""
        self._in_flight: set[Sid] = set()
        """Sids whose writes have been sent and not answered: the next write of the same session waits for the answer."""
        self._flushing: set[asyncio.Future[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._retries = 0
        """Attempts in a row in which every write failed."""
        self._is_away = False
        self._touching = Backoff()

    # Queueing writes

    def changed(self, session: Session, identifier: Identifier | None = None) -> None:
        """A living session has changed: itself, or one of its subscriptions."""
        if not session.is_resumable or not session.connected:
            return
        if identifier is not None and (lines := self._lines.get(session.sid)) is not None:
            lines.note(identifier)
        if not self._is_due and self._retry is None:
            # Later changes of this turn of the loop are written with it.
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._start_batch)
        sid = session.sid
        if sid not in self._states and self._may_send(sid):
            # The client can connect to another node as soon as it has received this sid, which is sent after this.
            self._started[sid] = (session, self._send(sid, session))
        else:
            self._changed[sid] = session

    def _may_send(self, sid: Sid) -> bool:
        return (
            self._retry is None
            and len(self._in_flight) < WRITTEN_AT_ONCE
            and sid not in self._in_flight
        )

    def save(
        self, sid: Sid, snapshot: Snapshot, alias: Sid | None = None
    ) -> Awaitable[None] | None:
        """A session left and may be resumed, by its ``alias``, too, if it has one."""
        self._lines.pop(sid, None)
        if alias is not None:
            self._queue(alias_key(alias), SaveAlias(sid))
        self._queue(sid, Save(snapshot))
        return None if self._retry is not None else self._start_batch()

    @property
    def waiting_num(self) -> int:
        """Number of last writes of sessions that have left, at most :data:`PENDING_LIMIT`."""
        return len(self._final)

    def remove(self, sid: Sid, ended: Ended | None) -> Awaitable[None] | None:
        """A session has ended; it is reported once the cache says that no other node has taken it."""
        self._lines.pop(sid, None)
        if sid not in self._states:
            self._changed.pop(sid, None)
            self._report_end(ended)
            return None
        self._queue(sid, Remove(ended))
        return None if self._retry is not None else self._start_batch()

    def _queue(self, sid: Sid, write: FinalWrite) -> None:
        self._changed.pop(sid, None)
        self._final[sid] = write
        if len(self._final) > PENDING_LIMIT:
            self._drop(next(iter(self._final)))

    def _drop(self, sid: Sid) -> None:
        """Drops a write. A session that may be stored in an earlier state ends when its time to live there has passed."""
        write = self._final.pop(sid)
        if self._states.pop(sid, CacheState.SENT) is not CacheState.SENT:
            return
        if isinstance(write, Save):
            self._report_end(write.snapshot.ended)
        elif isinstance(write, Remove):
            self._report_end(write.ended)

    def drop_all(self) -> None:
        """Drops all waiting writes, when this node ends."""
        for sid in list(self._final):
            self._drop(sid)

    # Writing

    def flush(self) -> Awaitable[None] | None:
        """Starts the waiting writes. The awaitable ends when all writes under way have ended."""
        self._start_batch()
        return self._await_flushed() if self._flushing else None

    async def _await_flushed(self) -> None:
        while self._flushing:
            await asyncio.wait(self._flushing)

    def _start_batch(self) -> "asyncio.Future[None] | None":
        self._is_due = False
        batch, self._started = self._started, {}
        batch.update(self._send_next())
        if not batch:
            return None
        task = asyncio.ensure_future(self._finish_batches(batch))
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)
        return task

    async def _finish_batches(self, batch: Sent) -> None:
        """Awaits the answers to a batch, then sends the writes that waited for them, or for room."""
        while batch:
            try:
                failed = await self._await_answers(batch)
            finally:
                self._in_flight.difference_update(batch)
            for sid, write in failed.items():
                self._put_back(sid, write)
            if len(failed) == len(batch):
                self._schedule_retry()
                return
            self._retries = 0
            batch = self._send_next()

    def _schedule_retry(self) -> None:
        if self._retry is None:
            pause_s = min(FIRST_PAUSE_S * 2.0**self._retries, LONGEST_PAUSE_S)
            self._retries = min(self._retries + 1, 10)
            self._retry = asyncio.get_running_loop().call_later(pause_s, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self._start_batch()

    def _send_next(self) -> Sent:
        """Sends the waiting writes that may be sent now."""
        sent: Sent = {}
        if not self._final and not self._changed:
            return sent
        for sid in self._waiting(self._final):
            write = self._final.pop(sid)
            sent[sid] = (write, self._send(sid, write))
        while self._changed and (waiting := self._waiting(self._changed)):
            for sid in waiting:
                session = self._changed.pop(sid)
                if session.connected and not session.closed and session.is_resumable:
                    sent[sid] = (session, self._send(sid, session))
        return sent

    def _waiting(self, queue: Mapping[Sid, Write]) -> list[Sid]:
        """The first sids of a queue whose writes may be sent now, as many as there is room for."""
        room = WRITTEN_AT_ONCE - len(self._in_flight)
        return list(islice((sid for sid in queue if sid not in self._in_flight), room))

    def _put_back(self, sid: Sid, write: Write) -> None:
        if sid in self._final:
            # A newer one waits.
            return
        if isinstance(write, Session):
            # Which of its lines were stored is unknown: all are written again.
            self._lines.pop(sid, None)
            self._changed[sid] = write
        else:
            self._queue(sid, write)

    async def _await_answers(self, batch: Sent) -> dict[Sid, Write]:
        """Returns the writes that failed and may be repeated."""
        failed: dict[Sid, Write] = {}
        for sid, (write, answer) in batch.items():
            try:
                removed = await answer if isinstance(answer, Awaitable) else answer
            except BackendRefused as error:
                self._refused(sid, write, error)
            except BackendError as error:
                failed[sid] = write
                self.note_outage(error)
            else:
                self._done(sid, write, removed)
        if len(failed) < len(batch):
            self.note_outage(None)
        return failed

    def _send(self, sid: Sid, write: Write) -> Awaitable[bytes | None] | bytes | None:
        self._in_flight.add(sid)
        if isinstance(write, Remove):
            return self._sessions.remove(sid)
        is_new = self._states.setdefault(sid, CacheState.SENT) is not CacheState.KEPT
        if isinstance(write, Session):
            return self._send_living(sid, write, is_new=is_new)
        text = encode(write.sid) if isinstance(write, SaveAlias) else written(write.snapshot)[0]
        return self._sessions.save(sid, text, is_new=is_new)

    def _send_living(self, sid: Sid, session: Session, *, is_new: bool) -> Awaitable[None] | None:
        """Sends the whole session, or of a large one that is stored the changed lines."""
        lines = self._lines.get(sid)
        if lines is not None and not is_new:
            changed = lines.changed(session, self._live.newest_revocation)
            return self._sessions.amend(sid, changed) if changed else None
        text, lines = written(self._live.snapshot(session))
        if lines is None:
            self._lines.pop(sid, None)
        else:
            self._lines[sid] = lines
        return self._sessions.save(sid, text, is_new=is_new)

    def _done(self, sid: Sid, write: Write, removed: bytes | None) -> None:
        """A write has taken effect; ``removed`` is what a removal has found."""
        if isinstance(write, Session):
            for states in (self._states, self._taking):
                if sid in states:
                    states[sid] = CacheState.KEPT
            return
        state = self._states.pop(sid, CacheState.SENT)
        if not isinstance(write, Remove):
            return
        if removed is not None or state is not CacheState.KEPT:
            self._report_end(write.ended)
        elif write.living is not None:
            # Another node has taken it, and reports its end.
            write.living.disconnect_wanted = False

    def _refused(self, sid: Sid, write: Write, error: BackendRefused) -> None:
        """The cache will never keep a session as it is now: it can't be resumed, nor as it was before."""
        match write:
            case Session():
                write.is_resumable = False
                self._lines.pop(sid, None)
                self._log_refusal(sid, error)
                self._queue(sid, Remove(None, write))
            case Save(snapshot):
                self._log_refusal(sid, error)
                self._queue(sid, Remove(snapshot.ended))
            case Remove(ended):
                self._states.pop(sid, None)
                self._report_end(ended)
            case SaveAlias():
                self._states.pop(sid, None)

    def _log_refusal(self, sid: Sid, error: BackendRefused) -> None:
        self._counters.refused_sessions_total += 1
        self._limited.log(
            logging.WARNING, "The session can't be stored, nor resumed: %s", error, sid=sid
        )

    def note_outage(self, error: BackendError | None) -> None:
        """The cache can't be reached, or (None) can be again."""
        if error is not None and not self._is_away:
            _log.warning("Sessions can't be stored, will retry: %s", error)
            self._doubt_all()
        elif error is None and self._is_away:
            _log.warning("Sessions are stored again")
        self._is_away = error is not None

    def _doubt_all(self) -> None:
        """The cache may have lost its sessions, or may have handed one out in an answer that was lost."""
        for sid, state in self._states.items():
            if state is CacheState.KEPT:
                self._states[sid] = CacheState.UNCERTAIN

    # Stored sessions

    def touch(self) -> Awaitable[None] | None:
        """Starts the time to live of this node's sessions again: to be called several times within it."""
        sids = tuple(self._states)
        if len(sids) > TOUCHED_AT_ONCE:
            return self._touch_all(sids)
        return self._touched(self._sessions.touch(sids)) if sids else None

    async def _touch_all(self, sids: tuple[Sid, ...]) -> None:
        for start in range(0, len(sids), TOUCHED_AT_ONCE):
            touched = self._touched(self._sessions.touch(sids[start : start + TOUCHED_AT_ONCE]))
            await (asyncio.sleep(0) if touched is None else touched)

    def _touched(self, touched: Awaitable[None] | None) -> Awaitable[None] | None:
        return None if touched is None else self._await_touched(touched)

    async def _await_touched(self, touched: Awaitable[None]) -> None:
        """A touch that fails is only logged: others follow before any session expires."""
        try:
            await touched
        except BackendError as error:
            if self._touching.failed().is_logged:
                _log.info("The time to live of sessions could not be extended: %s", error)
        else:
            self._touching.works()

    def write_all_again(self) -> None:
        """The cache was away, and may have lost everything: writes all living sessions again."""
        self._doubt_all()
        for sid in self._states:
            session = self._live.find(sid)
            if session is not None:
                self._changed[sid] = session

    # When a session is taken over (node/takeover.py)

    def is_ending(self, sid: Sid) -> bool:
        """Does the removal of a session wait to be written?"""
        return isinstance(self._final.get(sid), Remove)

    def may_be_cached(self, sid: Sid) -> bool:
        """Was the cache ever sent this session?"""
        return sid in self._states

    def forget_living(self, sid: Sid) -> None:
        """A session was taken from its connection: nothing more of it is written."""
        self._changed.pop(sid, None)
        self._lines.pop(sid, None)

    def take_unwritten(self, sid: Sid) -> Snapshot | None:
        """Takes back a session that left, and whose write still waits."""
        write = self._final.pop(sid, None)
        return write.snapshot if isinstance(write, Save) else None

    def take_unwritten_alias(self, alias: Sid) -> Sid | None:
        """Takes back an alias whose write still waits: the sid that it stands for."""
        if not self._final:
            return None  # without a key, which would be a new string
        key = alias_key(alias)
        write = self._final.get(key)
        if not isinstance(write, SaveAlias):
            return None
        del self._final[key]
        # It may be stored already. It leads to no session from now on.
        self._states.pop(key, None)
        return write.sid

    def begin_take(self, sid: Sid) -> None:
        """The cache is asked for a session that it may have; until :meth:`end_take`."""
        self._taking[sid] = self._states.pop(sid)

    def end_take(self, sid: Sid) -> CacheState:
        """The cache has answered, or failed. Returns what was known of the session by then."""
        return self._taking.pop(sid)

    def remove_when_reached(self, sid: Sid) -> None:
        """The cache could not be asked for a session: what it has of it is removed when it is back."""
        self._states[sid] = CacheState.UNCERTAIN
        self._queue(sid, Remove(None))

    def end_when_reached(self, sid: Sid, snapshot: Snapshot) -> None:
        """The same for a session that must not be resumed: its end is reported."""
        self.remove_when_reached(sid)
        self._report_end(snapshot.ended)
