"""A node with its hub and queue, an application whose answers a test prepares, and clients in memory.

Everything between the application and the client is real: frames, protocol, encoder.
"""

import asyncio
import functools
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Literal, ParamSpec

from catenary.adapters.memory.pubsub import LocalPubSub
from catenary.adapters.none import NoHistory, NoInterest, NoPresence, NoSessions
from catenary.broker.stream_rules import StreamRules
from catenary.errors import AppError
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import Publication
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Welcome
from catenary.metrics.counters import Counters
from catenary.node.disconnector import Disconnector
from catenary.node.encoder import Encoder
from catenary.node.hub import Hub
from catenary.node.limits import ClientLimits
from catenary.node.node import Node
from catenary.node.observers import ObserverGroup
from catenary.node.pinger import Pinger
from catenary.node.resumption import ExpiryRules
from catenary.node.session import Session, Traits
from catenary.node.traced import TracedEnds
from catenary.ports import Goodbye, History, Interest, Observer, Presence, PubSub, SessionCache
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.tracer import Tracer
from catenary.tracing.pubsub import TracedPubSub
from catenary.wire.framing import WEBSOCKET_TEXT

P = ParamSpec("P")
Answer = Decision | AppError | Awaitable[Decision]

NEVER = Heartbeat(0)
"""No pings, so that tests can count frames."""


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs an async test in a loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    return run


async def settle(turns: int = 20) -> None:
    """Lets turns of the event loop pass, for work that needs no time."""
    for _ in range(turns):
        await asyncio.sleep(0)


def payloads(data: bytes) -> list[str]:
    """The texts in a row of a server's text frames (RFC 6455, section 5.2); pings are passed over."""
    found = []
    position = 0
    while position < len(data):
        if data[position : position + 2] == b"\x89\x00":
            position += 2
            continue
        assert data[position] == 0x81, f"expected a text frame, got {data[position]:#x}"
        size, start = data[position + 1], position + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[start : start + width], "big")
            start += width
        found.append(data[start : start + size].decode())
        position = start + size
    return found


class MemoryOutbound:
    """Satisfies :class:`catenary.ports.Outbound`; keeps everything that is sent to the client."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.goodbye: Goodbye | None = None
        self.held: list[bool] = []
        self.slices: list[tuple[Iterator[bytes], asyncio.Future[None]]] | None = None
        self.write: Callable[[bytes], None] = self._write

    def _write(self, encoded: bytes) -> None:
        if self.goodbye is None:
            self.frames.append(encoded)

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        """Sends all at once, unless a test wants to see each: ``slices`` then keeps them."""
        if self.slices is None:
            for each in slices:
                self.write(each)
            return None
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.slices.append((slices, sent))
        return sent

    @property
    def is_behind(self) -> bool:
        return False

    def tolerate_slowness(self) -> None: ...

    def close(self, goodbye: Goodbye) -> None:
        if self.goodbye is None:
            self.goodbye = goodbye

    def pause_reading(self) -> None:
        self.held.append(True)

    def resume_reading(self) -> None:
        self.held.append(False)

    @property
    def is_paused(self) -> bool:
        """Whether reading from the client is paused."""
        return self.held.count(True) > self.held.count(False)

    @property
    def ended_for(self) -> Reason | None:
        """Why the server closed it; None while it is open."""
        return None if self.goodbye is None else self.goodbye.reason

    @property
    def heard(self) -> list[Any]:
        """Every message so far."""
        return [json.loads(text) for text in payloads(b"".join(self.frames))]

    def take(self) -> list[Any]:
        """Every message since the last time."""
        heard = self.heard
        self.frames.clear()
        return heard


def room(name: str, **params: object) -> Identifier:
    """The identifier of a subscription to a room; its stream has the name of the room."""
    return Identifier(json.dumps({"channel": "Room", "room": name, **params}))


class PreparedApplication:
    """Satisfies :class:`catenary.ports.Application`.

    Gives the prepared answers first. With none left it accepts every client as ``{"sid": …}``,
    confirms every subscription and starts the stream of its room.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.prepared: dict[str, deque[Answer]] = defaultdict(deque)
        self.ended: list[tuple[Environment, tuple[Identifier, ...]]] = []
        self.hang_up: Callable[[], Awaitable[None]] | None = None

    def prepare(self, procedure: str, *answers: Answer) -> None:
        self.prepared[procedure].extend(answers)

    def later(self, procedure: str) -> "asyncio.Future[Decision]":
        """Prepares an answer that the test gives later."""
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self.prepare(procedure, answer)
        return answer

    def answer(self, procedure: str, otherwise: Decision) -> Decision | Awaitable[Decision]:
        """The prepared answer to a call, or another one."""
        if not self.prepared[procedure]:
            return otherwise
        answer = self.prepared[procedure].popleft()
        if isinstance(answer, AppError):
            raise answer
        return answer

    def connect(self, environment: Environment) -> Decision | Awaitable[Decision]:
        self.calls.append(("connect", environment.sid))
        accepted = Decision(
            identifiers=json.dumps({"sid": environment.sid}),
            replies=(Welcome(environment.sid),),
        )
        return self.answer("connect", accepted)

    def subscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        self.calls.append(("subscribe", identifier))
        return self.answer("subscribe", confirming(identifier))

    def unsubscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        self.calls.append(("unsubscribe", identifier))
        return self.answer("unsubscribe", Decision(stop_all_streams=True))

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Decision | Awaitable[Decision]:
        self.calls.append(("perform", identifier, data))
        return self.answer("perform", Decision())

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        self.calls.append(("disconnect", environment.sid))
        if self.hang_up is not None:
            await self.hang_up()
        self.ended.append((environment, subscriptions))


def confirming(identifier: Identifier, *streams: str) -> Decision:
    """An accepting decision; without ``streams``, it starts the stream of the identifier's room, if it has one."""
    room = json.loads(identifier).get("room")
    names = streams or (() if room is None else (room,))
    return Decision(streams=tuple(map(Stream, names)), replies=(Confirmed(identifier),))


class Client:
    """A session of the node, and the messages that it has received."""

    def __init__(self, heart: "Heart", session: Session, outbound: MemoryOutbound) -> None:
        self._heart = heart
        self.session = session
        self.outbound = outbound

    def say(self, command: str, identifier: str = "", **fields: object) -> None:
        """Sends one command, as a payload."""
        self.say_raw(json.dumps({"command": command, "identifier": identifier, **fields}))

    def say_raw(self, payload: str) -> None:
        self._heart.node.receive(self.session, payload.encode())

    def subscribe(self, identifier: Identifier) -> None:
        """Subscribes, and passes over the confirmation."""
        self.say("subscribe", identifier)
        assert self.heard[-1]["type"] == "confirm_subscription", self.heard
        self.outbound.frames.clear()

    @property
    def is_pinged(self) -> bool:
        """Has the transport sent a ping of its own?"""
        return b"\x89\x00" in self.outbound.frames

    def answer_ping(self) -> None:
        """Answers pings, as a client's WebSocket does by itself."""
        self._heart.node.receive_pong(self.session)

    def leave(self, how: str = "") -> None:
        """Loses the connection, as a transport reports it."""
        self._heart.node.leave(self.session, how)

    @property
    def heard(self) -> list[Any]:
        return self.outbound.heard

    @property
    def messages(self) -> list[Any]:
        """The published messages among the received ones."""
        return [
            each["message"] for each in self.heard if "identifier" in each and "message" in each
        ]


class Heart:
    """All parts of one node; must be built in a running event loop."""

    def __init__(
        self,
        *,
        mode: Literal["auto", "always", "never"] = "auto",
        history: History | None = None,
        presence: Presence | None = None,
        sessions: SessionCache | None = None,
        interest: Interest | None = None,
        pubsub: PubSub | None = None,
        restored_action: str = "",
        observer: Observer | None = None,
        expiry: ExpiryRules = ExpiryRules(),  # noqa: B008  (frozen)
        limits: ClientLimits | None = None,
        tracer: Tracer | None = None,
        rules: StreamRules | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.counters = Counters()
        self.application = PreparedApplication()
        self.observers = ObserverGroup([] if observer is None else [observer])
        self.hub = Hub(
            self.counters,
            loop.call_soon,
            interest or NoInterest(),
            self.observers,
            tracer,
            rules=rules,
            history=history,
        )
        self.disconnector = Disconnector(
            self.application if tracer is None else TracedEnds(tracer, self.application),
            self.counters,
            rate=10_000,
            backlog=10_000,
            clock=loop.time,
        )
        self.encoder = Encoder(ActionCableJson(), WEBSOCKET_TEXT, self.observers)
        pubsub = pubsub or LocalPubSub(
            self.hub.deliver,
            self.counters,
            getattr(history, "append", None),
            getattr(sessions, "revoke", None),
        )
        self.node = Node(
            self.application,
            hub=self.hub,
            pubsub=pubsub if tracer is None else TracedPubSub(tracer, pubsub),
            history=history or NoHistory(),
            presence=presence or NoPresence(),
            sessions=sessions or NoSessions(),
            pinger=Pinger(loop, lambda: 0),
            disconnector=self.disconnector,
            disconnect_mode=mode,
            restored_action=restored_action,
            expiry=expiry,
            counters=self.counters,
            observers=self.observers,
            limits=limits or ClientLimits(),
            tracer=tracer,
        )
        self._admitted = 0

    def connect(
        self, sid: str = "", *, encoder: Encoder | None = None, traits: Traits | None = None
    ) -> Client:
        """A client that connects; it is admitted unless the application has another answer prepared."""
        self._admitted += 1
        environment = Environment(
            sid=Sid(sid or f"sid-{self._admitted}"), url="ws://test/cable", headers={}
        )
        outbound = MemoryOutbound()
        session = self.node.admit(
            environment, encoder or self.encoder, outbound, traits or Traits(NEVER)
        )
        return Client(self, session, outbound)

    def member(self, *rooms: str) -> Client:
        """A client that was welcomed and is subscribed to these rooms."""
        client = self.connect()
        for name in rooms:
            client.subscribe(room(name))
        client.outbound.frames.clear()
        return client

    def publish(self, stream: str, message: object, **fields: Any) -> None:
        """Delivers a publication at this node."""
        self.hub.deliver(Publication(Stream(stream), json.dumps(message), **fields))
