"""Who is here: members come and go by their sessions, and everybody on the stream is told.

Source: docs/presence.md (anycable); presence commands of the extended Action Cable protocol.
Knows: subscriptions and their streams. Does not know: where members are kept.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from catenary.errors import BackendError, BackendRefused
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from catenary.messages.publications import Publication, Publishable
from catenary.messages.replies import PresenceState, PresenceUnknown
from catenary.node.session import Session, Subscription
from catenary.ports import Presence
from catenary.supervision.backoff import Backoff

_log: Final = logging.getLogger("catenary.node")
_limited: Final = RateLimitedLogger(_log)
_write: Final = msgspec.json.Encoder().encode

TOUCHED_AT_ONCE: Final = 1_000
"""Sessions that are touched in one turn of the loop: 1 ms."""

KIND: Final = "presence"
"""The ``type`` of what others hear of a change."""

Publish = Callable[[tuple[Publishable, ...]], Awaitable[None] | None]


class Presences:
    """Members of streams by way of subscriptions; changes go to ``publish``."""

    __slots__ = (
        "_expiring",
        "_is_refusal_logged",
        "_presence",
        "_present",
        "_publish",
        "_touching",
    )

    def __init__(self, presence: Presence, publish: Publish) -> None:
        self._presence = presence
        self._publish = publish
        self._is_refusal_logged = False
        # Of this node: on which streams, and as whom
        self._present: dict[Session, dict[Stream, Member]] = {}
        # What is tried again and again while an engine is away
        self._touching = Backoff()
        self._expiring = Backoff()

    def join(self, subscription: Subscription, member_id: str, info: str) -> Awaitable[None] | None:
        """Lets a client be seen; nothing happens where its subscription has no stream for that."""
        if subscription.presence_stream is None:
            self._log_refusal(subscription)
            return None
        session = subscription.session
        streams = self._present.setdefault(session, {})
        if (
            streams.setdefault(subscription.presence_stream, Member(member_id, info)).id
            == member_id
        ):
            streams[subscription.presence_stream] = Member(member_id, info)
        return self._announce(
            self._presence.join(subscription.presence_stream, session.sid, member_id, info)
        )

    def _log_refusal(self, subscription: Subscription) -> None:
        """Once: every client of a channel would cause the same line."""
        if not self._is_refusal_logged:
            self._is_refusal_logged = True
            _log.warning(
                "sid=%s Presence ignored on %.200s: none of its streams is for presence"
                " (--streams_presence; in a channel stream_from(…, presence=True))",
                subscription.session.sid,
                subscription.identifier,
            )

    def leave(self, subscription: Subscription) -> Awaitable[None] | None:
        """Lets a client be seen no longer."""
        session = subscription.session
        if subscription.presence_stream is None or session not in self._present:
            return None
        self._present[session].pop(subscription.presence_stream, None)
        return self._announce(self._presence.leave(subscription.presence_stream, session.sid))

    def gone(self, session: Session) -> Awaitable[None] | None:
        """A client's connection is lost: it stays a member for as long as it may come back."""
        if self._present.pop(session, None) is not None:
            return self._settled(self._presence.touch((session.sid,)))
        return None

    def tell(self, subscription: Subscription, *, with_records: bool) -> Awaitable[None] | None:
        """Answers who is there. None once that is sent."""
        if subscription.presence_stream is None:
            return _tell(subscription, (), with_records=with_records)
        found = self._presence.members(subscription.presence_stream)
        if isinstance(found, tuple):
            return _tell(subscription, found, with_records=with_records)
        return self._tell_later(subscription, found, with_records=with_records)

    async def _tell_later(
        self,
        subscription: Subscription,
        found: Awaitable[tuple[Member, ...]],
        *,
        with_records: bool,
    ) -> None:
        try:
            members = await found
        except BackendError as error:
            _limited.warning("sid=%s Presence unknown: %s", subscription.session.sid, error)
            subscription.session.send(PresenceUnknown(subscription.identifier))
            return
        sent = _tell(subscription, members, with_records=with_records)
        if sent is not None:
            await sent

    def touch(self) -> Awaitable[None] | None:
        """Who is connected is here: to be called a few times within the time that members have."""
        present = [each.sid for each in self._present]
        if len(present) > TOUCHED_AT_ONCE:
            return self._touch_all(present)
        return self._settled(self._presence.touch(present)) if present else None

    async def _touch_all(self, sids: list[Sid]) -> None:
        for start in range(0, len(sids), TOUCHED_AT_ONCE):
            touched = self._settled(self._presence.touch(sids[start : start + TOUCHED_AT_ONCE]))
            await (asyncio.sleep(0) if touched is None else touched)

    def _settled(self, touched: Awaitable[None] | None) -> Awaitable[None] | None:
        return None if touched is None else self._settle(touched)

    async def _settle(self, touched: Awaitable[None]) -> None:
        """A touch that fails is followed by others, and members last for several of them."""
        try:
            await touched
        except BackendError as error:
            if self._touching.failed().is_logged:
                _log.info("Members could not be kept up: %s", error)
        else:
            self._touching.works()

    def refresh(self) -> Awaitable[None] | None:
        """What keeps the members may have forgotten them: everybody who is here joins anew."""
        return self._rejoin() if self._present else None

    async def _rejoin(self) -> None:
        present = [(each, stream) for each, streams in self._present.items() for stream in streams]
        refused = 0
        try:
            for session, stream in present:
                member = self._present.get(session, {}).get(stream)
                if member is None:
                    continue
                try:
                    await self._join_anew(stream, session, member)
                except BackendRefused as error:
                    # This member alone: the next one may join.
                    refused += 1
                    reason = error
        except BackendError as error:
            _log.warning("Not all members could join again: %s", error)
        if refused:
            _log.warning("%d members were refused as they joined again: %s", refused, reason)

    async def _join_anew(self, stream: Stream, session: Session, member: Member) -> None:
        joined = self._presence.join(stream, session.sid, member.id, member.info)
        change = await joined if isinstance(joined, Awaitable) else joined
        sent = None if change is None else self._publish((_publication(change),))
        if sent is not None:
            await sent

    def expire(self) -> Awaitable[None] | None:
        """Lets leave whose time is over."""
        expired = self._presence.expire()
        if not isinstance(expired, tuple):
            return self._expire_later(expired)
        return self._expire_rest(self._tell_all(expired)) if expired else None

    async def _expire_rest(self, told: Awaitable[None] | None) -> None:
        """Some in each turn of the loop, until no more are over."""
        while True:
            await (asyncio.sleep(0) if told is None else told)
            again = self._presence.expire()
            expired = again if isinstance(again, tuple) else await again
            if not expired:
                return
            told = self._tell_all(expired)

    async def _expire_later(self, expired: Awaitable[tuple[PresenceChange, ...]]) -> None:
        try:
            told = self._tell_all(await expired)
        except BackendError as error:
            if self._expiring.failed().is_logged:
                _log.info("Expired members are announced later: %s", error)
        else:
            self._expiring.works()
            if told is not None:
                await told

    def _tell_all(self, changes: tuple[PresenceChange, ...]) -> Awaitable[None] | None:
        """One by one: as a batch, one that is refused would cost the others, too."""
        sent = [self._publish((_publication(change),)) for change in changes]
        waits = [each for each in sent if each is not None]
        return _try(waits) if waits else None

    def _announce(
        self, change: PresenceChange | Awaitable[PresenceChange | None] | None
    ) -> Awaitable[None] | None:
        if change is None:
            return None
        if isinstance(change, PresenceChange):
            return self._tell_all((change,))
        return self._announce_later(change)

    async def _announce_later(self, change: Awaitable[PresenceChange | None]) -> None:
        try:
            told = self._announce(await change)
        except BackendError as error:
            _limited.warning("A change of presence is lost: %s", error)
        else:
            if told is not None:
                await told


async def _try(waits: list[Awaitable[None]]) -> None:
    for each in waits:
        try:
            await each
        except BackendError as error:
            _limited.warning("A change of presence is lost: %s", error)


def _tell(
    subscription: Subscription, members: tuple[Member, ...], *, with_records: bool
) -> Awaitable[None] | None:
    session = subscription.session
    state = PresenceState(subscription.identifier, len(members), members if with_records else None)
    return session.send_slices(session.encoder.encode_slices(state))


def _publication(change: PresenceChange) -> Publication:
    """What everybody on the stream hears; it is not kept in the history.

    An update travels as a join: clients keep members by id, and know no third word.
    """
    event: dict[str, object] = {"type": "leave", "id": change.id}
    if change.kind != "leave":
        event = {"type": "join", "id": change.id, "info": msgspec.Raw(change.info.encode())}
    return Publication(change.stream, _write(event).decode(), kind=KIND, transient=True)
