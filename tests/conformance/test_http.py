"""Plain HTTP: handshakes that are refused, paths, health, and publications over HTTP.

Sources: RFC 6455, section 4.2; docs/broadcasting.md and docs/configuration.md (anycable/anycable).
"""

import hashlib
import hmac
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from websockets.exceptions import InvalidStatus

from tests.conformance.conftest import Connect, StartServer
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.conformance_app import ConformanceApp
from tests.parts.server import CableServer

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        body = b"" if response.status == 101 else response.read()
        return Answer(response.status, names, body)
    finally:
        connection.close()


def publish(
    server: CableServer, body: bytes, *, key: str | None = None, method: str = "POST"
) -> Answer:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return ask(server.broadcast_port, "/_broadcast", method=method, headers=headers, body=body)


# Handshakes


def test_handshake_is_accepted(server: CableServer) -> None:
    answer = ask(server.port, "/cable", headers=UPGRADE)

    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert "sec-websocket-protocol" not in answer.headers


def test_handshake_does_not_mind_the_case_of_tokens(server: CableServer) -> None:
    headers = {**UPGRADE, "Connection": "keep-alive, upgrade", "Upgrade": "WebSocket"}

    assert ask(server.port, "/cable", headers=headers).status == 101


def test_plain_get_on_the_cable_path_is_refused(server: CableServer) -> None:
    answer = ask(server.port, "/cable")

    assert answer.status in (400, 426)
    assert answer.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize(
    "change",
    [
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Key": "abc"},
        {"Sec-WebSocket-Key": ""},
        {"Connection": "keep-alive"},
        {"Upgrade": "h2c"},
    ],
    ids=repr,
)
def test_bad_handshake_is_refused(server: CableServer, change: dict[str, str]) -> None:
    answer = ask(server.port, "/cable", headers={**UPGRADE, **change})

    assert answer.status in (400, 426)
    assert answer.headers["sec-websocket-version"] == "13"


def test_handshake_with_another_method_is_refused(server: CableServer) -> None:
    assert ask(server.port, "/cable", method="POST", headers=UPGRADE).status == 405


def test_header_that_is_too_large_is_refused(server: CableServer) -> None:
    """Or cut off: whether a response reaches a client that is still writing depends on its TCP."""
    try:
        answer = ask(server.port, "/cable", headers={**UPGRADE, "X-Large": "x" * 2_000_000})
    except (ConnectionError, http.client.RemoteDisconnected):
        return
    assert answer.status == 431


# Paths


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/cable", 101),
        ("/cable?a=1", 101),
        ("/admin/", 101),
        ("/admin/x", 101),
        ("/admin/x/y", 101),
        ("/app/t1/cable", 101),
        ("/", 404),
        ("/nothing", 404),
        ("/cable/", 404),
        ("/CABLE", 404),
        ("/admin", 404),
        ("/app/cable", 404),
        ("/app/a/b/cable", 404),
    ],
)
def test_clients_are_served_on_the_configured_paths(
    server: CableServer, path: str, status: int
) -> None:
    assert ask(server.port, path, headers=UPGRADE).status == status


def test_application_sees_the_path(server: CableServer, app: ConformanceApp, sid: str) -> None:
    url = f"ws://127.0.0.1:{server.port}/app/t1/cable?a=1"
    with CableClient(url, headers={"X-Request-ID": sid}) as client:
        client.receive_welcome()

    (call,) = app.calls.of(sid, "connect")
    assert call.url == url.replace("ws:", "http:")


def test_unknown_path_is_not_found(server: CableServer) -> None:
    assert ask(server.port, "/nothing").status == 404


def test_health(server: CableServer) -> None:
    answer = ask(server.port, "/health")

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")


def test_health_path_can_be_chosen(start_server: StartServer) -> None:
    with start_server("--public", "--health-path=/alive") as server:
        assert ask(server.port, "/alive").status == 200
        assert ask(server.port, "/health").status == 404


# Origins


@pytest.fixture(scope="module")
def choosy_server(start_server: StartServer) -> Iterator[CableServer]:
    """A server that serves the pages of some sites only."""
    with start_server(
        "--public", "--allowed_origins=*.example.com,other.test,local.test:3000"
    ) as server:
        yield server


@pytest.mark.parametrize(
    "origin",
    [
        "http://a.example.com",
        "https://A.Example.COM",
        "http://a.b.example.com",
        "http://other.test",
        "http://local.test:3000",
    ],
)
def test_allowed_origin_is_served(choosy_server: CableServer, origin: str) -> None:
    with CableClient(choosy_server.cable_url, origin=origin) as client:
        client.receive_welcome()


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "http://evil.test",
        "http://example.com",
        "http://a.example.com.evil.test",
        "http://other.test:8080",
        "http://local.test",
        "null",
    ],
)
def test_other_origins_are_refused(choosy_server: CableServer, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        CableClient(choosy_server.cable_url, origin=origin)

    assert refused.value.response.status_code == 403


# Publications over HTTP


@pytest.fixture
def subscriber(connect: Connect, channel: str) -> CableClient:
    client = connect()
    client.receive_welcome()
    assert client.subscribe(channel) == confirmed(channel)
    return client


@pytest.fixture
def channel(app: ConformanceApp, stream: str) -> str:
    return identifier(app.define(subscribed=lambda answer: answer.stream_from(stream)))


def test_publication_is_created_and_delivered(
    server: CableServer, subscriber: CableClient, channel: str, stream: str
) -> None:
    answer = publish(server, json.dumps({"stream": stream, "data": '{"a":1}'}).encode())

    assert answer.status == 201
    assert answer.body == b""
    assert subscriber.receive() == delivered(channel, {"a": 1})


def test_batch_is_created_and_delivered_in_order(
    server: CableServer, subscriber: CableClient, channel: str, stream: str
) -> None:
    batch = [{"stream": stream, "data": json.dumps(number)} for number in range(5)]

    assert publish(server, json.dumps(batch).encode()).status == 201
    assert [subscriber.receive() for _ in batch] == [delivered(channel, n) for n in range(5)]


def test_excluded_session_hears_nothing(
    server: CableServer, connect: Connect, subscriber: CableClient, channel: str, stream: str
) -> None:
    excluded = connect()
    sid = excluded.receive_welcome()["sid"]
    excluded.subscribe(channel)
    publication = {"stream": stream, "data": '"X"', "meta": {"exclude_socket": sid}}

    assert publish(server, json.dumps(publication).encode()).status == 201
    assert subscriber.receive() == delivered(channel, "X")
    excluded.expect_nothing()


def test_remote_disconnect(server: CableServer, connect: Connect, app: ConformanceApp) -> None:
    test = app.define_connect(lambda answer: answer.identify(uid="by HTTP"))
    client = connect(f"test={test}")
    client.receive_welcome()
    payload = {"identifier": json.dumps({"uid": "by HTTP"}), "reconnect": False}
    command = {"command": "disconnect", "payload": payload}

    assert publish(server, json.dumps(command).encode()).status == 201
    assert client.receive() == {"type": "disconnect", "reason": "remote", "reconnect": False}
    assert client.wait_for_close() == (1000, "Closed remotely")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_refused(server: CableServer, method: str) -> None:
    assert publish(server, b'{"stream":"a","data":"1"}', method=method).status == 422


@pytest.mark.reference_fault("it answers 201 and drops the publication")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{broken",
        b"5",
        b"null",
        b'{"data":"1"}',
        b'{"stream":"a","data":{"x":1}}',
        b'[{"stream":"a","data":"1"},5]',
        b'{"command":"unheard-of","payload":{}}',
        b'{"command":"disconnect"}',
        b"\xff\xfe",
    ],
)
def test_malformed_publication_is_answered(server: CableServer, body: bytes) -> None:
    answer = publish(server, body)

    assert answer.status == 422
    assert answer.headers["content-type"].startswith("application/json")
    assert json.loads(answer.body)["error"]


def test_publications_have_a_port_and_a_path_of_their_own(server: CableServer) -> None:
    publication = b'{"stream":"a","data":"1"}'

    assert ask(server.port, "/_broadcast", method="POST", body=publication).status == 404
    assert ask(server.broadcast_port, "/other", method="POST", body=publication).status == 404


# Keys


def derived_key(secret: str) -> str:
    """The key that docs/broadcasting.md derives from the common secret."""
    return hmac.new(secret.encode(), b"broadcast-cable", hashlib.sha256).hexdigest()


@pytest.fixture(scope="module", params=["broadcast_key", "secret"])
def locked(
    request: pytest.FixtureRequest, start_server: StartServer
) -> Iterator[tuple[CableServer, str]]:
    """A server with a key of its own or derived from the common secret, and that key."""
    key = "sesame" if request.param == "broadcast_key" else derived_key("sesame")
    with start_server(
        "--norpc", "--noauth", "--broadcast_adapter=http", f"--{request.param}=sesame"
    ) as server:
        yield server, key


def test_publication_with_the_key_is_created(locked: tuple[CableServer, str]) -> None:
    server, key = locked

    assert publish(server, b'{"stream":"a","data":"1"}', key=key).status == 201


@pytest.mark.parametrize("key", [None, "", "wrong", "sesam", "sesame!", "s\u00e9same"])
def test_publication_without_the_key_is_refused(
    locked: tuple[CableServer, str], key: str | None
) -> None:
    server, _ = locked
    answer = publish(server, b'{"stream":"a","data":"1"}', key=key)

    assert answer.status == 401


def test_malformed_publication_without_the_key_is_refused(
    locked: tuple[CableServer, str],
) -> None:
    server, _ = locked

    assert publish(server, b"{broken", key="wrong").status == 401
