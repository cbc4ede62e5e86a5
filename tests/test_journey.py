"""The journey of a command, of a publication, and of a client that leaves: read this first.

Every station is the real one, in the order in which ARCHITECTURE.md names them. Only two ends are
in memory: what a socket would have brought, and what a socket would have sent.
"""

import asyncio
import json
from collections.abc import Awaitable, Iterator

from catenary.adapters.memory.pubsub import LocalPubSub
from catenary.adapters.none import NoHistory, NoInterest, NoPresence, NoSessions
from catenary.messages.commands import Subscribe
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import Publication, parse
from catenary.messages.replies import Confirmed, Welcome
from catenary.metrics.counters import Counters
from catenary.node.disconnector import Disconnector
from catenary.node.encoder import Encoder
from catenary.node.hub import Hub
from catenary.node.node import Node
from catenary.node.pinger import Pinger
from catenary.node.session import Session, Traits
from catenary.ports import Goodbye
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.routing.router import Router
from catenary.wire.frames import FrameReader, Message, text_frame
from catenary.wire.framing import WEBSOCKET_TEXT
from tests.parts.heart import in_loop

CHAT = Identifier('{"channel":"ChatChannel","room":"1"}')


class Chat:
    """An application: everybody is a guest, and ChatChannel streams from ``chat_`` and its room."""

    def __init__(self) -> None:
        self.goodbyes: list[tuple[Sid, tuple[Identifier, ...]]] = []

    def connect(self, environment: Environment) -> Decision:
        return Decision(identifiers='{"user":"guest"}', replies=(Welcome(environment.sid),))

    def subscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        room = json.loads(identifier)["room"]
        return Decision(streams=(Stream(f"chat_{room}"),), replies=(Confirmed(identifier),))

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        return Decision()

    def perform(self, environment: Environment, identifier: Identifier, data: str) -> Decision:
        return Decision()

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        self.goodbyes.append((environment.sid, subscriptions))


class Browser:
    """One end of a WebSocket: keeps what was sent to it."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.write = self.received.append

    def write_slices(self, slices: Iterator[bytes]) -> None: ...
    def tolerate_slowness(self) -> None: ...

    is_behind = False

    def close(self, goodbye: Goodbye) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Server:
    """The house, built bottom up as ``server/assembly.py`` builds it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        counters = Counters()
        self.application = Chat()
        self.hub = Hub(counters, loop.call_soon, NoInterest())
        self.pubsub = LocalPubSub(self.hub.deliver, counters)
        self.disconnector = Disconnector(
            self.application, counters, rate=100, backlog=100, clock=loop.time
        )
        self.encoder = Encoder(ActionCableJson(), WEBSOCKET_TEXT)
        self.node = Node(
            Router(self.application, channels={}, identify=()),
            hub=self.hub,
            pubsub=self.pubsub,
            history=NoHistory(),
            presence=NoPresence(),
            sessions=NoSessions(),
            pinger=Pinger(loop, lambda: 0),
            disconnector=self.disconnector,
            disconnect_mode="auto",
            counters=counters,
        )

    def admit(self, sid: str, browser: Browser) -> Session:
        environment = Environment(Sid(sid), "ws://localhost/cable", {})
        return self.node.admit(environment, self.encoder, browser, Traits())


# A browser's subscribe command, masked with the key 0 0 0 0 (RFC 6455, section 5.3).
SAID = json.dumps({"command": "subscribe", "identifier": CHAT}).encode()
BYTES = bytes((0x81, 0x80 | len(SAID), 0, 0, 0, 0)) + SAID

CONFIRMED = text_frame(
    b'{"type":"confirm_subscription",'
    b'"identifier":"{\\"channel\\":\\"ChatChannel\\",\\"room\\":\\"1\\"}"}'
)


@in_loop
async def test_a_command() -> None:
    server, browser = Server(), Browser()
    session = server.admit("ann", browser)
    assert browser.received == [text_frame(b'{"type":"welcome","sid":"ann"}')]

    # bytes → frames
    (message,) = FrameReader(max_message_bytes=1024).receive(BYTES)
    assert message == Message(SAID, is_text=True)

    # payload → command
    command = session.encoder.decode(message.payload)
    assert command == Subscribe(CHAT)

    # command → decision
    decision = server.application.subscribe(session.environment, CHAT)
    assert decision == Decision(streams=(Stream("chat_1"),), replies=(Confirmed(CHAT),))

    # reply → frame
    assert session.encoder.encode(Confirmed(CHAT)) == CONFIRMED

    # And the same in one go: the node asks, applies, replies.
    server.node.receive(session, message.payload)
    assert browser.received[1:] == [CONFIRMED]
    assert session.subscriptions[CHAT].streams == ("chat_1",)
    assert server.hub.streams_num == 1


@in_loop
async def test_a_publication() -> None:
    server = Server()
    browsers = Browser(), Browser()
    for sid, browser in zip(("ann", "bob"), browsers, strict=True):
        server.node.receive(server.admit(sid, browser), SAID)
        browser.received.clear()

    # The body of a POST → a publication
    body = b'{"stream":"chat_1","data":"{\\"text\\":\\"hello\\"}"}'
    publication = Publication(Stream("chat_1"), '{"text":"hello"}')
    assert parse(body) == (publication,)

    # publication → every node → the hub → one frame, which both are sent
    assert server.node.publications.publish(body) is None
    envelope = b'{"identifier":%b,"message":{"text":"hello"}}' % json.dumps(CHAT).encode()
    for browser in browsers:
        assert browser.received == [text_frame(envelope)]
    ann, bob = browsers
    assert ann.received[0] is bob.received[0]


@in_loop
async def test_leaving() -> None:
    server, browser = Server(), Browser()
    session = server.admit("ann", browser)
    server.node.receive(session, SAID)

    # The transport lost its connection → the hub forgets, the queue of Disconnect calls knows.
    server.node.leave(session)
    assert server.hub.streams_num == 0
    assert server.hub.sessions.identifiers_num == 0
    assert server.application.goodbyes == []

    # The application gets one Disconnect call, with the client's subscriptions.
    await server.disconnector.drain(timeout_s=1)
    assert server.application.goodbyes == [("ann", (CHAT,))]
