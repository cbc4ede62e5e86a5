"""A cable without a server, for tests of channels: nothing is sent, nothing takes time.

Every answer of the cable is carried out as a server does it: streams, state, presence, deliveries.
What a method raises is raised in the test.
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
"""Stands for any message."""


class Broadcast(msgspec.Struct, frozen=True):
    """One publication."""

    stream: str
    message: Any
    exclude_socket: str | None = None


class TestCable:
    """Serves one cable to a test. Its methods belong to the test's loop, whichever that is."""

    __test__ = False

    def __init__(self, cable: Cable) -> None:
        self.cable = cable
        self.broadcasts: list[Broadcast] = []
        """Everything published so far."""
        self.connections: list[TestConnection] = []
        self.members: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._raised: list[Exception] = []
        cable.on_error.append(self._note)

    def close(self) -> None:
        """Lets go of the cable."""
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
        """A client. With identifiers it is let in as these, and ``connect`` does not run; without, the
        request decides. Raises what ``connect`` raises."""
        if asyncio.get_running_loop() is not self._loop:
            self._loop = asyncio.get_running_loop()
            await self.cable.application.start(self, reader=_Kept(self))
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
            await connection.knock()
        if connection.is_open:
            self.connections.append(connection)
        return connection

    def publish(self, raw: bytes) -> None:
        """Satisfies :class:`catenary.channels.publishing.Publisher`."""
        for each in parse(raw):
            if isinstance(each, RemoteDisconnect):
                for connection in tuple(self.connections):
                    connection.hear_disconnect(each)
            else:
                self._deliver(each)

    def _deliver(self, publication: Publication) -> None:
        message = json.loads(publication.data)
        self.broadcasts.append(Broadcast(publication.stream, message, publication.exclude_socket))
        for connection in self.connections:
            if connection.sid != publication.exclude_socket:
                connection.deliver(publication.stream, message)

    async def settled(self, answer: Decision | Awaitable[Decision]) -> Decision:
        """The decision. Raises what the application raised instead of deciding."""
        decision = answer if isinstance(answer, Decision) else await answer
        self.raise_what_failed()
        return decision

    def raise_what_failed(self) -> None:
        """Raises the first of what was raised since the last time."""
        raised, self._raised = self._raised, []
        for error in raised:
            raise error

    # Assertions

    @contextmanager
    def assert_broadcast(
        self, stream: object, message: object = ANYTHING, *, times: int = 1
    ) -> Generator[None]:
        """Within the block, a stream gets a message, so many times."""
        with self._counted({stream_name(stream)}, message, times):
            yield

    @contextmanager
    def assert_broadcast_to(
        self, target: object, message: object = ANYTHING, *, times: int = 1
    ) -> Generator[None]:
        """The same for an object, by whichever channel."""
        streams = {each.broadcasting_for(target) for each in self.cable.channels}
        with self._counted(streams, message, times):
            yield

    @contextmanager
    def assert_no_broadcasts(self) -> Generator[None]:
        """Within the block, nothing is published."""
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
        wanted = "any message" if message is ANYTHING else repr(message)
        assert len(found) == times, (
            f"expected {wanted} {times} times on {' or '.join(sorted(streams))}, got {published}"
        )


class _Kept:
    """Satisfies :class:`catenary.channels.reading.Reader`: everything published so far is kept."""

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
        kept = [each.message for each in self._cable.broadcasts if each.stream == stream]
        return tuple(
            Publication(stream, json.dumps(message), position=Position("test", offset))
            for offset, message in enumerate(kept, 1)
        )


class TestConnection:
    """One client."""

    __test__ = False

    def __init__(self, cable: TestCable, environment: Environment) -> None:
        self._cable = cable
        self.environment = environment
        self.subscriptions: dict[Identifier, TestSubscription] = {}
        self.is_open = True
        self.is_dropped = False
        self.may_reconnect: bool | None = None
        """What it was told when it was sent away."""

    @property
    def sid(self) -> str:
        return self.environment.sid

    @property
    def identifiers(self) -> dict[str, Any]:
        """Who it is."""
        known: dict[str, Any] = json.loads(self.environment.identifiers or "{}")
        return known

    async def knock(self) -> None:
        """Runs the application's ``connect``."""
        cable = self._cable
        decision = await cable.settled(cable.cable.application.connect(self.environment))
        self.apply(decision)
        self.environment.identifiers = decision.identifiers
        if decision.verdict is not Verdict.SUCCESS:
            self.is_open = False

    async def subscribe(
        self, channel: type[Channel[Any]] | str, **params: object
    ) -> "TestSubscription":
        """Asks for a subscription. Raises what ``subscribed`` raises."""
        name = channel if isinstance(channel, str) else channel.channel_name
        identifier = Identifier(msgspec.json.encode({"channel": name, **params}).decode())
        subscription = TestSubscription(self._cable, self, identifier)
        cable = self._cable
        decision = await cable.settled(
            cable.cable.application.subscribe(self.environment, identifier)
        )
        if decision.verdict is Verdict.SUCCESS:
            self.subscriptions[identifier] = subscription
            subscription.calls.append("subscribed")
        subscription.apply(decision)
        return subscription

    async def drop(self) -> None:
        """The connection is lost; the client may come back."""
        self.is_dropped = True

    async def resume(self) -> None:
        """It is back, as the session that it was, and gets what it missed. Raises what
        ``restored`` raises."""
        self.is_dropped = False
        data = json.dumps({"action": self._cable.cable.application.restored_action})
        for subscription in tuple(self.subscriptions.values()):
            await subscription.carry_out("restored", data)
            subscription.catch_up()

    async def disconnect(self) -> None:
        """It is gone for good. Raises what a method raises about it."""
        self.is_open = False
        if self in self._cable.connections:
            self._cable.connections.remove(self)
        for subscription in self.subscriptions.values():
            subscription.calls.append("unsubscribed")
            subscription.leave_presence()
        ended = tuple(self.subscriptions)
        self.subscriptions.clear()
        await self._cable.cable.application.disconnect(self.environment, ended)
        self._cable.raise_what_failed()

    def hear_disconnect(self, command: RemoteDisconnect) -> None:
        """Somebody ends all connections of these identifiers."""
        if command.identifiers == self.environment.identifiers:
            self.is_open = False
            self.may_reconnect = command.reconnect

    def deliver(self, stream: str, message: object) -> None:
        """Something was published."""
        for subscription in self.subscriptions.values():
            if stream in subscription.streams:
                subscription.hear(message, later=self.is_dropped)

    def apply(self, decision: Decision) -> None:
        """What concerns the whole connection."""
        if decision.cstate:
            self.environment.merge_cstate(decision.cstate)
        for reply in decision.replies:
            if isinstance(reply, Disconnected):
                self.may_reconnect = reply.reconnect
        if decision.disconnect:
            self.is_open = False

    # Assertions

    def assert_connected(self) -> None:
        """The application let it in."""
        assert self.is_open, "expected to be let in"

    def assert_rejected(self) -> None:
        """The application sent it away."""
        assert not self.is_open, f"expected to be sent away, is in as {self.identifiers}"


class TestSubscription:
    """One subscription of one client."""

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
        """What the client got: transmissions, and what was published to its streams."""
        self.calls: list[str] = []
        """What the application was asked: "subscribed", names of actions, "restored" …"""
        self._missed: list[Any] = []

    async def perform(self, action: str, **data: object) -> None:
        """Calls an action. Raises what it raises."""
        text = msgspec.json.encode({**data, "action": action}).decode()
        await self.carry_out(action, text)

    async def tick(self, timer: str) -> None:
        """Runs a method of ``every`` once, as if its time had come."""
        await self.carry_out(timer, self._cable.cable.application.timers.command(timer))

    async def carry_out(self, name: str, data: str) -> None:
        """Performs what is JSON already."""
        assert self.is_confirmed, "expected a confirmed subscription"
        cable = self._cable
        environment = self.connection.environment
        answer = cable.cable.application.perform(environment, self.identifier, data)
        decision = await cable.settled(answer)
        self.calls.append(name)
        self.apply(decision)

    async def unsubscribe(self) -> None:
        """Gives the subscription back. Raises what ``unsubscribed`` raises."""
        cable = self._cable
        environment = self.connection.environment
        del self.connection.subscriptions[self.identifier]
        decision = await cable.settled(
            cable.cable.application.unsubscribe(environment, self.identifier)
        )
        self.calls.append("unsubscribed")
        self.leave_presence()
        self.apply(decision)
        environment.forget_istate(self.identifier)

    def whisper(self, message: object) -> None:
        """Speaks to the others on the stream with ``whisper=True``; else nothing happens."""
        stream = self._state.get(WHISPER_STATE)
        if stream is None:
            return
        for connection in self._cable.connections:
            if connection is not self.connection:
                connection.deliver(stream, json.loads(json.dumps(message)))

    async def presence(self) -> dict[str, Any]:
        """Who is seen where this client may be seen: infos by id."""
        stream = self._state.get(PRESENCE_STATE, "")
        return dict(self._cable.members.get(stream, {}))

    # What happens to it

    def apply(self, decision: Decision) -> None:
        """Carries a decision out."""
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
        """It is seen no longer."""
        if self._member is not None:
            stream, member_id = self._member
            self._cable.members[stream].pop(member_id, None)
            self._member = None

    def hear(self, message: object, *, later: bool) -> None:
        """Something was published on one of its streams."""
        (self._missed if later else self.messages).append(message)

    def catch_up(self) -> None:
        """It gets what it missed."""
        self.messages += self._missed
        self._missed.clear()

    @property
    def _state(self) -> dict[str, str]:
        return self.connection.environment.istate_of(self.identifier)

    # Assertions

    def assert_confirmed(self) -> None:
        """The application let it in."""
        assert self.is_confirmed, f"expected a confirmation of {self.identifier}"

    def assert_rejected(self) -> None:
        """The application refused it."""
        assert not self.is_confirmed, f"expected a rejection of {self.identifier}"

    def assert_has_stream(self, stream: str) -> None:
        """It gets what is published to this stream."""
        assert stream in self.streams, f"expected {stream}, got {sorted(self.streams)}"

    def assert_has_stream_for(self, target: object) -> None:
        """It gets what is broadcast to this object."""
        name = json.loads(self.identifier)["channel"]
        self.assert_has_stream(f"{name}:{stream_name(target)}")

    def assert_has_no_streams(self) -> None:
        """It gets nothing."""
        assert not self.streams, f"expected no streams, got {sorted(self.streams)}"

    def assert_transmitted(self, message: object) -> None:
        """The client got this message, by transmission or publication."""
        assert message in self.messages, f"expected {message!r}, got {self.messages!r}"
