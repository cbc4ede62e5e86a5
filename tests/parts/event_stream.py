"""An event stream on a socket in memory, whose client reads when a test says so."""

import asyncio
import time
from types import SimpleNamespace
from typing import cast

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, AdmissionRules
from catenary.edge.connection import ClientConnection
from catenary.edge.deadlines import Deadlines
from catenary.edge.refusals import Refusals
from catenary.edge.request import Peer, Proxied
from catenary.node.encoder import Encoders
from catenary.node.session import Session
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.transports.event_stream import EventStream, StreamLimits, StreamServices
from catenary.transports.event_stream_endpoint import EventStreamEndpoint
from catenary.transports.event_stream_requests import EventStreamRequests
from catenary.transports.request_body import BodyReading
from catenary.wire.http1 import RequestHead
from catenary.wire.request_memory import RequestMemory
from tests.parts.heart import NEVER, Heart
from tests.parts.memory_socket import MemorySocket

PEER = Peer("http", "127.0.0.1")
LIMITS = StreamLimits(high_water=8_000_000, close_timeout_s=0.3)


def stream_services(
    heart: Heart, *, limits: StreamLimits = LIMITS, budget: int = CLIENTS_BUDGET_US
) -> StreamServices:
    """What event streams of a node need; every page may connect, and nothing is pinged."""
    every_page = Origins(())
    rules = AdmissionRules(origins=every_page, proxied=Proxied((), ()), heartbeat=NEVER)
    return StreamServices(
        heart.node,
        Encoders(),
        EventStreamRequests(Admission(rules, heart.counters), every_page),
        limits,
        heart.counters,
        Refusals(heart.counters),
        Turns(budget, asyncio.get_running_loop().call_soon),
        BodyReading(
            100_000_000,
            Deadlines(10, time.monotonic),
            RequestMemory(0, heart.counters),
            heart.counters,
        ),
    )


def get(query: str) -> RequestHead:
    return RequestHead("GET", f"/events?{query}", {})


def post(size: int, *, sid: str = "s", is_http_1_0: bool = False) -> RequestHead:
    """A request whose body has so many bytes."""
    headers = {"x-request-id": sid, "content-length": str(size)}
    return RequestHead("POST", "/events", headers, is_http_1_0=is_http_1_0)


class OpenEventStream:
    """The client of an event stream. The ``body`` of its request follows its head at once."""

    def __init__(self, services: StreamServices, request: RequestHead, body: bytes = b"") -> None:
        self.socket = MemorySocket()
        connection = SimpleNamespace(transport=self.socket)
        stage = EventStreamEndpoint(services).open(
            request, PEER, cast("ClientConnection", connection)
        )
        assert isinstance(stage, EventStream)
        self.stream = self.socket.stage = stage
        stage.begin(body)

    @property
    def session(self) -> Session:
        session = self.stream._session
        assert session is not None
        return session

    def leave(self) -> None:
        """Loses its connection, which forgets its stage before."""
        del self.socket.stage
        self.stream.lost(None)
