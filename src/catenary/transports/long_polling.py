"""One session of long polling: it lives between the requests (polls) that fetch its messages.

A poll brings commands and waits for messages; they are collected for a moment and sent as its response. Between two polls
messages are queued, up to a limit. A response that was not delivered is sent again with the next one.
Source: docs/long_polling.md (anycable). Knows: sessions, polls. Does not know: how requests and responses are written.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import msgspec

from catenary.edge.admission import Admitted
from catenary.edge.deadlines import Deadlines
from catenary.edge.refusals import unavailable
from catenary.messages.commands import Checkpoint
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoders
from catenary.node.node import Node
from catenary.node.session import Session
from catenary.node.turns import Turns
from catenary.ports import SLICE_BYTES, Goodbye
from catenary.protocols.long_polling import ACTION_CABLE_POLLS
from catenary.transports.http_responses import status_of
from catenary.transports.polls import Poll, PollResponse
from catenary.transports.sliced_writer import BYTES_PER_US, settle
from catenary.transports.sliced_writer import STEP_US as SLICE_US
from catenary.wire.json_lines import LINES, lines_of

STEP_US: Final = 10
"""Cost of carrying out a command, in the budget of a turn."""

RESPONSE_BYTES: Final = 262_144
"""A reply that is encoded in slices is divided between responses of about this size."""

_END_OF_COMMANDS: Final = b""


class PollLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``interval_s`` is how long a poll waits for messages, ``flush_interval_s`` how long they are collected then, and
    ``keepalive_timeout_s`` the lifetime of a session without a poll. ``max_request_bytes`` limits a body, and the commands
    of a session that wait; ``max_pending_bytes`` the messages that wait for its next poll."""

    interval_s: float
    flush_interval_s: float
    keepalive_timeout_s: float
    max_request_bytes: int
    max_pending_bytes: int


class PollSessionServices(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Shared by all sessions of one node. ``polls``, ``flushes`` and ``idle`` are the deadlines of polls, of messages that
    are collected, and of sessions without a poll. ``forget`` is called when a session ends."""

    node: Node
    encoders: Encoders
    turns: Turns
    counters: Counters
    limits: PollLimits
    polls: Deadlines
    flushes: Deadlines
    idle: Deadlines
    forget: Callable[["PollSession"], None]


class _SlicedReply:
    """A reply that is encoded when there is a poll for it; ``sent`` is done when its last slice is taken."""

    __slots__ = ("sent", "slices")

    def __init__(self, slices: Iterator[bytes], sent: "asyncio.Future[None]") -> None:
        self.slices = slices
        self.sent = sent

    def next(self) -> bytes | None:
        """The next slice; None after the last one."""
        try:
            for each in self.slices:
                return each
        except Exception as error:  # noqa: BLE001  (raised by the future)
            settle(self.sent, error)
        else:
            settle(self.sent)
        return None


class PollSession:
    """Satisfies :class:`catenary.ports.Outbound`, :class:`catenary.ports.Waiting` and
    :class:`catenary.transports.polls.PollHolder`."""

    __slots__ = (
        "_answered",
        "_commands",
        "_commands_bytes",
        "_goodbye",
        "_is_carrying_out",
        "_is_composing",
        "_is_counting",
        "_is_doubtful",
        "_is_flushing",
        "_is_opening",
        "_is_overflowing",
        "_is_reason_sent",
        "_number",
        "_pauses",
        "_pending",
        "_pending_bytes",
        "_poll",
        "_sent",
        "_services",
        "_session",
        "_slices",
        "poll_id",
        "write",
    )

    def __init__(self, services: PollSessionServices, poll_id: str, poll: Poll) -> None:
        self.poll_id = poll_id
        self._services = services
        self._session: Session | None = None
        self.write: Callable[[bytes], None] = self._queue
        # Messages for the next response, in order, and the number of sliced replies among them
        self._pending: deque[bytes | _SlicedReply] = deque()
        self._pending_bytes = 0
        self._slices = 0
        self._is_flushing = False
        self._is_composing = False
        self._is_overflowing = False
        # The last response, until it is known to be delivered
        self._number = 0
        self._sent = b""
        self._answered: Poll | None = None
        self._is_counting = False
        self._is_doubtful = False
        # The poll that waits; with ``_is_opening``, it is the one that opens the session
        self._poll: Poll | None = poll
        self._is_opening = True
        # Commands that wait for their turn, or until reading is resumed
        self._commands: deque[bytes] = deque()
        self._commands_bytes = 0
        self._is_carrying_out = False
        self._pauses = 0
        # The end
        self._goodbye: Goodbye | None = None
        self._is_reason_sent = False

    # Polls

    def open(self, admitted: Admitted, body: bytes) -> None:
        """Passes the client and the commands of its first request to the node."""
        services = self._services
        encoder = services.encoders.encoder(ACTION_CABLE_POLLS, LINES)
        services.polls.watch(self)
        self._session = services.node.admit(admitted.environment, encoder, self, admitted.traits)
        self._take_commands(body)

    def poll(self, poll: Poll, received: int | None, body: bytes) -> None:
        """A request with the id of this session. ``received`` is the number of the last response that the client has
        received, None if it does not say. Raises :class:`catenary.errors.RequestRefused`."""
        services = self._services
        if self._commands_bytes + len(body) > services.limits.max_request_bytes:
            raise unavailable("too many commands wait for the application")
        earlier, self._poll = self._poll, poll
        if earlier is not None:
            earlier.answer(PollResponse(204))
        services.idle.forget(self)
        services.polls.watch(self)
        if received is not None:
            self._is_counting = True
            if received == self._number:
                self._sent, self._answered = b"", None
            else:
                self._send_again()
        else:
            self._is_doubtful = self._may_be_lost
        if self._goodbye is not None:
            self._respond_soon()
            return
        if body:
            self._take_commands(body)
            return
        self._note_alive()
        self._respond_soon()

    @property
    def _may_be_lost(self) -> bool:
        """Whether the client may have closed the connection of the last response without receiving it."""
        return self._answered is not None and self._answered.is_unread()

    def _respond_soon(self) -> None:
        """Answers with the pending messages. If the last response may not have arrived, waits until that is known, at most
        for the flush interval: TCP may acknowledge late, or another node has to be asked."""
        if self._is_doubtful:
            self._flush_later()
        elif self._pending or self._is_opening or self._goodbye is not None:
            self._respond()

    @property
    def is_over(self) -> bool:
        """Whether the session has ended, and its last response, with the reason, has been delivered."""
        return self._is_reason_sent and not self._pending and not self._sent

    def arrived(self, poll: Poll) -> None:
        """Another node reports that the last response has arrived; it may still report before the next one that it is lost."""
        if poll == self._answered:
            self._end_doubt()

    def delivered(self, poll: Poll) -> None:
        """The last response was delivered. Of a client that sends the numbers of responses, its messages are kept until the
        client has confirmed the number: a proxy may have accepted the response."""
        if poll == self._answered:
            self._answered = None
            if not self._is_counting:
                self._sent = b""
            self._end_doubt()

    def _end_doubt(self) -> None:
        """The poll that waits need not wait for the fate of the last response any more."""
        if self._is_doubtful and self._poll is not None:
            self._is_doubtful = self._is_flushing = False
            self._services.flushes.forget(self)
            self._respond_soon()

    def lost(self, poll: Poll) -> None:
        """The client of a poll has gone, without its response."""
        if poll == self._poll:
            self._poll = None
            self._stop_waiting()
            self._is_flushing = False
            if self._is_opening:
                self.end()  # the client has no id to come back with
            else:
                self._services.idle.watch(self)
        elif poll == self._answered:
            self._send_again()

    def _stop_waiting(self) -> None:
        """No poll waits any more."""
        self._services.polls.forget(self)
        self._services.flushes.forget(self)

    def _send_again(self) -> None:
        """Puts the messages of the last response before the others."""
        sent, self._sent, self._answered = self._sent, b"", None
        if sent:
            self._pending.appendleft(sent)
            self._pending_bytes += len(sent)
            self._flush_later()

    # Commands

    def _take_commands(self, body: bytes) -> None:
        self._commands.extend(lines_of(body))
        self._commands.append(_END_OF_COMMANDS)
        self._commands_bytes += len(body)
        self._go_on()

    def _go_on(self) -> None:
        if self._commands and not self._pauses and not self._is_carrying_out:
            self._is_carrying_out = True
            self._services.turns.run(self._carry_out())

    def _carry_out(self) -> Iterator[int]:
        """One command in each step."""
        node, session = self._services.node, self._session
        assert session is not None
        while self._commands and not self._pauses:
            command = self._commands.popleft()
            if command:
                node.receive(session, command)
            else:
                node.execute(session, Checkpoint(self._carried_out))
            yield STEP_US
        if not self._commands:
            self._commands_bytes = 0
        self._is_carrying_out = False

    def _carried_out(self) -> None:
        """The application has decided about all commands of a poll: their replies are the response to it."""
        self._note_alive()
        if self._poll is not None:
            self._respond_soon()

    def _note_alive(self) -> None:
        """A poll counts as a pong: the client is alive, and its earlier commands have been executed."""
        if self._session is not None and not self._is_opening:
            self._services.node.receive_pong(self._session)

    def pause_reading(self) -> None:
        self._pauses += 1

    def resume_reading(self) -> None:
        self._pauses -= 1
        self._go_on()

    # Messages

    def _queue(self, batch: bytes) -> None:
        self._pending.append(batch)
        self._pending_bytes += len(batch)
        self._flush_later()
        if (
            self._pending_bytes > self._services.limits.max_pending_bytes
            and not self._is_overflowing
        ):
            self._is_overflowing = True
            # Not here: the caller may be in the middle of a delivery.
            asyncio.get_running_loop().call_soon(self._make_room)

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        if self.write is _discard:
            return None
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(_SlicedReply(slices, sent))
        self._slices += 1
        self._flush_later()
        return sent

    def tolerate_slowness(self) -> None:
        """Does nothing: messages wait for the next poll in any case."""

    @property
    def is_behind(self) -> bool:
        return self._slices > 0 or (self._poll is None and self._pending_bytes > SLICE_BYTES)

    def _flush_later(self) -> None:
        """Collects messages for a moment, if a poll waits for them."""
        if self._poll is not None and not self._is_flushing:
            self._is_flushing = True
            self._services.flushes.watch(self)

    def _make_room(self) -> None:
        """The queue is full: answers the poll, or closes the session if there is none."""
        self._is_overflowing = False
        limit = self._services.limits.max_pending_bytes
        if self._pending_bytes <= limit or self._session is None or self._goodbye is not None:
            return
        if self._poll is not None and not self._is_composing and self._session.connected:
            self._respond()
            return
        self._services.counters.long_poll_overflows_total += 1
        self._services.counters.disconnected_slow_clients_total += 1
        self._session.close(Reason.SLOW_CLIENT)

    # Responses

    def time_out(self) -> None:
        """A poll has waited for long enough, or its messages have; or no poll has come for too long."""
        self._is_flushing = False
        if self._poll is None:
            self.end()
        elif self._goodbye is not None or (self._session is not None and self._session.connected):
            self._respond()
        else:
            self._services.polls.watch(self)  # until the application has decided

    def _respond(self) -> None:
        """Answers the poll that waits with everything that is pending."""
        if self._is_doubtful:
            self._is_doubtful = False
            if self._may_be_lost:
                self._send_again()
        if self._slices == 0:
            messages = b"".join(each for each in self._pending if type(each) is bytes)
            self._pending.clear()
            self._pending_bytes = 0
            self._answer(messages)
        elif not self._is_composing:
            self._is_composing = True
            self._services.turns.run(self._compose())

    def _compose(self) -> Iterator[int]:
        """Encodes large replies, some in each turn of the event loop."""
        messages = bytearray()
        while self._pending and len(messages) < RESPONSE_BYTES:
            first = self._pending[0]
            if type(first) is bytes:
                self._pending.popleft()
                self._pending_bytes -= len(first)
                messages += first
                continue
            assert isinstance(first, _SlicedReply)
            piece = first.next()
            if piece is None:
                self._slices -= 1
                self._pending.popleft()
            else:
                messages += piece
                yield SLICE_US + len(piece) // BYTES_PER_US
        self._is_composing = False
        if self._poll is not None:
            self._answer(bytes(messages))
        elif messages:
            # The poll was lost meanwhile.
            self._pending.appendleft(bytes(messages))
            self._pending_bytes += len(messages)

    def _answer(self, messages: bytes) -> None:
        poll, services = self._poll, self._services
        assert poll is not None
        self._stop_waiting()
        self._is_flushing = False
        self._number += 1
        self._poll, self._answered, self._sent = None, poll, messages
        self._is_reason_sent = self._goodbye is not None and not self._pending
        status = self._status(messages)
        was_opening, self._is_opening = self._is_opening, False
        poll_id = self.poll_id if was_opening and status < 300 else ""
        if was_opening and not poll_id:
            self.end()
        else:
            services.idle.watch(self)
        poll.answer(PollResponse(status, messages, self._number, poll_id))

    def _status(self, messages: bytes) -> int:
        goodbye = self._goodbye
        if goodbye is None or not self._is_reason_sent:
            return 200 if messages or self._is_opening else 204
        was_admitted = not self._is_opening or self._session is None or self._session.connected
        return 401 if was_admitted else status_of(goodbye.reason)

    # The end

    def close(self, goodbye: Goodbye) -> None:
        """The client gets everything that was written so far, then 401."""
        if self._goodbye is None:
            self._goodbye = goodbye
            self.write = _discard
            asyncio.get_running_loop().call_soon(self._conclude)

    def _conclude(self) -> None:
        if self._poll is not None:
            self._respond_soon()
        self._leave()

    def shutdown(self) -> None:
        """The server stops."""
        if self._session is not None:
            self._session.close(Reason.SERVER_RESTART)

    def end(self) -> None:
        """Forgets the session: the client has not come back, or never got its id."""
        self.write = _discard
        self._services.forget(self)
        self._stop_waiting()
        self._services.idle.forget(self)
        self._leave()
        self._pending.clear()
        self._pending_bytes = 0

    def _leave(self) -> None:
        self._commands.clear()
        session, self._session = self._session, None  # breaks a reference cycle
        if session is None:
            return
        self._services.counters.long_poll_clients_num -= 1
        for each in self._pending:
            if isinstance(each, _SlicedReply):
                settle(each.sent)
        self._services.node.leave(session)


def _discard(batch: bytes) -> None:
    """Replaces ``write`` after the end of the session."""
