"""Serves a cable to a test, without a server, sockets and waiting.

Decisions are applied as a server does: streams, state, presence, deliveries. Exceptions of the
application are raised in the test. ::

    cable = TestCable(app.cable)
    connection = await cable.connect(user_id=1)
    room = await connection.subscribe(ChatChannel, room=1)
    with cable.assert_broadcast_to(1, {"text": "hi"}):
        await room.perform("speak", text="hi")

Source: ActionCable::Channel::TestCase and ActionCable::Connection::TestCase, for the assertions.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from catenary.channels.cable import Cable
from catenary.channels.channel import Channel
from catenary.channels.connection import identifiers as written
from catenary.channels.streams import stream_name
from catenary.messages.decisions import PRESENCE_STATE, WHISPER_STATE, Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Page, Position, Publication, RemoteDisconnect, parse
from catenary.messages.replies import Confirmed, Delivery, Disconnected

ANYTHING: Final = object()
"""Matches any message."""


class Broadcast(msgspec.Struct, frozen=True):
    """A publication that the application made."""

    stream: str
    message: Any
    exclude_socket: str | None = None


class TestCable:
    """Serves one cable to a test. Works in the event loop in which the test calls it."""

    __test__ = False

    def __init__(self, cable: Cable) -> None:
        self.cable = cable
        self.broadcasts: list[Broadcast] = []
        """All publications so far, in order."""
        self.connections: list[TestConnection] = []
        self.members: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._raised: list[Exception] = []
        cable.on_error.append(self._note)

    def close(self) -> None:
        """Releases the cable."""
        self.cable.on_error.remove(self._note)
        self.cable.application.release()

    def _note(self, sid: str, name: str, error: Exception) -> None:
        self._raised.append(error)

    async def connect(
        self,
        url: str = "ws://test/cable",
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        **identifiers: object,
    ) -> "TestConnection":
        """Connects a client.

        With identifiers it is accepted with these, and ``connect`` does not run; without, ``connect``
        decides on the request. Raises the exceptions of ``connect``.
        """
        if asyncio.get_running_loop() is not self._loop:
            self._loop = asyncio.get_running_loop()
            await self.cable.application.start(self, reader=_PublishedReader(self))
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if cookies:
            sent["cookie"] = "; ".join(f"{name}={each}" for name, each in cookies.items())
        environment = Environment(Sid(f"sid-{next(self._numbers)}"), url, sent)
        connection = TestConnection(self, environment)
        if identifiers:
            names = self.cable.connection_class.identified_by
            assert set(identifiers) == set(names), f"expected {names}, got {tuple(identifiers)}"
            environment.identifiers = written({name: identifiers[name] for name in names})
        else:
            await connection.run_connect()
        if connection.is_open:
            self.connections.append(connection)
        return connection

    def publish(self, raw: bytes) -> None:
        """Satisfies :class:`catenary.channels.publishing.Publisher`."""
        for each in parse(raw):
            if isinstance(each, RemoteDisconnect):
                for connection in tuple(self.connections):
                    connection.receive_disconnect(each)
            else:
                self._deliver(each)

    def _deliver(self, publication: Publication) -> None:
        message = json.loads(publication.data)
        self.broadcasts.append(Broadcast(publication.stream, message, publication.exclude_socket))
        for connection in self.connections:
            if connection.sid != publication.exclude_socket:
                connection.deliver(publication.stream, message)

    async def decided(self, answer: Decision | Awaitable[Decision]) -> Decision:
        """Returns the decision. Raises the exception of the application, if there was one."""
        decision = answer if isinstance(answer, Decision) else await answer
        self.raise_failure()
        return decision

    def raise_failure(self) -> None:
        """Raises the first exception since the last call of this method."""
        raised, self._raised = self._raised, []
        for error in raised:
            raise error

    # Assertions

    @contextmanager
    def assert_broadcast(
        self, stream: object, message: object = ANYTHING, *, times: int = 1
    ) -> Generator[None]:
        """Asserts that the block publishes a message to a stream, ``times`` times."""
        with self._counted({stream_name(stream)}, message, times):
            yield

    @contextmanager
    def assert_broadcast_to(
        self, target: object, message: object = ANYTHING, *, times: int = 1
    ) -> Generator[None]:
        """Asserts the same for the stream of an object, in any channel."""
        streams = {each.broadcasting_for(target) for each in self.cable.channels}
        with self._counted(streams, message, times):
            yield

    @contextmanager
    def assert_no_broadcasts(self) -> Generator[None]:
        """Asserts that the block publishes nothing."""
        before = len(self.broadcasts)
        yield
        assert self.broadcasts[before:] == [], "expected nothing to be published"

    @contextmanager
    def _counted(self, streams: set[str], message: object, times: int) -> Generator[None]:
        before = len(self.broadcasts)
        yield
        published = self.broadcasts[before:]
        found = [
            each
            for each in published
            if each.stream in streams and (message is ANYTHING or each.message == message)
        ]
        expected = "any message" if message is ANYTHING else repr(message)
        assert len(found) == times, (
            f"expected {expected} {times} times on {' or '.join(sorted(streams))}, got {published}"
        )


class _PublishedReader:
    """Satisfies :class:`catenary.channels.reading.Reader` with all publications so far."""

    def __init__(self, cable: TestCable) -> None:
        self._cable = cable

    async def members(self, stream: Stream) -> tuple[Member, ...]:
        found = self._cable.members.get(stream, {})
        return tuple(Member(name, json.dumps(info)) for name, info in found.items())

    async def page(
        self, stream: Stream, start: int | Position, limit: int, *, newest: bool = False
    ) -> Page:
        found = self._all(stream)[start.offset if isinstance(start, Position) else 0 :]
        return Page(found[-limit:]) if newest else Page(found[:limit], len(found) > limit)

    def _all(self, stream: Stream) -> tuple[Publication, ...]:
        messages = [each.message for each in self._cable.broadcasts if each.stream == stream]
        return tuple(
            Publication(stream, json.dumps(message), position=Position("test", offset))
            for offset, message in enumerate(messages, 1)
        )


class TestConnection:
    """A client of a :class:`TestCable`."""

    __test__ = False

    def __init__(self, cable: TestCable, environment: Environment) -> None:
        self._cable = cable
        self.environment = environment
        self.subscriptions: dict[Identifier, TestSubscription] = {}
        self.is_open = True
        self.is_dropped = False
        self.may_reconnect: bool | None = None
        """The ``reconnect`` of the disconnect message; None if there was none."""

    @property
    def sid(self) -> str:
        return self.environment.sid

    @property
    def identifiers(self) -> dict[str, Any]:
        """The identifiers: names → values."""
        known: dict[str, Any] = json.loads(self.environment.identifiers or "{}")
        return known

    async def run_connect(self) -> None:
        """Runs ``connect`` and applies its decision."""
        cable = self._cable
        decision = await cable.decided(cable.cable.application.connect(self.environment))
        self.apply(decision)
        self.environment.identifiers = decision.identifiers
        if decision.verdict is not Verdict.SUCCESS:
            self.is_open = False

    async def subscribe(
        self, channel: type[Channel[Any]] | str, **params: object
    ) -> "TestSubscription":
        """Subscribes to a channel, a class or a name. Raises the exceptions of ``subscribed``."""
        name = channel if isinstance(channel, str) else channel.channel_name
        identifier = Identifier(msgspec.json.encode({"channel": name, **params}).decode())
        subscription = TestSubscription(self._cable, self, identifier)
        cable = self._cable
        decision = await cable.decided(
            cable.cable.application.subscribe(self.environment, identifier)
        )
        if decision.verdict is Verdict.SUCCESS:
            self.subscriptions[identifier] = subscription
            subscription.calls.append("subscribed")
        subscription.apply(decision)
        return subscription

    async def drop(self) -> None:
        """Loses the connection. :meth:`resume` restores the session, :meth:`disconnect` ends it."""
        self.is_dropped = True

    async def resume(self) -> None:
        """Resumes the session: the client gets the messages that it missed. Raises the exceptions of
        ``restored``."""
        self.is_dropped = False
        data = json.dumps({"action": self._cable.cable.application.restored_action})
        for subscription in tuple(self.subscriptions.values()):
            await subscription.carry_out("restored", data)
            subscription.catch_up()

    async def disconnect(self) -> None:
        """Ends the session. Raises the exceptions of ``unsubscribed`` and ``disconnect``."""
        self.is_open = False
        if self in self._cable.connections:
            self._cable.connections.remove(self)
        for subscription in self.subscriptions.values():
            subscription.calls.append("unsubscribed")
            subscription.leave_presence()
        ended = tuple(self.subscriptions)
        self.subscriptions.clear()
        await self._cable.cable.application.disconnect(self.environment, ended)
        self._cable.raise_failure()

    def receive_disconnect(self, command: RemoteDisconnect) -> None:
        """Applies a remote disconnect, if it names the identifiers of this client."""
        if command.identifiers == self.environment.identifiers:
            self.is_open = False
            self.may_reconnect = command.reconnect

    def deliver(self, stream: str, message: object) -> None:
        """Delivers a publication to the subscriptions of its stream."""
        for subscription in self.subscriptions.values():
            if stream in subscription.streams:
                subscription.receive(message, later=self.is_dropped)

    def apply(self, decision: Decision) -> None:
        """Applies the parts of a decision that concern the connection."""
        if decision.cstate:
            self.environment.merge_cstate(decision.cstate)
        for reply in decision.replies:
            if isinstance(reply, Disconnected):
                self.may_reconnect = reply.reconnect
        if decision.disconnect:
            self.is_open = False

    # Assertions

    def assert_connected(self) -> None:
        """Asserts that the application accepted the client."""
        assert self.is_open, "expected to be accepted"

    def assert_rejected(self) -> None:
        """Asserts that the application rejected the client, or closed its connection."""
        assert not self.is_open, f"expected to be rejected, is connected as {self.identifiers}"


class TestSubscription:
    """A subscription of a :class:`TestConnection`."""

    __test__ = False

    def __init__(
        self, cable: TestCable, connection: TestConnection, identifier: Identifier
    ) -> None:
        self._cable = cable
        self.connection = connection
        self.identifier = identifier
        self.is_confirmed = False
        self.streams: set[str] = set()
        self.messages: list[Any] = []
        """The messages that the client got: transmissions, and publications to its streams."""
        self.calls: list[str] = []
        """The calls of the application: "subscribed", names of actions, "restored", "unsubscribed"."""
        self._missed: list[Any] = []

    async def perform(self, action: str, **data: object) -> None:
        """Calls an action. Raises its exceptions."""
        text = msgspec.json.encode({**data, "action": action}).decode()
        await self.carry_out(action, text)

    async def tick(self, timer: str) -> None:
        """Runs a method of ``@every`` once, as if it were due."""
        await self.carry_out(timer, self._cable.cable.application.timers.command(timer))

    async def carry_out(self, name: str, data: str) -> None:
        """Performs an action whose data is JSON; ``name`` is noted in ``calls``."""
        assert self.is_confirmed, "expected a confirmed subscription"
        cable = self._cable
        environment = self.connection.environment
        answer = cable.cable.application.perform(environment, self.identifier, data)
        decision = await cable.decided(answer)
        self.calls.append(name)
        self.apply(decision)

    async def unsubscribe(self) -> None:
        """Unsubscribes. Raises the exceptions of ``unsubscribed``."""
        cable = self._cable
        environment = self.connection.environment
        del self.connection.subscriptions[self.identifier]
        decision = await cable.decided(
            cable.cable.application.unsubscribe(environment, self.identifier)
        )
        self.calls.append("unsubscribed")
        self.leave_presence()
        self.apply(decision)
        environment.forget_istate(self.identifier)

    def whisper(self, message: object) -> None:
        """Whispers to the other subscribers of the stream with ``whisper=True``; without one, does nothing."""
        stream = self._state.get(WHISPER_STATE)
        if stream is None:
            return
        for connection in self._cable.connections:
            if connection is not self.connection:
                connection.deliver(stream, json.loads(json.dumps(message)))

    async def presence(self) -> dict[str, Any]:
        """The members of this subscription's presence stream: ids → infos."""
        stream = self._state.get(PRESENCE_STATE, "")
        return dict(self._cable.members.get(stream, {}))

    # Decisions and deliveries

    def apply(self, decision: Decision) -> None:
        """Applies a decision."""
        self.connection.apply(decision)
        if decision.stop_all_streams:
            self.streams.clear()
        self.streams -= set(decision.stopped_streams)
        for reply in decision.replies:
            if isinstance(reply, Confirmed):
                self.is_confirmed = True
            elif isinstance(reply, Delivery):
                self.messages.append(json.loads(reply.message))
        if decision.verdict is not Verdict.SUCCESS:
            return
        self.streams |= set(decision.streams)
        if decision.istate:
            self.connection.environment.merge_istate(self.identifier, decision.istate)
        if decision.presence is not None and decision.presence.kind == "leave":
            self.leave_presence()
        elif decision.presence is not None:
            members = self._cable.members.setdefault(self._state[PRESENCE_STATE], {})
            members[decision.presence.id] = json.loads(decision.presence.info)
            self._member = (self._state[PRESENCE_STATE], decision.presence.id)

    _member: tuple[str, str] | None = None

    def leave_presence(self) -> None:
        """Removes the client from the members of the presence stream."""
        if self._member is not None:
            stream, member_id = self._member
            self._cable.members[stream].pop(member_id, None)
            self._member = None

    def receive(self, message: object, *, later: bool) -> None:
        """Receives a message now, or ``later``, when the session is resumed."""
        (self._missed if later else self.messages).append(message)

    def catch_up(self) -> None:
        """Receives the messages that the client missed."""
        self.messages += self._missed
        self._missed.clear()

    @property
    def _state(self) -> dict[str, str]:
        return self.connection.environment.istate_of(self.identifier)

    # Assertions

    def assert_confirmed(self) -> None:
        """Asserts that the subscription was confirmed."""
        assert self.is_confirmed, f"expected a confirmation of {self.identifier}"

    def assert_rejected(self) -> None:
        """Asserts that the subscription was rejected."""
        assert not self.is_confirmed, f"expected a rejection of {self.identifier}"

    def assert_has_stream(self, stream: str) -> None:
        """Asserts that the client is subscribed to a stream."""
        assert stream in self.streams, f"expected {stream}, got {sorted(self.streams)}"

    def assert_has_stream_for(self, target: object) -> None:
        """Asserts that the client is subscribed to the stream of an object."""
        name = json.loads(self.identifier)["channel"]
        self.assert_has_stream(f"{name}:{stream_name(target)}")

    def assert_has_no_streams(self) -> None:
        """Asserts that the client is subscribed to no stream."""
        assert not self.streams, f"expected no streams, got {sorted(self.streams)}"

    def assert_transmitted(self, message: object) -> None:
        """Asserts that the client got a message, by transmission or publication."""
        assert message in self.messages, f"expected {message!r}, got {self.messages!r}"
