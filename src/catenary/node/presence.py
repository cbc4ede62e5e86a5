"""Presence: clients become members of streams, and the other clients of a stream are notified.

Source: docs/presence.md (anycable); presence commands of the extended Action Cable protocol.
Knows: subscriptions and their presence streams. Does not know: where members are stored.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final

import msgspec

from catenary.broker.stream_rules import StreamRules
from catenary.errors import BackendError, BackendRefused
from catenary.logs.fields import fields
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.maybe_awaitable import settled, then
from catenary.messages.lenient_json import JSON_ERRORS
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from catenary.messages.publications import Publication, Publishable
from catenary.messages.replies import PresenceState, PresenceUnknown
from catenary.node.detached import Detached
from catenary.node.observers import ObserverGroup
from catenary.node.session import Session, Subscription
from catenary.ports import Presence
from catenary.supervision.backoff import Backoff

_log: Final = logging.getLogger("catenary.node")
_limited: Final = RateLimitedLogger(_log)
_write: Final = msgspec.json.Encoder().encode

TOUCHED_AT_ONCE: Final = 1_000
"""Sessions that are touched in one turn of the event loop: 1 ms."""

KIND: Final = "presence"
"""The ``type`` of the messages that report a change."""

Publish = Callable[[tuple[Publishable, ...]], Awaitable[None] | None]

FindDetached = Callable[[Subscription, Stream], Detached | None]
"""Returns the buffer of a listener for a stream; None if its messages are not buffered."""


class _Change(msgspec.Struct, gc=False):
    type: str
    id: str
    info: msgspec.Raw = msgspec.Raw()


_read_change: Final = msgspec.json.Decoder(_Change).decode


class Presences:
    """The members of this node. ``publish`` sends their changes to the other clients of a stream; ``observers`` are
    notified of them. ``rules`` may forbid members on a stream. ``detached`` finds changes that wait to be sent to a client."""

    __slots__ = (
        "_bound",
        "_detached",
        "_expiring",
        "_is_refusal_logged",
        "_members",
        "_observers",
        "_presence",
        "_publish",
        "_rules",
        "_touching",
    )

    def __init__(
        self,
        presence: Presence,
        publish: Publish,
        detached: FindDetached,
        observers: ObserverGroup | None = None,
        rules: StreamRules | None = None,
    ) -> None:
        self._rules = rules or StreamRules()
        self._presence = presence
        self._detached = detached
        self._observers = observers or ObserverGroup()
        self._publish = publish
        self._is_refusal_logged = False
        # The members of each session of this node, by stream
        self._members: dict[Session, dict[Stream, Member]] = {}
        # Those of them that are members only while they are connected
        self._bound: set[Session] = set()
        # Periodic calls that are repeated while the engine is away
        self._touching = Backoff()
        self._expiring = Backoff()

    # Commands of clients

    def join(
        self, subscription: Subscription, member_id: str, info: str, *, is_bound: bool = False
    ) -> Awaitable[None] | None:
        """Makes a client a member of its presence stream; ignored if its subscription has none. For ``is_bound`` see
        :class:`catenary.messages.commands.Join`."""
        stream = subscription.presence_stream
        if stream is None or self._rules.of(stream).presence is False:
            self._log_refusal(subscription)
            return None
        session = subscription.session
        members = self._members.setdefault(session, {})
        if members.setdefault(stream, Member(member_id, info)).id == member_id:
            members[stream] = Member(member_id, info)
        if is_bound:
            self._bound.add(session)
        return self._publish_change(
            self._presence.join(stream, session.sid, member_id, info), self._joined_alone(session)
        )

    def _joined_alone(self, session: Session) -> Sid | None:
        """The sid of a session that must not be notified that it has joined; None if it is notified like the others."""
        return session.sid if session in self._bound else None

    def _log_refusal(self, subscription: Subscription) -> None:
        """Logs once: every client of a channel would cause the same line."""
        if not self._is_refusal_logged:
            self._is_refusal_logged = True
            _log.warning(
                "Presence ignored on %.200s: none of its streams is for presence"
                " (--streams_presence; in a channel stream_from(…, presence=True); streams.rules)",
                subscription.identifier,
                extra=fields("ignored", sid=subscription.session.sid),
            )

    def leave(self, subscription: Subscription) -> Awaitable[None] | None:
        """Removes a client from the members of its presence stream."""
        session, stream = subscription.session, subscription.presence_stream
        if stream is None or session not in self._members:
            return None
        self._members[session].pop(stream, None)
        return self._publish_change(self._presence.leave(stream, session.sid))

    def send_state(
        self, subscription: Subscription, *, with_records: bool
    ) -> Awaitable[None] | None:
        """Sends a client the members of its presence stream, or only their number. None if they are sent."""
        stream = subscription.presence_stream
        if stream is None:
            return _send_state(subscription, (), with_records=with_records)

        def answer(members: tuple[Member, ...]) -> Awaitable[None] | None:
            waiting = self._detached(subscription, stream)
            if waiting is not None and with_records:
                waiting.replace(partial(_without_known_changes, members))
            return _send_state(subscription, members, with_records=with_records)

        sent = then(self._presence.members(stream), answer)
        return None if sent is None else _send_state_or_error(subscription, sent)

    # Sessions of this node

    def disconnected(self, session: Session) -> Awaitable[None] | None:
        """A client has lost its connection: it stays a member for its time to live, because it may come back. A bound one
        leaves at once."""
        members = self._members.pop(session, None)
        if members is None:
            return None
        if session in self._bound:
            self._bound.remove(session)
            return _await_those(
                [self._publish_change(self._presence.leave(each, session.sid)) for each in members]
            )
        return self._touch((session.sid,))

    def touch(self) -> Awaitable[None] | None:
        """Extends the time to live of connected members. To be called several times within it."""
        sids = [each.sid for each in self._members]
        if len(sids) > TOUCHED_AT_ONCE:
            return self._touch_in_turns(sids)
        return self._touch(sids) if sids else None

    async def _touch_in_turns(self, sids: list[Sid]) -> None:
        for start in range(0, len(sids), TOUCHED_AT_ONCE):
            touched = self._touch(sids[start : start + TOUCHED_AT_ONCE])
            await (asyncio.sleep(0) if touched is None else touched)

    def _touch(self, sids: Collection[Sid]) -> Awaitable[None] | None:
        touched = self._presence.touch(sids)
        return None if touched is None else self._await_touched(touched)

    async def _await_touched(self, touched: Awaitable[None]) -> None:
        """A failure is only logged: others follow, and the time to live is that of several touches."""
        try:
            await touched
        except BackendError as error:
            if self._touching.failed().is_logged:
                _log.info("Presence could not be refreshed, will retry: %s", error)
        else:
            self._touching.works()

    def restore(self) -> Awaitable[None] | None:
        """The engine may have lost its data: the members of this node join again.

        After a loss, all of them are announced again, although they never left, because a client that has read the members
        since then does not know them. For a client that knows them, nothing changes.
        """
        return self._join_all_again() if self._members else None

    async def _join_all_again(self) -> None:
        joined = [(each, stream) for each, streams in self._members.items() for stream in streams]
        refused = 0
        try:
            for session, stream in joined:
                member = self._members.get(session, {}).get(stream)
                if member is None:
                    continue
                try:
                    await self._join_again(stream, session, member)
                except BackendRefused as error:
                    # This member alone: the next one may join.
                    refused += 1
                    reason = error
        except BackendError as error:
            _log.warning("Not all members could join again: %s", error)
        if refused:
            _log.warning("%d members were refused as they joined again: %s", refused, reason)

    async def _join_again(self, stream: Stream, session: Session, member: Member) -> None:
        joined = self._presence.join(stream, session.sid, member.id, member.info)
        sent = self._send_change(await settled(joined), self._joined_alone(session))
        if sent is not None:
            await sent

    # Members of any node

    def expire(self) -> Awaitable[None] | None:
        """Removes the members whose time to live has passed, and reports that they left."""
        expired = self._presence.expire()
        if not isinstance(expired, tuple):
            return self._publish_expired(expired)
        return self._publish_rest(self._publish_changes(expired)) if expired else None

    async def _publish_rest(self, sent: Awaitable[None] | None) -> None:
        """Publishes some in each turn of the event loop, until none is left."""
        while True:
            await (asyncio.sleep(0) if sent is None else sent)
            changes = await settled(self._presence.expire())
            if not changes:
                return
            sent = self._publish_changes(changes)

    async def _publish_expired(self, expired: Awaitable[tuple[PresenceChange, ...]]) -> None:
        try:
            changes = await expired
        except BackendError as error:
            if self._expiring.failed().is_logged:
                _log.info("Presence expiry failed, will retry: %s", error)
            return
        self._expiring.works()
        sent = self._publish_changes(changes)
        if sent is not None:
            await sent

    # Changes

    def _publish_changes(self, changes: tuple[PresenceChange, ...]) -> Awaitable[None] | None:
        """Publishes one by one: in a batch, one that is refused would cost the others, too."""
        return _await_those([self._publish_change(each) for each in changes])

    def _publish_change(
        self,
        change: PresenceChange | Awaitable[PresenceChange | None] | None,
        joined_alone: Sid | None = None,
    ) -> Awaitable[None] | None:
        """None if a change is published, or there is none; the awaitable does not raise errors of the engine."""
        sent = then(change, partial(self._send_change, joined_alone=joined_alone))
        return None if sent is None else _await_or_log(sent)

    def _send_change(
        self, change: PresenceChange | None, joined_alone: Sid | None = None
    ) -> Awaitable[None] | None:
        """Publishes a change, except to ``joined_alone``. With it, new info of a member is not published: its protocol has no
        event for that."""
        if change is None or (joined_alone is not None and change.kind == "update"):
            return None
        if self._observers.presence_changed is not None:
            self._observers.presence_changed(change)
        return self._publish((_publication(change, joined_alone),))


def _await_those(sent: list[Awaitable[None] | None]) -> Awaitable[None] | None:
    pending = [each for each in sent if each is not None]
    return _await_all(pending) if pending else None


async def _await_all(pending: list[Awaitable[None]]) -> None:
    for each in pending:
        await each


async def _await_or_log(sent: Awaitable[None]) -> None:
    try:
        await sent
    except BackendError as error:
        _limited.warning("Presence change was not published: %s", error)


def _send_state(
    subscription: Subscription, members: tuple[Member, ...], *, with_records: bool
) -> Awaitable[None] | None:
    session = subscription.session
    state = PresenceState(subscription.identifier, len(members), members if with_records else None)
    session.report_transmitted(state)
    return session.send_slices(session.encoder.encode_slices(state))


async def _send_state_or_error(subscription: Subscription, sent: Awaitable[None]) -> None:
    try:
        await sent
    except BackendError as error:
        _limited.warning("Presence unknown: %s", error, sid=subscription.session.sid)
        subscription.session.send(PresenceUnknown(subscription.identifier))


def _without_known_changes(
    members: tuple[Member, ...], waiting: list[Publication]
) -> list[Publication]:
    """The waiting messages, without those about changes that are already contained in ``members``."""
    known = {each.id: each.info.encode() for each in members}
    return [each for each in waiting if each.kind != KIND or _is_news(known, each)]


def _is_news(known: dict[str, bytes], publication: Publication) -> bool:
    """Whether a message changes ``known``, which it updates. True for a message of this kind that is not a presence change:
    an application may publish any text."""
    try:
        change = _read_change(publication.data)
    except JSON_ERRORS:
        return True
    if change.type == "leave":
        return known.pop(change.id, None) is not None
    info = bytes(change.info)
    if known.get(change.id) == info:
        return False
    known[change.id] = info
    return True


def _publication(change: PresenceChange, excluded: Sid | None = None) -> Publication:
    """The message about a change; it is not kept in the history.

    An update is sent as a join: clients keep members by id, and know no third event.
    """
    event: dict[str, object] = {"type": "leave", "id": change.id}
    if change.kind != "leave":
        event = {"type": "join", "id": change.id, "info": msgspec.Raw(change.info.encode())}
    text = _write(event).decode()
    return Publication(change.stream, text, excluded, kind=KIND, transient=True)
