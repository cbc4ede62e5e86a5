"""A real nginx, HAProxy and Caddy, with the files of deploy/, between clients and a server."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.config.sources import options
from tests.parts.raw_socket import RawSocket, command, upgrade
from tests.parts.reverse_proxy import (
    DEPLOY,
    Caddy,
    HAProxy,
    HAProxyTcp,
    Nginx,
    NginxStream,
    ReverseProxy,
)
from tests.parts.server import CableServer, cable_server

KINDS = (Nginx, NginxStream, HAProxy, HAProxyTcp, Caddy)
FLAGS = ("--public", "--norpc", "--sse", "--poll", "--presets=broker", "--metrics_http=/metrics")
CLIENT = "127.0.0.9"
"""Not the address of the proxies, which is trusted."""
CLAIMS = (
    "X-Forwarded-For: 6.6.6.6",
    "Forwarded: for=6.6.6.6",
    "X-Request-ID: mine",
    "X-Forwarded-Host: evil",
)
CHANNEL = '{"channel":"$pubsub","stream_name":"hello"}'


@pytest.fixture(scope="module")
def plain() -> Iterator[CableServer]:
    with cable_server(*FLAGS, "--trusted_proxies=127.0.0.1", "--ping_interval=1") as server:
        yield server


@pytest.fixture(scope="module")
def proxied(plain: CableServer) -> Iterator[CableServer]:
    """A server that expects the PROXY protocol of its proxies; without it, it can't be asked from this machine."""
    flags = ("--trusted_proxies=127.0.0.1", "--proxy_protocol=all", "--ping_interval=1")
    with cable_server(*FLAGS, *flags) as server:
        yield server


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def proxy(request: pytest.FixtureRequest) -> Iterator[ReverseProxy]:
    kind: type[ReverseProxy] = request.param
    server: CableServer = request.getfixturevalue("proxied" if kind.is_transparent else "plain")
    found = kind(server.port)
    try:
        yield found
    finally:
        found.close()


def connect(proxy: ReverseProxy, *headers: str) -> RawSocket:
    client = RawSocket(proxy.port, source=CLIENT)
    try:
        return client.open("/cable", *headers)
    except BaseException:
        client.socket.close()
        raise


def subscribe(client: RawSocket) -> None:
    client.send(command("subscribe", CHANNEL))
    assert client.message() == {"identifier": CHANNEL, "type": "confirm_subscription"}


def api(proxy: ReverseProxy, path: str, body: object = None) -> Any:
    """A request through the proxy to the API, which has no key in public mode."""
    raw = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/api{path}", raw, 20) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def publish(proxy: ReverseProxy, text: str) -> None:
    api(proxy, "/publish", {"stream": "hello", "data": json.dumps(text)})


def test_a_websocket_and_who_its_client_is(proxy: ReverseProxy) -> None:
    with connect(proxy, *CLAIMS) as client:
        subscribe(client)
        publish(proxy, "by a WebSocket")
        assert client.message()["message"] == "by a WebSocket"
        (seen,) = api(proxy, f"/connections?address={CLIENT}")["connections"]
    assert seen["sid"] != "mine"
    if not proxy.is_transparent:
        # The proxy writes its line when the connection ends.
        proxy.wait_for_log(seen["sid"])


def test_an_event_stream(proxy: ReverseProxy) -> None:
    with RawSocket(proxy.port, source=CLIENT) as reader:
        reader.send(b"GET /events?stream=hello HTTP/1.1\r\nHost: test\r\n\r\n")
        assert " 200 " in reader.head().split("\r\n")[0]
        wait_for(reader, b"confirm_subscription")
        publish(proxy, "by an event stream")
        wait_for(reader, b"by an event stream")


def wait_for(reader: RawSocket, text: bytes) -> None:
    while text not in reader._read:
        assert reader._more(), reader._read


def test_long_polling(proxy: ReverseProxy) -> None:
    poll_id = ""
    subscription = json.dumps({"command": "subscribe", "identifier": CHANNEL}).encode()
    with RawSocket(proxy.port, source=CLIENT) as client:

        def send(body: bytes = b"") -> None:
            named = f"X-Anycable-Poll-ID: {poll_id}\r\n" if poll_id else ""
            head = f"POST /lp HTTP/1.1\r\nHost: test\r\n{named}Content-Length: {len(body)}\r\n\r\n"
            client.send(head.encode() + body)

        send(subscription)
        status, headers, body = client.answer()
        assert status == 200
        poll_id = headers["x-anycable-poll-id"]
        if b"confirm_subscription" not in body:
            send()
            assert b"confirm_subscription" in client.answer()[2]
        send()
        publish(proxy, "by a poll")
        status, headers, body = client.answer()
        while b"by a poll" not in body:  # a ping was first
            assert status == 200
            send()
            status, headers, body = client.answer()


def test_an_idle_client_outlives_the_timeouts_of_the_proxy(proxy: ReverseProxy) -> None:
    """The tests' are 2 s, and pings come every second."""
    with connect(proxy) as client:
        subscribe(client)
        began = time.monotonic()
        while time.monotonic() - began < 3:
            client.frame()
        publish(proxy, "after the timeout")
        assert client.message()["message"] == "after the timeout"


def test_an_upgrade_on_a_connection_that_has_served_requests(proxy: ReverseProxy) -> None:
    with RawSocket(proxy.port, source="127.0.0.10") as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.answer()[::2] == (200, b"OK\n")
        client.send(upgrade())
        subscribe(client.opened())
        assert len(api(proxy, "/connections?address=127.0.0.10")["connections"]) == 1


def test_metrics_are_not_public(proxy: ReverseProxy) -> None:
    """A proxy that passes bytes on does not know paths: Prometheus needs a port of its own then."""
    with RawSocket(proxy.port) as client:
        client.send(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.head().split()[1] == ("200" if proxy.is_transparent else "404")


def test_a_reload_of_the_proxy(proxy: ReverseProxy) -> None:
    with connect(proxy) as client:
        subscribe(client)
        proxy.reload()
        with connect(proxy) as other:
            subscribe(other)
            publish(proxy, "after a reload")
            assert other.message()["message"] == "after a reload"
        if proxy.keeps_clients:
            assert client.message()["message"] == "after a reload"
        else:
            assert client.goodbye()[0] == 1001


# The page and the files


def test_the_options_that_the_page_and_the_files_name_are_valid() -> None:
    page = (DEPLOY.parent / "docs" / "reverse-proxies.md").read_text()
    commands = re.findall(r"^catenary (--.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for path in DEPLOY.glob("*/*"):
        text = re.sub(r"\n\s*# ", " ", path.read_text())
        if path.parent.name in ("nginx", "haproxy", "caddy"):
            (named,) = re.findall(r"Start Catenary with ((?:--[\w=.,:]*\w ?)+)", text)
            commands.append(named)
    assert len(commands) == 7
    for command_line in commands:
        assert options(*command_line.split()).server.trusted_proxies


def test_the_page_names_every_file() -> None:
    page = (DEPLOY.parent / "docs" / "reverse-proxies.md").read_text()
    named = set(re.findall(r"\]\(\.\./deploy/([\w./]+)\)", page))
    kinds = ("nginx", "haproxy", "caddy")
    assert named == {f"{kind}/{path.name}" for kind in kinds for path in (DEPLOY / kind).iterdir()}
