"""The application as a server calls it: commands of clients → methods of the application → decisions.

Satisfies :class:`catenary.ports.Application`. A call for which the application has no code is decided
at once; every other decision is awaited. Its methods never raise: an exception of the application is
logged, and the call is rejected or answered with an error.
Source: ActionCable::Connection::Subscriptions; lib/anycable/rails/connection.rb of anycable-rails.
Knows: classes and calls. Does not know: sessions, hubs, servers.
"""

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import msgspec

from catenary.channels import subscription_tasks
from catenary.channels.call import Broadcaster, Call
from catenary.channels.channel import Channel
from catenary.channels.connection import Connection
from catenary.channels.declaration import Declaration
from catenary.channels.dispatch import Dispatcher, Owners, Prepare, no_arguments
from catenary.channels.ended_subscriptions import EndedSubscriptions
from catenary.channels.errors import RateLimited, UnknownAction, UnknownChannel
from catenary.channels.failures import Failures, limited
from catenary.channels.plans import Plan, ServedChannel, plan_of, served_channels
from catenary.channels.publishing import PublicationSender, Publisher
from catenary.channels.rates import Limiter, Rate
from catenary.channels.reading import Reader, StreamReader
from catenary.channels.running import Runner, run_now
from catenary.channels.subscription_key import SubscriptionKey
from catenary.channels.timers import LocalTimers, Performer
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.lenient_json import reader
from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Disconnected, Rejected, Welcome

T = TypeVar("T")

REPEATED_END_S: Final = 5.0
"""Behind RPC, an end of the session this long after the end of a subscription may follow a new
subscription, made in another process: then ``unsubscribed`` runs again."""

DEFAULT_ACTION: Final = "receive"
"""The action of a command that names none: ActionCable::Channel::Base, perform_action."""


class _Params(msgspec.Struct, gc=False):
    channel: str


class _Performed(msgspec.Struct, gc=False):
    action: str = DEFAULT_ACTION


_read_channel: Final = reader(_Params)
_read_action: Final = reader(_Performed)
_NOT_BUILT: Final = (msgspec.DecodeError, UnknownChannel)


class CableApplication:
    """Calls the methods of one connection class and its channels.

    ``broadcaster`` publishes for methods; ``publications`` and ``reading`` are bound to the server that
    starts the application. ``clock`` measures rates, in seconds.
    """

    def __init__(
        self,
        connection: type[Connection],
        channels: Sequence[type[Channel[Any]]],
        *,
        broadcaster: Broadcaster,
        publications: PublicationSender,
        reading: StreamReader,
        runner: Runner,
        failures: Failures,
        restored_action: str,
        clock: Callable[[], float],
    ) -> None:
        """Raises :class:`DeclarationError` for classes that can't be served."""
        declared = Declaration(connection, Connection, is_channels=False)
        rescuers = tuple(declared.rescuers)
        self.restored_action = restored_action
        self._failures = failures
        self.limited_total = 0
        """Calls that a rate limit of an action or a channel refused."""
        self._connection_class = connection
        self._hints = declared.hints
        self._connects = plan_of(
            tuple(declared.overridden("connect")), None, rescuers, says_yes=True
        )
        self._disconnects = plan_of(tuple(declared.overridden("disconnect")), None, rescuers)
        self._channels = served_channels(channels, declared)
        self.timers = LocalTimers(
            tuple(timer for each in self._channels.values() for timer in each.declared_timers)
        )
        self._broadcaster = broadcaster
        self._publications = publications
        self._reading = reading
        self._runner = runner
        self._dispatcher = Dispatcher(runner, declared.states)
        self._limiter = Limiter()
        self._clock = clock
        self._detached: set[asyncio.Task[Any]] = set()
        """Tasks that are finished even if their client leaves."""
        self._ended: EndedSubscriptions | None = EndedSubscriptions()

    @property
    def is_hosted(self) -> bool:
        """Whether a server in this process runs the cable."""
        return self._publications.is_hosted

    @property
    def failed_total(self) -> int:
        """Calls that failed with an exception that nothing rescued."""
        return self._failures.total

    @property
    def slow_total(self) -> int:
        """Times a method blocked the event loop for longer than ``slow_ms``."""
        return self._runner.slow_total

    # Start and stop

    async def start(
        self,
        publisher: Publisher,
        performer: Performer | None = None,
        reader: Reader | None = None,
        *,
        reports_ends_once: bool = True,
    ) -> None:
        """Binds the cable to a server, which runs in the running loop.

        ``performer`` runs its timers, ``reader`` reads presence and history. Without
        ``reports_ends_once`` the server itself reports each end of a subscription only once.
        """
        self._publications.start(publisher)
        self._reading.start(reader)
        self._ended = EndedSubscriptions() if reports_ends_once else None
        if performer is not None:
            self.timers.start(performer)

    async def stop(self, timeout_s: float) -> None:
        """Waits for calls that must be finished, cancels those that take longer, and releases."""
        await subscription_tasks.abandon_all(self._broadcaster)
        self.timers.stop()
        if self._detached:
            _, late = await asyncio.wait(self._detached, timeout=timeout_s)
            for task in late:
                task.cancel()
        self.release()

    def release(self) -> None:
        """Unbinds the cable from its server and shuts its threads down, without waiting for them."""
        self._publications.stop()
        self._reading.stop()
        self.timers.stop()
        self._runner.close()

    # The port

    def connect(self, environment: Environment) -> Decision | Awaitable[Decision]:
        """Decides whether a client may connect."""
        call = Call(environment, Identifier(""), self._broadcaster)
        return self._decide(call, self._connects, self._connect(call))

    def subscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """Decides whether a client may subscribe. An exception is a rejection."""
        call = Call(environment, identifier, self._broadcaster)
        try:
            served, channel = self._build_channel(call)
        except _NOT_BUILT as error:
            return call.refusal(Rejected(identifier), disconnect_wanted=False, error=str(error))
        self._forget_end(environment.sid, identifier)
        work = self._subscribe(call, served, channel)
        return self._decide(call, served.subscribe, work, served)

    def unsubscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """Ends a subscription. The call is finished even if its client leaves meanwhile."""
        call = Call(environment, identifier, self._broadcaster)
        try:
            served, channel = self._build_channel(call)
        except _NOT_BUILT as error:
            limited.warning(
                "Can't report the end of a subscription to %.200s: %s",
                identifier,
                error,
                sid=environment.sid,
            )
            return Decision(stop_all_streams=True)
        work = self._unsubscribe(call, served, channel)
        if served.unsubscribe.is_empty:
            return run_now(work)
        if self._ended is not None:
            self._ended.add(_key_of(call), self._clock())
        return self._finish(call, work)

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Decision | Awaitable[Decision]:
        """Calls an action. The server, too, performs actions that only it can name: timers and
        ``restored``."""
        call = Call(environment, identifier, self._broadcaster)
        try:
            served, channel = self._build_channel(call)
            name = _read_action(data).action
        except _NOT_BUILT as error:
            limited.warning(
                "Did not perform an action: %.200s: %s", data, error, sid=environment.sid
            )
            return Decision(verdict=Verdict.ERROR, error=f"not performed: {error}")
        if name == self.restored_action:
            self._forget_end(environment.sid, identifier)
            self.timers.add(served.kind.channel_name, _key_of(call))
            work = self._perform(call, served.restore, channel, "restored", no_arguments)
            return self._decide(call, served.restore, work)
        if name.startswith(self.timers.prefix):
            timer = name.removeprefix(self.timers.prefix)
            if timer in served.timer_plans:
                work = self._perform_timer(call, served, channel, timer)
                return self._decide(call, served.timer_plans[timer], work)
        plan = served.performs.get(name, served.nothing)
        prepare = functools.partial(self._prepare, call, served, name, data)
        return self._decide(call, plan, self._perform(call, plan, channel, name, prepare))

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        """Reports the end of a session to each of its channels, then to its connection."""
        for identifier in subscriptions:
            if self._was_reported(environment.sid, identifier):
                continue
            answer = self.unsubscribe(environment, identifier)
            if not isinstance(answer, Decision):
                await answer
            self._forget_end(environment.sid, identifier)
        call = Call(environment, Identifier(""), self._broadcaster)
        connection = self._connection(call)
        error = await self._dispatcher.carry_out(
            call, self._disconnects, Owners(connection), no_arguments
        )
        self._failures.note(call, "disconnect", error)
        await _settle(call)

    def restored_command(self) -> str:
        """The data of the command that is performed on each subscription of a resumed session."""
        return msgspec.json.encode({"action": self.restored_action}).decode()

    # Ends of subscriptions, each reported once

    def _forget_end(self, sid: Sid, identifier: Identifier) -> float | None:
        if self._ended is None:
            return None
        return self._ended.pop(SubscriptionKey(sid, identifier))

    def _was_reported(self, sid: Sid, identifier: Identifier) -> bool:
        moment = self._forget_end(sid, identifier)
        if moment is None:
            return False
        return self.is_hosted or self._clock() - moment < REPEATED_END_S

    # One call

    def _build_channel(self, call: Call) -> tuple[ServedChannel, Channel[Any]]:
        """Raises one of _NOT_BUILT for an identifier that names no channel or has params of other
        types than the channel declares."""
        name = _read_channel(call.identifier).channel
        served = self._channels.get(name)
        if served is None:
            raise UnknownChannel(f"expected a channel of this cable, got {name!r}")
        return served, served.build(call, self._connection(call))

    def _connection(self, call: Call) -> Connection:
        return self._connection_class(call, self._hints)

    def _decide(
        self,
        call: Call,
        plan: Plan,
        work: Coroutine[Any, Any, Decision],
        subscribing: ServedChannel | None = None,
    ) -> Decision | Awaitable[Decision]:
        """Decides at once if the application has no code for this call, or if its code did not wait."""
        if plan.is_empty:
            return run_now(work)
        return _start(self._decide_later(call, work, subscribing))

    async def _decide_later(
        self, call: Call, work: Coroutine[Any, Any, Decision], subscribing: ServedChannel | None
    ) -> Decision:
        """Returns the decision when everything that the call published was accepted.

        If the client leaves meanwhile, the server never learns that a subscription was confirmed:
        its end is reported from here.
        """
        try:
            decision = await work
            await _settle(call)
        except asyncio.CancelledError:
            if subscribing is not None and call.is_completed and not call.is_rejected:
                self._detach(self._end_unconfirmed(call))
            raise
        return decision

    async def _end_unconfirmed(self, call: Call) -> None:
        """Ends a subscription that the application accepted and the server does not know."""
        answer = self.unsubscribe(call.environment, call.identifier)
        if not isinstance(answer, Decision):
            await answer

    async def _finish(self, call: Call, work: Coroutine[Any, Any, Decision]) -> Decision:
        """Finishes the call even if its client leaves meanwhile and this wait is cancelled.

        Only in that case does a server in this process report the same end again, with the end of
        the session: otherwise the end is forgotten.
        """
        decision = await asyncio.shield(self._detach(self._decide_later(call, work, None)))
        if self.is_hosted:
            self._forget_end(call.environment.sid, call.identifier)
        return decision

    def _detach(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Starts a task that is finished even if the client leaves."""
        task = asyncio.get_running_loop().create_task(work)
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)
        return task

    async def _connect(self, call: Call) -> Decision:
        connection = self._connection(call)
        connection.open_for_identifiers()
        error = await self._dispatcher.carry_out(
            call, self._connects, Owners(connection), no_arguments
        )
        if call.is_rejected:
            goodbye = Disconnected(Reason.UNAUTHORIZED, reconnect=False)
            return call.refusal(goodbye, disconnect_wanted=False)
        if error is None:
            try:
                identifiers = connection.identify()
            except TypeError as unset:
                error = unset
            else:
                wanted = bool(self._disconnects.methods)
                welcome = Welcome(call.environment.sid)
                return call.decision(welcome, identifiers=identifiers, disconnect_wanted=wanted)
        self._failures.note(call, "connect", error)
        return _failure(error)

    async def _subscribe(
        self, call: Call, served: ServedChannel, channel: Channel[Any]
    ) -> Decision:
        error = await self._dispatcher.carry_out(
            call, served.subscribe, Owners(channel.connection, channel), no_arguments
        )
        self._failures.note(call, f"{served.kind.__name__}.subscribed", error)
        if error is not None or call.is_rejected:
            call.is_rejected = True
            return call.refusal(Rejected(call.identifier), disconnect_wanted=False)
        self.timers.add(served.kind.channel_name, _key_of(call))
        return call.decision(
            Confirmed(call.identifier), disconnect_wanted=bool(served.unsubscribe.methods)
        )

    async def _unsubscribe(
        self, call: Call, served: ServedChannel, channel: Channel[Any]
    ) -> Decision:
        self.timers.remove(served.kind.channel_name, _key_of(call))
        error = await self._dispatcher.carry_out(
            call, served.unsubscribe, Owners(channel.connection, channel), no_arguments
        )
        self._failures.note(call, f"{served.kind.__name__}.unsubscribed", error)
        call.stop_all()
        return call.decision()

    async def _perform(
        self,
        call: Call,
        plan: Plan,
        channel: Channel[Any],
        name: str,
        prepare: Prepare,
    ) -> Decision:
        error = await self._dispatcher.carry_out(
            call, plan, Owners(channel.connection, channel), prepare
        )
        if error is not None:
            self._failures.note(call, f"{type(channel).__name__}.{name:.40}", error)
            return _failure(error)
        return call.refusal() if call.is_rejected else call.decision()

    async def _perform_timer(
        self, call: Call, served: ServedChannel, channel: Channel[Any], timer: str
    ) -> Decision:
        try:
            plan = served.timer_plans[timer]
            return await self._perform(call, plan, channel, timer, no_arguments)
        finally:
            self.timers.finish_run(served.kind.channel_name, timer, _key_of(call))

    def _prepare(self, call: Call, served: ServedChannel, name: str, data: str) -> dict[str, Any]:
        """Returns the arguments of an action. Raises :class:`ChannelError`."""
        kind = served.kind.__name__
        action = served.actions.get(name)
        if action is None:
            raise UnknownAction(f"{kind}: expected an action, got {name[:40]!r}")
        self._check_rate(call, served.rate, kind, "")
        self._check_rate(call, action.rate, f"{kind}.{name}", name)
        return action.read(data)

    def _check_rate(self, call: Call, rate: Rate | None, what: str, name: str) -> None:
        if rate is None:
            return
        caller = (call.environment.sid, call.identifier, name)
        if not self._limiter.allows(caller, rate, self._clock()):
            self.limited_total += 1
            raise RateLimited(f"{what}: expected at most {rate}, got more")


def _key_of(call: Call) -> SubscriptionKey:
    return SubscriptionKey(call.environment.sid, call.identifier)


def _start(work: Coroutine[Any, Any, Decision]) -> Decision | Awaitable[Decision]:
    """Starts a coroutine at once where Python can: since 3.12 a task may start, and even finish, within
    this call."""
    if sys.version_info < (3, 12):
        return work
    task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
    return task.result() if task.done() else task


async def _settle(call: Call) -> None:
    """Waits for publications that the method did not await. Failures are logged, not raised."""
    for sent in call.sent:
        await sent.settled()


def _failure(error: Exception | None) -> Decision:
    return Decision(verdict=Verdict.ERROR, error=f"{type(error).__name__}: {error}")
