"""A server process that echoes messages, on the real transports and framings.

    python -m tests.conformance.autobahn.echo

Prints its port, serves until its standard input ends. The connection, the handshake, the frames and the
encoders are the server's own; only the node behind them is not. A node is not told
whether a message was text, so clients that ask for ``/cable?binary`` are answered in binary frames.
"""

import asyncio
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, cast

import uvicorn
import uvloop

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, AdmissionRules
from catenary.edge.connection import ClientConnection, PortState
from catenary.edge.deadlines import Deadlines, NoDeadlines
from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.refusals import Refusals
from catenary.edge.request import Proxied
from catenary.edge.routes import RouteTable
from catenary.edge.sniffer import HeadLimits, Port, RequestSniffer
from catenary.edge.uvicorn_http import HostedWebSockets
from catenary.messages.commands import Command
from catenary.messages.environment import Environment
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Identifier
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, PresenceState, Reply
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoder, Encoders
from catenary.node.node import Node
from catenary.node.session import Traits
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.ports import Goodbye, Outbound
from catenary.protocols.table import ClientProtocol, ProtocolSet
from catenary.transports.websocket import WebSocketLimits, WebSocketServices
from catenary.transports.websocket_endpoint import WebSocketEndpoint
from catenary.wire.frames import BINARY, TEXT
from catenary.wire.request_memory import RequestMemory

LARGEST_MESSAGE: Final = 16 * 2**20
"""Cases 9.1.6 and 9.2.6."""


class Bare:
    """A protocol whose messages are nothing but their payload. Satisfies Codec."""

    def decode(self, payload: bytes) -> Command | None:
        return None

    def encode(self, reply: Reply) -> bytes | None:
        return None

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        return iter(())

    def encode_transmission(self, text: str) -> bytes:
        return text.encode()

    def encode_delivery(self, delivery: Delivery) -> bytes:
        return delivery.message

    def goodbye(self, reason: Reason) -> Goodbye:
        return Goodbye(reason, 1001, reason.name)


class EchoSession:
    """The state of a connection."""

    def __init__(self, encoder: Encoder, outbound: Outbound, *, is_binary: bool) -> None:
        self.encoder = encoder
        self.outbound = outbound
        self.is_binary = is_binary

    def close(self, reason: Reason) -> None:
        self.outbound.close(self.encoder.goodbye(reason))


class EchoNode:
    """As much of a node as a connection needs."""

    def admit(
        self, environment: Environment, encoder: Encoder, outbound: Outbound, traits: Traits
    ) -> EchoSession:
        return EchoSession(encoder, outbound, is_binary=environment.url.endswith("?binary"))

    def receive(self, session: EchoSession, payload: bytes) -> None:
        said = session.encoder.encode_delivery(Delivery(Identifier(""), payload))
        if session.is_binary:
            said = bytes((said[0] ^ TEXT ^ BINARY,)) + said[1:]
        session.outbound.write(said)

    def receive_pong(self, session: EchoSession) -> None:
        """A pong."""

    def leave(self, session: EchoSession) -> None:
        """Nothing is kept."""


def endpoint() -> WebSocketEndpoint:
    """WebSockets for every client, with compression."""
    counters, bare = Counters(), Bare()
    return WebSocketEndpoint(
        WebSocketServices(
            cast("Node", EchoNode()),
            WebSocketLimits(max_message_bytes=LARGEST_MESSAGE, max_pending_bytes=0),
            counters,
            NoDeadlines(),
            Turns(CLIENTS_BUDGET_US, lambda turn: asyncio.get_running_loop().call_soon(turn)),
        ),
        Admission(
            AdmissionRules(origins=Origins(()), proxied=Proxied((), ()), heartbeat=Heartbeat(0)),
            counters,
        ),
        ProtocolSet((), fallback=ClientProtocol(name="test", subprotocols=(), codec=lambda: bare)),
        Encoders(),
        compresses=True,
    )


def port(call_soon: Callable[..., object]) -> Port:
    counters = Counters()
    return Port(
        routes=RouteTable([("/cable", endpoint())]),
        fallback=HostedWebSockets(None),
        late_fallback=HostedWebSockets(None),
        queue=HandshakeQueue(100, counters, call_soon),
        deadlines=Deadlines(5, time.monotonic),
        memory=RequestMemory(0, counters),
        head=HeadLimits(),
        counters=counters,
        refusals=Refusals(counters),
    )


async def main() -> None:
    """Serves until the standard input ends."""
    loop = asyncio.get_running_loop()
    connection = functools.partial(
        ClientConnection,
        functools.partial(RequestSniffer, port(loop.call_soon)),
        config=uvicorn.Config("none"),
        server_state=PortState(),
        app_state={},
    )
    server = await loop.create_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
