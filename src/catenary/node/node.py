"""THE HEART: what happens to a client, in the order of its life.

``admit`` → ``receive`` → ``execute`` → ``leave``. The application's part is in ``node/decisions.py``, the order of
commands in ``node/inboxes.py``, publications in ``node/publications.py``.
Knows: sessions, the hub, ports. Does not know: sockets, HTTP, what an application is made of.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from catenary import ports
from catenary.errors import CommandError
from catenary.maybe_awaitable import then
from catenary.messages.commands import (
    Checkpoint,
    ClientPing,
    ClientPong,
    CloseConnection,
    Command,
    DirectReply,
    Identify,
    Join,
    Leave,
    Perform,
    ReadHistory,
    ReadPresence,
    Subscribe,
    Unsubscribe,
    Whisper,
)
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Pong, Rejected
from catenary.metrics.counters import Counters
from catenary.node.background import BackgroundTasks
from catenary.node.decisions import CommandStep, Decisions, DisconnectMode
from catenary.node.disconnector import Disconnector, Ended
from catenary.node.encoder import Encoder
from catenary.node.hub import Hub
from catenary.node.inboxes import COMMANDS_AT_ONCE, Inboxes, PendingDecision
from catenary.node.limits import ClientLimits
from catenary.node.observers import ObserverGroup
from catenary.node.pinger import Pinger
from catenary.node.presence import Presences
from catenary.node.publications import Publications
from catenary.node.rates import Rates
from catenary.node.replay import Replayer
from catenary.node.resumption import ExpiryRules, Resumption
from catenary.node.session import Session, Traits
from catenary.node.shared_seconds import SharedSeconds
from catenary.node.snapshot import Snapshot
from catenary.node.token_expiry import TokenExpiry
from catenary.node.traced import TracedCommands, note_admission, traced
from catenary.ports import Application, Goodbye, Outbound, PubSub
from catenary.tracer import Span, Tracer

_Work = Awaitable[None] | PendingDecision[CommandStep] | None
_StartCommand = Callable[[Session, Command], _Work]


class Node:
    """The clients of one server process. Complete when built; used from one thread, in one event loop."""

    __slots__ = (
        "_background",
        "_command_rates",
        "_counters",
        "_decisions",
        "_expiry",
        "_hub",
        "_inboxes",
        "_limits",
        "_observers",
        "_pinger",
        "_presences",
        "_replayer",
        "_restored_action",
        "_resumption",
        "_seconds",
        "_start",
        "_token_expiry",
        "_tracer",
        "publications",
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
        disconnect_mode: DisconnectMode,
        restored_action: str = "",
        counters: Counters,
        limits: ClientLimits = ClientLimits(),  # noqa: B008  (frozen)
        observers: ObserverGroup | None = None,
        expiry: ExpiryRules = ExpiryRules(),  # noqa: B008  (frozen)
        token_expiry: TokenExpiry | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """``restored_action`` is performed on every subscription of a resumed session, which notifies the application;
        empty: it is not notified. ``expiry`` are the rules for sessions of clients whose token has expired; ``token_expiry`` closes such sessions, None: nothing does."""
        self._hub = hub
        self._pinger = pinger
        self._counters = counters
        self._limits = limits
        self._command_rates = Rates()
        self._observers = observers = observers or ObserverGroup()
        self._expiry = expiry
        self._restored_action = restored_action
        self._token_expiry = token_expiry
        self._tracer = tracer
        self._start: _StartCommand = (
            self._begin if tracer is None else TracedCommands(tracer, self._begin).start
        )
        self._background = BackgroundTasks()
        self._seconds = SharedSeconds(time.time)
        self._replayer = Replayer(hub, history, observers)
        self._presences = Presences(presence, pubsub.send, hub.detached, observers, hub.rules)
        self._resumption = Resumption(
            sessions, hub, self._replayer, disconnector, counters, expiry=expiry
        )
        self.publications = Publications(
            hub, pubsub, counters, observers, are_sessions_shared=sessions.is_shared
        )
        """Used by all publishers."""
        self._decisions = Decisions(
            application,
            self._follow_confirmation,
            hub=hub,
            replayer=self._replayer,
            presences=self._presences,
            resumption=self._resumption,
            disconnector=disconnector,
            disconnect_mode=disconnect_mode,
            counters=counters,
            limits=limits,
            observers=observers,
            background=self._background,
            token_expiry=token_expiry,
        )
        self._inboxes: Inboxes[CommandStep] = Inboxes(
            self._start, self._decisions.resolve, self._background.hold, counters
        )

    def replace_limits(self, limits: ClientLimits) -> None:
        """Limits what clients ask for from now on; what they have already stays."""
        self._limits = self._decisions.limits = limits

    def clients_of(self, realm: str) -> int:
        """Number of connected clients of a realm at this node."""
        return self._hub.sessions.number_in(realm)

    @property
    def unwritten_num(self) -> int:
        """Number of sessions that have left and are not stored yet."""
        return self._resumption.unwritten_num

    # Connecting

    def admit(
        self, environment: Environment, encoder: Encoder, outbound: Outbound, traits: Traits
    ) -> Session:
        """Takes a client whose transport is open: resumes its session or asks the application, and starts pings.

        It counts as a connection until :meth:`leave`, which every transport calls once.
        """
        self._counters.open_connections_num += 1
        session = Session(environment, encoder, outbound)
        session.is_resumable = traits.is_resumable
        session.connected_at = self._seconds.now()
        if traits.decode is not None:
            session.decode = traits.decode
        self._pinger.add(session, traits.heartbeat)
        if self._observers.opened is not None:
            self._observers.opened(environment)
        if self._tracer is None or traits.span is None:
            work = self._resume_or_ask(session, traits)
        else:
            work = traced(
                self._tracer, traits.span, partial(self._admit_traced, session, traits, traits.span)
            )
        if work is not None:
            self._inboxes.wait_for(session, work)
        return session

    def _admit_traced(self, session: Session, traits: Traits, span: Span) -> Awaitable[None] | None:
        return then(self._resume_or_ask(session, traits), partial(note_admission, session, span))

    def _resume_or_ask(self, session: Session, traits: Traits) -> Awaitable[None] | None:
        if traits.is_resumable and traits.resumes is not None:
            return self._find_and_resume(session, traits.resumes, traits.asked_at)
        return self._decisions.connect(session, traits.asked_at)

    def _find_and_resume(
        self, session: Session, previous_sid: Sid, asked_at: float
    ) -> Awaitable[None] | None:
        found = self._resumption.find(previous_sid)
        if found is None or isinstance(found, Snapshot):  # then() would cost 1.7 % of a resume
            return self._resume_or_connect(session, previous_sid, asked_at, found)
        return then(found, partial(self._resume_or_connect, session, previous_sid, asked_at))

    def _resume_or_connect(
        self, session: Session, previous_sid: Sid, asked_at: float, snapshot: Snapshot | None
    ) -> Awaitable[None] | None:
        """Resumes the session that was found; if none was, or it is over, asks the application."""
        if session.closed:
            self._resumption.put_back(previous_sid, snapshot)
            return None
        if snapshot is None:
            return self._decisions.connect(session, asked_at)
        why_over = self._resumption.why_over(snapshot)
        if snapshot.expires_at is not None and why_over is not Reason.REMOTE:
            renewed = self._expiry.renewed(session.environment, snapshot.environment.identifiers)
            if renewed is not None:
                snapshot = msgspec.structs.replace(snapshot, expires_at=renewed.expires_at)
                why_over = None
        if why_over is None and self._has_too_many_connections(snapshot, previous_sid):
            # It may be resumed when the user has fewer connections.
            self._resumption.put_back(previous_sid, snapshot)
            self._decisions.turn_away(session, Reason.TOO_MANY_CONNECTIONS, "too many of this user")
            return None
        if why_over is None:
            self._resume(session, previous_sid, snapshot)
            self._decisions.note_welcome(asked_at)
            return None
        self._resumption.discard(snapshot)
        if why_over is Reason.TOKEN_EXPIRED and not self._expiry.shows_token(session.environment):
            # The client refreshes its token, and connects again.
            self._counters.failed_auths_total += 1
            if self._observers.rejected is not None:
                self._observers.rejected(session.environment, why_over, "the session to resume")
            session.close(Reason.TOKEN_EXPIRED)
            return None
        return self._decisions.connect(session, asked_at)

    def _has_too_many_connections(self, snapshot: Snapshot, previous_sid: Sid) -> bool:
        """Whether the user of a session to resume has too many connections without the one that it may still have."""
        decisions = self._decisions
        return decisions.limits.max_user_connections > 0 and decisions.refuses_user(
            snapshot.environment.identifiers, self._hub.sessions.find(previous_sid)
        )

    def _resume(self, session: Session, previous_sid: Sid, snapshot: Snapshot) -> None:
        self._resumption.resume(session, previous_sid, snapshot)
        if self._token_expiry is not None:
            self._token_expiry.watch(session)
        if self._observers.connected is not None:
            self._observers.connected(session.environment, is_resumed=True)
        if self._restored_action:
            data = _action(self._restored_action)
            self._follow(session, [Perform(each, data) for each in snapshot.subscriptions])

    # Commands

    def receive(self, session: Session, payload: bytes) -> None:
        """Takes a message from a client: executed at once, or after the commands before it."""
        self._counters.data_rcvd_total += len(payload)
        session.silent_since = 0
        session.previous_sid = None
        if session.closed:
            return
        try:
            decoded = session.decode(payload)
        except CommandError as error:
            self._refuse(session, str(error))
            return
        if decoded is None:
            return
        self._counters.client_msg_total += 1
        if self._limits.max_command_rate and self._is_too_fast(session):
            return
        received = self._observers.received
        if received is not None:
            for command in decoded if isinstance(decoded, tuple) else (decoded,):
                received(session.environment, command)
        if type(decoded) is tuple:
            for command in decoded:
                if not session.closed:
                    self.execute(session, command)
        else:
            # isinstance() takes 0.2 µs to say that a struct is not a tuple, and mypy narrows by nothing else.
            self.execute(session, decoded)  # type: ignore[arg-type]

    def _is_too_fast(self, session: Session) -> bool:
        """Counts a command; disconnects a client that has sent too many in this second."""
        limit = self._limits.max_command_rate
        if not self._command_rates.excess(session.sid, limit, time.monotonic()):
            return False
        self._counters.limited_clients_total += 1
        self._refuse(session, f"expected up to {limit} commands per second")
        session.close(Reason.TOO_MANY_COMMANDS)
        return True

    def submit(self, session: Session, command: Command) -> None:
        """Takes a command that came with a client's request, in its query or body. It is not counted as a message, as in
        anycable-go."""
        if self._observers.received is not None:
            self._observers.received(session.environment, command)
        self.execute(session, command)

    def receive_pong(self, session: Session) -> None:
        """The client has answered a ping of its transport."""
        session.silent_since = 0
        self._replayer.answered_ping(session)

    def perform(self, sid: Sid, identifier: Identifier, data: str) -> bool:
        """Executes an action that the application calls itself, as if the client had sent it.

        False if this node has no such subscription.
        """
        session = self._hub.sessions.find(sid)
        if session is None or session.closed or identifier not in session.subscriptions:
            return False
        self.execute(session, Perform(identifier, data))
        return True

    def execute(self, session: Session, command: Command) -> None:
        """Executes a command, or queues it after those that the client sent before."""
        inbox = session.inbox
        if inbox is not None:
            self._inboxes.put(session, inbox, command)
            return
        work = self._start(session, command)
        if work is not None:
            self._inboxes.wait_for(session, work)

    def _begin(
        self, session: Session, command: Command
    ) -> Awaitable[None] | PendingDecision[CommandStep] | None:
        """Starts a command. None if it is done; else the session's next command waits for the result."""
        # Frequent commands are recognized by their type: isinstance() takes 0.2 µs to say that a struct is another one.
        if type(command) is Perform and command.identifier in session.subscriptions:
            return self._decisions.decide(session, command)
        if type(command) is Subscribe:
            if command.identifier in session.subscriptions:
                self._confirm_again(session, command)
            elif self._may_subscribe(session, command.identifier):
                return self._decisions.decide(session, command)
            return None
        if type(command) is ClientPong:
            return None
        if type(command) is ClientPing:
            session.send(Pong())
            return None
        if type(command) is Identify:
            self._decisions.identify(session, command.identifiers)
            return None
        if type(command) is DirectReply:
            if command.refused and self._observers.refused is not None:
                self._observers.refused(session.environment, command.refused)
            session.outbound.write(session.encoder.frame(command.payload))
            session.report_transmitted(command.payload.decode(errors="replace"))
            return None
        if type(command) is CloseConnection:
            self._refuse(session, command.text)
            goodbye = Goodbye(Reason.INVALID_MESSAGE, command.code, command.text)
            session.close(goodbye.reason, goodbye=goodbye)
            return None
        if type(command) is Checkpoint:
            following = command.reached()
            if following is not None:
                self._follow(session, following if isinstance(following, tuple) else (following,))
            return None
        subscription = session.subscriptions.get(command.identifier)
        if subscription is None:
            self._refuse(session, f"not subscribed to {command.identifier}")
            return None
        if type(command) is Perform or type(command) is Unsubscribe:
            return self._decisions.decide(session, command)
        if type(command) is ReadHistory:
            return self._replayer.replay(subscription, command.request)
        match command:
            case Whisper():
                return self.publications.whisper(subscription, command)
            case Join(_, member_id, info, is_bound):
                return self._presences.join(subscription, member_id, info, is_bound=is_bound)
            case Leave():
                return self._presences.leave(subscription)
            case ReadPresence(_, with_records):
                return self._presences.send_state(subscription, with_records=with_records)

    def _confirm_again(self, session: Session, command: Subscribe) -> None:
        """Confirms an existing subscription without asking the application: ``@rails/actioncable`` repeats
        the command twice a second for a second object with the same identifier, until it is confirmed.

        Source: https://github.com/rails/rails/pull/57504
        """
        if session.inbox is not None and session.inbox.is_answered(command.identifier):
            return
        session.send(Confirmed(command.identifier))
        self._counters.server_msg_total += 1
        self._follow_confirmation(session, command)

    def _follow_confirmation(self, session: Session, command: Subscribe) -> None:
        """Executes the other parts of a subscribe command, after its confirmation was sent."""
        identifier, history, join = command.identifier, command.history, command.join
        commands: list[Command] = [] if history is None else [ReadHistory(identifier, history)]
        if command.reads_members:
            commands.insert(0, ReadPresence(identifier))
            if history is None:  # else the messages follow the history
                subscription = session.subscriptions[identifier]
                commands.append(Checkpoint(partial(self._hub.go_live, subscription)))
        if join is not None:
            commands.insert(0 if command.reads_members else len(commands), join)
        self._follow(session, commands)
        if session.inbox is not None:
            session.inbox.note_confirmation(command.identifier)

    def _follow(self, session: Session, commands: Sequence[Command]) -> None:
        """Executes commands that belong to the one that has just been executed, before others of the client."""
        if session.inbox is None and len(commands) <= COMMANDS_AT_ONCE:
            for command in commands:
                self.execute(session, command)
        else:
            self._inboxes.put_first(session, commands)

    def _may_subscribe(self, session: Session, identifier: Identifier) -> bool:
        """Checks the limits of a client; beyond them, rejects the subscription without asking the application."""
        limits, counters = self._limits, self._counters
        if 0 < limits.max_identifier_size < len(identifier):
            counters.long_identifiers_total += 1
            why = f"expected an identifier of up to {limits.max_identifier_size} characters"
        elif 0 < limits.max_subscriptions <= len(session.subscriptions):
            counters.refused_subscriptions_total += 1
            why = f"expected up to {limits.max_subscriptions} subscriptions"
        else:
            return True
        counters.failed_client_msg_total += 1
        if self._observers.subscription_rejected is not None:
            self._observers.subscription_rejected(session.environment, identifier, why)
        session.send(Rejected(identifier))
        counters.server_msg_total += 1
        return False

    def _refuse(self, session: Session, why: str) -> None:
        """Drops an invalid command: counted and reported, not answered (as anycable-go)."""
        self._counters.failed_client_msg_total += 1
        if self._observers.refused is not None:
            self._observers.refused(session.environment, why)

    # Leaving

    def leave(self, session: Session, how: str = "") -> None:
        """Ends the work for a client whose transport is closed or lost. Called once, by the transport; ``how`` is its
        reason, see :meth:`catenary.ports.Observer.closed`."""
        session.closed = True
        self._counters.open_connections_num -= 1
        self._inboxes.close(session)
        self._pinger.left()
        if session.connected:
            self._end(session)
        if self._observers.closed is not None:
            self._observers.closed(session.environment, session.ended_for, how)

    def _end(self, session: Session) -> None:
        """Ends the work for a client that was connected."""
        session.connected = False
        if self._token_expiry is not None:
            self._token_expiry.forget(session)
        if self._observers.disconnected is not None:
            self._observers.disconnected(session.environment, session.ended_for)
        self._background.run(self._presences.disconnected(session))
        if session.is_resumable:
            self._background.run(self._resumption.keep(session))
        else:
            ended = Ended(session.environment, tuple(session.subscriptions))
            self._background.run(self._resumption.end(session, ended))
        self._hub.forget(session)
        session.subscriptions.clear()

    async def settle(self, timeout_s: float) -> None:
        """At shutdown, after the last client left: reports the sessions that can't be resumed, writes the others,
        and waits for calls that are completed although their client left."""
        self._resumption.give_up()
        self._background.run(self._resumption.flush())
        await self._background.wait(timeout_s)
        self._resumption.give_up_unsaved()

    # Time, and outages of the engine

    def tick(self) -> None:
        """Ends what has lasted for its time. To be called every second or so."""
        self._replayer.tick()
        self._background.run(self._presences.expire())
        self._background.run(self._resumption.expire())
        self._background.run(self._resumption.flush())

    def touch_members(self) -> None:
        """Extends the time to live of connected members. To be called several times within it."""
        self._background.run(self._presences.touch())

    def touch_sessions(self) -> None:
        """Extends the time to live of stored sessions. To be called several times within it."""
        self._background.run(self._resumption.touch())

    def restore(self) -> None:
        """The engine was away and may have lost its data: writes sessions and members again."""
        self._resumption.restore()
        self._background.run(self._resumption.flush())
        self._background.run(self._presences.restore())


def _action(name: str) -> str:
    """The message that calls an action without arguments."""
    return msgspec.json.encode({"action": name}).decode()
