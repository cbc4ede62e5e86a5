"""A server behind trusted proxies: the client's address and URL in every place that shows them."""

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.application import TestApplication
from tests.parts.cable_client import CableClient
from tests.parts.http_app import HttpServer, http_server
from tests.parts.ports import free_port
from tests.parts.raw_socket import RawSocket, upgrade
from tests.parts.server import OURS, CableServer, cable_server
from tests.parts.service_manager import Service
from tests.wire.test_proxy_protocol import v2

CLIENT = "203.0.113.7"
FORWARDED = {
    "X-Forwarded-For": f"6.6.6.6, {CLIENT}",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "cable.example",
}
FLAGS = (
    "--broadcast_adapter=http",
    "--broadcast_key=k",
    "--admin",
    "--admin_secret=k",
    "--asgi=tests.parts.seen:app",
)


@pytest.fixture(scope="module")
def app() -> Iterator[HttpServer]:
    with http_server() as app:
        yield app


@pytest.fixture(scope="module")
def server(app: HttpServer) -> Iterator[CableServer]:
    with cable_server(*FLAGS, f"--rpc_host={app.url}", "--trusted_proxies=127.0.0.0/8") as server:
        yield server


def connect_call(app: TestApplication, sid: str) -> dict[str, str]:
    """What the application gets of a client: its URL, its address."""
    (call,) = (call for call in app.calls_of("connect") if call.metadata.get("sid") == sid)
    env = call.request["env"]
    return {"url": env["url"], "address": env["headers"]["REMOTE_ADDR"]}


def get(server: CableServer, path: str, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=named)
    with urllib.request.urlopen(request, timeout=20) as answer:
        content: bytes = answer.read()
        return content


def test_the_application_gets_the_client(server: CableServer, app: HttpServer) -> None:
    with CableClient(server.cable_url, headers={**FORWARDED, "X-Request-ID": "through"}) as client:
        client.receive_welcome()
    seen = connect_call(app.application, "through")
    assert seen == {"url": "https://cable.example/cable", "address": CLIENT}


def test_a_refused_client_is_logged_with_its_address_and_request_id(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(
            b"GET /cable HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.8\r\nX-Request-ID: refused-1\r\n\r\n"
        )
        assert client.answer()[0] == 426
    line = server.wait_for_output("request_id=refused-1")
    assert "remote=203.0.113.8" in line


def test_a_refused_publisher_is_logged_with_its_address(server: CableServer) -> None:
    with RawSocket(server.broadcast_port) as publisher:
        publisher.send(
            b"POST /_broadcast HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 0\r\n\r\n"
        )
        assert publisher.answer()[0] == 401
    server.wait_for_output("remote=203.0.113.9")


def test_a_refused_login_is_logged_with_its_address(server: CableServer) -> None:
    with RawSocket(server.port) as person:
        person.send(
            b"POST /_high_voltage_/login HTTP/1.1\r\nHost: inner\r\nX-Forwarded-Host: cable.example\r\n"
            b"Origin: https://cable.example\r\nx-catenary-console: 1\r\nX-Forwarded-For: 203.0.113.10\r\nContent-Length: 0\r\n\r\n"
        )
        # Not 403: the page is of the host that the proxy names.
        assert person.answer()[0] == 401
    server.wait_for_output("remote=203.0.113.10")


def test_a_hosted_application_gets_the_client(server: CableServer) -> None:
    seen = json.loads(get(server, "/seen", **FORWARDED))
    assert seen == {"client": [CLIENT, 0], "scheme": "https", "host": "cable.example"}


def test_an_upgrade_on_a_connection_with_requests_before(
    server: CableServer, app: HttpServer
) -> None:
    with RawSocket(server.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n")
        assert client.answer()[0] == 200
        client.send(upgrade("/cable", f"X-Forwarded-For: {CLIENT}", "X-Request-ID: late"))
        client.opened()
    assert connect_call(app.application, "late")["address"] == CLIENT


def test_peers_that_are_not_trusted(app: HttpServer) -> None:
    with cable_server(*FLAGS, f"--rpc_host={app.url}", "--trusted_proxies=10.0.0.0/8") as server:
        headers = {**FORWARDED, "X-Request-ID": "untrusted"}
        with CableClient(server.cable_url, headers=headers) as client:
            sid = client.receive_welcome().get("sid", "")
        assert sid != "untrusted"
        (url,) = {
            call.request["env"]["url"]
            for call in app.application.calls_of("connect")
            if call.metadata.get("sid") == sid
        }
        assert url == server.cable_url.replace("ws:", "http:")
        assert connect_call(app.application, sid)["address"] == "127.0.0.1"
        seen = json.loads(get(server, "/seen", **FORWARDED))
        assert seen["client"][0] == "127.0.0.1"
        assert seen["scheme"] == "http"


def test_the_headers_of_all_are_ignored_by_default(app: HttpServer) -> None:
    with (
        cable_server(f"--rpc_host={app.url}", command=OURS) as server,
        CableClient(
            server.cable_url, headers={**FORWARDED, "X-Request-ID": "by-default"}
        ) as client,
    ):
        client.receive_welcome()
    seen = connect_call(app.application, "by-default")
    assert seen["address"] == "127.0.0.1"
    assert seen["url"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("flags", "start"),
    [((), b""), (("--proxy_protocol=all",), v2("203.0.113.20"))],
    ids=["headers", "PROXY"],
)
def test_a_proxy_at_a_unix_socket(tmp_path: Path, flags: tuple[str, ...], start: bytes) -> None:
    public = ("--public", "--norpc", f"--port={free_port()}", "--trusted_proxies=unix")
    with socket.socket(socket.AF_UNIX) as opened, socket.socket(socket.AF_UNIX) as proxy:
        opened.bind(str(tmp_path / "clients"))
        opened.listen()
        with Service((*OURS, *public, *flags), (opened,), names=("port",)) as server:
            proxy.connect(opened.getsockname())
            sent = b"GET /cable HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.20\r\n\r\n"
            proxy.sendall(start + sent)
            assert proxy.recv(4096).startswith(b"HTTP/1.1 426 ")
            server.wait_for_output("remote=203.0.113.20")


def test_a_head_that_is_refused_later_names_the_client(server: CableServer) -> None:
    head = f"GET /page HTTP/1.1\r\nX-Forwarded-For: {CLIENT}\r\nHost: x\r\nno colon\r\n\r\n"
    with RawSocket(server.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.answer()[0] == 200
        client.send(head.encode())
        assert client.answer()[0] == 400
    line = server.wait_for_output("expected an HTTP/1.1 request").splitlines()[-1]
    assert f"remote={CLIENT}" in line
    assert "path=/page" in line
