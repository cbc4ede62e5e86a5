"""Long-polling clients: one that talks to a running server, request by request, and a node's endpoint in this loop."""

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from uvicorn.config import Config

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, AdmissionRules
from catenary.edge.connection import ClientConnection, PortState
from catenary.edge.deadlines import Deadlines
from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.refusals import Refusals
from catenary.edge.request import Proxied
from catenary.edge.routes import RouteTable
from catenary.edge.sniffer import HeadLimits, Port, RequestSniffer
from catenary.errors import RequestRefused
from catenary.node.encoder import Encoders
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.protocols.long_polling import POLL_ID, RESPONSE_NUMBER
from catenary.transports.long_polling import PollLimits
from catenary.transports.long_polling_endpoint import LongPollingEndpoint, PollServices
from catenary.transports.long_polling_requests import PollRequests
from catenary.transports.long_polling_sessions import PollSessions
from catenary.transports.request_body import BodyReading
from catenary.wire.request_memory import RequestMemory
from tests.parts.heart import NEVER, Heart
from tests.parts.raw_socket import DEADLINE_S

LIMITS = PollLimits(
    interval_s=10,
    flush_interval_s=0.01,
    keepalive_timeout_s=10,
    max_request_bytes=65_536,
    max_pending_bytes=1_048_576,
)


class Response(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def messages(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines() if line]

    @property
    def types(self) -> list[str]:
        return [each.get("type", "message") for each in self.messages]

    @property
    def published(self) -> list[Any]:
        return [
            each["message"] for each in self.messages if "type" not in each and "message" in each
        ]


def lines(*commands: Mapping[str, object]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in commands)


def subscribe(stream: str, **fields: object) -> dict[str, object]:
    """A command that subscribes to a public stream."""
    return {"command": "subscribe", "identifier": identifier(stream), **fields}


def identifier(stream: str) -> str:
    return json.dumps({"channel": "$pubsub", "stream_name": stream})


class Poller:
    """A client; each request may go to another port. With ``counts``, it says which response it has received last."""

    def __init__(
        self, port: int, path: str = "/lp", *, counts: bool = False, **headers: str
    ) -> None:
        self.port = port
        self.path = path
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.poll_id = ""
        self.counts = counts
        self._received = 0

    def post(self, *commands: Mapping[str, object], port: int | None = None) -> Response:
        """Sends a request, and waits for its response."""
        return self.finish(self.begin(*commands, port=port))

    def begin(
        self, *commands: Mapping[str, object], port: int | None = None
    ) -> http.client.HTTPConnection:
        """Sends a request; :meth:`finish` waits for the response."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=DEADLINE_S)
        headers = dict(self.headers)
        if self.poll_id:
            headers[POLL_ID] = self.poll_id
        if self.counts and self._received:
            headers[RESPONSE_NUMBER] = str(self._received)
        connection.request("POST", self.path, lines(*commands), headers)
        return connection

    def finish(self, connection: http.client.HTTPConnection) -> Response:
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        body = response.read()
        connection.close()
        self.poll_id = found.get(POLL_ID.lower(), self.poll_id)
        self._received = int(found.get(RESPONSE_NUMBER.lower(), self._received))
        return Response(response.status, found, body)

    def until(self, wanted: Any, timeout_s: float = 20) -> list[Any]:
        """The published messages of as many polls as it takes to get one."""
        found: list[Any] = []
        deadline = time.monotonic() + timeout_s
        while wanted not in found:
            response = self.post()
            assert response.status in (200, 204), response
            assert time.monotonic() < deadline, found
            found += response.published
        return found


def poll_services(heart: Heart, limits: PollLimits = LIMITS) -> PollServices:
    """What long polling of a node needs; every page may connect."""
    every_page = Origins(())
    rules = AdmissionRules(origins=every_page, proxied=Proxied((), ()), heartbeat=NEVER)
    counters = heart.counters
    sessions = PollSessions(
        "node",
        heart.node,
        encoders=Encoders(),
        turns=Turns(CLIENTS_BUDGET_US, asyncio.get_running_loop().call_soon),
        counters=counters,
        limits=limits,
        clock=time.monotonic,
    )
    deadlines = Deadlines(10, time.monotonic)
    return PollServices(
        sessions,
        None,
        PollRequests(Admission(rules, counters), every_page, ""),
        BodyReading(limits.max_request_bytes, deadlines, RequestMemory(0, counters), counters),
        Refusals(counters),
        deadlines,
    )


def _nothing_else(*_: object) -> None:
    raise RequestRefused(404, "expected /lp")


@asynccontextmanager
async def serving_polls(services: PollServices) -> AsyncIterator[int]:
    """Serves long polling in this loop; the port."""
    loop = asyncio.get_running_loop()
    counters = services.bodies.counters
    port = Port(
        routes=RouteTable([("/lp", LongPollingEndpoint(services))]),
        fallback=_nothing_else,
        late_fallback=_nothing_else,
        queue=HandshakeQueue(100, counters, loop.call_soon),
        deadlines=services.connections,
        memory=services.bodies.memory,
        head=HeadLimits(),
        counters=counters,
        refusals=services.refusals,
    )
    config, state = Config("none"), PortState()
    server = await loop.create_server(
        lambda: ClientConnection(
            lambda connection, uvicorn: RequestSniffer(port, connection, uvicorn),
            config=config,
            server_state=state,
            app_state={},
        ),
        "127.0.0.1",
        0,
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def posted(port: int, poll_id: str = "", body: bytes = b"") -> Response:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        named = f"{POLL_ID}: {poll_id}\r\n" if poll_id else "X-Request-ID: s\r\n"
        head = f"POST /lp HTTP/1.1\r\nHost: test\r\n{named}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        raw = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = (line.split(": ", 1) for line in raw[1:] if line)
        headers = {name.lower(): value for name, value in fields}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        return Response(int(raw[0].split()[1]), headers, content)
    finally:
        writer.close()
