"""A server process that says back what it hears, in front of which everything is the real thing.

    python -m tests.conformance.autobahn.echo

Prints its port, serves until its standard input ends. The door, the handshake, the connection, the
frames and the encoders are the server's own; only the node behind them is not. A node is not told
whether a message was text, so clients that ask for ``/cable?binary`` are answered in binary frames.
"""

import asyncio
import functools
import sys
import time
from typing import Final, cast

import uvicorn
import uvloop
from uvicorn.server import ServerState

from catenary.auth.origins import Origins
from catenary.edge.deadlines import Deadlines, NoDeadlines
from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.request import Proxied
from catenary.edge.routes import CablePaths
from catenary.messages.commands import Command
from catenary.messages.environment import Environment
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Identifier
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, Reply
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoder, Encoders
from catenary.node.node import Node
from catenary.node.session import Traits
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.ports import Goodbye, Outbound
from catenary.protocols.table import ClientProtocol, ProtocolSet
from catenary.server.door import Door
from catenary.server.entrance import CableRules, Entrance
from catenary.transports.websocket import WebSocketLimits
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

    def encode_transmission(self, text: str) -> bytes:
        return text.encode()

    def encode_delivery(self, delivery: Delivery) -> bytes:
        return delivery.message

    def goodbye(self, reason: Reason) -> Goodbye:
        return Goodbye(reason, 1001, reason.name)


class EchoSession:
    """What a connection holds of its client."""

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

    def heard(self, session: EchoSession) -> None:
        """A pong."""

    def leave(self, session: EchoSession) -> None:
        """Nothing is kept."""


def entrance() -> Entrance:
    """A door for everybody, with compression."""
    bare = Bare()
    rules = CableRules(
        paths=CablePaths(["/cable"]),
        origins=Origins(()),
        proxied=Proxied((), ()),
        heartbeat=Heartbeat(0),
        limits=WebSocketLimits(max_message_bytes=LARGEST_MESSAGE, max_pending_bytes=0),
        protocols=ProtocolSet((), fallback=ClientProtocol(subprotocols=(), codec=lambda: bare)),
        encoders=Encoders(),
        compresses=True,
    )
    counters = Counters()
    return Entrance(
        cast("Node", EchoNode()),
        rules,
        counters,
        deadlines=Deadlines(5, time.monotonic),
        late_messages=NoDeadlines(),
        memory=RequestMemory(0, counters),
        queue=HandshakeQueue(
            100, counters, lambda serve: asyncio.get_running_loop().call_soon(serve)
        ),
        turns=Turns(CLIENTS_BUDGET_US, lambda turn: asyncio.get_running_loop().call_soon(turn)),
    )


async def main() -> None:
    """Serves until the standard input ends."""
    door = functools.partial(
        Door,
        entrance(),
        config=uvicorn.Config("none"),
        server_state=ServerState(),
        app_state={},
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(door, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
