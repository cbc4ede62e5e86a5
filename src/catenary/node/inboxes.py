"""Executes the commands of each client in order: while one is executed, later ones wait in the session's inbox.

A session whose commands end at once has no inbox. ``start`` starts a command and returns the work that must end before
the next one starts, or None. ``resolve`` receives a decision that the application reports by a callback.
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
"""Commands of one client that may wait; with more, its socket is not read."""

COMMANDS_AT_ONCE: Final = 64
"""Waiting commands of one client that are started in one turn of the event loop."""

Step = TypeVar("Step")


class PendingDecision(Generic[Step]):
    """A decision about a step that the application reports by a callback, which needs no task."""

    __slots__ = ("answer", "step")

    def __init__(self, step: Step, answer: Pending[Decision]) -> None:
        self.step = step
        self.answer = answer


class Inboxes(Generic[Step]):
    """The inboxes of one node; one for each session that waits."""

    __slots__ = ("_counters", "_hold", "_limited", "_resolve", "_start")

    def __init__(
        self,
        start: Callable[[Session, Command], Awaitable[None] | PendingDecision[Step] | None],
        resolve: Callable[[Session, Step, Decision | Exception], Awaitable[None] | None],
        hold: Callable[["asyncio.Task[None]"], None],
        counters: Counters,
    ) -> None:
        """``hold`` keeps a task from being collected while it runs."""
        self._start = start
        self._resolve = resolve
        self._hold = hold
        self._counters = counters
        self._limited = RateLimitedLogger(_log)

    def put(self, session: Session, inbox: Inbox, command: Command) -> None:
        """Queues a command. If too many wait, the socket of the client is not read."""
        waiting = inbox.commands
        if waiting is None:
            waiting = inbox.commands = deque()
        waiting.append(command)
        if len(waiting) >= INBOX_LIMIT and not inbox.is_full:
            inbox.is_full = True
            self._counters.held_clients_total += 1
            session.outbound.pause_reading()

    def put_first(self, session: Session, commands: Sequence[Command]) -> None:
        """Executes commands that belong to the one that has just been executed, before others of the client."""
        inbox = session.inbox
        if inbox is not None:
            if commands:
                inbox.commands = deque((*commands, *(inbox.commands or ())))
            return
        inbox = session.inbox = Inbox()
        inbox.commands = deque(commands)
        self._continue(session, inbox)

    def wait_for(self, session: Session, work: Awaitable[None] | PendingDecision[Step]) -> None:
        """Waits for the work of a command; commands that the client sends meanwhile wait in its inbox."""
        inbox = session.inbox = Inbox()
        self._wait_in(session, inbox, work)

    def close(self, session: Session) -> None:
        """The client left: cancels the work under way and drops the waiting commands."""
        if session.inbox is not None and session.inbox.work is not None:
            # Not immediately: a task that has not started yet would never await its coroutine.
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
        self._hold(task)

    async def _wait(self, session: Session, inbox: Inbox, work: Awaitable[None]) -> None:
        try:
            await work
        except BackendError as error:
            self._counters.failed_client_msg_total += 1
            self._limited.warning("A command could not be carried out: %s", error, sid=session.sid)
        except asyncio.CancelledError:
            # The client left; or only the work was cancelled, and the session continues with its next command.
            if is_cancelled():
                raise
            self._limited.exception("A command was cancelled unexpectedly", sid=session.sid)
        except Exception:  # noqa: BLE001
            # A fault of this server costs this command only: the session continues with its next one.
            self._limited.exception("A command failed unexpectedly", sid=session.sid)
        self._continue(session, inbox)

    def _decided(
        self, session: Session, inbox: Inbox, step: Step, outcome: Decision | Exception
    ) -> None:
        """The application has called back: continues within its call, without a task."""
        work = None
        try:
            work = self._resolve(session, step, outcome)
        except Exception:  # noqa: BLE001
            self._limited.exception("A command failed unexpectedly", sid=session.sid)
        if work is None:
            self._continue(session, inbox)
        else:
            self._wait_in(session, inbox, work)

    def _continue(self, session: Session, inbox: Inbox) -> None:
        """Starts the waiting commands in order, until one has to be waited for, or the client has used its share of this
        turn of the event loop."""
        left = COMMANDS_AT_ONCE
        while inbox.commands and not session.closed:
            if left == 0:
                inbox.work = asyncio.get_running_loop().call_soon(self._continue, session, inbox)
                return
            left -= 1
            command = inbox.commands.popleft()
            if inbox.is_full and not inbox.commands:
                inbox.is_full = False
                session.outbound.resume_reading()
            work = self._start(session, command)
            if work is not None:
                self._wait_in(session, inbox, work)
                return
        if session.inbox is inbox:
            session.inbox = None
