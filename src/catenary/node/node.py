"""THE HEART: what happens to a client, in the order of its life.

``admit`` → ``connect`` → ``receive`` → ``execute`` → ``apply`` → ``leave``; and ``publish``, for what
is not from a client. State changes in plain functions between two awaits, so there are no locks.
Knows: sessions, the hub, ports. Does not know: sockets, HTTP, what an application is made of.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Sequence
from itertools import chain
from typing import Final, Literal, final

import msgspec

from catenary import ports
from catenary.errors import AppError, BackendError, CommandError, PublicationError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.maybe_awaitable import then
from catenary.messages.commands import (
    Checkpoint,
    ClientPing,
    ClientPong,
    CloseConnection,
    Command,
    DirectReply,
    History,
    Join,
    Leave,
    Perform,
    Subscribe,
    Unsubscribe,
    Whisper,
    WhoIsHere,
)
from catenary.messages.decisions import Decision, PresenceCommand, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import (
    Publication,
    Publishable,
    QueueEntry,
    RemoteDisconnect,
    parse,
)
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Pong, Rejected
from catenary.metrics.counters import Counters
from catenary.node.answers import MESSAGE_BYTES
from catenary.node.batches import LARGE_BYTES, read_in_turns
from catenary.node.disconnector import Disconnector, Ended
from catenary.node.encoder import Encoder
from catenary.node.hub import Hub
from catenary.node.inboxes import COMMANDS_AT_ONCE, Inboxes, PendingDecision
from catenary.node.limits import ClientLimits
from catenary.node.pinger import Pinger
from catenary.node.presence import Presences
from catenary.node.replay import Replayer
from catenary.node.resumption import ExpiryRules, Resumption
from catenary.node.session import Session, Subscription, Traits
from catenary.node.snapshot import Snapshot
from catenary.ports import SLICE_BYTES, Application, Goodbye, Observer, Outbound, Pending, PubSub

_log: Final = logging.getLogger("catenary.node")

HEARD_AT_ONCE: Final = 100
"""Publications of a batch that are delivered in one turn of the loop: 1 to 2 ms."""

FEW_MESSAGES: Final = 16
"""What the application may write with one answer and have sent at once; more is sent in slices."""

WHISPER_STATE: Final = "$w"
"""Where an application puts the stream to whisper to: WHISPER_STREAM_STATE of common.go (anycable)."""

PRESENCE_STATE: Final = "$p"
"""And the stream to be seen on: PRESENCE_STREAM_STATE, likewise."""


@final
class _Connect(msgspec.Struct, frozen=True, gc=False):
    """The first thing that every session does, before its first command."""

    resumes: Sid | None = None


_CommandStep = Subscribe | Unsubscribe | Perform

_Step = _Connect | _CommandStep
"""What the application decides about."""


_Work = Awaitable[None] | PendingDecision[_CommandStep]
"""What must end before a session's next command begins."""


class Node:
    """One server's worth of clients. Complete when built; one thread, one loop."""

    __slots__ = (
        "_application",
        "_busy",
        "_counters",
        "_disconnect_mode",
        "_disconnector",
        "_expiry",
        "_hub",
        "_inboxes",
        "_is_whisper_logged",
        "_limited",
        "_limits",
        "_observer",
        "_pinger",
        "_presences",
        "_pubsub",
        "_replayer",
        "_restored_action",
        "_resumption",
    )

    def __init__(
        self,
        application: Application,
        *,
        hub: Hub,
        pubsub: PubSub,
        history: ports.History,
        presence: ports.Presence,
        sessions: ports.SessionCache,
        pinger: Pinger,
        disconnector: Disconnector,
        disconnect_mode: Literal["auto", "always", "never"],
        restored_action: str = "",
        counters: Counters,
        limits: ClientLimits = ClientLimits(),  # noqa: B008  (frozen)
        observer: Observer | None = None,
        expiry: ExpiryRules = ExpiryRules(),  # noqa: B008  (frozen)
    ) -> None:
        """``restored_action`` is performed on every subscription of a session that was resumed, so
        that the application hears of it; empty: it hears nothing. ``expiry`` are the rules for sessions of
        clients whose token has expired."""
        self._application = application
        self._hub = hub
        self._pubsub = pubsub
        self._pinger = pinger
        self._replayer = Replayer(hub, history)
        self._presences = Presences(presence, pubsub.send)
        self._resumption = Resumption(
            sessions, hub, self._replayer, disconnector, counters, expiry=expiry
        )
        self._expiry = expiry
        self._disconnector = disconnector
        self._disconnect_mode = disconnect_mode
        self._restored_action = restored_action
        self._counters = counters
        self._limits = limits
        self._observer = observer
        self._is_whisper_logged = False
        self._limited = RateLimitedLogger(_log)
        self._busy: set[asyncio.Future[None]] = set()
        self._inboxes = Inboxes(self._begin, self._resolve, self._own, counters)

    # A client's life

    def admit(
        self, environment: Environment, encoder: Encoder, outbound: Outbound, traits: Traits
    ) -> Session:
        """A client's transport is open: asks the application to let it in, and pings it from now on.

        Counted as a connection until :meth:`leave`, which every transport calls once.
        """
        self._counters.open_connections_num += 1
        session = Session(environment, encoder, outbound)
        session.is_resumable = traits.is_resumable
        self._pinger.add(session, traits.heartbeat)
        work = self._connect(session, _Connect(traits.resumes))
        if work is not None:
            self._inboxes.wait_for(session, work)
        return session

    def receive(self, session: Session, payload: bytes) -> None:
        """A client sent a message: carried out at once, or after the commands before it."""
        self._counters.data_rcvd_total += len(payload)
        session.silent_since = 0
        session.previous_sid = None
        if session.closed:
            return
        try:
            decoded = session.encoder.decode(payload)
        except CommandError as error:
            self._refuse(session, str(error))
            return
        if decoded is None:
            return
        self._counters.client_msg_total += 1
        if self._observer is not None:
            _report_received(self._observer, session, decoded)
        if type(decoded) is tuple:
            for command in decoded:
                if not session.closed:
                    self.execute(session, command)
        else:
            # isinstance() takes 0.2 µs to say that a struct is not a tuple, and mypy narrows by nothing else.
            self.execute(session, decoded)  # type: ignore[arg-type]

    def execute(self, session: Session, command: Command) -> None:
        """Carries one command out, or begins to, or lets it wait for those before it."""
        inbox = session.inbox
        if inbox is not None:
            self._inboxes.put(session, inbox, command)
            return
        work = self._begin(session, command)
        if work is not None:
            self._inboxes.wait_for(session, work)

    def perform(self, sid: Sid, identifier: Identifier, data: str) -> bool:
        """An action that the application calls itself, as if the client had: behind what that said.

        False where there is no such subscription at this node.
        """
        session = self._hub.session(sid)
        if session is None or session.closed or identifier not in session.subscriptions:
            return False
        self.execute(session, Perform(identifier, data))
        return True

    def heard(self, session: Session) -> None:
        """The client has answered a ping of its transport."""
        session.silent_since = 0
        self._replayer.answered_ping(session)

    def leave(self, session: Session) -> None:
        """A client's transport is gone. Called once, by the transport, however it came to this."""
        session.closed = True
        self._counters.open_connections_num -= 1
        self._inboxes.close(session)
        self._pinger.left()
        if not session.connected:
            return
        session.connected = False
        if self._observer is not None:
            self._observer.disconnected(session.environment, session.ended_for)
        self._finish(self._presences.gone(session))
        identifiers = tuple(session.subscriptions)
        if session.is_resumable:
            self._finish(self._resumption.keep(session))
        else:
            self._finish(self._resumption.end(session, Ended(session.environment, identifiers)))
        self._hub.forget(session)
        session.subscriptions.clear()

    async def settle(self, timeout_s: float) -> None:
        """At the end, when no client is left: tells of those who can't come back, and waits for the
        calls that are seen through although their client left."""
        self._resumption.give_up()
        self._finish(self._resumption.flush())
        if self._busy:
            await asyncio.wait(self._busy, timeout=timeout_s)
        self._resumption.give_up_unsaved()

    def keep_time(self) -> None:
        """To be called every second or so: ends what has lasted for its time."""
        self._replayer.tick()
        self._finish(self._presences.expire())
        self._finish(self._resumption.expire())
        self._finish(self._resumption.flush())

    def touch_present(self) -> None:
        """To be called a few times within the time that members have: who is connected is here."""
        self._finish(self._presences.touch())

    def touch_resumable(self) -> None:
        """The same, for the time that sessions last which nobody resumed."""
        self._finish(self._resumption.touch())

    def refresh(self) -> None:
        """What keeps sessions and members was away, and may have forgotten everything."""
        self._resumption.refresh()
        self._finish(self._resumption.flush())
        self._finish(self._presences.refresh())

    # One thing after the other

    def _begin(self, session: Session, command: Command) -> _Work | None:
        """Begins a command; None where it is done, else what must end before the next begins."""
        # The frequent ones are asked for by their type: isinstance() takes 0.2 µs to say that a
        # struct is another one.
        if type(command) is Perform and command.identifier in session.subscriptions:
            return self._decide(session, command)
        if type(command) is Subscribe:
            if command.identifier in session.subscriptions:
                self._confirm_again(session, command)
            elif self._may_have(session, command.identifier):
                return self._decide(session, command)
            return None
        if type(command) is ClientPong:
            return None
        if type(command) is ClientPing:
            session.send(Pong())
            return None
        if type(command) is DirectReply:
            session.outbound.write(session.encoder.frame(command.payload))
            return None
        if type(command) is CloseConnection:
            self._refuse(session, command.text)
            goodbye = Goodbye(Reason.INVALID_MESSAGE, command.code, command.text)
            session.close(goodbye.reason, goodbye=goodbye)
            return None
        if type(command) is Checkpoint:
            command.reached()
            return None
        subscription = session.subscriptions.get(command.identifier)
        if subscription is None:
            self._refuse(session, f"not subscribed to {command.identifier}")
            return None
        if type(command) is Perform or type(command) is Unsubscribe:
            return self._decide(session, command)
        if type(command) is History:
            return self._replayer.replay(subscription, command.request)
        match command:
            case Whisper():
                return self._whisper(subscription, command)
            case Join(_, member_id, info):
                return self._presences.join(subscription, member_id, info)
            case Leave():
                return self._presences.leave(subscription)
            case WhoIsHere(_, with_records):
                return self._presences.tell(subscription, with_records=with_records)

    def _confirm_again(self, session: Session, command: Subscribe) -> None:
        """A subscription that exists is confirmed without asking the application: ``@rails/actioncable``
        repeats the command twice a second until it is, for a second object with the same identifier.

        Source: https://github.com/rails/rails/pull/57504
        """
        if session.inbox is not None and session.inbox.is_answered(command.identifier):
            return
        session.send(Confirmed(command.identifier))
        self._counters.server_msg_total += 1
        self._confirmed(session, command)

    def _confirmed(self, session: Session, command: Subscribe) -> None:
        """Does what a subscribe command asks for besides, after its confirmation was sent."""
        asked = [] if command.history is None else [History(command.identifier, command.history)]
        self._follow(session, [*asked, *([] if command.join is None else [command.join])])
        if session.inbox is not None:
            session.inbox.note_confirmation(command.identifier)

    def _may_have(self, session: Session, identifier: Identifier) -> bool:
        """One subscription more? Else the client is told no, without asking the application."""
        limits, counters = self._limits, self._counters
        if 0 < limits.max_identifier_size < len(identifier):
            counters.long_identifiers_total += 1
            why = f"expected an identifier of up to {limits.max_identifier_size} characters"
        elif 0 < limits.max_subscriptions <= len(session.subscriptions):
            counters.refused_subscriptions_total += 1
            why = f"expected up to {limits.max_subscriptions} subscriptions"
        else:
            return True
        self._refuse(session, why)
        session.send(Rejected(identifier))
        counters.server_msg_total += 1
        return False

    def _follow(self, session: Session, commands: Sequence[Command]) -> None:
        """Carries out what belongs to the command just done, before anything else that the client sent."""
        if session.inbox is None and len(commands) <= COMMANDS_AT_ONCE:
            for command in commands:
                self.execute(session, command)
        else:
            self._inboxes.put_first(session, commands)

    # Decisions

    def _connect(self, session: Session, step: _Connect) -> _Work | None:
        """A session that is to be resumed, or else one that the application must let in."""
        if step.resumes is None or not session.is_resumable:
            return self._decide(session, step)
        found = self._resumption.find(step.resumes)
        if found is None:
            return self._decide(session, step)
        if isinstance(found, Snapshot):
            return self._come_back(session, step, found)
        return self._connect_later(session, step, found)

    def _come_back(self, session: Session, step: _Connect, snapshot: Snapshot) -> _Work | None:
        """Resumes the session that was found, or, where that is over, asks the application again."""
        assert step.resumes is not None
        why_over = self._resumption.why_over(snapshot)
        if why_over is None:
            self._resume(session, step.resumes, snapshot)
            return None
        self._resumption.discard(snapshot)
        if why_over is Reason.TOKEN_EXPIRED and not self._expiry.shows_token(session.environment):
            # The client refreshes its token, and connects again.
            self._counters.failed_auths_total += 1
            session.close(Reason.TOKEN_EXPIRED)
            return None
        return self._decide(session, step)

    def _resume(self, session: Session, previous_sid: Sid, snapshot: Snapshot) -> None:
        """Goes on as the session that it was; the application hears of it where it wants to."""
        self._resumption.resume(session, previous_sid, snapshot)
        if self._observer is not None:
            self._observer.connected(session.environment, is_resumed=True)
        if self._restored_action:
            data = _action(self._restored_action)
            self._follow(session, [Perform(each, data) for each in snapshot.subscriptions])

    async def _connect_later(
        self, session: Session, step: _Connect, found: Awaitable[Snapshot | None]
    ) -> None:
        assert step.resumes is not None
        snapshot = await found
        if session.closed:
            self._resumption.put_back(step.resumes, snapshot)
            return
        if snapshot is None:
            work = self._decide(session, step)
        else:
            work = self._come_back(session, step, snapshot)
        if work is not None:
            assert not isinstance(work, PendingDecision)  # _decide() sees to it
            await work

    def _decide(self, session: Session, step: _Step) -> _Work | None:
        """Asks the application; its decision is resolved now, or when it has come."""
        application, environment = self._application, session.environment
        answer: Decision | Awaitable[Decision]
        try:
            if type(step) is Perform:
                answer = application.perform(environment, step.identifier, step.data)
            elif type(step) is Subscribe:
                answer = application.subscribe(environment, step.identifier)
            elif type(step) is _Connect:
                answer = application.connect(environment)
            else:
                answer = application.unsubscribe(environment, step.identifier)
        except AppError as error:
            return self._resolve(session, step, error)
        if isinstance(answer, Pending) and type(step) is not _Connect:
            return PendingDecision(step, answer)
        if isinstance(answer, Decision):
            return self.apply(session, step, answer)
        # A Connect call is seen through although its client leaves: settle() waits for its task.
        return self._resolve_awaited(session, step, answer)

    async def _resolve_awaited(
        self, session: Session, step: _Step, answer: Awaitable[Decision]
    ) -> None:
        outcome: Decision | Exception
        try:
            outcome = await answer
        except Exception as error:  # noqa: BLE001
            outcome = error
        work = self._resolve(session, step, outcome)
        if work is not None:
            await work

    def _resolve(
        self, session: Session, step: _Step, outcome: Decision | Exception
    ) -> Awaitable[None] | None:
        """What has come of a call: a decision, or (another exception than :class:`AppError` is a fault of our own)
        the reason why there is none."""
        if isinstance(outcome, Decision):
            return self.apply(session, step, outcome)
        self._undecided(session, step, outcome)
        return None

    def apply(self, session: Session, step: _Step, decision: Decision) -> Awaitable[None] | None:
        """Carries a decision out, in one go, but for the answer to the client where its new streams
        take time to be live: then that is what is returned. For a client that left, it only matters
        whether the application let it in: then it must hear that it is over."""
        if session.closed:
            if type(step) is _Connect and decision.verdict is Verdict.SUCCESS:
                self._let_go(session, decision)
            return None
        if decision.verdict is Verdict.ERROR:
            self._give_up(session, step)
            return None
        changes = _changes_state(decision)
        if changes or decision.identifiers or decision.presence is not None:
            subscription = (
                None if type(step) is _Connect else session.subscriptions.get(step.identifier)
            )
            excess = self._limits.excess(session.environment, subscription, decision)
            if excess:
                return self._apply_none_of(session, step, decision, excess)
        if decision.cstate:
            session.environment.merge_cstate(decision.cstate)
        if type(step) is _Connect:
            self._apply_connect(session, decision)
            return None
        identifier = step.identifier
        if type(step) is Subscribe:
            if decision.verdict is Verdict.SUCCESS:
                session.subscriptions[identifier] = Subscription(session, identifier)
            self._note_interest(session, decision)
            if self._observer is not None:
                _report_subscription(self._observer, session, identifier, decision.verdict)
        elif type(step) is Unsubscribe:
            # Whatever was answered: the client does not listen any more.
            subscription = session.subscriptions.pop(identifier)
            self._hub.unlisten_all(subscription)
            self._finish(self._presences.leave(subscription))
            session.environment.forget_istate(identifier)
            if self._observer is not None:
                self._observer.unsubscribed(session.environment, identifier)
        if changes and identifier in session.subscriptions:
            asks = type(step) is Subscribe and step.history is not None
            self._apply_streams(session.subscriptions[identifier], decision, asks=asks)
        if changes or type(step) is not Perform:
            self._resumption.changed(session, identifier)
        live = self._hub.when_live(decision.streams) if decision.streams else None
        if live is None:
            return self._answer(session, step, decision)

        def answer(_: None) -> Awaitable[None] | None:
            return None if session.closed else self._answer(session, step, decision)

        return then(live, answer)

    def _apply_none_of(
        self, session: Session, step: _Step, decision: Decision, why: str
    ) -> Awaitable[None] | None:
        """An answer carries more than a client may have: nothing of it counts."""
        self._counters.refused_answers_total += 1
        name = type(step).__name__.lstrip("_")
        self._limited.error("sid=%s Answer to %s refused: %s", session.sid, name, why)
        if type(step) is Unsubscribe:
            return self.apply(session, step, Decision(verdict=decision.verdict))
        if type(step) is _Connect and decision.verdict is Verdict.SUCCESS:
            # The application has let it in, and hears that it is over.
            self._let_go(session, msgspec.structs.replace(decision, cstate=None))
        self._give_up(session, step)
        if type(step) is Subscribe:
            session.send(Rejected(step.identifier))
            self._counters.server_msg_total += 1
        return None

    def _answer(
        self, session: Session, step: _CommandStep, decision: Decision
    ) -> Awaitable[None] | None:
        """Tells the client, and does what follows after that. None once that is done."""
        sent = self._transmit(session, decision)
        if sent is not None:

            def conclude(_: None) -> None:
                if not session.closed:
                    self._conclude(session, step, decision)

            return then(sent, conclude)
        self._conclude(session, step, decision)
        return None

    def _conclude(self, session: Session, step: _CommandStep, decision: Decision) -> None:
        """Does what follows after the client was told."""
        subscription = session.subscriptions.get(step.identifier)
        if decision.presence is not None and subscription is not None:
            self._apply_presence(subscription, decision.presence)
        if decision.disconnect:
            session.close(Reason.COMMAND_FAILED)
        elif type(step) is Subscribe and subscription is not None:
            self._confirmed(session, step)

    def _apply_connect(self, session: Session, decision: Decision) -> None:
        if decision.verdict is Verdict.SUCCESS:
            session.environment.identifiers = decision.identifiers
            session.expires_at = decision.expires_at
            session.connected = True
            self._hub.add(session)
            self._note_interest(session, decision)
            self._resumption.changed(session, None)
            if self._observer is not None:
                self._observer.connected(session.environment, is_resumed=False)
            self._transmit(session, decision)
            return
        self._counters.failed_auths_total += 1
        self._transmit(session, decision)
        self._turn_away(session, Reason.AUTH_FAILED)

    def _turn_away(self, session: Session, reason: Reason) -> None:
        if self._observer is not None:
            self._observer.rejected(session.environment, reason)
        session.close(reason)

    def _let_go(self, session: Session, decision: Decision) -> None:
        """The client did not wait for the application's yes."""
        session.environment.identifiers = decision.identifiers
        if decision.cstate:
            session.environment.merge_cstate(decision.cstate)
        self._note_interest(session, decision)
        if session.disconnect_wanted:
            self._disconnector.enqueue(Ended(session.environment, ()))

    def _apply_streams(self, subscription: Subscription, decision: Decision, *, asks: bool) -> None:
        """Stops come before starts, so that an answer may replace all streams by others. A stream that is stopped
        and started goes on: nothing that is published meanwhile is lost.

        ``asks`` says that a request for history is what follows.
        """
        hub = self._hub
        if decision.stop_all_streams or decision.stopped_streams:
            started = frozenset(decision.streams)
            stopped = decision.stopped_streams
            if decision.stop_all_streams:
                stopped = tuple(subscription.streams)
            for stream in stopped:
                if stream not in started:
                    hub.unlisten(subscription, stream)
        if asks:
            listen = self._replayer.listen
        elif subscription.asked == "not yet":
            listen = hub.listen_detached
        else:
            listen = hub.listen
        for stream in decision.streams:
            listen(subscription, stream)
        if decision.istate:
            subscription.session.environment.merge_istate(subscription.identifier, decision.istate)
            if WHISPER_STATE in decision.istate:
                subscription.whispers_to = Stream(decision.istate[WHISPER_STATE]) or None
            if PRESENCE_STATE in decision.istate:
                subscription.seen_on = Stream(decision.istate[PRESENCE_STATE]) or None
        if decision.whispers_to is not None:
            subscription.whispers_to = decision.whispers_to
        if decision.seen_on is not None:
            subscription.seen_on = decision.seen_on

    def _apply_presence(self, subscription: Subscription, command: PresenceCommand) -> None:
        if command.kind == "join":
            self._finish(self._presences.join(subscription, command.id, command.info))
        else:
            self._finish(self._presences.leave(subscription))

    def _transmit(self, session: Session, decision: Decision) -> Awaitable[None] | None:
        """Sends what the application has written: at once, or in slices where it is much."""
        replies, transmissions = decision.replies, decision.transmissions
        count = len(replies) + len(transmissions)
        self._counters.server_msg_total += count
        if count > FEW_MESSAGES or sum(map(len, transmissions)) > SLICE_BYTES:
            return session.send_slices(_slices_of(session.encoder, decision))
        for reply in replies:
            session.send(reply)
        for transmission in transmissions:
            session.transmit(transmission)
        return None

    def _note_interest(self, session: Session, decision: Decision) -> None:
        """Does anybody want to hear of the end of this session? One who does is enough."""
        if self._disconnect_mode == "always" or (
            self._disconnect_mode == "auto" and decision.disconnect_wanted is not False
        ):
            session.disconnect_wanted = True

    def _undecided(self, session: Session, step: _Step, error: Exception) -> None:
        """There is no decision: logs why, in one line or, for a fault of our own, with its traceback."""
        name = type(step).__name__.lstrip("_")
        if isinstance(error, AppError):
            text = "sid=%s %s failed: %s"
            self._limited.log(logging.WARNING, text, session.sid, name, error)
        else:
            self._limited.error("sid=%s %s failed unexpectedly", session.sid, name, exc_info=error)
        self._give_up(session, step)

    def _give_up(self, session: Session, step: _Step) -> None:
        """Drops a command whose decision failed; a client that could not connect is sent away, to come
        back later."""
        if isinstance(step, _Connect):
            self._turn_away(session, Reason.AUTH_ERROR)
        else:
            self._counters.failed_client_msg_total += 1

    def _refuse(self, session: Session, why: str) -> None:
        """A command that makes no sense: counted, logged, not answered (as anycable-go)."""
        self._counters.failed_client_msg_total += 1
        if self._observer is not None:
            self._observer.refused(session.environment, why)
        self._limited.log(logging.WARNING, "sid=%s Command refused: %s", session.sid, why[:200])

    # Publications

    def publish(self, raw: bytes | str, entry: QueueEntry | None = None) -> Awaitable[None] | None:
        """Sends what a publisher said to all nodes, in order; None where that is done already.

        What it returns otherwise is to be awaited before the next is sent: that is how a publisher
        feels that deliveries do not keep up. Raises :class:`PublicationError` for what is no
        publication, after it was counted and logged. ``entry`` is where it was read from, if that is a
        queue.
        """
        return self._pubsub.send(self._parsed(raw), entry) or self._hub.caught_up()

    def publish_in_turns(
        self, raw: bytes, entry: QueueEntry | None = None
    ) -> Awaitable[None] | None:
        """The same as :meth:`publish`, for publishers that wait for each publication: what is large is read in several
        turns of the loop, and what other publishers send meanwhile may be sent before it. A batch is still sent whole or
        not at all; awaiting raises :class:`PublicationError` where it is large."""
        if len(raw) <= LARGE_BYTES:
            return self.publish(raw, entry)
        return self._publish_large(raw, entry)

    async def _publish_large(self, raw: bytes, entry: QueueEntry | None) -> None:
        publications = await self._read_large(raw)
        sent = self._pubsub.send(publications, entry) or self._hub.caught_up()
        if sent is not None:
            await sent

    async def _read_large(self, raw: bytes) -> tuple[Publishable, ...]:
        try:
            publications = await read_in_turns(raw, self._hub.turns)
        except PublicationError as error:
            self._note_refused(raw, error)
            raise
        self._note_published(publications)
        return publications

    def hear(self, raw: bytes) -> Awaitable[None] | None:
        """The same as :meth:`publish_in_turns`, for what every node receives from the publisher itself: it is delivered
        to the clients of this node only.

        No history keeps it: it has no position that nodes could agree on. A remote disconnect is sent
        on where sessions are kept for all nodes: it ends those, too.
        """
        if len(raw) <= LARGE_BYTES:
            return self._hear(self._parsed(raw))
        return self._hear_large(raw)

    async def _hear_large(self, raw: bytes) -> None:
        heard = self._hear(await self._read_large(raw))
        if heard is not None:
            await heard

    def _hear(self, publications: tuple[Publishable, ...]) -> Awaitable[None] | None:
        if len(publications) > HEARD_AT_ONCE:
            return self._hear_all(publications)
        for publication in publications:
            if isinstance(publication, RemoteDisconnect) and self._resumption.is_shared:
                return self._relay(publication)
            self._hub.deliver(publication)
        return self._hub.caught_up()

    async def _hear_all(self, publications: tuple[Publishable, ...]) -> None:
        for start in range(0, len(publications), HEARD_AT_ONCE):
            for publication in publications[start : start + HEARD_AT_ONCE]:
                self._hub.deliver(publication)
            await (self._hub.caught_up() or asyncio.sleep(0))

    async def _relay(self, command: RemoteDisconnect) -> None:
        try:
            relayed = self._pubsub.relay(command)
            if relayed is not None:
                await relayed
        except BackendError as error:
            self._limited.warning(
                "A remote disconnect reaches the clients of this node only: %s", error
            )
            self._hub.deliver(command)

    def _parsed(self, raw: bytes | str) -> tuple[Publishable, ...]:
        try:
            publications = parse(raw)
        except PublicationError as error:
            self._note_refused(raw, error)
            raise
        self._note_published(publications)
        return publications

    def _note_published(self, publications: tuple[Publishable, ...]) -> None:
        self._counters.publications_total += len(publications)
        if self._observer is not None:
            self._observer.published(publications)

    def _note_refused(self, raw: bytes | str, error: PublicationError) -> None:
        self._counters.failed_broadcast_msg_total += 1
        self._limited.warning("Publication refused: %s; it begins with %.100r", error, raw[:100])

    def _whisper(self, subscription: Subscription, whisper: Whisper) -> Awaitable[None] | None:
        """To everybody else on the stream; ignored where the application gave none to whisper to."""
        if subscription.whispers_to is None:
            self._log_ignored_whisper(subscription)
            return None
        sid = subscription.session.sid
        publication = Publication(
            subscription.whispers_to, whisper.data, exclude_socket=sid, transient=True
        )
        # Who whispers faster than it can be heard waits like every publisher.
        return self._pubsub.send((publication,)) or self._hub.caught_up()

    def _log_ignored_whisper(self, subscription: Subscription) -> None:
        """Once: every client of a channel would cause the same line."""
        if not self._is_whisper_logged:
            self._is_whisper_logged = True
            _log.warning(
                "sid=%s Whisper ignored on %.200s: none of its streams is for whispers"
                " (--streams_whisper; in a channel stream_from(…, whisper=True))",
                subscription.session.sid,
                subscription.identifier,
            )

    def _finish(self, work: Awaitable[None] | None) -> None:
        """Sees to it that something is done, although nobody waits for it."""
        if work is not None:
            self._own(asyncio.ensure_future(work))

    def _own(self, task: "asyncio.Future[None]") -> None:
        """Keeps a task from being collected while it runs."""
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)


def _report_received(
    observer: Observer, session: Session, decoded: Command | tuple[Command, ...]
) -> None:
    for command in decoded if isinstance(decoded, tuple) else (decoded,):
        observer.received(session.environment, command)


def _report_subscription(
    observer: Observer, session: Session, identifier: Identifier, verdict: Verdict
) -> None:
    if verdict is Verdict.SUCCESS:
        observer.subscribed(session.environment, identifier)
    else:
        observer.subscription_rejected(session.environment, identifier)


def _changes_state(decision: Decision) -> bool:
    """Does it leave another session behind, with other streams or another state?"""
    return bool(
        decision.streams
        or decision.stopped_streams
        or decision.stop_all_streams
        or decision.cstate
        or decision.istate
        or decision.whispers_to is not None
        or decision.seen_on is not None
    )


def _slices_of(encoder: Encoder, decision: Decision) -> Iterator[bytes]:
    """What the application has written, in batches of about a slice."""
    messages = chain(
        map(encoder.encode, decision.replies),
        map(encoder.encode_transmission, decision.transmissions),
    )
    batch: list[bytes] = []
    room = SLICE_BYTES
    for message in filter(None, messages):
        batch.append(message)
        room -= MESSAGE_BYTES + len(message)
        if room <= 0:
            yield b"".join(batch)
            batch, room = [], SLICE_BYTES
    if batch:
        yield b"".join(batch)


def _action(name: str) -> str:
    """What a client sends to call an action without arguments."""
    return msgspec.json.encode({"action": name}).decode()
