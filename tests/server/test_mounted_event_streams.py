"""Event streams of a mounted cable, in uvicorn and hypercorn: the same rules as on a port of our own."""

import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import get_args

import pytest

from catenary import Cable
from catenary.errors import ConfigError
from tests.parts.asgi_host import AsgiHost, Kind, asgi_host
from tests.parts.events import Event, events_of
from tests.parts.node import NodeClient
from tests.parts.raw_socket import RawSocket
from tests.parts.tcp_relay import tcp_relay
from tests.server.mounted_chat import mirror
from tests.server.test_mounted import counters, mounted_at_cable

CHANNEL = "/cable/?channel=MirrorChannel"
KINDS = get_args(Kind)


class Stream:
    """The response to one request."""

    def __init__(self, host: AsgiHost, method: str, target: str, body: bytes | None = None) -> None:
        self.connection = HTTPConnection("127.0.0.1", host.port, timeout=20)
        self.connection.request(method, target, body)
        self.response: HTTPResponse = self.connection.getresponse()

    def next(self) -> Event | None:
        """The next event that is no ping; None at the end of the response."""
        while True:
            lines = b""
            while not lines.endswith(b"\n\n"):
                line = self.response.readline()
                if not line:
                    return None
                lines += line
            for event in events_of(lines):
                if event.type != "ping":
                    return event


@contextmanager
def stream(
    host: AsgiHost, target: str = CHANNEL, *, method: str = "GET", body: bytes | None = None
) -> Iterator[Stream]:
    opened = Stream(host, method, target, body)
    try:
        yield opened
    finally:
        opened.response.close()
        opened.connection.close()


def publish(host: AsgiHost, cable: Cable, message: object) -> None:
    async def work() -> None:
        await cable.broadcast("news", message)

    host.run(work())


def kinds_of(opened: Stream, number: int) -> list[str]:
    return [event.type for _ in range(number) if (event := opened.next())]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stream_is_opened_and_gets_what_is_published(kind: Kind) -> None:
    cable = mirror()
    with asgi_host(cable.asgi(sse=True, broker="memory"), kind) as host:
        with stream(host) as opened:
            assert opened.response.status == 200
            assert opened.response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert kinds_of(opened, 2) == ["welcome", "confirm_subscription"]
            figures = counters(cable.asgi())
            assert (figures.sse_clients_num, figures.open_connections_num) == (1, 1)
            publish(host, cable, "first")
            first = opened.next()
            assert first is not None
            assert (first.data, first.id.split("/")[:2]) == ("first", ["1", "news"])
            publish(host, cable, "second")
            second = opened.next()
            assert second is not None
            assert second.data == "second"
        until(lambda: figures.open_connections_num == 0)
        assert figures.sse_clients_num == 0


def test_by_post_whole_messages_with_their_identifiers(kind: Kind) -> None:
    cable = mirror()
    identifier = '{"channel":"MirrorChannel"}'
    subscribe = json.dumps({"command": "subscribe", "identifier": identifier})
    say = {"action": "say", "text": "é"}
    perform = {"command": "message", "identifier": identifier, "data": json.dumps(say)}
    body = f"{subscribe}\n{json.dumps(perform)}\n".encode()
    with (
        asgi_host(cable.asgi(sse=True), kind) as host,
        stream(host, "/cable/", method="POST", body=body) as opened,
    ):
        assert kinds_of(opened, 2) == ["welcome", "confirm_subscription"]
        said = opened.next()
        assert said is not None
        assert json.loads(said.data) == {"identifier": identifier, "message": "é"}


@pytest.mark.parametrize(
    ("asked", "body", "status", "said"),
    [
        ("GET /cable/", None, 400, "expected channel, identifier, stream"),
        ("GET /cable/?channel=Other", None, 401, "the subscription was rejected"),
        ("POST /cable/", b"{", 400, "line 1: expected"),
        ("POST /cable/", b"x" * 1001, 413, "expected a body of up to 1000 bytes"),
        ("PUT /cable/", None, 405, "expected GET, HEAD, POST, OPTIONS, got PUT"),
        (f"HEAD {CHANNEL}", None, 200, ""),
        ("HEAD /cable/", None, 400, ""),
        ("OPTIONS /cable/", None, 204, ""),
    ],
)
def test_what_is_answered_at_once(
    kind: Kind, asked: str, body: bytes | None, status: int, said: str
) -> None:
    cable = mirror()
    mounted = cable.asgi(sse=True, max_message_size=1000)
    method, target = asked.split()
    with asgi_host(mounted, kind) as host, stream(host, target, method=method, body=body) as opened:
        assert opened.response.status == status
        assert said in opened.response.read().decode()
        assert counters(mounted).sse_clients_num == 0
        until(lambda: counters(mounted).open_connections_num == 0)


def test_cors_and_other_origins(kind: Kind) -> None:
    cable = mirror()
    mounted = cable.asgi(sse=True, sse_allowed_origins="page.test")
    with asgi_host(mounted, kind) as host:
        for page, status in (("http://page.test", 200), ("http://other.test", 403)):
            connection = HTTPConnection("127.0.0.1", host.port, timeout=20)
            connection.request("GET", CHANNEL, headers={"Origin": page})
            response = connection.getresponse()
            allowed = response.headers["access-control-allow-origin"]
            assert (response.status, allowed == page) == (status, status == 200)
            connection.close()


def test_a_body_that_does_not_arrive_is_408(kind: Kind) -> None:
    mounted = mirror().asgi(sse=True, handshake_timeout=1)
    with asgi_host(mounted, kind) as host, RawSocket(host.port) as client:
        client.send(b"POST /cable/ HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n{")
        assert client.head().startswith("HTTP/1.1 408")
        assert counters(mounted).late_handshakes_total == 1


def test_requests_in_flight_count_towards_the_limit() -> None:
    mounted = mirror().asgi(sse=True, max_conn=1)
    head = b"POST /cable/ HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n"
    with asgi_host(mounted) as host, ExitStack() as stack:
        clients = [stack.enter_context(RawSocket(host.port)) for _ in range(5)]
        for client in clients:
            client.send(head)
        # All were admitted, and wait for their bodies.
        for client in clients:
            client.send(b"\n")
        statuses = [int(client.head().split()[1]) for client in clients]
        assert sorted(statuses) == [200, 503, 503, 503, 503]


def test_a_client_that_does_not_read_is_closed_and_counted(kind: Kind) -> None:
    cable = mirror()
    mounted = cable.asgi(sse=True, ws_max_pending_size=100_000, ws_write_timeout=1)
    with asgi_host(mounted, kind) as host, RawSocket(host.port, receive_buffer=4096) as slow:
        slow.send(f"GET {CHANNEL} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        assert slow.head().startswith("HTTP/1.1 200")
        figures = counters(mounted)
        # The kernel takes some megabytes before anything waits in the server.
        for _ in range(500):
            publish(host, cable, "x" * 50_000)
            if figures.disconnected_slow_clients_total:
                break
        until(lambda: figures.open_connections_num == 0)
        assert (figures.disconnected_slow_clients_total, figures.sse_clients_num) == (1, 0)


def test_the_end_of_the_cable_is_told_and_ends_the_response(kind: Kind) -> None:
    cable = mirror()
    app = mounted_at_cable(cable, sse=True)
    with asgi_host(app, kind) as host, stream(host) as opened:
        assert kinds_of(opened, 2) == ["welcome", "confirm_subscription"]

        async def end() -> None:
            async with cable.running():
                pass

        host.run(end())
        goodbye = opened.next()
        assert goodbye is not None
        assert json.loads(goodbye.data)["reason"] == "server_restart"
        assert opened.next() is None


def test_a_host_that_cancels_its_requests_tells_their_clients() -> None:
    cable = mirror()
    app = mounted_at_cable(cable, sse=True)
    with ExitStack() as stack:
        with asgi_host(app, timeout_graceful_shutdown=1) as host:
            opened = stack.enter_context(stream(host))
            assert kinds_of(opened, 2) == ["welcome", "confirm_subscription"]
        goodbye = opened.next()
        assert goodbye is not None
        assert json.loads(goodbye.data)["reconnect"] is True
        assert opened.next() is None


def test_event_source_goes_on_where_it_was_cut_off(kind: Kind) -> None:
    cable = mirror()
    mounted = cable.asgi(sse=True, broker="memory")
    with asgi_host(mounted, kind) as host, tcp_relay(host.port) as relay:
        query = urllib.parse.urlencode({"channel": "MirrorChannel"})
        url = f"http://127.0.0.1:{relay.port}/cable/?{query}"
        client = NodeClient("event_source.mjs", {"url": url})
        try:
            client.do("connect")
            client.wait_for("confirm_subscription")
            publish(host, cable, "before")
            client.wait_for("received", data="before")
            assert relay.cut() == 1
            publish(host, cable, "meanwhile")
            client.wait_for("received", data="meanwhile", timeout_s=20)
            assert [told["last"].split("/")[0] for told in client.told("status")] == ["", "1"]
        finally:
            client.stop()


def test_the_path_is_the_host_s() -> None:
    with pytest.raises(ConfigError, match="sse_path: expected no option of the server"):
        mirror().asgi(sse=True, sse_path="/events")
