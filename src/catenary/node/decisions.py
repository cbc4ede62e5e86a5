"""Decisions of the application about a client, and their effects.

A step of a client (it connects, subscribes, performs an action, unsubscribes) is decided by one call of the application.
Its decision is applied to the session in one plain function without an await, so there are no locks; then the
client is answered.
Knows: the application, sessions, the hub. Does not know: the order of a client's commands, publications.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from time import perf_counter
from typing import Final, Literal, final

import msgspec

from catenary.errors import AppError
from catenary.logs.fields import client_fields
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.maybe_awaitable import then
from catenary.messages.commands import Perform, Subscribe, Unsubscribe
from catenary.messages.decisions import (
    PRESENCE_STATE,
    WHISPER_STATE,
    Decision,
    PresenceCommand,
    Verdict,
)
from catenary.messages.names import Identifier, Stream
from catenary.messages.reasons import Reason
from catenary.messages.replies import Failed, Rejected
from catenary.metrics.counters import Counters
from catenary.node.answers import MESSAGE_BYTES
from catenary.node.background import BackgroundTasks
from catenary.node.disconnector import Disconnector, Ended
from catenary.node.hub import Hub
from catenary.node.inboxes import PendingDecision
from catenary.node.limits import ClientLimits
from catenary.node.observers import ObserverGroup
from catenary.node.presence import Presences
from catenary.node.replay import Replayer
from catenary.node.resumption import Resumption
from catenary.node.session import Session, Subscription
from catenary.node.token_expiry import TokenExpiry
from catenary.ports import SLICE_BYTES, Application, Pending

_log: Final = logging.getLogger("catenary.node")

FEW_MESSAGES: Final = 16
"""Messages of one decision that are sent at once; more are sent in slices."""


@final
class Connect(msgspec.Struct, frozen=True, gc=False):
    """The first step of every session, before its first command. ``asked_at`` is that of its
    :class:`catenary.node.session.Traits`."""

    asked_at: float


CommandStep = Subscribe | Unsubscribe | Perform
"""The commands about which the application decides."""

Step = Connect | CommandStep

DisconnectMode = Literal["auto", "always", "never"]
"""Whether the end of a session is reported to the application: if it wants that (auto), always, or never."""


class Decisions:
    """Asks the application, applies its decisions to sessions, and answers clients.

    ``confirmed`` is called when a subscription was confirmed to its client.
    """

    __slots__ = (
        "_application",
        "_background",
        "_confirmed",
        "_counters",
        "_disconnect_mode",
        "_disconnector",
        "_hub",
        "_limited",
        "_observers",
        "_presences",
        "_replayer",
        "_resumption",
        "_token_expiry",
        "limits",
    )

    def __init__(
        self,
        application: Application,
        confirmed: Callable[[Session, Subscribe], None],
        *,
        hub: Hub,
        replayer: Replayer,
        presences: Presences,
        resumption: Resumption,
        disconnector: Disconnector,
        disconnect_mode: DisconnectMode,
        counters: Counters,
        limits: ClientLimits,
        observers: ObserverGroup,
        background: BackgroundTasks,
        token_expiry: TokenExpiry | None,
    ) -> None:
        self._application = application
        self._confirmed = confirmed
        self._hub = hub
        self._replayer = replayer
        self._presences = presences
        self._resumption = resumption
        self._disconnector = disconnector
        self._disconnect_mode = disconnect_mode
        self._counters = counters
        self.limits = limits
        self._observers = observers
        self._background = background
        self._token_expiry = token_expiry
        self._limited = RateLimitedLogger(_log)

    # Asking the application

    def connect(self, session: Session, asked_at: float) -> Awaitable[None] | None:
        """Asks the application to admit a client; None if that is decided.

        The call is completed even if the client leaves: the end of a client that was admitted is always
        reported.
        """
        step = Connect(asked_at)
        try:
            answer = self._application.connect(session.environment)
        except AppError as error:
            return self.resolve(session, step, error)
        if isinstance(answer, Decision):
            return self.apply(session, step, answer)
        return self._resolve_awaited(session, step, answer)

    def decide(
        self, session: Session, step: CommandStep
    ) -> Awaitable[None] | PendingDecision[CommandStep] | None:
        """Asks the application about a command; None if that is decided and applied."""
        application, environment = self._application, session.environment
        answer: Decision | Awaitable[Decision]
        try:
            if type(step) is Perform:
                answer = application.perform(environment, step.identifier, step.data)
            elif type(step) is Subscribe:
                answer = application.subscribe(environment, step.identifier)
            else:
                answer = application.unsubscribe(environment, step.identifier)
        except AppError as error:
            return self.resolve(session, step, error)
        if isinstance(answer, Pending):
            return PendingDecision(step, answer)
        if isinstance(answer, Decision):
            return self.apply(session, step, answer)
        return self._resolve_awaited(session, step, answer)

    async def _resolve_awaited(
        self, session: Session, step: Step, answer: Awaitable[Decision]
    ) -> None:
        outcome: Decision | Exception
        try:
            outcome = await answer
        except Exception as error:  # noqa: BLE001
            outcome = error
        work = self.resolve(session, step, outcome)
        if work is not None:
            await work

    def resolve(
        self, session: Session, step: Step, outcome: Decision | Exception
    ) -> Awaitable[None] | None:
        """Ends a call: applies its decision, or logs the exception.

        An exception other than :class:`AppError` is a fault of this server and logged with its traceback.
        """
        if isinstance(outcome, Decision):
            return self.apply(session, step, outcome)
        name = type(step).__name__
        if isinstance(outcome, AppError):
            self._limited.warning(
                "%s failed",
                name,
                event="call_failed",
                reason=str(outcome),
                **client_fields(session.environment),
            )
        else:
            self._limited.error(
                "%s failed unexpectedly",
                name,
                exc_info=outcome,
                event="call_failed",
                **client_fields(session.environment),
            )
        self._fail(session, step, str(outcome) or type(outcome).__name__)
        return None

    def _fail(self, session: Session, step: Step, why: str) -> None:
        """There is no decision: drops the command, or closes a client that could not connect, which may retry."""
        if self._observers.failed is not None:
            identifier = None if type(step) is Connect else step.identifier
            self._observers.failed(session.environment, identifier, why)
        if type(step) is Connect:
            self.turn_away(session, Reason.AUTH_ERROR, why)
        else:
            self._counters.failed_client_msg_total += 1
            session.send(Failed(step))

    # Applying a decision

    def apply(self, session: Session, step: Step, decision: Decision) -> Awaitable[None] | None:
        """Applies a decision in one step. None if the client was answered, too; the answer waits until the new
        streams of a subscription are live.

        Nothing is applied if the client has left. If the application has just admitted it, its end is reported.
        """
        if session.closed:
            if type(step) is Connect and decision.verdict is Verdict.SUCCESS:
                self._end_admitted(session, decision)
            return None
        if decision.verdict is Verdict.ERROR:
            self._fail(session, step, decision.error)
            return None
        is_connect = type(step) is Connect
        changes = not is_connect and _changes_state(decision)
        if changes or is_connect or decision.identifiers or decision.presence is not None:
            subscription = (
                None if type(step) is Connect else session.subscriptions.get(step.identifier)
            )
            excess = self.limits.excess(session.environment, subscription, decision)
            if excess:
                return self._refuse(session, step, decision, excess)
            if is_connect and self._has_too_many_connections(decision):
                self._end_admitted(session, decision)
                self.turn_away(session, Reason.TOO_MANY_CONNECTIONS, "too many of this user")
                return None
        if decision.cstate:
            session.environment.merge_cstate(decision.cstate)
        if type(step) is Connect:
            self._apply_connect(session, decision, step.asked_at)
            return None
        identifier = step.identifier
        if type(step) is Subscribe:
            self._apply_subscribe(session, identifier, decision)
        elif type(step) is Unsubscribe:
            self._apply_unsubscribe(session, identifier)
        elif self._observers.performed is not None:
            self._observers.performed(session.environment, identifier, decision)
        if changes and identifier in session.subscriptions:
            asked = step if type(step) is Subscribe else None
            self._apply_streams(session.subscriptions[identifier], decision, asked)
        if changes or type(step) is not Perform:
            self._resumption.changed(session, identifier)
        live = self._hub.when_live(decision.streams) if decision.streams else None
        if live is None:
            return self._answer(session, step, decision)

        def answer(_: None) -> Awaitable[None] | None:
            return None if session.closed else self._answer(session, step, decision)

        return then(live, answer)

    def _refuse(
        self, session: Session, step: Step, decision: Decision, why: str
    ) -> Awaitable[None] | None:
        """A decision exceeds the limits of a client: no part of it is applied."""
        self._counters.refused_answers_total += 1
        self._limited.error("Answer to %s refused: %s", type(step).__name__, why, sid=session.sid)
        if type(step) is Unsubscribe:
            return self.apply(session, step, Decision(verdict=decision.verdict))
        if type(step) is Connect and decision.verdict is Verdict.SUCCESS:
            # The application has admitted the client: its end is reported.
            self._end_admitted(session, msgspec.structs.replace(decision, cstate=None))
        self._fail(session, step, why)
        if type(step) is Subscribe:
            session.send(Rejected(step.identifier))
            self._counters.server_msg_total += 1
        return None

    def _apply_connect(self, session: Session, decision: Decision, asked_at: float) -> None:
        if decision.verdict is Verdict.SUCCESS:
            session.environment.identifiers = decision.identifiers
            session.expires_at = decision.expires_at
            session.connected = True
            if self._token_expiry is not None:
                self._token_expiry.watch(session)
            self._hub.sessions.add(session)
            self._note_interest(session, decision)
            self._resumption.changed(session, None)
            if self._observers.connected is not None:
                self._observers.connected(session.environment, is_resumed=False)
            self._transmit(session, decision)
            self.note_welcome(asked_at)
            return
        self._counters.failed_auths_total += 1
        self._transmit(session, decision)
        self.turn_away(session, Reason.AUTH_FAILED, decision.error)

    def _has_too_many_connections(self, decision: Decision) -> bool:
        return decision.verdict is Verdict.SUCCESS and self.refuses_user(decision.identifiers)

    def refuses_user(self, identifiers: str, replaced: Session | None = None) -> bool:
        """Returns whether one more client of a user is refused, because the user has ``max_user_connections`` already, and counts
        the refusal. Clients without identifiers belong to no user. The connection of ``replaced`` does not count: the client
        resumes its session."""
        limit = self.limits.max_user_connections
        if not limit or not identifiers:
            return False
        present = self._hub.sessions.with_identifiers(identifiers)
        if len(present) - (replaced in present) < limit:
            return False
        self._counters.limited_users_total += 1
        return True

    def identify(self, session: Session, identifiers: str) -> None:
        """A connected client has proved which user it belongs to. Closes it if that user has too many connections."""
        if identifiers == session.environment.identifiers:
            return
        if self.refuses_user(identifiers):
            session.close(Reason.TOO_MANY_CONNECTIONS)
        else:
            self._hub.sessions.identify(session, identifiers)

    def note_welcome(self, asked_at: float) -> None:
        """Measures how long a client has waited for its welcome message."""
        if asked_at:
            self._counters.handshake_seconds.observe(perf_counter() - asked_at)

    def turn_away(self, session: Session, reason: Reason, why: str) -> None:
        """Rejects a client before it is connected: reports it, and closes the connection."""
        if self._observers.rejected is not None:
            self._observers.rejected(session.environment, reason, why)
        session.close(reason)

    def _end_admitted(self, session: Session, decision: Decision) -> None:
        """The application has admitted a client that does not become connected: reports its end."""
        session.environment.identifiers = decision.identifiers
        if decision.cstate:
            session.environment.merge_cstate(decision.cstate)
        self._note_interest(session, decision)
        if session.disconnect_wanted:
            self._disconnector.enqueue(Ended(session.environment, ()))

    def _note_interest(self, session: Session, decision: Decision) -> None:
        """Notes whether the end of the session is reported to the application; one decision that asks for it is enough."""
        if self._disconnect_mode == "always" or (
            self._disconnect_mode == "auto" and decision.disconnect_wanted is not False
        ):
            session.disconnect_wanted = True

    def _apply_subscribe(
        self, session: Session, identifier: Identifier, decision: Decision
    ) -> None:
        is_accepted = decision.verdict is Verdict.SUCCESS
        if is_accepted:
            session.subscriptions[identifier] = Subscription(session, identifier)
        self._note_interest(session, decision)
        observers = self._observers
        if is_accepted:
            if observers.subscribed is not None:
                observers.subscribed(session.environment, identifier)
        elif observers.subscription_rejected is not None:
            observers.subscription_rejected(session.environment, identifier, decision.error)

    def _apply_unsubscribe(self, session: Session, identifier: Identifier) -> None:
        """The subscription ends, whatever the application has decided."""
        subscription = session.subscriptions.pop(identifier)
        self._hub.unlisten_all(subscription)
        self._background.run(self._presences.leave(subscription))
        session.environment.forget_istate(identifier)
        if self._observers.unsubscribed is not None:
            self._observers.unsubscribed(session.environment, identifier)

    def _apply_streams(
        self, subscription: Subscription, decision: Decision, asked: Subscribe | None
    ) -> None:
        """Stops streams, then starts others, so that a decision may replace all of them. A stream that is stopped
        and started continues without a gap.

        ``asked`` says which answers follow. Messages that are published before those are buffered, and follow them.
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
        reads_members = asked is not None and asked.reads_members
        if asked is not None and asked.history is not None:
            listen = hub.listen_detached if reads_members else self._replayer.listen
        elif subscription.asked == "not yet":
            listen = hub.listen_detached
        elif reads_members:
            listen = hub.listen_after_members
        else:
            listen = hub.listen
        for stream in decision.streams:
            listen(subscription, stream)
        if decision.istate:
            subscription.session.environment.merge_istate(subscription.identifier, decision.istate)
            if WHISPER_STATE in decision.istate:
                subscription.whisper_stream = Stream(decision.istate[WHISPER_STATE]) or None
            if PRESENCE_STATE in decision.istate:
                subscription.presence_stream = Stream(decision.istate[PRESENCE_STATE]) or None
        if decision.whisper_stream is not None:
            subscription.whisper_stream = decision.whisper_stream
        if decision.presence_stream is not None:
            subscription.presence_stream = decision.presence_stream

    # Answering the client

    def _answer(
        self, session: Session, step: CommandStep, decision: Decision
    ) -> Awaitable[None] | None:
        """Sends the answer, then does what depends on it; None if that is done."""
        sent = self._transmit(session, decision)
        if sent is not None:

            def conclude(_: None) -> None:
                if not session.closed:
                    self._conclude(session, step, decision)

            return then(sent, conclude)
        self._conclude(session, step, decision)
        return None

    def _transmit(self, session: Session, decision: Decision) -> Awaitable[None] | None:
        """Sends the messages of a decision: at once, or in slices if they are many or large."""
        replies, transmissions = decision.replies, decision.transmissions
        count = len(replies) + len(transmissions)
        self._counters.server_msg_total += count
        if count > FEW_MESSAGES or (transmissions and sum(map(len, transmissions)) > SLICE_BYTES):
            return session.send_slices(_slices_of(session, decision))
        for reply in replies:
            session.send(reply)
        for transmission in transmissions:
            session.transmit(transmission)
        return None

    def _conclude(self, session: Session, step: CommandStep, decision: Decision) -> None:
        """Does what follows the answer: presence, the end of the connection, the rest of a subscribe command."""
        if decision.verdict is Verdict.FAILURE and type(step) is Perform:
            session.send(Failed(step))
        subscription = session.subscriptions.get(step.identifier)
        if decision.presence is not None and subscription is not None:
            self._apply_presence(subscription, decision.presence)
        if decision.disconnect:
            session.close(Reason.COMMAND_FAILED)
        elif type(step) is Subscribe and subscription is not None:
            self._confirmed(session, step)

    def _apply_presence(self, subscription: Subscription, command: PresenceCommand) -> None:
        if command.kind == "join":
            self._background.run(self._presences.join(subscription, command.id, command.info))
        else:
            self._background.run(self._presences.leave(subscription))


def _changes_state(decision: Decision) -> bool:
    """Whether a decision changes the streams or the state of a session."""
    return bool(
        decision.streams
        or decision.stopped_streams
        or decision.stop_all_streams
        or decision.cstate
        or decision.istate
        or decision.whisper_stream is not None
        or decision.presence_stream is not None
    )


def _slices_of(session: Session, decision: Decision) -> Iterator[bytes]:
    """The messages of a decision, in batches of about :data:`SLICE_BYTES`."""
    encoder = session.encoder
    is_observed = encoder.observers.transmitted is not None
    batch: list[bytes] = []
    room = SLICE_BYTES
    for each in chain(decision.replies, decision.transmissions):
        if isinstance(each, str):
            message = encoder.encode_transmission(each)
        else:
            message = encoder.encode(each)
        if message is None:
            continue
        if is_observed:
            session.report_transmitted(each)
        batch.append(message)
        room -= MESSAGE_BYTES + len(message)
        if room <= 0:
            yield b"".join(batch)
            batch, room = [], SLICE_BYTES
    if batch:
        yield b"".join(batch)
