"""Event streams on real sockets: how requests are answered, and how streams end; and in memory, what happens between."""

import gc
import json
import signal
import time
import urllib.request
from collections.abc import Iterator

import pytest

from catenary.messages.decisions import Decision, Verdict
from catenary.transports.event_stream import EventStream, StreamLimits
from tests.parts.event_stream import OpenEventStream, get, post, stream_services
from tests.parts.events import Event, events_of
from tests.parts.grpc_app import grpc_server
from tests.parts.heart import Heart, confirming, in_loop, room, settle
from tests.parts.raw_socket import RawSocket
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, signed_name, token

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--sse", "--ping_interval=1")
STREAM = '{"channel":"$pubsub","stream_name":"news"}'


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    flags = ("--broker=memory", "--metrics_http=/metrics", "--handshake_timeout=1")
    with cable_server(*PUBLIC, *flags) as server:
        yield server


@pytest.fixture(scope="module")
def rpc_server() -> Iterator[CableServer]:
    with (
        grpc_server() as application,
        cable_server(
            "--sse", f"--rpc_host={application.address}", "--broadcast_adapter=http"
        ) as server,
    ):
        yield server


def request(
    method: str, target: str, *headers: str, body: bytes = b"", version: str = "1.1"
) -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def subscribe(*identifiers: str) -> bytes:
    lines = [json.dumps({"command": "subscribe", "identifier": each}) for each in identifiers]
    return "\n".join(lines).encode()


def publish(server: CableServer, data: object, stream: str = "news") -> None:
    body = json.dumps({"stream": stream, "data": json.dumps(data)}).encode()
    urllib.request.urlopen(server.broadcast_url, body, timeout=10).close()


class Stream:
    """A response by chunks, read event by event."""

    def __init__(self, client: RawSocket) -> None:
        self._client = client
        self.head = client.head()
        self.last_id = ""

    def chunk(self) -> bytes:
        size = b""
        while not size.endswith(b"\r\n"):
            size += self._client._take(1)
        return self._client._take(int(size, 16) + 2)[:-2]

    def next(self) -> Event | None:
        """The next event that is no ping; None at the end of the response."""
        while True:
            chunk = self.chunk()
            if not chunk:
                return None
            assert chunk.endswith(b"\n\n"), "each chunk is a whole event"
            for event in events_of(chunk):
                self.last_id = event.id or self.last_id
                if event.type != "ping":
                    return event


def test_the_response_begins_with_welcome_and_confirmation(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(request("GET", "/events?stream=news"))
        stream = Stream(client)
        assert stream.head.startswith("HTTP/1.1 200 OK\r\n")
        assert "\r\nContent-Type: text/event-stream; charset=utf-8\r\n" in stream.head
        for kind in ("welcome", "confirm_subscription"):
            event = stream.next()
            assert event is not None
            assert event.type == kind
        assert server.figure("sse_clients_num") >= 1
        publish(server, {"a": 1})
        event = stream.next()
        assert event is not None
        assert (event.data, event.id.split("/")[1]) == ('{"a": 1}', "news")


def test_a_client_that_leaves_is_forgotten(server: CableServer) -> None:
    before = server.figure("sse_clients_num")
    with RawSocket(server.port) as client:
        client.send(request("GET", "/events?stream=news"))
        Stream(client).next()
        assert server.figure("sse_clients_num") == before + 1
    deadline = time.monotonic() + 10
    while server.figure("sse_clients_num") != before:
        assert time.monotonic() < deadline
    assert server.figure("open_connections_num") == before


def test_a_request_by_http_1_0_ends_with_the_connection(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(request("GET", "/events?stream=old", version="1.0"))
        assert "chunked" not in client.head()
        assert client._take(15) == b"event: welcome\n"


def test_several_subscriptions_by_post_in_pieces(server: CableServer) -> None:
    body = subscribe(STREAM, STREAM.replace("news", "sport"))
    raw = request("POST", "/events", body=body)
    with RawSocket(server.port) as client:
        client.send(*(raw[at : at + 40] for at in range(0, len(raw), 40)))
        stream = Stream(client)
        kinds = [event.type for _ in range(3) if (event := stream.next())]
        assert kinds == ["welcome", "confirm_subscription", "confirm_subscription"]
        publish(server, 7, "sport")
        event = stream.next()
        assert event is not None
        assert json.loads(event.data)["message"] == 7


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        (request("GET", "/events"), 400, b"expected channel, identifier, stream"),
        (request("GET", "/events?stream=a&history_since=x"), 400, b"expected history_since"),
        (request("PUT", "/events?stream=a"), 405, b"expected GET, HEAD, POST, OPTIONS, got PUT"),
        (request("POST", "/events", body=b"{"), 400, b"line 1: expected a JSON object"),
        (request("POST", "/events", "Transfer-Encoding: gzip"), 501, b"but chunked"),
        (b"POST /events HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413, b"up to 65536 bytes"),
        (b"POST /events HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, b"expected a number"),
        (request("POST", "/events", body=subscribe('{"channel":"$no"}')), 401, b"was rejected"),
        (b"POST /events HTTP/1.1\r\nContent-Length: 9\r\n\r\n{", 408, b"a body within 1 s"),
    ],
)
def test_what_is_refused(server: CableServer, raw: bytes, status: int, reason: bytes) -> None:
    with RawSocket(server.port) as client:
        client.send(raw)
        answered, headers, body = client.answer()
        assert (answered, reason in body) == (status, True), body
        assert ("allow" in headers) == (status == 405)
        assert client.wait_for_end() == b""


def test_head_and_options_connect_nobody(server: CableServer) -> None:
    before = server.figure("open_connections_num")
    for method, query, status in (
        ("HEAD", "?stream=a", "200 OK"),
        ("HEAD", "", "400 Bad Request"),
        ("OPTIONS", "", "204 No Content"),
    ):
        with RawSocket(server.port) as client:
            client.send(request(method, f"/events{query}", "Origin: http://page.test"))
            head = client.head()
            assert head.startswith(f"HTTP/1.1 {status}\r\n")
            assert "\r\nAccess-Control-Allow-Origin: http://page.test" in head
            assert client.wait_for_end() == b""
    assert server.figure("open_connections_num") == before


def test_pages_of_other_origins_are_refused() -> None:
    flags = ("--allowed_origins=other.test", "--sse_allowed_origins=page.test")
    with cable_server(*PUBLIC, *flags) as server:
        for origin, status in (("http://page.test", 200), ("http://other.test", 403)):
            with RawSocket(server.port) as client:
                client.send(request("GET", "/events?stream=a", f"Origin: {origin}"))
                head = client.head()
                assert head.startswith(f"HTTP/1.1 {status} ")
                allowed = f"Access-Control-Allow-Origin: {origin}" in head
                assert allowed == (status == 200)


def test_beyond_the_limit_of_connections_it_is_503() -> None:
    with cable_server(*PUBLIC, "--max-conn=1") as server, RawSocket(server.port) as first:
        first.send(request("GET", "/events?stream=a"))
        Stream(first).next()
        with RawSocket(server.port) as second:
            second.send(request("GET", "/events?stream=a"))
            status, headers, _ = second.answer()
            assert status == 503
            assert 5 <= int(headers["retry-after"]) <= 15


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("channel=EchoChannel", 200),
        ("channel=EchoChannel&reject=1", 401),
        ("channel=EchoChannel&error=1", 503),
        ("channel=RejectChannel", 401),
        ("channel=ErrorChannel", 401),
    ],
)
def test_the_application_decides(rpc_server: CableServer, query: str, status: int) -> None:
    with RawSocket(rpc_server.port) as client:
        client.send(request("GET", f"/events?{query}"))
        assert client.head().startswith(f"HTTP/1.1 {status} ")


def test_actions_of_a_request_are_performed(rpc_server: CableServer) -> None:
    echo = '{"channel":"EchoChannel"}'
    perform = {"command": "message", "identifier": echo, "data": '{"action":"echo","text":"é"}'}
    body = subscribe(echo) + b"\n" + json.dumps(perform).encode()
    with RawSocket(rpc_server.port) as client:
        client.send(request("POST", "/events", body=body))
        stream = Stream(client)
        events = [stream.next() for _ in range(3)]
        assert events[2] is not None
        assert json.loads(events[2].data)["identifier"] == echo


def test_a_subscription_that_is_given_back_is_not_missed(server: CableServer) -> None:
    unsubscribe = json.dumps({"command": "unsubscribe", "identifier": STREAM}).encode()
    with RawSocket(server.port) as client:
        client.send(request("POST", "/events", body=subscribe(STREAM) + b"\n" + unsubscribe))
        assert client.head().startswith("HTTP/1.1 200 ")


def test_a_raw_stream_has_messages_only(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(request("GET", "/events?stream=raw&raw=1"))
        stream = Stream(client)
        assert stream.head.startswith("HTTP/1.1 200 ")
        publish(server, "first", "raw")
        assert stream.next() == Event("message", "first", stream.last_id)
        # In place of a ping
        while stream.chunk() != b":\n\n":
            pass


def test_a_history_that_is_not_kept_is_rejected() -> None:
    with cable_server(*PUBLIC) as server, RawSocket(server.port) as client:
        client.send(request("GET", "/events?stream=news&history_since=1700000000"))
        stream = Stream(client)
        kinds = [event.type for _ in range(3) if (event := stream.next())]
        assert kinds == ["welcome", "confirm_subscription", "reject_history"]
        publish(server, 1)
        event = stream.next()
        assert event is not None
        assert (event.data, event.id) == ("1", "")


def test_signed_streams_and_tokens() -> None:
    now = int(time.time())
    flags = ("--sse", "--norpc", f"--jwt_secret={SECRET}", "--enforce_jwt", "--turbo_streams")
    keys = (f"--streams_secret={SECRET}", "--broadcast_adapter=http")
    good, late = token({"ext": "{}"}), token({"ext": "{}", "exp": now - 60})
    name = signed_name("news")
    with cable_server(*flags, *keys) as server:
        for query, status in (
            (f"signed_stream={name}&jid={good}", 200),
            (f"turbo_signed_stream_name={name}&jid={good}", 200),
            (f"signed_stream={name}0&jid={good}", 401),
            (f"stream=news&jid={good}", 401),
            (f"signed_stream={name}&jid={good}0", 401),
            (f"signed_stream={name}&jid={late}", 401),
            (f"signed_stream={name}", 401),
        ):
            with RawSocket(server.port) as client:
                client.send(request("GET", f"/events?{query}"))
                assert client.head().startswith(f"HTTP/1.1 {status} "), query


def test_a_client_that_does_not_read_is_closed_and_counted() -> None:
    flags = ("--ws_max_pending_size=50000", "--metrics_http=/metrics")
    with (
        cable_server(*PUBLIC, *flags) as server,
        RawSocket(server.port, receive_buffer=4096) as client,
    ):
        client.send(request("GET", "/events?stream=news"))
        assert Stream(client).next() is not None
        deadline = time.monotonic() + 20
        while not server.figure("disconnected_slow_clients_total"):
            publish(server, "x" * 50_000)
            assert time.monotonic() < deadline
        while server.figure("sse_clients_num"):
            assert time.monotonic() < deadline


def test_a_large_history_is_sent_whole(server: CableServer) -> None:
    for number in range(60):
        publish(server, f"{number} " + "x" * 20_000, "large")
    with RawSocket(server.port) as client:
        client.send(request("GET", "/events?stream=large&history_since=1"))
        stream = Stream(client)
        heard: list[int] = []
        while len(heard) < 60:
            event = stream.next()
            assert event is not None
            if event.type == "message":
                heard.append(int(event.data.split()[0]))
        assert heard == list(range(60))


def test_a_shutdown_is_told_and_ends_the_response() -> None:
    with cable_server(*PUBLIC) as server, RawSocket(server.port) as client:
        client.send(request("GET", "/events?stream=a"))
        stream = Stream(client)
        kinds = [event.type for _ in range(2) if (event := stream.next())]
        assert kinds == ["welcome", "confirm_subscription"]
        server.process.send_signal(signal.SIGTERM)
        event = stream.next()
        assert event is not None
        assert json.loads(event.data) == {
            "type": "disconnect",
            "reason": "server_restart",
            "reconnect": True,
        }
        assert stream.next() is None
        assert client.wait_for_end() == b""


# In memory


@in_loop
async def test_what_arrives_before_the_response_is_sent_with_it() -> None:
    heart = Heart()
    answer = heart.application.later("subscribe")
    body = subscribe(room("slow"))
    heart.application.prepare("connect", Decision(replies=()))
    client = OpenEventStream(stream_services(heart), post(len(body)), body)
    client.stream.write(b"data: early\n\n")
    assert client.socket.taken == b""
    answer.set_result(confirming(room("slow")))
    await settle()
    assert b"data: early" in client.socket.taken
    assert heart.counters.sse_clients_num == 1


@in_loop
async def test_what_waits_for_the_response_has_a_limit() -> None:
    heart = Heart()
    limits = StreamLimits(high_water=1_000, close_timeout_s=1)
    heart.application.prepare("subscribe", confirming(room("fast")))
    answer = heart.application.later("subscribe")
    body = subscribe(room("fast"), room("slow"))
    client = OpenEventStream(stream_services(heart, limits=limits), post(len(body)), body)
    heart.publish("fast", "x" * 500)
    await settle()
    assert client.socket.taken == b""
    heart.publish("fast", "x" * 500)
    await settle()
    assert client.socket.taken.startswith(b"HTTP/1.1 503 ")
    assert client.socket.is_closing()
    client.leave()
    answer.cancel()
    assert heart.counters.refused_connections_total == 1
    assert (heart.counters.sse_clients_num, heart.hub.streams_num) == (0, 0)


@in_loop
async def test_a_client_that_leaves_while_its_commands_are_read_is_not_admitted() -> None:
    heart = Heart()
    body = subscribe(*(room(str(number)) for number in range(100)))
    client = OpenEventStream(stream_services(heart, budget=100), post(len(body)), body)
    await settle(2)
    client.leave()
    await settle(100)
    assert heart.application.calls == []


@in_loop
async def test_a_client_that_leaves_while_its_commands_are_carried_out_costs_no_more() -> None:
    heart = Heart()
    body = subscribe(*(room(str(number)) for number in range(100)))
    client = OpenEventStream(stream_services(heart, budget=100), post(len(body)), body)
    while len(heart.application.calls) < 50:
        await settle(1)
    client.leave()
    calls = len(heart.application.calls)
    await settle(100)
    assert [call[0] for call in heart.application.calls[calls:]] == ["disconnect"]
    assert heart.hub.streams_num == 0


@in_loop
async def test_a_refused_client_s_commands_are_not_carried_out() -> None:
    heart = Heart()
    heart.application.prepare("connect", Decision(verdict=Verdict.FAILURE))
    client = OpenEventStream(stream_services(heart), get("channel=Chat"))
    assert client.socket.taken.startswith(b"HTTP/1.1 401 ")
    assert [call[0] for call in heart.application.calls] == ["connect"]


def open_streams() -> int:
    return sum(type(each) is EventStream for each in gc.get_objects())


@pytest.mark.parametrize("how", ["opened", "refused", "incomplete", "interrupted"])
def test_a_client_that_left_is_freed_without_the_collector(how: str) -> None:
    """By reference counts: a cycle would wait for the collector."""

    @in_loop
    async def scenario() -> None:
        heart = Heart()
        services = stream_services(heart, budget=100)
        body = subscribe(*(room(str(number)) for number in range(50)))
        if how == "opened":
            client = OpenEventStream(services, get(f"identifier={room('r')}"))
            assert heart.counters.sse_clients_num == 1
        elif how == "refused":
            heart.application.prepare("connect", Decision(verdict=Verdict.FAILURE))
            client = OpenEventStream(services, get("channel=Chat"))
        elif how == "incomplete":
            client = OpenEventStream(services, post(len(body)), body[:9])
        else:
            client = OpenEventStream(services, post(len(body)), body)
            await settle(2)
        assert open_streams() == before + 1
        client.leave()
        del client
        await settle(200)
        assert open_streams() == before

    gc.collect()
    before = open_streams()
    gc.disable()
    try:
        scenario()
    finally:
        gc.enable()
