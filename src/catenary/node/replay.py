"""From a history to what is live, with nothing missing and nothing twice.

A listener is set apart on its streams, so that what is published is kept for it; the history is
read and sent; then comes what was kept and stands behind it. Where nothing is on its way and the
history answers at once, all of that is one moment, and nothing need be kept. A history elsewhere
may be ahead of what is delivered here: until that has come, too, everything is kept.
Knows: the order. Does not know: where a history is.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Collection, Iterator
from typing import Final

from catenary.errors import BackendError, BackendRefused, LostPosition
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.commands import HistoryRequest
from catenary.messages.names import Stream
from catenary.messages.publications import Position
from catenary.messages.replies import HistoryRejected
from catenary.node.answers import Answers, Messages
from catenary.node.hub import Hub
from catenary.node.session import Subscription
from catenary.ports import History

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.node"))

PATIENCE_S: Final = 5
"""For what was read and has not come yet: a way that is broken for longer may bring it twice."""

AWAY_S: Final = 15.0
"""How long a history may be away before it is refused: a JetStream whose leader died takes 4 to 9 s
to elect another one."""

PAUSE_S: Final = 0.2
"""Until a history that is away is asked again."""


class Replayer:
    """Answers requests for history."""

    __slots__ = ("_answers", "_awaited", "_given_up", "_history", "_hub", "_overdue")

    def __init__(self, hub: Hub, history: History) -> None:
        self._hub = hub
        self._history = history
        self._answers = Answers()
        # Whose requests are awaited, for less than one tick and for longer
        self._awaited: dict[Subscription, None] = {}
        self._overdue: dict[Subscription, None] = {}
        # And whose requests are not awaited any more, until their turn comes
        self._given_up: OrderedDict[Subscription, None] = OrderedDict()

    def listen(self, subscription: Subscription, stream: Stream) -> None:
        """Adds a stream to a subscription whose request for history is the next thing to be done."""
        if self._history.is_immediate and self._hub.is_quiet(stream):
            self._hub.listen(subscription, stream)
        else:
            self._hub.listen_apart(subscription, stream)

    def await_request(self, subscription: Subscription, streams: tuple[Stream, ...]) -> None:
        """Adds streams to a subscription whose client will say soon what it has missed on them.

        What is published until then must come behind that. Who does not ask hears it all the same,
        a tick or two later.
        """
        for stream in streams:
            self._hub.listen_apart(subscription, stream)
        self._awaited[subscription] = None

    def tick(self) -> None:
        """To be called every second or so: who has not asked until now does not want to."""
        self._answers.forget()
        overdue, self._overdue, self._awaited = self._overdue, self._awaited, {}
        if overdue:
            self._given_up.update(overdue)
            self._hub.turns.run(self._give_up())

    def _give_up(self) -> Iterator[int]:
        """They have not asked: they hear live what was kept for them."""
        while self._given_up:
            subscription, _ = self._given_up.popitem(last=False)
            for stream in tuple(subscription.streams):
                self._hub.bring_back(subscription, stream, None)
            yield len(subscription.streams)

    def replay(self, subscription: Subscription, request: HistoryRequest) -> Awaitable[None] | None:
        """Sends what was missed on all streams of a subscription, or rejects; None once done.

        Never raises.
        """
        self._awaited.pop(subscription, None)
        self._overdue.pop(subscription, None)
        self._given_up.pop(subscription, None)
        if self._history.is_immediate and self._hub.is_quiet_for(subscription):
            return self._replay_at_once(subscription, request)
        # Now, not when the task begins: what is published meanwhile is in the history.
        streams = subscription.streams
        apart = {each: self._hub.set_apart(subscription, each) for each in streams}
        return self._replay_apart(subscription, request, apart)

    def _replay_at_once(
        self, subscription: Subscription, request: HistoryRequest
    ) -> Awaitable[None] | None:
        """Who is set apart because its request was awaited comes back in the same moment."""
        found: dict[Stream, Messages] = {}
        sent: Awaitable[None] | None = None
        try:
            for stream in subscription.streams:
                answer = self._ask(stream, request)
                assert isinstance(answer, tuple), "an immediate history answers with values"
                found[stream] = answer
        except LostPosition as error:
            _reject(subscription, error)
            found.clear()
        else:
            sent = self._answer(subscription, found.values())
        for stream in subscription.streams:
            behind = _reached(stream, found[stream], request) if found else None
            self._hub.bring_back(subscription, stream, behind)
        return sent

    async def _replay_apart(
        self,
        subscription: Subscription,
        request: HistoryRequest,
        apart: dict[Stream, Awaitable[None] | None],
    ) -> None:
        """The same while publishing goes on."""
        behind: dict[Stream, Position] = {}
        sent: Awaitable[None] | None = None
        try:
            found = {
                stream: await self._read(stream, request, done) for stream, done in apart.items()
            }
            sent = self._answer(subscription, found.values())
            for stream, messages in found.items():
                position = _reached(stream, messages, request)
                if position is not None:
                    behind[stream] = position
            with contextlib.suppress(TimeoutError):
                await self._until_heard(behind)
        except (LostPosition, BackendError) as error:
            _reject(subscription, error)
        finally:
            for stream in apart:
                self._hub.bring_back(subscription, stream, behind.get(stream))
        if sent is not None:
            await sent

    async def _until_heard(self, behind: dict[Stream, Position]) -> None:
        """What was in the history may still be on its way here. Raises TimeoutError."""
        heard = [self._hub.when_heard(stream, position) for stream, position in behind.items()]
        waits = [each for each in heard if each is not None]
        if not waits:
            return  # without a time limit, which costs 8 µs
        async with asyncio.timeout(PATIENCE_S):
            for wait in waits:
                await wait

    async def _read(
        self, stream: Stream, request: HistoryRequest, apart: Awaitable[None] | None
    ) -> Messages:
        """One stream's history, read when everything that is not in it will come live."""
        if apart is not None:
            await apart
        live = self._hub.when_live((stream,))
        if live is not None:
            await live
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + AWAY_S
        while True:
            answer = self._ask(stream, request)
            if isinstance(answer, tuple):
                return answer
            try:
                return await answer
            except BackendRefused:
                raise
            except BackendError:
                # What keeps it may be electing a leader, or starting anew.
                if clock() >= give_up_at:
                    raise
            await asyncio.sleep(PAUSE_S)

    def _ask(self, stream: Stream, request: HistoryRequest) -> Messages | Awaitable[Messages]:
        position = request.positions.get(stream)
        if position is not None:
            return self._history.after(stream, position)
        if request.since_s is not None:
            return self._history.since(stream, request.since_s)
        return ()

    def _answer(
        self, subscription: Subscription, found: Collection[Messages]
    ) -> Awaitable[None] | None:
        """None once the answer is sent. Whatever is written while it is on its way follows after it."""
        encoder = subscription.session.encoder
        answer = self._answers.answer(encoder, subscription.identifier, found)
        return self._hub.write_answer(subscription, answer)


def _reached(stream: Stream, messages: Messages, request: HistoryRequest) -> Position | None:
    """Up to where a client has what was on a stream, as far as that is known."""
    return messages[-1].position if messages else request.positions.get(stream)


def _reject(subscription: Subscription, error: Exception) -> None:
    session = subscription.session
    _limited.info("sid=%s No history for %s: %s", session.sid, subscription.identifier, error)
    session.send(HistoryRejected(subscription.identifier))
