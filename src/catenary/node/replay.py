"""Replays a history to a client and continues with live messages: in order, none lost, none twice.

The listener is detached from live delivery on its streams, and messages are buffered for it. The history is read and sent,
then the buffered messages that follow it. If no message is on its way and the history answers at once, this is one step
without a buffer. A remote history may be ahead of live delivery: messages that were sent from it are dropped when they
arrive.

A restored session is detached until its client requests the history; ``node/late_requests.py`` decides when it is not
going to. A later request can't be answered in order: it is rejected if the client has missed messages.
Knows: the order of messages. Does not know: where a history is stored.
"""

import logging
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Final

from catenary.errors import BackendError, LostPosition
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.commands import HistoryRequest
from catenary.messages.names import Stream
from catenary.messages.publications import Position, is_later
from catenary.messages.replies import HistoryConfirmed, HistoryRejected
from catenary.node.answers import Answers, Messages
from catenary.node.detached import Detached
from catenary.node.hub import Hub
from catenary.node.late_requests import LateRequests
from catenary.node.observers import ObserverGroup
from catenary.node.patient_reads import read_patiently
from catenary.node.session import Session, Subscription
from catenary.ports import History

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.node"))

READS: Final = 5
"""How often a history is read if more is published meanwhile than can be buffered."""


EVERYTHING: Final = HistoryRequest(since_s=0)
"""Read if a client asks for messages since a moment, and that is later than the first buffered message."""


class Replayer:
    """Answers requests for history."""

    __slots__ = ("_answers", "_history", "_hub", "_late", "_observers")

    def __init__(self, hub: Hub, history: History, observers: ObserverGroup | None = None) -> None:
        self._hub = hub
        self._observers = observers or ObserverGroup()
        self._history = history
        self._answers = Answers()
        self._late = LateRequests(hub.turns, self._go_live)

    def listen(self, subscription: Subscription, stream: Stream) -> None:
        """Adds a stream to a subscription whose request for history is handled next."""
        if self._history.is_immediate and self._hub.is_quiet(stream):
            self._hub.listen(subscription, stream)
        else:
            self._hub.listen_detached(subscription, stream)

    def await_request(self, subscription: Subscription, streams: tuple[Stream, ...]) -> None:
        """Adds the streams of a restored subscription, whose client is expected to request the history.

        Messages that are published before are buffered and follow the history.
        """
        subscription.asked = "not yet"
        for stream in streams:
            self._hub.listen_detached(subscription, stream)
        self._late.add(subscription)

    def answered_ping(self, session: Session) -> None:
        """The client has answered a ping of the transport."""
        self._late.answered_ping(session)

    def tick(self) -> None:
        """To be called every second or so."""
        self._answers.forget()
        self._late.tick()

    def _go_live(self, subscription: Subscription) -> None:
        """The client does not request the history: sends the buffered messages, and then live ones.

        If the buffer has overflowed, the client receives a rejection, because messages are missing.
        """
        subscription.asked = "too late"
        streams = tuple(subscription.streams)
        if any(_has_gap(self._hub.detached(subscription, each)) for each in streams):
            _reject(subscription, LostPosition("more was published than is buffered"))
        for stream in streams:
            self._hub.reattach(subscription, stream, None)

    # Requests

    def replay(self, subscription: Subscription, request: HistoryRequest) -> Awaitable[None] | None:
        """Sends the missed messages of all streams of a subscription, or a rejection; None if that is done.

        Never raises.
        """
        asked, subscription.asked = subscription.asked, "in time"
        if asked == "not yet":
            self._late.discard(subscription)
        is_late = asked == "too late"
        if self._history.is_immediate and self._hub.is_quiet_for(subscription):
            return self._replay_at_once(subscription, request, is_late=is_late)
        # Now, not when the task starts: messages that are published before are in the history.
        detached = {each: self._hub.detach(subscription, each) for each in subscription.streams}
        return self._replay_detached(subscription, request, detached, is_late=is_late)

    def _replay_at_once(
        self, subscription: Subscription, request: HistoryRequest, *, is_late: bool
    ) -> Awaitable[None] | None:
        """Answers in one step; a listener that was detached because its request was expected is reattached."""
        found: dict[Stream, Messages] = {}
        sent: Awaitable[None] | None = None
        try:
            for stream in subscription.streams:
                found[stream] = self._ask_at_once(subscription, stream, request)
            if is_late:
                _check_nothing_missed(found)
        except LostPosition as error:
            _reject(subscription, error)
            found.clear()
        else:
            sent = self._answer(subscription, found)
        for stream in subscription.streams:
            reached = _reached(stream, found[stream], request) if found else None
            self._hub.reattach(subscription, stream, reached)
        return sent

    def _ask_at_once(
        self, subscription: Subscription, stream: Stream, request: HistoryRequest
    ) -> Messages:
        answer = self._ask(stream, request)
        assert isinstance(answer, tuple), "an immediate history answers with values"
        detached = self._hub.detached(subscription, stream)
        if (
            detached is None
            or (detached.first is None and not detached.has_lost)
            or _is_complete(detached, stream, request, answer)
        ):
            return answer
        answer = self._ask(stream, EVERYTHING)
        assert isinstance(answer, tuple), "an immediate history answers with values"
        return _from_first(detached, answer)

    async def _replay_detached(
        self,
        subscription: Subscription,
        request: HistoryRequest,
        pending: dict[Stream, Awaitable[None] | None],
        *,
        is_late: bool,
    ) -> None:
        """Answers while messages are published."""
        found: dict[Stream, Messages] = {}
        reached: dict[Stream, Position | None] = {}
        sent: Awaitable[None] | None = None
        try:
            for stream, detached in pending.items():
                found[stream] = await self._read_first(subscription, stream, request, detached)
            await self._read_again(subscription, request, found)
            if subscription.session.closed:
                return
            if is_late:
                _check_nothing_missed(found)
            sent = self._answer(subscription, found)
            reached = {each: _reached(each, found[each], request) for each in found}
        except (LostPosition, BackendError) as error:
            _reject(subscription, error)
        finally:
            for stream in pending:
                self._hub.reattach(subscription, stream, reached.get(stream))
        if sent is not None:
            await sent

    async def _read_first(
        self,
        subscription: Subscription,
        stream: Stream,
        request: HistoryRequest,
        detached: Awaitable[None] | None,
    ) -> Messages:
        """Reads the history of one stream, when all messages that are not in it will be buffered."""
        if detached is not None:
            await detached
        live = self._hub.when_live((stream,))
        if live is not None:
            await live
        return await self._read(subscription, stream, request)

    async def _read_again(
        self,
        subscription: Subscription,
        request: HistoryRequest,
        found: dict[Stream, Messages],
    ) -> None:
        """Reads the streams again whose buffers have overflowed meanwhile.

        Raises :class:`LostPosition` if they still overflow after several reads.
        """
        for _ in range(READS):
            overflowed = [each for each in found if self._has_overflowed(subscription, each)]
            if not overflowed:
                return
            for stream in overflowed:
                found[stream] = await self._read(subscription, stream, request)
        raise LostPosition("more is published than can be read meanwhile")

    def _has_overflowed(self, subscription: Subscription, stream: Stream) -> bool:
        detached = self._hub.detached(subscription, stream)
        return detached is not None and detached.has_overflowed

    async def _read(
        self, subscription: Subscription, stream: Stream, request: HistoryRequest
    ) -> Messages:
        """Reads a history that may be remote, and away for a while."""
        detached = self._hub.detached(subscription, stream)
        if detached is None:  # it does not listen any more
            return ()
        detached.begin_read()
        found = await self._ask_patiently(stream, request)
        if _is_complete(detached, stream, request, found):
            return found
        return _from_first(detached, await self._ask_patiently(stream, EVERYTHING))

    async def _ask_patiently(self, stream: Stream, request: HistoryRequest) -> Messages:
        return await read_patiently(partial(self._ask, stream, request))

    def _ask(self, stream: Stream, request: HistoryRequest) -> Messages | Awaitable[Messages]:
        position = request.positions.get(stream)
        if position is not None:
            return self._history.after(stream, position)
        if request.since_s is not None:
            newest = request.newest
            return self._history.since(stream, request.since_s, newest, newest=newest is not None)
        return ()

    def _answer(
        self, subscription: Subscription, found: Mapping[Stream, Messages]
    ) -> Awaitable[None] | None:
        """Sends the answer; None if it is sent. Messages that are written meanwhile follow it."""
        found_no_history = self._observers.found_no_history
        if found_no_history is not None:
            for stream, messages in found.items():
                if not messages:
                    found_no_history(subscription.session.environment, stream)
        encoder = subscription.session.encoder
        answer = self._answers.answer(encoder, subscription.identifier, found.values())
        is_empty = not any(found.values())
        subscription.session.report_transmitted(HistoryConfirmed(subscription.identifier, is_empty))
        return self._hub.write_answer(subscription, answer)


def _reached(stream: Stream, messages: Messages, request: HistoryRequest) -> Position | None:
    """The position up to which a client has all messages of a stream; None if unknown."""
    return messages[-1].position if messages else request.positions.get(stream)


def _is_complete(
    detached: Detached, stream: Stream, request: HistoryRequest, found: Messages
) -> bool:
    """Whether the buffered messages follow the found ones without a gap.

    They do if the client named a position. A moment may be later than the first of them, because clocks of clients differ.
    Raises :class:`LostPosition` if messages were dropped that are in no history.
    """
    if detached.has_lost:
        raise LostPosition("messages that are in no history were dropped")
    return stream in request.positions or detached.follows(found)


def _from_first(detached: Detached, found: Messages) -> Messages:
    """The found messages since the first buffered one. Raises :class:`LostPosition` if the history begins later."""
    if not detached.follows(found):
        raise LostPosition("the history does not reach back to when the client was restored")
    first = detached.first
    return tuple(each for each in found if each.position == first or is_later(each.position, first))


def _has_gap(detached: Detached | None) -> bool:
    return detached is not None and detached.has_gap


def _check_nothing_missed(found: dict[Stream, Messages]) -> None:
    """Raises :class:`LostPosition` if a late request has missed messages: later ones were sent before."""
    if any(found.values()):
        raise LostPosition("the client asked when later messages had been sent already")


def _reject(subscription: Subscription, error: Exception) -> None:
    session = subscription.session
    _limited.info(
        "No history",
        event="no_history",
        identifier=subscription.identifier,
        reason=str(error),
        sid=session.sid,
    )
    session.send(HistoryRejected(subscription.identifier))
