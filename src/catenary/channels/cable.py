"""The cable: an application's connection class and its channels, as a server asks them.

Satisfies :class:`catenary.ports.Application`. A question whose methods have nothing to wait for is
answered at once; every other answer is awaited. It never raises: what goes wrong in the
application is logged, and becomes a refusal or an error of that one call.
Source: ActionCable::Connection::Subscriptions; lib/anycable/rails/connection.rb of anycable-rails.
Knows: classes and calls. Does not know: sessions, hubs, how it is asked.
"""

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

import msgspec

from catenary.channels.call import Call, current
from catenary.channels.channel import Channel
from catenary.channels.connection import Connection, identifiers
from catenary.channels.declaration import Declaration
from catenary.channels.dispatch import Dispatcher, Owners, Prepare, no_arguments
from catenary.channels.endings import Endings
from catenary.channels.errors import (
    ChannelError,
    DeclarationError,
    RateLimited,
    UnknownAction,
    UnknownChannel,
)
from catenary.channels.html import Html, turbo_stream_from
from catenary.channels.plans import Plan, Served, connection_of, plan_of
from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.channels.publishing import (
    Publications,
    Publisher,
    Sent,
    When,
    disconnection,
    publication,
)
from catenary.channels.rates import Limiter, Rate
from catenary.channels.reading import Kept, Present, Reader, Reading
from catenary.channels.rpc_http import AsgiRpc, WsgiRpc, rpc_key
from catenary.channels.running import Around, Runner, run_now
from catenary.channels.streams import stream_name
from catenary.channels.surroundings import Surroundings
from catenary.channels.timers import Beats, DeclaredTimer, Place
from catenary.channels.tokens import TTL, Signer
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.lenient_json import reader
from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Disconnected, Rejected, Welcome

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))
T = TypeVar("T")

CROSSING_S: Final = 5.0
"""For how long behind RPC: later, the client may have subscribed anew at another process."""

DEFAULT_ACTION: Final = "receive"
"""What is called where a client names no action: ActionCable::Channel::Base, perform_action."""


class Performer(Protocol):
    """Runs commands that the application itself begins: for timers."""

    def perform(self, sid: Sid, identifier: Identifier, data: str) -> bool:
        """As if the client had said it, behind what it said before; False where there is no such
        subscription."""
        ...


OnError = Callable[[str, str, Exception], None]
"""Takes a session's id, the name of the method, and what it raised."""


class _Params(msgspec.Struct, gc=False):
    channel: str


class _Performed(msgspec.Struct, gc=False):
    action: str = DEFAULT_ACTION


_read_channel: Final = reader(_Params)
_read_action: Final = reader(_Performed)
_NOT_BUILT: Final = (msgspec.DecodeError, UnknownChannel)


class RemoteConnections:
    """All connections with the same identifiers, wherever they are."""

    def __init__(self, publications: Publications, identifiers: str) -> None:
        self._publications = publications
        self._identifiers = identifiers

    def disconnect(self, *, reconnect: bool = True) -> Sent:
        """Ends them; ``reconnect`` tells clients whether they may come back."""
        return self._publications.send(disconnection(self._identifiers, reconnect=reconnect))


class Cable:
    """An application: who may connect, and the channels there are. Complete when it is built."""

    def __init__(
        self,
        *,
        connection: type[Connection] = Connection,
        channels: Sequence[type[Channel[Any]]],
        publisher: Publisher | None = None,
        threads: int = 10,
        slow_ms: int = 100,
        restored_action: str | None = None,
        publish_when: When | None = None,
        around: Around = contextlib.nullcontext,
        secret: str | None = None,
        api_url: str | None = None,
        api_secret: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``publisher`` takes publications where no server hosts the cable; without one, the
        variables of the server name it (see ``surroundings.py``). ``threads`` is how many
        plain functions run at once. A method that holds the loop longer than ``slow_ms`` is
        reported. ``restored_action`` is what the server performs on the subscriptions of a
        resumed session; a secret of this process unless given. ``clock`` measures rates, in
        seconds.

        ``publish_when`` is given a function for everything that is to be published, and calls it
        when the moment has come, as ``transaction.on_commit`` does. ``around`` is entered for every
        method that may wait, and left behind it: by plain functions in their thread, by coroutines
        in the loop. The server's ``secret`` signs
        tokens and names of streams; ``api_url`` is where its API answers, which wants ``api_secret``
        or a key from the ``secret``. What is not given is read from ``ANYCABLE_SECRET``,
        ``ANYCABLE_API_URL`` and ``ANYCABLE_API_SECRET`` when it is needed.

        Raises :class:`DeclarationError` for classes that can't be served.
        """
        declared = Declaration(connection, Connection, is_channels=False)
        self.connection_class = connection
        self.restored_action = restored_action or f"$restored:{secrets.token_hex(8)}"
        self.on_error: list[OnError] = []
        """Called for what is logged as a failure: for services that collect errors."""
        self.limited_total = 0
        """Calls beyond the rates of actions and channels."""
        self.failed_total = 0
        """Calls in which the application raised something that nothing rescued."""
        self._hints = declared.hints
        rescuers = tuple(declared.rescuers)
        self._connects = plan_of(tuple(declared.own("connect")), None, rescuers, says_yes=True)
        self._disconnects = plan_of(tuple(declared.own("disconnect")), None, rescuers)
        self._served: dict[str, Served] = {}
        for kind in channels:
            self._serve(kind, declared)
        self._given = {
            name: value
            for name, value in (
                ("ANYCABLE_SECRET", secret),
                ("ANYCABLE_API_URL", api_url),
                ("ANYCABLE_API_SECRET", api_secret),
            )
            if value is not None
        }
        self._publications = Publications(publisher, self._find_publisher, publish_when)
        self._reading = Reading(self._ask_elsewhere)
        self._runner = Runner(threads=threads, slow_s=slow_ms / 1000, around=around)
        self._dispatcher = Dispatcher(self._runner, declared.states)
        self._limiter = Limiter()
        self._clock = clock
        self._owned: set[asyncio.Task[Any]] = set()
        self._endings: Endings | None = Endings()
        # Timers
        self._beat_prefix = f"$every:{secrets.token_hex(8)}:"
        self._performer: Performer | None = None
        self._beats = Beats(self._strike)

    def _serve(self, kind: type[Channel[Any]], connection: Declaration) -> None:
        if kind.channel_name in self._served:
            raise DeclarationError(
                f"expected channels of different names, got {kind.channel_name} twice"
            )
        wanted = connection_of(kind)
        if not issubclass(self.connection_class, wanted):
            raise DeclarationError(
                f"{kind.__name__}: expected connections of {wanted.__name__}, the cable has"
                f" {self.connection_class.__name__}"
            )
        self._served[kind.channel_name] = Served(kind, connection)
        kind.outlet = self

    @property
    def channels(self) -> tuple[type[Channel[Any]], ...]:
        """The channels that it serves."""
        return tuple(each.kind for each in self._served.values())

    @property
    def declared_timers(self) -> tuple[DeclaredTimer, ...]:
        """The methods of ``every``."""
        return tuple(
            DeclaredTimer(channel, name, timer.interval_s)
            for channel, served in self._served.items()
            for name, timer in served.timers.items()
        )

    @property
    def timers(self) -> int:
        """Timers that run: one for each subscription and method of ``every``."""
        return self._beats.running

    @property
    def is_hosted(self) -> bool:
        """A server in this process takes what it publishes."""
        return self._publications.is_hosted

    @property
    def waiting(self) -> int:
        """Plain functions that run or wait for a thread: one for each client at most."""
        return self._runner.waiting

    @property
    def slow_total(self) -> int:
        """Methods that have held the loop for longer than ``slow_ms``."""
        return self._runner.slow_total

    # The life of whoever hosts it

    async def start(
        self,
        publisher: Publisher,
        performer: Performer | None = None,
        reader: Reader | None = None,
        *,
        counts_endings: bool = True,
    ) -> None:
        """A server hosts the cable, in the running loop; ``performer`` runs its timers, ``reader``
        knows what is kept.

        Unless it ``counts_endings``, the server sees to it that no end of a subscription is told twice.
        """
        self._publications.start(publisher)
        self._reading.start(reader)
        self._endings = Endings() if counts_endings else None
        self._performer = performer
        if performer is not None:
            self._beats.declare(self.declared_timers)

    async def stop(self, timeout_s: float) -> None:
        """The server ends: waits for what is to be seen through, and drops the rest."""
        self._beats.stop()
        if self._owned:
            _, late = await asyncio.wait(self._owned, timeout=timeout_s)
            for task in late:
                task.cancel()
        self.release()

    def release(self) -> None:
        """Lets go of the server and of the threads, without waiting for anything but a publisher that
        it opened itself."""
        self._publications.stop()
        self._reading.stop()
        self._performer = None
        self._runner.close()

    # Publishing

    def broadcast(
        self,
        stream: object,
        message: object,
        *,
        exclude_socket: str | None = None,
        to_others: bool = False,
        transient: bool = False,
    ) -> Sent:
        """Publishes to a stream: its name, or an object that names it.

        ``exclude_socket`` is the sid of a connection that does not get it; ``to_others`` within a
        channel's method excludes its own client. A ``transient`` message is not kept in the history.
        Raises TypeError for what JSON can't carry, :class:`catenary.errors.BackendError`, or what it
        returns does, where nobody takes it.
        """
        exclude = exclude_socket or ""
        call = current.get()
        if to_others:
            if call is None:
                raise TypeError("to_others: expected to be within a channel's method")
            exclude = call.environment.sid
        raw = publication(stream_name(stream), message, exclude, transient=transient)
        sent = self._publications.send(raw)
        if call is not None and not sent.is_done:
            call.sent.append(sent)
        return sent

    def batch(self) -> AbstractContextManager[None]:
        """Everything published within goes out as one, in order, unless the block raises."""
        return self._publications.batch()

    def remote_connections(self, **values: object) -> RemoteConnections:
        """All connections of these identifiers. Raises TypeError unless exactly the names of
        ``identified_by`` are given."""
        names = self.connection_class.identified_by
        if not names or set(values) != set(names):
            raise TypeError(f"expected the identifiers {names}, got {tuple(values)}")
        return RemoteConnections(
            self._publications, identifiers({name: values[name] for name in names})
        )

    # Reading

    async def presence(self, stream: object) -> list[Present]:
        """Who is on a stream: its name, or an object that names it.

        Raises :class:`catenary.errors.NotKept` where the server has no broker, and
        :class:`catenary.errors.BackendError` where it can't be asked.
        """
        return await self._reading.presence(stream_name(stream))

    def history(
        self,
        stream: object,
        *,
        since: float | datetime | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Kept]:
        """What is kept of a stream, the oldest first: all, or ``since`` a moment (seconds since the
        epoch, which are whole ones for the server), or ``after`` the ``position`` of a message.

        Of more than ``limit`` messages these are the newest; after a position, those that come next.
        Raises as :meth:`presence`, and :class:`catenary.errors.LostPosition` where some of what
        stood behind the position is gone.
        """
        return self._reading.history(stream_name(stream), since, after, limit)

    # What clients are given

    def signed_stream_name(self, *names: object) -> str:
        """The name of a stream, or objects that name one, signed: a right to hear it without a channel."""
        return self._signer.signed_stream_name(*names)

    def turbo_stream_from(self, *names: object) -> Html:
        """The tag with which Turbo listens to such a stream."""
        return turbo_stream_from(*names, secret=self._signer.turbo_secret)

    def token(self, identifiers: Mapping[str, object], *, ttl: timedelta | float = TTL) -> str:
        """A token with which a client connects as this, without ``connect`` being asked; ``ttl`` is
        in seconds, unless it says."""
        names = self.connection_class.identified_by
        if names and set(identifiers) != set(names):
            raise TypeError(f"expected the identifiers {names}, got {tuple(identifiers)}")
        return self._signer.token(identifiers, ttl)

    def _find_publisher(self) -> OrderedPublisher:
        return self._surroundings.publisher()

    def _ask_elsewhere(self) -> Reader:
        return self._surroundings.reader()

    @functools.cached_property
    def _surroundings(self) -> Surroundings:
        return Surroundings({**os.environ, **self._given})

    @functools.cached_property
    def _signer(self) -> Signer:
        found = self._surroundings
        return Signer(found.keys, found.options.jwt, time.time)

    # Behind RPC

    def http_rpc(self, *, key: str | None = None, secret: str | None = None) -> AsgiRpc:
        """An ASGI application that answers HTTP RPC, to be mounted anywhere.

        Callers know the ``key``, or the one that is derived from the application's ``secret``.
        Raises :class:`catenary.errors.ConfigError` where neither is given.
        """
        return AsgiRpc(self, rpc_key(key, secret))

    def wsgi_http_rpc(self, *, key: str | None = None, secret: str | None = None) -> WsgiRpc:
        """The same as a WSGI application."""
        return WsgiRpc(self, rpc_key(key, secret))

    # What the server asks

    def connect(self, environment: Environment) -> Decision | Awaitable[Decision]:
        """May this client connect?"""
        call = Call(environment, Identifier(""), self)
        return self._answer(call, self._connects, self._connect(call))

    def subscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """May it subscribe? What goes wrong is a rejection."""
        call = Call(environment, identifier, self)
        try:
            found, channel = self._build(call)
        except _NOT_BUILT as error:
            _limited.warning("sid=%s Rejected: %.200s: %s", environment.sid, identifier, error)
            return call.refusal(Rejected(identifier), disconnect_wanted=False)
        self._forget_ending(environment.sid, identifier)
        work = self._subscribe(call, found, channel)
        return self._answer(call, found.subscribe, work, found)

    def unsubscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """It gives a subscription back. Seen through, although its client may leave meanwhile."""
        call = Call(environment, identifier, self)
        try:
            found, channel = self._build(call)
        except _NOT_BUILT as error:
            _limited.warning(
                "sid=%s Not told of its end: %.200s: %s", environment.sid, identifier, error
            )
            return Decision(stop_all_streams=True)
        work = self._unsubscribe(call, found, channel)
        if found.unsubscribe.is_empty:
            return run_now(work)
        self._note_ending(call)
        return self._see_through(call, work)

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Decision | Awaitable[Decision]:
        """It calls an action, or the server lets one run that only it can name."""
        call = Call(environment, identifier, self)
        try:
            found, channel = self._build(call)
            name = _read_action(data).action
        except _NOT_BUILT as error:
            _limited.warning("sid=%s Not performed: %.200s: %s", environment.sid, data, error)
            return Decision(verdict=Verdict.ERROR, error=f"not performed: {error}")
        if name == self.restored_action:
            self._forget_ending(environment.sid, identifier)
            self._begin_beats(call, found)
            work = self._perform(call, found.restore, channel, "restored", no_arguments)
            return self._answer(call, found.restore, work)
        timer = name.removeprefix(self._beat_prefix) if name.startswith(self._beat_prefix) else ""
        if timer in found.beats:
            work = self._beat(call, found, channel, timer)
            return self._answer(call, found.beats[timer], work)
        plan = found.performs.get(name, found.nothing)
        prepare = functools.partial(self._prepare, call, found, name, data)
        return self._answer(call, plan, self._perform(call, plan, channel, name, prepare))

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        """The session is over: tells each channel, then the connection."""
        for identifier in subscriptions:
            if self._was_told(environment.sid, identifier):
                continue
            answer = self.unsubscribe(environment, identifier)
            if not isinstance(answer, Decision):
                await answer
            self._forget_ending(environment.sid, identifier)
        call = Call(environment, Identifier(""), self)
        connection = self._connection(call)
        error = await self._dispatcher.carry_out(
            call, self._disconnects, Owners(connection), no_arguments
        )
        self._report(call, "disconnect", error)
        await _taken(call)

    def _note_ending(self, call: Call) -> None:
        if self._endings is not None:
            self._endings.note(Place(call.environment.sid, call.identifier), self._clock())

    def _forget_ending(self, sid: Sid, identifier: Identifier) -> float | None:
        if self._endings is None:
            return None
        return self._endings.forget(Place(sid, identifier))

    def _was_told(self, sid: Sid, identifier: Identifier) -> bool:
        """Whether the end of this subscription is known, and is told once more."""
        moment = self._forget_ending(sid, identifier)
        if moment is None:
            return False
        return self.is_hosted or self._clock() - moment < CROSSING_S

    def restored_command(self) -> str:
        """What is performed on the subscriptions of a resumed session."""
        return msgspec.json.encode({"action": self.restored_action}).decode()

    # One call

    def _build(self, call: Call) -> tuple[Served, Channel[Any]]:
        """Raises what is in _NOT_BUILT for an identifier that names no channel, or that has other
        params than the channel declares."""
        name = _read_channel(call.identifier).channel
        found = self._served.get(name)
        if found is None:
            raise UnknownChannel(f"expected a channel of this cable, got {name!r}")
        return found, found.build(call, self._connection(call))

    def _connection(self, call: Call) -> Connection:
        return self.connection_class(call, self._hints)

    def _answer(
        self,
        call: Call,
        plan: Plan,
        work: Coroutine[Any, Any, Decision],
        subscribing: Served | None = None,
    ) -> Decision | Awaitable[Decision]:
        """Answers at once where the application has no code for this call, or it did not wait."""
        if plan.is_empty:
            return run_now(work)
        return _begin(self._answer_later(call, work, subscribing))

    async def _answer_later(
        self, call: Call, work: Coroutine[Any, Any, Decision], subscribing: Served | None
    ) -> Decision:
        """The answer, when everything that was published is taken.

        Where the client leaves meanwhile, nobody will hear of a subscription that was let in: it
        ends here.
        """
        try:
            decision = await work
            await _taken(call)
        except asyncio.CancelledError:
            if subscribing is not None and call.is_through and not call.is_rejected:
                self._own(self._end_unseen(call))
            raise
        return decision

    async def _end_unseen(self, call: Call) -> None:
        answer = self.unsubscribe(call.environment, call.identifier)
        if not isinstance(answer, Decision):
            await answer

    async def _see_through(self, call: Call, work: Coroutine[Any, Any, Decision]) -> Decision:
        """Finishes the call even if its client leaves meanwhile, and the wait for it is cancelled.

        Only then the server tells of this end once more, with that of the session: otherwise nothing is kept of it.
        """
        decision = await asyncio.shield(self._own(self._answer_later(call, work, None)))
        if self.is_hosted:
            self._forget_ending(call.environment.sid, call.identifier)
        return decision

    def _own(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
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
                known = connection.identify()
            except TypeError as unset:
                error = unset
            else:
                wanted = bool(self._disconnects.methods)
                welcome = Welcome(call.environment.sid)
                return call.decision(welcome, identifiers=known, disconnect_wanted=wanted)
        self._report(call, "connect", error)
        return _failure(error)

    async def _subscribe(self, call: Call, found: Served, channel: Channel[Any]) -> Decision:
        error = await self._dispatcher.carry_out(
            call, found.subscribe, Owners(channel.connection, channel), no_arguments
        )
        self._report(call, f"{found.kind.__name__}.subscribed", error)
        if error is not None or call.is_rejected:
            call.is_rejected = True
            return call.refusal(Rejected(call.identifier), disconnect_wanted=False)
        self._begin_beats(call, found)
        return call.decision(
            Confirmed(call.identifier), disconnect_wanted=bool(found.unsubscribe.methods)
        )

    async def _unsubscribe(self, call: Call, found: Served, channel: Channel[Any]) -> Decision:
        place = Place(call.environment.sid, call.identifier)
        self._beats.end(found.kind.channel_name, place)
        error = await self._dispatcher.carry_out(
            call, found.unsubscribe, Owners(channel.connection, channel), no_arguments
        )
        self._report(call, f"{found.kind.__name__}.unsubscribed", error)
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
            self._report(call, f"{type(channel).__name__}.{name:.40}", error)
            return _failure(error)
        return call.refusal() if call.is_rejected else call.decision()

    def _prepare(self, call: Call, found: Served, name: str, data: str) -> dict[str, Any]:
        """The arguments of an action. Raises :class:`ChannelError`."""
        kind = found.kind.__name__
        action = found.actions.get(name)
        if action is None:
            raise UnknownAction(f"{kind}: expected an action, got {name[:40]!r}")
        self._check_rate(call, found.rate, kind, "")
        self._check_rate(call, action.rate, f"{kind}.{name}", name)
        return action.read(data)

    def _check_rate(self, call: Call, rate: Rate | None, what: str, name: str) -> None:
        if rate is None:
            return
        who = (call.environment.sid, call.identifier, name)
        if not self._limiter.allows(who, rate, self._clock()):
            self.limited_total += 1
            raise RateLimited(f"{what}: expected at most {rate}, got more")

    def _report(self, call: Call, name: str, error: Exception | None) -> None:
        """Logs what went wrong: what a client did in one line, what the application did with all."""
        if error is None:
            return
        self.failed_total += 1
        for tell in self.on_error:
            try:
                tell(call.environment.sid, name, error)
            except Exception:  # noqa: BLE001
                # Whoever collects errors must not make more of them.
                _limited.exception("sid=%s An error could not be told", call.environment.sid)
        if isinstance(error, ChannelError):
            _limited.warning("sid=%s %s", call.environment.sid, error)
        else:
            _limited.error("sid=%s %s failed", call.environment.sid, name, exc_info=error)

    # Timers

    def _begin_beats(self, call: Call, found: Served) -> None:
        place = Place(call.environment.sid, call.identifier)
        self._beats.begin(found.kind.channel_name, place)

    def _strike(self, timer: str, place: Place) -> bool:
        if self._performer is None:
            return False
        return self._performer.perform(place.sid, place.identifier, self.timer_command(timer))

    def timer_command(self, timer: str) -> str:
        """What is performed to run a timer's method once; a secret of this process."""
        return msgspec.json.encode({"action": self._beat_prefix + timer}).decode()

    async def _beat(self, call: Call, found: Served, channel: Channel[Any], timer: str) -> Decision:
        try:
            return await self._perform(call, found.beats[timer], channel, timer, no_arguments)
        finally:
            place = Place(call.environment.sid, call.identifier)
            self._beats.ran(found.kind.channel_name, timer, place)


def _begin(work: Coroutine[Any, Any, Decision]) -> Decision | Awaitable[Decision]:
    """Begins an answer that may have to be waited for: since Python 3.12 a task can begin at once,
    and may come to its end without the loop."""
    if sys.version_info < (3, 12):
        return work
    task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
    return task.result() if task.done() else task


async def _taken(call: Call) -> None:
    """Waits for what was published and not waited for. What is not taken is logged by then."""
    for sent in call.sent:
        await sent.settled()


def _failure(error: Exception | None) -> Decision:
    return Decision(verdict=Verdict.ERROR, error=f"{type(error).__name__}: {error}")
