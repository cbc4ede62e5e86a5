"""The order of one client's commands: while one takes time, later ones wait in the session's inbox.

A session whose commands are done at once has no inbox. ``begin`` starts a command and returns what must end before
the next one starts, or None; a decision that the application brings goes to ``resolve``, by whichever way it comes.
Knows: sessions, their inboxes. Does not know: what a command does.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from catenary.errors import BackendError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.commands import Command
from catenary.messages.decisions import Decision
from catenary.metrics.counters import Counters
from catenary.node.inbox import Inbox
from catenary.node.session import Session
from catenary.ports import Pending
from catenary.supervision.service import is_cancelled

_log: Final = logging.getLogger("catenary.node")

INBOX_LIMIT: Final = 64
"""Commands of one client that may wait after a slow one before its socket is not read any more."""

COMMANDS_AT_ONCE: Final = 64
"""Commands of one client that are begun in one turn of the event loop after they have waited."""

Step = TypeVar("Step")


class PendingDecision(Generic[Step]):
    """A decision about a step that the application brings by calling back, which needs no task."""

    __slots__ = ("answer", "step")

    def __init__(self, step: Step, answer: Pending[Decision]) -> None:
        self.step = step
        self.answer = answer


class Inboxes(Generic[Step]):
    """The inboxes of one node; one for each session that waits."""

    __slots__ = ("_begin", "_counters", "_limited", "_own", "_resolve")

    def __init__(
        self,
        begin: Callable[[Session, Command], Awaitable[None] | PendingDecision[Step] | None],
        resolve: Callable[[Session, Step, Decision | Exception], Awaitable[None] | None],
        own: Callable[["asyncio.Task[None]"], None],
        counters: Counters,
    ) -> None:
        """``own`` keeps a task from being collected while it runs."""
        self._begin = begin
        self._resolve = resolve
        self._own = own
        self._counters = counters
        self._limited = RateLimitedLogger(_log)

    def put(self, session: Session, inbox: Inbox, command: Command) -> None:
        """Lets a command wait for those before it; where too many wait, the socket is not read."""
        waiting = inbox.commands
        if waiting is None:
            waiting = inbox.commands = deque()
        waiting.append(command)
        if len(waiting) >= INBOX_LIMIT and not inbox.is_full:
            inbox.is_full = True
            self._counters.held_clients_total += 1
            session.outbound.pause_reading()

    def put_first(self, session: Session, commands: Sequence[Command]) -> None:
        """Carries out what belongs to the command just done, before anything else that the client sent."""
        inbox = session.inbox
        if inbox is not None:
            if commands:
                inbox.commands = deque((*commands, *(inbox.commands or ())))
            return
        inbox = session.inbox = Inbox()
        inbox.commands = deque(commands)
        self._go_on(session, inbox)

    def wait_for(self, session: Session, work: Awaitable[None] | PendingDecision[Step]) -> None:
        """Something takes time: what the client sends meanwhile waits."""
        inbox = session.inbox = Inbox()
        self._wait_in(session, inbox, work)

    def close(self, session: Session) -> None:
        """The client left: cancels what it waits for, and drops its commands."""
        if session.inbox is not None and session.inbox.work is not None:
            # Not before a task has begun: what it waits for would never be awaited.
            asyncio.get_running_loop().call_soon(session.inbox.work.cancel)
        session.inbox = None

    def _wait_in(
        self, session: Session, inbox: Inbox, work: Awaitable[None] | PendingDecision[Step]
    ) -> None:
        if isinstance(work, PendingDecision):
            answer = inbox.work = work.answer
            answer.then(partial(self._decided, session, inbox, work.step))
            return
        task = asyncio.get_running_loop().create_task(self._wait(session, inbox, work))
        inbox.work = task
        self._own(task)

    async def _wait(self, session: Session, inbox: Inbox, work: Awaitable[None]) -> None:
        try:
            await work
        except BackendError as error:
            self._counters.failed_client_msg_total += 1
            self._limited.warning(
                "sid=%s A command could not be carried out: %s", session.sid, error
            )
        except asyncio.CancelledError:
            # The client left; or what was waited for was cancelled, which must not end its order either.
            if is_cancelled():
                raise
            self._limited.exception("sid=%s A command was broken off unexpectedly", session.sid)
        except Exception:  # noqa: BLE001
            # A fault of our own must cost this command, not the session's whole order.
            self._limited.exception("sid=%s A command failed unexpectedly", session.sid)
        self._go_on(session, inbox)

    def _decided(
        self, session: Session, inbox: Inbox, step: Step, outcome: Decision | Exception
    ) -> None:
        """The application has called back: goes on within its call, without a task."""
        work = None
        try:
            work = self._resolve(session, step, outcome)
        except Exception:  # noqa: BLE001
            self._limited.exception("sid=%s A command failed unexpectedly", session.sid)
        if work is None:
            self._go_on(session, inbox)
        else:
            self._wait_in(session, inbox, work)

    def _go_on(self, session: Session, inbox: Inbox) -> None:
        """Begins the commands that wait, in order, until one takes time, or the client has had its share of this
        turn of the event loop."""
        left = COMMANDS_AT_ONCE
        while inbox.commands and not session.closed:
            if left == 0:
                inbox.work = asyncio.get_running_loop().call_soon(self._go_on, session, inbox)
                return
            left -= 1
            command = inbox.commands.popleft()
            if inbox.is_full and not inbox.commands:
                inbox.is_full = False
                session.outbound.resume_reading()
            work = self._begin(session, command)
            if work is not None:
                self._wait_in(session, inbox, work)
                return
        if session.inbox is inbox:
            session.inbox = None
