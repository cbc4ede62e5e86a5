"""``GET /events`` of two workers, read over HTTP while clients come and go."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.types import Message

from catenary.api import live_events, trace_sources
from catenary.api.access import Access
from catenary.api.live_events import READERS, LiveEvents
from catenary.api.trace_events import TraceFilter
from catenary.api.trace_sources import END, FOLLOW, LEASES, Lease, TraceSources, pack
from catenary.auth.keys import API_PHRASE, derived_key
from catenary.messages.names import Stream
from catenary.messages.nodes import NodeEntry
from catenary.messages.publications import Publication
from catenary.metrics.counters import Counters
from catenary.node.cluster import Cluster
from catenary.node.observers import ObserverGroup
from tests.parts.cable_client import CableClient, identifier
from tests.parts.heart import in_loop
from tests.parts.nats_node import until
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, token
from tests.parts.trace import TraceReader

KEY = derived_key(SECRET, API_PHRASE)
CHAT = identifier("$pubsub", stream_name="chat/1")


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    flags = ("--norpc", "--public_streams", "--streams_whisper", "--broadcast_adapter=http")
    with cable_server(
        *flags, "--workers=2", "--broker=nats", f"--secret={SECRET}", "--http_broadcast_port=0"
    ) as running:
        yield running


def connect(server: CableServer, name: str) -> CableClient:
    """A client with the identifiers ``{"user": name}``, whose token is a secret."""
    claims = {"ext": json.dumps({"user": name}, separators=(",", ":")), "exp": time.time() + 600}
    client = CableClient(f"{server.cable_url}?jid={token(claims)}")
    client.receive_welcome()
    return client


def publish(server: CableServer, stream: str, data: object) -> None:
    body = json.dumps({"stream": stream, "data": json.dumps(data)}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/api/publish",
        body,
        {"Authorization": f"Bearer {KEY}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 201


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def test_the_life_of_a_client(server: CableServer) -> None:
    with TraceReader(server.port, key=KEY, identifiers='{"user":"ann"}') as trace:
        trace.wait_until_following(2)
        with connect(server, "ben"), connect(server, "ann") as client:
            client.subscribe(CHAT)
            client.send("message", identifier=CHAT, data="no JSON of ours")
        events = trace.until(lambda event: event["event"] == "closed")
    assert names(events)[:4] == ["connected", "transmitted", "received", "subscribed"]
    assert {event["identifiers"] for event in events} == {'{"user":"ann"}'}
    assert {event["remote"] for event in events} == {"127.0.0.1"}
    assert len({event["sid"] for event in events}) == 1
    assert events[3]["identifier"] == CHAT
    assert events[-1]["by"] == "client"
    assert "token" not in json.dumps(events)


def test_events_come_from_every_worker(server: CableServer) -> None:
    with ExitStack() as clients, TraceReader(server.port, key=KEY, event="connected") as trace:
        trace.wait_until_following(2)
        for number in range(20):
            clients.enter_context(connect(server, f"c{number}"))
        events = [trace.next() for _ in range(20)]
    assert {event["event"] for event in events if event} == {"connected"}
    assert len({event["node"] for event in events if event}) == 2
    assert {event["worker"] for event in events if event} == {1, 2}


def test_a_client_s_trace_has_what_is_delivered_to_it(server: CableServer) -> None:
    with connect(server, "ann") as client, connect(server, "ben") as other:
        client.subscribe(CHAT)
        other.subscribe(identifier("$pubsub", stream_name="other"))
        sid = sid_of(server, '{"user":"ann"}')
        with (
            TraceReader(server.port, key=KEY, sid=sid) as trace,
            TraceReader(server.port, key=KEY, stream="chat/1") as of_stream,
        ):
            trace.wait_until_following(2)
            of_stream.wait_until_following(2)
            publish(server, "other", 1)
            publish(server, "chat/1", {"text": "hi", "api_key": "k3y"})
            delivered = trace.until(lambda event: event["event"] == "delivered")[-1]
            assert (delivered["stream"], delivered["messages"], delivered["clients"]) == (
                "chat/1",
                1,
                1,
            )
            client.send("unsubscribe", identifier=CHAT)
            events = of_stream.until(lambda event: event["event"] == "received")
        published = next(event for event in events if event["event"] == "published")
        assert published["data"] == '{"text": "hi", "api_key": "[hidden]"}'
        assert events[-1]["sid"] == sid


def sid_of(server: CableServer, identifiers: str) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/api/connections",
        headers={"Authorization": f"Bearer {KEY}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        found = json.load(answer)["connections"]
    (sid,) = [each["sid"] for each in found if each["identifiers"] == identifiers]
    return str(sid)


def test_refused_requests_are_events(server: CableServer) -> None:
    with TraceReader(server.port, key=KEY, event="request_refused,rejected") as trace:
        trace.wait_until_following(2)
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/cable?jid=s3cret", timeout=20)
        refused = trace.next()
        assert refused is not None
        assert (refused["status"], refused["path"]) == (answer.value.code, "/cable")
        assert "s3cret" not in json.dumps(refused)
        answer.value.close()
        with CableClient(f"{server.cable_url}?jid=no.token.atall") as client:
            assert client.receive()["reason"] == "unauthorized"
        rejected = trace.until(lambda event: event["event"] == "rejected")[-1]
        assert rejected["reason"]
        assert "atall" not in json.dumps(rejected)


@pytest.mark.parametrize(
    ("query", "key", "status", "error"),
    [
        ({}, "", 401, "expected Authorization: Bearer with the key"),
        ({}, "another", 401, "expected Authorization"),
        ({"strm": "x"}, KEY, 422, "unknown field `strm`"),
        (
            {"event": "rejected,oops"},
            KEY,
            422,
            "event: unknown 'oops', expected some of request_refused",
        ),
    ],
)
def test_refused_readers(
    server: CableServer, query: dict[str, str], key: str, status: int, error: str
) -> None:
    with TraceReader(server.port, key=key, **query) as trace:
        assert trace.response.status == status
        assert error in json.loads(trace.response.read())["error"]


def test_the_end_of_the_server_ends_the_stream() -> None:
    with cable_server("--public", "--norpc") as server, TraceReader(server.port) as trace:
        trace.wait_until_following(1)
        assert server.stop() == 0
        assert trace.next() is None
        assert "Traceback" not in server.output()


# In this process


class Local:
    """The live events of a node that is alone."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.observers = ObserverGroup()
        own = NodeEntry("n", "n", "host", 1, 0, "0", 0)
        self.cluster = Cluster(own, None, self.counters, lambda: 0.0)
        self.sources = TraceSources(
            self.cluster, self.observers, self.counters, lambda _sid, _stream: False
        )
        self.live = LiveEvents(self.cluster, self.counters)
        self.app = self.live.endpoint(Access("GET", key="", pages=None))

    def serve(self, reader: "Reader") -> "asyncio.Task[None]":
        scope: dict[str, Any] = {"type": "http", "headers": [], "query_string": b""}
        coroutine = self.app(scope, reader.receive, reader.send)
        return asyncio.ensure_future(coroutine)

    def publish(self, number: int) -> None:
        assert self.observers.published is not None
        self.observers.published((Publication(Stream("s"), str(number)),))


class Reader:
    """The ASGI side of a reader, which takes messages while it is ``open``."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.gone = asyncio.Event()
        self.status = 0
        self.events: list[dict[str, Any]] = []

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.open.wait()
        self.status = message.get("status", self.status)
        for line in message.get("body", b"").splitlines():
            if line.startswith(b"data: "):
                self.events.append(json.loads(line[6:]))


@in_loop
async def test_events_cost_nothing_without_a_reader() -> None:
    local, reader = Local(), Reader()
    assert local.observers.published is None
    serving = local.serve(reader)
    await until(lambda: reader.events != [])
    assert local.observers.published is not None
    reader.gone.set()
    await serving
    await until(lambda: local.observers.published is None)
    assert (local.live.readers_num, local.sources.leases_num) == (0, 0)


@in_loop
async def test_a_lease_ends_when_nobody_renews_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_sources, "LEASE_S", 0.05)
    local = Local()
    await local.cluster.ask(FOLLOW, pack(Lease("a dead node", 1, TraceFilter())))
    assert local.observers.published is not None
    await until(lambda: local.observers.published is None)
    assert local.sources.leases_num == 0


@in_loop
async def test_leases_have_a_limit() -> None:
    local = Local()
    for number in range(LEASES):
        (answer,) = await local.cluster.ask(FOLLOW, pack(Lease("n", number)))
        assert answer.error == ""
    (answer,) = await local.cluster.ask(FOLLOW, pack(Lease("n", LEASES)))
    assert answer.error == f"the node sends its events to {LEASES} readers already"
    (answer,) = await local.cluster.ask(FOLLOW, pack(Lease("n", 1)))
    assert answer.error == ""
    for number in range(LEASES):
        local.cluster.send("n", END, pack(Lease("n", number)))
    await until(lambda: local.sources.leases_num == 0)


@in_loop
async def test_a_slow_reader_loses_the_oldest_events_and_is_told_how_many() -> None:
    local, reader = Local(), Reader()
    serving = local.serve(reader)
    await until(lambda: reader.events != [])
    reader.open.clear()
    local.publish(0)
    await asyncio.sleep(0.1)  # until the endpoint waits for the reader
    for number in range(1, 3_001):
        local.publish(number)
    await until(lambda: local.counters.live_events_dropped_total >= 2_000)
    await asyncio.sleep(0.1)  # until the rest is on its way
    reader.open.set()
    await until(lambda: reader.events[-1].get("data") == "3000")
    dropped = [event["total"] for event in reader.events if event["event"] == "dropped"]
    shown = [int(event["data"]) for event in reader.events if event["event"] == "published"]
    assert shown == sorted(shown)
    assert sum(dropped) + len(shown) == 3_001
    assert sum(dropped) == local.counters.live_events_dropped_total
    reader.gone.set()
    await serving


@in_loop
async def test_readers_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    local = Local()
    readers = [Reader() for _ in range(READERS)]
    serving = [local.serve(reader) for reader in readers]
    await until(lambda: local.live.readers_num == READERS)
    late = Reader()
    await local.serve(late)
    assert late.status == 503
    assert local.counters.live_events_refused_total == 1
    await local.live.close(1)
    await asyncio.gather(*serving)
    assert local.live.readers_num == 0


@in_loop
async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_events, "HEARTBEAT_S", 0.02)
    local, reader = Local(), Reader()
    bodies: list[bytes] = []

    async def send(message: Message) -> None:
        bodies.append(message.get("body", b""))

    reader.send = send  # type: ignore[method-assign]
    serving = local.serve(reader)
    await until(lambda: bodies.count(b":\n\n") >= 2)
    reader.gone.set()
    await serving
