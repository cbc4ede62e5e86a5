"""Limits of clients by their addresses and identifiers hold for every transport, and answer when to come back."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.parts.cable_client import CableClient
from tests.parts.configured_server import ConfiguredServer, configured_server
from tests.parts.raw_socket import RawSocket, upgrade
from tests.server.test_figures import scrape

FLAGS = (
    "--public",
    "--norpc",
    "--broadcast_adapter=http",
    "--presets=broker",
    "--metrics_http=/metrics",
    "--sse",
    "--poll",
    "--ds",
    "--pusher_app_id=a",
    "--pusher_app_key=k",
    "--pusher_secret=s",
)
WAYS = {
    "websocket": upgrade(),
    "pusher": upgrade("/app/k?protocol=7", protocol=""),
    "events": b"GET /events?stream=a HTTP/1.1\r\nHost: test\r\n\r\n",
    "long polling": b"POST /lp HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n",
    "durable streams": b"GET /ds/a?offset=-1 HTTP/1.1\r\nHost: test\r\n\r\n",
}


PUSHER_CODE = 4100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    with configured_server(tmp_path_factory.mktemp("limits"), "", *FLAGS) as running:
        yield running


def answer(server: ConfiguredServer, way: str) -> tuple[int, int]:
    """The status of the response to a request, and its Retry-After, 0 without one. Clients of Pusher are refused with a code of
    their protocol."""
    with RawSocket(server.port) as client:
        client.send(WAYS[way])
        status, *lines = client.head().lower().split("\r\n")
        if way == "pusher":
            said = client.message()
            if said["event"] == "pusher:error":
                assert client.goodbye()[0] == said["data"]["code"] == PUSHER_CODE
                return PUSHER_CODE, 0
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), int(headers.get("retry-after", 0))


def test_an_address_has_so_many_connections_of_all_transports(server: ConfiguredServer) -> None:
    server.configure("[limits]\nmax_address_connections = 2\n")
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(CableClient(server.cable_url)).receive_welcome()
        before = scrape(server.port)["limited_connections_total"]
        answers = {way: answer(server, way) for way in WAYS}
        statuses = {way: status for way, (status, _) in answers.items()}
        assert statuses == dict.fromkeys(WAYS, 429) | {"pusher": PUSHER_CODE}
        assert all(5 <= seconds <= 15 for status, seconds in answers.values() if status == 429)
        after = scrape(server.port)["limited_connections_total"]
        assert after - before == len(WAYS)
        server.wait_for_output("expected up to 2 connections from an address")
        server.configure("[limits]\nmax_address_connections = 3\n")
        stack.enter_context(CableClient(server.cable_url)).receive_welcome()
        server.configure("")
        stack.enter_context(CableClient(server.cable_url)).receive_welcome()


@pytest.mark.parametrize(
    ("name", "status"), [("max_connect_rate", 503), ("max_address_connect_rate", 429)]
)
def test_so_many_clients_connect_per_second(
    server: ConfiguredServer, name: str, status: int
) -> None:
    """Two seconds may pass while fifteen clients connect, and let four of them in."""
    server.configure(f"[limits]\n{name} = 2\n")
    answers = [answer(server, way) for _ in range(3) for way in WAYS]
    refused = [each for each in answers if each[0] in (status, PUSHER_CODE)]
    assert len(answers) - 8 <= len(refused) <= len(answers) - 2
    assert PUSHER_CODE in {each for each, _ in refused}
    assert all(5 <= seconds <= 15 for each, seconds in refused if each == status)
    server.configure("")


def test_a_user_has_so_many_connections_of_all_transports(server: ConfiguredServer) -> None:
    """Clients of this server are identified by their sids."""
    server.configure("[limits]\nmax_user_connections = 1\n")
    named = ("X-Request-ID: one",)
    with RawSocket(server.port) as first, RawSocket(server.port) as second:
        for client in (first, second):
            client.send(upgrade("/cable", *named))
            assert client.head().startswith("HTTP/1.1 101")
        assert first.message()["type"] == "welcome"
        assert second.message() == {
            "type": "disconnect",
            "reason": "too_many_connections",
            "reconnect": True,
        }
        assert second.goodbye()[0] == 1013
        with RawSocket(server.port) as third:
            third.send(WAYS["events"].replace(b"\r\n\r\n", b"\r\nX-Request-ID: one\r\n\r\n"))
            status, headers, _ = third.answer()
            assert status == 429
            assert 5 <= int(headers["retry-after"]) <= 15
    server.configure("")


def publish(server: ConfiguredServer, way: str) -> tuple[int, int]:
    """The status of a publication, and its Retry-After, 0 without one."""
    url = f"http://127.0.0.1:{server.port}"
    body = json.dumps({"stream": "a", "data": "1"}).encode()
    headers = {"Content-Type": "application/json"}
    target = f"{url}/api/publish" if way == "rest" else server.broadcast_url
    content = iter([body]) if way == "chunked" else body
    request = urllib.request.Request(target, content, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, 0
    except urllib.error.HTTPError as refused:
        return refused.code, int(refused.headers.get("Retry-After", 0))


@pytest.mark.parametrize("way", ["http", "chunked", "rest"])
def test_a_publisher_sends_so_many_requests_per_second(server: ConfiguredServer, way: str) -> None:
    server.configure("[limits]\nmax_publish_rate = 2\n")
    answers = [publish(server, way) for _ in range(12)]
    refused = [seconds for status, seconds in answers if status == 429]
    assert len(answers) - 8 <= len(refused), "those of the test before count in the same second"
    assert {status for status, _ in answers} <= {200, 201, 204, 429}
    assert all(5 <= seconds <= 60 for seconds in refused)
    server.configure("")
    assert {status for status, _ in (publish(server, way) for _ in range(12))} <= {200, 201, 204}


def test_each_message_of_a_batch_counts(server: ConfiguredServer) -> None:
    """The batch is accepted whole; the next requests are refused until its messages would have come one by one."""
    server.configure("[limits]\nmax_publish_rate = 20\n")
    batch = json.dumps([{"stream": "a", "data": "1"}] * 2000).encode()
    request = urllib.request.Request(server.broadcast_url, batch)
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.status == 201
    for way in ("http", "rest"):
        status, seconds = publish(server, way)
        assert status == 429
        assert 5 <= seconds <= 60
    server.configure("")
