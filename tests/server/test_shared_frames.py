"""How often a publication is encoded for crowds on all kinds of connections, with the endpoints that the server builds."""

import json

import pytest

from catenary.config.effective import effective
from catenary.edge.request import Peer
from catenary.edge.routes import Endpoint
from catenary.messages.names import Stream
from catenary.messages.publications import Publication
from catenary.node.encoder import Encoder
from catenary.node.session import Session
from catenary.protocols.event_stream import MESSAGES
from catenary.server.assembly import Assembly
from catenary.server.http_routes import main_address
from catenary.server.ports import PortSpec
from catenary.server.pusher import add_pusher
from catenary.transports.websocket_endpoint import WebSocketEndpoint
from catenary.wire.event_stream import CHUNKED
from catenary.wire.http1 import RequestHead
from tests.config.sources import options
from tests.parts.cable_client import identifier
from tests.parts.heart import MemoryOutbound, in_loop, settle
from tests.parts.pusher import FLAGS, subscription

CROWD = 1_000
PEER = Peer("http", "127.0.0.1")
UPGRADE = {
    "host": "x",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class House:
    """A server without sockets: requests are accepted by its endpoints, what it sends stays in memory."""

    def __init__(self) -> None:
        given = options("--public", "--norpc", "--sse", "--broadcast_adapter=http", *FLAGS)
        self.assembly = Assembly(effective(given), is_mounted=True)
        self.clients = self.assembly._clients
        main = PortSpec(main_address(self.assembly.build.options))
        add_pusher(self.assembly.build, main, self.clients)
        ((_, self.pusher),) = main.endpoints
        self.outbounds: list[MemoryOutbound] = []

    def open(self, endpoint: Endpoint, target: str) -> Session:
        choose = getattr(endpoint, "_choose", None)
        request = RequestHead("GET", target, UPGRADE)
        chosen = endpoint if choose is None else choose(request, PEER)
        assert isinstance(chosen, WebSocketEndpoint)
        accepted = chosen.accept(request, PEER)
        return self._admit(accepted.environment, accepted.encoder, accepted.traits)

    def open_stream(self) -> Session:
        accepted = self.clients.websockets().accept(RequestHead("GET", "/", UPGRADE), PEER)
        encoder = self.clients.encoders.encoder(MESSAGES, CHUNKED.framing)
        return self._admit(accepted.environment, encoder, accepted.traits)

    def _admit(self, environment: object, encoder: Encoder, traits: object) -> Session:
        outbound = MemoryOutbound()
        self.outbounds.append(outbound)
        return self.assembly.node.admit(environment, encoder, outbound, traits)  # type: ignore[arg-type]

    async def rest(self) -> None:
        """Returns when nothing is sent any more. How many clients are served in one turn depends on the machine."""
        before = -1
        while before < (sent := sum(len(each.frames) for each in self.outbounds)):
            before = sent
            await settle(50)

    async def encoded(self, stream: str, monkeypatch: pytest.MonkeyPatch) -> int:
        """Publishes, and returns how often the publication was encoded when every client has it."""
        await self.rest()
        for each in self.outbounds:
            each.frames.clear()
        calls: list[object] = []
        encode = Encoder.encode_delivery

        def counted(encoder: Encoder, delivery: object) -> bytes:
            calls.append(delivery)
            return encode(encoder, delivery)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(Encoder, "encode_delivery", counted)
            self.clients.hub.deliver(Publication(Stream(stream), '{"event":"e","data":"1"}'))
            await self.rest()
        assert all(len(each.frames) == 1 for each in self.outbounds)
        return len(calls)


@pytest.mark.parametrize("channel", ["private-news", "private-encrypted-news", "presence-news"])
def test_neither_signatures_nor_socket_ids_divide_a_crowd(
    channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @in_loop
    async def test() -> None:
        house = House()
        for number in range(CROWD // 5):
            session = house.open(house.pusher, "/app/key?protocol=7")
            member = {"user_id": number} if channel.startswith("presence-") else None
            said = subscription(session.sid, channel, member)
            house.assembly.node.receive(session, said.encode())
            assert channel in session.subscriptions
        await settle(1_000)  # members are notified of each other
        assert await house.encoded(channel, monkeypatch) == 1

    test()


def test_a_publication_is_encoded_once_for_each_kind_of_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @in_loop
    async def test() -> None:
        house = House()
        name = identifier("$pubsub", stream_name="news")
        subscribe = json.dumps({"command": "subscribe", "identifier": name}).encode()
        cable = house.clients.websockets()
        for _ in range(CROWD):
            for session in (house.open(cable, "/cable"), house.open_stream()):
                house.assembly.node.receive(session, subscribe)
            session = house.open(house.pusher, "/app/key?protocol=7")
            house.assembly.node.receive(session, subscription(session.sid, "news").encode())
        assert await house.encoded("news", monkeypatch) == 3

    test()
