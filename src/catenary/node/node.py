"""THE HEART: what happens to a client, in the order of its life.

``admit`` → ``connect`` → ``receive`` → ``execute`` → ``apply`` → ``leave``; and ``publish``, for what
is not from a client. State changes in plain functions between two awaits, so there are no locks.
Knows: sessions, the hub, ports. Does not know: sockets, HTTP, what an application is made of.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final, Literal

import msgspec

from catenary.errors import AppError, CommandError, PublicationError
from catenary.messages.commands import (
    ClientPing,
    ClientPong,
    Command,
    Perform,
    Subscribe,
    Unsubscribe,
    Whisper,
)
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, parse
from catenary.messages.reasons import Reason
from catenary.messages.replies import Pong, Verbatim
from catenary.metrics.counters import Counters
from catenary.node.disconnector import Disconnector, Ended
from catenary.node.encoder import Encoder
from catenary.node.hub import Hub
from catenary.node.pinger import Heartbeat, Pinger
from catenary.node.session import Inbox, Session, Subscription
from catenary.ports import Application, Outbound, PubSub

_log: Final = logging.getLogger("catenary.node")

INBOX_LIMIT: Final = 64
"""Commands of one client that may wait behind a slow one before nothing more is read from it."""

WHISPER_STATE: Final = "$w"
"""Where an application puts the stream to whisper to: WHISPER_STREAM_STATE of common.go (anycable)."""


class _Connect(msgspec.Struct, frozen=True, gc=False):
    """The first thing that every session does, before its first command."""


_Step = _Connect | Subscribe | Unsubscribe | Perform


class Node:
    """One server's worth of clients. Complete when built; one thread, one loop."""

    __slots__ = (
        "_application",
        "_busy",
        "_counters",
        "_disconnect_mode",
        "_disconnector",
        "_hub",
        "_pinger",
        "_pubsub",
    )

    def __init__(
        self,
        application: Application,
        *,
        hub: Hub,
        pubsub: PubSub,
        pinger: Pinger,
        disconnector: Disconnector,
        disconnect_mode: Literal["auto", "always", "never"],
        counters: Counters,
    ) -> None:
        self._application = application
        self._hub = hub
        self._pubsub = pubsub
        self._pinger = pinger
        self._disconnector = disconnector
        self._disconnect_mode = disconnect_mode
        self._counters = counters
        self._busy: set[asyncio.Future[None]] = set()

    # A client's life

    def admit(
        self,
        environment: Environment,
        encoder: Encoder,
        outbound: Outbound,
        heartbeat: Heartbeat,
    ) -> Session:
        """A client's transport is open: asks the application to let it in, and pings it from now on."""
        session = Session(environment, encoder, outbound)
        self._pinger.add(session, heartbeat)
        self._proceed(session, _Connect())
        return session

    def receive(self, session: Session, payload: bytes) -> None:
        """A client said something. Executed at once, or behind what it said before."""
        self._counters.data_rcvd_total += len(payload)
        if session.closed:
            return
        try:
            command = session.encoder.decode(payload)
        except CommandError as error:
            self._refuse(session, str(error))
            return
        if command is None:
            return
        self._counters.client_msg_total += 1
        inbox = session.inbox
        if inbox is None:
            self.execute(session, command)
            return
        inbox.commands.append(command)
        if len(inbox.commands) >= INBOX_LIMIT and not inbox.is_full:
            inbox.is_full = True
            self._counters.held_clients_total += 1
            session.outbound.hold()

    def execute(self, session: Session, command: Command) -> None:
        """Carries one command out, or begins to: the rest then follows in the session's own task."""
        match command:
            case Subscribe() | Unsubscribe() | Perform():
                self._proceed(session, command)
            case Whisper():
                self._whisper(session, command)
            case ClientPing():
                session.send(Pong())
            case ClientPong():
                pass

    def leave(self, session: Session) -> None:
        """A client's transport is gone. Called once, by the transport, however it came to this."""
        session.closed = True
        if session.inbox is not None and session.inbox.task is not None:
            session.inbox.task.cancel()
        session.inbox = None
        if not session.connected:
            return
        session.connected = False
        self._hub.forget(session)
        identifiers = tuple(session.subscriptions)
        session.subscriptions.clear()
        if session.disconnect_wanted:
            self._disconnector.enqueue(Ended(session.environment, identifiers))

    async def settle(self, timeout_s: float) -> None:
        """At the end, when no client is left: waits for the calls that are seen through all the same."""
        if self._busy:
            await asyncio.wait(self._busy, timeout=timeout_s)

    # Decisions

    def _proceed(self, session: Session, step: _Step) -> None:
        """Takes one step: asks for a decision and applies it, now or when it is there."""
        answer = self._ask(session, step)
        if answer is None:
            return
        if isinstance(answer, Decision):
            self.apply(session, step, answer)
            return
        inbox = session.inbox = Inbox()
        task = asyncio.get_running_loop().create_task(self._settle(session, inbox, step, answer))
        inbox.task = task
        self._own(task)

    def _ask(self, session: Session, step: _Step) -> Decision | Awaitable[Decision] | None:
        """Asks the application; None where there is nothing to ask or nothing more to do."""
        environment = session.environment
        try:
            match step:
                case _Connect():
                    return self._application.connect(environment)
                case Subscribe(identifier):
                    if identifier in session.subscriptions:
                        self._refuse(session, f"already subscribed to {identifier}")
                        return None
                    return self._application.subscribe(environment, identifier)
                case Unsubscribe(identifier):
                    if identifier not in session.subscriptions:
                        self._refuse(session, f"not subscribed to {identifier}")
                        return None
                    return self._application.unsubscribe(environment, identifier)
                case Perform(identifier, data):
                    if identifier not in session.subscriptions:
                        self._refuse(session, f"not subscribed to {identifier}")
                        return None
                    return self._application.perform(environment, identifier, data)
        except AppError as error:
            self._undecided(session, step, error)
            return None

    async def _settle(
        self, session: Session, inbox: Inbox, step: _Step, answer: Awaitable[Decision]
    ) -> None:
        """Waits for a decision, applies it, then does what the client said meanwhile, in order."""
        pending: Awaitable[Decision] | None = answer
        while True:
            if pending is not None:
                try:
                    decision = await pending
                except AppError as error:
                    self._undecided(session, step, error)
                except Exception as error:  # noqa: BLE001
                    # A fault of our own must cost this command, not the session's whole order.
                    _log.exception("sid=%s A call failed unexpectedly", session.sid)
                    self._undecided(session, step, error)
                else:
                    self.apply(session, step, decision)
                pending = None
            if session.closed or not inbox.commands:
                break
            command = inbox.commands.popleft()
            if inbox.is_full and not inbox.commands:
                inbox.is_full = False
                session.outbound.resume()
            if not isinstance(command, Subscribe | Unsubscribe | Perform):
                self.execute(session, command)
                continue
            step = command
            next_answer = self._ask(session, step)
            if isinstance(next_answer, Decision):
                self.apply(session, step, next_answer)
            else:
                pending = next_answer
        if session.inbox is inbox:
            session.inbox = None

    def apply(self, session: Session, step: _Step, decision: Decision) -> None:
        """Carries a decision out, in one go. For a client that left, it only matters whether the
        application let it in: then it must hear that it is over."""
        if session.closed:
            if isinstance(step, _Connect) and decision.verdict is Verdict.SUCCESS:
                self._let_go(session, decision)
            return
        if decision.verdict is Verdict.ERROR:
            self._undecided(session, step, AppError(decision.error))
            return
        is_success = decision.verdict is Verdict.SUCCESS
        if decision.cstate:
            session.environment.merge_cstate(decision.cstate)
        match step:
            case _Connect():
                self._apply_connect(session, decision)
                return
            case Subscribe(identifier):
                if is_success:
                    session.subscriptions[identifier] = Subscription(session, identifier)
                self._note_interest(session, decision)
            case Unsubscribe(identifier):
                # Whatever was answered: the client does not listen any more.
                subscription = session.subscriptions.pop(identifier)
                self._hub.unlisten_all(subscription)
                session.environment.forget_istate(identifier)
            case Perform(identifier):
                pass
        if identifier in session.subscriptions:
            self._apply_streams(session.subscriptions[identifier], decision)
        self._transmit(session, decision)
        if decision.disconnect:
            session.close(Reason.COMMAND_FAILED)

    def _apply_connect(self, session: Session, decision: Decision) -> None:
        if decision.verdict is Verdict.SUCCESS:
            session.environment.identifiers = decision.identifiers
            session.connected = True
            self._hub.add(session)
            self._note_interest(session, decision)
            self._transmit(session, decision)
            return
        self._counters.failed_auths_total += 1
        self._transmit(session, decision)
        session.close(Reason.AUTH_FAILED)

    def _let_go(self, session: Session, decision: Decision) -> None:
        """The client did not wait for the application's yes."""
        session.environment.identifiers = decision.identifiers
        if decision.cstate:
            session.environment.merge_cstate(decision.cstate)
        self._note_interest(session, decision)
        if session.disconnect_wanted:
            self._disconnector.enqueue(Ended(session.environment, ()))

    def _apply_streams(self, subscription: Subscription, decision: Decision) -> None:
        """Stops come before starts, so that an answer may replace all streams by others."""
        if decision.stop_all_streams:
            self._hub.unlisten_all(subscription)
        for stream in decision.stopped_streams:
            self._hub.unlisten(subscription, stream)
        for stream in decision.streams:
            self._hub.listen(subscription, stream)
        if decision.istate:
            subscription.session.environment.merge_istate(subscription.identifier, decision.istate)
            if WHISPER_STATE in decision.istate:
                subscription.whispers_to = Stream(decision.istate[WHISPER_STATE]) or None
        if decision.whispers_to is not None:
            subscription.whispers_to = decision.whispers_to

    def _transmit(self, session: Session, decision: Decision) -> None:
        for reply in decision.replies:
            session.send(reply)
        for transmission in decision.transmissions:
            session.send(Verbatim(transmission))
        self._counters.server_msg_total += len(decision.replies) + len(decision.transmissions)

    def _note_interest(self, session: Session, decision: Decision) -> None:
        """Does anybody want to hear of the end of this session? One who does is enough."""
        if self._disconnect_mode == "always" or (
            self._disconnect_mode == "auto" and decision.disconnect_wanted is not False
        ):
            session.disconnect_wanted = True

    def _undecided(self, session: Session, step: _Step, error: Exception) -> None:
        """No decision was had. A client that could not connect is sent away, to come back later;
        a command is as if it had not been said."""
        _log.warning("sid=%s %s failed: %s", session.sid, type(step).__name__.lstrip("_"), error)
        if isinstance(step, _Connect):
            session.close(Reason.AUTH_ERROR)
        else:
            self._counters.failed_client_msg_total += 1

    def _refuse(self, session: Session, why: str) -> None:
        """A command that makes no sense: counted, logged, not answered (as anycable-go)."""
        self._counters.failed_client_msg_total += 1
        _log.warning("sid=%s Command refused: %s", session.sid, why[:200])

    # Publications

    def publish(self, raw: bytes | str) -> Awaitable[None] | None:
        """Sends what a publisher said to all nodes, in order; None where that is done already.

        What it returns otherwise is to be awaited before the next is sent: that is how a publisher
        feels that deliveries do not keep up. Raises :class:`PublicationError` for what is no publication, after it was counted and logged.
        """
        try:
            publications = parse(raw)
        except PublicationError as error:
            self._counters.failed_broadcast_msg_total += 1
            _log.warning("Publication refused: %s; it begins with %.100r", error, raw[:100])
            raise
        self._counters.publications_total += len(publications)
        return self._pubsub.send(publications) or self._hub.caught_up()

    def _whisper(self, session: Session, whisper: Whisper) -> None:
        """To everybody else on the stream; ignored where the application gave none to whisper to."""
        subscription = session.subscriptions.get(whisper.identifier)
        if subscription is None or subscription.whispers_to is None:
            return
        sent = self._pubsub.send(
            (
                Publication(
                    subscription.whispers_to,
                    whisper.data,
                    exclude_socket=session.sid,
                    transient=True,
                ),
            )
        )
        if sent is not None:
            self._own(asyncio.ensure_future(sent))

    def _own(self, task: "asyncio.Future[None]") -> None:
        """Keeps a task from being collected while it runs."""
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
